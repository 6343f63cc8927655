"""Programs to be timed in turns: each is a process that gets questions on standard input, one line of JSON each.

This file needs nothing but Python, so that a contestant can run in another environment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.errors import UserError  # noqa: E402

SECONDS_BETWEEN_SAMPLES = 0.05


class Contestant:
    """A process that answers questions. log: the file for its standard error."""

    def __init__(self, name: str, command: Sequence[str], log: Path, threads: int):
        self.name, self.log = name, log
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        # in its own session, so that Ctrl-C ends it only by closing its input
        with open(log, "wb") as said:
            try:
                self.process = subprocess.Popen(
                    list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=environment,
                    text=True, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise UserError(f"{name}: {command[0]} cannot be run: {error.strerror}. Name another Python.") from None

    def ask(self, question: str, **more: Any) -> dict[str, Any]:
        """The answer. Raises UserError, with the contestant's own message, if it fails."""
        try:
            self.process.stdin.write(json.dumps({"question": question, **more}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            said = self.log.read_text(encoding="utf8", errors="replace").strip().splitlines()
            last = said[-1].rstrip(".") if said else "it printed nothing"
            raise UserError(f"{self.name} ended unexpectedly: {last}. See {self.log}.")
        answer = json.loads(line)
        if "error" in answer:
            raise UserError(answer["error"])
        return answer

    def ask_for_memory(self, question: str, **more: Any) -> tuple[dict[str, Any], int | None]:
        """The answer, and the peak memory in bytes of the process and all its descendants meanwhile."""
        with PeakOfProcesses(self.process.pid) as peak:
            answer = self.ask(question, **more)
        return answer, peak.bytes

    def close(self) -> None:
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            # busy, perhaps with child processes
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process.stdout.close()


def serve(make: Callable[[], Mapping[str, Callable[..., dict[str, Any]]]]) -> None:
    """Answers questions until the input ends. make: builds the functions that answer, by question.

    Only answers go to standard output; what libraries print there is redirected to standard error.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf8")
    os.dup2(2, 1)
    functions: Mapping[str, Callable[..., dict[str, Any]]] | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            functions = functions or make()
            answer = functions[asked.pop("question")](**asked)
        except UserError as error:
            answer = {"error": str(error)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class PeakOfProcesses:
    """Samples the proportional memory (proc(5): Pss) of a process and its descendants inside a `with` block.

    `bytes` is the peak of their sum, with shared pages counted once; None if the kernel does not tell.
    """

    def __init__(self, pid: int):
        self.pid, self.bytes = pid, None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakOfProcesses:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            held = sum(filter(None, map(held_by, below(self.pid))))
            if held:
                self.bytes = max(self.bytes or 0, held)
            if self._over.wait(SECONDS_BETWEEN_SAMPLES):
                return


def below(pid: int) -> list[int]:
    """A process and its descendants."""
    found, waiting = [], [pid]
    while waiting:
        process = waiting.pop()
        found.append(process)
        for thread in Path(f"/proc/{process}/task").glob("*"):
            try:
                waiting += map(int, (thread / "children").read_text().split())
            except OSError:
                continue
    return found


def held_by(pid: int) -> int | None:
    """Bytes, or None if the process has ended or the kernel does not tell."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def timed(function: Callable[[Any], object], items: Sequence[Any], synchronize: Callable[[], None]) -> float:
    """Seconds that `function` takes for all items."""
    synchronize()
    start = time.perf_counter()
    for item in items:
        function(item)
    synchronize()
    return time.perf_counter() - start


def drained(loader: Iterable, audio: Sequence[float]) -> dict[str, float]:
    """Times all batches of a loader after the first. audio: seconds of speech in each."""
    batches = iter(loader)
    next(batches)
    start = time.perf_counter()
    for _ in batches:
        pass
    return {"audio": sum(audio[1:]), "seconds": time.perf_counter() - start}

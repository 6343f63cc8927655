"""Benchmarks training beside busy processes, for several ways of OpenMP's threads to wait: a Markdown table.

    python scripts/benchmark_shared_cores.py [SETTING=VALUE ...] [--seconds 20] [--rounds 5] [--busy 0 1 2] [--variants NAME ...]

In each round every variant trains for some seconds beside each number of busy processes, in turn, so that other load affects all
of them alike. A busy process loops at the same priority as the training. The speed, in seconds of audio per second, is what
training reports at its validation, excluding the validation. CPU seconds are those of the whole process, including its start.
Settings are those of train.py.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
DECIDED = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
# libgomp, which comes with PyTorch's wheels, by default spins 300,000 times before it sleeps
VARIANTS = {
    "spinning": {"GOMP_SPINCOUNT": "300000"},
    "spin-10000": {"GOMP_SPINCOUNT": "10000"},
    "spin-1000": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "one-thread-fewer": {"GOMP_SPINCOUNT": "300000", "OMP_NUM_THREADS": "-1"},
    "as-it-comes": {},
}
TRAINING = ["max_epochs=1000", "trainer.validations=1", "logger=none", "report=false", "trainer.rehearse=false"]


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Runs this many busy processes during the block."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def environment_of(variant: dict[str, str]) -> dict[str, str]:
    from asr.runtime.processors import processors

    environment = {name: value for name, value in os.environ.items() if name not in DECIDED} | variant
    if environment.get("OMP_NUM_THREADS") == "-1":
        environment["OMP_NUM_THREADS"] = str(max(1, processors() - 1))
    return environment


def training(variant: dict[str, str], settings: list[str]) -> tuple[float, float]:
    """Trains until the first validation; (seconds of audio per second, CPU seconds). Raises SystemExit if training fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, str(REPOSITORY / "train.py"), *TRAINING, *settings, f"run={folder}/run"]
        process = subprocess.Popen(
            program, env=environment_of(variant), stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            rate = next((found for line in process.stdout if (found := re.search(r"(\d+) audio s/s", line))), None)
        finally:
            # scoring the test split, which follows, is not measured
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if rate is None:
        raise SystemExit("a training ended before its first validation: raise --seconds")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return float(rate[1]), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20, help="how long each training takes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="numbers of busy processes")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    arguments, settings = parser.parse_known_args()
    settings.append(f"max_minutes={arguments.seconds / 60}")
    speeds: dict[tuple[str, int], list[float]] = {}
    for number in range(arguments.rounds):
        for beside in arguments.busy:
            for name in arguments.variants:
                load, started = os.getloadavg()[0], time.monotonic()
                with busy(beside):
                    speed, cpu = training(VARIANTS[name], settings)
                speeds.setdefault((name, beside), []).append(speed)
                print(
                    f"round {number + 1}: {name}, {beside} busy: {speed:.0f} audio s/s, {cpu:.1f} CPU s in "
                    f"{time.monotonic() - started:.1f} s, load before {load:.1f}",
                    flush=True,
                )
    print("\nMedian (lowest to highest) seconds of audio per second.\n")
    print("| busy processes | " + " | ".join(arguments.variants) + " |")
    print("|---" * (len(arguments.variants) + 1) + "|")
    for beside in arguments.busy:
        cells = []
        for name in arguments.variants:
            measured = speeds[name, beside]
            cells.append(f"{statistics.median(measured):.0f} ({min(measured):.0f}–{max(measured):.0f})")
        print(f"| {beside} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

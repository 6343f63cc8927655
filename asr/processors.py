"""How many processors this process has: those that it may run on, within the quota of its control groups.

A container with two of a machine's 64 cores has 64 in `os.cpu_count()`; 64 threads would wait there for the time of two.
Nothing heavy is imported here: OpenMP must be told before torch is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from asr.control_groups import ROOT, control_groups, number_in

# Where a thread waits for another whose processor somebody else has, it keeps its own busy for nothing: libgomp's 300,000 turns
# slowed trainings beside other programs by a factor of 5 to 15 (results/2026-11-29_two_cores/shared_cores.txt)
SPINS = "1000"
# what `settle` has set in the environment, which is not a user's word
SETTLED: list[str] = []


def processors(root: Path = ROOT) -> int:
    """The processors that this process and those it starts may keep busy, 1 or more.

    The least of: the processors that it is bound to; the CPU quota of its control groups, rounded down; and OMP_NUM_THREADS,
    where it is set, for each of the job's processes on this machine (LOCAL_WORLD_SIZE). root: where the file system begins.
    """
    most = [len(os.sched_getaffinity(0)), *map(math.floor, quotas(root))]
    asked = threads_asked_for()
    if asked is not None:
        most.append(asked * processes_here())
    return max(1, min(most))


def threads() -> int:
    """How many threads each of the job's processes on this machine should take, 1 or more."""
    return threads_asked_for() or max(1, processors() // processes_here())


def reading_workers(on_gpu: bool) -> int:
    """How many processes should read audio beside a trainer: a CPU's needs one, a GPU is fed by up to four."""
    left = processors() // processes_here() - 1
    return max(0, min(4 if on_gpu else 1, left))


def quotas(root: Path = ROOT) -> Iterator[float]:
    """The CPU quotas of this process's control groups, in processors."""
    for folder in control_groups("cpu", root):
        quota, period = number_in(folder / "cpu.max"), number_in(folder / "cpu.max", 1)
        if quota is None:
            quota, period = number_in(folder / "cpu.cfs_quota_us"), number_in(folder / "cpu.cfs_period_us")
        if quota is not None and period and quota > 0:
            yield quota / period


def threads_asked_for() -> int | None:
    """OMP_NUM_THREADS, for the outermost level if it names several; None where it is not set or no number."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def processes_here() -> int:
    """How many processes of this job torchrun or `asr.processes.launch` started on this machine."""
    said = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(said) if said.isdecimal() and int(said) > 0 else 1


def settle() -> None:
    """Tells OpenMP, and with it torch and numpy, how many threads to take and how to wait. What the user has set is left alone.

    It reads the environment once, when torch is imported: call this before.
    """
    wanted = {}
    # with all processors, torch takes one thread for each core, which may be fewer
    if "OMP_NUM_THREADS" not in os.environ and threads() < len(os.sched_getaffinity(0)):
        wanted["OMP_NUM_THREADS"] = str(threads())
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        wanted["GOMP_SPINCOUNT"] = SPINS
    os.environ |= wanted
    SETTLED.extend(wanted)


def users_environment() -> dict[str, str]:
    """The environment without what `settle` has set, for processes that share this one's processors."""
    return {name: value for name, value in os.environ.items() if name not in SETTLED}

"""How many processors this process may use: those it is bound to, limited by the CPU quota of its control groups.

In a container with two of a machine's 64 cores, `os.cpu_count()` says 64, and 64 threads would compete for the time of two.
Imports nothing heavy: OpenMP must be configured before torch is imported.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from asr.runtime.control_groups import ROOT, control_groups, number_in

# How often an idle OpenMP thread polls before it sleeps. libgomp's default, 300,000, hogs processors that other programs need,
# and slowed trainings beside them by a factor of 5 to 15 (results/2026-11-29_two_cores/shared_cores.txt)
SPINS = "1000"
# environment variables that `settle` has set, rather than the user
SETTLED: list[str] = []


def processors(root: Path = ROOT) -> int:
    """Number of processors that this process and its children may keep busy, 1 or more.

    The least of: the processors it is bound to; the CPU quota of its control groups, rounded down; and OMP_NUM_THREADS, if set,
    times the job's processes on this machine (LOCAL_WORLD_SIZE). root: of the file system.
    """
    most = [len(os.sched_getaffinity(0)), *map(math.floor, quotas(root))]
    asked = threads_asked_for()
    if asked is not None:
        most.append(asked * processes_here())
    return max(1, min(most))


def threads() -> int:
    """Number of threads that each of the job's processes on this machine should use, 1 or more."""
    return threads_asked_for() or max(1, processors() // processes_here())


def reading_workers(on_gpu: bool) -> int:
    """Number of processes that should read audio for a trainer: up to one on a CPU, up to four on a GPU."""
    left = processors() // processes_here() - 1
    return max(0, min(4 if on_gpu else 1, left))


def quotas(root: Path = ROOT) -> Iterator[float]:
    """The CPU quotas of this process's control groups, in numbers of processors."""
    for folder in control_groups("cpu", root):
        quota, period = number_in(folder / "cpu.max"), number_in(folder / "cpu.max", 1)
        if quota is None:
            quota, period = number_in(folder / "cpu.cfs_quota_us"), number_in(folder / "cpu.cfs_period_us")
        if quota is not None and period and quota > 0:
            yield quota / period


def threads_asked_for() -> int | None:
    """OMP_NUM_THREADS, its first value if there are several; None if it is unset or not a number."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


def processes_here() -> int:
    """Number of this job's processes that torchrun or `asr.runtime.processes.launch` started on this machine."""
    said = os.environ.get("LOCAL_WORLD_SIZE", "")
    return int(said) if said.isdecimal() and int(said) > 0 else 1


def settle() -> None:
    """Configures OpenMP, and thus torch and numpy: how many threads to use, and how to wait. What the user has set stays.

    Must be called before torch is imported, when OpenMP reads the environment once and for all.
    """
    wanted = {}
    # if all processors may be used, torch itself takes one thread per core, which may be fewer
    if "OMP_NUM_THREADS" not in os.environ and threads() < len(os.sched_getaffinity(0)):
        wanted["OMP_NUM_THREADS"] = str(threads())
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        wanted["GOMP_SPINCOUNT"] = SPINS
    os.environ |= wanted
    SETTLED.extend(wanted)


def users_environment() -> dict[str, str]:
    """The environment without what `settle` has set: for further processes of the job, which call it themselves."""
    return {name: value for name, value in os.environ.items() if name not in SETTLED}

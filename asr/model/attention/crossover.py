"""From which length on one way to compute is faster than another: measured once on every machine, then kept.

Crossovers are kept in `crossovers.json` in the user's cache folder: `$XDG_CACHE_HOME/asr`, or `~/.cache/asr`. The file may be
removed at any time, and what cannot be read in it is measured again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from asr.runtime.user_cache import keep, user_cache

try:
    import fcntl
except ImportError:  # not on Windows, where two processes may measure the same
    fcntl = None

# How long two ways are timed at one length, in how many rounds at least and at most.
SECONDS, LEAST_ROUNDS, MOST_ROUNDS = 0.3, 3, 30
# A sample on a GPU is as many calls as take about this long, so that what counts is how fast they follow each other.
SAMPLE_MILLISECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class Crossover:
    """length: from which on the second of two ways is the faster one. milliseconds: {length: (first, second)}, as measured."""

    length: float
    milliseconds: dict[int, tuple[float, float]]


def find_crossover(
    milliseconds: Callable[[int], tuple[float, float]], shortest: int, longest: int, seconds: float = 10.0
) -> Crossover:
    """Measures at doubling lengths until the second way wins, then twice more in between, and interpolates.

    milliseconds: the times of the two ways at a length. The first must be the one that grows faster, as full attention does
    beside a linear one. Where it is not overtaken up to `longest`, or after `seconds` of looking, it is taken to grow by one
    power of the length more than the second.
    """
    measured: dict[int, tuple[float, float]] = {}

    def advantage(length: int) -> float:
        """The logarithm of how many times as fast the second way is."""
        measured[length] = first, second = milliseconds(length)
        return math.log(max(first, 1e-9) / max(second, 1e-9))

    deadline = time.monotonic() + seconds
    low, high = shortest, shortest
    at_low = at_high = advantage(shortest)
    while at_high < 0:
        low, at_low = high, at_high
        if high * 2 > longest or time.monotonic() > deadline:
            return Crossover(high * math.exp(-at_high), measured)
        high *= 2
        at_high = advantage(high)
    if low == high:
        return Crossover(shortest, measured)
    for _ in range(2):
        middle = round(math.sqrt(low * high))
        if middle in measured:
            break
        at_middle = advantage(middle)
        if at_middle < 0:
            low, at_low = middle, at_middle
        else:
            high, at_high = middle, at_middle
    share = at_low / (at_low - at_high)
    return Crossover(low * (high / low) ** share, measured)


def remembered(case: str, find: Callable[[], Crossover]) -> Crossover:
    """The crossover of a case from the file, else from `find`, which then goes into the file.

    case: all that the times depend on, in words. Processes that ask at the same time wait for the first one and take its
    answer. Where nothing can be written, every process finds its own, and a warning says so.
    """
    path = cache_file()
    known = _read(path).get(case)
    if known is not None:
        return known
    with _alone(path):
        table = _read(path)
        if case not in table:
            found = find()
            # read again: without a lock another process may have written in the meantime
            table = _read(path) | {case: found}
            keep(path, functools.partial(_write, table), "What was measured", "It is measured again next time.")
    return table[case]


def cache_file() -> Path | None:
    """Where crossovers are kept; None for a user without a home folder."""
    folder = user_cache()
    return folder and folder / "crossovers.json"


def time_in_turns(functions: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    """Milliseconds that a call of every function takes: medians of rounds in which all take turns, after warming up."""
    for function in functions:
        function()
    calls = [calls_in_a_sample(function, device) for function in functions]
    samples: list[list[float]] = [[] for _ in functions]
    start = time.monotonic()
    for number in range(MOST_ROUNDS):
        if number >= LEAST_ROUNDS and time.monotonic() - start > SECONDS:
            break
        for function, count, taken in zip(functions, calls, samples):
            taken.append(sample(function, count, device))
    return [statistics.median(taken) for taken in samples]


def calls_in_a_sample(function: Callable[[], object], device: torch.device, most: int = 64) -> int:
    """How many calls of a function that is warm make up one sample: one on a CPU, whose clock is fine enough."""
    if device.type != "cuda":
        return 1
    return min(most, max(1, math.ceil(SAMPLE_MILLISECONDS / max(sample(function, 1, device), 1e-3))))


def sample(function: Callable[[], object], calls: int, device: torch.device) -> float:
    """Milliseconds a call, of `calls` calls in a row: by CUDA events that begin on an idle GPU, or by wall clock."""
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - start) * 1e3 / calls
    with torch.cuda.device(device):
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        before.record()
        for _ in range(calls):
            function()
        after.record()
        after.synchronize()
        return before.elapsed_time(after) / calls


def like_speech(
    batch: int,
    heads: int,
    length: int,
    dim: int,
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Random vectors whose neighbours in time are alike, of unit variance: (batch, heads, length, dim)."""
    noise = torch.randn(batch * heads, dim, length + 4, device=device, generator=generator)
    averaged = F.avg_pool1d(noise, 5, stride=1) * 5**0.5
    return averaged.transpose(1, 2).reshape(batch, heads, length, dim).to(dtype).contiguous()


@functools.cache
def processor_name(device: torch.device) -> str:
    """What the GPU or the CPU is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@contextlib.contextmanager
def _alone(path: Path | None) -> Iterator[None]:
    """Holds a lock beside `path`, where that can be had."""
    with contextlib.ExitStack() as held:
        if path is not None and fcntl is not None:
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                file = held.enter_context(open(path.with_suffix(".lock"), "a"))
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path | None) -> dict[str, Crossover]:
    """What can be read of the file."""
    if path is None:
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf8"))
        entries = list(table.items())
    except (OSError, ValueError, AttributeError):
        return {}
    found = {}
    for case, entry in entries:
        with contextlib.suppress(TypeError, ValueError, KeyError, AttributeError):
            measured = {int(length): (float(a), float(b)) for length, (a, b) in entry["milliseconds"].items()}
            length = float(entry["length"])
            if length > 0 and math.isfinite(length):
                found[case] = Crossover(length, measured)
    return found


def _write(table: dict[str, Crossover], path: Path) -> None:
    entries = {
        case: {
            "length": round(crossover.length, 1),
            "milliseconds": {
                str(length): [round(time_, 4) for time_ in times]
                for length, times in sorted(crossover.milliseconds.items())
            },
        }
        for case, crossover in sorted(table.items())
    }
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf8")

"""The length at which one method overtakes another: measured once per machine, then cached.

Crossovers are kept in `crossovers.json` in the user's cache folder: `$XDG_CACHE_HOME/asr`, or `~/.cache/asr`. The file can be
deleted at any time; entries that cannot be read are measured again.
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
except ImportError:
    # absent on Windows, where two processes may measure the same case
    fcntl = None  # type: ignore[assignment]

# Time budget for one length, and the fewest and most rounds within it.
SECONDS, LEAST_ROUNDS, MOST_ROUNDS = 0.3, 3, 30
# A GPU sample repeats the call for about this long, so that throughput is measured and not launch latency.
SAMPLE_MILLISECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class Crossover:
    """length: where the second method becomes faster, in time steps. milliseconds: {length: (first, second)}, as measured."""

    length: float
    milliseconds: dict[int, tuple[float, float]]


def find_crossover(
    milliseconds: Callable[[int], tuple[float, float]], shortest: int, longest: int, seconds: float = 10.0
) -> Crossover:
    """Doubles the length until the second method wins, bisects twice, and interpolates.

    milliseconds: times both methods at a length. The first must grow faster, as full attention does against a linear one. If
    it is not overtaken by `longest`, or within `seconds`, the crossover is extrapolated: the first is assumed to grow by one
    power of the length more than the second.
    """
    measured: dict[int, tuple[float, float]] = {}

    def advantage(length: int) -> float:
        """The logarithm of the second method's speedup over the first."""
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
    """The crossover of a case from the cache file; if it is not there, calls `find` and caches the result.

    case: everything that the times depend on, in words. Processes that ask at the same time wait for the first one and use
    its answer. If the file cannot be written, each process measures for itself, with a warning.
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
    """Milliseconds per call of each function: medians over rounds in which they take turns, after a warm-up."""
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
    """Calls per sample of a warmed-up function: one on a CPU, whose clock is fine enough."""
    if device.type != "cuda":
        return 1
    return min(most, max(1, math.ceil(SAMPLE_MILLISECONDS / max(sample(function, 1, device), 1e-3))))


def sample(function: Callable[[], object], calls: int, device: torch.device) -> float:
    """Milliseconds per call over `calls` calls in a row: by CUDA events starting on an idle GPU, or by wall clock."""
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
    """Random vectors of unit variance, smoothed over time as speech is: (batch, heads, length, dim)."""
    noise = torch.randn(batch * heads, dim, length + 4, device=device, generator=generator)
    averaged = F.avg_pool1d(noise, 5, stride=1) * 5**0.5
    return averaged.transpose(1, 2).reshape(batch, heads, length, dim).to(dtype).contiguous()


@functools.cache
def processor_name(device: torch.device) -> str:
    """The model name of the GPU or the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@contextlib.contextmanager
def _alone(path: Path | None) -> Iterator[None]:
    """Holds a lock file beside `path`, if one can be created."""
    with contextlib.ExitStack() as held:
        if path is not None and fcntl is not None:
            with contextlib.suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                file = held.enter_context(open(path.with_suffix(".lock"), "a"))
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path | None) -> dict[str, Crossover]:
    """The entries of the cache file that can be read."""
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

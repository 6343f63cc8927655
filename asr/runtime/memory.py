"""Peak memory of a stretch of work, and memory that is still free."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

import torch

from asr.runtime.control_groups import control_groups, number_in

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures the peak memory of a `with` block, in bytes beyond what was held when it began.

    On a GPU: what PyTorch's allocator handed out. On a CPU under Linux: the resident memory of the process, whose peak the
    kernel records (proc(5): VmHWM, reset through clear_refs). `bytes` is None where neither can be measured.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.bytes: int | None = None
        self._before: int | None = None

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        else:
            self._before = _resident("VmRSS") if _reset_peak() else None
        return self

    def __exit__(self, *_) -> None:
        if self._before is None:
            return
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._before
        else:
            self.bytes = max(0, _resident("VmHWM") - self._before)


def _reset_peak() -> bool:
    try:
        # memory freed but kept by the allocator would hide what is needed now
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text("5")
        return True
    except (OSError, AttributeError):
        return False


def _resident(field: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"{STATUS} has no field {field}")


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process may still allocate on a device; None if the system does not tell.

    On a CPU: the least of what the machine has left, what the process's control groups allow, and by how much its address
    space may still grow (`ulimit -v`).
    """
    if device.type == "cuda":
        # cached blocks count as used
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    bounds = [*_available(), *_left_by_groups(), *_left_of_address_space()]
    return max(0, int(min(bounds))) if bounds else None


def _available() -> Iterator[float]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield 1024.0 * int(line.split()[1])


def _left_by_groups() -> Iterator[float]:
    for group in control_groups("memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, taken = number_in(group / limit), number_in(group / used)
            if most is not None and taken is not None:
                yield most - taken


def _left_of_address_space() -> Iterator[float]:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        with contextlib.suppress(OSError):
            yield limit - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether PyTorch raised this because memory ran out, on a GPU or a CPU."""
    messages = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in messages)

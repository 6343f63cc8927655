"""How much memory a stretch of work needed at its peak."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures the most memory held at once inside a `with` block, beyond what was held when it began, in bytes.

    On a GPU: what PyTorch's allocator handed out. On a CPU under Linux: the resident memory of the process, whose peak the
    kernel keeps (proc(5): VmHWM, reset through clear_refs). `bytes` is None where neither can be had.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        else:
            self._before = _resident("VmRSS") if _reset_peak() else None
        return self

    def __exit__(self, *_) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._before
        elif self._before is not None:
            self.bytes = max(0, _resident("VmHWM") - self._before)


def _reset_peak() -> bool:
    try:
        # memory that was freed but kept for later would hide what is needed now
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


def is_out_of_memory(error: RuntimeError) -> bool:
    said = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)

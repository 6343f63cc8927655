"""The one place where kernels are started, so that they can also be recorded and compiled ahead, without a GPU."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from asr.kernels.dispatch import DTYPES, NO_GPU

LARGEST_DIM = 128
# Inside a group offsets have 32 bits. Groups are the second or third side of a grid, which ends there.
LARGEST_OFFSET, MOST_GROUPS = 2**31 - 1, 65535
# Triton's matrix products need at least this much of every side.
SMALLEST_SIDE = 16
# Set before anything is decorated, Triton's interpreter runs kernels on a CPU.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


class Launch(NamedTuple):
    """A kernel as it would be started: `arguments` by name, tensors among them."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    warps: int
    stages: int
    registers: int | None = None

    @property
    def options(self) -> dict[str, int]:
        """What Triton's compiler is told beside the arguments."""
        limit = {} if self.registers is None else {"maxnreg": self.registers}
        return {"num_warps": self.warps, "num_stages": self.stages, **limit}


_recorder: Callable[[Launch], None] | None = None
_capability: int | None = None
_reports = threading.local()
HOPPER = 90


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    *,
    warps: int = 4,
    stages: int = 2,
    times: int = 1,
    registers: int | None = None,
    **arguments: Any,
) -> None:
    """Starts a kernel on the current stream of its tensors' device; `arguments` are all of the kernel's, by name.

    times: how often, one after the other. All but the first start without looking at the arguments again, which takes longer
    than a small kernel runs. registers: of a thread at most, where a few less let one more program onto a processor.

    Raises ValueError for tensors on a CPU outside of the interpreter.
    """
    if _recorder is not None:
        _recorder(Launch(kernel, grid, arguments, warps, stages, registers))
        return
    options = Launch(kernel, grid, arguments, warps, stages, registers).options
    device = next(x.device for x in arguments.values() if isinstance(x, Tensor))
    check_device(device)
    with on(device):
        if INTERPRETED:

            def run(*given: Any) -> None:
                kernel[grid](*given, **options)

        else:
            run = kernel[grid](**arguments, **options)[(*grid, 1, 1)[:3]]
        in_order = [arguments[name] for name in kernel.arg_names]
        for _ in range(times if INTERPRETED else times - 1):
            run(*in_order)
    report = getattr(_reports, "to", None)
    if report is not None:
        report(run, in_order, times)


def check_device(device: torch.device) -> None:
    """Raises ValueError where kernels cannot run."""
    if device.type != "cuda" and not INTERPRETED:
        raise ValueError(f"Triton kernels are forced and tensors are on {device}, {NO_GPU}")


def on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Makes a GPU the current one, where launches go, for as long as it is entered."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


@contextlib.contextmanager
def reporting_to(report: Callable[[Callable[..., object], list[Any], int], None]) -> Iterator[None]:
    """Tells of every launch of this thread once it is under way: what launches it again, its arguments in order, how often."""
    _reports.to = report
    try:
        yield
    finally:
        _reports.to = None


def is_recorded() -> bool:
    """Whether launches are only recorded, see `recording`."""
    return _recorder is not None


@contextlib.contextmanager
def recording(recorder: Callable[[Launch], None], capability: int = HOPPER) -> Iterator[None]:
    """Hands every launch to `recorder` instead of starting it: nothing is computed, tensors may be on any device.

    capability: the compute capability that tiles are chosen for, times ten: 80, 90, 100.
    """
    global _recorder, _capability
    before, _recorder, _capability = (_recorder, _capability), recorder, capability
    try:
        yield
    finally:
        _recorder, _capability = before


def capability_of(device: torch.device) -> int:
    """The compute capability of a device, times ten; of a CPU, Hopper's, so that the interpreter runs what a GPU would."""
    if _capability is not None:
        return _capability
    if device.type != "cuda":
        return HOPPER
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def multiplies_in_warpgroups(capability: int) -> bool:
    """Whether tensor cores take their operands from shared memory, as Hopper's and the data centre Blackwell's (sm_100) do.

    The desktop Blackwell (sm_120) has the tensor cores of an A100, whose operands take registers, whatever its number says.
    """
    return 90 <= capability < 120


def cdiv(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def padded(size: int) -> int:
    """`size` as kernels hold it: a power of two of at least 16."""
    return max(SMALLEST_SIDE, triton.next_power_of_2(size))


def dtype_of_sums(dtype: torch.dtype) -> torch.dtype:
    """What sums over many steps are kept in between kernels: float16 ends at 65504, which a few hundred gradients reach."""
    return torch.float32 if dtype == torch.float16 else dtype


def precision(dtype: torch.dtype) -> str:
    """How `tl.dot` multiplies: float32 as three TF32 products, whose error is that of float32; others have no choice."""
    return "tf32x3" if dtype == torch.float32 else "tf32"


def along_dim(x: Tensor) -> Tensor:
    """x, copied if its last dimension is not dense or its steps lie too far apart: other strides may be any."""
    dense = x.stride(-1) == 1 or x.shape[-1] == 1
    return x if dense and x.shape[2] * x.stride(2) <= LARGEST_OFFSET else x.contiguous()


def in_row(lengths: Tensor | None) -> Tensor | None:
    """Lengths as kernels read them, one after the other; None stays None."""
    return None if lengths is None else lengths.contiguous()


def refusal_of(**arguments: Tensor) -> str | None:
    """Why kernels do not cover tensors (batch, heads, time, dim) of these names, in a sentence; None if they do."""
    widest = max(x.shape[3] for x in arguments.values())
    dtype = next(iter(arguments.values())).dtype
    for name, x in arguments.items():
        if x.dtype not in DTYPES:
            return f"{name} has dtype {x.dtype}, expected float32, float16 or bfloat16 for Triton kernels"
        if x.dtype != dtype:
            return f"{name} has dtype {x.dtype}, expected that of {next(iter(arguments))}, {dtype}, for Triton kernels"
        if x.shape[3] > LARGEST_DIM:
            return f"{name} has dim {x.shape[3]}, expected at most {LARGEST_DIM} for Triton kernels"
        if x.shape[2] * max(x.stride(2), x.shape[1] * widest) > LARGEST_OFFSET:
            return f"{name} has time {x.shape[2]}, too long for the 32-bit offsets of Triton kernels"
        if x.shape[0] * x.shape[1] > MOST_GROUPS:
            return f"{name} has {x.shape[0] * x.shape[1]} heads of sequences, expected at most {MOST_GROUPS} for Triton kernels"
        if 0 in x.shape:
            return f"{name} has shape {tuple(x.shape)}, expected no empty dimension for Triton kernels"
    return None


def heads_last(batch: int, heads: int, time: int, dim: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An empty (batch, heads, time, dim) tensor that lies in memory as (batch, time, heads, dim): what a projection reads."""
    return torch.empty(batch, time, heads, dim, dtype=dtype, device=device).transpose(1, 2)


def heads_last_like(x: Tensor) -> Tensor:
    """An empty tensor of the shape, dtype and device of `x` (batch, heads, time, dim), laid out by `heads_last`."""
    batch, heads, time, dim = x.shape
    return heads_last(batch, heads, time, dim, x.dtype, x.device)

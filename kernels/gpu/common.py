"""What kernels share. A group is a head of a sequence: group = sequence * heads + head."""

from __future__ import annotations

import triton
import triton.language as tl

# exp(x) = exp2(x * LOG2E), and exp2 is what the hardware has.
LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def group_start(pointer, group, heads, batch_stride, head_stride):
    """Where a group begins in a (batch, heads, time, dim) tensor."""
    return pointer + (group // heads).to(tl.int64) * batch_stride + (group % heads).to(tl.int64) * head_stride


@triton.jit
def group_length(lengths, group, heads, time):
    """Valid steps of the group's sequence; `lengths` is (batch,) int64, or None when all `time` steps are.

    Lengths on a GPU cannot be checked without waiting for it: what is beyond `time` reads no further than that.
    """
    if lengths is None:
        return time
    else:
        return tl.minimum(tl.load(lengths + group // heads).to(tl.int32), time)


@triton.jit
def tile(start, rows, stride, columns):
    """Pointers to (rows, columns) of what begins at `start` and has `stride` between rows."""
    return start + rows[:, None] * stride + columns[None, :]

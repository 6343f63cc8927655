"""What kernels share. A group is a head of a sequence: group = sequence * heads + head."""

from __future__ import annotations

import triton
import triton.language as tl

# exp(x) = exp2(x * LOG2E), and exp2 is what the hardware has.
LOG2E = tl.constexpr(1.4426950408889634)

# Arguments that grow with a sequence. Triton would compile a kernel anew for multiples of 16 and for 1, which batches of
# any length meet again and again, for seconds each; what aligns loads are the strides.
OF_LENGTH = [
    "time", "rows", "tiles", "items", "bins", "words", "entries", "splits", "count", "width", "first_cluster",
    "rows_each", "keys_each", "keys_per_bin", "keys_per_split",
]  # fmt: skip


@triton.jit
def group_start(pointer, group, heads, batch_stride, head_stride):
    """Where a group begins in a (batch, heads, time, dim) tensor."""
    return pointer + (group // heads).to(tl.int64) * batch_stride + (group % heads).to(tl.int64) * head_stride


@triton.jit
def group_length(lengths, group, heads, time):
    """Valid steps of the group's sequence; `lengths` is (batch,) int64, or None when all `time` steps are.

    Lengths on a GPU cannot be checked without waiting for it: those that are not from 0 to `time` count as the nearest that is.
    """
    if lengths is None:
        return time
    else:
        return tl.minimum(tl.maximum(tl.load(lengths + group // heads), 0), time).to(tl.int32)


@triton.jit
def rounded_to(x, dtype: tl.constexpr):
    """float32 x with the precision that products of `dtype` have, but the range of float32."""
    if dtype == tl.float16:
        bits = x.to(tl.int32, bitcast=True)
        bits = (bits + 0xFFF + ((bits >> 13) & 1)) & -0x2000
        x = bits.to(tl.float32, bitcast=True)
    else:
        x = x.to(dtype).to(tl.float32)
    return x


@triton.jit
def tile(start, rows, stride, columns):
    """Pointers to (rows, columns) of what begins at `start` and has `stride` between rows."""
    return start + rows[:, None] * stride + columns[None, :]

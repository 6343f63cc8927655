"""Codes of queries as small whole numbers, see `asr.kernels.spaces`."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import OF_LENGTH, group_length, group_start, tile
from asr.kernels.gpu.launch import cdiv, launch, padded
from asr.kernels.spaces import LEVELS

ROWS, PARTS = 64, 32


@triton.jit(do_not_specialize=OF_LENGTH)
def range_kernel(
    x, batch_stride, head_stride, time_stride, lengths, ranges, heads, time, rows_each,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The highest and the lowest number of each dimension in a part of the valid steps."""
    part, group = tl.program_id(0), tl.program_id(1)
    columns = tl.arange(0, BLOCK_DIM)
    length = group_length(lengths, group, heads, time)
    start = group_start(x, group, heads, batch_stride, head_stride)
    high = tl.full([BLOCK_DIM], float("-inf"), tl.float32)
    low = tl.full([BLOCK_DIM], float("inf"), tl.float32)
    for row in range(part * rows_each, tl.minimum(length, (part + 1) * rows_each), ROWS):
        rows = row + tl.arange(0, ROWS)
        mask = ((rows < length) & (rows < (part + 1) * rows_each))[:, None] & (columns < DIM)[None, :]
        numbers = tl.load(tile(start, rows, time_stride, columns), mask=mask, other=0.0).to(tl.float32)
        high = tl.maximum(high, tl.max(tl.where(mask, numbers, float("-inf")), 0))
        low = tl.minimum(low, tl.min(tl.where(mask, numbers, float("inf")), 0))
    place = ranges + (group.to(tl.int64) * tl.num_programs(0) + part) * 2 * BLOCK_DIM + columns
    tl.store(place, high)
    tl.store(place + BLOCK_DIM, low)


@triton.jit(do_not_specialize=OF_LENGTH)
def whole_kernel(
    x, batch_stride, head_stride, time_stride, lengths, ranges, codes, heads, time, parts,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, LEVELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Moves and scales numbers by their ranges, and rounds them."""
    group = tl.program_id(1)
    rows, columns = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK_DIM)
    ranges += group.to(tl.int64) * parts * 2 * BLOCK_DIM
    high, low = tl.load(ranges + columns), tl.load(ranges + BLOCK_DIM + columns)
    for part in range(1, parts):
        high = tl.maximum(high, tl.load(ranges + part * 2 * BLOCK_DIM + columns))
        low = tl.minimum(low, tl.load(ranges + (part * 2 + 1) * BLOCK_DIM + columns))
    widest = tl.max(tl.where(columns < DIM, high - low, 0.0), 0) / 2
    length = group_length(lengths, group, heads, time)
    mask = (rows < length)[:, None] & (columns < DIM)[None, :]
    start = group_start(x, group, heads, batch_stride, head_stride)
    numbers = tl.load(tile(start, rows, time_stride, columns), mask=mask, other=0.0).to(tl.float32)
    numbers = (numbers - ((high + low) / 2)[None, :]) * (LEVELS / tl.maximum(widest, 1e-30))
    # What is not a number becomes one, too.
    numbers = tl.where(mask & (tl.abs(numbers) <= LEVELS + 1), tl.floor(numbers + 0.5), 0.0)
    numbers = tl.minimum(tl.maximum(numbers, -LEVELS), LEVELS)
    mine = codes + group.to(tl.int64) * time * BLOCK_DIM
    tl.store(tile(mine, rows, BLOCK_DIM, columns), numbers.to(tl.float16), mask=(rows < time)[:, None])


def whole_codes(queries: Tensor, lengths: Tensor | None) -> Tensor:
    """Codes (groups, time, width) float16 of queries (batch, heads, time, dim), all zero where padded.

    lengths: (batch,) int64 or None. The width is the dim as kernels hold it; what it has to spare is zero.
    """
    batch, heads, time, dim = queries.shape
    groups, width = batch * heads, padded(dim)
    rows_each = cdiv(cdiv(time, PARTS), ROWS) * ROWS
    parts = cdiv(time, rows_each)
    ranges = torch.empty(groups, parts, 2, width, dtype=torch.float32, device=queries.device)
    codes = queries.new_empty(groups, time, width, dtype=torch.float16)
    common: dict[str, Any] = {
        "x": queries, "batch_stride": queries.stride(0), "head_stride": queries.stride(1), "time_stride": queries.stride(2),
        "lengths": lengths, "ranges": ranges, "heads": heads, "time": time, "DIM": dim, "BLOCK_DIM": width, "ROWS": ROWS,
    }  # fmt: skip
    launch(range_kernel, (parts, groups), rows_each=rows_each, **common)
    launch(whole_kernel, (cdiv(time, ROWS), groups), codes=codes, parts=parts, LEVELS=LEVELS, **common)
    return codes

"""LSH (Reformer) attention in a given order, and the merging of rounds. See `asr.kernels.gpu.lsh` for the words."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import LOG2E, OF_LENGTH, group_length, group_start, tile
from asr.kernels.gpu.launch import LARGEST_DIM, cdiv, heads_last, launch, padded, precision
from asr.kernels.padding import SELF_SCORE, masked_score

MASKED = tl.constexpr(masked_score(torch.float32))
SELF = tl.constexpr(SELF_SCORE * LOG2E.value)
# What F.normalize divides by at least.
SMALLEST_NORM = tl.constexpr(1e-6)
MERGE_ROWS = 32


@triton.jit
def gather(start, steps, stride, valid, first_dim, DIM: tl.constexpr, DIMS: tl.constexpr):
    """DIMS dims of rows of a group's tensor, zero where they are not valid: (steps, DIMS)."""
    dims = first_dim + tl.arange(0, DIMS)
    return tl.load(tile(start, steps, stride, dims), mask=valid[:, None] & (dims < DIM)[None, :], other=0.0)


@triton.jit
def products(
    one, one_stride, one_steps, one_valid, other, other_stride, other_steps, other_valid,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, PIECE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Rows of one tensor times rows of another: (one's steps, other's steps), PIECE dims at a time if all would spill."""
    result = tl.zeros([one_steps.shape[0], other_steps.shape[0]], tl.float32)
    for first_dim in range(0, BLOCK_DIM, PIECE):
        left = gather(one, one_steps, one_stride, one_valid, first_dim, DIM, PIECE)
        right = gather(other, other_steps, other_stride, other_valid, first_dim, DIM, PIECE)
        result = tl.dot(left, tl.trans(right), result, input_precision=PRECISION)
    return result


@triton.jit
def norms(x):
    """Lengths of the rows of x as F.normalize takes them, never below its smallest."""
    x = x.to(tl.float32)
    return tl.maximum(tl.sqrt(tl.sum(x * x, 1)), SMALLEST_NORM)


@triton.jit
def seen_scores(
    scores, query_places, query_steps, key_places, key_steps, length, chunk_of, CHUNK: tl.constexpr, ROUNDS: tl.constexpr
):  # fmt: skip
    """Scores less log2 N_ij, low for a step and itself, and MASKED where the query's chunk does not see the key's.

    Places and steps have two dimensions, one of them of size 1: queries may be rows of the scores or columns.
    """
    if ROUNDS > 1:
        found = tl.zeros(scores.shape, tl.int32)
        # Not unrolled, so that registers hold the chunks of one round at a time.
        for other in range(ROUNDS):
            behind = tl.load(chunk_of + query_steps * ROUNDS + other) - tl.load(chunk_of + key_steps * ROUNDS + other)
            found += ((behind == 0) | (behind == 1)).to(tl.int32)
        scores -= tl.log2(tl.maximum(found, 1).to(tl.float32))
    scores = tl.where(query_places == key_places, SELF, scores)
    behind = query_places // CHUNK - key_places // CHUNK
    return tl.where(((behind == 0) | (behind == 1)) & (key_places < length), scores, MASKED)


@triton.jit(do_not_specialize=OF_LENGTH)
def attention_kernel(
    queries, batch_stride, head_stride, time_stride, values, value_batch_stride, value_head_stride, value_time_stride,
    lengths, order, chunk_of, outputs, output_batch_stride, output_head_stride, output_round_stride, output_time_stride,
    lse, heads, time, scale,
    CHUNK: tl.constexpr, ROUNDS: tl.constexpr, DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    BLOCK_VALUE_DIM: tl.constexpr, PIECE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Softmax attention of ROWS places to the places of their chunks and of the chunk before, in one round."""
    first, this_round, group = tl.program_id(0) * ROWS, tl.program_id(1), tl.program_id(2)
    length = group_length(lengths, group, heads, time)
    queries = group_start(queries, group, heads, batch_stride, head_stride)
    values = group_start(values, group, heads, value_batch_stride, value_head_stride)
    row = group.to(tl.int64) * ROUNDS + this_round
    order += row * time
    if ROUNDS > 1:
        chunk_of += group.to(tl.int64) * time * ROUNDS
    places = first + tl.arange(0, ROWS)
    valid, steps = places < length, tl.load(order + places, mask=places < time, other=0)

    highest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, BLOCK_VALUE_DIM], tl.float32)
    end = tl.where(first < length, tl.minimum(((first + ROWS - 1) // CHUNK + 1) * CHUNK, length), 0)
    for block in range(tl.maximum(first // CHUNK - 1, 0) * CHUNK, end, COLUMNS):
        key_places = block + tl.arange(0, COLUMNS)
        exists = key_places < end
        key_steps = tl.load(order + key_places, mask=exists, other=0)
        keys = gather(queries, key_steps, time_stride, exists, 0, DIM, BLOCK_DIM)
        key_values = gather(values, key_steps, value_time_stride, exists, 0, VALUE_DIM, BLOCK_VALUE_DIM)
        scores = products(
            queries, time_stride, steps, valid, queries, time_stride, key_steps, exists, DIM, BLOCK_DIM, PIECE, PRECISION
        )  # fmt: skip
        scores = seen_scores(
            scores * (scale / norms(keys) * LOG2E)[None, :],
            places[:, None], steps[:, None], key_places[None, :], key_steps[None, :], length, chunk_of, CHUNK, ROUNDS,
        )  # fmt: skip
        higher = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        rescaling = tl.exp2(highest - higher)
        total = total * rescaling + tl.sum(weights, 1)
        sums = tl.dot(weights.to(key_values.dtype), key_values, sums * rescaling[:, None], input_precision=PRECISION)
        highest = higher
    total = tl.where(valid, total, 1.0)
    highest = tl.where(valid, highest, 0.0)
    sums = tl.where(valid[:, None], sums, 0.0) / total[:, None]
    dims = tl.arange(0, BLOCK_VALUE_DIM)
    outputs = group_start(outputs, group, heads, output_batch_stride, output_head_stride)
    outputs += this_round.to(tl.int64) * output_round_stride
    written = (places < time)[:, None] & (dims < VALUE_DIM)[None, :]
    tl.store(tile(outputs, steps, output_time_stride, dims), sums.to(outputs.dtype.element_ty), mask=written)
    tl.store(lse + row * time + steps, highest + tl.log2(total), mask=places < time)


@triton.jit(do_not_specialize=OF_LENGTH)
def merge_kernel(
    outputs, lse, merged, merged_batch_stride, merged_head_stride, merged_time_stride, merged_lse, heads, time,
    ROUNDS: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_VALUE_DIM: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Mean of the rounds' outputs, weighted by the softmax of their log-sum-exps; and the log-sum-exp of those."""
    group = tl.program_id(1)
    steps, dims = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK_VALUE_DIM)
    written = (steps < time)[:, None] & (dims < VALUE_DIM)[None, :]
    highest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, BLOCK_VALUE_DIM], tl.float32)
    for other in range(ROUNDS):
        row = (group.to(tl.int64) * ROUNDS + other) * time
        of_round = tl.load(lse + row + steps, mask=steps < time, other=0.0)
        output = tl.load(tile(outputs + row * VALUE_DIM, steps, VALUE_DIM, dims), mask=written, other=0.0)
        higher = tl.maximum(highest, of_round)
        rescaling, weight = tl.exp2(highest - higher), tl.exp2(of_round - higher)
        total = total * rescaling + weight
        sums = sums * rescaling[:, None] + weight[:, None] * output.to(tl.float32)
        highest = higher
    merged = group_start(merged, group, heads, merged_batch_stride, merged_head_stride)
    sums = (sums / total[:, None]).to(merged.dtype.element_ty)
    tl.store(tile(merged, steps, merged_time_stride, dims), sums, mask=written)
    tl.store(merged_lse + group.to(tl.int64) * time + steps, highest + tl.log2(total), mask=steps < time)


class Tile(NamedTuple):
    """What a program computes at a time: rows times columns of scores, and dims whose products are summed."""

    rows: int
    columns: int
    piece: int
    warps: int
    stages: int


def forward_tile(dtype: torch.dtype, dim: int) -> Tile:
    """Rows are a chunk of 32 (the default), columns that and the one before; larger chunks are walked through.

    Products of float32 are three, whose operands are all held in registers: they spill unless dims are walked through too.
    """
    if dtype == torch.float32:
        return Tile(rows=32, columns=32, piece=16, warps=8, stages=2)
    if dim <= 64:
        # All in one step, for which there is nothing to load ahead.
        return Tile(rows=32, columns=64, piece=LARGEST_DIM, warps=8, stages=1)
    return Tile(rows=32, columns=32, piece=LARGEST_DIM, warps=8, stages=2)


def padded_dim(dtype: torch.dtype, dim: int) -> int:
    """`dim` as a program holds it. Fewer than 32 of half precision are too few for 8 warps, which would all do the same."""
    return padded(dim) if dtype == torch.float32 else max(32, padded(dim))


def attention_in_order(
    queries: Tensor, values: Tensor, lengths: Tensor | None, order: Tensor, chunk_of: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """Attention in an order of `order_of`: (batch, heads, time, value dim), and its log-sum-exp (base 2), (groups, time)."""
    batch, heads, time, dim = queries.shape
    groups, rounds = order.shape[:2]
    value_dim = values.shape[3]
    merged = heads_last(batch, heads, time, value_dim, values.dtype, values.device)
    merged_lse = queries.new_empty(groups, time, dtype=torch.float32)
    if rounds == 1:
        outputs, lse = merged[:, :, None], merged_lse
    else:
        outputs = values.new_empty(batch, heads, rounds, time, value_dim)
        lse = queries.new_empty(groups, rounds, time, dtype=torch.float32)
    rows, columns, piece, warps, stages = forward_tile(queries.dtype, max(dim, value_dim))
    block_dim, block_value_dim = padded_dim(queries.dtype, dim), padded_dim(values.dtype, value_dim)
    launch(
        attention_kernel, (cdiv(time, rows), rounds, groups), warps=warps, stages=stages,
        queries=queries, batch_stride=queries.stride(0), head_stride=queries.stride(1), time_stride=queries.stride(2),
        values=values, value_batch_stride=values.stride(0), value_head_stride=values.stride(1),
        value_time_stride=values.stride(2), lengths=lengths, order=order, chunk_of=chunk_of,
        outputs=outputs, output_batch_stride=outputs.stride(0), output_head_stride=outputs.stride(1),
        output_round_stride=outputs.stride(2), output_time_stride=outputs.stride(3),
        lse=lse, heads=heads, time=time, scale=dim**-0.5,
        CHUNK=chunk, ROUNDS=rounds, DIM=dim, BLOCK_DIM=block_dim, VALUE_DIM=value_dim, BLOCK_VALUE_DIM=block_value_dim,
        PIECE=min(piece, block_dim), ROWS=rows, COLUMNS=columns, PRECISION=precision(queries.dtype),
    )  # fmt: skip
    if rounds > 1:
        launch(
            merge_kernel, (cdiv(time, MERGE_ROWS), groups), warps=4,
            outputs=outputs, lse=lse, merged=merged, merged_batch_stride=merged.stride(0),
            merged_head_stride=merged.stride(1), merged_time_stride=merged.stride(2), merged_lse=merged_lse,
            heads=heads, time=time,
            ROUNDS=rounds, VALUE_DIM=value_dim, BLOCK_VALUE_DIM=padded(value_dim), ROWS=MERGE_ROWS,
        )  # fmt: skip
    return merged, merged_lse

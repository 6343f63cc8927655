"""LSH (Reformer) attention: buckets, the order that they give, and the operator with its gradient.

A step is a position in time, a place is one in the order of a round: order[place] = step. Those of padding are the last.
`asr.kernels.lsh` says what is meant, `asr.kernels.gpu.lsh_forward` and `asr.kernels.gpu.lsh_backward` attend in the order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import OF_LENGTH, group_length, group_start, tile
from asr.kernels.gpu.launch import (
    LARGEST_OFFSET,
    along_dim,
    cdiv,
    heads_last,
    heads_last_like,
    in_row,
    launch,
    padded,
    precision,
    refusal_of,
)
from asr.kernels.gpu.lsh_backward import gradients
from asr.kernels.gpu.lsh_forward import attention_in_order


@triton.jit(do_not_specialize=[*OF_LENGTH, "columns"])
def bucket_kernel(
    queries, batch_stride, head_stride, time_stride, rotations, lengths, buckets, heads, time, columns,
    CHUNK: tl.constexpr, DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Argmax of [xR; -xR] over as many columns as the sequence's own length asks for; ties go to the lowest column."""
    first, this_round, group = tl.program_id(0) * ROWS, tl.program_id(1), tl.program_id(2)
    length = group_length(lengths, group, heads, time)
    steps, valid = first + tl.arange(0, ROWS), first + tl.arange(0, ROWS) < length
    dims, slots = tl.arange(0, BLOCK_DIM), tl.arange(0, COLUMNS)
    start = group_start(queries, group, heads, batch_stride, head_stride)
    x = tl.load(tile(start, steps, time_stride, dims), mask=valid[:, None] & (dims < DIM)[None, :], other=0.0)
    rotations += this_round.to(tl.int64) * columns * DIM
    # Every slot keeps its own best, so that rows are reduced only once. A column that does not exist projects to 0, and only
    # something larger replaces what a slot has: the first block's 0.
    best, block_of = tl.zeros([ROWS, COLUMNS], tl.float32), tl.zeros([ROWS, COLUMNS], tl.int32)
    used = tl.where(first < length, tl.cdiv(length, CHUNK), 0)
    for block in range(0, used, COLUMNS):
        exists = (block + slots < used)[None, :] & (dims < DIM)[:, None]
        directions = tl.load(rotations + (block + slots)[None, :] * DIM + dims[:, None], mask=exists, other=0.0)
        projections = tl.dot(x, directions, input_precision=PRECISION)
        larger = tl.abs(projections) > tl.abs(best)
        best = tl.where(larger, projections, best)
        block_of = tl.where(larger, block, block_of)
    largest = tl.max(tl.abs(best), 1)
    sides = (block_of + slots[None, :]) * 2 + (best < 0).to(tl.int32)
    side = tl.min(tl.where(tl.abs(best) == largest[:, None], sides, 2147483647), 1)
    bucket = tl.where(valid, side // 2 + side % 2 * columns, 2 * columns)
    buckets += (group.to(tl.int64) * tl.num_programs(1) + this_round) * time
    tl.store(buckets + steps, bucket.to(buckets.dtype.element_ty), mask=steps < time)


def hash_tile(dtype: torch.dtype, dim: int) -> tuple[int, int, int]:
    """Steps that are hashed together, directions that they are projected to at a time, and stages of loading those.

    float32 is multiplied as three products whose operands are held in registers.
    """
    if dtype == torch.float32:
        return 64, 32 if dim <= 64 else 16, 2
    return 128, 64, 3


def buckets_of(queries: Tensor, rotations: Tensor, lengths: Tensor | None, chunk: int) -> Tensor:
    """`asr.kernels.lsh.lsh_buckets` as int16 where they fit, of which a radix sort needs fewer passes, else int32.

    queries: (batch, heads, time, dim), rotations: (columns, rounds, dim) float32. Half precision queries are projected to
    directions of half precision: random ones are as good there. Returns (groups, rounds, time).
    """
    batch, heads, time, dim = queries.shape
    rounds, columns = rotations.shape[1], cdiv(time, chunk)
    directions = rotations[:columns].transpose(0, 1).to(queries.dtype).contiguous()
    dtype = torch.int16 if 2 * columns <= torch.iinfo(torch.int16).max else torch.int32
    buckets = queries.new_empty(batch * heads, rounds, time, dtype=dtype)
    rows, hash_columns, stages = hash_tile(queries.dtype, dim)
    launch(
        bucket_kernel, (cdiv(time, rows), rounds, batch * heads), warps=8, stages=stages,
        queries=queries, batch_stride=queries.stride(0), head_stride=queries.stride(1), time_stride=queries.stride(2),
        rotations=directions, lengths=lengths, buckets=buckets, heads=heads, time=time, columns=columns,
        CHUNK=chunk, DIM=dim, BLOCK_DIM=padded(dim), ROWS=rows, COLUMNS=hash_columns,
        PRECISION=precision(queries.dtype),
    )  # fmt: skip
    return buckets


def order_of(buckets: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Steps sorted by (bucket, step): order (groups, rounds, time) int32, and the chunk of every step in every round,
    (groups, time, rounds) int32; of a single round nobody asks for that, and it is empty.
    """
    groups, rounds, time = buckets.shape
    order = buckets.sort(dim=-1, stable=True).indices
    if rounds == 1:
        return order.to(torch.int32), order.new_empty(0, dtype=torch.int32)
    chunk_of = order.new_empty(groups, time, rounds, dtype=torch.int32)
    chunk_of_place = torch.arange(time, dtype=torch.int32, device=order.device) // chunk
    chunk_of.transpose(1, 2).scatter_(2, order, chunk_of_place.expand_as(order))
    return order.to(torch.int32), chunk_of


@torch.library.custom_op("asr::lsh_attention", mutates_args=())
def attend(
    queries: Tensor, values: Tensor, lengths: Tensor | None, rotations: Tensor, chunk: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The output, and what its gradient needs: log-sum-exp, order and the chunk of every step."""
    queries, values = along_dim(queries), along_dim(values)
    order, chunk_of = order_of(buckets_of(queries, rotations, lengths, chunk), chunk)
    return *attention_in_order(queries, values, lengths, order, chunk_of, chunk), order, chunk_of


@attend.register_fake
def fake_attend(queries, values, lengths, rotations, chunk):
    batch, heads, time, _ = queries.shape
    groups, rounds = batch * heads, rotations.shape[1]
    output = heads_last(batch, heads, time, values.shape[3], values.dtype, values.device)
    lse = queries.new_empty(groups, time, dtype=torch.float32)
    order = queries.new_empty(groups, rounds, time, dtype=torch.int32)
    return output, lse, order, order.new_empty((groups, time, rounds) if rounds > 1 else 0)


@torch.library.custom_op("asr::lsh_attention_backward", mutates_args=())
def attend_backward(
    queries: Tensor, values: Tensor, lengths: Tensor | None, output: Tensor, lse: Tensor, order: Tensor, chunk_of: Tensor,
    output_grad: Tensor, chunk: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of queries and values."""
    queries, values, output_grad = along_dim(queries), along_dim(values), along_dim(output_grad)
    return gradients(queries, values, lengths, output, lse, order, chunk_of, output_grad, chunk)


@attend_backward.register_fake
def fake_attend_backward(queries, values, lengths, output, lse, order, chunk_of, output_grad, chunk):
    return heads_last_like(queries), heads_last_like(values)


def save_for_backward(ctx, inputs, output):
    queries, values, lengths, _, ctx.chunk = inputs
    ctx.save_for_backward(queries, values, lengths, *output)
    ctx.mark_non_differentiable(*output[1:])
    # Without this the backward pass is handed zeros for all of the other outputs.
    ctx.set_materialize_grads(False)


def backward(ctx, output_grad, *_):
    if output_grad is None:
        return (None,) * 5
    queries, values, lengths, output, lse, order, chunk_of = ctx.saved_tensors
    grads = attend_backward(queries, values, lengths, output, lse, order, chunk_of, output_grad, ctx.chunk)
    return *grads, None, None, None


attend.register_autograd(backward, setup_context=save_for_backward)


def lsh_attention(queries: Tensor, values: Tensor, lengths: Tensor | None, rotations: Tensor, chunk: int) -> Tensor:
    """As `asr.kernels.lsh.lsh_attention`; padded steps of queries and values may hold anything, and those of the output are 0."""
    return attend(queries, values, in_row(lengths), rotations, chunk)[0]


def refusal(queries: Tensor, values: Tensor, lengths: Tensor | None, rotations: Tensor, chunk: int) -> str | None:
    """Why the kernels do not cover these arguments, in a sentence; None if they do."""
    refused = refusal_of(queries=queries, values=values)
    if refused is not None:
        return refused
    if queries.shape[2] * rotations.shape[1] > LARGEST_OFFSET:
        return f"queries has time {queries.shape[2]}, too long for the 32-bit offsets of Triton kernels"
    return None

"""Gradients of LSH (Reformer) attention, in the words of `asr.kernels.gpu.lsh`.

With the log-sum-exp of all rounds, p_ij = exp(s_ij - log N_ij - lse_i) is the share of one round's finding of a pair, and every
round is like any attention: ds_ij = p_ij (do_i v_j - do_i o_i). Scores are s_ij = q_i k_j / sqrt(dim) with k_j = q_j / |q_j|, so
that a step's query has the gradient of both of its roles.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import LOG2E, OF_LENGTH, group_length, group_start, tile
from asr.kernels.gpu.launch import LARGEST_DIM, cdiv, heads_last, launch, padded, precision
from asr.kernels.gpu.lsh_forward import SELF, SMALLEST_NORM, Tile, gather, norms, padded_dim, products, seen_scores

DELTA_ROWS = 32


@triton.jit(do_not_specialize=OF_LENGTH)
def delta_kernel(
    outputs, batch_stride, head_stride, time_stride, grads, grad_batch_stride, grad_head_stride, grad_time_stride,
    lengths, deltas, heads, time, VALUE_DIM: tl.constexpr, BLOCK_VALUE_DIM: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """do_i o_i of every step, 0 where padded."""
    group = tl.program_id(1)
    steps = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    valid = steps < group_length(lengths, group, heads, time)
    outputs = group_start(outputs, group, heads, batch_stride, head_stride)
    grads = group_start(grads, group, heads, grad_batch_stride, grad_head_stride)
    output = gather(outputs, steps, time_stride, valid, 0, VALUE_DIM, BLOCK_VALUE_DIM).to(tl.float32)
    grad = gather(grads, steps, grad_time_stride, valid, 0, VALUE_DIM, BLOCK_VALUE_DIM).to(tl.float32)
    tl.store(deltas + group.to(tl.int64) * time + steps, tl.sum(output * grad, 1), mask=steps < time)


@triton.jit
def shares(scores, lse, itself, ROUNDS: tl.constexpr):
    """p_ij; the share of itself is that of one round in all if there is nothing else, told by a low lse, else 0."""
    alone = tl.where(lse < SELF / 2, 1.0 / ROUNDS, 0.0)
    return tl.where(itself, alone, tl.exp2(scores - lse))


@triton.jit
def add_and_store(
    grad, sums, grads, steps, stride, written, FIRST: tl.constexpr, LAST: tl.constexpr, DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):  # fmt: skip
    """Adds a round's gradient to those of the rounds before (FIRST: there are none), kept in `sums` until the LAST one."""
    dims = tl.arange(0, BLOCK_DIM)
    mask = written[:, None] & (dims < DIM)[None, :]
    if not FIRST:
        grad += tl.load(tile(sums, steps, DIM, dims), mask=mask, other=0.0)
    if LAST:
        tl.store(tile(grads, steps, stride, dims), grad.to(grads.dtype.element_ty), mask=mask)
    else:
        tl.store(tile(sums, steps, DIM, dims), grad, mask=mask)


@triton.jit(do_not_specialize=[*OF_LENGTH, "this_round"])
def backward_kernel(
    queries, batch_stride, head_stride, time_stride, values, value_batch_stride, value_head_stride, value_time_stride,
    output_grads, output_batch_stride, output_head_stride, output_time_stride,
    query_grads, query_grad_batch_stride, query_grad_head_stride, query_grad_time_stride,
    value_grads, value_grad_batch_stride, value_grad_head_stride, value_grad_time_stride,
    query_sums, value_sums, lengths, order, chunk_of, lse, deltas, this_round, heads, time, scale,
    CHUNK: tl.constexpr, ROUNDS: tl.constexpr, FIRST: tl.constexpr, LAST: tl.constexpr,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_VALUE_DIM: tl.constexpr,
    PIECE: tl.constexpr, VALUE_PIECE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One round's gradients of ROWS places: as queries of their chunks' and the chunk's before, as keys of the next one's."""
    first, group = tl.program_id(0) * ROWS, tl.program_id(1)
    length = group_length(lengths, group, heads, time)
    queries = group_start(queries, group, heads, batch_stride, head_stride)
    values = group_start(values, group, heads, value_batch_stride, value_head_stride)
    output_grads = group_start(output_grads, group, heads, output_batch_stride, output_head_stride)
    order += (group.to(tl.int64) * ROUNDS + this_round) * time
    lse += group.to(tl.int64) * time
    deltas += group.to(tl.int64) * time
    if ROUNDS > 1:
        chunk_of += group.to(tl.int64) * time * ROUNDS
    places = first + tl.arange(0, ROWS)
    valid, steps = places < length, tl.load(order + places, mask=places < time, other=0)
    chunk_start = first // CHUNK * CHUNK
    last_end = ((first + ROWS - 1) // CHUNK + 1) * CHUNK

    grad = tl.zeros([ROWS, BLOCK_DIM], tl.float32)
    own_lse = tl.load(lse + steps, mask=valid, other=0.0)[:, None]
    own_deltas = tl.load(deltas + steps, mask=valid, other=0.0)[:, None]
    end = tl.where(first < length, tl.minimum(last_end, length), 0)
    for block in range(tl.maximum(chunk_start - CHUNK, 0), end, COLUMNS):
        key_places = block + tl.arange(0, COLUMNS)
        exists = key_places < end
        key_steps = tl.load(order + key_places, mask=exists, other=0)
        keys = gather(queries, key_steps, time_stride, exists, 0, DIM, BLOCK_DIM)
        key_norms = norms(keys)
        scores = products(
            queries, time_stride, steps, valid, queries, time_stride, key_steps, exists, DIM, BLOCK_DIM, PIECE, PRECISION
        )  # fmt: skip
        scores = seen_scores(
            scores * (scale / key_norms * LOG2E)[None, :],
            places[:, None], steps[:, None], key_places[None, :], key_steps[None, :], length, chunk_of, CHUNK, ROUNDS,
        )  # fmt: skip
        itself = places[:, None] == key_places[None, :]
        share = shares(scores, own_lse, itself, ROUNDS)
        share_grad = products(
            output_grads, output_time_stride, steps, valid, values, value_time_stride, key_steps, exists,
            VALUE_DIM, BLOCK_VALUE_DIM, VALUE_PIECE, PRECISION,
        )  # fmt: skip
        score_grad = tl.where(itself, 0.0, share * (share_grad - own_deltas))
        unit_keys = (keys.to(tl.float32) / key_norms[:, None]).to(keys.dtype)
        grad = tl.dot(score_grad.to(keys.dtype), unit_keys, grad, input_precision=PRECISION)

    key_grad = tl.zeros([ROWS, BLOCK_DIM], tl.float32)
    value_grad = tl.zeros([ROWS, BLOCK_VALUE_DIM], tl.float32)
    own_norms = norms(gather(queries, steps, time_stride, valid, 0, DIM, BLOCK_DIM))[:, None]
    end = tl.where(first < length, tl.minimum(last_end + CHUNK, length), 0)
    for block in range(chunk_start, end, COLUMNS):
        query_places = block + tl.arange(0, COLUMNS)
        exists = query_places < end
        query_steps = tl.load(order + query_places, mask=exists, other=0)
        their_queries = gather(queries, query_steps, time_stride, exists, 0, DIM, BLOCK_DIM)
        their_grads = gather(output_grads, query_steps, output_time_stride, exists, 0, VALUE_DIM, BLOCK_VALUE_DIM)
        their_lse = tl.load(lse + query_steps, mask=exists, other=0.0)[None, :]
        their_deltas = tl.load(deltas + query_steps, mask=exists, other=0.0)[None, :]
        scores = products(
            queries, time_stride, steps, valid, queries, time_stride, query_steps, exists, DIM, BLOCK_DIM, PIECE, PRECISION
        )  # fmt: skip
        scores = seen_scores(
            scores * (scale / own_norms * LOG2E),
            query_places[None, :], query_steps[None, :], places[:, None], steps[:, None], length, chunk_of, CHUNK, ROUNDS,
        )  # fmt: skip
        itself = places[:, None] == query_places[None, :]
        share = shares(scores, their_lse, itself, ROUNDS)
        value_grad = tl.dot(share.to(their_grads.dtype), their_grads, value_grad, input_precision=PRECISION)
        share_grad = products(
            values, value_time_stride, steps, valid, output_grads, output_time_stride, query_steps, exists,
            VALUE_DIM, BLOCK_VALUE_DIM, VALUE_PIECE, PRECISION,
        )  # fmt: skip
        score_grad = tl.where(itself, 0.0, share * (share_grad - their_deltas))
        key_grad = tl.dot(score_grad.to(their_queries.dtype), their_queries, key_grad, input_precision=PRECISION)

    # Read again rather than kept, which would spill.
    own_keys = gather(queries, steps, time_stride, valid, 0, DIM, BLOCK_DIM).to(tl.float32) / own_norms
    # Through k = q / |q|: what points along k is lost, unless the norm was too small and is a constant.
    along = tl.where(own_norms > SMALLEST_NORM, tl.sum(own_keys * key_grad, 1)[:, None], 0.0)
    grad = (grad + (key_grad - own_keys * along) / own_norms) * scale

    query_grads = group_start(query_grads, group, heads, query_grad_batch_stride, query_grad_head_stride)
    value_grads = group_start(value_grads, group, heads, value_grad_batch_stride, value_grad_head_stride)
    if ROUNDS > 1:
        query_sums += group.to(tl.int64) * time * DIM
        value_sums += group.to(tl.int64) * time * VALUE_DIM
    written = places < time
    grad, value_grad = tl.where(valid[:, None], grad, 0.0), tl.where(valid[:, None], value_grad, 0.0)
    add_and_store(
        grad, query_sums, query_grads, steps, query_grad_time_stride, written, FIRST, LAST, DIM, BLOCK_DIM
    )  # fmt: skip
    add_and_store(
        value_grad, value_sums, value_grads, steps, value_grad_time_stride, written, FIRST, LAST, VALUE_DIM, BLOCK_VALUE_DIM
    )  # fmt: skip


def backward_tile(dtype: torch.dtype, dim: int) -> Tile:
    """As `forward_tile`, but with sums of three gradients besides, and so with less of everything else."""
    if dtype == torch.float32:
        return Tile(rows=16, columns=32, piece=32 if dim <= 64 else 16, warps=8, stages=1)
    if dim <= 32:
        return Tile(rows=32, columns=32, piece=LARGEST_DIM, warps=8, stages=1)
    return Tile(rows=32, columns=64, piece=LARGEST_DIM, warps=4 if dim <= 64 else 8, stages=1)


def gradients(
    queries: Tensor, values: Tensor, lengths: Tensor | None, output: Tensor, lse: Tensor, order: Tensor, chunk_of: Tensor,
    output_grad: Tensor, chunk: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of queries and values, zero where padded, from what the operator of `asr.kernels.gpu.lsh` took and returned."""
    batch, heads, time, dim = queries.shape
    groups, rounds = order.shape[:2]
    value_dim = values.shape[3]
    query_grad = heads_last(batch, heads, time, dim, queries.dtype, queries.device)
    value_grad = heads_last(batch, heads, time, value_dim, values.dtype, values.device)
    deltas = torch.empty_like(lse)
    launch(
        delta_kernel, (cdiv(time, DELTA_ROWS), groups),
        outputs=output, batch_stride=output.stride(0), head_stride=output.stride(1), time_stride=output.stride(2),
        grads=output_grad, grad_batch_stride=output_grad.stride(0), grad_head_stride=output_grad.stride(1),
        grad_time_stride=output_grad.stride(2), lengths=lengths, deltas=deltas, heads=heads, time=time,
        VALUE_DIM=value_dim, BLOCK_VALUE_DIM=padded(value_dim), ROWS=DELTA_ROWS,
    )  # fmt: skip
    query_sums = value_sums = None
    if rounds > 1:
        query_sums = queries.new_empty(groups, time, dim, dtype=torch.float32)
        value_sums = values.new_empty(groups, time, value_dim, dtype=torch.float32)
    rows, columns, piece, warps, stages = backward_tile(queries.dtype, max(dim, value_dim))
    block_dim, block_value_dim = padded_dim(queries.dtype, dim), padded_dim(values.dtype, value_dim)
    # Round after round, so that sums are the same whenever they are taken.
    for this_round in range(rounds):
        launch(
            backward_kernel, (cdiv(time, rows), groups), warps=warps, stages=stages,
            queries=queries, batch_stride=queries.stride(0), head_stride=queries.stride(1), time_stride=queries.stride(2),
            values=values, value_batch_stride=values.stride(0), value_head_stride=values.stride(1),
            value_time_stride=values.stride(2), output_grads=output_grad, output_batch_stride=output_grad.stride(0),
            output_head_stride=output_grad.stride(1), output_time_stride=output_grad.stride(2),
            query_grads=query_grad, query_grad_batch_stride=query_grad.stride(0),
            query_grad_head_stride=query_grad.stride(1), query_grad_time_stride=query_grad.stride(2),
            value_grads=value_grad, value_grad_batch_stride=value_grad.stride(0),
            value_grad_head_stride=value_grad.stride(1), value_grad_time_stride=value_grad.stride(2),
            query_sums=query_sums, value_sums=value_sums, lengths=lengths, order=order, chunk_of=chunk_of, lse=lse,
            deltas=deltas, this_round=this_round, heads=heads, time=time, scale=dim**-0.5,
            CHUNK=chunk, ROUNDS=rounds, FIRST=this_round == 0, LAST=this_round == rounds - 1,
            DIM=dim, BLOCK_DIM=block_dim, VALUE_DIM=value_dim, BLOCK_VALUE_DIM=block_value_dim,
            PIECE=min(piece, block_dim), VALUE_PIECE=min(piece, block_value_dim),
            ROWS=rows, COLUMNS=columns, PRECISION=precision(queries.dtype),
        )  # fmt: skip
    return query_grad, value_grad

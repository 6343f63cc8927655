"""Top-k attention on a GPU: `asr::topk` and its backward pass.

Scores are never stored, only a bit for each of as many queries at a time as there is room for; what is kept for the backward
pass, the selected keys of every query, is linear in time. The backward pass adds nothing up in an order that can change.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import LOG2E, OF_LENGTH, group_length, group_start, tile
from asr.kernels.gpu.grouping import group_by
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
from asr.kernels.gpu.selection import MAXIMUM_TOPK, WORD, select_rows

# Bytes of what is needed to select, of fewer queries at a time than which there is nothing to gain; bytes of what the backward
# pass writes down for every selected key (label, place, weight, gradient: 4 each), of as many groups as that allows.
SCRATCH, FEWEST_QUERIES = 1 << 28, 128
ENTRIES_BYTES, ENTRY_BYTES = 1 << 28, 16
# Keys of a bin that entries are sorted into, unless that makes too many bins.
BIN, MOST_BINS = 64, 1024
# Elements of fetched rows that a warp holds.
HELD = 2048


@triton.jit(do_not_specialize=[*OF_LENGTH, "first_group"])
def weighted_values_kernel(
    values, values_batch, values_head, values_time, output, output_batch, output_head, output_time,
    selected, weights, time, heads,
    VALUE_DIM: tl.constexpr, BLOCK_VALUE_DIM: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """One query's selected values, added up by weight; zeros if it selected nothing."""
    query, group = tl.program_id(0), tl.program_id(1)
    columns = tl.arange(0, BLOCK_VALUE_DIM)
    here = (group.to(tl.int64) * time + query) * SLOTS + tl.arange(0, SLOTS)
    key, weight = tl.load(selected + here), tl.load(weights + here)
    values = group_start(values, group, heads, values_batch, values_head)
    output = group_start(output, group, heads, output_batch, output_head)
    z = tl.load(
        tile(values, key, values_time, columns), mask=(key >= 0)[:, None] & (columns < VALUE_DIM)[None, :], other=0.0
    )
    mean = tl.sum(z.to(tl.float32) * weight[:, None], 0)
    tl.store(output + query * output_time + columns, mean.to(output.dtype.element_ty), mask=columns < VALUE_DIM)


@triton.jit(do_not_specialize=[*OF_LENGTH, "first_group"])
def query_gradient_kernel(
    grad, grad_batch, grad_head, grad_time, queries, queries_batch, queries_head, queries_time,
    keys, keys_batch, keys_head, keys_time, values, values_batch, values_head, values_time, lengths, selected,
    grad_queries, grad_queries_batch, grad_queries_head, grad_queries_time, weights, grad_scores,
    first_group, time, heads, scale,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_VALUE_DIM: tl.constexpr,
    SLOTS: tl.constexpr,
):  # fmt: skip
    """One query's gradient, and for each of its keys the attention and the gradient of the scaled score."""
    query, slice_group = tl.program_id(0), tl.program_id(1)
    group = first_group + slice_group
    columns, value_columns = tl.arange(0, BLOCK_DIM), tl.arange(0, BLOCK_VALUE_DIM)
    here = (slice_group.to(tl.int64) * time + query) * SLOTS + tl.arange(0, SLOTS)
    key = tl.load(selected + here)
    exists = key >= 0
    valid = query < group_length(lengths, group, heads, time)
    grad = group_start(grad, group, heads, grad_batch, grad_head)
    queries = group_start(queries, group, heads, queries_batch, queries_head)
    keys = group_start(keys, group, heads, keys_batch, keys_head)
    values = group_start(values, group, heads, values_batch, values_head)
    grad_queries = group_start(grad_queries, group, heads, grad_queries_batch, grad_queries_head)
    x = tl.load(queries + query * queries_time + columns, mask=(columns < DIM) & valid, other=0.0).to(tl.float32)
    d = tl.load(grad + query * grad_time + value_columns, mask=(value_columns < VALUE_DIM) & valid, other=0.0)
    y = tl.load(tile(keys, key, keys_time, columns), mask=exists[:, None] & (columns < DIM)[None, :], other=0.0)
    z = tl.load(
        tile(values, key, values_time, value_columns),
        mask=exists[:, None] & (value_columns < VALUE_DIM)[None, :],
        other=0.0,
    )
    y = y.to(tl.float32)
    score = tl.where(exists, tl.sum(y * x[None, :], 1) * (scale * LOG2E), -float("inf"))
    peak = tl.max(score, 0)
    weight = tl.exp2(score - tl.where(peak > -float("inf"), peak, 0.0))
    total = tl.sum(weight, 0)
    weight = weight / tl.where(total > 0, total, 1.0)
    grad_weight = tl.sum(z.to(tl.float32) * d.to(tl.float32)[None, :], 1)
    grad_score = weight * (grad_weight - tl.sum(weight * grad_weight, 0))
    tl.store(weights + here, weight)
    tl.store(grad_scores + here, grad_score)
    grad_query = tl.sum(y * grad_score[:, None], 0) * scale
    grad_queries += query * grad_queries_time
    tl.store(grad_queries + columns, grad_query.to(grad_queries.dtype.element_ty), mask=columns < DIM)


@triton.jit(do_not_specialize=[*OF_LENGTH, "first_group"])
def key_gradients_kernel(
    grad, grad_batch, grad_head, grad_time, queries, queries_batch, queries_head, queries_time,
    selected, weights, grad_scores, order, start,
    grad_keys, grad_keys_batch, grad_keys_head, grad_keys_time,
    grad_values, grad_values_batch, grad_values_head, grad_values_time,
    first_group, items, time, heads, bins, keys_per_bin, scale,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_VALUE_DIM: tl.constexpr,
    SLOTS: tl.constexpr, KEYS: tl.constexpr, ENTRIES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of a few keys and values: the sums over all that selected them, which are the entries of their bin.

    An entry is a query and the slot in which it selected; a matrix with one number in each column takes it to its key.
    """
    tile_of_keys, slice_group = tl.program_id(0), tl.program_id(1)
    group, first = first_group + slice_group, slice_group.to(tl.int64) * items
    key, columns = tile_of_keys * KEYS + tl.arange(0, KEYS), tl.arange(0, BLOCK_DIM)
    value_columns = tl.arange(0, BLOCK_VALUE_DIM)
    grad = group_start(grad, group, heads, grad_batch, grad_head)
    queries = group_start(queries, group, heads, queries_batch, queries_head)
    grad_keys = group_start(grad_keys, group, heads, grad_keys_batch, grad_keys_head)
    grad_values = group_start(grad_values, group, heads, grad_values_batch, grad_values_head)
    start += slice_group.to(tl.int64) * (bins + 1) + tile_of_keys * KEYS // keys_per_bin
    begin, end = tl.load(start), tl.load(start + 1)
    key_sums = tl.zeros([KEYS, BLOCK_DIM], tl.float32)
    value_sums = tl.zeros([KEYS, BLOCK_VALUE_DIM], tl.float32)
    for offset in range(begin, end, ENTRIES):
        place = offset + tl.arange(0, ENTRIES)
        exists = place < end
        entry = tl.load(order + first + place, mask=exists, other=0)
        chosen = tl.load(selected + first + entry, mask=exists, other=-1)
        weight = tl.load(weights + first + entry, mask=exists, other=0.0)
        grad_score = tl.load(grad_scores + first + entry, mask=exists, other=0.0)
        query = entry // SLOTS
        x = tl.load(
            tile(queries, query, queries_time, columns), mask=exists[:, None] & (columns < DIM)[None, :], other=0.0
        )
        d = tl.load(
            tile(grad, query, grad_time, value_columns),
            mask=exists[:, None] & (value_columns < VALUE_DIM)[None, :],
            other=0.0,
        )
        mine = key[:, None] == chosen[None, :]
        to_keys = tl.where(mine, grad_score[None, :], 0.0).to(x.dtype)
        to_values = tl.where(mine, weight[None, :], 0.0).to(d.dtype)
        key_sums = tl.dot(to_keys, x, key_sums, input_precision=PRECISION)
        value_sums = tl.dot(to_values, d, value_sums, input_precision=PRECISION)
    stored = (key < time)[:, None]
    tl.store(
        tile(grad_keys, key, grad_keys_time, columns),
        (key_sums * scale).to(grad_keys.dtype.element_ty),
        mask=stored & (columns < DIM)[None, :],
    )
    tl.store(
        tile(grad_values, key, grad_values_time, value_columns),
        value_sums.to(grad_values.dtype.element_ty),
        mask=stored & (value_columns < VALUE_DIM)[None, :],
    )


def strides(name: str, x: Tensor) -> dict[str, int]:
    """What kernels call a tensor's strides."""
    return {f"{name}_batch": x.stride(0), f"{name}_head": x.stride(1), f"{name}_time": x.stride(2)}


def warps_for(slots: int, dim: int) -> int:
    """Of a program that fetches a row of this dim for every slot."""
    return min(max(padded(slots) * padded(dim) // HELD, 1), 8)


def weigh_values(values: Tensor, selected: Tensor, weights: Tensor, output: Tensor) -> None:
    """Writes output (batch, heads, queries' time, value dim); selected and weights: (groups, queries' time, slots)."""
    heads, value_dim, slots = values.shape[1], values.shape[3], selected.shape[2]
    launch(
        weighted_values_kernel, (selected.shape[1], selected.shape[0]), warps=warps_for(slots, value_dim),
        values=values, **strides("values", values), output=output, **strides("output", output),
        selected=selected, weights=weights, time=selected.shape[1], heads=heads,
        VALUE_DIM=value_dim, BLOCK_VALUE_DIM=padded(value_dim), SLOTS=slots,
    )  # fmt: skip


@torch.library.custom_op("asr::topk", mutates_args=())
def topk_op(
    queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None, topk: int
) -> tuple[Tensor, Tensor]:
    """Output, and the selected keys (groups, queries' time, padded(topk)) int32, -1 in slots that are left."""
    queries, keys, values = along_dim(queries), along_dim(keys), along_dim(values)
    batch, heads, time, _ = queries.shape
    output = heads_last(batch, heads, time, values.shape[3], values.dtype, values.device)
    # Its marks, its pool, and its maxima of two parts of the keys.
    scratch_of_query = cdiv(keys.shape[2], WORD.value) * 4 + 8 * max(64, 2 * padded(topk)) + 4 * 128 * 2
    chunk = max(SCRATCH // (batch * heads * scratch_of_query) // FEWEST_QUERIES, 1) * FEWEST_QUERIES
    parts = []
    for first in range(0, time, chunk):
        some = slice(first, min(first + chunk, time))
        lengths_left = None if lengths is None else lengths - first
        selected, weights = select_rows(queries[:, :, some], keys, lengths_left, key_lengths, topk)
        weigh_values(values, selected, weights, output[:, :, some])
        parts.append(selected)
    return output, parts[0] if len(parts) == 1 else torch.cat(parts, 1)


@topk_op.register_fake
def _(
    queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None, topk: int
) -> tuple[Tensor, Tensor]:
    batch, heads, time, _ = queries.shape
    output = heads_last(batch, heads, time, values.shape[3], values.dtype, values.device)
    return output, queries.new_empty(batch * heads, time, padded(topk), dtype=torch.int32)


@torch.library.custom_op("asr::topk_backward", mutates_args=())
def topk_backward_op(
    grad: Tensor, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, selected: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values for the fixed selection; zero at padded steps."""
    grad, queries, keys, values = along_dim(grad), along_dim(queries), along_dim(keys), along_dim(values)
    gradients = heads_last_like(queries), heads_last_like(keys), heads_last_like(values)
    groups, time, slots = selected.shape
    at_once = max(ENTRIES_BYTES // (time * slots * ENTRY_BYTES), 1)
    for first in range(0, groups, at_once):
        _slice_gradients(grad, queries, keys, values, lengths, selected[first : first + at_once], first, *gradients)
    return gradients


def _slice_gradients(
    grad: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor | None,
    selected: Tensor,
    first_group: int,
    grad_queries: Tensor,
    grad_keys: Tensor,
    grad_values: Tensor,
) -> None:
    """The gradients of the groups from `first_group` on that `selected` is of."""
    groups, time, slots = selected.shape
    heads, dim, value_dim, keys_time = queries.shape[1], queries.shape[3], values.shape[3], keys.shape[2]
    shapes = {
        "DIM": dim, "BLOCK_DIM": padded(dim), "VALUE_DIM": value_dim, "BLOCK_VALUE_DIM": padded(value_dim), "SLOTS": slots,
    }  # fmt: skip
    weights, grad_scores = (torch.empty(selected.shape, device=grad.device) for _ in range(2))
    launch(
        query_gradient_kernel, (time, groups), warps=warps_for(slots, max(dim, value_dim)),
        grad=grad, **strides("grad", grad), queries=queries, **strides("queries", queries),
        keys=keys, **strides("keys", keys), values=values, **strides("values", values), lengths=lengths, selected=selected,
        grad_queries=grad_queries, **strides("grad_queries", grad_queries), weights=weights, grad_scores=grad_scores,
        first_group=first_group, time=time, heads=heads, scale=dim**-0.5, **shapes,
    )  # fmt: skip
    shift = BIN.bit_length() - 1
    while cdiv(keys_time, 1 << shift) > MOST_BINS:
        shift += 1
    bins = cdiv(keys_time, 1 << shift)
    # An arithmetic shift: -1 stays negative, and such slots are in no bin.
    order, start = group_by((selected >> shift).flatten(1), bins)
    block, columns, warps = key_tiles(grad.dtype, max(dim, value_dim))
    shapes |= {"BLOCK_DIM": max(padded(dim), columns), "BLOCK_VALUE_DIM": max(padded(value_dim), columns)}
    launch(
        key_gradients_kernel, (cdiv(keys_time, block), groups), warps=warps,
        grad=grad, **strides("grad", grad), queries=queries, **strides("queries", queries),
        selected=selected, weights=weights, grad_scores=grad_scores, order=order, start=start,
        grad_keys=grad_keys, **strides("grad_keys", grad_keys),
        grad_values=grad_values, **strides("grad_values", grad_values),
        first_group=first_group, items=time * slots, time=keys_time, heads=heads, bins=bins, keys_per_bin=1 << shift,
        scale=dim**-0.5, **shapes, KEYS=block, ENTRIES=block, PRECISION=precision(grad.dtype),
    )  # fmt: skip


def key_tiles(dtype: torch.dtype, dim: int) -> tuple[int, int, int]:
    """Keys whose gradients a program adds up, which divide a bin; the fewest columns; its warps. What spills no registers.

    Eight warps on few rows share out the columns; with fewer than 64 they hold the same ones.
    """
    if dtype == torch.float32:
        return 32, 64, 8
    return 64, 16, 8 if padded(dim) > 64 else 4


@topk_backward_op.register_fake
def _(grad: Tensor, queries: Tensor, keys: Tensor, values: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return heads_last_like(queries), heads_last_like(keys), heads_last_like(values)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    # Without this the backward pass is handed zeros for the selection.
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs[:4], output[1])


def _backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    return *topk_backward_op(grad, *ctx.saved_tensors), None, None, None


topk_op.register_autograd(_backward, setup_context=_keep)


def topk_attention(
    queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None, topk: int
) -> Tensor:
    """As `asr.kernels.topk.topk_attention`; padded steps may hold anything."""
    # Only if it must be: what depends on the time is compiled for every time.
    topk = topk if topk <= MAXIMUM_TOPK else min(topk, keys.shape[2])
    return topk_op(queries, keys, values, in_row(lengths), in_row(key_lengths), topk)[0]


def refusal(
    queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None, topk: int
) -> str | None:
    """Why the kernels do not cover these arguments, in a sentence; None if they do."""
    refused = refusal_of(queries=queries, keys=keys, values=values)
    if refused is not None:
        return refused
    if queries.shape[2] * queries.shape[1] * max(values.shape[3], padded(min(topk, MAXIMUM_TOPK))) > LARGEST_OFFSET:
        return f"queries has time {queries.shape[2]}, too long for the 32-bit offsets of Triton kernels"
    if min(topk, keys.shape[2]) > MAXIMUM_TOPK:
        return f"topk is {topk}, expected at most {MAXIMUM_TOPK} for Triton kernels"
    return None

"""Every query's own attention to its cluster's top keys (eqs. 10-11), and its gradient."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import LOG2E, OF_LENGTH, group_length, group_start, rounded_to, tile
from asr.kernels.gpu.launch import (
    capability_of,
    dtype_of_sums,
    heads_last,
    launch,
    multiplies_in_warpgroups,
    padded,
    precision,
)
from asr.kernels.gpu.selection import Attended


@triton.jit
def own_attention(queries, keys, selected, score_scale, PRECISION: tl.constexpr):
    """softmax over the selected keys: queries (members, dim), keys (topk, dim), selected (topk,) -> (members, topk)."""
    scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * score_scale
    scores = tl.where((selected >= 0)[None, :], scores, -float("inf"))
    # A cluster without keys has no highest score, and no weights to give.
    highest = tl.max(scores, 1)
    scores = tl.exp2(scores - tl.where(highest == -float("inf"), 0.0, highest)[:, None])
    return scores / tl.maximum(tl.sum(scores, 1), 1e-30)[:, None]


@triton.jit(do_not_specialize=OF_LENGTH)
def member_kernel(
    queries, query_batch_stride, query_head_stride, query_time_stride, keys, key_batch_stride, key_head_stride,
    key_time_stride, values, value_batch_stride, value_head_stride, value_time_stride, output, output_batch_stride,
    output_head_stride, output_time_stride, lengths, order, start, attended, selected, weights, mass, score_scale, heads,
    time, clusters,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_VALUE_DIM: tl.constexpr,
    TOPK: tl.constexpr, MEMBERS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program per cluster, whose top keys and values it holds; one more per group writes zeros where it is padded."""
    cluster, group = tl.program_id(0), tl.program_id(1)
    columns, value_columns, slots = tl.arange(0, BLOCK_DIM), tl.arange(0, BLOCK_VALUE_DIM), tl.arange(0, TOPK)
    exists, value_exists = columns < DIM, value_columns < VALUE_DIM
    target = group_start(output, group, heads, output_batch_stride, output_head_stride)
    if cluster == clusters:
        length = group_length(lengths, group, heads, time)
        for first in range(length, time, MEMBERS):
            steps = first + tl.arange(0, MEMBERS)
            nothing = tl.zeros([MEMBERS, BLOCK_VALUE_DIM], output.dtype.element_ty)
            inside = (steps < time)[:, None] & value_exists[None, :]
            tl.store(tile(target, steps, output_time_stride, value_columns), nothing, mask=inside)
    else:
        row = group.to(tl.int64) * clusters + cluster
        key = tl.load(selected + row * TOPK + slots)
        top_weights = tl.load(weights + row * TOPK + slots)
        top_mass = tl.load(mass + row)
        mean_values = tl.load(attended + row * VALUE_DIM + value_columns, mask=value_exists, other=0.0)
        source = group_start(keys, group, heads, key_batch_stride, key_head_stride)
        mask = (key >= 0)[:, None]
        top_keys = tl.load(tile(source, key, key_time_stride, columns), mask=mask & exists[None, :], other=0.0)
        source = group_start(values, group, heads, value_batch_stride, value_head_stride)
        mask = mask & value_exists[None, :]
        top_values = tl.load(tile(source, key, value_time_stride, value_columns), mask=mask, other=0.0)
        source = group_start(queries, group, heads, query_batch_stride, query_head_stride)
        begin = tl.load(start + group * (clusters + 1) + cluster)
        end = tl.load(start + group * (clusters + 1) + cluster + 1)
        order += group.to(tl.int64) * time
        for place in range(begin, end, MEMBERS):
            places = place + tl.arange(0, MEMBERS)
            member = tl.load(order + places, mask=places < end, other=0)
            valid = (places < end)[:, None]
            x = tl.load(tile(source, member, query_time_stride, columns), mask=valid & exists[None, :], other=0.0)
            shares = own_attention(x, top_keys, key, score_scale, PRECISION) * top_mass - top_weights[None, :]
            result = tl.dot(shares.to(top_values.dtype), top_values, input_precision=PRECISION) + mean_values[None, :]
            rows = tile(target, member, output_time_stride, value_columns)
            tl.store(rows, result.to(output.dtype.element_ty), mask=valid & value_exists[None, :])


@triton.jit(do_not_specialize=OF_LENGTH)
def member_backward_kernel(
    queries, query_batch_stride, query_head_stride, query_time_stride, keys, key_batch_stride, key_head_stride,
    key_time_stride, values, value_batch_stride, value_head_stride, value_time_stride, grad, grad_batch_stride,
    grad_head_stride, grad_time_stride, grad_queries, grad_query_batch_stride, grad_query_head_stride,
    grad_query_time_stride, order, start, means, attended, selected, weights, mass, grad_sums, shifts, grad_top_keys,
    grad_top_values, grad_means, scale, score_scale, heads, time, clusters,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_VALUE_DIM: tl.constexpr,
    TOPK: tl.constexpr, MEMBERS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of `member_kernel`, and what makes the top keys' part of the centroids' gradient right.

    Their backward pass treats all keys alike, as if the output were A^c V. For a top key l it is not: there the gradient of
    A^c_l is that of the mass, and A^c_l V_l is not in the output. The differences go along with the top keys' gradients.
    """
    cluster, group = tl.program_id(0), tl.program_id(1)
    columns, value_columns, slots = tl.arange(0, BLOCK_DIM), tl.arange(0, BLOCK_VALUE_DIM), tl.arange(0, TOPK)
    exists, value_exists = columns < DIM, value_columns < VALUE_DIM
    row = group.to(tl.int64) * clusters + cluster
    key = tl.load(selected + row * TOPK + slots)
    top_mass = tl.load(mass + row)
    source = group_start(keys, group, heads, key_batch_stride, key_head_stride)
    mask = (key >= 0)[:, None]
    top_keys = tl.load(tile(source, key, key_time_stride, columns), mask=mask & exists[None, :], other=0.0)
    source = group_start(values, group, heads, value_batch_stride, value_head_stride)
    mask = mask & value_exists[None, :]
    top_values = tl.load(tile(source, key, value_time_stride, value_columns), mask=mask, other=0.0)
    source = group_start(queries, group, heads, query_batch_stride, query_head_stride)
    grad_source = group_start(grad, group, heads, grad_batch_stride, grad_head_stride)
    target = group_start(grad_queries, group, heads, grad_query_batch_stride, grad_query_head_stride)
    begin = tl.load(start + group * (clusters + 1) + cluster)
    end = tl.load(start + group * (clusters + 1) + cluster + 1)
    order += group.to(tl.int64) * time
    # What only the end needs: on its way while the members are attended for.
    top_weights = tl.load(weights + row * TOPK + slots)
    mean_values = tl.load(attended + row * VALUE_DIM + value_columns, mask=value_exists, other=0.0)
    mean = tl.load(means + row * DIM + columns, mask=exists, other=0.0).to(tl.float32)
    grad_key = tl.zeros([TOPK, BLOCK_DIM], tl.float32)
    grad_value = tl.zeros([TOPK, BLOCK_VALUE_DIM], tl.float32)
    grad_sum = tl.zeros([BLOCK_VALUE_DIM], tl.float32)
    grad_mass = tl.zeros([MEMBERS], tl.float32)
    for place in range(begin, end, MEMBERS):
        places = place + tl.arange(0, MEMBERS)
        member = tl.load(order + places, mask=places < end, other=0)
        valid = (places < end)[:, None]
        inside = valid & exists[None, :]
        x = tl.load(tile(source, member, query_time_stride, columns), mask=inside, other=0.0)
        of_values = valid & value_exists[None, :]
        outgoing = tl.load(tile(grad_source, member, grad_time_stride, value_columns), mask=of_values, other=0.0)
        shares = own_attention(x, top_keys, key, score_scale, PRECISION)
        along = tl.dot(outgoing, tl.trans(top_values), input_precision=PRECISION)
        average = tl.sum(shares * along, 1)
        shares = shares * top_mass
        grad_scores = (shares * (along - average[:, None]) * scale).to(top_keys.dtype)
        grad_query = tl.dot(grad_scores, top_keys, input_precision=PRECISION)
        query_rows = tile(target, member, grad_query_time_stride, columns)
        tl.store(query_rows, grad_query.to(grad_queries.dtype.element_ty), mask=inside)
        grad_key = tl.dot(tl.trans(grad_scores), x, grad_key, input_precision=PRECISION)
        grad_value = tl.dot(tl.trans(shares.to(outgoing.dtype)), outgoing, grad_value, input_precision=PRECISION)
        grad_sum += tl.sum(outgoing.to(tl.float32), 0)
        grad_mass += average
    # As the centroids' backward pass will read it.
    grad_sum = rounded_to(grad_sum, grad.dtype.element_ty)
    tl.store(grad_sums + row * VALUE_DIM + value_columns, grad_sum.to(grad_sums.dtype.element_ty), mask=value_exists)
    grad_of_mass = tl.sum(grad_mass, 0)
    along = tl.sum(top_values.to(tl.float32) * grad_sum[None, :], 1)
    shift = tl.sum(grad_sum * mean_values, 0) - tl.sum(top_weights * along, 0) + top_mass * grad_of_mass
    tl.store(shifts + row, shift)
    difference = top_weights * (grad_of_mass - along) * scale
    grad_key += difference[:, None] * mean[None, :]
    grad_value -= top_weights[:, None] * grad_sum[None, :]
    grad_mean = tl.sum(difference[:, None] * top_keys.to(tl.float32), 0)
    tl.store(grad_means + row * DIM + columns, grad_mean, mask=exists)
    rows = tile(grad_top_keys + row * TOPK * DIM, slots, DIM, columns)
    tl.store(rows, grad_key.to(grad_top_keys.dtype.element_ty), mask=exists[None, :])
    rows = tile(grad_top_values + row * TOPK * VALUE_DIM, slots, VALUE_DIM, value_columns)
    tl.store(rows, grad_value.to(grad_top_values.dtype.element_ty), mask=value_exists[None, :])


def member_tile(time: int, clusters: int, most: int) -> int:
    """Members that are attended for at a time: about an average cluster."""
    return min(most, 64 if time > 32 * clusters else 32 if time > 16 * clusters else 16)


def backward_tiles(
    time: int, clusters: int, topk: int, dim: int, element_size: int, capability: int
) -> tuple[int, int, str]:
    """(members, warps, precision) of the backward pass: the largest that compile without spilling registers."""
    if element_size == 4:
        # Four warps load less shared memory for the same products, but hold only so much of the top keys' gradients.
        held = 32 * 64 if capability in (80, 90) else 16 * 64
        return 16, 4 if dim <= 64 and topk * dim <= held else 8, "ieee"
    if dim > 64:
        return 16, 4, "tf32"
    return member_tile(time, clusters, 64 if multiplies_in_warpgroups(capability) else 32), 4, "tf32"


def member_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor | None,
    order: Tensor,
    start: Tensor,
    attended: Attended,
) -> Tensor:
    """The output of improved clustered attention, zeros at padded queries: (batch, heads, queries' time, value dim).

    queries: (batch, heads, queries' time, dim), keys and values as usual; order, start: the clusters' members, from
    `group_by`; attended: what the clusters' means attend to.
    """
    assert attended.selected is not None
    batch, heads, time, dim = queries.shape
    value_dim, clusters = values.shape[3], start.shape[1] - 1
    output = heads_last(batch, heads, time, value_dim, values.dtype, values.device)
    block_dim, block_value_dim = padded(dim), padded(value_dim)
    launch(
        member_kernel, (clusters + (lengths is not None), batch * heads),
        queries=queries, query_batch_stride=queries.stride(0), query_head_stride=queries.stride(1),
        query_time_stride=queries.stride(2), keys=keys, key_batch_stride=keys.stride(0), key_head_stride=keys.stride(1),
        key_time_stride=keys.stride(2), values=values, value_batch_stride=values.stride(0),
        value_head_stride=values.stride(1), value_time_stride=values.stride(2), output=output,
        output_batch_stride=output.stride(0), output_head_stride=output.stride(1), output_time_stride=output.stride(2),
        lengths=lengths, order=order, start=start, attended=attended.output, selected=attended.selected,
        weights=attended.weights, mass=attended.mass, score_scale=dim**-0.5 * LOG2E.value, heads=heads, time=time,
        clusters=clusters, DIM=dim, BLOCK_DIM=block_dim, VALUE_DIM=value_dim, BLOCK_VALUE_DIM=block_value_dim,
        TOPK=attended.selected.shape[2], PRECISION=precision(queries.dtype),
        MEMBERS=member_tile(time, clusters, 64 if max(block_dim, block_value_dim) <= 64 and queries.element_size() < 4 else 32),
    )  # fmt: skip
    return output


def member_gradients(
    grad: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    order: Tensor,
    start: Tensor,
    means: Tensor,
    attended: Attended,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `member_attention`: of queries (at valid steps only), and per cluster what its centroid needs.

    Returns grad_queries (batch, heads, queries' time, dim); the sums of outgoing gradients (groups, clusters, value dim);
    shifts (groups, clusters) float32, what is subtracted from the gradients of A^c before the softmax's own factor;
    gradients of top keys (groups, clusters, topk, dim) and values (..., value dim); and of means (groups, clusters, dim)
    float32, their top keys' part. Sums and gradients of top keys and values are of `dtype_of_sums`.
    """
    assert attended.selected is not None
    batch, heads, time, dim = queries.shape
    groups, clusters, topk = attended.selected.shape
    value_dim = values.shape[3]
    grad_queries = heads_last(batch, heads, time, dim, queries.dtype, queries.device)
    grad_sums = values.new_empty(groups, clusters, value_dim, dtype=dtype_of_sums(values.dtype))
    shifts, grad_means = (
        means.new_empty(groups, clusters, dtype=attended.lse.dtype),
        attended.lse.new_empty(groups, clusters, dim),
    )
    grad_top_keys, grad_top_values = (
        grad_sums.new_empty(groups, clusters, topk, dim),
        grad_sums.new_empty(groups, clusters, topk, value_dim),
    )
    block_dim, block_value_dim = padded(dim), padded(value_dim)
    members, warps, rounding = backward_tiles(
        time, clusters, topk, max(block_dim, block_value_dim), queries.element_size(), capability_of(queries.device)
    )
    launch(
        member_backward_kernel, (clusters, groups),
        queries=queries, query_batch_stride=queries.stride(0), query_head_stride=queries.stride(1),
        query_time_stride=queries.stride(2), keys=keys, key_batch_stride=keys.stride(0), key_head_stride=keys.stride(1),
        key_time_stride=keys.stride(2), values=values, value_batch_stride=values.stride(0),
        value_head_stride=values.stride(1), value_time_stride=values.stride(2), grad=grad,
        grad_batch_stride=grad.stride(0), grad_head_stride=grad.stride(1), grad_time_stride=grad.stride(2),
        grad_queries=grad_queries, grad_query_batch_stride=grad_queries.stride(0),
        grad_query_head_stride=grad_queries.stride(1), grad_query_time_stride=grad_queries.stride(2),
        order=order, start=start, means=means, attended=attended.output, selected=attended.selected,
        weights=attended.weights, mass=attended.mass, grad_sums=grad_sums, shifts=shifts, grad_top_keys=grad_top_keys,
        grad_top_values=grad_top_values, grad_means=grad_means, scale=dim**-0.5, score_scale=dim**-0.5 * LOG2E.value,
        heads=heads, time=time, clusters=clusters, DIM=dim, BLOCK_DIM=block_dim, VALUE_DIM=value_dim,
        BLOCK_VALUE_DIM=block_value_dim, TOPK=topk, PRECISION=rounding, MEMBERS=members, warps=warps, stages=1,
    )  # fmt: skip
    return grad_queries, grad_sums, shifts, grad_top_keys, grad_top_values, grad_means

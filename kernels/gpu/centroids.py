"""The gradient of the clusters' attention to all keys (eqs. 4-5), complete for keys and values."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import LOG2E, OF_LENGTH, group_length, group_start, tile
from asr.kernels.gpu.grouping import group_by
from asr.kernels.gpu.launch import capability_of, cdiv, heads_last, launch, multiplies_in_warpgroups, padded

MAXIMUM_BINS = 1024
# Programs that run at a time on an H100, two on each processor; elsewhere the same numbers are a little less even.
PROCESSORS, RESIDENT = 132, 264
MOST_PARTS = 16


class TopGradients(NamedTuple):
    """What the members' backward pass leaves for the top keys of their clusters.

    selected: (groups, clusters, topk) int32, -1 where there is none; keys: (groups, clusters, topk, dim) and values:
    (groups, clusters, topk, value dim), to be added to the gradients of the selected.
    """

    selected: Tensor
    keys: Tensor
    values: Tensor


@triton.jit
def fitting_unit(largest):
    """A power of two by which numbers up to `largest` are at most 256: in float16, their products with values fit as well."""
    bits = tl.maximum(largest, 1e-30).to(tl.int32, bitcast=True)
    return ((bits & 0x7F800000) - (7 << 23)).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=OF_LENGTH)
def centroid_backward_kernel(
    means, keys, key_batch_stride, key_head_stride, key_time_stride, values, value_batch_stride, value_head_stride,
    value_time_stride, grad_sums, lse, shifts, selected, order, start, grad_top_keys, grad_top_values, key_lengths,
    grad_keys, grad_key_batch_stride, grad_key_head_stride, grad_key_time_stride, grad_values, grad_value_batch_stride,
    grad_value_head_stride, grad_value_time_stride, grad_means, scale, score_scale, heads, time, clusters, first_cluster,
    keys_each, entries, bins, keys_per_bin,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_VALUE_DIM: tl.constexpr,
    CLUSTERS: tl.constexpr, KEYS: tl.constexpr, ENTRIES: tl.constexpr, FIRST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Over a part of the keys, with a block of clusters held: their gradients, and the clusters' share from these keys.

    The first block of clusters also adds what `order` lists for a key; later ones add to what is there.
    """
    part, group = tl.program_id(0), tl.program_id(1)
    cluster = first_cluster + tl.arange(0, CLUSTERS)
    columns, value_columns = tl.arange(0, BLOCK_DIM), tl.arange(0, BLOCK_VALUE_DIM)
    exists, value_exists = columns < DIM, value_columns < VALUE_DIM
    length = group_length(key_lengths, group, heads, time)
    row = group.to(tl.int64) * clusters
    known = cluster < clusters
    mean = tl.load(tile(means + row * DIM, cluster, DIM, columns), mask=known[:, None] & exists[None, :], other=0.0)
    mask = known[:, None] & value_exists[None, :]
    outgoing = tl.load(tile(grad_sums + row * VALUE_DIM, cluster, VALUE_DIM, value_columns), mask=mask, other=0.0)
    total = tl.load(lse + row + cluster, mask=known, other=float("inf"))[:, None]
    shift = tl.load(shifts + row + cluster, mask=known, other=0.0)[:, None]
    unit = 1.0
    if keys.dtype.element_ty == tl.float16:
        # Sums beyond the range of float16: all that follows is of these gradients in such units.
        unit = fitting_unit(tl.max(tl.max(tl.abs(outgoing), 1), 0))
        outgoing = (outgoing / unit).to(tl.float16)
        shift = shift / unit
    key_source = group_start(keys, group, heads, key_batch_stride, key_head_stride)
    value_source = group_start(values, group, heads, value_batch_stride, value_head_stride)
    key_target = group_start(grad_keys, group, heads, grad_key_batch_stride, grad_key_head_stride)
    value_target = group_start(grad_values, group, heads, grad_value_batch_stride, grad_value_head_stride)
    grad_mean = tl.zeros([CLUSTERS, BLOCK_DIM], tl.float32)
    for begin in range(part * keys_each, tl.minimum(time, (part + 1) * keys_each), KEYS):
        step = begin + tl.arange(0, KEYS)
        valid, inside = (step < length)[:, None], (step < time)[:, None]
        if FIRST:
            if order is not None:
                first = tl.load(start + group * (bins + 1) + begin // keys_per_bin)
                last = tl.load(start + group * (bins + 1) + begin // keys_per_bin + 1)
        key = tl.load(tile(key_source, step, key_time_stride, columns), mask=valid & exists[None, :], other=0.0)
        of_values = valid & value_exists[None, :]
        value = tl.load(tile(value_source, step, value_time_stride, value_columns), mask=of_values, other=0.0)
        scores = tl.dot(mean, tl.trans(key), input_precision=PRECISION) * score_scale
        weights = tl.where((step < length)[None, :], tl.exp2(scores - total), 0.0)
        along = tl.dot(outgoing, tl.trans(value), input_precision=PRECISION)
        grad_scores = (weights * (along - shift)).to(key.dtype)
        grad_value = tl.dot(tl.trans(weights.to(outgoing.dtype)), outgoing, input_precision=PRECISION)
        grad_key = tl.dot(tl.trans(grad_scores), mean, input_precision=PRECISION) * (scale * unit)
        if keys.dtype.element_ty == tl.float16:
            grad_value = grad_value * unit
        grad_mean = tl.dot(grad_scores, key, grad_mean, input_precision=PRECISION)
        if FIRST:
            if order is not None:
                for listed in range(first, last, ENTRIES):
                    places = listed + tl.arange(0, ENTRIES)
                    entry = tl.load(order + group.to(tl.int64) * entries + places, mask=places < last, other=0)
                    whose = tl.load(selected + group.to(tl.int64) * entries + entry, mask=places < last, other=-1)
                    mine = step[:, None] == whose[None, :]
                    entry_row = group.to(tl.int64) * entries + entry
                    # Entries of the bin's other tiles are not loaded, and match nothing.
                    here = ((whose >= begin) & (whose < begin + KEYS))[:, None]
                    entry_rows = grad_top_keys + entry_row[:, None] * DIM + columns[None, :]
                    of_key = tl.load(entry_rows, mask=here & exists[None, :], other=0.0)
                    grad_key = tl.dot(mine.to(of_key.dtype), of_key, grad_key, input_precision=PRECISION)
                    entry_rows = grad_top_values + entry_row[:, None] * VALUE_DIM + value_columns[None, :]
                    of_value = tl.load(entry_rows, mask=here & value_exists[None, :], other=0.0)
                    grad_value = tl.dot(mine.to(of_value.dtype), of_value, grad_value, input_precision=PRECISION)
        key_rows = tile(key_target, step, grad_key_time_stride, columns)
        value_rows = tile(value_target, step, grad_value_time_stride, value_columns)
        if not FIRST:
            grad_key += tl.load(key_rows, mask=inside & exists[None, :], other=0.0).to(tl.float32)
            grad_value += tl.load(value_rows, mask=inside & value_exists[None, :], other=0.0).to(tl.float32)
        tl.store(key_rows, grad_key.to(grad_keys.dtype.element_ty), mask=inside & exists[None, :])
        tl.store(value_rows, grad_value.to(grad_values.dtype.element_ty), mask=inside & value_exists[None, :])
    row = (group.to(tl.int64) * tl.num_programs(0) + part) * clusters
    mean_rows = tile(grad_means + row * DIM, cluster, DIM, columns)
    tl.store(mean_rows, grad_mean * (scale * unit), mask=known[:, None] & exists[None, :])


@triton.jit(do_not_specialize=OF_LENGTH)
def share_kernel(
    parts, count, start, added, output, clusters,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, CLUSTERS: tl.constexpr,
):  # fmt: skip
    """Every member's share of the gradient of its cluster's mean: the sum of the parts, divided by the members."""
    group = tl.program_id(1)
    cluster, columns = tl.program_id(0) * CLUSTERS + tl.arange(0, CLUSTERS), tl.arange(0, BLOCK_DIM)
    mask = (cluster < clusters)[:, None] & (columns < DIM)[None, :]
    row = group.to(tl.int64) * clusters
    total = tl.zeros([CLUSTERS, BLOCK_DIM], tl.float32)
    if added is not None:
        total += tl.load(tile(added + row * DIM, cluster, DIM, columns), mask=mask, other=0.0)
    for part in range(count):
        source = parts + (row * count + part * clusters) * DIM
        total += tl.load(tile(source, cluster, DIM, columns), mask=mask, other=0.0)
    begin = tl.load(start + group * (clusters + 1) + cluster, mask=cluster < clusters, other=0)
    end = tl.load(start + group * (clusters + 1) + cluster + 1, mask=cluster < clusters, other=0)
    members = tl.maximum(end - begin, 1).to(tl.float32)
    tl.store(tile(output + row * DIM, cluster, DIM, columns), total / members[:, None], mask=mask)


class Tiles(NamedTuple):
    """Clusters and keys that are held at a time, warps and stages, how products are rounded, the most registers of a thread."""

    clusters: int
    keys: int
    warps: int
    stages: int
    precision: str
    registers: int | None = None


def backward_tiles(dtype: torch.dtype, dim: int, clusters: int, capability: int, entries: bool) -> Tiles:
    """The largest tiles that compile without spilling registers. entries: whether top keys have gradients to add."""
    held = padded(clusters)
    if dtype == torch.float32:
        if dim <= 32:
            return Tiles(min(held, 32), 32, 4 if dim <= 16 else 8, 1, "ieee")
        return Tiles(min(held, 32 if dim <= 64 else 16), 32, 8, 1, "tf32x3")
    if dim > 64:
        # Without an inner loop over entries, loads can run ahead.
        stages = 1 if entries else 2
        if multiplies_in_warpgroups(capability) and clusters <= 128:
            return Tiles(128, 32, 8, stages, "tf32")
        return Tiles(64, 32, 8, 2 if capability in (100, 103) else stages, "tf32")
    held = min(held, 128 if multiplies_in_warpgroups(capability) or clusters <= 128 else 64)
    # With no more keys than this at a time, the next ones are on their way while entries are added.
    # The compilers take a few more registers than let two programs share a processor of an H100.
    limit = (
        128 if capability == 90 and dtype == torch.bfloat16 and held == 128 and 32 < dim and clusters <= 128 else None
    )
    return Tiles(held, 32, 4 if held <= 32 else 8, 2 if dim > 16 else 1, "tf32", limit)


def key_parts(time: int, groups: int, tile_size: int) -> int:
    """Parts that the keys are divided into: few, as each has a sum to write, but so that a GPU's processors end together."""
    most = max(1, min(MOST_PARTS, cdiv(time, 4 * tile_size), cdiv(8 * PROCESSORS, groups)))
    idle = {parts: cdiv(groups * parts, RESIDENT) * RESIDENT / (groups * parts) for parts in range(1, most + 1)}
    return next(parts for parts in idle if idle[parts] <= 1.05 * min(idle.values()))


def centroid_gradients(
    means: Tensor,
    keys: Tensor,
    values: Tensor,
    grad_sums: Tensor,
    lse: Tensor,
    shifts: Tensor,
    start: Tensor,
    key_lengths: Tensor | None,
    top: TopGradients | None,
    grad_means: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the clusters' attention, those of the top keys included.

    means: (batch, heads, clusters, dim); grad_sums: (groups, clusters, value dim), the sums of the members' outgoing
    gradients; lse: (groups, clusters) base 2; shifts: (groups, clusters); start: (groups, clusters + 1) of the members;
    grad_means: (groups, clusters, dim) float32, to be added to the gradient of the means.
    Returns shares (groups, clusters, dim) float32, every member's part of its mean's gradient, and the gradients of keys
    and values, zero at padded steps.
    """
    batch, heads, time, dim = keys.shape
    value_dim, groups, clusters = values.shape[3], batch * heads, means.shape[2]
    block_dim, block_value_dim = padded(dim), padded(value_dim)
    tiles = backward_tiles(
        keys.dtype, max(block_dim, block_value_dim), clusters, capability_of(keys.device), top is not None
    )
    tile_size = tiles.keys
    parts = key_parts(time, groups, tile_size)
    keys_each = cdiv(cdiv(time, parts), tile_size) * tile_size
    parts = cdiv(time, keys_each)
    order = bins_start = None
    bins = entries = 0
    keys_per_bin = tile_size
    if top is not None:
        entries = top.selected[0].numel()
        keys_per_bin = tile_size * cdiv(cdiv(time, tile_size), MAXIMUM_BINS)
        bins = cdiv(time, keys_per_bin)
        order, bins_start = group_by(top.selected.view(groups, entries), bins, keys_per_bin)
    # Several blocks of clusters add up in memory, which half precision is too coarse for.
    blocks = cdiv(clusters, tiles.clusters)
    dtype = keys.dtype if blocks == 1 else torch.float32
    grad_keys = heads_last(batch, heads, time, dim, dtype, keys.device)
    grad_values = heads_last(batch, heads, time, value_dim, dtype, keys.device)
    partial = shifts.new_empty(groups, parts, clusters, dim)
    for block in range(blocks):
        launch(
            centroid_backward_kernel, (parts, groups),
            means=means, keys=keys, key_batch_stride=keys.stride(0), key_head_stride=keys.stride(1),
            key_time_stride=keys.stride(2), values=values, value_batch_stride=values.stride(0),
            value_head_stride=values.stride(1), value_time_stride=values.stride(2), grad_sums=grad_sums, lse=lse,
            shifts=shifts, selected=None if top is None else top.selected, order=order, start=bins_start,
            grad_top_keys=None if top is None else top.keys, grad_top_values=None if top is None else top.values,
            key_lengths=key_lengths, grad_keys=grad_keys, grad_key_batch_stride=grad_keys.stride(0),
            grad_key_head_stride=grad_keys.stride(1), grad_key_time_stride=grad_keys.stride(2),
            grad_values=grad_values, grad_value_batch_stride=grad_values.stride(0),
            grad_value_head_stride=grad_values.stride(1), grad_value_time_stride=grad_values.stride(2),
            grad_means=partial, scale=dim**-0.5, score_scale=dim**-0.5 * LOG2E.value, heads=heads, time=time,
            clusters=clusters, first_cluster=block * tiles.clusters, keys_each=keys_each, entries=entries, bins=bins,
            keys_per_bin=keys_per_bin, DIM=dim, BLOCK_DIM=block_dim, VALUE_DIM=value_dim,
            BLOCK_VALUE_DIM=block_value_dim, CLUSTERS=tiles.clusters, KEYS=tile_size, ENTRIES=32, FIRST=block == 0,
            PRECISION=tiles.precision, warps=tiles.warps, stages=tiles.stages, registers=tiles.registers,
        )  # fmt: skip
    shares = shifts.new_empty(groups, clusters, dim)
    launch(
        share_kernel, (cdiv(clusters, 16), groups), parts=partial, count=parts, start=start, added=grad_means,
        output=shares, clusters=clusters, DIM=dim, BLOCK_DIM=block_dim, CLUSTERS=16, warps=2,
    )  # fmt: skip
    return shares, grad_keys.to(keys.dtype), grad_values.to(values.dtype)

"""From members to clusters and back: means, sums, and giving every member what its cluster has."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import OF_LENGTH, group_start, rounded_to, tile
from asr.kernels.gpu.launch import cdiv, dtype_of_sums, heads_last, launch, padded

MEMBERS = 32
ROWS = 64


@triton.jit(do_not_specialize=OF_LENGTH)
def mean_kernel(
    x, batch_stride, head_stride, time_stride, order, start, output, outputs, dots, heads, time, clusters,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, MEMBERS: tl.constexpr, MEAN: tl.constexpr,
):  # fmt: skip
    """Sums or means of the members of a cluster, and with `outputs` the products of these sums with its rows."""
    cluster, group = tl.program_id(0), tl.program_id(1)
    columns = tl.arange(0, BLOCK_DIM)
    exists = columns < DIM
    begin = tl.load(start + group * (clusters + 1) + cluster)
    end = tl.load(start + group * (clusters + 1) + cluster + 1)
    order += group.to(tl.int64) * time
    source = group_start(x, group, heads, batch_stride, head_stride)
    sums = tl.zeros([MEMBERS, BLOCK_DIM], tl.float32)
    for place in range(begin, end, MEMBERS):
        places = place + tl.arange(0, MEMBERS)
        members = tl.load(order + places, mask=places < end, other=0)
        mask = (places < end)[:, None] & exists[None, :]
        sums += tl.load(tile(source, members, time_stride, columns), mask=mask, other=0.0).to(tl.float32)
    total = tl.sum(sums, 0)
    if MEAN:
        total = total / tl.maximum(end - begin, 1).to(tl.float32)
    # As whoever multiplies it will read it.
    total = rounded_to(total, x.dtype.element_ty)
    row = group.to(tl.int64) * clusters + cluster
    tl.store(output + row * DIM + columns, total.to(output.dtype.element_ty), mask=exists)
    if outputs is not None:
        attended = tl.load(outputs + row * DIM + columns, mask=exists, other=0.0)
        tl.store(dots + row, tl.sum(attended * total, 0))


@triton.jit(do_not_specialize=OF_LENGTH)
def spread_kernel(
    table, labels, output, batch_stride, head_stride, time_stride, added, added_batch_stride, added_head_stride,
    added_time_stride, heads, time, clusters, DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Every member gets its cluster's row, on top of `added` if that is given; padded steps get zeros."""
    group = tl.program_id(1)
    rows, columns = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK_DIM)
    label = tl.load(labels + group.to(tl.int64) * time + rows, mask=rows < time, other=-1)
    mask = (label >= 0)[:, None] & (columns < DIM)[None, :]
    table += group.to(tl.int64) * clusters * DIM
    x = tl.load(tile(table, label, DIM, columns), mask=mask, other=0.0)
    if added is not None:
        source = group_start(added, group, heads, added_batch_stride, added_head_stride)
        x += tl.load(tile(source, rows, added_time_stride, columns), mask=mask, other=0.0).to(tl.float32)
    target = group_start(output, group, heads, batch_stride, head_stride)
    inside = (rows < time)[:, None] & (columns < DIM)[None, :]
    tl.store(tile(target, rows, time_stride, columns), x.to(output.dtype.element_ty), mask=inside)


def cluster_means(queries: Tensor, order: Tensor, start: Tensor) -> Tensor:
    """Means of the members (eq. 3), zeros for a cluster without any.

    queries: (batch, heads, time, dim); order, start: from `group_by`. Returns (batch, heads, clusters, dim), same dtype.
    """
    batch, heads, _, dim = queries.shape
    means = queries.new_empty(batch, heads, start.shape[1] - 1, dim)
    _sum(queries, order, start, means, None, None, mean=True)
    return means


def cluster_sums(x: Tensor, order: Tensor, start: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the members' rows, and their products with the rows of their clusters.

    x: (batch, heads, time, dim); outputs: (groups, clusters, dim) float32.
    Returns sums (groups, clusters, dim) of `dtype_of_sums`, and products (groups, clusters) float32.
    """
    groups, clusters, dim = outputs.shape
    sums = x.new_empty(groups, clusters, dim, dtype=dtype_of_sums(x.dtype))
    dots = outputs.new_empty(groups, clusters)
    _sum(x, order, start, sums, outputs, dots, mean=False)
    return sums, dots


def _sum(
    x: Tensor, order: Tensor, start: Tensor, output: Tensor, outputs: Tensor | None, dots: Tensor | None, mean: bool
) -> None:
    batch, heads, time, dim = x.shape
    clusters = start.shape[1] - 1
    launch(
        mean_kernel, (clusters, batch * heads),
        x=x, batch_stride=x.stride(0), head_stride=x.stride(1), time_stride=x.stride(2), order=order, start=start,
        output=output, outputs=outputs, dots=dots, heads=heads, time=time, clusters=clusters,
        DIM=dim, BLOCK_DIM=padded(dim), MEMBERS=MEMBERS, MEAN=mean, warps=2,
    )  # fmt: skip


def spread(table: Tensor, labels: Tensor, batch: int, dtype: torch.dtype, added: Tensor | None = None) -> Tensor:
    """Every member's row of its cluster (eq. 6): (groups, clusters, dim) float32 -> (batch, heads, time, dim) of `dtype`.

    labels: (groups, time) int32, -1 where the result is zero; added: (batch, heads, time, dim), added where it is not.
    """
    groups, clusters, dim = table.shape
    time = labels.shape[1]
    output = heads_last(batch, groups // batch, time, dim, dtype, table.device)
    strides = (0, 0, 0) if added is None else added.stride()[:3]
    launch(
        spread_kernel, (cdiv(time, ROWS), groups),
        table=table, labels=labels, output=output,
        batch_stride=output.stride(0), head_stride=output.stride(1), time_stride=output.stride(2),
        added=added, added_batch_stride=strides[0], added_head_stride=strides[1], added_time_stride=strides[2],
        heads=groups // batch, time=time, clusters=clusters, DIM=dim, BLOCK_DIM=padded(dim), ROWS=ROWS,
    )  # fmt: skip
    return output

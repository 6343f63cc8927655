"""Codes of queries, and of the first centroids among them."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import OF_LENGTH, group_length, group_start, tile
from asr.kernels.gpu.launch import capability_of, cdiv, launch, multiplies_in_warpgroups, padded
from asr.kernels.hashing import Planes


@triton.jit(do_not_specialize=OF_LENGTH)
def hash_kernel(
    queries, batch_stride, head_stride, time_stride, normals, offsets, lengths, codes, centroids, heads, time, clusters, tiles,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, WIDTH: tl.constexpr, BITS: tl.constexpr, ROWS: tl.constexpr,
    ALL_CLUSTERS: tl.constexpr, INDEX_SCALE: tl.constexpr,
):  # fmt: skip
    """Signs of projections; the last programs of a group hash the queries that are the first centroids once more."""
    program, group = tl.program_id(0), tl.program_id(1)
    length = group_length(lengths, group, heads, time)
    seeding = program >= tiles
    place = tl.where(seeding, program - tiles, program) * ROWS + tl.arange(0, ROWS)
    first = ((place.to(tl.int64) * 2 + 1) * length // (2 * clusters)).to(tl.int32)
    rows = tl.where(seeding, first, place)
    valid = (rows < length) & ((place < clusters) | (seeding == 0))
    columns, bits = tl.arange(0, BLOCK_DIM), tl.arange(0, WIDTH)
    start = group_start(queries, group, heads, batch_stride, head_stride)
    x = tl.load(tile(start, rows, time_stride, columns), mask=valid[:, None] & (columns < DIM)[None, :], other=0.0)
    planes = tl.load(normals + bits[None, :] * DIM + columns[:, None], mask=(columns < DIM)[:, None], other=0.0)
    projections = tl.dot(x.to(tl.float32), planes, input_precision="tf32x3") + tl.load(offsets + bits)[None, :]
    # Queries that are not numbers have -1 for bits, and the spare slots are +1 all the same.
    signs = tl.where((projections > 0) | (bits >= BITS)[None, :], 1.0, -1.0)
    if seeding:
        # The spare slots hold no bit; the last one holds the index, and puts clusters that do not exist behind all others.
        index = tl.where(place < clusters, place.to(tl.float32) * (-1.0 / INDEX_SCALE), -1000.0)
        signs = tl.where((place < clusters)[:, None] & (bits < BITS)[None, :], signs, 0.0)
        signs = tl.where((bits == WIDTH - 1)[None, :], index[:, None], signs)
        chosen = centroids + group.to(tl.int64) * ALL_CLUSTERS * WIDTH
        tl.store(tile(chosen, place, WIDTH, bits), signs.to(tl.float16), mask=(place < ALL_CLUSTERS)[:, None])
    else:
        mine = codes + group.to(tl.int64) * time * WIDTH
        signs = tl.where(valid[:, None], signs, 0.0)
        tl.store(tile(mine, place, WIDTH, bits), signs.to(tl.float16), mask=(place < time)[:, None])


def hash_queries(
    queries: Tensor, planes: Planes, lengths: Tensor | None, clusters: int, all_clusters: int, index_scale: int
) -> tuple[Tensor, Tensor]:
    """Codes of all queries and of the first centroids, see `asr.kernels.hashing` and `asr.kernels.kmeans.first_centroids`.

    queries: (batch, heads, time, dim); lengths: (batch,) int64 or None.
    Returns codes (groups, time, width) float16: +1, -1, all 0 where padded; and centroids (groups, all_clusters, width)
    float16 whose last slot holds minus their index / index_scale.
    """
    batch, heads, time, dim = queries.shape
    width = len(planes.normals)
    codes = queries.new_empty(batch * heads, time, width, dtype=torch.float16)
    centroids = queries.new_empty(batch * heads, all_clusters, width, dtype=torch.float16)
    # The largest tiles that compile without spilling registers.
    rows, warps = (64, 8 if dim > 64 else 4) if multiplies_in_warpgroups(capability_of(queries.device)) else (32, 8)
    tiles = cdiv(time, rows)
    launch(
        hash_kernel,
        (tiles + cdiv(all_clusters, rows), batch * heads),
        queries=queries, batch_stride=queries.stride(0), head_stride=queries.stride(1), time_stride=queries.stride(2),
        normals=planes.normals, offsets=planes.offsets, lengths=lengths, codes=codes, centroids=centroids,
        heads=heads, time=time, clusters=clusters, tiles=tiles,
        DIM=dim, BLOCK_DIM=padded(dim), WIDTH=width, BITS=planes.bits, ROWS=rows,
        ALL_CLUSTERS=all_clusters, INDEX_SCALE=index_scale, warps=warps,
    )  # fmt: skip
    return codes, centroids

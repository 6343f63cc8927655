"""Lloyd's algorithm in Hamming space on tensor cores, see `asr.kernels.kmeans` for its rules.

A centroid is a column of +1 and -1 whose last slot holds minus its index as a fraction, and codes are +1 there. So no two
scores of a code are equal, ties go to the lowest index, and one maximum gives the nearest centroid and its index. All of it
is exact: products of small integers and of index / 2048, summed in float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import OF_LENGTH, group_length
from asr.kernels.gpu.grouping import chunk_size
from asr.kernels.gpu.launch import cdiv, launch, padded

MAXIMUM_CLUSTERS = 1024
INDEX_SCALE = 2048
ROWS = 64
# A program holds the centroids of one block; with more clusters than that, labels and votes take a launch each.
CLUSTER_BLOCK = 128
# Programs that an H100 runs at a time, with the registers that voting takes.
RESIDENT = 396


@triton.jit(do_not_specialize=OF_LENGTH)
def vote_kernel(
    codes, centroids, votes, arrived, settled, labels, time, rows_each,
    BLOCK: tl.constexpr, ALL_CLUSTERS: tl.constexpr, WIDTH: tl.constexpr, BITS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Sums of the members' codes; the last program of a block of clusters to finish turns them into new centroids.

    With labels None every code's label is found on the way, which takes all centroids in one block.
    """
    part, group, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    bits, cluster = tl.arange(0, WIDTH), block * BLOCK + tl.arange(0, BLOCK)
    table = cluster[:, None] * WIDTH + bits[None, :]
    centroids += group.to(tl.int64) * ALL_CLUSTERS * WIDTH
    votes += group.to(tl.int64) * ALL_CLUSTERS * WIDTH
    # A group whose centroids have stayed as they were is done.
    if tl.load(settled + group) == 0:
        columns = tl.load(centroids + cluster[None, :] * WIDTH + bits[:, None])
        codes += group.to(tl.int64) * time * WIDTH
        sums = tl.zeros([WIDTH, BLOCK], tl.float32)
        for row in range(part * rows_each, tl.minimum(time, (part + 1) * rows_each), ROWS):
            rows = row + tl.arange(0, ROWS)
            code = tl.load(codes + rows[:, None] * WIDTH + bits[None, :], mask=(rows < time)[:, None], other=0.0)
            if labels is None:
                scores = tl.dot(code, columns)
                member = scores == tl.max(scores, 1)[:, None]
            else:
                label = tl.load(labels + group.to(tl.int64) * time + rows, mask=rows < time, other=-1)
                member = label[:, None] == cluster[None, :]
            # A padded code is the member of every cluster, and all zeros.
            # This way around the products need not wait for each other on Hopper.
            sums = tl.dot(tl.trans(code), member.to(tl.float16), sums)
        tl.atomic_add(votes + table, tl.trans(sums), sem="relaxed")
        tl.debug_barrier()
        ticket = tl.atomic_add(arrived + group * tl.num_programs(2) + block, 1)
        if ticket % tl.num_programs(0) == tl.num_programs(0) - 1:
            centroid = tl.load(centroids + table)
            found = tl.load(votes + table, cache_modifier=".cg")
            # Other threads than those that read a vote may write the zero.
            tl.debug_barrier()
            tl.store(votes + table, tl.zeros([BLOCK, WIDTH], tl.float32))
            moved = tl.where(found > 0, 1.0, tl.where(found < 0, -1.0, centroid.to(tl.float32))).to(tl.float16)
            moved = tl.where((bits < BITS)[None, :], moved, centroid)
            tl.store(centroids + table, moved)
            changed = tl.max(tl.max((moved != centroid).to(tl.int32), 1), 0)
            if labels is None:
                tl.store(settled + group, 1 - changed)


@triton.jit(do_not_specialize=OF_LENGTH)
def assign_kernel(
    codes, centroids, lengths, labels, counts, heads, time, clusters,
    CHUNK: tl.constexpr, BLOCK: tl.constexpr, ALL_CLUSTERS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
    INDEX_SCALE: tl.constexpr,
):  # fmt: skip
    """The nearest centroid of every code, -1 where padded, and how many codes of the chunk each cluster got."""
    chunk, group = tl.program_id(0), tl.program_id(1)
    bits, inside = tl.arange(0, WIDTH), tl.arange(0, BLOCK)
    codes += group.to(tl.int64) * time * WIDTH
    centroids += group.to(tl.int64) * ALL_CLUSTERS * WIDTH
    labels += group.to(tl.int64) * time
    length = group_length(lengths, group, heads, time)
    found, counted = tl.zeros([ALL_CLUSTERS], tl.int32), 0
    if BLOCK == ALL_CLUSTERS:
        held = tl.load(centroids + inside[None, :] * WIDTH + bits[:, None])
    for row in range(chunk * CHUNK, tl.minimum(time, (chunk + 1) * CHUNK), ROWS):
        rows = row + tl.arange(0, ROWS)
        code = tl.load(codes + rows[:, None] * WIDTH + bits[None, :], mask=(rows < time)[:, None], other=0.0)
        best = tl.full([ROWS], -2000.0, tl.float32)
        if BLOCK == ALL_CLUSTERS:
            best = tl.max(tl.dot(code, held), 1)
        else:
            for block in range(0, ALL_CLUSTERS, BLOCK):
                centroid = tl.load(centroids + (block + inside)[None, :] * WIDTH + bits[:, None])
                best = tl.maximum(best, tl.max(tl.dot(code, centroid), 1))
        label = ((tl.ceil(best) - best) * INDEX_SCALE).to(tl.int32)
        label = tl.where(rows < length, label, -1)
        tl.store(labels + rows, label, mask=rows < time)
        if counts is not None:
            found += tl.histogram(tl.maximum(label, 0), ALL_CLUSTERS, mask=label >= 0)
            counted += tl.sum((label >= 0).to(tl.int32), 0)
    if counts is not None:
        tl.device_assert(tl.sum(found, 0) == counted, "the counts of a chunk are not as many as its codes")
        place = tl.arange(0, ALL_CLUSTERS)
        row = group.to(tl.int64) * tl.num_programs(0) + chunk
        tl.store(counts + row * clusters + place, found, mask=place < clusters)


def table_size(clusters: int) -> tuple[int, int]:
    """(clusters in a block, clusters in all blocks) as kernels hold them."""
    return min(padded(clusters), CLUSTER_BLOCK), padded(clusters)


def assign(codes: Tensor, centroids: Tensor, lengths: Tensor | None, heads: int, clusters: int, counted: bool):
    """Labels (groups, time) int32, and if `counted` how many each chunk has, see `asr.kernels.gpu.grouping.count`."""
    groups, time, width = codes.shape
    block, all_clusters = table_size(clusters)
    chunk = chunk_size(time)
    labels = torch.empty(groups, time, dtype=torch.int32, device=codes.device)
    counts = labels.new_empty(groups, cdiv(time, chunk), clusters) if counted else None
    launch(
        assign_kernel, (cdiv(time, chunk), groups),
        codes=codes, centroids=centroids, lengths=lengths, labels=labels, counts=counts,
        heads=heads, time=time, clusters=clusters, CHUNK=chunk, BLOCK=block,
        ALL_CLUSTERS=all_clusters, WIDTH=width, ROWS=ROWS, INDEX_SCALE=INDEX_SCALE, stages=3,
    )  # fmt: skip
    return labels, counts


def cluster_codes(
    codes: Tensor, centroids: Tensor, lengths: Tensor | None, heads: int, clusters: int, iterations: int, bits: int
) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm on what `hash_queries` returns; `centroids` are moved in place.

    Returns labels (groups, time) int32, -1 at padded steps, and their counts in chunks, (groups, chunks, clusters) int32.
    """
    groups, time, width = codes.shape
    block, all_clusters = table_size(clusters)
    blocks = all_clusters // block
    rows_each = cdiv(cdiv(time, max(1, RESIDENT // groups)), 2 * ROWS) * 2 * ROWS
    # Arrivals are counted on from one iteration to the next: what matters is the remainder. Parts begin at 16 bytes.
    sizes = [cdiv(size, 4) * 4 for size in (groups * all_clusters * width, groups * blocks, groups)]
    zeros = torch.zeros(sum(sizes), dtype=torch.int32, device=codes.device)
    votes, arrived, settled = zeros.split(sizes)
    voting = {
        "codes": codes, "centroids": centroids, "votes": votes.view(torch.float32), "arrived": arrived, "settled": settled,
        "time": time, "rows_each": rows_each,
        "BLOCK": block, "ALL_CLUSTERS": all_clusters, "WIDTH": width, "BITS": bits, "ROWS": ROWS,
    }  # fmt: skip
    grid = cdiv(time, rows_each), groups, blocks
    if blocks == 1 and iterations:
        launch(vote_kernel, grid, stages=3, times=iterations, labels=None, **voting)
    elif blocks > 1:
        for _ in range(iterations):
            labels = assign(codes, centroids, lengths, heads, clusters, counted=False)[0]
            launch(vote_kernel, grid, stages=3, labels=labels, **voting)
    return assign(codes, centroids, lengths, heads, clusters, counted=True)

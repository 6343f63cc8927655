"""Lloyd's algorithm on tensor cores, see `asr.kernels.kmeans` for its rules.

In Hamming space a centroid is a column of +1 and -1 whose last slot holds minus its index as a fraction, and codes are +1
there. So no two scores of a code are equal, ties go to the lowest index, and one maximum gives the nearest centroid and its
index. All of it is exact: products of small integers and of index / 2048, summed in float32. Euclidean centroids are whole
numbers; what is taken off their scores, the index with it, is added to the products, and is as exact.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import OF_LENGTH, group_length
from asr.kernels.gpu.grouping import chunk_size
from asr.kernels.gpu.launch import capability_of, cdiv, launch, multiplies_in_warpgroups, padded
from asr.kernels.gpu.seeds import centroid_offset
from asr.kernels.spaces import FINE

MAXIMUM_CLUSTERS = 1024
INDEX_SCALE = 2048
ROWS = 64
# A program holds the centroids of one block; with more clusters than that, labels and votes take a launch each.
CLUSTER_BLOCK = 128
# Programs that an H100 runs at a time, with the registers that voting takes.
RESIDENT = 396


@triton.jit(do_not_specialize=OF_LENGTH)
def vote_kernel(
    codes, centroids, offsets, lengths, votes, members, arrived, settled, labels, heads, time, rows_each,
    BLOCK: tl.constexpr, ALL_CLUSTERS: tl.constexpr, WIDTH: tl.constexpr, BITS: tl.constexpr, ROWS: tl.constexpr,
    FINE: tl.constexpr,
):  # fmt: skip
    """Sums of the members' codes; the last program of a block of clusters to finish turns them into new centroids.

    With labels None every code's label is found on the way, which takes all centroids in one block. Without `offsets` new
    centroids are the signs of the sums, in Hamming space; else they are means, in steps of 1 / FINE.
    """
    part, group, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    bits, cluster = tl.arange(0, WIDTH), block * BLOCK + tl.arange(0, BLOCK)
    table = cluster[:, None] * WIDTH + bits[None, :]
    centroids += group.to(tl.int64) * ALL_CLUSTERS * WIDTH
    votes += group.to(tl.int64) * ALL_CLUSTERS * WIDTH
    if offsets is not None:
        offsets += group.to(tl.int64) * ALL_CLUSTERS
        members += group.to(tl.int64) * ALL_CLUSTERS
        length = group_length(lengths, group, heads, time)
    # A group whose centroids have stayed as they were is done.
    if tl.load(settled + group) == 0:
        columns = tl.load(centroids + cluster[None, :] * WIDTH + bits[:, None])
        codes += group.to(tl.int64) * time * WIDTH
        sums = tl.zeros([WIDTH, BLOCK], tl.float32)
        if offsets is not None:
            offset = tl.load(offsets + cluster)
            count = tl.zeros([BLOCK], tl.int32)
        for row in range(part * rows_each, tl.minimum(time, (part + 1) * rows_each), ROWS):
            rows = row + tl.arange(0, ROWS)
            code = tl.load(codes + rows[:, None] * WIDTH + bits[None, :], mask=(rows < time)[:, None], other=0.0)
            if labels is None:
                scores = tl.dot(code, columns)
                if offsets is not None:
                    scores += offset[None, :]
                best = tl.max(scores, 1)
                member = scores == best[:, None]
                if offsets is not None:
                    label = ((tl.ceil(best) - best) * BLOCK).to(tl.int32)
                    count += tl.histogram(label, BLOCK, mask=rows < length)
            else:
                label = tl.load(labels + group.to(tl.int64) * time + rows, mask=rows < time, other=-1)
                member = label[:, None] == cluster[None, :]
                if offsets is not None:
                    inside = (label >= block * BLOCK) & (label < (block + 1) * BLOCK)
                    count += tl.histogram(tl.where(inside, label - block * BLOCK, 0), BLOCK, mask=inside)
            # A padded code may be the member of any cluster: it is all zeros.
            # This way around the products need not wait for each other on Hopper.
            sums = tl.dot(tl.trans(code), member.to(tl.float16), sums)
        if offsets is not None:
            tl.atomic_add(members + cluster, count, sem="relaxed")
        tl.atomic_add(votes + table, tl.trans(sums), sem="relaxed")
        tl.debug_barrier()
        ticket = tl.atomic_add(arrived + group * tl.num_programs(2) + block, 1)
        if ticket % tl.num_programs(0) == tl.num_programs(0) - 1:
            centroid = tl.load(centroids + table)
            found = tl.load(votes + table, cache_modifier=".cg")
            if offsets is not None:
                count = tl.load(members + cluster, cache_modifier=".cg")
            # Other threads than those that read a vote may write the zero.
            tl.debug_barrier()
            tl.store(votes + table, tl.zeros([BLOCK, WIDTH], tl.float32))
            if offsets is None:
                moved = tl.where(found > 0, 1.0, tl.where(found < 0, -1.0, centroid.to(tl.float32))).to(tl.float16)
                moved = tl.where((bits < BITS)[None, :], moved, centroid)
            else:
                tl.store(members + cluster, tl.zeros([BLOCK], tl.int32))
                # A quotient of floats may be a whole number too high or too low, which its product shows.
                number = tl.maximum(count, 1).to(tl.float32)[:, None]
                scaled = found * FINE
                mean = tl.floor(scaled * (1.0 / number) + 0.5)
                doubled = 2.0 * (scaled - mean * number)
                mean = tl.where(doubled < -number, mean - 1.0, tl.where(doubled >= number, mean + 1.0, mean)).to(
                    tl.float16
                )
                moved = tl.where((count > 0)[:, None], mean, centroid)
                new = centroid_offset(moved.to(tl.float32), cluster, BLOCK, FINE)
                tl.store(offsets + cluster, tl.where(count > 0, new, offset))
            tl.store(centroids + table, moved)
            changed = tl.max(tl.max((moved != centroid).to(tl.int32), 1), 0)
            if labels is None:
                tl.store(settled + group, 1 - changed)


@triton.jit(do_not_specialize=OF_LENGTH)
def assign_kernel(
    codes, centroids, offsets, lengths, labels, counts, heads, time, clusters,
    CHUNK: tl.constexpr, BLOCK: tl.constexpr, ALL_CLUSTERS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
    INDEX_SCALE: tl.constexpr,
):  # fmt: skip
    """The nearest centroid of every code, -1 where padded, and how many codes of the chunk each cluster got."""
    chunk, group = tl.program_id(0), tl.program_id(1)
    bits, inside = tl.arange(0, WIDTH), tl.arange(0, BLOCK)
    codes += group.to(tl.int64) * time * WIDTH
    centroids += group.to(tl.int64) * ALL_CLUSTERS * WIDTH
    labels += group.to(tl.int64) * time
    if offsets is not None:
        offsets += group.to(tl.int64) * ALL_CLUSTERS
    length = group_length(lengths, group, heads, time)
    found, counted = tl.zeros([ALL_CLUSTERS], tl.int32), 0
    if BLOCK == ALL_CLUSTERS:
        held = tl.load(centroids + inside[None, :] * WIDTH + bits[:, None])
        if offsets is not None:
            offset = tl.load(offsets + inside)
    for row in range(chunk * CHUNK, tl.minimum(time, (chunk + 1) * CHUNK), ROWS):
        rows = row + tl.arange(0, ROWS)
        code = tl.load(codes + rows[:, None] * WIDTH + bits[None, :], mask=(rows < time)[:, None], other=0.0)
        if offsets is not None:
            # Scores take more bits here: each holds its index among those of its block.
            highest, label = tl.full([ROWS], -1e6, tl.float32), tl.zeros([ROWS], tl.int32)
            for block in range(0, ALL_CLUSTERS, BLOCK):
                if BLOCK == ALL_CLUSTERS:
                    scores = tl.dot(code, held) + offset[None, :]
                else:
                    centroid = tl.load(centroids + (block + inside)[None, :] * WIDTH + bits[:, None])
                    scores = tl.dot(code, centroid) + tl.load(offsets + block + inside)[None, :]
                best = tl.max(scores, 1)
                score = tl.ceil(best)
                label = tl.where(score > highest, block + ((score - best) * BLOCK).to(tl.int32), label)
                highest = tl.maximum(highest, score)
        else:
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


def assign(
    codes: Tensor, centroids: Tensor, offsets: Tensor | None, lengths: Tensor | None, heads: int, clusters: int, counted: bool
):  # fmt: skip
    """Labels (groups, time) int32, and if `counted` how many each chunk has, see `asr.kernels.gpu.grouping.count`."""
    groups, time, width = codes.shape
    block, all_clusters = table_size(clusters)
    chunk = chunk_size(time)
    labels = torch.empty(groups, time, dtype=torch.int32, device=codes.device)
    counts = labels.new_empty(groups, cdiv(time, chunk), clusters) if counted else None
    launch(
        assign_kernel, (cdiv(time, chunk), groups),
        codes=codes, centroids=centroids, offsets=offsets, lengths=lengths, labels=labels, counts=counts,
        heads=heads, time=time, clusters=clusters, CHUNK=chunk, BLOCK=block,
        ALL_CLUSTERS=all_clusters, WIDTH=width, ROWS=ROWS, INDEX_SCALE=INDEX_SCALE, stages=3,
    )  # fmt: skip
    return labels, counts


def cluster_codes(
    codes: Tensor, centroids: Tensor, offsets: Tensor | None, lengths: Tensor | None, heads: int, clusters: int,
    iterations: int, bits: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Lloyd's algorithm; `centroids` and `offsets` are moved in place.

    In Hamming space on what `hash_queries` returns; Euclidean, with the offsets of `asr.kernels.gpu.seeds.first_centroids`, on
    what `whole_codes` returns.

    Returns labels (groups, time) int32, -1 at padded steps, and their counts in chunks, (groups, chunks, clusters) int32.
    """
    groups, time, width = codes.shape
    block, all_clusters = table_size(clusters)
    blocks = all_clusters // block
    rows_each = cdiv(cdiv(time, max(1, RESIDENT // groups)), 2 * ROWS) * 2 * ROWS
    # Arrivals are counted on from one iteration to the next: what matters is the remainder. Parts begin at 16 bytes.
    tables = groups * all_clusters * width, 0 if offsets is None else groups * all_clusters
    sizes = [cdiv(size, 4) * 4 for size in (*tables, groups * blocks, groups)]
    zeros = torch.zeros(sum(sizes), dtype=torch.int32, device=codes.device)
    votes, members, arrived, settled = zeros.split(sizes)
    voting = {
        "codes": codes, "centroids": centroids, "offsets": offsets, "lengths": None if offsets is None else lengths,
        "votes": votes.view(torch.float32), "members": None if offsets is None else members, "arrived": arrived,
        "settled": settled, "heads": heads, "time": time, "rows_each": rows_each,
        "BLOCK": block, "ALL_CLUSTERS": all_clusters, "WIDTH": width, "BITS": bits, "ROWS": ROWS,
        "FINE": FINE,
    }  # fmt: skip
    grid = cdiv(time, rows_each), groups, blocks
    # Means take more registers than signs.
    warps = (
        8 if offsets is not None and (width > 64 or not multiplies_in_warpgroups(capability_of(codes.device))) else 4
    )
    if blocks == 1 and iterations:
        launch(vote_kernel, grid, warps=warps, stages=3, times=iterations, labels=None, **voting)
    elif blocks > 1:
        for _ in range(iterations):
            labels = assign(codes, centroids, offsets, lengths, heads, clusters, counted=False)[0]
            launch(vote_kernel, grid, warps=warps, stages=3, labels=labels, **voting)
    return assign(codes, centroids, offsets, lengths, heads, clusters, counted=True)

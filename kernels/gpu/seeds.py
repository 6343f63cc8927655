"""Which steps' codes are the first centroids of a k-means, see `asr.kernels.seeds`; and these centroids."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import OF_LENGTH, group_length, tile
from asr.kernels.gpu.launch import cdiv, launch, padded
from asr.kernels.seeds import GOLDEN, ONE
from asr.kernels.spaces import FINE

ROWS, STEPS = 64, 512


@triton.jit(do_not_specialize=OF_LENGTH)
def moved_kernel(codes, lengths, moved, heads, time, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    """How far each code is from the one before, in the sum of its numbers' steps."""
    group = tl.program_id(1)
    rows, columns = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    length = group_length(lengths, group, heads, time)
    valid = (rows > 0) & (rows < length)
    codes += group.to(tl.int64) * time * WIDTH
    here = tl.load(tile(codes, rows, WIDTH, columns), mask=valid[:, None], other=0.0).to(tl.float32)
    before = tl.load(tile(codes, rows - 1, WIDTH, columns), mask=valid[:, None], other=0.0).to(tl.float32)
    steps = tl.sum(tl.abs(here - before), 1).to(tl.int32)
    tl.store(moved + group.to(tl.int64) * time + rows, steps, mask=rows < time)


@triton.jit
def _higher(one, other):
    return tl.maximum(one, other)


@triton.jit
def even_seed(cluster, length, clusters):
    """The step that is the seed of a cluster where seeds are evenly spread over time."""
    return ((cluster.to(tl.int64) * 2 + 1) * length // (2 * clusters)).to(tl.int32)


@triton.jit(do_not_specialize=[*OF_LENGTH, "halvings"])
def path_kernel(
    moved, ends, lengths, seeds, heads, time, clusters, halvings, ALL_CLUSTERS: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Seeds at even distances along the path, found by bisection in its running length."""
    group = tl.program_id(0)
    length = group_length(lengths, group, heads, time)
    moved += group.to(tl.int64) * time
    ends += group.to(tl.int64) * time
    total = tl.zeros([], tl.int64)
    for step in range(0, length, STEPS):
        steps = step + tl.arange(0, STEPS)
        here = tl.load(moved + steps, mask=steps < length, other=0).to(tl.int64)
        tl.store(ends + steps, total + tl.cumsum(here, 0), mask=steps < length)
        total += tl.sum(here, 0)
    # Bisection reads what other threads wrote.
    tl.debug_barrier()
    cluster = tl.arange(0, ALL_CLUSTERS)
    target = total * (2 * cluster + 1) // (2 * clusters)
    seed = tl.zeros([ALL_CLUSTERS], tl.int32)
    for halving in range(halvings):
        jump = 1 << (halvings - 1 - halving)
        inside = seed + jump <= length
        end = tl.load(ends + seed + jump - 1, mask=inside, other=0)
        seed = tl.where(inside & (end <= target), seed + jump, seed)
    # Where one step moves so far that several seeds fall on it, they go to the next ones.
    seed = tl.associative_scan(seed - cluster, 0, _higher) + cluster
    seed = tl.minimum(seed, length - clusters + cluster)
    seed = tl.where(length > clusters, seed, even_seed(cluster, length, clusters))
    tl.store(seeds + group * clusters + cluster, seed, mask=cluster < clusters)


@triton.jit(do_not_specialize=OF_LENGTH)
def plusplus_kernel(
    codes, nearest, lengths, seeds, heads, time, clusters,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, GOLDEN: tl.constexpr, ONE: tl.constexpr,
):  # fmt: skip
    """k-means++: one seed after the other, each by the squared distances from those before, which `nearest` holds."""
    group = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    length = group_length(lengths, group, heads, time)
    codes += group.to(tl.int64) * time * WIDTH
    nearest += group.to(tl.int64) * time
    seed = length // 2
    tl.store(seeds + group * clusters, seed)
    for number in range(1, clusters):
        chosen = tl.load(codes + seed * WIDTH + columns, mask=(columns < WIDTH) & (length > 0), other=0.0).to(
            tl.float32
        )
        total = tl.zeros([], tl.int64)
        for row in range(0, length, ROWS):
            rows = row + tl.arange(0, ROWS)
            code = tl.load(tile(codes, rows, WIDTH, columns), mask=(rows < length)[:, None], other=0.0).to(tl.float32)
            away = code - chosen[None, :]
            distance = tl.sum(away * away, 1).to(tl.int32)
            if number > 1:
                distance = tl.minimum(distance, tl.load(nearest + rows, mask=rows < length, other=0))
            distance = tl.where(rows < length, distance, 0)
            tl.store(nearest + rows, distance, mask=rows < length)
            total += tl.sum(distance.to(tl.int64), 0)
        # What was drawn is looked for among what other threads wrote.
        tl.debug_barrier()
        drawn = total * ((number * GOLDEN) % ONE) // ONE
        passed, behind = tl.zeros([], tl.int64), 0
        for row in range(0, length, ROWS):
            rows = row + tl.arange(0, ROWS)
            distance = tl.load(nearest + rows, mask=rows < length, other=0).to(tl.int64)
            ends = passed + tl.cumsum(distance, 0)
            behind += tl.sum(((ends <= drawn) & (rows < length)).to(tl.int32), 0)
            passed += tl.sum(distance, 0)
        seed = tl.where(behind < length, behind, 0)
        tl.store(seeds + group * clusters + number, seed)
        tl.debug_barrier()


@triton.jit(do_not_specialize=OF_LENGTH)
def first_kernel(
    codes, seeds, lengths, centroids, offsets, heads, time, clusters,
    ALL_CLUSTERS: tl.constexpr, WIDTH: tl.constexpr, BITS: tl.constexpr, ROWS: tl.constexpr,
    INDEX_SCALE: tl.constexpr, BLOCK: tl.constexpr, FINE: tl.constexpr,
):  # fmt: skip
    """The codes of the seeds as centroids; those that do not exist are behind all others.

    Euclidean with `offsets`: what is taken off a centroid's scores. In Hamming space that stands in a centroid's last slot.
    """
    group = tl.program_id(1)
    place, columns = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    length = group_length(lengths, group, heads, time)
    if seeds is None:
        seed = even_seed(place, length, clusters)
    else:
        seed = tl.load(seeds + group * clusters + place, mask=place < clusters, other=0)
    codes += group.to(tl.int64) * time * WIDTH
    exists = place < clusters
    code = tl.load(tile(codes, seed, WIDTH, columns), mask=(exists & (length > 0))[:, None], other=0.0).to(tl.float32)
    if offsets is None:
        index = tl.where(exists, place.to(tl.float32) * (-1.0 / INDEX_SCALE), -1000.0)
        code = tl.where((columns < BITS)[None, :], code, 0.0)
        code = tl.where((columns == WIDTH - 1)[None, :], index[:, None], code)
    else:
        code = code * FINE
        offset = tl.where(exists, centroid_offset(code, place, BLOCK, FINE), -1e6)
        tl.store(offsets + group.to(tl.int64) * ALL_CLUSTERS + place, offset, mask=place < ALL_CLUSTERS)
    centroids += group.to(tl.int64) * ALL_CLUSTERS * WIDTH
    tl.store(tile(centroids, place, WIDTH, columns), code.to(tl.float16), mask=(place < ALL_CLUSTERS)[:, None])


@triton.jit
def centroid_offset(centroid, cluster, BLOCK: tl.constexpr, FINE: tl.constexpr):
    """Minus half the square of a centroid, in its own steps, and minus its index as a fraction."""
    halves = (tl.sum(centroid * centroid, 1).to(tl.int32) + FINE) // (2 * FINE)
    return -halves.to(tl.float32) - (cluster % BLOCK).to(tl.float32) * (1.0 / BLOCK)


def choose_seeds(codes: Tensor, lengths: Tensor | None, heads: int, clusters: int, seeds: str) -> Tensor | None:
    """Steps (groups, clusters) int32 for `path` and `plusplus`; None for `even`, which needs no codes.

    codes: (groups, time, width) float16 whole numbers, zero where padded; lengths: (batch,) int64 or None.
    """
    if seeds == "even":
        return None
    groups, time, width = codes.shape
    chosen = torch.empty(groups, clusters, dtype=torch.int32, device=codes.device)
    numbers = torch.empty(groups, time, dtype=torch.int32, device=codes.device)
    common: dict[str, Any] = {"lengths": lengths, "heads": heads, "time": time}
    if seeds == "plusplus":
        launch(
            plusplus_kernel, (groups,), codes=codes, nearest=numbers, seeds=chosen, clusters=clusters,
            WIDTH=width, ROWS=ROWS, GOLDEN=GOLDEN, ONE=ONE, **common,
        )  # fmt: skip
        return chosen
    launch(moved_kernel, (cdiv(time, ROWS), groups), codes=codes, moved=numbers, WIDTH=width, ROWS=ROWS, **common)
    launch(
        path_kernel, (groups,), moved=numbers, ends=torch.empty_like(numbers, dtype=torch.int64), seeds=chosen,
        clusters=clusters, halvings=time.bit_length(), ALL_CLUSTERS=padded(clusters), STEPS=STEPS, **common,
    )  # fmt: skip
    return chosen


def first_centroids(
    codes: Tensor, seeds: Tensor | None, lengths: Tensor | None, heads: int, clusters: int,
    all_clusters: int, block: int, bits: int | None, index_scale: int,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The codes of `seeds` (None: even ones) as centroids (groups, all_clusters, width) float16.

    bits: of codes in Hamming space; None for whole numbers, whose centroids have offsets too: (groups, all_clusters) float32.
    """
    groups, time, width = codes.shape
    centroids = torch.empty(groups, all_clusters, width, dtype=torch.float16, device=codes.device)
    offsets = None if bits else torch.empty(groups, all_clusters, dtype=torch.float32, device=codes.device)
    launch(
        first_kernel, (cdiv(all_clusters, ROWS), groups), codes=codes, seeds=seeds, lengths=lengths, centroids=centroids,
        offsets=offsets, heads=heads, time=time, clusters=clusters, ALL_CLUSTERS=all_clusters, WIDTH=width, BITS=bits or 0,
        ROWS=ROWS, INDEX_SCALE=index_scale, BLOCK=block, FINE=FINE,
    )  # fmt: skip
    return centroids, offsets

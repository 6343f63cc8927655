"""The keys with the highest scores, found while rows attend to all keys, without sorting any scores but a few.

1. `scan` goes over all keys: online softmax, and the maxima of strided groups of keys (key n belongs to group n % KEYS).
   These are scores of different keys, so the topk-th largest of them is no more than the topk-th largest score.
2. `merge` puts the parts that were scanned side by side together, and finds that threshold.
3. `mark` goes over all keys again and stores a bit for every key whose score reaches the threshold: all of the highest are
   among them, and few others unless many scores are equal.
4. `collect` scores the marked keys in float32 and keeps the highest.

Long because the four share one layout of groups, marks and parts, and each is only right beside the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import LOG2E, OF_LENGTH, group_length, group_start, tile
from asr.kernels.gpu.launch import cdiv, launch, padded, precision

MAXIMUM_TOPK = 128
# Of the GPU that splits are chosen for (H100). Another one has another best, not another result.
MULTIPROCESSORS = 132
# What it costs to write and merge a part, in the time that a program takes for one tile of keys; and the most parts.
MERGING, MOST_SPLITS = 3, 16
# Keys marked in one word.
WORD = tl.constexpr(32)
FEWEST_WORDS, MOST_WORDS = 32, 128
# Bytes of keys that a warp scores at a time, and keys at most; pool entries that all others are compared with at a time.
SCORED_BYTES, MOST_SCORED, COMPARED = 4096, 32, 16


class Attended(NamedTuple):
    """What rows attend to. The last three are None if nothing was to be selected.

    output: (groups, rows, value dim) float32, softmax over all valid keys times values (eqs. 4-5); zeros where there are no
        keys or the row is not occupied.
    lse: (groups, rows) float32, base 2: log2(sum(exp2(score * LOG2E))) of scaled scores; +inf where there is nothing.
    selected: (groups, rows, padded(topk)) int32, the topk highest valid keys, equal ones by lowest index, from the highest on;
        -1 in the slots that are left.
    weights: like `selected`, float32: their attention exp2(score * LOG2E - lse), 0 in the slots that are left.
    mass: (groups, rows) float32, the sum of `weights`.
    """

    output: Tensor
    lse: Tensor
    selected: Tensor | None
    weights: Tensor | None
    mass: Tensor | None


class Selected(NamedTuple):
    """The highest keys of rows, as in `Attended`; but `weights` are of a softmax over nothing but these keys."""

    selected: Tensor
    weights: Tensor


class Tiles(NamedTuple):
    """How a matrix of scores is cut up. Both kernels that go over all keys need the same, to compute the same bits."""

    rows: int
    keys: int
    warps: int
    stages: int


def choose_tiles(dtype: torch.dtype, dim: int, topk: int) -> Tiles:
    """dim: the larger one of keys and values.

    There must be `topk` strided groups, and twice as many make a tight threshold. Beyond that, as many rows as can be held
    without spilling registers, on all of sm_80, sm_90 and sm_100: they are what keys are read for.
    """
    keys, wide = 64 if topk <= 32 else 128, padded(dim) > 64
    if dtype == torch.float32:
        return Tiles(16 if wide or keys == 128 else 32, keys, warps=8, stages=1)
    if keys == 128:
        return Tiles(32, keys, warps=8, stages=2)
    if wide:
        return Tiles(64, keys, warps=8, stages=2)
    # Three such programs fit on a processor of an H100, of twice the rows only one: they wait for each other's products.
    return Tiles(64, keys, warps=4, stages=3)


def choose_splits(programs: int, tiles: int) -> int:
    """Parts that keys are split into: few, but so that the programs come out even over the multiprocessors."""

    def cost(splits: int) -> int:
        return cdiv(programs * splits, MULTIPROCESSORS) * (cdiv(tiles, splits) + MERGING)

    return min(range(1, min(MOST_SPLITS, tiles) + 1), key=cost)


@triton.jit
def occupied_rows(starts, row_lengths, group, row, rows, heads):
    """Which of these rows matter: those of sequences that long, of clusters that have members."""
    occupied = row < group_length(row_lengths, group, heads, rows)
    if starts is not None:
        first = starts + group.to(tl.int64) * (rows + 1) + row
        occupied &= tl.load(first + 1, mask=occupied, other=0) > tl.load(first, mask=occupied, other=0)
    return occupied


@triton.jit
def part_of_keys(
    split, tile_of_rows, group, row_lengths, key_lengths, rows, time, heads, keys_per_split, ROWS: tl.constexpr
):
    """The first key of a part, and where it ends: at once if the whole tile of rows is padding."""
    first = split * keys_per_split
    stop = tl.minimum(first + keys_per_split, group_length(key_lengths, group, heads, time))
    needed = tile_of_rows * ROWS < group_length(row_lengths, group, heads, rows)
    return first, tl.where(needed, stop, first)


@triton.jit(do_not_specialize=OF_LENGTH)
def scan_kernel(
    rows_in, rows_batch, rows_head, rows_time, keys, keys_batch, keys_head, keys_time,
    values, values_batch, values_head, values_time, row_lengths, key_lengths, peaks, totals, sums, maxima,
    rows, time, heads, keys_per_split, scale,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_VALUE_DIM: tl.constexpr,
    ROWS: tl.constexpr, KEYS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A part of the keys: softmax numerators times values relative to their peak, and maxima of strided groups."""
    split, tile_of_rows, group = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row, key_place = tile_of_rows * ROWS + tl.arange(0, ROWS), tl.arange(0, KEYS)
    columns, value_columns = tl.arange(0, BLOCK_DIM), tl.arange(0, BLOCK_VALUE_DIM)
    first, stop = part_of_keys(
        split, tile_of_rows, group, row_lengths, key_lengths, rows, time, heads, keys_per_split, ROWS
    )
    exists = row < group_length(row_lengths, group, heads, rows)
    rows_in = group_start(rows_in, group, heads, rows_batch, rows_head)
    keys = group_start(keys, group, heads, keys_batch, keys_head)
    x = tl.load(tile(rows_in, row, rows_time, columns), mask=exists[:, None] & (columns < DIM)[None, :], other=0.0)
    x = x.to(keys.dtype.element_ty)
    if values is not None:
        values = group_start(values, group, heads, values_batch, values_head)
        peak = tl.full([ROWS], -float("inf"), tl.float32)
        total = tl.zeros([ROWS], tl.float32)
        weighted = tl.zeros([ROWS, BLOCK_VALUE_DIM], tl.float32)
    if maxima is not None:
        highest = tl.full([ROWS, KEYS], -float("inf"), tl.float32)
    for start in range(first, stop, KEYS):
        key = start + key_place
        valid = key < stop
        y = tl.load(tile(keys, key, keys_time, columns), mask=valid[:, None] & (columns < DIM)[None, :], other=0.0)
        # Not scaled, so that the threshold is of the very products that `mark_kernel` compares with it.
        products = tl.where(valid[None, :], tl.dot(x, tl.trans(y), input_precision=PRECISION), -float("inf"))
        if maxima is not None:
            highest = tl.maximum(highest, products)
        if values is not None:
            z = tl.load(
                tile(values, key, values_time, value_columns),
                mask=valid[:, None] & (value_columns < VALUE_DIM)[None, :],
                other=0.0,
            )
            higher = tl.maximum(peak, tl.max(products, 1) * scale)
            numerators = tl.exp2(products * scale - higher[:, None])
            shrink = tl.exp2(peak - higher)
            total = total * shrink + tl.sum(numerators, 1)
            weighted = tl.dot(numerators.to(z.dtype), z, weighted * shrink[:, None], input_precision=PRECISION)
            peak = higher
    part = (group.to(tl.int64) * rows + row) * tl.num_programs(0) + split
    stored = row < rows
    if values is not None:
        tl.store(peaks + part, peak, mask=stored)
        tl.store(totals + part, total, mask=stored)
        tl.store(tile(sums, part, BLOCK_VALUE_DIM, value_columns), weighted, mask=stored[:, None])
    if maxima is not None:
        tl.store(tile(maxima, part, KEYS, key_place), highest, mask=stored[:, None])


@triton.jit(do_not_specialize=OF_LENGTH)
def merge_kernel(
    peaks, totals, sums, maxima, starts, row_lengths, output, lse, thresholds, rows, heads, splits,
    ALL_SPLITS: tl.constexpr, TOPK: tl.constexpr, KEYS: tl.constexpr,
    VALUE_DIM: tl.constexpr, BLOCK_VALUE_DIM: tl.constexpr,
):  # fmt: skip
    """The parts of one row together: its output and log-sum-exp, and the threshold that its highest keys reach."""
    row, group = tl.program_id(0), tl.program_id(1)
    here = group.to(tl.int64) * rows + row
    occupied = occupied_rows(starts, row_lengths, group, row, rows, heads)
    split = tl.arange(0, ALL_SPLITS)
    exists = (split < splits) & occupied
    part = here * splits + split
    if output is not None:
        columns = tl.arange(0, BLOCK_VALUE_DIM)
        peak_of_part = tl.load(peaks + part, mask=exists, other=-float("inf"))
        peak = tl.max(peak_of_part, 0)
        # Without a single key the difference of peaks would not be a number.
        factor = tl.exp2(peak_of_part - tl.where(peak > -float("inf"), peak, 0.0))
        total = tl.sum(tl.load(totals + part, mask=exists, other=0.0) * factor, 0)
        weighted = tl.load(tile(sums, part, BLOCK_VALUE_DIM, columns), mask=exists[:, None], other=0.0)
        something = total > 0
        mean = tl.sum(weighted * factor[:, None], 0) / tl.where(something, total, 1.0)
        tl.store(output + here * VALUE_DIM + columns, mean, mask=columns < VALUE_DIM)
        tl.store(lse + here, tl.where(something, peak + tl.log2(tl.where(something, total, 1.0)), float("inf")))
    if maxima is not None:
        place = tl.arange(0, KEYS)
        of_parts = tl.load(tile(maxima, part, KEYS, place), mask=exists[:, None], other=-float("inf"))
        highest = tl.max(of_parts, 0)
        higher = tl.sum((highest[:, None] > highest[None, :]).to(tl.int32), 0)
        threshold = tl.min(tl.where(higher < TOPK, highest, float("inf")), 0)
        # A hair lower, as the same products may come out otherwise in the last bits of another kernel.
        threshold -= tl.abs(threshold) * 1e-6
        tl.store(thresholds + here, tl.where(occupied, threshold, float("inf")))


@triton.jit(do_not_specialize=OF_LENGTH)
def mark_kernel(
    rows_in, rows_batch, rows_head, rows_time, keys, keys_batch, keys_head, keys_time,
    row_lengths, key_lengths, thresholds, marks, rows, time, heads, keys_per_split, words,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A bit for every key that reaches its row's threshold, up to the sequence's length."""
    split, tile_of_rows, group = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row, key_place = tile_of_rows * ROWS + tl.arange(0, ROWS), tl.arange(0, KEYS)
    columns, word_place = tl.arange(0, BLOCK_DIM), tl.arange(0, KEYS // WORD)
    first, stop = part_of_keys(
        split, tile_of_rows, group, row_lengths, key_lengths, rows, time, heads, keys_per_split, ROWS
    )
    exists = row < group_length(row_lengths, group, heads, rows)
    rows_in = group_start(rows_in, group, heads, rows_batch, rows_head)
    keys = group_start(keys, group, heads, keys_batch, keys_head)
    x = tl.load(tile(rows_in, row, rows_time, columns), mask=exists[:, None] & (columns < DIM)[None, :], other=0.0)
    x = x.to(keys.dtype.element_ty)
    here = group.to(tl.int64) * rows + row
    threshold = tl.load(thresholds + here, mask=row < rows, other=float("inf"))
    bit = tl.full([KEYS], 1, tl.int32) << (key_place % WORD)
    for start in range(first, stop, KEYS):
        key = start + key_place
        valid = key < stop
        y = tl.load(tile(keys, key, keys_time, columns), mask=valid[:, None] & (columns < DIM)[None, :], other=0.0)
        products = tl.dot(x, tl.trans(y), input_precision=PRECISION)
        reached = valid[None, :] & (products >= threshold[:, None])
        bits = tl.reshape(tl.where(reached, bit[None, :], 0), [ROWS, KEYS // WORD, WORD])
        word = start // WORD + word_place
        tl.store(tile(marks, here, words, word), tl.sum(bits, 2), mask=(row < rows)[:, None] & (word < words)[None, :])


@triton.jit
def ranked(score, key):
    """One number for a score and its key: the higher the score, and of equal scores the lower the key, the higher it is."""
    # Adding zero leaves zero with one sign.
    bits = (score + 0.0).to(tl.int32, bitcast=True)
    ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - key).to(tl.int64)


@triton.jit
def score_of(number):
    """The score in what `ranked` returned."""
    ordered = (number >> 32).to(tl.int32)
    return tl.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).to(tl.float32, bitcast=True)


@triton.jit
def key_of(number):
    """The key in what `ranked` returned."""
    return 0x7FFFFFFF - (number & 0x7FFFFFFF).to(tl.int32)


@triton.jit
def keep_highest(
    pool, x, keys, keys_time, scored, count,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, SCORED: tl.constexpr, COMPARED: tl.constexpr,
    CAPACITY: tl.constexpr, TOPK: tl.constexpr,
):  # fmt: skip
    """Moves the TOPK highest keys of the pool's first `count` to its front, in order; returns how many these are.

    pool: int64, the first `scored` as `ranked` returned them, the others only keys, to be scored by their products with x.
    """
    columns = tl.arange(0, BLOCK_DIM)
    tl.debug_barrier()
    for start in range(scored, count, SCORED):
        place = start + tl.arange(0, SCORED)
        key = tl.load(pool + place, mask=place < count, other=0).to(tl.int32)
        y = tl.load(
            tile(keys, key, keys_time, columns), mask=(place < count)[:, None] & (columns < DIM)[None, :], other=0.0
        )
        tl.debug_barrier()
        tl.store(pool + place, ranked(tl.sum(y.to(tl.float32) * x[None, :], 1), key), mask=place < count)
    tl.debug_barrier()
    place = tl.arange(0, CAPACITY)
    lowest = -0x7FFFFFFFFFFFFFFF
    number = tl.load(pool + place, mask=place < count, other=lowest)
    rank = tl.zeros([CAPACITY], tl.int32)
    for start in range(0, count, COMPARED):
        other_place = start + tl.arange(0, COMPARED)
        other = tl.load(pool + other_place, mask=other_place < count, other=lowest)
        rank += tl.sum((other[:, None] > number[None, :]).to(tl.int32), 0)
    # All have been read before any is overwritten.
    tl.debug_barrier()
    tl.store(pool + rank, number, mask=(place < count) & (rank < TOPK))
    tl.debug_barrier()
    return tl.minimum(count, TOPK)


@triton.jit(do_not_specialize=OF_LENGTH)
def collect_kernel(
    rows_in, rows_batch, rows_head, rows_time, keys, keys_batch, keys_head, keys_time,
    starts, row_lengths, key_lengths, marks, lse, pools, selected, weights, mass,
    rows, time, heads, words, scale,
    DIM: tl.constexpr, BLOCK_DIM: tl.constexpr, WORDS: tl.constexpr, SCORED: tl.constexpr, COMPARED: tl.constexpr,
    CAPACITY: tl.constexpr, TOPK: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """The highest of one row's marked keys. These gather in a pool, of which the highest are kept whenever it is full.

    Scores that cancel may come out differently in `mark_kernel`, below the threshold of `scan_kernel`. A row with fewer marks
    than keys to select looks at every key instead; with enough of them, the keys without a mark score no more than these.
    """
    row, group = tl.program_id(0), tl.program_id(1)
    here = group.to(tl.int64) * rows + row
    columns, slot = tl.arange(0, BLOCK_DIM), tl.arange(0, SLOTS)
    occupied = occupied_rows(starts, row_lengths, group, row, rows, heads)
    length = tl.where(occupied, group_length(key_lengths, group, heads, time), 0)
    marked = tl.cdiv(length, WORD)
    rows_in = group_start(rows_in, group, heads, rows_batch, rows_head)
    keys = group_start(keys, group, heads, keys_batch, keys_head)
    x = tl.load(rows_in + row * rows_time + columns, mask=(columns < DIM) & occupied, other=0.0)
    # What the other kernels multiplied, not what the row may have been before.
    x = x.to(keys.dtype.element_ty).to(tl.float32)
    marks += here * words
    pool = pools + here * CAPACITY
    scored, count = 0, 0
    first, every = 0, 0
    while first < marked:
        word = first + tl.arange(0, WORDS)
        rest = tl.load(marks + word, mask=word < marked, other=0)
        if every == 1:
            left = tl.minimum(tl.maximum(length - word * WORD, 0), WORD)
            rest = tl.where(left < WORD, (1 << left) - 1, -1)
        some = (rest != 0).to(tl.int32)
        found = tl.sum(some, 0)
        while found > 0:
            # The lowest bit of every word that has one left; those for which there is no room wait for the next round.
            place = count + tl.cumsum(some, 0) - some
            taken = (some > 0) & (place < CAPACITY)
            lowest = rest & (0 - rest)
            # A power of two as a float is its exponent. The highest bit is the sign, and has the same one.
            exponent = ((lowest.to(tl.float32).to(tl.int32, bitcast=True) >> 23) & 0xFF) - 127
            tl.store(pool + place, (word * WORD + exponent).to(tl.int64), mask=taken)
            rest = tl.where(taken, rest & (rest - 1), rest)
            count = tl.minimum(count + found, CAPACITY)
            if count == CAPACITY:
                count = keep_highest(
                    pool, x, keys, keys_time, scored, count,
                    DIM, BLOCK_DIM, SCORED, COMPARED, CAPACITY, TOPK,
                )  # fmt: skip
                scored = count
            some = (rest != 0).to(tl.int32)
            found = tl.sum(some, 0)
        first += WORDS
        if (first >= marked) & (every == 0) & (count < tl.minimum(length, TOPK)):
            first, every, scored, count = 0, 1, 0, 0
    count = keep_highest(pool, x, keys, keys_time, scored, count, DIM, BLOCK_DIM, SCORED, COMPARED, CAPACITY, TOPK)
    here_slot = here * SLOTS + slot
    number = tl.load(pool + slot, mask=slot < count, other=0)
    tl.store(selected + here_slot, tl.where(slot < count, key_of(number), -1))
    score = tl.where(slot < count, score_of(number) * scale, -float("inf"))
    if lse is None:
        weight = tl.exp2(score - tl.where(count > 0, tl.max(score, 0), 0.0))
        total = tl.sum(weight, 0)
        tl.store(weights + here_slot, weight / tl.where(count > 0, total, 1.0))
    else:
        weight = tl.exp2(score - tl.load(lse + here))
        tl.store(weights + here_slot, weight)
        tl.store(mass + here, tl.sum(weight, 0))


def attend_rows(
    rows: Tensor, keys: Tensor, values: Tensor, key_lengths: Tensor | None, topk: int, starts: Tensor | None
) -> Attended:
    """Every row attends to all keys of its group, and selects the highest if `topk` is not 0.

    rows: (batch, heads, rows, dim), not scaled, taken in the dtype of keys; keys: (batch, heads, time, dim), values: (batch,
    heads, time, value dim), key_lengths: (batch,) int64 or None. starts: (groups, rows + 1) int32, where the members of each
    row's cluster begin, see `asr.kernels.gpu.grouping`, or None; rows of clusters without members are not occupied, and attend
    to nothing.
    """
    return _run(rows, keys, values, None, key_lengths, topk, starts)


def select_rows(
    rows: Tensor, keys: Tensor, row_lengths: Tensor | None, key_lengths: Tensor | None, topk: int
) -> Selected:
    """Every row selects the highest keys of its group; rows from `row_lengths` (batch,) on none. See `attend_rows`."""
    found = _run(rows, keys, None, row_lengths, key_lengths, topk, None)
    assert found.selected is not None and found.weights is not None
    return Selected(found.selected, found.weights)


def _run(
    rows: Tensor,
    keys: Tensor,
    values: Tensor | None,
    row_lengths: Tensor | None,
    key_lengths: Tensor | None,
    topk: int,
    starts: Tensor | None,
) -> Attended:
    batch, heads, count, dim = rows.shape
    time, groups = keys.shape[2], batch * heads
    value_dim = 1 if values is None else values.shape[3]
    tiles = choose_tiles(keys.dtype, max(dim, value_dim), topk)
    # Eight warps on few rows share out the columns; with fewer than 64 they hold the same ones, and spill.
    value_block = padded(value_dim) if tiles.rows >= 64 else max(64, padded(value_dim))
    tiles_of_rows, tiles_of_keys = cdiv(count, tiles.rows), cdiv(time, tiles.keys)
    splits = choose_splits(tiles_of_rows * groups, tiles_of_keys)
    keys_per_split = cdiv(tiles_of_keys, splits) * tiles.keys
    splits = cdiv(time, keys_per_split)
    scale = dim**-0.5 * LOG2E.value

    def empty(*shape: int, dtype: torch.dtype = torch.float32, needed: bool = True) -> Any:
        """A tensor, or None."""
        return torch.empty(groups, count, *shape, dtype=dtype, device=keys.device) if needed else None

    attends, selects = values is not None, topk > 0
    peaks, totals = empty(splits, needed=attends), empty(splits, needed=attends)
    sums = empty(splits, value_block, needed=attends)
    maxima = empty(splits, tiles.keys, needed=selects)
    output, lse = empty(value_dim, needed=attends), empty(needed=attends)
    thresholds = empty(needed=selects)
    strides = {
        "rows_batch": rows.stride(0), "rows_head": rows.stride(1), "rows_time": rows.stride(2),
        "keys_batch": keys.stride(0), "keys_head": keys.stride(1), "keys_time": keys.stride(2),
    }  # fmt: skip
    of_values = (0, 0, 0) if values is None else values.stride()[:3]
    launch(
        scan_kernel, (splits, tiles_of_rows, groups), warps=tiles.warps, stages=tiles.stages,
        rows_in=rows, keys=keys, **strides,
        values=values, values_batch=of_values[0], values_head=of_values[1], values_time=of_values[2],
        row_lengths=row_lengths, key_lengths=key_lengths, peaks=peaks, totals=totals, sums=sums, maxima=maxima,
        rows=count, time=time, heads=heads, keys_per_split=keys_per_split, scale=scale,
        DIM=dim, BLOCK_DIM=padded(dim), VALUE_DIM=value_dim, BLOCK_VALUE_DIM=value_block,
        ROWS=tiles.rows, KEYS=tiles.keys, PRECISION=precision(keys.dtype),
    )  # fmt: skip
    launch(
        merge_kernel, (count, groups), warps=1 if tiles.keys == 64 else 4,
        peaks=peaks, totals=totals, sums=sums, maxima=maxima, starts=starts, row_lengths=row_lengths,
        output=output, lse=lse, thresholds=thresholds, rows=count, heads=heads, splits=splits,
        ALL_SPLITS=max(2, triton.next_power_of_2(splits)), TOPK=topk, KEYS=tiles.keys,
        VALUE_DIM=value_dim, BLOCK_VALUE_DIM=value_block,
    )  # fmt: skip
    if not selects:
        return Attended(output, lse, None, None, None)
    words = cdiv(time, WORD.value)
    marks = empty(words, dtype=torch.int32)
    launch(
        mark_kernel, (splits, tiles_of_rows, groups), warps=tiles.warps, stages=tiles.stages,
        rows_in=rows, keys=keys, **strides, row_lengths=row_lengths, key_lengths=key_lengths,
        thresholds=thresholds, marks=marks, rows=count, time=time, heads=heads,
        keys_per_split=keys_per_split, words=words,
        DIM=dim, BLOCK_DIM=padded(dim), ROWS=tiles.rows, KEYS=tiles.keys, PRECISION=precision(keys.dtype),
    )  # fmt: skip
    slots = padded(topk)
    capacity = max(64, 2 * slots)
    selected, weights = empty(slots, dtype=torch.int32), empty(slots)
    mass = empty(needed=attends)
    launch(
        collect_kernel, (count, groups), warps=1,
        rows_in=rows, keys=keys, **strides, starts=starts, row_lengths=row_lengths, key_lengths=key_lengths,
        marks=marks, lse=lse, pools=empty(capacity, dtype=torch.int64),
        selected=selected, weights=weights, mass=mass, rows=count, time=time, heads=heads, words=words, scale=scale,
        DIM=dim, BLOCK_DIM=padded(dim), WORDS=min(MOST_WORDS, max(FEWEST_WORDS, triton.next_power_of_2(words))),
        SCORED=min(SCORED_BYTES // keys.element_size() // padded(dim), MOST_SCORED), COMPARED=COMPARED,
        CAPACITY=capacity, TOPK=topk, SLOTS=slots,
    )  # fmt: skip
    return Attended(output, lse, selected, weights, mass)

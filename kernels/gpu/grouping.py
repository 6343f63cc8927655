"""Counting sort: items in the order of their labels, equal ones in their own order."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from asr.kernels.gpu.common import OF_LENGTH
from asr.kernels.gpu.launch import cdiv, launch, padded

# Items that are ranked among each other at a time; their comparisons are a square of this side.
ITEMS = 32
SMALLEST_CHUNK, MOST_CHUNKS = 256, 32


@triton.jit(do_not_specialize=OF_LENGTH)
def count_kernel(labels, counts, items, bins, width, CHUNK: tl.constexpr, ITEMS: tl.constexpr, ALL_BINS: tl.constexpr):
    """How many items of a chunk have each label; negative labels count nowhere.

    Triton's histogram once miscounted (issue 6987). TRITON_DEBUG=1 and the interpreter check it.
    """
    chunk, group = tl.program_id(0), tl.program_id(1)
    found, counted = tl.zeros([ALL_BINS], tl.int32), 0
    labels += group.to(tl.int64) * items
    for offset in range(0, CHUNK, ITEMS):
        item = chunk * CHUNK + offset + tl.arange(0, ITEMS)
        label = tl.load(labels + item, mask=item < items, other=-1)
        found += tl.histogram(tl.maximum(label, 0) // width, ALL_BINS, mask=label >= 0)
        counted += tl.sum((label >= 0).to(tl.int32), 0)
    tl.device_assert(tl.sum(found, 0) == counted, "the counts of a chunk are not as many as its items")
    place = tl.arange(0, ALL_BINS)
    row = group.to(tl.int64) * tl.num_programs(0) + chunk
    tl.store(counts + row * bins + place, found, mask=place < bins)


@triton.jit(do_not_specialize=OF_LENGTH)
def place_kernel(
    labels, counts, places, order, start, items, bins, width,
    CHUNK: tl.constexpr, ITEMS: tl.constexpr, ALL_BINS: tl.constexpr,
):  # fmt: skip
    """Puts the items of a chunk where the labels before theirs, the chunks before theirs and they themselves end."""
    chunk, group, chunks = tl.program_id(0), tl.program_id(1), tl.num_programs(0)
    label_of_place = tl.arange(0, ALL_BINS)
    exists = label_of_place < bins
    total, before = tl.zeros([ALL_BINS], tl.int32), tl.zeros([ALL_BINS], tl.int32)
    counts += group.to(tl.int64) * chunks * bins
    for other in range(chunks):
        found = tl.load(counts + other * bins + label_of_place, mask=exists, other=0)
        total += found
        before += tl.where(other < chunk, found, 0)
    ends = tl.cumsum(total, 0)
    if chunk == 0:
        start += group.to(tl.int64) * (bins + 1)
        tl.store(start + label_of_place + 1, ends, mask=exists)
        tl.store(start + label_of_place, ends - total, mask=label_of_place == 0)
    places += (group.to(tl.int64) * chunks + chunk) * bins
    tl.store(places + label_of_place, ends - total + before, mask=exists)
    tl.debug_barrier()
    labels += group.to(tl.int64) * items
    order += group.to(tl.int64) * items
    one, other_one = tl.arange(0, ITEMS)[:, None], tl.arange(0, ITEMS)[None, :]
    for offset in range(0, CHUNK, ITEMS):
        item = chunk * CHUNK + offset + tl.arange(0, ITEMS)
        label = tl.load(labels + item, mask=item < items, other=-1)
        label = tl.where(label >= 0, label // width, -1)
        same = label[:, None] == label[None, :]
        rank = tl.sum((same & (other_one < one)).to(tl.int32), 1)
        behind = tl.sum((same & (other_one > one)).to(tl.int32), 1)
        place = tl.load(places + label, mask=label >= 0, other=0) + rank
        # Counts that are wrong would make a wrong order, but not one of somebody else's memory.
        tl.store(order + place, item, mask=(label >= 0) & (place < items))
        # All have read where their label goes on before its last item moves that on.
        tl.debug_barrier()
        tl.store(places + label, place + 1, mask=(label >= 0) & (behind == 0))
        tl.debug_barrier()


def chunk_size(items: int) -> int:
    """Items that one program sorts: few enough to be quick, and so many that there are not too many chunks to add up."""
    return max(SMALLEST_CHUNK, triton.next_power_of_2(cdiv(items, MOST_CHUNKS)))


def count(labels: Tensor, bins: int, width: int = 1) -> Tensor:
    """Items of every bin in every chunk: labels (groups, items) int32 -> (groups, chunks, bins) int32."""
    groups, items = labels.shape
    chunk = chunk_size(items)
    counts = torch.empty(groups, cdiv(items, chunk), bins, dtype=torch.int32, device=labels.device)
    launch(
        count_kernel, (cdiv(items, chunk), groups), labels=labels, counts=counts, items=items, bins=bins, width=width,
        CHUNK=chunk, ITEMS=128, ALL_BINS=padded(bins),
    )  # fmt: skip
    return counts


def place(labels: Tensor, counts: Tensor, width: int = 1) -> tuple[Tensor, Tensor]:
    """Sorts by counts that are known, see `group_by`. counts: (groups, chunks, bins) int32 of chunks of `chunk_size`."""
    groups, items = labels.shape
    chunks, bins = counts.shape[1:]
    order = torch.empty_like(labels)
    start = labels.new_empty(groups, bins + 1)
    launch(
        place_kernel, (chunks, groups), labels=labels, counts=counts, places=torch.empty_like(counts),
        order=order, start=start, items=items, bins=bins, width=width,
        CHUNK=chunk_size(items), ITEMS=ITEMS, ALL_BINS=padded(bins), warps=1,
    )  # fmt: skip
    return order, start


def group_by(labels: Tensor, bins: int, width: int = 1) -> tuple[Tensor, Tensor]:
    """Items sorted by bin, stably; those with negative labels are left out.

    labels: (groups, items) int32; bin = label // width, and there are `bins`, at most 1024.
    Returns order (groups, items) int32: the items of bin b are order[start[b] : start[b + 1]], and what lies behind the last
    is undefined; and start (groups, bins + 1) int32.
    """
    return place(labels, count(labels, bins, width), width)

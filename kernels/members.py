"""What members of a cluster attend to beyond their cluster's mean: its top keys, each member for itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from asr.kernels.centroids import broadcast, flat_labels
from asr.kernels.padding import masked_score, valid_steps

SMALLEST_BLOCK, LARGEST_BLOCK = 4, 64
# Some GPU kernels take no more sequences than this at a time.
MAXIMUM_BATCH = 1 << 15


def member_attention(
    queries: Tensor, keys: Tensor, values: Tensor, labels: Tensor, selected: Tensor, key_lengths: Tensor | None
) -> Tensor:
    """Every query's own softmax attention to its cluster's top keys: the fraction of eq. 10, times the values.

    queries: (batch, heads, queries' time, dim), keys: (batch, heads, time, dim), values: (batch, heads, time, value dim),
    labels: (batch, heads, queries' time) int64, selected: (batch, heads, clusters, topk) int64 from `top_keys`.
    Returns (batch, heads, queries' time, value dim). Done in the way that is cheaper at this shape.
    """
    clusters, topk = selected.shape[2:]
    block = block_size(queries.shape[2], clusters)
    if dense_cost(queries.shape[2], keys.shape[2]) <= blocked_cost(queries.shape[2], clusters, topk, block):
        return dense_members(queries, keys, values, labels, selected, key_lengths)
    return blocked_members(queries, keys, values, labels, selected, key_lengths, block)


def block_size(members: int, clusters: int) -> int:
    """Slots of a block: one and a half times an average cluster, rounded up to a power of two, from 4 to 64."""
    wanted = 3 * members // (2 * clusters)
    return min(max(1 << max(wanted - 1, 0).bit_length(), SMALLEST_BLOCK), LARGEST_BLOCK)


def dense_cost(members: int, time: int) -> float:
    """Time that `dense_members` takes, forward and backward, in that of one query-key pair (8 ns on one core, dim 32)."""
    return members * time


def blocked_cost(members: int, clusters: int, topk: int, block: int) -> float:
    """Time that `blocked_members` takes, in the unit of `dense_cost`.

    A block costs topk * (31 + 1.4 * block): fetching keys, adding up their gradients, and the products. Fitted to forward
    and backward on one core with dim 32, topk 32 and 100 clusters: 10 us a block of 4, 14 us of 16, 41 us of 64.
    """
    blocks = min(clusters, members) + members / (2 * block)
    return blocks * topk * (31 + 1.4 * block)


def dense_members(
    queries: Tensor, keys: Tensor, values: Tensor, labels: Tensor, selected: Tensor, key_lengths: Tensor | None
) -> Tensor:
    """By attention to all keys with the others masked: quadratic, but fastest while the sequence is short."""
    masks = selection_mask(selected, keys.shape[2], key_lengths, queries.dtype)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=broadcast(masks, labels))


def blocked_members(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    labels: Tensor,
    selected: Tensor,
    key_lengths: Tensor | None,
    block: int,
) -> Tensor:
    """By blocks of members of one cluster, for whom the top keys are fetched once: linear in time."""
    batch, heads, time, dim = keys.shape
    clusters, topk = selected.shape[2:]
    groups = torch.arange(batch * heads, device=keys.device)[:, None, None]
    slots, owners = member_slots(flat_labels(labels, clusters), batch * heads * clusters, block)
    rows = (selected.reshape(batch * heads, clusters, topk) + groups * time).view(-1, topk)[owners].view(-1)
    mask = None
    if key_lengths is not None:
        missing = (selected >= key_lengths[:, None, None, None]).view(-1, 1, 1, topk)[owners]
        mask = missing * masked_score(queries.dtype)
        mask = mask.to(queries.dtype)
    flat = queries.new_zeros(len(owners) * block, dim).index_copy(0, slots, queries.reshape(-1, dim))
    output = _attend_in_batches(
        flat.view(-1, 1, block, dim),
        keys.reshape(-1, dim).index_select(0, rows).view(-1, 1, topk, dim),
        values.reshape(-1, values.shape[3]).index_select(0, rows).view(-1, 1, topk, values.shape[3]),
        mask,
    )
    return output.reshape(-1, values.shape[3]).index_select(0, slots).view(*labels.shape, -1)


def member_slots(rows: Tensor, clusters: int, block: int) -> tuple[Tensor, Tensor]:
    """Places for the members of every cluster in blocks that hold one cluster only.

    rows: (members,) int64, every member's cluster. Returns (members,) int64, where it goes: block * `block` + place in it;
    and (blocks,) int64, the cluster of every block.
    """
    counts = torch.bincount(rows, minlength=clusters)
    blocks = (counts + block - 1) // block
    starts = counts.cumsum(0) - counts
    first_slots = (blocks.cumsum(0) - blocks) * block
    in_order, order = rows.sort(stable=True)
    places = torch.arange(len(rows), device=rows.device) + (first_slots - starts)[in_order]
    slots = torch.empty_like(places).scatter_(0, order, places)
    owners = torch.arange(clusters, device=rows.device).repeat_interleave(blocks)
    return slots, owners


def selection_mask(selected: Tensor, time: int, key_lengths: Tensor | None, dtype: torch.dtype) -> Tensor:
    """What to add to scores so that only selected, valid keys count.

    selected: (batch, heads, rows, topk) int64. Returns (batch, heads, rows, time) of `dtype`.
    """
    masked = masked_score(dtype)
    mask = torch.full((*selected.shape[:3], time), masked, dtype=dtype, device=selected.device).scatter_(3, selected, 0)
    if key_lengths is not None:
        mask.masked_fill_(~valid_steps(key_lengths, time)[:, None, None], masked)
    return mask


def _attend_in_batches(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    if len(queries) <= MAXIMUM_BATCH:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    parts = [x.split(MAXIMUM_BATCH) for x in (queries, keys, values)]
    masks = [None] * len(parts[0]) if mask is None else mask.split(MAXIMUM_BATCH)
    return torch.cat([F.scaled_dot_product_attention(q, k, v, attn_mask=m) for q, k, v, m in zip(*parts, masks)])

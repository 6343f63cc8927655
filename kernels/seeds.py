"""Which steps' codes are the first centroids of a k-means."""

from __future__ import annotations

import torch
from torch import Tensor

SEEDS = ("even", "path", "plusplus")
# Multiples of the golden section leave remainders that are spread evenly, however many there are.
GOLDEN, ONE = 40503, 1 << 16


def even_seeds(lengths: Tensor, clusters: int) -> Tensor:
    """Evenly spread over the valid steps.

    The same for a length whatever the padding, the batch and the device; with as many clusters as steps every step is one.
    lengths: (batch,) int64. Returns (batch, clusters) int64.
    """
    middles = torch.arange(clusters, device=lengths.device) * 2 + 1
    return middles * lengths[:, None] // (2 * clusters)


def path_seeds(codes: Tensor, lengths: Tensor, clusters: int) -> Tensor:
    """Evenly spread along the path of the codes: each has moved as far since the last one, in the sum of its numbers' steps.

    So silence and padding, where hardly anything moves, get few seeds and speech gets many. Every seed is another step; as
    many clusters as steps or more are spread evenly in time.

    codes: (batch, heads, time, width) whole numbers; lengths: (batch,) int64. Returns (batch, heads, clusters) int64.
    """
    batch, heads, time, _ = codes.shape
    moved = (codes[:, :, 1:] - codes[:, :, :-1]).abs_().sum(-1).long()
    moved *= (torch.arange(1, time, device=codes.device) < lengths[:, None])[:, None]
    ends = torch.nn.functional.pad(moved, (1, 0)).cumsum(-1)
    index = torch.arange(clusters, device=codes.device)
    seeds = torch.searchsorted(ends, ends[..., -1:] * (2 * index + 1) // (2 * clusters), right=True)
    # Where one step moves so far that several seeds fall on it, they go to the next ones.
    seeds = (seeds - index).cummax(-1).values + index
    steps = lengths[:, None, None]
    seeds = torch.minimum(seeds, steps - clusters + index)
    return torch.where(steps > clusters, seeds, even_seeds(lengths, clusters)[:, None])


def plusplus_seeds(codes: Tensor, lengths: Tensor, clusters: int) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii 2007): a step's chance is its squared distance from the nearest seed so far.

    So steps that are alike, as in silence, get few seeds. The numbers drawn are the same for every sequence, and whole:
    neither padding nor batch nor device matters.

    codes: (batch, heads, time, width) whole numbers; lengths: (batch,) int64. Returns (batch, heads, clusters) int64.
    """
    batch, heads, time, width = codes.shape
    points = codes.reshape(batch * heads, time, width)
    steps = lengths.repeat_interleave(heads)
    padded = torch.arange(time, device=codes.device) >= steps[:, None]
    rows = torch.arange(batch * heads, device=codes.device)
    seeds, nearest = [steps // 2], None
    for number in range(1, clusters):
        distances = (points - points[rows, seeds[-1]][:, None]).square_().sum(-1).long().masked_fill_(padded, 0)
        nearest = distances if nearest is None else torch.minimum(nearest, distances)
        ends = nearest.cumsum(1)
        drawn = ends[:, -1] * (number * GOLDEN % ONE) // ONE
        # The first step that ends beyond what was drawn; any, once all codes are those of seeds.
        seeds.append((ends <= drawn[:, None]).sum(1) % time)
    return torch.stack(seeds, 1).view(batch, heads, clusters)


def first_codes(codes: Tensor, seeds: Tensor) -> Tensor:
    """The codes of the seeds, a copy: (batch, heads, time, width), (batch, heads, clusters) -> (groups, clusters, width)."""
    batch, heads, time, width = codes.shape
    sequences = torch.arange(batch * heads, device=codes.device)[:, None] * time
    rows = seeds.reshape(batch * heads, -1) + sequences
    return codes.reshape(-1, width).index_select(0, rows.view(-1)).view(batch * heads, -1, width)

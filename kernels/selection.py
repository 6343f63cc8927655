"""The keys with the highest scores."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def top_keys(scores: Tensor, topk: int, rows: Tensor | None = None) -> Tensor:
    """Indices of the `topk` highest scores of every row, equal ones by lowest index; in no order.

    scores: (batch, heads, rows, time), rows: (batch, heads, rows) bool, those that matter (elsewhere ties may fall either way).
    Returns (batch, heads, rows, min(topk, time)) int64. Where a sequence has fewer valid
    keys than that, padded ones fill the row: they are recognized by their index.
    """
    time = scores.shape[-1]
    if topk >= time:
        return torch.arange(time, device=scores.device).expand(*scores.shape[:-1], time)
    # One more than asked for shows whether the lowest was chosen among equals; unsorted, because sorting costs a fifth more.
    values, indices = scores.topk(topk + 1, sorted=False)
    lowest, place = values.min(-1, keepdim=True)
    tied = (values == lowest).sum(-1) > 1
    indices = indices.scatter_(-1, place, indices[..., topk:].clone())[..., :topk]
    if rows is not None:
        tied &= rows
    if bool(tied.any()):
        indices = indices.clone()
        indices[tied] = scores[tied].sort(dim=-1, descending=True, stable=True).indices[..., :topk]
    return indices

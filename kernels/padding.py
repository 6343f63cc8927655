"""Masks of what lies beyond a sequence's length."""

from __future__ import annotations

import torch
from torch import Tensor

# Added to the score of a key that must not be attended to. Finite, so that a row without keys gives no NaN; the exponential
# of it is exactly zero beside any real score. float16 holds less.
MASKED = {torch.float16: -6e4}
# The score of a position with itself: low enough that anything else wins, high enough to beat padding.
SELF_SCORE = -1e5


def masked_score(dtype: torch.dtype) -> float:
    """The finite stand-in for minus infinity in scores of this dtype."""
    return MASKED.get(dtype, -1e30)


def valid_steps(lengths: Tensor, time: int) -> Tensor:
    """lengths: (batch,) int64 -> (batch, time) bool, True where the step belongs to the sequence."""
    return torch.arange(time, device=lengths.device) < lengths[:, None]


def additive_mask(lengths: Tensor, time: int, dtype: torch.dtype) -> Tensor:
    """(batch, time) of `dtype`: 0 at valid steps, a large negative number at padded ones."""
    return torch.where(valid_steps(lengths, time), 0.0, masked_score(dtype)).to(dtype)


def zero_padded(x: Tensor, lengths: Tensor | None) -> Tensor:
    """(batch, heads, time, dim) with zeros at padded steps, whatever stood there; lengths (batch,) int64, or None."""
    return x if lengths is None else x.masked_fill(~valid_steps(lengths, x.shape[2])[:, None, :, None], 0)

"""Forced alignment: the emission frames of each unit of a known sequence.

By torchaudio's `forced_align` and `merge_tokens` (Pratap et al. 2023, "Scaling speech technology to 1,000+ languages"), which
find the most probable CTC path of the sequence; torchaudio 2.11 does not deprecate them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asr.inference.alignment import Span


def fewest_frames(ids: Sequence[int]) -> int:
    """The fewest emissions that ids can be aligned to: one each, plus a blank between equal neighbours."""
    return len(ids) + sum(left == right for left, right in zip(ids, ids[1:]))


def align(emissions: Tensor, ids: Sequence[int], blank: int = 0) -> list[Span]:
    """The most probable frames of each unit, in order.

    emissions: (time, units) log-probabilities, any floating dtype and device. ids: units without blanks, perhaps none.
    The confidence of a unit is the maximum over its frames t of p(unit | t): CTC need only emit a unit in one frame, and emitting
    it in neighbouring frames too says nothing about whether it was spoken.

    Raises ValueError if there are fewer emissions than `fewest_frames`, for shapes that do not fit, for NaN, and for ids that
    are blank or out of range.
    """
    if emissions.dim() != 2 or not emissions.is_floating_point():
        raise ValueError(f"emissions must be floating (time, units), not {emissions.dtype} {tuple(emissions.shape)}")
    ids = list(ids)
    if not ids:
        return []
    if not all(0 <= unit < emissions.shape[1] and unit != blank for unit in ids):
        raise ValueError(f"ids must lie in 0..{emissions.shape[1] - 1} and not be the blank, {blank}")
    if emissions.shape[0] < fewest_frames(ids):
        raise ValueError(f"{len(ids)} units need {fewest_frames(ids)} emissions, there are {emissions.shape[0]}")
    from torchaudio.functional import forced_align, merge_tokens

    emissions = emissions.detach().float().cpu().contiguous()
    if bool(emissions.isnan().any()):
        raise ValueError("emissions hold values that are not numbers")
    path, scores = forced_align(emissions[None], torch.tensor([ids], dtype=torch.int64), blank=blank)
    return [
        Span(span.token, span.start, span.end, confidence(float(scores[0, span.start : span.end].max())))
        for span in merge_tokens(path[0], scores[0], blank)
    ]


def confidence(log_probability: float) -> float:
    """A probability, 0..1, from its logarithm, which rounding may push slightly above 0."""
    return min(1.0, float(torch.tensor(log_probability, dtype=torch.float64).exp()))

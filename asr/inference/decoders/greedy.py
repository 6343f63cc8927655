"""Best-path decoding (Graves et al., 2006, "Connectionist temporal classification", section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from asr.inference.decoders import Decoder, Hypothesis, check_emissions


class Greedy(Decoder):
    """The most probable unit of each frame; repeats are merged, then blanks removed.

    The score is the log-probability of that path: the sum over frames of the largest log-probability. Ties go to the unit
    with the lowest index.
    """

    name = "greedy"

    def __init__(self, blank: int = 0):
        """blank: the index of the blank unit in the emissions."""
        self.blank = blank

    @torch.no_grad()
    def __call__(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """One hypothesis per utterance; see `Decoder.__call__` for the shapes."""
        check_emissions(emissions, lengths)
        batch, time, _ = emissions.shape
        if time == 0:
            return [[Hypothesis([], 0.0, [])] for _ in range(batch)]
        largest, path = emissions.max(dim=-1)
        valid = torch.arange(time, device=path.device) < lengths.to(path.device)[:, None]
        scores = largest.double().masked_fill(~valid, 0.0).sum(dim=1).tolist()
        starts = valid & (path != self.blank)
        starts[:, 1:] &= path[:, 1:] != path[:, :-1]
        frames = starts.nonzero()[:, 1]
        counts = starts.sum(dim=1).tolist()
        ids, frames = path[starts].cpu().split(counts), frames.cpu().split(counts)
        return [[Hypothesis(i.tolist(), score, f.tolist())] for i, score, f in zip(ids, scores, frames)]

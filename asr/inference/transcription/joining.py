"""Joins the emissions of overlapping windows into those of the recording."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SMOOTHED = 5  # frames over which quiet is averaged: prefers a pause to a gap between two units


def choose_cut(left: Tensor, right: Tensor, quiet: Sequence[int] = (0,)) -> int:
    """Where to switch from one window to the next: frames before the cut come from the left one, the others from the right.

    left, right: (overlap, outputs) log-probabilities of the same frames. quiet: the outputs that say that nobody speaks: the
    blank, or those of silence. The cut is in the middle half of the overlap, away from the ends of the windows, where they lack
    context; within it, where quiet is most probable in both, which is a pause if there is one. Ties go to the frame nearest the
    middle.
    """
    overlap = left.shape[0]
    if overlap < 2:
        return overlap // 2
    outputs = list(quiet)
    both = left[:, outputs].float().logsumexp(1) + right[:, outputs].float().logsumexp(1)
    smooth = torch.nn.functional.avg_pool1d(
        both[None, None], SMOOTHED, stride=1, padding=SMOOTHED // 2, count_include_pad=False
    )[0, 0]
    quarter = overlap // 4
    middle = smooth[quarter : overlap - quarter].double().cpu()
    best = (middle >= middle.max() - 1e-3).nonzero()[:, 0] + quarter
    return int(best[(best - overlap / 2).abs().argmin()])


class Joiner:
    """Takes the windows of one recording in order, and returns the recording's emissions as soon as they are final.

    overlap: emissions by which a window overlaps the next one, unless it is closed. quiet: see `choose_cut`.
    """

    def __init__(self, overlap: int, quiet: Sequence[int] = (0,)):
        self.overlap, self.quiet = overlap, quiet
        self.tail: Tensor | None = None

    def add(self, emissions: Tensor, closed: bool) -> Tensor:
        """emissions: (time, units) of the next window. closed: whether the next one begins where it ends, or there is none.
        Returns the emissions (any time, units) that follow those returned before. Raises ValueError for a window shorter than
        its overlaps."""
        cut, settled = 0, []
        if self.tail is not None and self.overlap:
            cut = choose_cut(self.tail, emissions[: self.overlap], self.quiet)
            settled.append(self.tail[:cut])
        end = len(emissions) if closed else len(emissions) - self.overlap
        if cut > end:
            raise ValueError(f"a window of {len(emissions)} emissions is too short for an overlap of {self.overlap}")
        settled.append(emissions[cut:end])
        # a copy, so that the batch can be freed
        self.tail = None if closed else emissions[end:].clone()
        return torch.cat(settled)

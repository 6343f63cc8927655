"""Cuts the emissions of a recording at pauses, into segments that are decoded one by one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def choose_pause(emissions: Tensor, shortest: int, quiet: Sequence[int] = (0,)) -> int:
    """The frame to cut before: the middle of the longest run of frames, after the first `shortest`, whose most probable output is
    quiet; the first of equally long runs, or the frame where quiet is most probable if there is no run.

    emissions: (time, outputs) log-probabilities, more than `shortest` of them. quiet: the outputs that say that nobody speaks:
    the blank, or those of silence. A cut at such a blank splits no unit: greedy decoding gives the same units with and without
    it.
    """
    outputs = torch.tensor(quiet, device=emissions.device)
    silent = torch.isin(emissions[shortest:].argmax(dim=-1), outputs).cpu()
    if not bool(silent.any()):
        return shortest + int(emissions[shortest:, outputs].logsumexp(1).argmax())
    edges = torch.diff(
        silent.int(), prepend=torch.zeros(1, dtype=torch.int32), append=torch.zeros(1, dtype=torch.int32)
    )
    starts, ends = (edges == 1).nonzero()[:, 0], (edges == -1).nonzero()[:, 0]
    longest = int((ends - starts).argmax())
    return shortest + int(starts[longest] + ends[longest]) // 2


class Segmenter:
    """Takes the emissions of one recording in order, and returns segments of at most `longest` frames with their first frames.
    Emissions between two known pauses stay one segment unless they are longer."""

    def __init__(self, longest: int, quiet: Sequence[int] = (0,)):
        self.longest, self.quiet = max(3, longest), quiet
        self.held: list[Tensor] = []
        self.size = self.first = 0

    def add(self, emissions: Tensor, closed: bool) -> list[tuple[int, Tensor]]:
        """emissions: the next ones (any time, units). closed: whether a pause or the end follows. Returns (first frame,
        emissions) of the segments that they complete."""
        if len(emissions):
            self.held.append(emissions)
            self.size += len(emissions)
        segments = []
        while self.size > self.longest:
            everything = torch.cat(self.held)
            cut = choose_pause(everything[: self.longest], self.longest // 3, self.quiet)
            segments.append((self.first, everything[:cut]))
            self.held, self.size, self.first = [everything[cut:]], self.size - cut, self.first + cut
        if closed and self.size:
            segments.append((self.first, torch.cat(self.held)))
            self.held, self.size, self.first = [], 0, self.first + self.size
        return segments

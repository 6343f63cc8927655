"""The emissions of a recording, cut at pauses into segments that are decoded one by one."""

from __future__ import annotations

import torch
from torch import Tensor


def choose_pause(emissions: Tensor, shortest: int, blank: int = 0) -> int:
    """The frame to cut before: the middle of the longest run of frames in which the blank is most probable, behind the first
    `shortest` frames; the first such run if several are as long, and the frame with the most probable blank if there is none.

    emissions: (time, units) log-probabilities, more than `shortest` of them. A cut at such a blank splits no unit: units that
    are decoded greedily are the same with and without it.
    """
    silent = (emissions[shortest:].argmax(dim=-1) == blank).cpu()
    if not bool(silent.any()):
        return shortest + int(emissions[shortest:, blank].argmax())
    edges = torch.diff(
        silent.int(), prepend=torch.zeros(1, dtype=torch.int32), append=torch.zeros(1, dtype=torch.int32)
    )
    starts, ends = (edges == 1).nonzero()[:, 0], (edges == -1).nonzero()[:, 0]
    longest = int((ends - starts).argmax())
    return shortest + int(starts[longest] + ends[longest]) // 2


class Segmenter:
    """Takes the emissions of one recording in order and gives segments of at most `longest` frames, each with the frame at which
    it begins. What lies between two pauses that are known is one segment, if it has no more than `longest` frames."""

    def __init__(self, longest: int, blank: int = 0):
        self.longest, self.blank = max(3, longest), blank
        self.held: list[Tensor] = []
        self.size = self.first = 0

    def add(self, emissions: Tensor, closed: bool) -> list[tuple[int, Tensor]]:
        """emissions: (any time, units) that follow; closed: whether a pause or nothing follows them. Returns (first frame,
        emissions) of the segments that are complete."""
        if len(emissions):
            self.held.append(emissions)
            self.size += len(emissions)
        segments = []
        while self.size > self.longest:
            everything = torch.cat(self.held)
            cut = choose_pause(everything[: self.longest], self.longest // 3, self.blank)
            segments.append((self.first, everything[:cut]))
            self.held, self.size, self.first = [everything[cut:]], self.size - cut, self.first + cut
        if closed and self.size:
            segments.append((self.first, torch.cat(self.held)))
            self.held, self.size, self.first = [], 0, self.first + self.size
        return segments

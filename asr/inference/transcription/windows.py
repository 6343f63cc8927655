"""Cuts a recording into windows, each like an utterance of training, on the grid of the emissions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy
from numpy import ndarray

from asr.errors import UserError
from asr.inference.transcription.pauses import (
    EDGE_SECONDS,
    SMOOTHED_SECONDS,
    STRETCH_SECONDS,
    Levels,
    Pause,
    choose_cuts,
    cuts_in,
    find_pauses,
    quiet_below,
    smooth,
)

if TYPE_CHECKING:
    from asr.model.network import Model

LOOKAHEAD = 3  # windows over which cuts are planned


class TooShort(UserError):
    """A recording is shorter than one frame. The sentence lacks its subject, the name that the caller gave the recording."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """How samples become emissions: `stride` samples per emission, `frame` samples per frame, `hop` samples from one frame to the
    next. sample_rate: Hz."""

    stride: int
    frame: int
    hop: int
    sample_rate: int

    @classmethod
    def of(cls, model: Model) -> Grid:
        bank = model.features.filter_bank
        return cls(
            bank.hop_samples * model.encoder.frames_per_output, bank.window_samples, bank.hop_samples, bank.sample_rate
        )

    def samples(self, emissions: int) -> int:
        """The number of samples of this many complete emissions."""
        return (emissions * self.stride // self.hop - 1) * self.hop + self.frame

    def emissions(self, seconds: float) -> int:
        """The number of emissions in this many seconds, at least one."""
        return max(1, round(seconds * self.sample_rate / self.stride))


@dataclasses.dataclass(frozen=True)
class Window:
    """samples: (samples,) float32. first: its first emission in the recording. last: whether it is the last one.

    total: samples of the whole recording, set in the last window only. closed: whether it ends in a pause, or with the recording,
    so that the next one begins after it; otherwise the next one overlaps it. before, after: emissions at its beginning and end
    that belong to its neighbours, included only as context.
    """

    samples: ndarray
    first: int
    last: bool
    total: int | None = None
    closed: bool = False
    before: int = 0
    after: int = 0


@dataclasses.dataclass(frozen=True)
class Pausing:
    """shortest: the shortest pause to cut in, in seconds. skipped: only the ends of pauses longer than this many seconds are
    recognized, because noise normalized like speech is mistaken for it. context: seconds of a pause, at most, that the windows on
    both sides of a cut include."""

    shortest: float
    skipped: float = math.inf
    context: float = 0.2


def windows(
    blocks: Iterable[ndarray], grid: Grid, length: int, overlap: int, pausing: Pausing | None = None
) -> Iterator[Window]:
    """Windows of at most `length` emissions, from pause to pause (`asr.inference.transcription.pauses`).

    Without pauses, or if `pausing` is None, windows have `length` emissions, and each begins `length - overlap` after the one
    before. The last window may be shorter, but is longer than `overlap` if it overlaps the previous one. Without `pausing`, a
    recording of up to `length` emissions is one window. Blocks are held only while needed; their boundaries make no difference.
    Raises ValueError unless 0 <= overlap < length, and TooShort for a recording shorter than one frame.
    """
    if not 0 <= overlap < length:
        raise ValueError(f"the overlap, {overlap}, must lie in 0..{length - 1}")
    ahead = Ahead(blocks, grid, None if pausing is None else Pauses(pausing, grid, length))
    begin, before, overlapped = 0, 0, 0
    while True:
        ahead.drop(begin - before)
        # one emission more than a window shows that the recording continues after it
        ahead.reach(grid.samples(before + (length if pausing is None else LOOKAHEAD * length)) + grid.stride)
        if begin == 0 and ahead.ended and ahead.held.size < grid.frame:
            raise TooShort(f"is shorter than one frame: {ahead.held.size / grid.sample_rate:.4f} s. Leave it out.")
        left = ahead.emissions() - before
        silent = 0 if ahead.pauses is None or overlapped else ahead.pauses.silent(begin, left, ahead.ended)
        if silent and not (ahead.ended and silent >= left):
            begin, before = begin + silent, 0
            continue
        if silent:
            total = ahead.dropped + ahead.held.size
            yield Window(ahead.held.take_all(), begin - before, True, total, True, before + left)
            return
        cut = None if ahead.pauses is None else ahead.pauses.next_cut(begin, overlapped, left, ahead.ended)
        if cut is not None:
            at, quiet, skip = cut
            after = min(quiet, ahead.whole_emissions() - before - at)
            yield Window(
                ahead.held.take(grid.samples(before + at + after)), begin - before, False, None, True, before, after
            )
            begin, before, overlapped = begin + at + skip, quiet, 0
        elif ahead.ended and left <= length - before:
            total = ahead.dropped + ahead.held.size
            yield Window(ahead.held.take_all(), begin - before, True, total, True, before)
            return
        else:
            yield Window(ahead.held.take(grid.samples(length)), begin - before, False, None, False, before)
            begin, before, overlapped = begin - before + length - overlap, 0, overlap


class Ahead:
    """The samples of a recording from the start of the next window to the end of the lookahead, and its pauses."""

    def __init__(self, blocks: Iterable[ndarray], grid: Grid, pauses: Pauses | None):
        self.source, self.grid, self.pauses = iter(blocks), grid, pauses
        self.held, self.dropped, self.ended = Held(), 0, False

    def reach(self, samples: int) -> None:
        """Reads ahead until this many samples are held, or the recording ends."""
        while not self.ended and self.held.size < samples:
            block = next(self.source, None)
            if block is None:
                self.ended = True
                break
            self.held.add(block)
            if self.pauses is not None:
                self.pauses.levels.add(block)

    def drop(self, emissions: int) -> None:
        """Frees everything before this emission."""
        samples = emissions * self.grid.stride - self.dropped
        self.held.drop(samples)
        self.dropped += samples

    def emissions(self) -> int:
        return emissions_of(self.held.size, self.grid)

    def whole_emissions(self) -> int:
        """The number of held emissions with all their frames."""
        return max(0, (self.held.size - self.grid.frame) // self.grid.hop + 1) * self.grid.hop // self.grid.stride


class Pauses:
    """Decides where to cut a recording next, from its beginning to its end."""

    def __init__(self, pausing: Pausing, grid: Grid, length: int):
        self.levels = Levels(grid.frame, grid.hop, grid.sample_rate)
        self.factor, self.length = grid.stride // grid.hop, length
        self.rate = grid.sample_rate / grid.hop
        self.shortest = max(1, round(pausing.shortest * self.rate))
        self.context = round(pausing.context * self.rate / self.factor)
        self.skipped = max(pausing.skipped, 2 * EDGE_SECONDS)
        self.below: float | None = None
        self.stretch = max(round(STRETCH_SECONDS * self.rate), LOOKAHEAD * length * self.factor)

    def find(self, begin: int, left: int) -> tuple[list[Pause], int]:
        """The pauses in the next `LOOKAHEAD` windows, and the end of these; both in frames from emission `begin`."""
        known = min(left, LOOKAHEAD * self.length) * self.factor
        first = begin * self.factor
        levels = smooth(
            self.levels.between(first + known - self.stretch, first + known), round(SMOOTHED_SECONDS * self.rate)
        )
        here = first - self.levels.first
        # in a quiet longer than a stretch, the last threshold still holds
        self.below = quiet_below(levels) or self.below
        pauses = [] if self.below is None else find_pauses(levels[here:], self.below, self.shortest)
        return pauses, min(known, len(levels) - here)

    def silent(self, begin: int, left: int, ended: bool) -> int:
        """The number of emissions from `begin` that a long pause lets us skip; `left` if nothing else follows."""
        pauses, end = self.find(begin, left)
        if not pauses or pauses[0].first > 0:
            return 0
        whole = ended and pauses[0].end >= end and left <= LOOKAHEAD * self.length
        if whole and self.skipped < math.inf:
            return left
        if pauses[0].end <= self.skipped * self.rate:
            return 0
        return round(pauses[0].end - EDGE_SECONDS * self.rate) // self.factor

    def next_cut(self, begin: int, overlapped: int, left: int, ended: bool) -> tuple[int, int, int] | None:
        """(where to cut, from `begin`; context from the pause on both sides; how much of the pause to skip), all in emissions;
        None if the next piece has no pause to end in, or ends with the recording.

        begin: the emission where the piece begins. overlapped: emissions from there that overlap the previous window. left:
        emissions from there that are held. ended: whether the recording ends with them.
        """
        pauses, end = self.find(begin, left)
        longest = (self.length - 2 * self.context) * self.factor
        cuts = cuts_in(pauses, end, (overlapped + 1) * self.factor, self.rate, self.skipped)
        chosen = choose_cuts(cuts, end, longest, ended and left <= LOOKAHEAD * self.length)[0]
        if chosen is None or chosen.at > longest:
            return None
        return chosen.at // self.factor, min(self.context, chosen.quiet // self.factor), chosen.skip // self.factor


def emissions_of(samples: int, grid: Grid) -> int:
    """The number of emissions of this many samples; leftover frames make one more."""
    frames = max(0, (samples - grid.frame) // grid.hop + 1)
    return math.ceil(frames * grid.hop / grid.stride)


class Held:
    """A queue of samples, kept in the blocks they came in."""

    def __init__(self):
        self.blocks: list[ndarray] = []
        self.size = 0

    def add(self, block: ndarray) -> None:
        if len(block):
            self.blocks.append(block)
            self.size += len(block)

    def take(self, count: int) -> ndarray:
        """The first `count` samples, which stay in the queue."""
        parts, left = [], count
        for block in self.blocks:
            parts.append(block[:left])
            left -= len(parts[-1])
            if not left:
                break
        return numpy.concatenate(parts) if parts else numpy.zeros(0, numpy.float32)

    def take_all(self) -> ndarray:
        """Removes and returns all samples, never holding two copies of more than one block."""
        samples, at = numpy.empty(self.size, numpy.float32), 0
        self.blocks.reverse()
        while self.blocks:
            block = self.blocks.pop()
            samples[at : at + len(block)] = block
            at += len(block)
        self.size = 0
        return samples

    def drop(self, count: int) -> None:
        self.size -= count
        while count:
            if len(self.blocks[0]) <= count:
                count -= len(self.blocks.pop(0))
            else:
                self.blocks[0] = self.blocks[0][count:].copy()
                count = 0

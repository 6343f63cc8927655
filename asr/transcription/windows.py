"""A recording cut into windows that overlap, each an utterance like those of training, on the grid of the emissions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy
from numpy import ndarray

from asr.errors import UserError

if TYPE_CHECKING:
    from asr.model import Model


@dataclasses.dataclass(frozen=True)
class Grid:
    """How samples become emissions. stride: samples from one emission to the next; frame: samples that the first frame sees; hop:
    samples from one frame to the next."""

    stride: int
    frame: int
    hop: int
    sample_rate: int

    @classmethod
    def of(cls, model: Model) -> Grid:
        bank = model.features.filter_bank
        factor = model.description["encoder"].get("subsampling", 1)
        return cls(bank.hop_samples * factor, bank.window_samples, bank.hop_samples, bank.sample_rate)

    def samples(self, emissions: int) -> int:
        """The samples of so many emissions that have all their frames."""
        return (emissions * self.stride // self.hop - 1) * self.hop + self.frame

    def emissions(self, seconds: float) -> int:
        """How many emissions so many seconds are, at least one."""
        return max(1, round(seconds * self.sample_rate / self.stride))


@dataclasses.dataclass(frozen=True)
class Window:
    """samples: (samples,) float32. first: the emission of the recording that is its first. last: whether no other follows.

    total: samples of the whole recording, known with its last window.
    """

    samples: ndarray
    first: int
    last: bool
    total: int | None = None


def windows(blocks: Iterable[ndarray], grid: Grid, length: int, overlap: int) -> Iterator[Window]:
    """Windows of `length` emissions, each beginning `length - overlap` after the one before; the last one is shorter, but has
    more than `overlap`.

    A recording of up to `length` emissions is one window. Only what is still needed of the blocks is held. Raises ValueError
    unless 0 <= overlap < length; and UserError if the recording is shorter than one frame.
    """
    if not 0 <= overlap < length:
        raise ValueError(f"the overlap, {overlap}, must lie in 0..{length - 1}")
    source, held, first, dropped, ended = iter(blocks), Held(), 0, 0, False
    step = length - overlap
    needed = grid.samples(length)
    while True:
        # one emission more than a window tells that the recording goes on behind it
        while not ended and held.size < needed + grid.stride:
            block = next(source, None)
            if block is None:
                ended = True
            else:
                held.add(block)
        if ended and emissions_of(held.size, grid) <= length:
            total = dropped + held.size
            if first == 0 and held.size < grid.frame:
                raise UserError(f"it is shorter than one frame: {total / grid.sample_rate:.4f} s.")
            yield Window(held.take_all(), first, True, total)
            return
        yield Window(held.take(needed), first, False)
        held.drop(step * grid.stride)
        dropped += step * grid.stride
        first += step


def emissions_of(samples: int, grid: Grid) -> int:
    """Emissions of so many samples: any frames that are left over make one more."""
    frames = max(0, (samples - grid.frame) // grid.hop + 1)
    return math.ceil(frames * grid.hop / grid.stride)


class Held:
    """Samples that wait, as the blocks that they came in."""

    def __init__(self):
        self.blocks: list[ndarray] = []
        self.size = 0

    def add(self, block: ndarray) -> None:
        if len(block):
            self.blocks.append(block)
            self.size += len(block)

    def take(self, count: int) -> ndarray:
        """The first so many samples, which stay."""
        parts, left = [], count
        for block in self.blocks:
            parts.append(block[:left])
            left -= len(parts[-1])
            if not left:
                break
        return numpy.concatenate(parts) if parts else numpy.zeros(0, numpy.float32)

    def take_all(self) -> ndarray:
        """All samples, none of which stays; at no time are there two copies of more than one block."""
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

"""Cuts audio files into the windows that the model recognizes, file by file."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy
import torch

from asr.audio.streaming import stream_audio
from asr.errors import UserError
from asr.inference.transcription.inputs import Source, named, opened
from asr.inference.transcription.one_pass import most_samples
from asr.inference.transcription.remarks import Remarks
from asr.inference.transcription.request import Request, check_windows, refuse_quadratic
from asr.inference.transcription.windows import Grid, Held, Pausing, TooShort, Window, windows
from asr.model.network import Model

# (number of the source, its next window, or a sentence if the source cannot be used)
Piece = tuple[int, Window | str]


@dataclasses.dataclass(frozen=True)
class Cutting:
    """How recordings are cut into windows.

    length, overlap: of windows, in emissions. whole: the longest recording that stays one window, in samples, regardless of
    `length`. pausing: which pauses to cut in; None for none.
    """

    grid: Grid
    length: int
    overlap: int
    whole: int
    pausing: Pausing | None

    @classmethod
    def of(cls, request: Request, model: Model, device: torch.device) -> Cutting:
        """Raises UserError for windows and overlaps that contradict each other, and for one_pass with quadratic attention."""
        grid = Grid.of(model)
        length = grid.emissions(request.window_seconds)
        overlap = round(request.overlap_seconds / model.seconds_per_emission)
        check_windows(request, length, overlap)
        if request.one_pass:
            refuse_quadratic(model)
        whole = most_samples(model, device) if request.one_pass else round(request.whole_seconds * grid.sample_rate)
        pausing = None
        if request.pause_seconds is not None:
            pausing = Pausing(request.pause_seconds, math.inf if request.skip_seconds is None else request.skip_seconds)
        return cls(grid, length, overlap, whole, pausing)


def pieces_of(sources: Sequence[Source], request: Request, cutting: Cutting, remarks: Remarks) -> Iterator[Piece]:
    """The windows of all sources, one source after the other."""
    for number, source in enumerate(sources):
        try:
            with opened(source) as path:
                try:
                    blocks = stream_audio(
                        path,
                        cutting.grid.sample_rate,
                        request.longest_seconds,
                        request.channel,
                        mixed=functools.partial(remarks.mixed, source),
                        cancelled=functools.partial(remarks.cancelled, source),
                        narrow=functools.partial(remarks.narrow, source),
                    )
                    too_long = functools.partial(remarks.too_long, source) if request.one_pass else lambda seconds: None
                    for window in windows_of(blocks, cutting, too_long):
                        yield number, window
                except TooShort as error:
                    yield number, f"{source.in_sentences} {error}"
                except UserError as error:
                    yield number, named(error, source, path)
        except UserError as error:
            yield number, str(error)


def windows_of(
    blocks: Iterator[numpy.ndarray], cutting: Cutting, too_long: Callable[[float], None]
) -> Iterable[Window]:
    """The windows of a recording. too_long: called if it exceeds one window, with the seconds that fit."""
    grid, held = cutting.grid, Held()
    for block in blocks:
        held.add(block)
        if held.size > cutting.whole:
            too_long(cutting.whole / grid.sample_rate)
            every = itertools.chain(drained(held), blocks)
            return windows(every, grid, cutting.length, cutting.overlap, cutting.pausing)
    return windows(drained(held), grid, held.size + 1, 0)


def drained(held: Held) -> Iterator[numpy.ndarray]:
    """The held blocks, each freed once it has been passed on."""
    held.blocks.reverse()
    while held.blocks:
        yield held.blocks.pop()


def batches(pieces: Iterable[Piece], most_samples: int) -> Iterator[list[Piece]]:
    """Pieces in order, in batches of at most `most_samples` with padding; a longer piece gets a batch of its own."""
    batch: list[Piece] = []
    longest = rows = 0
    for piece in pieces:
        size = len(piece[1].samples) if isinstance(piece[1], Window) else 0
        if size and rows and max(longest, size) * (rows + 1) > most_samples:
            yield batch
            batch, longest, rows = [], 0, 0
        batch.append(piece)
        longest, rows = max(longest, size), rows + bool(size)
    if batch:
        yield batch

"""Streams audio files block by block, so that an hour of audio is never in memory at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
from numpy import ndarray

from asr.audio.arrays import Sound
from asr.audio.reading import mono, read_header, stream_sound
from asr.audio.resampling import resampler
from asr.errors import UserError

BLOCK_SECONDS = 10.0
# dB; speech on only one of two channels loses 6 in their mean
CANCELLED = 20.0


def stream_audio(
    path: str | Path | Sound,
    sample_rate: int,
    longest_seconds: float | None = None,
    channel: int | None = None,
    block_seconds: float = BLOCK_SECONDS,
    mixed: Callable[[int], None] = lambda channels: None,
    cancelled: Callable[[float, int], None] = lambda decibels, channel: None,
    narrow: Callable[[int], None] = lambda rate: None,
) -> Iterator[ndarray]:
    """The waveform of a file in blocks (samples,) float32 at `sample_rate` Hz: one channel, counted from 1, or the mean of all.

    Concatenated, they are what `asr.audio.reading.read_audio` returns. Blocks may have any length, including 0.
    mixed: called with the number of channels if several are mixed. cancelled: called at the end if their mean is more than
    CANCELLED dB quieter than the loudest of them, with the difference (dB, infinite for silence) and the loudest, from 1.
    narrow: called with the file's sample rate in Hz if it is below `sample_rate`.
    Raises UserError as `asr.audio.reading.stream_sound` does, and for a channel that the file does not have.
    """
    convert = None
    loudness = Loudness()
    for block, rate in stream_sound(path, longest_seconds, block_seconds):
        if channel is not None and channel > block.shape[1]:
            raise UserError(
                f"{path} has {block.shape[1]} channel{'s' * (block.shape[1] > 1)}, but channel={channel} was chosen: choose "
                "one of them."
            )
        if convert is None and channel is None and block.shape[1] > 1:
            mixed(block.shape[1])
        if convert is None and rate < sample_rate:
            narrow(rate)
        waveform = mono(block, channel)
        if channel is None and block.shape[1] > 1:
            loudness.add(numpy.column_stack([block, waveform]))
        convert = convert or resampler(rate, sample_rate)
        yield convert(waveform, last=False)
    if convert is not None:
        yield convert(numpy.zeros(0, numpy.float32), last=True)
    if loudness.samples:
        *each, mean = loudness.variances()
        loudest = int(numpy.argmax(each))
        decibels = 10 * math.log10(each[loudest] / mean) if mean > 0 else math.inf
        if each[loudest] > 0 and decibels > CANCELLED:
            cancelled(decibels, loudest + 1)


class Loudness:
    """The variances of several signals, computed block by block: their power without a constant offset."""

    def __init__(self):
        self.samples, self.sums, self.squares = 0, 0.0, 0.0

    def add(self, block: ndarray) -> None:
        """block: (samples, signals)."""
        block = block.astype(numpy.float64)
        self.samples += len(block)
        self.sums, self.squares = self.sums + block.sum(axis=0), self.squares + (block**2).sum(axis=0)

    def variances(self) -> ndarray:
        """(signals,) float64."""
        return numpy.maximum(self.squares / self.samples - (self.sums / self.samples) ** 2, 0.0)


def promised_seconds(path: str | Path) -> float | None:
    """The length of a file in seconds by its header, for a progress bar; None if only decoding would show it."""
    try:
        header = read_header(path)
    except UserError:
        return None
    return None if header.samples is None else header.samples / header.sample_rate

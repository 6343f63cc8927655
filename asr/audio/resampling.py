"""Resamples waveforms, at once or in blocks, with the same result."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy
from numpy import ndarray

if TYPE_CHECKING:
    import av

LOWPASS_WIDTH, ROLLOFF = 6, 0.99  # torchaudio's defaults
# Ratios of rates whose filters have more taps take gigabytes in torchaudio (44101 to 16000 takes three).
MOST_TAPS = 10_000_000


def resample(waveform: ndarray, rate: int, new_rate: int) -> ndarray:
    """waveform (samples,) float32 at `rate` Hz → (samples · new_rate / rate, rounded up,) float32 at `new_rate` Hz.

    By torchaudio (band-limited interpolation), or by FFmpeg between rates such as 44101 and 16000 Hz, for which torchaudio
    would take gigabytes.
    """
    return resampler(rate, new_rate)(waveform, last=True)


def resampler(rate: int, new_rate: int) -> Callable[..., ndarray]:
    """A function of (block (samples,) float32 at `rate` Hz, last) that returns the samples ready so far, at `new_rate` Hz.

    Concatenated, its results equal `resample` of all blocks together. Pass last=True with the last block to get the rest.
    """
    if rate == new_rate:
        return lambda waveform, last: waveform
    common = math.gcd(rate, new_rate)
    if (rate // common) * (new_rate // common) > MOST_TAPS:
        return ByFFmpeg(rate, new_rate)
    return ByTorchaudio(rate, new_rate)


class ByTorchaudio:
    """Band-limited interpolation. An output depends on samples on both sides, and waits for those on the right."""

    def __init__(self, rate: int, new_rate: int):
        import torch
        import torchaudio

        common = math.gcd(rate, new_rate)
        self.step, self.new_step = rate // common, new_rate // common
        reach = math.ceil(LOWPASS_WIDTH * self.step / (min(self.step, self.new_step) * ROLLOFF)) + self.step
        # rounded up to steps, the period of the filters
        self.context = math.ceil(reach / self.step)
        self.convert = torchaudio.transforms.Resample(rate, new_rate, dtype=torch.float32)
        self.held = numpy.zeros(0, numpy.float32)
        self.left = 0  # steps of context at the start of the held samples

    def __call__(self, waveform: ndarray, last: bool) -> ndarray:
        import torch

        self.held = numpy.concatenate([self.held, waveform])
        steps = len(self.held) // self.step - self.left - self.context
        if not last and steps < 1 or len(self.held) == 0:
            return numpy.zeros(0, numpy.float32)
        if last:
            piece = self.held
        else:
            piece = self.held[: (self.left + steps + self.context) * self.step]
        converted = self.convert(torch.from_numpy(piece)).numpy()[self.left * self.new_step :]
        if last:
            self.held = numpy.zeros(0, numpy.float32)
            return converted
        kept = min(self.left + steps, self.context)
        self.held = self.held[(self.left + steps - kept) * self.step :]
        self.left = kept
        return converted[: steps * self.new_step]


class ByFFmpeg:
    """Resampling by FFmpeg, for ratios such as 44101 to 16000 Hz, whose filters would take gigabytes in torchaudio."""

    def __init__(self, rate: int, new_rate: int):
        import av

        self.rate, self.new_rate = rate, new_rate
        self.converter = av.AudioResampler(format="flt", layout="mono", rate=new_rate)
        self.given = self.taken = 0

    def __call__(self, waveform: ndarray, last: bool) -> ndarray:
        import av

        pieces: list[av.AudioFrame | None] = []
        if len(waveform):
            frame = av.AudioFrame.from_ndarray(waveform[None], format="flt", layout="mono")
            frame.sample_rate, frame.pts = self.rate, self.given
            self.given += len(waveform)
            pieces.append(frame)
        if last and self.given:
            pieces.append(None)
        blocks = [block.to_ndarray()[0] for piece in pieces for block in self.converter.resample(piece)]
        ready = numpy.concatenate(blocks) if blocks else numpy.zeros(0, numpy.float32)
        if last:
            missing = -(-self.given * self.new_rate // self.rate) - self.taken
            ready = numpy.pad(ready[:missing], (0, max(0, missing - len(ready))))
        self.taken += len(ready)
        return ready

"""Sound that is already in memory, as numpy arrays or torch tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy

from asr.errors import TooLong, UserError

# of one recording; more would be a batch
MOST_CHANNELS = 2
# integer types of sound: (full scale, silence)
SCALES = {"int8": (2**7, 0), "uint8": (2**7, 2**7), "int16": (2**15, 0), "int32": (2**31, 0)}


@dataclasses.dataclass(frozen=True)
class Sound:
    """samples: (time, channels) float32. sample_rate: in Hz. name: what messages call it."""

    samples: numpy.ndarray
    sample_rate: int
    name: str

    def __str__(self) -> str:
        return self.name

    def blocks(self, longest_seconds: float, block_seconds: float) -> Iterator[tuple[numpy.ndarray, int]]:
        """(samples (time, channels), Hz) in blocks, as files are read. Raises TooLong for more than `longest_seconds`."""
        seconds = len(self.samples) / self.sample_rate
        if seconds > longest_seconds:
            raise TooLong(self.name, seconds, longest_seconds)
        step = max(1, round(min(block_seconds, seconds) * self.sample_rate))
        for first in range(0, len(self.samples), step):
            yield self.samples[first : first + step], self.sample_rate


def sound_of(array: Any, sample_rate: int | None, name: str) -> Sound:
    """The sound in a numpy array or a torch tensor: (time,), (channels, time) or (time, channels).

    array: floats between -1 and 1, or integers of 8, 16 or 32 bits, whose full scale becomes 1. sample_rate: in Hz.
    Raises UserError, calling it `name`, for other types and shapes, and if the sample rate is missing or not a positive
    whole number.
    """
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
    array = numpy.asarray(array)
    if sample_rate is None:
        raise UserError(f"{name} has no sample rate: add sample_rate=16000, or whatever rate it was recorded at.")
    if not isinstance(sample_rate, (int, float, numpy.number)) or not sample_rate >= 1 or sample_rate % 1:
        raise UserError(
            f"sample_rate of {name} is {sample_rate!r}, which is not a whole number of Hz: give one like 16000."
        )
    return Sound(_channels_last(_as_floats(array, name), name), int(sample_rate), name)


def _as_floats(array: numpy.ndarray, name: str) -> numpy.ndarray:
    if array.dtype.kind == "f":
        return array.astype(numpy.float32)
    if array.dtype.name not in SCALES:
        raise UserError(
            f"{name} holds {array.dtype.name}: give floats between -1 and 1, or integers of 8, 16 or 32 bits."
        )
    scale, silence = SCALES[array.dtype.name]
    return ((array.astype(numpy.float64) - silence) / scale).astype(numpy.float32)


def _channels_last(array: numpy.ndarray, name: str) -> numpy.ndarray:
    if not array.size:
        raise UserError(f"{name} is empty, its shape is {array.shape}: give at least one sample.")
    if array.ndim == 1:
        return array[:, None]
    if array.ndim != 2:
        raise UserError(f"{name} has shape {array.shape}: give (time,) or (channels, time).")
    if min(array.shape) > MOST_CHANNELS:
        raise UserError(
            f"{name} has shape {array.shape}: give (time,) or, for up to {MOST_CHANNELS} channels, (channels, time); "
            "give several recordings as a list of arrays."
        )
    return array.T if array.shape[0] <= array.shape[1] else array

"""The audio of lhotse's cuts: files are read by `asr.audio.reading` like all others, and transformed by lhotse as the manifest
says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
from lhotse.audio import backend
from lhotse.augmentation import AudioTransform

from asr.audio.reading import read_stretch

if TYPE_CHECKING:
    from lhotse import MonoCut, Recording


class AudioOfFiles(backend.AudioBackend):
    """Our reader of files in place of lhotse's; audio in memory is left to lhotse."""

    def read_audio(self, path_or_fd, offset=0.0, duration=None, force_opus_sampling_rate=None):
        """(channels, samples) float32, and the sample rate in Hz. offset, duration: seconds."""
        if not isinstance(path_or_fd, (str, Path)):
            return backend.get_default_audio_backend().read_audio(
                path_or_fd, offset, duration, force_opus_sampling_rate
            )
        channels, rate = read_stretch(path_or_fd, offset, duration)
        return channels.T, rate


def load_audio(cut: MonoCut) -> numpy.ndarray:
    """The audio of a cut after all transforms of its recording: (channels, samples) float32, at the recording's sample rate.

    Raises UserError as `asr.audio.reading.read_audio` does, and whatever lhotse raises where it is not as long as the manifest
    says.
    """
    with _reading_files_by(AudioOfFiles()):
        return cut.load_audio()


@contextlib.contextmanager
def _reading_files_by(reader: backend.AudioBackend) -> Iterator[None]:
    # lhotse.audio.backend.audio_backend does not put the old one back after an exception
    previous = backend.CURRENT_AUDIO_BACKEND
    backend.CURRENT_AUDIO_BACKEND = reader
    try:
        yield
    finally:
        backend.CURRENT_AUDIO_BACKEND = previous


def transforms_of(recording: Recording) -> list[AudioTransform]:
    """What lhotse does to the audio of a recording once it is read, in this order.

    Raises AssertionError, TypeError or the like for a transform that lhotse does not know.
    """
    changes = recording.transforms or ()
    return [change if isinstance(change, AudioTransform) else AudioTransform.from_dict(change) for change in changes]


def changes_of(recording: Recording) -> str:
    """The transforms of a recording as text: the same for the same, empty for none."""
    return "; ".join(map(repr, transforms_of(recording)))


def rooms_of(recording: Recording) -> list[Recording]:
    """Further recordings that the transforms of a recording read: impulse responses of rooms."""
    rooms = [getattr(transform, "rir", None) for transform in transforms_of(recording)]
    return [getattr(room, "recording", room) for room in rooms if room is not None]  # it may be a cut


def stored_rate(recording: Recording) -> int:
    """The sample rate in Hz that the files of a recording have, before its transforms."""
    for transform in transforms_of(recording):
        rate = getattr(transform, "source_sampling_rate", None)  # Resample and Narrowband have one
        if rate is not None:
            return rate
    return recording.sampling_rate


def stored_stretch(recording: Recording, start: float, duration: float) -> tuple[float, float]:
    """(start, duration) in the files of a recording, before its transforms, of a stretch of what they make of it; in seconds."""
    for transform in reversed(transforms_of(recording)):
        start, duration = transform.reverse_timestamps(start, duration, recording.sampling_rate)
    return start, duration


def refused_transform(recording: Recording) -> str | None:
    """Why a transform of a recording cannot be applied: some need functions that torchaudio no longer has."""
    for transform in transforms_of(recording):
        kind = type(transform)
        if kind not in _tried:
            _tried[kind] = _try(transform, stored_rate(recording))
        if _tried[kind]:
            return f"{kind.__name__}: {_tried[kind]}"
    return None


_tried: dict[type[AudioTransform], str | None] = {}


def _try(transform: AudioTransform, rate: int) -> str | None:
    noise = numpy.random.default_rng(0).normal(0, 0.1, (1, rate)).astype(numpy.float32)
    try:
        transform(noise, rate)
    except Exception as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    return None

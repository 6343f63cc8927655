"""The audio of lhotse's cuts: `asr.audio.reading` reads the files, and lhotse applies the manifest's transforms."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
from lhotse.audio import backend
from lhotse.augmentation import AudioTransform

from asr.audio.reading import read_stretch, unusable_samples
from asr.errors import UserError

if TYPE_CHECKING:
    from lhotse import MonoCut, Recording
    from torch import Tensor


class AudioOfFiles(backend.AudioBackend):
    """Reads files with our reader instead of lhotse's, which still reads audio in memory."""

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

    Raises UserError as `asr.audio.reading.read_audio` does, and whatever lhotse raises for audio shorter than the manifest says.
    """
    with _reading_files_by(AudioOfFiles()):
        return cut.load_audio()


def load_waveform(cut: MonoCut) -> Tensor:
    """The first channel of a cut, (samples,) float32.

    Raises UserError, naming the cut and the file, if the audio cannot be read, is cut short or is not sound.
    """
    import torch

    source = cut.recording.sources[0].source if cut.has_recording and cut.recording.sources else "?"
    try:
        waveform = load_audio(cut)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"The audio of utterance {cut.id} cannot be read from {source}: {reason.rstrip('.')}. Put the file back, or prepare "
            "the corpus again."
        ) from None
    if waveform.shape[-1] != cut.num_samples:
        raise UserError(
            f"The audio of utterance {cut.id} in {source} has {waveform.shape[-1]} samples instead of {cut.num_samples}: "
            "the file is cut short or has changed; prepare the corpus again."
        )
    problem = unusable_samples(waveform)
    if problem:
        raise UserError(f"The audio of utterance {cut.id} in {source} holds {problem}: record or convert it again.")
    return torch.from_numpy(numpy.ascontiguousarray(waveform[0], dtype=numpy.float32))


@contextlib.contextmanager
def _reading_files_by(reader: backend.AudioBackend) -> Iterator[None]:
    # lhotse.audio.backend.audio_backend does not restore the previous one after an exception
    previous = backend.CURRENT_AUDIO_BACKEND
    backend.CURRENT_AUDIO_BACKEND = reader
    try:
        yield
    finally:
        backend.CURRENT_AUDIO_BACKEND = previous


def transforms_of(recording: Recording) -> list[AudioTransform]:
    """The transforms that lhotse applies to the audio of a recording, in order.

    Raises AssertionError, TypeError or the like for a transform that lhotse does not know.
    """
    changes = recording.transforms or ()
    return [change if isinstance(change, AudioTransform) else AudioTransform.from_dict(change) for change in changes]


def changes_of(recording: Recording) -> str:
    """The transforms of a recording as text: equal for equal transforms, empty for none."""
    return "; ".join(map(repr, transforms_of(recording)))


def rooms_of(recording: Recording) -> list[Recording]:
    """The recordings that a recording's transforms read: impulse responses of rooms."""
    rooms = [getattr(transform, "rir", None) for transform in transforms_of(recording)]
    return [getattr(room, "recording", room) for room in rooms if room is not None]  # it may be a cut


def stored_rate(recording: Recording) -> int:
    """The sample rate in Hz of a recording's files, before its transforms."""
    for transform in transforms_of(recording):
        rate = getattr(transform, "source_sampling_rate", None)  # Resample and Narrowband have one
        if rate is not None:
            return rate
    return recording.sampling_rate


def stored_stretch(recording: Recording, start: float, duration: float) -> tuple[float, float]:
    """(start, duration) in the files of a recording for a stretch of its transformed audio; in seconds."""
    for transform in reversed(transforms_of(recording)):
        start, duration = transform.reverse_timestamps(start, duration, recording.sampling_rate)
    return start, duration


def refused_transform(recording: Recording) -> str | None:
    """Why a transform of a recording cannot be applied, if so: some need functions that torchaudio no longer has."""
    for transform in transforms_of(recording):
        kind = type(transform)
        if kind not in _faults:
            _faults[kind] = _try(transform, stored_rate(recording))
        if _faults[kind]:
            return f"{kind.__name__}: {_faults[kind]}"
    return None


_faults: dict[type[AudioTransform], str | None] = {}


def _try(transform: AudioTransform, rate: int) -> str | None:
    noise = numpy.random.default_rng(0).normal(0, 0.1, (1, rate)).astype(numpy.float32)
    try:
        transform(noise, rate)
    except Exception as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    return None

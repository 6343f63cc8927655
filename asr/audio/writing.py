"""Writes audio as FLAC."""

from __future__ import annotations

import io
from pathlib import Path

import numpy


def flac(waveform: numpy.ndarray, sample_rate: int) -> bytes:
    """waveform (samples,) float as the bytes of a 16-bit FLAC file: lossless for 16-bit audio, clipped above full scale."""
    import soundfile

    samples = numpy.clip(numpy.rint(numpy.asarray(waveform) * 32768.0), -32768, 32767).astype(numpy.int16)
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def write_flac(path: str | Path, waveform: numpy.ndarray, sample_rate: int) -> None:
    """Writes a waveform as `flac`. Raises OSError if it cannot be written, with a reason that libsndfile would hide."""
    Path(path).write_bytes(flac(waveform, sample_rate))

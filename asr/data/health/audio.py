"""Measures the audio of a corpus: decodes every recording once and measures each utterance's stretch of it.

Imports no torch and no lhotse, because every process that decodes imports this module.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import multiprocessing
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

import numpy

from asr.audio.reading import read_channels
from asr.errors import UserError

# a sample of this magnitude or more is at full scale: the last step of 16-bit audio and beyond
FULL_SCALE = 32766.5 / 32768
# lhotse refuses audio that is off by more (its AUDIO_DURATION_MISMATCH_TOLERANCE), in seconds
DURATION_TOLERANCE = 0.025
QUIETEST = -120.0  # dB, reported for digital silence


@dataclasses.dataclass(frozen=True)
class Stretch:
    """An utterance's part of a recording, in seconds. changes: what the manifest does to its audio, such as a new speed."""

    split: str
    utterance: str
    start: float
    duration: float
    changes: str


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recording to decode. audio: its path, or the bytes of its file. channel: the one that the utterances are on.

    duration: seconds, and sample_rate: Hz, both as the manifest gives them.
    """

    audio: str | bytes
    name: str
    channel: int
    duration: float
    sample_rate: int
    stretches: tuple[Stretch, ...]


@dataclasses.dataclass(frozen=True)
class Measured:
    """An utterance's audio as it is stored, before any resampling.

    fault: why it cannot be used, else None; with a fault, the fields after it are empty. sample_rate: Hz. channels: of the
    file. seconds: of the recording. peak: 0 to 1. level: root mean square, dB relative to full scale. clipped, zeros: shares
    of samples at full scale and exactly zero. offset: mean sample, -1 to 1. half_band: energy above 0.55 of the Nyquist
    frequency, dB relative to all energy. digest: of the samples in 16 bits; trimmed: likewise, without zeros at either end.
    changes: what the manifest does to them.
    """

    split: str
    utterance: str
    fault: str | None
    sample_rate: int = 0
    channels: int = 0
    seconds: float = 0.0
    peak: float = 0.0
    level: float = 0.0
    clipped: float = 0.0
    zeros: float = 0.0
    offset: float = 0.0
    half_band: float = 0.0
    digest: str = ""
    trimmed: str = ""
    changes: str = ""


def recordings_of(corpus) -> list[Recording]:
    """The recordings of a corpus with the utterances on each, in the order of the splits.

    As they are stored, before anything that lhotse does to them, such as a change of speed.
    """
    from asr.audio.cuts import changes_of, stored_rate, stored_stretch

    grouped: dict[tuple, list] = {}
    for split, cuts in corpus.splits.items():
        for cut in cuts:
            if cut.has_recording and cut.recording.sources:
                source = cut.recording.sources[0]
                key = (source.source if isinstance(source.source, str) else cut.id, cut.channel)
                grouped.setdefault(key, [cut.recording, cut.channel, []])[2].append(
                    Stretch(
                        split,
                        cut.id,
                        *stored_stretch(cut.recording, cut.start, cut.duration),
                        changes_of(cut.recording),
                    )
                )
    result = []
    for recording, channel, stretches in grouped.values():
        # a source holds some of the recording's channels, in this order
        source = next((each for each in recording.sources if channel in each.channels), recording.sources[0])
        index = source.channels.index(channel) if channel in source.channels else 0
        audio = source.source if source.type in ("file", "memory") else ""
        _, seconds = stored_stretch(recording, 0.0, recording.duration)
        result.append(Recording(audio, recording.id, index, seconds, stored_rate(recording), tuple(stretches)))
    return result


def measure(recordings: list[Recording], workers: int) -> list[Measured]:
    """Decodes every recording in `workers` processes (1: in this one), with a progress bar if stderr is a terminal.

    A recording that cannot be decoded gets a `fault`. Raises UserError if a process dies.
    """
    from rich.console import Console
    from rich.progress import track

    tracked = track(
        _measured(recordings, workers),
        description=f"reading {len(recordings)} recordings",
        total=len(recordings),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    return [each for group in tracked for each in group]


def _measured(recordings: list[Recording], workers: int) -> Iterator[list[Measured]]:
    if workers <= 1 or len(recordings) < 2:
        yield from map(measure_recording, recordings)
        return
    # forking a process in which torch has threads can hang
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_to_the_parent)
    try:
        # a bounded window keeps a corpus of millions from being copied into a queue at once
        rest, waiting = iter(recordings), []
        while batch := list(islice(rest, 32)):
            waiting.append((batch, pool.submit(_measure_batch, batch)))
            if len(waiting) > 4 * workers:
                yield from _result(*waiting.pop(0))
        for batch, future in waiting:
            yield from _result(batch, future)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(batch: list[Recording], future) -> list[list[Measured]]:
    try:
        return future.result()
    except BrokenProcessPool:
        raise UserError(
            f"A worker died while decoding audio near {batch[0].name}, out of memory or on a broken file: try workers=1."
        ) from None


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _measure_batch(batch: list[Recording]) -> list[list[Measured]]:
    return [measure_recording(recording) for recording in batch]


def measure_recording(recording: Recording) -> list[Measured]:
    """Measures the utterances of a recording; a fault of the recording is a fault of each."""
    try:
        samples, rate = _decode(recording)
    except UserError as error:
        return [Measured(each.split, each.utterance, str(error)) for each in recording.stretches]
    seconds, facts = len(samples) / rate, {"sample_rate": rate, "channels": samples.shape[1]}
    fault = None
    if rate != recording.sample_rate:
        fault = f"{recording.name} is at {rate} Hz, the manifest says {recording.sample_rate} Hz."
    elif abs(seconds - recording.duration) > DURATION_TOLERANCE:
        fault = f"{recording.name} lasts {seconds:.3f} s, the manifest says {recording.duration:.3f} s."
    if fault or recording.channel >= samples.shape[1]:
        channel = f"channel {recording.channel}, counted from 0"
        fault = fault or f"{recording.name} has {samples.shape[1]} channels, the manifest asks for {channel}."
        return [Measured(each.split, each.utterance, fault, **facts, seconds=seconds) for each in recording.stretches]
    waveform = numpy.ascontiguousarray(samples[:, recording.channel])
    result = []
    for each in recording.stretches:
        first, count = round(each.start * rate), round(each.duration * rate)
        values = measure_waveform(waveform[first : first + count], rate)
        fault = None if values else f"{recording.name} has no audio after {each.start:.3f} s."
        result.append(
            Measured(each.split, each.utterance, fault, **facts, seconds=seconds, changes=each.changes, **values)
        )
    return result


def _decode(recording: Recording) -> tuple[numpy.ndarray, int]:
    import soundfile

    if recording.audio == "":
        raise UserError(f"{recording.name} is not a file. Put it back, or make the manifest again.")
    if isinstance(recording.audio, str):
        return read_channels(recording.audio)
    try:
        return soundfile.read(io.BytesIO(recording.audio), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        raise UserError(
            f"{recording.name}, kept in memory, cannot be read: {reason}. Make the manifest again."
        ) from None


def measure_waveform(waveform: numpy.ndarray, rate: int) -> dict[str, Any]:
    """The fields of `Measured` for waveform (samples,) float32 at `rate` Hz; none for no samples."""
    if not len(waveform):
        return {}
    loudness = float(numpy.sqrt(numpy.mean(numpy.square(waveform, dtype=numpy.float64))))
    stored = numpy.clip(numpy.rint(waveform * 32768.0), -32768, 32767).astype("<i2")
    sounding = numpy.flatnonzero(stored)
    trimmed = stored[sounding[0] : sounding[-1] + 1].tobytes() if len(sounding) else b""
    return {
        "peak": float(numpy.abs(waveform).max()),
        "level": max(QUIETEST, 20 * math.log10(loudness)) if loudness > 0 else QUIETEST,
        "clipped": float(numpy.mean(numpy.abs(waveform) >= FULL_SCALE)),
        "zeros": 1 - len(sounding) / len(stored),
        "offset": float(waveform.mean(dtype=numpy.float64)),
        "half_band": half_band_level(waveform),
        "digest": hashlib.blake2b(stored.tobytes(), digest_size=16).hexdigest(),
        "trimmed": hashlib.blake2b(trimmed, digest_size=16).hexdigest() if trimmed else "",
    }


def half_band_level(waveform: numpy.ndarray, size: int = 512) -> float:
    """Energy above 0.55 of the Nyquist frequency, in dB relative to all energy.

    Audio recorded at half the rate and upsampled has almost none; mixed with full-band audio, it is a second kind of
    input that a model has to learn.
    """
    frames = len(waveform) // size
    if frames == 0:
        return 0.0
    windowed = waveform[: frames * size].reshape(frames, size) * numpy.hanning(size).astype(numpy.float32)
    power = numpy.square(numpy.abs(numpy.fft.rfft(windowed, axis=1))).sum(axis=0)[1:]
    above = power[round(0.55 * size / 2) :].sum()
    return max(QUIETEST, 10 * math.log10(above / power.sum())) if power.sum() > 0 and above > 0 else QUIETEST

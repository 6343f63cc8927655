"""Reads audio files of any kind into mono waveforms, and reports broken ones by name.

`asr.audio.decoding` decodes. Several channels are mixed to their mean, whatever the format, so a channel that was copied to
two comes out unchanged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import mmap
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy

from asr.audio.arrays import Sound
from asr.audio.decoding import (
    LENGTH_TOLERANCE,
    Block,
    FFmpegReader,
    SoundfileReader,
    SphereReader,
    Stretch,
    Unknown,
    cut_short,
)
from asr.audio.headers import (
    Bytes,
    MpegPromise,
    extent,
    id3_size,
    is_mpeg,
    last_ogg_page_is_whole,
    mpeg_promise,
    next_start,
    start_after_junk,
)
from asr.audio.resampling import resample
from asr.audio.sphere import MAGIC as SPHERE_MAGIC
from asr.audio.sphere import OtherSamples
from asr.errors import TooLong, UserError

# Full scale is 1, and decoders overshoot it a little: anything far above it is integers that were never scaled.
LOUDEST = 64.0
# Anything longer is not an utterance but a recording that was never cut, which would fill the memory.
LONGEST_SECONDS = 600.0
# Of concatenated files, libsndfile reads only the first; FFmpeg continues by itself.
PARTED = ("FLAC", "OGG", "AU")

Reader = SoundfileReader | FFmpegReader | SphereReader


def read_audio(
    path: str | Path, sample_rate: int | None = None, longest_seconds: float | None = None
) -> tuple[numpy.ndarray, int]:
    """The waveform in the file `path`.

    sample_rate: in Hz; a file at another rate is resampled (`resample`).
    longest_seconds: anything longer raises TooLong, before it fills the memory. None: no limit.

    Returns (waveform (samples,) float32 within about [-1, 1], the mean of the channels; its sample rate in Hz).
    Raises UserError, naming the file, if it is missing, empty, unreadable or not a regular file, has no samples, NaN or
    samples far above full scale, has an impossible sample rate, or is shorter than its header promises (if its format makes
    a promise: headerless formats such as G.722 do not, nor does MP3 without a Xing header).
    """
    channels, rate = read_channels(path, longest_seconds)
    waveform = mono(channels)
    if sample_rate is not None and rate != sample_rate:
        waveform, rate = resample(waveform, rate, sample_rate), sample_rate
    return waveform, rate


def mono(channels: numpy.ndarray, channel: int | None = None) -> numpy.ndarray:
    """channels (samples, channels) float32 → (samples,) float32: their mean, or one of them, counted from 1."""
    if channels.shape[1] == 1:
        channel = 1
    waveform = channels.mean(axis=1) if channel is None else channels[:, channel - 1]
    return numpy.ascontiguousarray(waveform, dtype=numpy.float32)


def read_channels(path: str | Path, longest_seconds: float | None = None) -> tuple[numpy.ndarray, int]:
    """The waveforms in the file `path` as stored: (samples, channels) float32, and their sample rate in Hz.

    Raises UserError as `read_audio` does.
    """
    return _joined(stream_sound(path, longest_seconds, math.inf))


def stream_sound(path: str | Path | Sound, longest_seconds: float | None, block_seconds: float) -> Iterator[Block]:
    """`read_channels` in blocks of about `block_seconds`: (samples, channels) float32, and the sample rate in Hz.

    Raises UserError as `read_audio` does; for some damaged or short files only after the last block.
    """
    empty = True
    for block, rate in stream_channels(path, longest_seconds, block_seconds):
        if len(block):
            empty = False
            if problem := unusable_samples(block):
                raise UserError(f"{path} holds {problem}: record or convert it again.")
        yield block, rate
    if empty:
        raise UserError(f"{path} holds no audio samples: record or copy it again, or remove it.")


def _joined(blocks: Iterator[Block]) -> Block:
    """All blocks as one; without samples if there are none."""
    parts = list(blocks)
    if len(parts) == 1:
        return parts[0]
    return (
        (numpy.concatenate([block for block, _ in parts]), parts[0][1])
        if parts
        else (numpy.zeros((0, 1), numpy.float32), 1)
    )


def stream_channels(path: str | Path | Sound, longest_seconds: float | None, block_seconds: float) -> Iterator[Block]:
    """`stream_sound` without checking the samples, of which there may be none.

    All blocks have the rate and the channels of the first.
    """
    longest = math.inf if longest_seconds is None else longest_seconds
    if isinstance(path, Sound):
        return path.blocks(longest, block_seconds)
    return _alike(_blocks(existing(path), longest, block_seconds))


def read_stretch(path: str | Path, offset: float = 0.0, duration: float | None = None) -> Block:
    """A stretch of what `read_channels` reads, in seconds; None: up to the end. It is shorter if the file ends earlier.

    If the format allows seeking, only the stretch is decoded, and damage elsewhere goes unnoticed.
    """
    if not offset and duration is None:
        return _joined(stream_channels(path, None, math.inf))
    path = existing(path)
    with open_part(path) as reader:
        rate = reader.sample_rate
        first = _samples(offset, rate)
        last = None if duration is None else first + _samples(duration, rate)
        if last is not None and isinstance(reader, SoundfileReader) and reader.is_exact:
            if last <= (reader.samples or 0) + LENGTH_TOLERANCE * rate:
                return reader.stretch(first, last - first), rate
    return _joined(_part_of(stream_channels(path, None, 60.0), first, last))


def _part_of(blocks: Iterator[Block], first: int, last: int | None) -> Iterator[Block]:
    """The samples from `first` up to, but not including, `last`."""
    at = 0
    for block, rate in blocks:
        yield block[max(0, first - at) : None if last is None else max(0, last - at)], rate
        at += len(block)
        if last is not None and at >= last:
            return


def _samples(seconds: float, rate: int) -> int:
    """Seconds as samples, rounded like lhotse: half up, after restoring digits lost to arithmetic."""
    return math.floor(round(seconds * rate, 8) + 0.5)


@contextlib.contextmanager
def open_part(path: Path, start: int = 0) -> Iterator[Reader]:
    """The decoder for the part of a file that begins at the byte `start`.

    Raises UserError for a file that no decoder knows, and for one whose header promises more bytes of audio than it has.
    """
    reader = _reader(path, start)
    try:
        yield reader
    finally:
        reader.close()


def _reader(path: Path, start: int) -> Reader:
    try:
        source = Stretch(path, start)
    except OSError as error:
        raise cannot_be_opened(path, error) from None
    try:
        return _reader_of(source)
    except BaseException:
        source.close()
        raise


def _reader_of(source: Stretch) -> Reader:
    path, head = source.path, source.read(12)
    while tag := id3_size(head):
        source.pass_over(tag)
        head = source.read(12)
    if source.is_whole and head.startswith(SPHERE_MAGIC):
        return _reader_of_sphere(source)
    # Python's own file reads faster
    content: Bytes = source.file if source.is_whole else source
    if is_mpeg(head):
        return _reader_of_mpeg(source, mpeg_promise(content))
    if head[:4] == b"OggS" and not last_ogg_page_is_whole(content):
        raise UserError(f"{path} is cut short: its last page of data is incomplete. Copy it again.")
    length = extent(content)
    if length and length.is_cut and length.of_audio:
        raise UserError(
            f"{path} is cut short: its header promises {length.promised} bytes of audio, {length.there} are there. Copy it again."
        )
    source.repair = length.repair if length else {}
    try:
        reader = SoundfileReader(source)
    except Unknown:
        if source.is_whole and (junk := start_after_junk(path)):
            source.close()
            return _reader(path, junk)
        if head[:4] == b"OggS" and (end := _next_start(source, 0)):
            # FFmpeg mistakes the next header of some codecs for sound
            source.close()
            source = Stretch(path, source.start, end)
        return FFmpegReader(source, is_cut=bool(length and length.is_cut))
    if reader.kind == "FLAC" and reader.samples is None and (end := _next_part(reader)):
        # libFLAC would fail where the next one begins
        reader.close()
        return SoundfileReader(Stretch(path, source.start, end))
    # libsndfile mistakes what follows the audio in a Wave64 for audio
    if reader.is_trusted and not (reader.kind == "W64" and length and length.promised < length.there):
        return reader
    reader.file.close()
    return FFmpegReader(source)


def _reader_of_sphere(source: Stretch) -> SphereReader | SoundfileReader:
    try:
        return SphereReader(source.path)
    except OtherSamples as error:
        try:
            reader = SoundfileReader(source)
        except Unknown:
            raise error from None
        promised, there = error.samples, reader.samples
        if promised is not None and there is not None and there < promised:
            raise cut_short(source.path, promised / reader.sample_rate, there / reader.sample_rate) from None
        return reader


def _reader_of_mpeg(source: Stretch, promise: MpegPromise | None) -> SoundfileReader | FFmpegReader:
    """libsndfile, which can seek, if the length in the Xing header is right (it trusts it or guesses); otherwise FFmpeg."""
    # both skip tags by themselves, and FFmpeg recognizes a short file only by name
    source.close()
    source = Stretch(source.path)
    if promise and promise.is_exact:
        with contextlib.suppress(Unknown):
            return SoundfileReader(source)
    return FFmpegReader(source, promise.samples if promise else None)


def _blocks(path: Path, longest: float, block_seconds: float) -> Iterator[Block]:
    """The blocks of all parts of a file, each with the rate and channels of its part."""
    start: int | None = 0
    seconds = 0.0
    while start is not None:
        with open_part(path, start) as reader:
            for block, rate in reader.blocks(block_seconds, longest):
                seconds += len(block) / rate
                if seconds > longest:
                    raise TooLong(path, seconds, longest)
                yield block, rate
            start = _next_part(reader)


def _next_part(reader: Reader) -> int | None:
    """The offset in a file where another part begins after this reader's; what it has decoded is not searched."""
    if isinstance(reader, FFmpegReader):
        return reader.source.end
    if not isinstance(reader, SoundfileReader) or reader.kind not in PARTED:
        return None
    if reader.kind == "AU" and not reader.is_exact:  # libsndfile reads all of the file as G.721
        return None
    return _next_start(reader.source, reader.read_to())


def _next_start(source: Stretch, read_to: int) -> int | None:
    """The offset in a file where another part begins after `source`, which was read up to `read_to`."""
    with mmap.mmap(source.file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return next_start(content, source.start, read_to)


def _alike(blocks: Iterator[Block]) -> Iterator[Block]:
    """Blocks with the sample rate and the channels of the first one."""
    first = None
    for block, rate in blocks:
        first = first or (rate, block.shape[1])
        if block.shape[1] != first[1]:
            block = numpy.repeat(block.mean(axis=1, keepdims=True), first[1], axis=1)
        if rate != first[0]:
            channels = [resample(numpy.ascontiguousarray(channel), rate, first[0]) for channel in block.T]
            block = numpy.stack(channels, axis=1)
        yield block, first[0]


def unusable_samples(samples: numpy.ndarray) -> str | None:
    """What is wrong with samples, in words; None if they can be sound. samples: float, any shape, not empty."""
    lowest, highest = float(samples.min()), float(samples.max())  # NaN if any sample is
    if not math.isfinite(lowest) or not math.isfinite(highest):
        return "samples that are not numbers (NaN or infinity)"
    peak = max(-lowest, highest)
    return f"samples of {peak:.3g}, where full scale is 1" if peak > LOUDEST else None


def audio_duration(path: str | Path) -> float:
    """The duration of the file `path` in seconds: from its header if that is a promise, else by decoding it.

    Raises UserError as `read_audio` does, except for damage that only decoding would show (inside FLAC or MP3).
    """
    path = existing(path)
    with open_part(path) as reader:
        samples, rate = reader.samples, reader.sample_rate
        if not reader.is_exact or reader.kind in PARTED:
            samples = None
    if samples is None:
        samples = sum(len(block) for block, _ in stream_channels(path, None, 60.0))
    if samples == 0:
        raise UserError(f"{path} holds no audio samples: record or copy it again, or remove it.")
    return samples / rate


@dataclasses.dataclass(frozen=True)
class Header:
    """A file's header: its sample rate in Hz, and its length in samples per channel; None if unknown."""

    sample_rate: int
    samples: int | None


def read_header(path: str | Path) -> Header:
    """The header of the file `path`, without decoding: of its first part, if it has several.

    Raises UserError as `audio_duration` does.
    """
    with open_part(existing(path)) as reader:
        return Header(reader.sample_rate, reader.samples)


def is_mono_wav_or_flac(path: str | Path, sample_rate: int) -> bool:
    """Whether training can read the file fast without conversion: mono WAV or FLAC at `sample_rate` Hz, of known length."""
    with open_part(existing(path)) as reader:
        return (
            isinstance(reader, SoundfileReader)
            and reader.kind in ("WAV", "WAVEX", "FLAC")
            and (reader.channels, reader.sample_rate) == (1, sample_rate)
            and reader.is_exact
            and reader.source.is_whole
            and _next_part(reader) is None
        )


def existing(path: str | Path) -> Path:
    """The path of an existing regular file that is not empty. Raises UserError for anything else."""
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UserError(f"{path} is a folder: give an audio file.")
        if not stat.S_ISREG(status.st_mode):
            # a pipe would block, /dev/zero would never end
            raise UserError(f"{path} is not a regular file but a pipe or a device: save the audio as a file first.")
        if status.st_size == 0:
            raise UserError(f"{path} is empty (0 bytes): copy it again, or remove it.")
    except FileNotFoundError:
        raise UserError(f"There is no audio file {path}: check its name.") from None
    except (OSError, ValueError) as error:
        raise cannot_be_opened(path, error) from None
    return path


def cannot_be_opened(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}. Check its name and permissions."
    )

"""Reading audio files of any kind into mono waveforms, and naming those that are broken.

`asr.audio.decoding` decodes; several channels are mixed to one by their mean, whatever the format, so that one channel copied to
two comes out as it was.
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

# Full scale is 1, and decoders overshoot it a little: what is far above holds integers that were never scaled.
LOUDEST = 64.0
# What is longer than this is no utterance: a recording that was not cut, which would fill the memory.
LONGEST_SECONDS = 600.0
# libsndfile reads the first of several files in one; FFmpeg goes on by itself.
PARTED = ("FLAC", "OGG", "AU")

Reader = SoundfileReader | FFmpegReader | SphereReader


def read_audio(
    path: str | Path, sample_rate: int | None = None, longest_seconds: float | None = None
) -> tuple[numpy.ndarray, int]:
    """The waveform in the file `path`.

    sample_rate: in Hz; where the file has another, it is resampled (`resample`).
    longest_seconds: what is longer raises TooLong, before it fills the memory. None: no bound.

    Returns (waveform (samples,) float32 within about [-1, 1], the mean of the channels; its sample rate in Hz).
    Raises UserError, naming the file, if it is missing, empty, unreadable, no regular file, holds no sound, non-numbers
    or samples far above full scale, has a sample rate that cannot be, or is shorter than its header promises (as far as
    its format makes a promise: headerless formats such as G.722 do not, nor does MP3 without a Xing header).
    """
    channels, rate = read_channels(path, longest_seconds)
    waveform = mono(channels)
    if sample_rate is not None and rate != sample_rate:
        waveform, rate = resample(waveform, rate, sample_rate), sample_rate
    return waveform, rate


def mono(channels: numpy.ndarray, channel: int | None = None) -> numpy.ndarray:
    """channels (samples, channels) float32 → (samples,) float32: their mean, or one of them, from 1."""
    if channels.shape[1] == 1:
        channel = 1
    waveform = channels.mean(axis=1) if channel is None else channels[:, channel - 1]
    return numpy.ascontiguousarray(waveform, dtype=numpy.float32)


def read_channels(path: str | Path, longest_seconds: float | None = None) -> tuple[numpy.ndarray, int]:
    """The waveforms in the file `path` as they are stored: (samples, channels) float32, and their sample rate in Hz.

    Raises UserError as `read_audio` does.
    """
    return _joined(stream_sound(path, longest_seconds, math.inf))


def stream_sound(path: str | Path | Sound, longest_seconds: float | None, block_seconds: float) -> Iterator[Block]:
    """What `read_channels` reads, in blocks of about `block_seconds`: (samples, channels) float32, and the sample rate in Hz.

    Raises UserError as `read_audio` does; after the last block where only the whole file shows that it is damaged or cut short.
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
    """All blocks as one; of no samples where there are none."""
    parts = list(blocks)
    if len(parts) == 1:
        return parts[0]
    return (
        (numpy.concatenate([block for block, _ in parts]), parts[0][1])
        if parts
        else (numpy.zeros((0, 1), numpy.float32), 1)
    )


def stream_channels(path: str | Path | Sound, longest_seconds: float | None, block_seconds: float) -> Iterator[Block]:
    """`stream_sound` of a file that need not hold sound: samples are not looked at, and there may be none.

    All blocks have the rate and the channels of the first.
    """
    longest = math.inf if longest_seconds is None else longest_seconds
    if isinstance(path, Sound):
        return path.blocks(longest, block_seconds)
    return _alike(_blocks(existing(path), longest, block_seconds))


def read_stretch(path: str | Path, offset: float = 0.0, duration: float | None = None) -> Block:
    """A stretch of what `read_channels` reads, in seconds; None: up to the end. It is shorter where the file ends before.

    Where the format lets us seek, only the stretch is decoded, and what is damaged elsewhere is not seen.
    """
    if not offset and duration is None:
        return _joined(stream_channels(path, None, math.inf))
    path = existing(path)
    with open_part(path) as reader:
        rate = reader.sample_rate
        first = _samples(offset, rate)
        last = None if duration is None else first + _samples(duration, rate)
        is_there = last is not None and reader.is_exact and last <= reader.samples + LENGTH_TOLERANCE * rate
        if is_there and isinstance(reader, SoundfileReader):
            return reader.stretch(first, last - first), rate
    return _joined(_part_of(stream_channels(path, None, 60.0), first, last))


def _part_of(blocks: Iterator[Block], first: int, last: int | None) -> Iterator[Block]:
    """What blocks have of the samples from `first` on and before `last`."""
    at = 0
    for block, rate in blocks:
        yield block[max(0, first - at) : None if last is None else max(0, last - at)], rate
        at += len(block)
        if last is not None and at >= last:
            return


def _samples(seconds: float, rate: int) -> int:
    """As lhotse rounds: halves up, after digits that arithmetic lost."""
    return math.floor(round(seconds * rate, 8) + 0.5)


@contextlib.contextmanager
def open_part(path: Path, start: int = 0) -> Iterator[Reader]:
    """The decoder for the part of a file that begins at the byte `start`, up to where it ends.

    Raises UserError for a file that no decoder knows, and for one whose header promises more bytes of audio than there are.
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
    # Python's own file is read faster
    content = source.file if source.is_whole else source
    if is_mpeg(head):
        return _reader_of_mpeg(source, mpeg_promise(content))
    if head[:4] == b"OggS" and not last_ogg_page_is_whole(content):
        raise UserError(f"{path} is cut short: its last page of data is not whole. Copy it again.")
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
            # FFmpeg takes some codecs' next header for sound
            source.close()
            source = Stretch(path, source.start, end)
        return FFmpegReader(source, is_cut=bool(length and length.is_cut))
    if reader.kind == "FLAC" and reader.samples is None and (end := _next_part(reader)):
        # libFLAC would lose its way where the next one begins
        reader.close()
        return SoundfileReader(Stretch(path, source.start, end))
    # libsndfile takes what follows the audio in a Wave64 for audio
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
        if reader.samples < (error.samples or 0):
            raise cut_short(
                source.path, error.samples / reader.sample_rate, reader.samples / reader.sample_rate
            ) from None
        return reader


def _reader_of_mpeg(source: Stretch, promise: MpegPromise | None) -> SoundfileReader | FFmpegReader:
    """libsndfile, which can seek, believes the length in a Xing header, or guesses it: only where it is right may it read."""
    # both pass over tags by themselves, and FFmpeg knows a short file by its name only
    source.close()
    source = Stretch(source.path)
    if promise and promise.is_exact:
        with contextlib.suppress(Unknown):
            return SoundfileReader(source)
    return FFmpegReader(source, promise.samples if promise else None)


def _blocks(path: Path, longest: float, block_seconds: float) -> Iterator[Block]:
    """The blocks of all parts of a file, as each part has them."""
    start, seconds = 0, 0.0
    while start is not None:
        with open_part(path, start) as reader:
            for block, rate in reader.blocks(block_seconds, longest):
                seconds += len(block) / rate
                if seconds > longest:
                    raise TooLong(path, seconds, longest)
                yield block, rate
            start = _next_part(reader)


def _next_part(reader: Reader) -> int | None:
    """Where in a file another part begins after that of this reader; what it has decoded need not be searched."""
    if isinstance(reader, FFmpegReader):
        return reader.source.end
    if not isinstance(reader, SoundfileReader) or reader.kind not in PARTED:
        return None
    if reader.kind == "AU" and not reader.is_exact:  # libsndfile reads all of the file as G.721
        return None
    return _next_start(reader.source, reader.read_to())


def _next_start(source: Stretch, read_to: int) -> int | None:
    """Where in a file another part begins after that of `source`, of which no more than up to `read_to` was read."""
    with mmap.mmap(source.file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return next_start(content, source.start, read_to)


def _alike(blocks: Iterator[Block]) -> Iterator[Block]:
    """Blocks at the sample rate and with the channels of the first."""
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
    """What is wrong with samples, in words; None for those that may be sound. samples: float, any shape, not empty."""
    lowest, highest = float(samples.min()), float(samples.max())  # NaN where one sample is
    if not math.isfinite(lowest) or not math.isfinite(highest):
        return "samples that are not numbers (NaN or infinity)"
    peak = max(-lowest, highest)
    return f"samples of {peak:.3g}, where full scale is 1" if peak > LOUDEST else None


def audio_duration(path: str | Path) -> float:
    """The duration of the file `path` in seconds: from its header where that is a promise, else by decoding it.

    Raises UserError as `read_audio` does; damage that only decoding shows (inside FLAC or MP3) is not looked for.
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
    """What a file's header says: its sample rate in Hz and its length in samples per channel; None where not known."""

    sample_rate: int | None
    samples: int | None


def read_header(path: str | Path) -> Header:
    """The header of the file `path`, without decoding: of its first part, where it has several.

    Raises UserError as `audio_duration` does.
    """
    with open_part(existing(path)) as reader:
        return Header(reader.sample_rate, reader.samples)


def is_mono_wav_or_flac(path: str | Path, sample_rate: int) -> bool:
    """Whether the file is what training reads fastest, as it is: one channel of WAV or FLAC at `sample_rate` Hz, of a length that
    its header knows."""
    with open_part(existing(path)) as reader:
        return (
            reader.kind in ("WAV", "WAVEX", "FLAC")
            and (reader.channels, reader.sample_rate) == (1, sample_rate)
            and reader.is_exact
            and reader.source.is_whole
            and _next_part(reader) is None
        )


def existing(path: str | Path) -> Path:
    """The path of a regular file that is there and holds something. Raises UserError otherwise."""
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UserError(f"{path} is a folder; an audio file was expected.")
        if not stat.S_ISREG(status.st_mode):
            # a pipe would block, /dev/zero never end
            raise UserError(f"{path} is no regular file (a pipe or a device): save the audio as a file first.")
        if status.st_size == 0:
            raise UserError(f"{path} is empty (0 bytes): copy it again, or remove it.")
    except FileNotFoundError:
        raise UserError(f"There is no audio file {path}.") from None
    except (OSError, ValueError) as error:
        raise cannot_be_opened(path, error) from None
    return path


def cannot_be_opened(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}.")

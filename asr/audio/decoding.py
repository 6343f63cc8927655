"""Decodes audio files of any kind block by block: the only way from a file to samples, for corpora, batches and transcription.

libsndfile (soundfile) decodes files that it can seek in and knows the length of, FFmpeg (PyAV) all others, and
`asr.audio.sphere` the files of the LDC. The decoded samples count; at the end their number is compared with the header's
promise (`asr.audio.headers`).
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from asr.audio.sphere import read_sphere, read_sphere_header
from asr.errors import TooLong, UserError

if TYPE_CHECKING:
    import av

# Seconds by which an intact file may fall short of its header: a decoder's priming samples, and rounding.
LENGTH_TOLERANCE = 0.1
RATES = range(1000, 1_000_001)  # Hz: with any other rate, a header is broken
# FFmpeg's streams that count their own samples; for others it estimates the duration, or gives that of the longest stream.
COUNTED = {"wv", "tta", "ape", "tak"}
# Streams that a decoder can join anywhere: like all players, we skip what it cannot read and continue.
JOINED_ANYWHERE = {"mp3", "aac", "ac3", "eac3", "loas", "dts", "mpegts", "mpeg", "amr"}
HEADERLESS = {".vox", ".gsm"}  # formats that libsndfile recognizes only by name
MOST_AT_ONCE = 1 << 24  # samples: a damaged header may promise more than fits in memory
MOST_SAMPLES = 1 << 60  # libsndfile returns more if the header does not give the number

Block = tuple[numpy.ndarray, int]  # (samples, channels) float32, and their sample rate in Hz


class Unknown(Exception):
    """The decoder does not know the format."""


def cut_short(path: Path, promised: float, there: float) -> UserError:
    """The error for a file that holds less than its header promises, both in seconds."""
    return UserError(
        f"{path} is cut short: its header promises {promised:.2f} s of audio, {there:.2f} s are there. Copy it again."
    )


class Stretch(io.RawIOBase):
    """The bytes of a file from `start` to `end`, as a file.

    repair: bytes that replace its own, by offset. It may be changed before anything is decoded.
    """

    def __init__(self, path: Path, start: int = 0, end: int | None = None):
        self.path, self.start, self.end = path, start, end
        self.repair: dict[int, bytes] = {}
        self.file = open(path, "rb")
        self.size = (self.file.seek(0, io.SEEK_END) if end is None else end) - start
        self.file.seek(start)

    @property
    def is_whole(self) -> bool:
        """Whether it is the entire, unchanged file on the disk."""
        return not self.start and self.end is None and not self.repair

    def pass_over(self, tags: int) -> None:
        """Skips this many bytes at the start."""
        self.start, self.size = self.start + tags, self.size - tags
        self.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.file.tell() - self.start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        # negative if a damaged header points before the start
        target = max(0, offset + (0, self.tell(), self.size)[whence])
        self.file.seek(self.start + target)
        return target

    def readinto(self, buffer) -> int:
        at = self.tell()
        count = self.file.readinto(memoryview(buffer).cast("B")[: max(0, self.size - at)])
        view = memoryview(buffer).cast("B")
        for offset, changed in self.repair.items():
            first, last = max(offset, at), min(offset + len(changed), at + count)
            if first < last:
                view[first - at : last - at] = changed[first - offset : last - offset]
        return count

    def close(self) -> None:
        self.file.close()
        super().close()


class SphereReader:
    """A SPHERE file, decoded by `asr.audio.sphere`, all at once."""

    kind, is_exact = "SPHERE", True

    def __init__(self, path: Path):
        self.path, header = path, read_sphere_header(path)
        self.sample_rate, self.samples, self.channels = header.sample_rate, header.samples, header.channels

    def blocks(self, seconds: float, longest: float) -> Iterator[Block]:
        samples, rate = read_sphere(self.path, None if longest == math.inf else longest)
        step = len(samples) if seconds == math.inf else max(1, round(seconds * rate))
        for start in range(0, len(samples), max(1, step)):
            yield samples[start : start + step].astype(numpy.float32) / 32768, rate

    def close(self) -> None:
        pass


class SoundfileReader:
    """A part of a file, decoded by libsndfile.

    samples: per channel, None if the header does not say. is_exact: whether exactly that many will be decoded, and seeking
    works. Raises Unknown for a format that libsndfile does not know.
    """

    def __init__(self, source: Stretch):
        """source: closed with the reader, but left open if this raises Unknown."""
        import soundfile

        self.source, self.path = source, source.path
        source.seek(0)
        opened: Any
        if not source.is_whole:
            opened = source
        elif self.path.suffix.lower() in HEADERLESS:  # bytes, because soundfile cannot encode a name that is not UTF-8
            opened = os.fsencode(self.path)
        else:  # as fast as the name, and its position shows how far libsndfile has read
            opened = source.file.fileno()
            os.lseek(opened, 0, os.SEEK_SET)
        try:
            self.file = soundfile.SoundFile(opened, closefd=False)
        except soundfile.LibsndfileError:
            raise Unknown from None
        self.sample_rate, self.channels, self.kind = self.file.samplerate, self.file.channels, self.file.format
        self.samples: int | None = self.file.frames if self.file.frames < MOST_SAMPLES else None
        self.is_exact = self.samples is not None and self.file.seekable()
        # libsndfile guesses the length of MPEG, counts one block of GSM too many, and takes the rest of a VOC for audio
        self.is_trusted = not {self.kind, self.file.subtype} & {"MPEG", "MP3", "VOC", "MPEG_LAYER_III", "GSM610"}
        if self.sample_rate not in RATES:
            self.close()
            raise UserError(
                f"{self.path} has a sample rate of {self.sample_rate} Hz by its header, which must be damaged: copy it again."
            )

    def blocks(self, seconds: float, longest: float) -> Iterator[Block]:
        rate = self.sample_rate
        if self.samples is not None and self.samples / rate > longest:
            raise TooLong(self.path, self.samples / rate, longest)
        step = max(1, round(min(seconds, 60.0) * rate))
        if seconds == math.inf and self.is_exact and self.samples is not None:
            step = min(self.samples, MOST_AT_ONCE)
        there = 0
        # no further than the header says, because another part may follow
        while len(block := self._read(step if self.samples is None else min(step, self.samples - there))):
            there += len(block)
            if there / rate > longest:
                raise TooLong(self.path, there / rate, longest)
            yield block, rate
        tolerance = LENGTH_TOLERANCE if self.kind in ("MPEG", "MP3") else 0.0
        if self.samples is not None and self.samples - there > tolerance * rate:
            raise cut_short(self.path, self.samples / rate, there / rate)

    def stretch(self, first: int, count: int) -> numpy.ndarray:
        """(samples, channels) float32: `count` samples starting with `first`, fewer at the end of the file."""
        return self._read(count, first)

    def _read(self, count: int, first: int = 0) -> numpy.ndarray:
        import soundfile

        try:
            if first:
                self.file.seek(first if self.samples is None else min(first, self.samples))
            # soundfile seeks after every block, to where the file is already, and MP3's decoder then loses its state
            self.file.seekable = lambda: False
            return self.file.read(count, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise UserError(
                f"{self.path} is damaged or cut short ({error.error_string}): copy it again, or remove it."
            ) from None

    def read_to(self) -> int:
        """The offset in the file up to which libsndfile has read; the decoded audio ends before it."""
        if not self.source.is_whole:
            return self.source.start + self.source.tell()
        return os.lseek(self.source.file.fileno(), 0, os.SEEK_CUR)

    def close(self) -> None:
        self.file.close()
        self.source.close()


class FFmpegReader:
    """A file decoded by FFmpeg: its first audio stream, after silence if a film begins earlier, so that times are the film's.

    samples: the promise of its own header, None if that is only an estimate.
    """

    is_exact = False

    def __init__(self, source: Stretch, promised: int | None = None, is_cut: bool = False):
        """source: closed with the reader, or here on errors. promised: samples per channel. is_cut: whether the container
        claims to be longer than the file.
        """
        import av

        self.source, self.path, self.cut = source, source.path, is_cut
        self.stack = contextlib.ExitStack()
        self.stack.enter_context(source)
        source.seek(0)
        # by name if possible, because FFmpeg also considers the suffix; with "file:", because a name may have a colon
        opened = f"file:{self.path}" if source.is_whole else source
        try:
            self.container = av.open(opened, "r")
            self.stack.callback(self.container.close)
            streams = self.container.streams.audio
            if not streams:
                raise UserError(f"{self.path} holds no audio: give an audio file.")
            self.stream, self.sample_rate = streams[0], rate_of(streams[0], self.path)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            self.stack.close()
            raise self._unreadable(error) from None
        except UserError:
            self.stack.close()
            raise
        self.kind, self.samples = self.container.format.name, promised
        self.time_base = self.stream.time_base or Fraction(0)
        if promised is None and self.kind in COUNTED and self.stream.duration:
            self.samples = round(self.stream.duration * self.time_base * self.sample_rate)

    def _unreadable(self, error: Exception) -> UserError:
        reason = getattr(error, "strerror", None) or error
        return UserError(
            f"{self.path} cannot be read as audio, neither by libsndfile nor by FFmpeg ({reason}): "
            "it is damaged, cut short or not audio."
        )

    def blocks(self, seconds: float, longest: float) -> Iterator[Block]:
        import av

        held, waiting, total, delay = [], 0, 0.0, self._delay()
        if delay > longest:
            raise TooLong(self.path, delay, longest)
        yield from self._silence(delay)
        try:
            for frame in self._frames():
                rate = frame.sample_rate
                if held and (rate != held[0].sample_rate or frame.layout.nb_channels != held[0].layout.nb_channels):
                    yield _joined(held)
                    held, waiting = [], 0
                held.append(frame)
                waiting += frame.samples
                total += frame.samples / rate
                if delay + total > longest:
                    raise TooLong(self.path, max(delay + total, (self.container.duration or 0) / 1e6), longest)
                if waiting >= seconds * rate:
                    yield _joined(held)
                    held, waiting = [], 0
            if held:
                yield _joined(held)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise self._unreadable(error) from None
        promised = self.samples / self.sample_rate if self.samples is not None else 0.0
        if self.cut:
            own = float(self.stream.duration * self.time_base) if self.stream.duration else 0.0
            promised = max(promised, own or (self.container.duration or 0) / 1e6 - delay)
            if not promised:
                raise UserError(
                    f"{self.path} is cut short: its header promises more than the file holds. Copy it again."
                )
        if promised - total > LENGTH_TOLERANCE:
            raise cut_short(self.path, promised, total)

    def _delay(self) -> float:
        """Seconds from the start of the file to the start of its audio; 0 without earlier pictures, or if it makes no sense."""
        start, first, duration = self.stream.start_time, self.container.start_time, self.container.duration
        if start is None or first is None or not duration:
            return 0.0
        delay = float(start * self.time_base) - first / 1e6
        return delay if LENGTH_TOLERANCE < delay < duration / 1e6 else 0.0

    def _silence(self, seconds: float) -> Iterator[Block]:
        count, step = round(seconds * self.sample_rate), 60 * self.sample_rate
        for start in range(0, count, step):
            yield numpy.zeros((min(step, count - start), self.stream.channels), numpy.float32), self.sample_rate

    def _frames(self) -> Iterator[av.AudioFrame]:
        """The frames of the stream in float32, each at its own rate and with its own channels.

        Packed, because PyAV reads out of bounds with planes of more than 8 channels.
        """
        import av

        converter: av.AudioResampler | None = None
        form = None
        for frame in self._decoded():
            if converter is None or form != (frame.format.name, frame.layout.name, frame.sample_rate):
                form = (frame.format.name, frame.layout.name, frame.sample_rate)
                converter = av.AudioResampler(format="flt")
            yield from converter.resample(frame)

    def _decoded(self) -> Iterator[av.AudioFrame]:
        import av

        broken, frames = None, 0
        for packet in self.container.demux(self.stream):
            try:
                for frame in packet.decode():
                    frames += 1
                    yield frame
            except av.error.InvalidDataError as error:
                # with an unknown length, less than a block may follow the last one
                if self.kind not in JOINED_ANYWHERE and not self.source.repair:
                    raise
                broken = error
        if broken and not frames:
            raise broken

    def close(self) -> None:
        self.stack.close()


def _joined(frames: list[av.AudioFrame]) -> Block:
    count = frames[0].layout.nb_channels
    return numpy.concatenate([frame.to_ndarray().reshape(-1, count) for frame in frames]), frames[0].sample_rate


def rate_of(stream, path: Path) -> int:
    """The sample rate of FFmpeg's stream in Hz. Raises UserError if it has none."""
    rate = getattr(stream, "rate", None)  # missing if FFmpeg has no decoder
    if not isinstance(rate, int) or rate not in RATES:
        raise UserError(
            f"{path} holds audio in a format that FFmpeg cannot decode, or with a damaged header: convert it to WAV."
        )
    return rate

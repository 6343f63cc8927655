"""Reading audio files of any kind into mono waveforms, and naming those that are broken.

libsndfile (soundfile) reads first; FFmpeg (PyAV) reads what it does not know: G.722, M4A, WebM and many more; `asr.sphere`
reads the files of the LDC. Several channels are mixed to one by their mean, whatever the format, so that one channel
copied to two comes out as it was.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from asr.errors import UserError
from asr.sphere import is_sphere, read_sphere, read_sphere_header

if TYPE_CHECKING:
    import soundfile

# Writers to a pipe cannot know the length and put one of these into the header: such a file is whole.
UNKNOWN_LENGTHS = {0, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF000, 0xFFFFF000}
# Only these containers store the length; for the others FFmpeg estimates it from the bit rate.
CONTAINERS_WITH_LENGTH = {"mov", "matroska"}
# A decoder's priming samples and a rounded header: up to this much (seconds) may lack from a whole file.
LENGTH_TOLERANCE = 0.1
OGG_LONGEST_PAGE = 65307  # bytes
RATES = range(1000, 1_000_001)  # Hz: outside of them a header is broken
# Full scale is 1, and decoders overshoot it a little: what is far above holds integers that were never scaled.
LOUDEST = 64.0
# What is longer than this is no utterance: a recording that was not cut, which would fill the memory.
LONGEST_SECONDS = 600.0
# Ratios of rates whose filters have more taps than this take gigabytes in torchaudio (44101 to 16000 takes three).
MOST_TAPS = 10_000_000


class Unknown(Exception):
    """libsndfile does not know the format."""


class TooLong(UserError):
    """Audio of more than the `longest` seconds that were asked for; `seconds` is how long it is, at least."""

    def __init__(self, path: Path, seconds: float, longest: float):
        super().__init__(f"{path} is longer than {longest:g} s: {seconds:.0f} s. Cut it into utterances first.")
        self.seconds, self.longest = seconds, longest


def read_audio(
    path: str | Path, sample_rate: int | None = None, longest_seconds: float | None = None
) -> tuple[numpy.ndarray, int]:
    """The waveform in the file `path`.

    sample_rate: in Hz; where the file has another, it is resampled (`resample`).
    longest_seconds: what is longer raises TooLong, before it fills the memory. None: no bound.

    Returns (waveform (samples,) float32 within about [-1, 1], the mean of the channels; its sample rate in Hz).
    Raises UserError, naming the file, if it is missing, empty, unreadable, no regular file, holds no sound, non-numbers
    or samples far above full scale, has a sample rate that cannot be, or is shorter than its header promises (as far as
    its format stores a length: headerless formats such as G.722 do not).
    """
    channels, rate = read_channels(path, longest_seconds)
    waveform = channels[:, 0] if channels.shape[1] == 1 else channels.mean(axis=1)
    waveform = numpy.ascontiguousarray(waveform, dtype=numpy.float32)
    if sample_rate is not None and rate != sample_rate:
        waveform, rate = resample(waveform, rate, sample_rate), sample_rate
    return waveform, rate


def read_channels(path: str | Path, longest_seconds: float | None = None) -> tuple[numpy.ndarray, int]:
    """The waveforms in the file `path` as they are stored: (samples, channels) float32, and their sample rate in Hz.

    Raises UserError as `read_audio` does.
    """
    path = existing(path)
    longest = math.inf if longest_seconds is None else longest_seconds
    if is_sphere(path):
        samples, rate = read_sphere(path, longest_seconds)
        channels = samples.astype(numpy.float32) / 32768
    else:
        try:
            channels, rate = _read_with_soundfile(path, longest)
        except Unknown:
            channels, rate = _read_with_pyav(path, longest)
    if channels.shape[0] == 0:
        raise UserError(f"{path} holds no audio samples: record or copy it again, or remove it.")
    problem = unusable_samples(channels)
    if problem:
        raise UserError(f"{path} holds {problem}: record or convert it again.")
    return channels, rate


def unusable_samples(samples: numpy.ndarray) -> str | None:
    """What is wrong with samples, in words; None for those that may be sound. samples: float, any shape, not empty."""
    lowest, highest = float(samples.min()), float(samples.max())  # NaN where one sample is
    if not math.isfinite(lowest) or not math.isfinite(highest):
        return "samples that are not numbers (NaN or infinity)"
    peak = max(-lowest, highest)
    return f"samples of {peak:.3g}, where full scale is 1" if peak > LOUDEST else None


def audio_duration(path: str | Path) -> float:
    """The duration of the file `path` in seconds: from its header where libsndfile or `asr.sphere` reads it, else by decoding it.

    Raises UserError as `read_audio` does; damage that only decoding shows (inside FLAC or MP3) is not looked for.
    """
    path = existing(path)
    if is_sphere(path):
        header = read_sphere_header(path)
        frames, rate = header.samples, header.sample_rate
    else:
        try:
            with open_with_soundfile(path) as file:
                frames, rate = file.frames, file.samplerate
        except Unknown:
            channels, rate = _read_with_pyav(path)
            frames = channels.shape[0]
    if frames == 0:
        raise UserError(f"{path} holds no audio samples: record or copy it again, or remove it.")
    return frames / rate


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file's header says: its sample rate in Hz and its length in samples per channel; None where not known."""

    sample_rate: int | None
    samples: int | None


def read_header(path: str | Path) -> Header:
    """The header of the file `path`, without decoding. Raises UserError as `audio_duration` does."""
    path = existing(path)
    if is_sphere(path):
        header = read_sphere_header(path)
        return Header(header.sample_rate, header.samples)
    try:
        with open_with_soundfile(path) as file:
            return Header(file.samplerate, file.frames)
    except Unknown:
        pass
    import av

    try:
        with av.open(str(path)) as container:
            if container.streams.audio:
                return Header(rate_of(container.streams.audio[0], path), None)
    except (av.error.FFmpegError, ValueError, OSError):
        pass
    raise UserError(f"{path} cannot be read as audio, neither by libsndfile nor by FFmpeg.")


def is_mono_wav_or_flac(path: str | Path, sample_rate: int) -> bool:
    """Whether the file is what training reads fastest, as it is: one channel of WAV or FLAC at `sample_rate` Hz."""
    try:
        with open_with_soundfile(existing(path)) as file:
            return file.format in ("WAV", "WAVEX", "FLAC") and file.channels == 1 and file.samplerate == sample_rate
    except Unknown:
        return False


def resample(waveform: numpy.ndarray, rate: int, new_rate: int) -> numpy.ndarray:
    """waveform (samples,) float32 at `rate` Hz → (samples · new_rate / rate, rounded up,) float32 at `new_rate` Hz.

    By torchaudio (band-limited interpolation); between rates such as 44101 and 16000 Hz, where that would take gigabytes,
    by FFmpeg.
    """
    common = math.gcd(rate, new_rate)
    if (rate // common) * (new_rate // common) > MOST_TAPS:
        return _resample_with_pyav(waveform, rate, new_rate)
    import torch
    import torchaudio

    return torchaudio.functional.resample(torch.from_numpy(waveform), rate, new_rate).numpy()


def _resample_with_pyav(waveform: numpy.ndarray, rate: int, new_rate: int) -> numpy.ndarray:
    import av

    converter = av.AudioResampler(format="flt", layout="mono", rate=new_rate)
    frame = av.AudioFrame.from_ndarray(waveform[None], format="flt", layout="mono")
    frame.sample_rate = rate
    blocks = [block.to_ndarray()[0] for piece in (frame, None) for block in converter.resample(piece)]
    samples = -(-len(waveform) * new_rate // rate)
    resampled = numpy.concatenate(blocks)[:samples] if blocks else numpy.zeros(0, numpy.float32)
    return numpy.pad(resampled, (0, samples - len(resampled)))


def write_flac(path: str | Path, waveform: numpy.ndarray, sample_rate: int) -> None:
    """Writes waveform (samples,) float32 as 16-bit FLAC: 16-bit audio comes out bit for bit, above 1 it is clipped.

    Raises OSError if it cannot be written.
    """
    import soundfile

    samples = numpy.clip(numpy.rint(waveform * 32768.0), -32768, 32767).astype(numpy.int16)
    file = io.BytesIO()  # libsndfile itself would not say why a file cannot be written
    soundfile.write(file, samples, sample_rate, format="FLAC", subtype="PCM_16")
    Path(path).write_bytes(file.getvalue())


def existing(path: str | Path) -> Path:
    """The path of a regular file that is there, holds something and can be read. Raises UserError otherwise."""
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder; an audio file was expected.")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # a pipe would block, /dev/zero never end
            raise UserError(f"{path} is no regular file (a pipe or a device): save the audio as a file first.")
        if status.st_size == 0:
            raise UserError(f"{path} is empty (0 bytes): copy it again, or remove it.")
        path.open("rb").close()
    except FileNotFoundError:
        raise UserError(f"There is no audio file {path}.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}.") from None
    return path


def open_with_soundfile(path: Path) -> soundfile.SoundFile:
    """The file opened by libsndfile. Raises Unknown for a format it does not know, UserError where its header promises more."""
    import soundfile

    try:
        # as bytes: soundfile cannot encode a name that is not UTF-8
        file = soundfile.SoundFile(os.fsencode(path))
    except (soundfile.LibsndfileError, TypeError):  # TypeError: files named .raw have no header to read
        raise Unknown from None
    if file.samplerate not in RATES:
        file.close()
        raise UserError(f"{path} has a sample rate of {file.samplerate} Hz by its header, which must be damaged.")
    promised, there = _promised_and_there(file.extra_info)
    if there < promised:
        file.close()
        raise UserError(
            f"{path} is cut short: its header promises {promised} bytes of audio, {there} are there. Copy it again."
        )
    if file.format == "OGG" and not _last_ogg_page_is_whole(path):
        file.close()
        raise UserError(f"{path} is cut short: its last page of data is not whole. Copy it again.")
    return file


def _promised_and_there(log: str) -> tuple[int, int]:
    """Bytes of audio by the header and by the file's size, as libsndfile notes on opening: "data : 9 (should be 5)"."""
    for line in re.finditer(r"(?:data|SSND|Data Size|riff)\s*:\s*(\d+) \(should be (\d+)\)", log):
        promised, there = int(line[1]), int(line[2])
        if promised not in UNKNOWN_LENGTHS:
            return promised, there
    for line in re.finditer(r"SSND : (\d+).*?Chunk size \d+ > file length (\d+)", log, re.DOTALL):
        return int(line[1]), int(line[2])
    return 0, 0


def _last_ogg_page_is_whole(path: Path) -> bool:
    """Whether the last page of an Ogg file is all there (RFC 3533, section 6). Ogg stores no length of the whole."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - OGG_LONGEST_PAGE))
        end = file.read()
    page = end[end.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    return len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def _read_with_soundfile(path: Path, longest: float) -> tuple[numpy.ndarray, int]:
    """(samples, channels) float32 and the sample rate."""
    import soundfile

    with open_with_soundfile(path) as file:
        frames, rate = file.frames, file.samplerate
        if frames / rate > longest:
            raise TooLong(path, frames / rate, longest)
        try:
            channels = file.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise UserError(
                f"{path} is damaged or cut short ({error.error_string}): copy it again, or remove it."
            ) from None
    if (frames - len(channels)) / rate > (LENGTH_TOLERANCE if file.format == "MPEG" else 0):
        raise cut_short(path, frames / rate, len(channels) / rate)
    return channels, rate


def _read_with_pyav(path: Path, longest: float = math.inf) -> tuple[numpy.ndarray, int]:
    """(samples, channels) float32 and the sample rate."""
    blocks = list(stream_with_pyav(path, longest, math.inf))
    if blocks:
        return numpy.concatenate([block for block, _ in blocks]), blocks[0][1]
    return numpy.zeros((0, 1), numpy.float32), 1


def stream_with_pyav(path: Path, longest: float, block_seconds: float) -> Iterator[tuple[numpy.ndarray, int]]:
    """What FFmpeg decodes, as blocks (samples, channels) float32 of about so many seconds, each with the sample rate in Hz.

    Raises UserError as `read_audio` does; for a file that is cut short when its end is reached.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path} holds no audio: an audio file was expected.")
            stream = container.streams.audio[0]
            rate = rate_of(stream, path)
            converter, held, waiting, samples = av.AudioResampler(format="fltp"), [], 0, 0
            for frame in container.decode(stream):
                for block in converter.resample(frame):
                    held.append(block.to_ndarray())
                    waiting += block.samples
                    samples += block.samples
                if samples / rate > longest:
                    raise TooLong(path, max(samples / rate, (container.duration or 0) / 1e6), longest)
                if waiting >= block_seconds * rate:
                    yield numpy.concatenate(held, axis=1).T, rate
                    held, waiting = [], 0
            if samples:
                rest = [block.to_ndarray() for block in converter.resample(None)]
                samples += sum(block.shape[1] for block in rest)
                held += rest
            if held:
                yield numpy.concatenate(held, axis=1).T, rate
            promised = 0.0
            if CONTAINERS_WITH_LENGTH & set(container.format.name.split(",")):
                promised = (
                    float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
                )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path} cannot be read as audio, neither by libsndfile nor by FFmpeg ({reason}): "
            "it is damaged, cut short or no audio."
        ) from None
    if promised - samples / rate > LENGTH_TOLERANCE:
        raise cut_short(path, promised, samples / rate)


def rate_of(stream, path: Path) -> int:
    """The sample rate of FFmpeg's stream in Hz. Raises UserError where it is none."""
    rate = getattr(stream, "rate", None)  # where FFmpeg knows no decoder, there is none
    if rate not in RATES:
        raise UserError(f"{path} holds audio in a form that FFmpeg cannot decode, or with a damaged header.")
    return rate


def cut_short(path: Path, promised: float, there: float) -> UserError:
    """The sentence for a file that holds less than its header promises, both in seconds."""
    return UserError(
        f"{path} is cut short: its header promises {promised:.2f} s of audio, {there:.2f} s are there. Copy it again."
    )

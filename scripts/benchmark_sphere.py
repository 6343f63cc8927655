"""Benchmarks decoding of NIST SPHERE files on one core, against other readers: a Markdown table.

    python scripts/benchmark_sphere.py [--audio FILE] [--seconds 60] [--rounds 7] [--csv FILE]

Covers every coding of WSJ (16 kHz, one channel) and Switchboard (8 kHz, two channels), written by the encoder of our tests; the
readers take turns in each round, and the median round counts. asr also verifies the number of samples and their checksum;
FFmpeg (by PyAV) and libsndfile (by soundfile) only decode; sph2pipe, if installed, is a process that writes raw samples to a
pipe. `to FLAC` is what preparing a corpus does: decoding, and writing one FLAC file per channel. Without --audio, the signal
is noise with the spectrum and the syllables of speech.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from asr.audio.sphere import read_sphere  # noqa: E402
from asr.data.corpora.preparing.recordings import Conversion, convert_recordings  # noqa: E402
from tests.support.sphere_files import CODINGS, g711, write_sphere  # noqa: E402

READERS = ("asr", "FFmpeg", "libsndfile", "sph2pipe")


def speech_like(seconds: float, sample_rate: int, channels: int) -> numpy.ndarray:
    """(samples, channels) int16: low-pass noise, four syllables per second, each channel silent half of the time."""
    generator = numpy.random.default_rng(1)
    samples = int(seconds * sample_rate)
    noise = generator.standard_normal((samples, channels))
    spectrum = numpy.fft.rfft(noise, axis=0)
    frequency = numpy.fft.rfftfreq(samples, 1 / sample_rate)[:, None]
    voiced = numpy.fft.irfft(spectrum / (1 + (frequency / 500) ** 2), samples, axis=0)
    time_of = numpy.arange(samples)[:, None] / sample_rate
    envelope = numpy.sin(2 * numpy.pi * 2 * time_of) ** 2
    turns = generator.random((int(seconds / 2) + 1, channels)) < 0.5
    envelope = envelope * turns.repeat(2 * sample_rate, axis=0)[:samples]
    wave = 6000 * envelope * voiced / voiced.std() + 10 * noise
    return numpy.clip(numpy.rint(wave), -32768, 32767).astype(numpy.int16)


def recording(path: Path, seconds: float, sample_rate: int, channels: int) -> numpy.ndarray:
    """The file's audio at this rate, repeated up to `seconds`; the second channel is shifted by half of it."""
    from asr.audio.reading import read_audio

    wave, _ = read_audio(path, sample_rate)
    samples = int(seconds * sample_rate)
    wave = numpy.tile(wave, -(-samples // len(wave)))[:samples]
    wave = numpy.clip(numpy.rint(wave * 32768), -32768, 32767).astype(numpy.int16)
    return numpy.stack([numpy.roll(wave, channel * samples // 2) for channel in range(channels)], axis=1)


def by_ffmpeg(path: Path) -> numpy.ndarray:
    import av

    with av.open(str(path)) as container:
        frames = [
            (frame.to_ndarray(), frame.format.is_planar) for frame in container.decode(container.streams.audio[0])
        ]
        channels = container.streams.audio[0].codec_context.channels
    return numpy.concatenate([array.T if planar else array.reshape(-1, channels) for array, planar in frames])


def by_libsndfile(path: Path) -> numpy.ndarray:
    import soundfile

    return soundfile.read(path, dtype="int16", always_2d=True)[0]


def by_sph2pipe(path: Path) -> numpy.ndarray:
    output = subprocess.run(["sph2pipe", "-p", "-f", "raw", path], check=True, capture_output=True).stdout
    return numpy.frombuffer(output, "<i2")


def contestants(path: Path, expected: numpy.ndarray) -> dict[str, Callable[[], numpy.ndarray]]:
    """The readers that can decode this file, each checked to give the expected samples."""
    readers = {
        "asr": lambda: read_sphere(path)[0],
        "FFmpeg": lambda: by_ffmpeg(path),
        "libsndfile": lambda: by_libsndfile(path),
    }
    if shutil.which("sph2pipe"):
        readers["sph2pipe"] = lambda: by_sph2pipe(path)
    able = {}
    for name, read in readers.items():
        try:
            samples = read()
        except Exception:  # readers raise anything for a format they do not know
            if name == "asr":
                raise
            continue
        if not numpy.array_equal(samples.reshape(expected.shape), expected):
            raise SystemExit(f"{name} decodes {path} to other samples")
        able[name] = read
    return able


def measure(
    path: Path, samples: numpy.ndarray, expected: numpy.ndarray, rate: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds per round by reader, without the first round."""
    conversions = [Conversion(path, channel, f"{channel}.flac") for channel in range(samples.shape[1])]

    def to_flac() -> None:
        for conversion in conversions:
            (path.parent / conversion.target).unlink(missing_ok=True)
        convert_recordings(conversions, path.parent, rate, 1, "converting")

    functions = contestants(path, expected) | {"to FLAC": to_flac}
    taken = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            taken[name].append(time.perf_counter() - start)
    return {name: seconds[1:] for name, seconds in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", type=Path, help="speech to encode; by default speech-like noise")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the recordings")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--csv", type=Path, help="file for all measurements")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core
    import av
    import soundfile

    versions = f"numpy {numpy.__version__}, PyAV {av.__version__}, libsndfile {soundfile.__libsndfile_version__}"
    signal = arguments.audio.name if arguments.audio else "noise like speech"
    print(
        f"{platform.machine()}, one core, {versions}; {signal}, {arguments.seconds:g} s; seconds of audio per second\n"
    )
    columns = (*READERS, "to FLAC")
    print(f"| Hz | channels | coding | bytes a sample | {' | '.join(columns)} |")
    print("|---:|---:|---|" + "---:|" * (len(columns) + 1))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for rate, channels in ((16000, 1), (8000, 2)):
            if arguments.audio:
                samples = recording(arguments.audio, arguments.seconds, rate, channels)
            else:
                samples = speech_like(arguments.seconds, rate, channels)
            audio = len(samples) / rate
            for coding in CODINGS:
                path = write_sphere(Path(folder) / "a.sph", samples, rate, coding)
                expected = samples if coding.startswith("pcm") else g711(samples, coding)
                taken = measure(path, samples, expected, rate, arguments.rounds)
                rows += [(rate, channels, coding, name, audio, seconds) for name in taken for seconds in taken[name]]
                cells = [f"{audio / statistics.median(taken[name]):,.0f}" if name in taken else "" for name in columns]
                size = (path.stat().st_size - 1024) / samples.size
                print(f"| {rate} | {channels} | {coding} | {size:.2f} | {' | '.join(cells)} |", flush=True)
    if arguments.csv:
        with open(arguments.csv, "w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("sample_rate", "channels", "coding", "reader", "audio_seconds", "seconds"))
            table.writerows(rows)


if __name__ == "__main__":
    main()

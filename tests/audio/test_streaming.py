"""Audio read in blocks is audio read at once, whatever the container, rate and channels."""

import numpy
import pytest
import soundfile

from asr.audio.reading import read_audio, resample
from asr.audio.resampling import resampler
from asr.audio.streaming import stream_audio
from tests.support.tones import RATE, tones
from tests.support.transcribing import TEXT, record, record_with_ffmpeg


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def streamed(path, rate=RATE, **options):
    return numpy.concatenate(list(stream_audio(path, rate, **options)))


@pytest.mark.parametrize(("name", "rate", "options"), [
    ("x.wav", 16000, {}), ("x.wav", 48000, {}), ("x.flac", 44100, {}), ("x.wav", 8000, {}), ("x.wav", 44101, {}),
    ("x.ogg", 22050, {}), ("x.mp3", 32000, {}), ("x.wav", 11025, {"subtype": "FLOAT"}),
], ids=str)  # fmt: skip
def test_a_file_read_in_blocks_is_the_file_read_at_once(place, name, rate, options):
    record(name, TEXT, rate=rate, **options)
    whole, _ = read_audio(name, RATE)
    blocks = streamed(name, block_seconds=0.37)
    assert len(blocks) == len(whole)
    # FFmpeg, which resamples 44101 Hz, begins its filters anew nowhere, but rounds otherwise
    assert numpy.abs(blocks - whole).max() < 1e-5


def test_what_only_ffmpeg_reads_comes_in_blocks_too(place):
    record_with_ffmpeg("x.m4a", tones(TEXT))
    whole, _ = read_audio("x.m4a", RATE)
    assert numpy.array_equal(streamed("x.m4a", block_seconds=0.5), whole)
    assert len(list(stream_audio("x.m4a", RATE, block_seconds=0.5))) > 10


def test_channels_are_mixed_as_they_are_when_read_at_once(place):
    stereo = numpy.stack([tones("abba"), 0.5 * tones("cafe")], axis=1)
    soundfile.write("x.wav", stereo, RATE)
    assert numpy.array_equal(streamed("x.wav", block_seconds=0.1), read_audio("x.wav")[0])


@pytest.mark.parametrize(
    ("rate", "new_rate"), [(44100, 16000), (8000, 16000), (48000, 16000), (16000, 8000), (22050, 16000)]
)
@pytest.mark.parametrize("block", [1, 10, 441, 5000])
def test_resampling_in_blocks_is_resampling_at_once(rate, new_rate, block):
    waveform = numpy.random.default_rng(0).normal(0, 0.1, 3000 if block < 10 else 20011).astype(numpy.float32)
    convert = resampler(rate, new_rate)
    parts = [convert(waveform[start : start + block], last=False) for start in range(0, len(waveform), block)]
    joined = numpy.concatenate([*parts, convert(waveform[:0], last=True)])
    whole = resample(waveform, rate, new_rate)
    assert joined.shape == whole.shape
    assert numpy.abs(joined - whole).max() < 1e-6

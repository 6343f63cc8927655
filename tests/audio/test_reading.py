"""Audio files of any kind become mono waveforms; broken ones get a sentence."""

import av
import numpy
import pytest
import soundfile

from asr.audio.reading import audio_duration, is_mono_wav_or_flac, read_audio
from asr.audio.writing import write_flac
from asr.errors import UserError

pytestmark = pytest.mark.smoke


def tone(seconds=1.0, sample_rate=16000, hertz=440.0):
    time = numpy.arange(int(seconds * sample_rate)) / sample_rate
    return (0.3 * numpy.sin(2 * numpy.pi * hertz * time)).astype(numpy.float32)


def encode(path, waveform, codec, sample_rate=16000, options=None):
    """Writes a waveform (samples,) or (samples, 2) with FFmpeg, for the formats that soundfile does not write."""
    layout = "mono" if waveform.ndim == 1 else "stereo"
    with av.open(str(path), "w", options=options or {}) as file:
        stream = file.add_stream(codec, rate=sample_rate, layout=layout)
        samples = (waveform * 32767).astype(numpy.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate = sample_rate
        resampler = av.AudioResampler(stream.format, stream.layout, stream.rate, stream.frame_size or None)
        for piece in (*resampler.resample(frame), *resampler.resample(None), None):
            file.mux(stream.encode(piece))


def cut_in_half(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "au", "w64", "caf", "ogg", "mp3"])
def test_formats_of_libsndfile_are_read(tmp_path, suffix):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(), 16000)
    waveform, sample_rate = read_audio(path)
    assert (waveform.dtype, sample_rate) == (numpy.float32, 16000)
    tolerance = 0.05 if suffix in ("ogg", "mp3") else 2e-4
    assert numpy.sqrt(numpy.mean((waveform[:16000] - tone()) ** 2)) < tolerance
    assert audio_duration(path) == len(waveform) / 16000


@pytest.mark.parametrize(
    ("suffix", "codec", "sample_rate"),
    [("g722", "g722", 16000), ("m4a", "aac", 16000), ("webm", "libopus", 48000), ("aac", "aac", 16000)],
)
def test_formats_that_only_ffmpeg_knows_are_read(tmp_path, suffix, codec, sample_rate):
    path = tmp_path / f"tone.{suffix}"
    encode(path, tone(2.0, sample_rate), codec, sample_rate)
    waveform, rate = read_audio(path)
    assert rate == sample_rate
    assert len(waveform) / rate == pytest.approx(2.0, abs=0.15)
    assert audio_duration(path) == len(waveform) / rate
    middle = waveform[rate // 2 : rate // 2 + rate]
    assert numpy.abs(numpy.fft.rfft(middle)).argmax() == 440  # one second: bins are Hz
    assert numpy.abs(middle).max() == pytest.approx(0.3, abs=0.05)


def test_resampling_keeps_the_tone_and_the_duration(tmp_path):
    soundfile.write(tmp_path / "tone.wav", tone(1.0, 44100), 44100)
    waveform, sample_rate = read_audio(tmp_path / "tone.wav", sample_rate=16000)
    assert (len(waveform), sample_rate) == (16000, 16000)
    assert numpy.abs(waveform - tone())[200:-200].max() < 2e-3


def test_channels_are_mixed_by_their_mean_whoever_reads_the_file(tmp_path):
    left, right = tone(hertz=440), tone(hertz=1000)
    stereo = numpy.stack([left, right], 1)
    soundfile.write(tmp_path / "stereo.wav", stereo, 16000)
    encode(tmp_path / "stereo.mka", stereo, "pcm_s16le")
    for name in ("stereo.wav", "stereo.mka"):
        waveform, _ = read_audio(tmp_path / name)
        assert waveform.shape == (16000,)
        assert numpy.abs(waveform - (left + right) / 2).max() < 1e-4


def test_sixteen_bit_audio_survives_flac_bit_for_bit(tmp_path):
    samples = numpy.array([0, 1, -1, 32767, -32768, 12345], dtype=numpy.int16)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="PCM_16")
    write_flac(tmp_path / "a.flac", *read_audio(tmp_path / "a.wav"))
    assert (soundfile.read(tmp_path / "a.flac", dtype="int16")[0] == samples).all()


def test_only_mono_wav_and_flac_at_the_wanted_rate_are_used_as_they_are(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 16000)
    soundfile.write(tmp_path / "a.ogg", tone(), 16000)
    soundfile.write(tmp_path / "stereo.flac", numpy.stack([tone(), tone()], 1), 16000)
    encode(tmp_path / "a.g722", tone(), "g722")
    assert is_mono_wav_or_flac(tmp_path / "a.wav", 16000)
    assert not is_mono_wav_or_flac(tmp_path / "a.wav", 8000)
    assert not any(is_mono_wav_or_flac(tmp_path / name, 16000) for name in ("a.ogg", "stereo.flac", "a.g722"))


@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "au", "w64", "mp3"])
def test_a_file_shorter_than_its_header_promises_is_named(tmp_path, suffix):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(3.0), 16000)
    cut_in_half(path)
    with pytest.raises(UserError, match=rf"tone\.{suffix} is (damaged or )?cut short"):
        read_audio(path)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "w64"])
def test_the_duration_of_a_file_cut_short_is_refused(tmp_path, suffix):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(3.0), 16000)
    cut_in_half(path)
    with pytest.raises(UserError, match="is cut short"):
        audio_duration(path)


@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}])
def test_an_m4a_cut_short_is_named_wherever_its_index_stands(tmp_path, options):
    path = tmp_path / "tone.m4a"
    encode(path, tone(5.0), "aac", options=options)
    cut_in_half(path)
    with pytest.raises(UserError, match=r"tone\.m4a .*cut short"):
        read_audio(path)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_that_ends_within_a_page_is_named(tmp_path, subtype):
    path = tmp_path / "noise.ogg"
    noise = 0.1 * numpy.random.default_rng(0).standard_normal(10 * 16000)
    soundfile.write(path, noise, 16000, format="OGG", subtype=subtype)
    assert len(read_audio(path)[0]) == len(noise)
    cut_in_half(path)
    for reader in (read_audio, audio_duration):
        with pytest.raises(UserError, match=r"noise\.ogg is cut short"):
            reader(path)


def test_a_webm_shorter_than_its_header_promises_is_named(tmp_path):
    encode(tmp_path / "tone.webm", tone(5.0, 48000), "libopus", 48000)
    cut_in_half(tmp_path / "tone.webm")
    with pytest.raises(UserError, match=r"tone\.webm is cut short: its header promises 5.0\d s of audio"):
        read_audio(tmp_path / "tone.webm")


@pytest.mark.parametrize("unknown", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_written_to_a_pipe_whose_header_knows_no_length_is_whole(tmp_path, unknown):
    path = tmp_path / "piped.wav"
    soundfile.write(path, tone(), 16000)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = unknown.to_bytes(4, "little")
    path.write_bytes(data)
    assert len(read_audio(path)[0]) == 16000


def test_missing_empty_and_senseless_files_are_named(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "notes.wav").write_text("These are notes, not audio.\n" * 50)
    (tmp_path / "noise.raw").write_bytes(bytes(range(256)) * 20)
    soundfile.write(tmp_path / "silent.wav", numpy.zeros(0), 16000)
    soundfile.write(tmp_path / "nan.wav", numpy.full(100, numpy.nan), 16000, subtype="FLOAT")
    for name, message in {
        "none.wav": "There is no audio file",
        "empty.wav": "is empty",
        "notes.wav": "cannot be read as audio",
        "noise.raw": "(cannot be read as|holds no) audio",
        "silent.wav": "holds no audio samples",
        "nan.wav": "not numbers",
        ".": "is a folder",
    }.items():
        with pytest.raises(UserError, match=message):
            read_audio(tmp_path / name)
    for name in ("none.wav", "empty.wav", "notes.wav", "silent.wav"):
        with pytest.raises(UserError, match=name):
            audio_duration(tmp_path / name)


def test_a_picture_in_a_video_container_is_no_audio(tmp_path):
    with av.open(str(tmp_path / "film.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        for frame in (av.VideoFrame.from_ndarray(numpy.zeros((32, 32, 3), numpy.uint8)), None):
            file.mux(stream.encode(frame))
    with pytest.raises(UserError, match="holds no audio"):
        read_audio(tmp_path / "film.mp4")

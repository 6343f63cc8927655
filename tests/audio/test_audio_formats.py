"""We decode everything in an audio file that FFmpeg does, whatever its header says; files that are really cut short are named.

Every container and codec that soundfile and PyAV write here (`audio_files`), whole and as the field has them. Seconds are
compared to the sample, but for what stands in TOLERANCE.
"""

import functools
import io
from fractions import Fraction

import av
import numpy
import pytest
import soundfile

from asr.audio.reading import TooLong, audio_duration, read_audio, read_channels, read_header, read_stretch
from asr.audio.streaming import stream_audio
from asr.errors import UserError
from tests.support.audio_files import (
    BY_FFMPEG,
    BY_SOUNDFILE,
    SECONDS,
    by_ffmpeg,
    by_soundfile,
    decoded_by_ffmpeg,
    id3,
    kinds,
    tone,
    with_length,
)

EXACT = 1e-6
# Seconds by which we and FFmpeg may differ, and why.
TOLERANCE = {
    "G72": 0.02,  # G.721, G.723, G.726: libsndfile fills the last block of 120 samples
    "g726": 0.01,
    "VORBIS": 0.04,  # FFmpeg begins a further link with a block that belongs to nothing
    "AU": 0.01,  # FFmpeg takes the header of a further file for samples
    "au": 0.01,
}
# Formats whose header promises a length, or a structure that shows where the end is missing.
PROMISE = set(
    "WAV WAVEX RF64 W64 AIFF AU CAF FLAC NIST MP3 OGG wav w64 aiff au caf flac ogg oga opus mp3 m4a/ipod mp4 mov".split()
)
PROMISE |= set("3gp mkv/matroska webm wv tta".split())
# Formats whose concatenated files play one after another.
JOINED = set("FLAC OGG MP3 AU flac ogg oga opus mp3 mp2 aac/adts latm ac3 eac3 ts/mpegts mpg/mpeg au".split())
# FFmpeg does not read these without a length; we do.
LENGTHLESS = {"aiff", "w64"}
LENGTHS = (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFDB, 0x7FFFF000)
WRITTEN = {"soundfile": (by_soundfile, BY_SOUNDFILE), "ffmpeg": (by_ffmpeg, BY_FFMPEG)}
CONTAINERS = [(writer, container) for writer, (_, table) in WRITTEN.items() for container in table]


def seconds_of(path):
    """The seconds that we read, or our error."""
    try:
        channels, rate = read_channels(path)
    except UserError as error:
        assert str(path) in str(error)
        return str(error)
    return len(channels) / rate


def files_of(writer, container):
    """(codec, sample rate, bytes) of every codec in a container."""
    write, table = WRITTEN[writer]
    for each, codec, rate in kinds(table):
        if each == container:
            yield codec, rate, write(container, codec, rate)


@pytest.fixture
def compare(tmp_path):
    """A function of (container, codec, bytes, expected) that says what is wrong with what we read of a file, or None.

    expected: a function of (seconds that we read or a sentence, seconds that FFmpeg decodes or None, within) → whether it is
    right; within(a, b) says whether two are the same.
    """

    def compare_one(container, codec, data, expected):
        path = tmp_path / f"{codec}.{container.partition('/')[0].lower()}"
        path.write_bytes(data)
        ours, theirs = seconds_of(path), decoded_by_ffmpeg(path)
        tolerance = max([EXACT, *(TOLERANCE[name] for name in TOLERANCE if name in codec or name == container)])

        def within(one, other):
            return isinstance(one, float) and isinstance(other, float) and abs(one - other) <= tolerance

        path.unlink()
        return None if expected(ours, theirs, within) else f"{container} {codec}: we {ours}, FFmpeg {theirs}"

    return compare_one


every_container = pytest.mark.parametrize(("writer", "container"), CONTAINERS, ids=map("-".join, CONTAINERS))


@functools.cache
def whole_seconds(container, codec, data, tmp):
    path = tmp / f"whole.{container.partition('/')[0].lower()}"
    path.write_bytes(data)
    return seconds_of(path)


@every_container
def test_a_whole_file_is_read_to_the_sample(compare, writer, container):
    def expected(ours, theirs, within):
        return within(ours, theirs) if theirs else within(ours, SECONDS)

    wrong = [compare(container, codec, data, expected) for codec, _, data in files_of(writer, container)]
    assert not list(filter(None, wrong))


@every_container
def test_a_file_cut_short_is_named_where_its_format_makes_a_promise(compare, writer, container):
    def expected(ours, theirs, within):
        if container in PROMISE:
            return isinstance(ours, str)
        return isinstance(ours, str) or not theirs or within(ours, theirs)

    wrong = [
        compare(container, codec, data[: len(data) * 6 // 10], expected)
        for codec, _, data in files_of(writer, container)
    ]
    assert not list(filter(None, wrong))


@every_container
def test_files_joined_are_read_to_the_end_or_named(compare, tmp_path, writer, container):
    wrong = []
    for codec, _, data in files_of(writer, container):
        once = whole_seconds(container, codec, data, tmp_path)

        def expected(ours, theirs, within, once=once):
            if container in JOINED:
                return ours > 2 * once - 0.1 and (within(ours, theirs) or within(ours, 2 * once))
            return isinstance(ours, str) or not theirs or within(ours, theirs)

        wrong.append(compare(container, codec, data + data, expected))
    assert not list(filter(None, wrong))


@pytest.mark.parametrize("container", BY_FFMPEG)
def test_a_file_written_to_a_pipe_is_read_to_the_end(compare, tmp_path, container):
    wrong = []
    for codec, rate, data in files_of("ffmpeg", container):
        try:
            streamed = by_ffmpeg(container, codec, rate, streamed=True)
        except av.error.FFmpegError:
            continue  # this container wants to go back
        once = whole_seconds(container, codec, data, tmp_path)

        def expected(ours, theirs, within, once=once):
            if container in LENGTHLESS:
                return within(ours, once)
            return within(ours, theirs) or isinstance(ours, str) and (theirs is None or theirs < once - 0.1)

        wrong.append(compare(container, codec, streamed, expected))
    assert not list(filter(None, wrong))


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC"])
def test_a_length_that_is_none_is_not_believed(compare, tmp_path, container):
    """0, -1, the ends of a counter, and the size of the file, or of what follows its first 8 bytes, where the audio's belongs."""
    wrong = []
    for codec, _, data in files_of("soundfile", container):
        once = whole_seconds(container, codec, data, tmp_path)
        for length in (0,) if container == "FLAC" else (*LENGTHS, len(data), len(data) - 8):
            changed = with_length(container, data, length)
            found = compare(container, codec, changed, lambda ours, theirs, within, once=once: within(ours, once))
            wrong.append(found and f"length {length:#x}: {found}")
    assert not list(filter(None, wrong))


@every_container
@pytest.mark.parametrize("junk", [id3(), b"\0junk\n" * 50], ids=["a tag", "junk"])
def test_what_stands_before_a_file_is_passed_over_or_named(compare, tmp_path, writer, container, junk):
    wrong = []
    for codec, _, data in files_of(writer, container):
        once = whole_seconds(container, codec, data, tmp_path)

        def expected(ours, theirs, within, once=once):
            return within(ours, once) or within(ours, theirs) or (isinstance(ours, str) and theirs is None)

        wrong.append(compare(container, codec, junk + data, expected))
    assert not list(filter(None, wrong))


def test_many_kinds_of_file_are_compared_each_in_several_variants():
    assert sum(len(kinds(table)) for _, table in WRITTEN.values()) >= 150


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("delay", [0, 1])
def test_a_video_that_goes_on_after_its_audio_or_begins_before_it_is_whole(tmp_path, delay):
    """delay: seconds from the first picture to the first sound. What is silent there keeps the film's times."""
    for name in ("film.mkv", "film.mp4", "film.mov"):
        with av.open(str(tmp_path / name), "w") as file:
            pictures = file.add_stream("mpeg4", rate=5)
            pictures.width = pictures.height = 32
            speech = file.add_stream("aac", rate=16000, layout="mono")
            for number in range(15):  # three seconds
                picture = av.VideoFrame.from_ndarray(numpy.full((32, 32, 3), 9 * number, numpy.uint8))
                file.mux(pictures.encode(picture))
            file.mux(pictures.encode(None))
            frame = av.AudioFrame.from_ndarray((tone(16000).T * 32767).astype(numpy.int16), format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), 16000 * delay
            resampler = av.AudioResampler(speech.format, "mono", 16000, speech.frame_size)
            for piece in (*resampler.resample(frame), *resampler.resample(None), None):
                file.mux(speech.encode(piece))
        waveform, rate = read_audio(tmp_path / name)
        assert len(waveform) / rate == pytest.approx(delay + SECONDS, abs=0.15)
        assert not numpy.any(waveform[: int(0.9 * delay * rate)]) and numpy.any(waveform[-int(SECONDS * rate) :])
        assert audio_duration(tmp_path / name) == len(waveform) / rate
        data = (tmp_path / name).read_bytes()
        with pytest.raises(UserError, match="cut short"):
            read_audio(write(tmp_path / f"cut-{name}", data[: len(data) // 2]))


def test_an_mp4_in_fragments_is_read_to_the_end(tmp_path):
    data = by_ffmpeg("mp4", "aac", 16000, options=(("movflags", "frag_keyframe+empty_moov"),))
    path = write(tmp_path / "a.mp4", data)
    assert seconds_of(path) == pytest.approx(decoded_by_ffmpeg(path), abs=EXACT)


@pytest.mark.parametrize("container", ["FLAC", "OGG"])
def test_the_links_of_a_chain_may_have_any_rate_and_channels(tmp_path, container):
    codec = {"FLAC": "PCM_16", "OGG": "VORBIS"}[container]
    links = [
        by_soundfile(container, codec, rate, 0.5, channels) for rate, channels in ((16000, 1), (8000, 1), (16000, 2))
    ]
    channels, rate = read_channels(write(tmp_path / f"a.{container.lower()}", b"".join(links)))
    assert (channels.shape[1], rate) == (1, 16000) and len(channels) == 3 * 8000
    loudness = [numpy.sqrt(numpy.mean(part**2)) for part in numpy.split(channels, 3)]
    assert max(loudness) < 1.1 * min(loudness)


@pytest.mark.parametrize("container", ["matroska", "ogg"])
@pytest.mark.parametrize("length_known", [True, False])
def test_flac_in_another_container_is_read_to_the_end(tmp_path, container, length_known):
    """Its own header, fLaC, stands somewhere in there; and nothing but that would say that a further link begins."""
    data = by_soundfile("FLAC", "PCM_16", 16000)
    plain = write(tmp_path / "a.flac", data if length_known else with_length("FLAC", data, 0))
    path = tmp_path / "in.container"
    with av.open(str(plain)) as source, av.open(str(path), "w", format=container) as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    once, _ = read_audio(plain)
    assert numpy.array_equal(read_audio(path)[0], once)
    if container == "ogg":
        links = write(tmp_path / "links.oga", path.read_bytes() * 3)
        assert numpy.array_equal(read_audio(links)[0], numpy.tile(once, 3))
        assert audio_duration(links) == 3 * len(once) / 16000


@pytest.mark.parametrize("links", [2, 40])
def test_the_parts_of_a_file_in_blocks_are_those_read_at_once(tmp_path, links):
    data = by_soundfile("FLAC", "PCM_16", 16000)
    once, _ = read_audio(write(tmp_path / "once.flac", data))
    path = write(tmp_path / "a.flac", data * links)
    whole, _ = read_audio(path)
    assert numpy.array_equal(whole, numpy.tile(once, links))
    assert numpy.array_equal(numpy.concatenate(list(stream_audio(path, 16000, block_seconds=0.7))), whole)
    assert audio_duration(path) == len(whole) / 16000
    streamed = write(tmp_path / "b.flac", with_length("FLAC", data, 0) * links)
    assert numpy.array_equal(read_audio(streamed)[0], whole)


@pytest.mark.parametrize("name", ["a.flac", "a.wav", "a.mp3", "a.mkv"])
def test_a_bound_holds_for_a_file_that_does_not_say_how_long_it_is(tmp_path, name):
    data = {
        "a.flac": lambda: with_length("FLAC", by_soundfile("FLAC", "PCM_16", 16000, 60.0), 0),
        "a.wav": lambda: with_length("WAV", by_soundfile("WAV", "PCM_16", 16000, 60.0), 0),
        "a.mp3": lambda: by_ffmpeg("mp3", "libmp3lame", 16000, streamed=True) * 20,
        "a.mkv": lambda: by_ffmpeg("mkv/matroska", "libopus", 16000, streamed=True),
    }[name]()
    with pytest.raises(TooLong, match="is longer than 1 s"):
        read_audio(write(tmp_path / name, data), longest_seconds=1.0)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
@pytest.mark.parametrize("length_known", [True, False])
def test_a_stretch_of_a_file_is_that_of_the_whole(tmp_path, container, length_known):
    codec = BY_SOUNDFILE[container].split()[0]
    data = by_soundfile(container, codec, 16000)
    if not length_known:
        data = with_length(container, data, 0) if container in ("WAV", "FLAC", "AIFF") else data + data
    path = write(tmp_path / f"a.{container.lower()}", data)
    whole, rate = read_channels(path)
    for offset, duration in ((0.0, 0.5), (0.25, 0.5), (1.0, None), (0.0, None), (1.2, 5.0)):
        part, _ = read_stretch(path, offset, duration)
        last = None if duration is None else round((offset + duration) * rate)
        expected = whole[round(offset * rate) : last]
        assert part.shape == expected.shape
        # an MP3's decoder that starts in the middle lacks what came before
        assert numpy.abs(part - expected).max() < (0.05 if container == "MP3" else 1e-6)


def test_an_mp3_is_believed_only_where_its_xing_header_agrees_with_its_end(tmp_path):
    data = by_soundfile("MP3", "MPEG_LAYER_III", 16000)
    assert read_header(write(tmp_path / "a.mp3", data)).samples == len(tone(16000))
    place = data.index(b"Info" if b"Info" in data[:200] else b"Xing")
    without = bytearray(data)
    without[place : place + 4] = b"\0\0\0\0"
    assert read_header(write(tmp_path / "b.mp3", bytes(without))).samples is None
    assert seconds_of(tmp_path / "b.mp3") == pytest.approx(decoded_by_ffmpeg(tmp_path / "b.mp3"), abs=EXACT)
    there = int.from_bytes(data[place + 8 : place + 12], "big")
    for frames in (0, 0xFFFFFFFF, there // 2):  # not written, and wrong
        counted = data[: place + 8] + frames.to_bytes(4, "big") + data[place + 12 :]
        assert seconds_of(write(tmp_path / "counted.mp3", counted)) == pytest.approx(SECONDS, abs=0.1)
    place = data.index(b"LAME")  # the encoder's padding is stored here
    path = write(tmp_path / "padded.mp3", data[:place] + bytes(36) + data[place + 36 :])
    assert seconds_of(path) == pytest.approx(decoded_by_ffmpeg(path), abs=EXACT)
    # tags may follow: ID3v1, and one that begins another file
    assert seconds_of(write(tmp_path / "c.mp3", data + b"TAG" + bytes(125))) == SECONDS
    assert seconds_of(write(tmp_path / "d.mp3", data + id3() + data)) > 2 * SECONDS - 0.1


def test_an_empty_wav_with_chunks_behind_it_is_empty(tmp_path):
    file = io.BytesIO()
    soundfile.write(file, numpy.zeros(0), 16000, format="WAV")
    path = write(tmp_path / "a.wav", file.getvalue() + b"LIST\x04\0\0\0INFO")
    with pytest.raises(UserError, match="holds no audio samples"):
        read_audio(path)

"""NIST SPHERE: samples come back bit for bit, and damaged files are named."""

from __future__ import annotations

import re
import sys
import tracemalloc

import numpy
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio.reading import TooLong, audio_duration, read_audio, read_channels, read_header
from asr.audio.shorten import AU1, AU2, ulaw_codes
from asr.audio.sphere import expansion, is_sphere, read_sphere, read_sphere_header
from asr.errors import UserError
from tests.support.sphere_files import (
    BLOCK,
    CODINGS,
    SHORTEN_PCM,
    SHORTEN_ULAW,
    first_release,
    from_alaw,
    from_ulaw,
    g711,
    shorten,
    sphere_header,
    write_sphere,
)

COMPRESSED = (*SHORTEN_PCM, *SHORTEN_ULAW)


def sound(kind: str, samples: int, channels: int, seed: int = 0) -> numpy.ndarray:
    """int16 (samples, channels), every channel different."""
    rng = numpy.random.default_rng(seed)
    shape = (samples, channels)
    if kind == "silence":
        values = numpy.zeros(shape)
    elif kind == "full scale":
        values = rng.integers(-32768, 32768, shape)
    elif kind == "tone":
        values = 12000 * numpy.sin(numpy.arange(samples)[:, None] / numpy.arange(5, 5 + channels)) + rng.normal(
            0, 9, shape
        )
    elif kind == "coarse":
        values = 8 * rng.integers(-500, 500, shape)
    elif kind == "direct current":
        values = rng.normal(-9000, 40, shape)
    else:  # speech and digital silence in turn, and a click
        values = (
            rng.normal(0, 800, shape)
            * (rng.random((samples // BLOCK + 1, channels)) < 0.5).repeat(BLOCK, axis=0)[:samples]
        )
        values[samples // 2] = -32768
    return numpy.clip(numpy.rint(values), -32768, 32767).astype(numpy.int16)


KINDS = ("silence", "full scale", "tone", "coarse", "direct current", "gaps")


def expected(samples: numpy.ndarray, coding: str) -> numpy.ndarray:
    return samples if coding.startswith("pcm") else g711(samples, coding)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_coding_comes_back_bit_for_bit_at_every_length_around_a_block(tmp_path, coding, channels):
    for kind in KINDS:
        for length in (1, 2, 3, 4, 255, 256, 257, 511, 513, 5003):
            samples = sound(kind, length, channels)
            path = write_sphere(tmp_path / "a.sph", samples, 16000, coding)
            read, rate = read_sphere(path)
            assert rate == 16000 and read.dtype == numpy.int16, (kind, length)
            assert numpy.array_equal(read, expected(samples, coding)), (kind, length)


@pytest.mark.parametrize("coding", ["ulaw", *COMPRESSED])
def test_longer_recordings_come_back_bit_for_bit(tmp_path, coding):
    samples = numpy.concatenate([sound("tone", 50003, 2), sound("gaps", 30000, 2), sound("full scale", 20000, 2)])
    assert numpy.array_equal(
        read_sphere(write_sphere(tmp_path / "a.sph", samples, 8000, coding))[0], expected(samples, coding)
    )


@settings(max_examples=60, deadline=None)
@given(
    coding=st.sampled_from(CODINGS),
    byte_format=st.sampled_from(["01", "10"]),
    kind=st.sampled_from(KINDS),
    samples=st.integers(1, 3000),
    channels=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    header_bytes=st.sampled_from([512, 1024, 2048, 3000]),
)
def test_whatever_is_encoded_comes_back(
    tmp_path_factory, coding, byte_format, kind, samples, channels, seed, header_bytes
):
    path = tmp_path_factory.mktemp("random") / "a.sph"
    wave = sound(kind, samples, channels, seed)
    write_sphere(path, wave, 16000, coding, byte_format, header_bytes=header_bytes)
    assert numpy.array_equal(read_sphere(path)[0], expected(wave, coding))
    assert read_sphere_header(path).samples == samples


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.integers(-32768, 32767), min_size=1, max_size=600), coding=st.sampled_from(COMPRESSED))
def test_samples_of_any_values_come_back_from_shorten(tmp_path_factory, values, coding):
    samples = numpy.array(values, numpy.int16)[:, None]
    path = write_sphere(tmp_path_factory.mktemp("random") / "a.sph", samples, 16000, coding)
    assert numpy.array_equal(read_sphere(path)[0], expected(samples, coding))


def test_pcm_is_what_libsndfile_reads_and_mu_law_what_it_decodes(tmp_path):
    samples = sound("tone", 4001, 2)
    for coding, byte_format in (("pcm", "01"), ("pcm", "10"), ("ulaw", "01"), ("alaw", "01")):
        path = write_sphere(tmp_path / "a.sph", samples, 8000, coding, byte_format)
        theirs, rate = soundfile.read(path, dtype="int16", always_2d=True)
        assert rate == 8000 and numpy.array_equal(read_sphere(path)[0], theirs)


def test_mu_law_and_a_law_expand_as_the_standard_says():
    ulaw, alaw = expansion("ulaw"), expansion("alaw")
    # ITU-T G.711, tables 2a and 1a: decoder output values of both signs, here 14 and 13 bits at the left of 16
    for code, value in {0xFF: 0, 0xFE: 2, 0xF0: 30, 0xEF: 33, 0xCF: 231, 0x8F: 4191, 0x80: 8031}.items():
        assert ulaw[code] == 4 * value and ulaw[code - 128] == -4 * value
    for code, value in {0x55 ^ 0x80: 1, 0x54 ^ 0x80: 3, 0x45 ^ 0x80: 33, 0x2A ^ 0x80: 4032}.items():
        assert alaw[code] == 8 * value and alaw[code - 128] == -8 * value
    every = numpy.arange(256, dtype=numpy.uint8)
    assert numpy.array_equal(ulaw, from_ulaw(every)) and numpy.array_equal(alaw, from_alaw(every))


def test_the_shifted_mu_law_numbers_are_those_of_shorten():
    table = ulaw_codes(AU1).tolist()
    # parts of ulaw_outward in shorten's own bitshift.h
    assert table[0][:3] == [127, 0, 1] and table[0][127:130] == [126, 255, 254]
    assert table[1][:10] == [112, 114, 116, 118, 120, 122, 124, 126, 127, 0]
    assert table[5][122:138] == [69, 73, 77, 83, 91, 103, 255, 231, 219, 211, 205, 201, 197, 193, 190, 188]
    assert table[8][123:131] == [27, 31, 39, 47, 62, 255, 190, 175]
    assert table[11][125:131] == [127, 0, 15, 255, 143, 254]
    for row in table + ulaw_codes(AU2).tolist():
        assert sorted(row) == list(range(256))


def test_ffmpeg_decodes_the_same_numbers_of_mu_law_where_it_is_told_that_they_are_samples(tmp_path):
    samples = sound("full scale", 3000, 2)
    samples[::8] = 8  # the quietest code there is: no block is shifted
    data = write_sphere(tmp_path / "a.sph", samples, 8000, SHORTEN_ULAW[2]).read_bytes()
    # the stream's first number, in 4 bits: 8, mu-law, becomes 5, 16 bits
    assert data[1029] == 0b0100_1_100 and data[1030] < 128
    path = write_sphere(tmp_path / "b.sph", samples, 8000, SHORTEN_PCM[2], sample_checksum=None)
    path.write_bytes(path.read_bytes()[:1029] + bytes([0b0100_1_010, data[1030] | 128]) + data[1031:])
    numbers = read_sphere(path)[0]
    codes = numpy.where(numbers >= 0, 255 - numbers, 128 + numbers)
    assert numpy.array_equal(expansion("ulaw")[codes], read_sphere(tmp_path / "a.sph")[0])


def test_a_silent_block_is_kept_by_both_versions_of_shorten(tmp_path):
    samples = numpy.concatenate(
        [sound("tone", 600, 1), numpy.zeros((1000, 1), numpy.int16), sound("tone", 300, 1, seed=1)]
    )
    for coding in SHORTEN_PCM:
        assert numpy.array_equal(read_sphere(write_sphere(tmp_path / "a.wv1", samples, 16000, coding))[0], samples)


def test_shorten_makes_speech_smaller(tmp_path):
    samples = sound("tone", 20000, 1) // 16
    for coding in SHORTEN_PCM:
        assert write_sphere(tmp_path / "a.wv1", samples, 16000, coding).stat().st_size < 0.6 * samples.nbytes


def test_a_header_gives_its_fields_and_its_kind(tmp_path):
    path = write_sphere(
        tmp_path / "4K0C0301.WV1",
        sound("tone", 1000, 1),
        16000,
        SHORTEN_PCM[0],
        database_id="wsj0 cdrom",
        speaker_id="4k0",
        recording_gain=1.5,
    )
    header = read_sphere_header(path)
    assert (header.sample_rate, header.channels, header.samples, header.size) == (16000, 1, 1000, 1024)
    assert (header.coding, header.base_coding, header.byte_format) == ("pcm,embedded-shorten-v1.09", "pcm", "01")
    assert header.fields["database_id"] == "wsj0 cdrom" and header.fields["recording_gain"] == 1.5
    assert is_sphere(path) and not is_sphere(tmp_path / "none") and not is_sphere(tmp_path)


def test_headers_of_old_corpora_are_read(tmp_path):
    samples = sound("tone", 700, 1)
    # TIMIT has no coding and no checksum
    path = write_sphere(tmp_path / "SA1.WAV", samples, 16000, sample_coding=None, sample_checksum=None, sample_min=-1)
    assert numpy.array_equal(read_sphere(path)[0], samples)
    # some files name the coding differently, and have no bytes per sample
    path = write_sphere(tmp_path / "a.sph", samples, 8000, "ulaw", sample_coding="mu-law", sample_n_bytes=None)
    assert numpy.array_equal(read_sphere(path)[0], g711(samples, "ulaw"))
    path = write_sphere(tmp_path / "a.sph", samples, 8000, "ulaw", sample_coding=None, sample_byte_format="mu-law")
    assert numpy.array_equal(read_sphere(path)[0], g711(samples, "ulaw"))
    # a field that does not concern the samples may have any value
    data = write_sphere(tmp_path / "a.sph", samples, 8000, speaker_id="4k0").read_bytes()
    (tmp_path / "a.sph").write_bytes(data.replace(b"speaker_id -s3 4k0", b"speaker_id -s4 4k0"))
    assert read_sphere_header(tmp_path / "a.sph").fields["speaker_id"] == "4k0"
    # so may a malformed line, as when a text spans two lines
    (tmp_path / "a.sph").write_bytes(data)
    header = read_sphere_header(changed_header(tmp_path / "a.sph", b"speaker_id -s3 4k0", b"note  -s7 a quiet\nroom"))
    assert header.samples == 700 and header.fields["note"] == "a quiet"
    # a comment, and spaces at the end of a line
    data = write_sphere(tmp_path / "a.sph", samples, 8000).read_bytes()
    (tmp_path / "a.sph").write_bytes(
        data.replace(b"_rate -i 8000\n", b"_rate -i 8000 ; Hz\n").replace(b" " * 5, b"", 1)
    )
    assert read_sphere_header(tmp_path / "a.sph").sample_rate == 8000


def test_a_first_release_counts_the_samples_of_both_channels(tmp_path):
    samples = sound("tone", 8001, 2)
    path = write_sphere(tmp_path / "sw02001.sph", samples, 8000, "ulaw", **first_release(samples))
    header = read_sphere_header(path)
    assert header.fields["sample_count"] == 16002 and header.samples == 8001
    assert numpy.array_equal(read_sphere(path)[0], g711(samples, "ulaw"))


@pytest.mark.parametrize("coding", ["pcm", "ulaw", *COMPRESSED])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_file_that_is_cut_short_is_named(tmp_path, coding, share):
    path = write_sphere(tmp_path / "cut.sph", sound("tone", 4000, 2), 8000, coding, cut_to=share)
    with pytest.raises(UserError, match="cut.sph") as caught:
        read_sphere(path)
    if "," not in coding:
        there = int(4000 * share)
        assert f"cut short: its SPHERE header promises 4000 samples per channel, {there} are there" in str(caught.value)


def test_a_stream_that_lost_its_last_blocks_is_cut_short_by_the_header_though_it_decodes(tmp_path):
    samples = sound("tone", 4000, 1)
    for coding in COMPRESSED:
        path = write_sphere(tmp_path / "a.sph", samples[:3000], 8000, coding, sample_count=4000)
        with pytest.raises(UserError, match="promises 4000 samples per channel, 3000 are there"):
            read_sphere(path)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_changed_byte_shows_in_the_checksum_or_before(tmp_path, coding):
    path = write_sphere(tmp_path / "a.sph", sound("tone", 3000, 1), 8000, coding)
    data = bytearray(path.read_bytes())
    for place in (1100, 1500, len(data) - 40):
        changed = data.copy()
        changed[place] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(UserError, match=r"a\.sph"):
            read_sphere(path)


def test_a_wrong_checksum_is_named_with_both_numbers(tmp_path):
    samples = numpy.full((3, 1), -2, numpy.int16)
    path = write_sphere(tmp_path / "a.sph", samples, 8000, sample_checksum=17)
    with pytest.raises(
        UserError, match="a.sph is damaged: its samples add up to the checksum 65530, not 17 as in its SPHERE header"
    ):
        read_sphere(path)


def test_more_compressed_samples_than_the_header_counts_are_refused_before_they_fill_the_memory(tmp_path):
    silence = {"pcm": numpy.zeros((1_000_000, 1), numpy.int16), "ulaw": numpy.full((1_000_000, 1), 255, numpy.uint8)}
    for coding in (SHORTEN_PCM[2], SHORTEN_ULAW[2]):
        path = write_sphere(tmp_path / "a.sph", sound("tone", 300, 1), 8000, coding)
        path.write_bytes(path.read_bytes()[:1024] + shorten(silence[coding.partition(",")[0]], 2))
        tracemalloc.start()
        with pytest.raises(UserError, match="more than the 300 samples per channel that its header counts"):
            read_sphere(path)
        assert tracemalloc.get_traced_memory()[1] < 10e6
        tracemalloc.stop()


@pytest.mark.parametrize("coding", ["pcm", "ulaw", "alaw"])
@pytest.mark.parametrize("checksum", [{}, {"sample_checksum": None}], ids=["checksum", "none"])
def test_samples_that_the_header_does_not_count_are_read(tmp_path, coding, checksum):
    samples = sound("tone", 3000, 2)
    for count in (None, 0, 1500, 2000):
        path = write_sphere(tmp_path / "a.sph", samples, 8000, coding, sample_count=count, **checksum)
        assert numpy.array_equal(read_sphere(path)[0], expected(samples, coding))
        assert read_sphere_header(path).samples == 3000


@pytest.mark.parametrize("coding", CODINGS)
def test_bytes_after_the_last_sample_are_no_samples(tmp_path, coding):
    samples = sound("tone", 3000, 1)
    for checksum in ({}, {"sample_checksum": None}):
        path = write_sphere(tmp_path / "a.sph", samples, 8000, coding, **checksum)
        path.write_bytes(path.read_bytes() + b"\0" * 777)
        assert numpy.array_equal(read_sphere(path)[0], expected(samples, coding))
    # a disc's sector may be longer: then the checksum decides
    path = write_sphere(tmp_path / "a.sph", samples, 8000, coding)
    path.write_bytes(path.read_bytes() + b"\7" * 2000)
    assert numpy.array_equal(read_sphere(path)[0], expected(samples, coding))


@pytest.mark.parametrize("coding", COMPRESSED)
def test_compressed_samples_need_not_be_counted(tmp_path, coding):
    samples = sound("tone", 3000, 1)
    path = write_sphere(tmp_path / "a.sph", samples, 8000, coding, sample_count=None)
    assert numpy.array_equal(read_sphere(path)[0], expected(samples, coding))
    assert read_header(path).samples is None and audio_duration(path) == 3000 / 8000
    with pytest.raises(TooLong):
        read_audio(path, longest_seconds=0.1)


def test_fields_may_be_parted_by_tabs_and_numbers_written_as_text(tmp_path):
    samples = sound("tone", 300, 1)
    for coding in ("pcm", "ulaw"):
        path = write_sphere(tmp_path / "a.sph", samples, 8000, coding)
        changed_header(path, b"   1024\n", b"1024   \n")
        changed_header(path, b"sample_rate -i 8000", b"sample_rate -r 8000.0")
        for name, kind in (("channel_count", b"-i"), ("sample_rate", b"-r"), ("sample_count", b"-i")):
            changed_header(path, b"%s %s " % (name.encode(), kind), b"%s\t%s\t" % (name.encode(), kind))
        width = b"2" if coding == "pcm" else b"1"
        changed_header(path, b"sample_n_bytes -i " + width, b"sample_n_bytes -s1 " + width)
        assert numpy.array_equal(read_sphere(path)[0], expected(samples, coding))


@pytest.mark.parametrize("nobody_counted", [-1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_count_that_is_none_is_not_believed(tmp_path, nobody_counted):
    path = write_sphere(tmp_path / "a.sph", sound("tone", 3000, 1), 8000, "pcm", sample_count=nobody_counted)
    assert audio_duration(path) == 3000 / 8000 and len(read_sphere(path)[0]) == 3000


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW"])
def test_what_libsndfile_writes_is_read(tmp_path, subtype):
    samples = sound("tone", 3000, 1)
    soundfile.write(tmp_path / "a.sph", samples, 8000, format="NIST", subtype=subtype)
    theirs, _ = soundfile.read(tmp_path / "a.sph", dtype="float32", always_2d=True)
    channels, rate = read_channels(tmp_path / "a.sph")
    assert rate == 8000 and numpy.array_equal(channels, theirs)


def changed_header(path, old: bytes, new: bytes):
    """The file with the first `old` of its header replaced, the header kept at its size."""
    data = path.read_bytes()
    assert old in data[:1024]
    path.write_bytes(data[:1024].replace(old, new, 1).ljust(1024)[:1024] + data[1024:])
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"NIST_1A", b"NIST_2B", "is not a NIST SPHERE file"),
        (b"   1024\n", b"   10z4\n", "no size in the second line"),
        (b"   1024\n", b"      7\n", "header of 7 bytes"),
        (b"   1024\n", b"9999999\n", "header of 9999999 bytes"),
        (b"   1024\n", b"1000000\n", r"cut short within its SPHERE header: \d+ of 1000000 bytes"),
        (b"end_head", b"end_hand", "without its last line, end_head"),
        (b"end_head\n", b"", "without its last line, end_head"),
        (b"sample_rate -i 8000", b"sample_rate -i 8k", "sample_rate='8k' .* which is not a number"),
        (b"sample_rate -i 8000", b"sample_rate -i 0", "sample_rate=0 .* from 1000 to 1000000"),
        (b"sample_rate -i 8000", b"sample_rate -r 8000.5", "sample_rate=8000.5"),
        (b"sample_rate -i 8000\n", b"", "has no sample_rate"),
        (b"sample_rate -i 8000", b"sample_rate 8000", "the line 'sample_rate 8000'"),
        (b"sample_rate -i 8000", b"sample_rate -x 8000", "the line 'sample_rate -x 8000'"),
        (b"sample_count -i 500", b"sample_count -i -500", "sample_count=-500"),
        (b"channel_count -i 1", b"channel_count -i 99", "channel_count=99 .* from 1 to 8"),
        (b"sample_n_bytes -i 2", b"sample_n_bytes -i 3", "pcm with 3 bytes per sample .* Convert it to WAV first"),
        (b"sample_byte_format -s2 01", b"sample_byte_format -s4 1032", "sample_byte_format=1032"),
        (b"sample_byte_format -s2 01\n", b"", "sample_byte_format=nothing"),
        (b"sample_coding -s3 pcm", b"sample_coding -s9 pcm", "promises 9 characters of sample_coding"),
        (b"sample_coding -s3 pcm", b"sample_coding -s2 pcm", "promises 2 characters of sample_coding"),
        (b"sample_coding -s3 pcm", b"sample_coding -s24 pcm,embedded-wavpack-v2.0", "promises 24"),
        (
            b"sample_coding -s3 pcm",
            b"sample_coding -s25 pcm,embedded-wavpack-v2.0",
            "wavpack-v2.0, which cannot be read",
        ),
        (b"sample_coding -s3 pcm", b"sample_coding -s5 g.723", "coded as g.723"),
        (
            b"channel_count -i 1\n",
            b"channel_count -i 2\nchannels_interleaved -s5 FALSE\n",
            "holds its channels one after another",
        ),
        (b"sample_coding -s3 pcm", b"sample_coding -s27 alaw,embedded-shorten-v1.09", "alaw,embedded-shorten-v1.09"),
        (
            b"sample_coding -s3 pcm",
            b"sample_coding -s26 pcm,embedded-shorten-v2.00",
            "data do not begin like shorten's",
        ),
        (b"sample_checksum -i ", b"sample_checksum -i 9", "sample_checksum"),
    ],
)
def test_a_malformed_header_is_answered_with_the_field(tmp_path, old, new, message):
    path = write_sphere(tmp_path / "bad.sph", sound("full scale", 500, 1), 8000, sample_checksum=12345)
    with pytest.raises(UserError, match=message) as caught:
        read_sphere(changed_header(path, old, new))
    assert str(path) in str(caught.value)


def test_shorten_streams_of_mu_law_of_other_kinds_are_answered_with_what_to_do(tmp_path):
    path = write_sphere(tmp_path / "a.sph", sound("tone", 500, 1), 8000, SHORTEN_ULAW[2])
    path.write_bytes(path.read_bytes()[:1024] + shorten(sound("tone", 500, 1), 2))
    with pytest.raises(UserError, match="samples are of shorten's type 5, .*: convert it to WAV first"):
        read_sphere(path)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=300), coding=st.sampled_from(COMPRESSED), place=st.integers(0, 200))
def test_no_garbage_in_a_stream_makes_anything_but_a_sentence(tmp_path_factory, data, coding, place):
    path = write_sphere(tmp_path_factory.mktemp("random") / "a.sph", sound("tone", 500, 2), 8000, coding)
    whole = path.read_bytes()
    path.write_bytes(whole[: 1029 + place] + data)
    with pytest.raises(UserError, match=r"a\.sph"):
        read_sphere(path)


def test_an_empty_recording_is_refused_as_such(tmp_path):
    for coding in CODINGS:
        path = write_sphere(tmp_path / "a.sph", numpy.zeros((0, 1), numpy.int16), 8000, coding)
        assert read_sphere(path)[0].shape == (0, 1)
        with pytest.raises(UserError, match="holds no audio samples"):
            read_audio(path)


def test_the_readers_of_audio_take_sphere_by_its_first_bytes(tmp_path):
    samples = sound("tone", 8000, 2)
    for name, coding in (
        ("a.wv1", SHORTEN_PCM[0]),
        ("SA1.WAV", "pcm"),
        ("sw02001.sph", "ulaw"),
        ("b.flac", SHORTEN_PCM[2]),
    ):
        path = write_sphere(tmp_path / name, samples, 16000, coding)
        channels, rate = read_channels(path)
        assert rate == 16000 and channels.dtype == numpy.float32
        assert numpy.array_equal(channels, expected(samples, coding) / numpy.float32(32768))
        waveform, rate = read_audio(path, 8000)
        assert rate == 8000 and waveform.shape == (4000,)
        assert (
            audio_duration(path) == 0.5 and read_header(path).samples == 8000 and read_header(path).sample_rate == 16000
        )


def test_a_recording_that_is_too_long_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = write_sphere(tmp_path / "a.sph", sound("tone", 16000, 1), 8000, SHORTEN_ULAW[2])
    monkeypatch.setattr("asr.audio.sphere.decode_ulaw", None)
    with pytest.raises(TooLong, match="longer than 1 s: 2 s") as caught:
        read_audio(path, longest_seconds=1.0)
    assert caught.value.seconds == 2


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    with pytest.raises(UserError, match="There is no audio file"):
        read_sphere(tmp_path / "none.sph")
    with pytest.raises(UserError, match="cannot be opened"):
        read_sphere(tmp_path)
    (tmp_path / "a.sph").write_bytes(b"NIST_1A\n")
    with pytest.raises(UserError, match="a.sph has no size in the second line"):
        read_sphere(tmp_path / "a.sph")


@pytest.mark.run
def test_a_header_is_read_without_numpy_or_ffmpeg(tmp_path):
    import subprocess

    path = write_sphere(tmp_path / "a.sph", sound("tone", 300, 1), 8000, SHORTEN_PCM[1])
    program = (
        "import sys\nfrom asr.audio.sphere import read_sphere_header\n"
        f"assert read_sphere_header({str(path)!r}).samples == 300\n"
        "assert not {'numpy', 'av', 'torch', 'soundfile'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_header_helper_writes_typed_fields():
    text = sphere_header({"a": 1, "b": "xyz", "c": 0.5, "d": None}).decode()
    assert len(text) == 1024 and text.startswith("NIST_1A\n   1024\na -i 1\nb -s3 xyz\nc -r 0.5\nend_head\n")
    assert re.fullmatch(r" *", text.partition("end_head\n")[2])

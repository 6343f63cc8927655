"""Which recordings are meant, in which order, and where their transcripts go."""

import contextlib
import dataclasses
import io
import os
from pathlib import Path

import numpy
import pytest
import soundfile

from asr.errors import UserError
from asr.inference.transcription.files import Request, transcribe_files
from asr.inference.transcription.inputs import file_names, find_sources, recording_names
from tests.support.tones import RATE, tones
from tests.support.transcribing import record, record_with_ffmpeg, transcribed


def test_folders_globs_and_files_are_taken_in_order_and_each_once(place):
    for name in ("b/2.wav", "b/1.MP3", "b/notes.txt", "b/c/3.flac", "a.xyz"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")
    sources, problems = find_sources(["a.xyz", "b", "b/*.wav", "**/*.flac", "-"])
    assert [source.name for source in sources] == ["a.xyz", "b/1.MP3", "b/2.wav", "b/c/3.flac", "-"]
    assert problems == []


def test_a_folder_without_audio_and_a_glob_that_finds_nothing_are_named(place):
    Path("empty").mkdir()
    Path("empty/notes.txt").write_text("no audio")
    sources, problems = find_sources(["empty", "*.wav"])
    assert sources == []
    assert problems == [
        "empty is a folder without audio files: name one that has files such as .wav or .flac.",
        "No file matches *.wav: check the pattern.",
    ]  # fmt: skip


def test_a_file_whose_name_looks_like_a_glob_is_a_file(place):
    Path("x[1].wav").write_bytes(b"x")
    sources, problems = find_sources(["x[1].wav"])
    assert [source.name for source in sources] == ["x[1].wav"] and not problems


def test_two_files_of_one_stem_keep_their_whole_names(place, model, capsys):
    for name in ("x.wav", "x.flac", "y.wav"):
        record(name, "abba")
    transcribed(capsys, model, ".", format="srt", output="out")
    assert sorted(os.listdir("out")) == ["x.flac.srt", "x.wav.srt", "y.srt"]


def written_below(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def test_folders_below_what_was_named_are_kept_below_the_output(place, model, capsys):
    record("disc1/x.wav", "abba")
    record("disc2/x.wav", "cafe")
    record("disc2/more/x.wav", "head")
    for _ in range(2):  # a second run writes over the first
        assert transcribed(capsys, model, "disc1/", "disc2/", format="srt", output="out")[2] == 0
    assert written_below("out") == ["disc1/x.srt", "disc2/more/x.srt", "disc2/x.srt"]
    assert "cafe" in Path("out/disc2/x.srt").read_text()
    transcribed(capsys, model, "disc1", "disc2", format="ctm", output="ctm")
    names = [Path("ctm", path).read_text().split()[0] for path in written_below("ctm")]
    assert names == ["disc1/x", "disc2/more/x", "disc2/x"]


PLACES = ("a/x.wav", "a/x.mp3", "b/x.wav", "b/c/y.wav", "d/b/x.wav")


@pytest.mark.parametrize(("arguments", "written"), [
    (["a/x.wav"], ["x"]), (["{}/b/c/y.wav"], ["y"]), (["b/c/../x.wav"], ["x"]), (["-"], ["standard_input"]),
    (["a/x.wav", "a/x.mp3"], ["x.wav", "x.mp3"]), (["a/x.wav", "b/x.wav", "-"], ["a/x", "b/x", "standard_input"]),
    (["b"], ["c/y", "x"]), (["b", "b/c"], ["c/y", "x"]), (["b/c", "b"], ["c/y", "x"]), (["b/c"], ["y"]),
    (["b", "./b/", "d/../b", "{}/b"], ["c/y", "x"]), (["b/*.wav"], ["x"]), (["b/**/*.wav"], ["c/y", "x"]),
    (["*/*.wav"], ["a/x", "b/x"]), (["**/x.wav"], ["a/x", "b/x", "d/b/x"]), (["a", "{}/b/c"], ["a/x.mp3", "a/x.wav", "b/c/y"]),
    (["b", "d/b"], ["b/c/y", "b/x", "d/b/x"]), (["./a/x.wav", "b/../a/x.wav"], ["x"]), (["*/../a/x.mp3"], ["a/x"]),
    (["link"], ["c/y", "x"]), (["a/x.wav", "link"], ["a/x", "link/c/y", "link/x"]), (["b/x.wav", "link/x.wav"], ["x"]),
    (["far/../x.wav", "b/x.wav"], ["d/x", "b/x"]),
    (["a/x.mp3", "b/c/y.wav"], ["x", "y"]), (["a/x.mp3", "b/x.wav"], ["x.mp3", "x.wav"]),
], ids=str)  # fmt: skip
def test_transcripts_lie_as_the_recordings_do_whatever_they_were_named_by(place, arguments, written):
    far = "far/../x.wav" in arguments
    for name in (*PLACES, "d/x.wav")[: None if far else -1]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(name.encode())
    Path("link").symlink_to("b")
    if far:
        Path("far").symlink_to("d/b")  # behind it, `..` is d
    sources, problems = find_sources([argument.format(place) for argument in arguments])
    assert not problems and [name for name in file_names(sources, "").values()] == written


def test_a_file_where_a_folder_of_the_output_would_be_is_told_before_anything_is_recognized(place, model, capsys):
    record("a/x.wav", "abba")
    record("b/x.wav", "cafe")
    Path("out").mkdir()
    Path("out/b").write_text("mine")
    with pytest.raises(UserError, match="output=out: the folder cannot be made: out/b is not a folder"):
        transcribed(capsys, model, "a", "b", output="out")
    assert written_below("out") == ["b"]


def test_a_transcript_never_takes_the_place_of_a_folder_of_transcripts(place):
    for name in ("a.wav", "a.srt/x.wav", "b.wav.srt/x.wav", "b.srt/x.wav", "b.wav"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")
    sources, _ = find_sources(["a.wav", "a.srt"])
    assert list(file_names(sources, ".srt").values()) == ["a.wav.srt", "a.srt/x.srt"]
    sources, _ = find_sources(["b.wav", "b.srt", "b.wav.srt"])
    with pytest.raises(UserError, match="b.wav would be written to the folder b.wav.srt below output="):
        file_names(sources, ".srt")


def test_two_files_of_one_name_are_both_printed_as_nothing_is_written(place, model, capsys):
    record("a/x.wav", "abba")
    record("b/x.wav", "cafe")
    output, _, failed = transcribed(capsys, model, "a", "b")
    assert (output, failed) == ("a/x.wav\tabba\nb/x.wav\tcafe\n", 0)


def names_in_ctm(*names):
    sources, _ = find_sources(names)
    return list(recording_names(sources).values())


@pytest.mark.parametrize(("files", "names"), [
    (["a/x.wav", "b/y.wav"], ["x", "y"]), (["a/x.wav", "a/x.flac"], ["x.wav", "x.flac"]),
    (["a/x.wav", "b/x.wav", "y.wav"], ["a/x", "b/x", "y"]), (["a/x.wav", "b/x.flac"], ["x.wav", "x.flac"]),
    (["a/x.wav", "a/x.flac", "b/x.wav"], ["a/x", "x.flac", "b/x"]), (["x.wav", "a/x.wav"], ["x.wav", "a/x"]),
    (["1/a/x.wav", "2/a/x.wav"], ["1/a/x", "2/a/x"]), (["/1/x.wav", "1/x.wav"], ["/1/x", "1/x.wav"]),
    (["my talk.wav", "my_talk.wav"], None), (["a/my talk.wav", "b/my_talk.wav"], ["a/my_talk", "b/my_talk"]),
    (["X.wav", "x.wav"], None), (["X.wav", "x.flac"], ["X.wav", "x.flac"]),
    (["-", "standard_input.wav"], ["standard_input", "standard_input.wav"]), (["./x.wav", "x.wav"], ["x"]),
    (["-", "./-"], ["standard_input", "-"]), (["x", "x.wav", "a/x"], ["x", "x.wav", "a/x"]),
], ids=str)  # fmt: skip
def test_recordings_in_one_ctm_have_names_that_differ_and_are_as_short_as_they_can_be(files, names):
    if names is None:
        with pytest.raises(UserError, match="would both be called .* in one CTM: add output=FOLDER"):
            names_in_ctm(*files)
    else:
        assert names_in_ctm(*files) == names


def test_recordings_of_one_stem_are_apart_in_a_ctm_printed_or_written(place, model, capsys):
    for name, text in (("a/x.wav", "abba"), ("a/x.flac", "cafe"), ("y.wav", "head")):
        record(name, text)
    output, _, _ = transcribed(capsys, model, "a/x.wav", "a/x.flac", "y.wav", format="ctm")
    assert [(line.split()[0], line.split()[4]) for line in output.splitlines()] == [
        ("x.wav", "abba"), ("x.flac", "cafe"), ("y", "head"),
    ]  # fmt: skip
    transcribed(capsys, model, "a/x.wav", "a/x.flac", "y.wav", format="ctm", output="out")
    written = {path.name: path.read_text().split()[0] for path in Path("out").iterdir()}
    assert written == {"x.wav.ctm": "x.wav", "x.flac.ctm": "x.flac", "y.ctm": "y"}


def test_nothing_is_printed_in_a_ctm_for_a_recording_in_which_nothing_is_said(place, model, capsys):
    record("1.wav", "abba")
    soundfile.write("2.wav", numpy.zeros(RATE), RATE)
    record("3.wav", "cafe")
    output, _, failed = transcribed(capsys, model, ".", format="ctm")
    assert [line.split()[4] for line in output.split("\n")[:-1]] == ["abba", "cafe"] and failed == 0


@pytest.mark.parametrize("suffix", ["wav", "sph", "m4a"])
@pytest.mark.parametrize("format", ["text", "json", "ctm"])
def test_a_file_whose_name_is_not_utf8_is_read_and_its_name_written_with_its_bytes_in_hexadecimal(
    place, model, format, suffix
):
    name = os.fsdecode(b"b\xe4d." + suffix.encode())
    if suffix == "wav":
        record("x.wav", "abba cafe")
    elif suffix == "sph":
        soundfile.write("x.sph", tones("abba cafe", around=0.2), RATE, format="NIST", subtype="PCM_16")
    else:
        record_with_ffmpeg("x.m4a", tones("abba cafe", around=0.2))
    os.rename(f"x.{suffix}", name)
    record("good.wav", "head")
    # standard output as it is in most places: UTF-8, and nothing else
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf8", errors="strict")
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        request = Request([name, "good.wav", os.fsdecode(b"g\xf6ne.wav")], str(model), device="cpu", format=format)
        assert transcribe_files(request) == 1
        transcribe_files(dataclasses.replace(request, output="out"))
    said_of = output.buffer.getvalue().decode("utf8")
    assert f"b\\xe4d.{suffix}" in said_of.replace("\\\\", "\\") or "b\\xe4d 1 0." in said_of
    assert "There is no audio file g\\xf6ne.wav" in said_of
    assert "abba" in said_of and "cafe" in said_of and "head" in said_of
    ending = {"text": "txt"}.get(format, format)
    assert sorted(os.listdir(b"out")) == [
        f"b\udce4d.{ending}".encode("utf8", "surrogateescape"),
        f"good.{ending}".encode(),
    ]
    assert "abba" in Path("out", os.fsdecode(f"b\udce4d.{ending}")).read_text(encoding="utf8")


def test_a_name_that_a_whole_name_runs_into_is_told_apart_too(place):
    sources, _ = find_sources(["x.wav", "x.mp3"])
    assert set(file_names(sources, ".txt").values()) == {"x.wav.txt", "x.mp3.txt"}
    sources, _ = find_sources(["x.wav", "x.mp3", "x.wav.ogg"])
    assert list(file_names(sources, ".txt").values()) == ["x.wav.txt", "x.mp3.txt", "x.wav.ogg.txt"]
    sources, _ = find_sources(["-", "standard_input"])
    with pytest.raises(UserError, match="- and standard_input would both be written to standard_input.txt"):
        file_names(sources, ".txt")

"""Audio of any kind and length → transcripts. The machine that listens is written by hand (tests/support/tones.py): letters
are tones."""

import contextlib
import dataclasses
import io
import json
import os
import re
import runpy
import sys
import threading
from pathlib import Path

import numpy
import pytest
import soundfile
import torch

from asr.audio.reading import read_audio, resample
from asr.audio.resampling import resampler
from asr.audio.streaming import stream_audio
from asr.errors import UserError
from asr.inference.alignment import Timed
from asr.inference.transcription import Transcript
from asr.inference.transcription.files import Request, transcribe_files
from asr.inference.transcription.formats import FORMATS, clock
from asr.inference.transcription.inputs import file_names, find_sources, recording_names
from asr.inference.transcription.joining import Joiner, choose_cut
from asr.inference.transcription.segments import Segmenter, choose_pause
from asr.inference.transcription.subtitles import LINE, LONGEST, subtitles
from asr.inference.transcription.windows import Grid, emissions_of, windows
from tests.support import programs
from tests.support.tones import LETTERS, RATE, built, tone_model, tones

ROOT = Path(__file__).resolve().parents[3]
TEXT = "abba cafe. head bag. fade. beach ace deaf gag. hag"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tone_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(path, text, rate=RATE, **options):
    """A file in which this text is heard."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tones(text, rate=rate, around=0.2), rate, **options)
    return path


def said(text):
    return text.replace(".", "")


def transcribed(capsys, model, *files, **settings):
    """(what was printed, what was complained about, how many failed)."""
    if "window_seconds" in settings and "one_pass" not in settings:
        settings = {"whole_seconds": 1.0, **settings}
    failed = transcribe_files(Request([str(file) for file in files], str(model), device="cpu", **settings))
    output = capsys.readouterr()
    return output.out, output.err, failed


# windows: the emissions of parts are those of the whole


def emissions_of_windows(model, waveform, length, overlap, block=4000):
    """The joined emissions of a waveform that comes in blocks, and how many windows there were."""
    blocks = (waveform[start : start + block] for start in range(0, len(waveform), block))
    joiner, parts, count = Joiner(overlap), [], 0
    with torch.inference_mode():
        for window in windows(blocks, Grid.of(model), length, overlap):
            emissions, _ = model(torch.from_numpy(window.samples)[None], torch.tensor([len(window.samples)]))
            parts.append(joiner.add(emissions[0], window.last))
            count += 1
    return torch.cat(parts), count


@pytest.mark.parametrize("subsampling, output_subsampling", [(1, 1), (2, 1), (3, 1), (4, 1), (1, 3), (2, 2)])
@pytest.mark.parametrize(("length", "overlap"), [(50, 0), (50, 10), (40, 20), (10_000, 100)])
def test_windowed_emissions_are_those_of_one_pass_where_the_model_hears_locally(
    subsampling, output_subsampling, length, overlap, monkeypatch
):
    # the positions of the encoder tell the windows apart, however weakly
    monkeypatch.setattr(
        "asr.model.encoders.transformer.sinusoidal_positions", lambda time, dim, like: torch.zeros(time, dim)
    )
    model = built(subsampling, "full", 2 + len(LETTERS), output_subsampling)
    waveform = tones(TEXT, around=0.123)
    with torch.inference_mode():
        whole, _ = model(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
    joined, count = emissions_of_windows(model, waveform, length, overlap)
    assert joined.shape == whole[0].shape
    assert float((joined - whole[0]).abs().max()) < 1e-3
    assert (count == 1) == (length > len(whole[0]))


@pytest.mark.parametrize("samples", [400, 401, 879, 880, 1200, 1360, 1361, 5000, 16000, 16001, 16399, 16400, 16401])
def test_every_number_of_samples_gives_as_many_emissions_in_windows_as_at_once(samples):
    model = built(3, "full", 2 + len(LETTERS))
    waveform = numpy.random.default_rng(0).normal(0, 0.1, samples).astype(numpy.float32)
    _, expected = model(torch.from_numpy(waveform)[None], torch.tensor([samples]))
    joined, _ = emissions_of_windows(model, waveform, 12, 4, block=777)
    assert len(joined) == int(expected) == emissions_of(samples, Grid.of(model))


def test_a_window_behind_the_first_has_more_than_the_overlap():
    grid = Grid.of(built(3, "full", 10))
    for samples in range(16000, 17000, 37):
        found = list(windows([numpy.zeros(samples, numpy.float32)], grid, 12, 4))
        assert [window.last for window in found] == [False] * (len(found) - 1) + [True]
        assert all(emissions_of(len(window.samples), grid) > 4 for window in found)
        assert found[-1].total == samples and [window.first for window in found] == [8 * n for n in range(len(found))]


def test_windows_hold_no_more_of_the_audio_than_they_need():
    grid = Grid.of(built(2, "full", 10))
    given = []

    def blocks():
        for number in range(1000):
            given.append(number)
            yield numpy.zeros(1600, numpy.float32)

    for number, _ in enumerate(windows(blocks(), grid, 50, 10)):
        # a window reaches 50 emissions of 320 samples; windows begin every 40
        assert len(given) * 1600 <= (40 * number + 51) * 320 + 400 + 1600
        if number == 20:
            break


def test_what_is_shorter_than_a_frame_is_refused():
    with pytest.raises(UserError, match=r"shorter than one frame: 0\.0249 s"):
        list(windows([numpy.zeros(399, numpy.float32)], Grid.of(built(2, "full", 10)), 50, 10))


def path_of(path, units=4, sure=0.97):
    rows = torch.full((len(path), units), (1 - sure) / (units - 1))
    rows[torch.arange(len(path)), torch.tensor(path)] = sure
    return rows.log()


def test_windows_are_joined_in_the_pause_of_the_overlap():
    path = [1, 2, 3, 1, 2, 0, 0, 0, 0, 1, 2, 3, 1, 2, 3, 1]
    assert choose_cut(path_of(path), path_of(path)) in range(5, 9)
    assert choose_cut(path_of([0] * 16), path_of([0] * 16)) == 8


def test_windows_are_not_joined_near_their_ends_where_they_hear_one_side_only():
    path = [0, 0, 0] + [1, 2] * 5 + [0, 0, 0]
    assert 4 <= choose_cut(path_of(path), path_of(path)) <= 12


def test_each_window_speaks_for_the_side_of_the_cut_that_it_hears_better():
    """The left window is wrong at its end, the right one at its beginning; the joined one is right."""
    true = [1, 2, 0, 3, 0, 0, 0, 0, 0, 2, 0, 1]
    left = path_of(true[:8] + [3, 3])
    right = path_of([3, 3] + true[4:])
    joiner = Joiner(8)
    joined = torch.cat([joiner.add(left, False), joiner.add(right, True)])
    assert joined.argmax(dim=1).tolist() == true


def test_segments_end_within_the_longest_pause_and_are_never_longer_than_they_may_be():
    path = [1] * 12 + [0] + [2] * 5 + [0] * 5 + [3] * 9 + [0, 0] + [1] * 3
    assert choose_pause(path_of(path[:30]), 10) == 20
    segmenter, found = Segmenter(30), []
    for start in range(0, len(path), 7):
        found += segmenter.add(path_of(path[start : start + 7]), start + 7 >= len(path))
    assert [(first, len(segment)) for first, segment in found] == [(0, 20), (20, 17)]
    assert torch.cat([segment for _, segment in found]).argmax(dim=1).tolist() == path


def test_speech_without_a_pause_is_cut_where_a_blank_is_most_probable():
    emissions = path_of([1, 2] * 20)
    emissions[25, 0] = -0.9
    assert choose_pause(emissions[:30], 10) == 25


def test_units_are_the_same_whether_decoded_in_segments_or_at_once():
    from asr.inference.decoders.greedy import Greedy

    torch.manual_seed(0)
    emissions = torch.randn(2000, 4)
    emissions[:, 0] += 1.0
    emissions = emissions.log_softmax(-1)
    segmenter, ids = Segmenter(60), []
    for start in range(0, 2000, 97):
        for _, segment in segmenter.add(emissions[start : start + 97], start + 97 >= 2000):
            ids += Greedy()(segment[None], torch.tensor([len(segment)]))[0][0].ids
    assert ids == Greedy()(emissions[None], torch.tensor([2000]))[0][0].ids


# transcripts of long recordings


@pytest.mark.parametrize("settings", [
    {}, {"window_seconds": 4.0, "overlap_seconds": 1.0}, {"window_seconds": 2.0, "overlap_seconds": 1.0},
    {"window_seconds": 3.0, "overlap_seconds": 0.5, "segment_seconds": 2.0, "batch_seconds": 3.0},
], ids=str)  # fmt: skip
def test_a_long_recording_reads_as_the_parts_that_it_is_made_of(place, model, capsys, settings):
    parts = [f"{word}." for word in TEXT.replace(".", "").split()] * 2
    record("long.wav", " ".join(parts))
    for number, part in enumerate(parts):
        record(f"parts/{number:02d}.wav", part)
    long, _, _ = transcribed(capsys, model, "long.wav", **settings)
    short, _, _ = transcribed(capsys, model, "parts", **settings)
    together = " ".join(line.split("\t")[1] for line in short.splitlines())
    assert long == f"long.wav\t{together}\n" and together == said(" ".join(parts))


def test_a_recording_as_long_as_an_utterance_is_recognized_at_once_though_longer_than_a_window(
    place, model, monkeypatch
):
    import asr.inference.transcription.transcriber as transcriber

    heard = []
    recognized = transcriber.recognized
    monkeypatch.setattr(
        transcriber, "recognized", lambda batch, model: heard.append(len(batch)) or recognized(batch, model)
    )
    seconds = len(tones(TEXT, around=0.2)) / RATE
    record("x.wav", TEXT)
    for whole_seconds in (seconds + 0.01, seconds - 0.01):
        transcribe_files(
            Request(["x.wav"], str(model), whole_seconds=whole_seconds, window_seconds=3.0, overlap_seconds=1.0)
        )
    assert heard[0] == 1 and heard[1] > 1


def test_times_in_windows_are_those_of_one_window(place, model, capsys):
    record("x.wav", TEXT)
    whole, windowed = (
        json.loads(transcribed(capsys, model, "x.wav", format="json", window_seconds=seconds, overlap_seconds=1.0)[0])
        for seconds in (100.0, 3.0)
    )
    assert [word["word"] for word in whole["words"]] == said(TEXT).split()
    for left, right in zip(whole["words"], windowed["words"]):
        assert left["word"] == right["word"]
        assert left["start"] == pytest.approx(right["start"], abs=0.021)
        assert 0.5 < left["confidence"] <= 1.0


def test_words_of_a_decoder_that_knows_words_are_written_with_their_times_across_windows(place, model, capsys):
    pytest.importorskip("flashlight.lib.text.decoder")
    words = sorted(set(said(TEXT).split()))
    Path("lexicon.txt").write_text("".join(f"{word} {' '.join(word)}\n" for word in words))
    record("x.wav", TEXT)
    settings = {"format": "json", "window_seconds": 3.0, "overlap_seconds": 1.0, "segment_seconds": 4.0}
    by_words = json.loads(
        transcribed(capsys, model, "x.wav", decoder={"name": "lexicon", "lexicon": "lexicon.txt"}, **settings)[0]
    )
    by_units = json.loads(transcribed(capsys, model, "x.wav", **settings)[0])
    assert by_words["text"] == by_units["text"] == said(TEXT)
    for left, right in zip(by_words["words"], by_units["words"]):
        assert left["start"] == pytest.approx(right["start"], abs=0.021)


def test_one_pass_needs_an_attention_of_linear_time(place, model, tmp_path, capsys):
    record("x.wav", TEXT)
    with pytest.raises(UserError, match="one_pass=true needs an attention of linear time.*i_clustered"):
        transcribed(capsys, model, "x.wav", one_pass=True)
    linear = tone_model(tmp_path / "linear", attention="uniform")
    output, complaints, _ = transcribed(capsys, linear, "x.wav", one_pass=True, window_seconds=2.0, overlap_seconds=0.5)
    assert output == f"x.wav\t{said(TEXT)}\n" and "too long" not in complaints


def test_what_does_not_fit_into_memory_in_one_pass_is_recognized_in_windows(place, tmp_path, capsys, monkeypatch):
    record("x.wav", TEXT)
    linear = tone_model(tmp_path / "linear", attention="uniform")
    monkeypatch.setattr("asr.inference.transcription.pieces.most_samples", lambda model, place: 2 * RATE)
    output, complaints, failed = transcribed(capsys, linear, "x.wav", one_pass=True)
    assert "x.wav is too long for one pass in the free memory: more than 2 s" in complaints
    assert (output, failed) == (f"x.wav\t{said(TEXT)}\n", 0)


def test_the_memory_of_one_pass_grows_with_the_model_and_is_at_least_the_audio_itself():
    from asr.inference.transcription.one_pass import bytes_per_sample

    few, many = built(3, "full", 10), built(1, "full", 10)
    assert 8 <= bytes_per_sample(few) < bytes_per_sample(many)


# reading


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


def record_with_ffmpeg(name, waveform):
    """An M4A file without loss."""
    import av

    with av.open(name, "w") as container:
        stream = container.add_stream("alac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((32767 * waveform).astype(numpy.int16)[None], format="s16p", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


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


# what a user names


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


def test_files_that_cannot_be_read_are_named_and_the_others_go_on(place, model, capsys):
    good = record("good.wav", "abba cafe")
    Path("empty.wav").write_bytes(b"")
    Path("text.mp3").write_text("no audio at all\n" * 99)
    Path("cut.wav").write_bytes(good.read_bytes()[:9000])
    Path("nothing").mkdir()
    Path("short.wav").write_bytes(b"")
    soundfile.write("short.wav", numpy.zeros(10), RATE)
    names = ["empty.wav", "good.wav", "text.mp3", "cut.wav", "nothing", "short.wav", "gone.wav", "good.wav"]
    output, complaints, failed = transcribed(capsys, model, *names)
    assert output == "good.wav\tabba cafe\n" and failed == 6
    for words in ("empty.wav is empty", "text.mp3 cannot be read", "cut.wav is cut short", "nothing is a folder without",
                  "short.wav is shorter than one frame: 0.0006 s.", "There is no audio file gone.wav"):  # fmt: skip
        assert words in complaints
    assert "1 recording, 1.7 s of audio in" in complaints and complaints.endswith("; 6 files failed, named above\n")


def test_where_nothing_can_be_used_the_failures_are_still_counted(place, model, capsys):
    assert transcribed(capsys, model, "gone.wav")[1].endswith("\n1 file failed, named above.\n")


def test_a_recording_in_which_nothing_is_recognized_is_named_and_is_no_failure(place, model, capsys):
    soundfile.write("silence.wav", numpy.zeros(RATE), RATE)
    record("good.wav", "abba")
    for output in (None, "out"):
        _, complaints, failed = transcribed(capsys, model, "silence.wav", "good.wav", output=output)
        assert failed == 0 and "failed" not in complaints
        assert complaints.count("Nothing was recognized in") == 1
        assert "Nothing was recognized in silence.wav." in complaints
    assert Path("out/silence.txt").read_text() == "\n"


def test_recordings_of_fewer_samples_a_second_than_the_model_hears_are_told_of_once_and_counted(place, model, capsys):
    for name, rate in (("a.wav", 8000), ("b.wav", RATE), ("c.wav", 8000), ("d.wav", 11025), ("e.wav", 48000)):
        record(name, "abba", rate=rate)
    output, complaints, failed = transcribed(capsys, model, "a.wav", "b.wav", "c.wav", "d.wav", "e.wav")
    assert failed == 0 and len(output.splitlines()) == 5
    assert complaints.splitlines()[:-1] == [
        "transcribe.py: a.wav has 8000 Hz, and the model was trained at 16000 Hz: it has nothing above 4000 Hz, so expect more "
        "errors.",
        "transcribe.py: 2 more files have fewer than 16000 Hz.",
    ]
    assert "Hz" not in transcribed(capsys, model, "b.wav", "e.wav")[1]
    assert "1 more file has fewer" in transcribed(capsys, model, "a.wav", "d.wav")[1]


@pytest.mark.parametrize(("files", "settings", "says"), [
    (["x.wav"], {"output": "x.wav"}, "output=x.wav: the folder cannot be made: x.wav is not a folder"),
    (["x.wav"], {"output": "x.wav/deep/er"}, "output=x.wav/deep/er: the folder cannot be made: x.wav is not a folder"),
    (["a/x.wav", "b/x.wav"], {"format": "srt"}, "format=srt holds one recording"),
    (["x.wav"], {"format": "doc"}, "format is text, json"),
    (["x.wav"], {"one_pass": True}, "one_pass=true needs an attention of linear time"),
    (["x.wav"], {"overlap_seconds": 9.0}, "between 0 and half a window"),
    ([], {}, "No audio file is named"),
    (["nothing"], {}, None),
], ids=str)  # fmt: skip
def test_what_is_wrong_with_a_request_is_found_before_the_decoder_is_loaded(
    place, model, capsys, monkeypatch, files, settings, says
):
    from asr.inference.decoders import decoders

    for name in ("x.wav", "a/x.wav", "b/x.wav"):
        record(name, "a")
    Path("nothing").mkdir()
    loaded = []
    greedy = decoders.get("greedy")
    bind = greedy.bind
    monkeypatch.setattr(greedy, "bind", lambda self, units: loaded.append(self) or bind(self, units))
    if says is None:
        assert transcribed(capsys, model, *files, **settings)[2] == 1
    else:
        with pytest.raises(UserError, match=re.escape(says)):
            transcribed(capsys, model, *files, **settings)
    assert not loaded and not Path("out").exists()
    transcribed(capsys, model, "x.wav")
    assert loaded


def test_what_is_damaged_far_in_leaves_no_transcript(place, model, capsys):
    record("x.flac", f"{TEXT} {TEXT}")
    Path("cut.flac").write_bytes(Path("x.flac").read_bytes()[:-20000])
    output, complaints, failed = transcribed(
        capsys, model, "cut.flac", "x.flac", output="out", window_seconds=2.0, overlap_seconds=0.5
    )
    assert failed == 1 and "cut.flac is" in complaints
    assert os.listdir("out") == ["x.txt"]


def test_longer_files_are_left_out_by_name_where_that_is_asked_for(place, model, capsys):
    record("long.wav", "abba. cafe")
    record("short.wav", "abba")
    output, complaints, failed = transcribed(capsys, model, "long.wav", "short.wav", longest_seconds=1.5)
    assert output == "short.wav\tabba\n" and failed == 1 and "long.wav is longer than 1.5 s" in complaints


def test_many_short_files_share_batches_and_keep_their_order(place, model, capsys):
    texts = ["a", "abba", "cafe", "head bag", "fade", "be", "deaf", "gag", "hag ace"]
    for number, text in enumerate(texts):
        record(f"{number}.wav", text)
    for batch_seconds in (1.0, 3.0, 100.0):
        output, _, _ = transcribed(capsys, model, ".", batch_seconds=batch_seconds)
        assert [line.split("\t")[1] for line in output.splitlines()] == texts


# standard input, in a process of its own


def through_a_pipe(place, model, content, *settings):
    """Ends of transcribe.py with this on standard input."""
    return programs.run("transcribe.py", f"checkpoint={model}", *settings, "-", cwd=place, input=content, text=False)


@pytest.mark.run
def test_a_recording_comes_through_a_pipe_and_the_command_line_passes_everything_on(place, model):
    file = io.BytesIO()
    soundfile.write(file, tones(TEXT, around=0.2), RATE, format="FLAC")
    ended = through_a_pipe(
        place,
        model,
        file.getvalue(),
        "format=json",
        "whole_seconds=2",
        "window_seconds=3",
        "overlap_seconds=1",
        "segment_seconds=4",
    )
    assert ended.returncode == 0, ended.stderr
    data = json.loads(ended.stdout)
    assert (data["file"], data["text"]) == ("-", said(TEXT)) and len(data["segments"]) > 1
    assert re.search(rb"1 recording, [\d.]+ s of audio in [\d.]+ s: real-time factor", ended.stderr)


@pytest.mark.parametrize(("content", "says"), [
    (b"", "standard input is empty"), (b"no audio" * 99, "standard input cannot be read as audio"),
    ("half a recording", "standard input is cut short"),
], ids=["nothing", "text", "half a recording"])  # fmt: skip
def test_a_pipe_that_ends_early_is_named(place, model, capsys, monkeypatch, content, says):
    if isinstance(content, str):
        file = io.BytesIO()
        soundfile.write(file, tones("abba cafe"), RATE, format="WAV")
        content = file.getvalue()[:9999]
    reading, writing = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(writing, content), os.close(writing)))
    writer.start()
    with open(reading, "rb") as pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
        output, complaints, failed = transcribed(capsys, model, "-")
    writer.join()
    assert (output, failed) == ("", 1) and says in complaints
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob("asr-standard-input-*"))


def run(arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "transcribe.py"), *map(str, arguments)])
    runpy.run_path(str(ROOT / "transcribe.py"), run_name="__main__")


def test_the_exit_code_tells_that_a_file_failed(place, model, monkeypatch, capsys):
    record("x=1.wav", "abba")
    run([f"checkpoint={model}", "x=1.wav"], monkeypatch)
    with pytest.raises(SystemExit) as ended:
        run([f"checkpoint={model}", "x=1.wav", "gone.wav"], monkeypatch)
    assert ended.value.code == 1
    assert capsys.readouterr().out == "x=1.wav\tabba\n" * 2


@pytest.mark.parametrize(("settings", "says"), [
    (["format=doc"], "format is text, json, srt, vtt or ctm, not 'doc'"),
    (["overlap_seconds=15"], "does not fit window_seconds=10"),
    (["window_seconds=0"], "window_seconds takes a number of 1 or more"),
    (["output=x.wav"], "output=x.wav: the folder cannot be made"),
    (["format=srt", "y.wav"], "format=srt holds one recording, and 2 are named: add output=FOLDER"),
], ids=str)  # fmt: skip
def test_settings_that_do_not_go_together_are_answered_by_a_sentence(place, model, monkeypatch, capsys, settings, says):
    record("x.wav", "abba")
    with pytest.raises(SystemExit) as ended:
        run([f"checkpoint={model}", "x.wav", *settings], monkeypatch)
    output = capsys.readouterr()
    assert ended.value.code == 2 and says in output.err and output.out == ""


# formats


def speech(*words, start=0.0, each=0.3, confidence=0.9):
    """Words one after another; a number is a pause of so many seconds."""
    items = []
    for word in words:
        if isinstance(word, str):
            items.append(Timed(word, round(start, 3), round(start + each, 3), confidence))
            start += each
        else:
            start += word
    return items


def test_text_is_a_line_a_segment():
    transcript = Transcript("x.wav", 9.0, "words", speech("a", "b", "c", "d"), [1, 3])
    assert FORMATS["text"](transcript) == "a\nb c\nd\n"


def test_json_holds_words_with_times_and_confidences():
    data = json.loads(FORMATS["json"](Transcript("x.wav", 2.0, "words", speech("hello", 0.5, "world"))))
    assert data["words"] == [
        {"word": "hello", "start": 0.0, "end": 0.3, "confidence": 0.9},
        {"word": "world", "start": 0.8, "end": 1.1, "confidence": 0.9},
    ]
    assert (data["file"], data["seconds"], data["text"], data["kind"]) == ("x.wav", 2.0, "hello world", "words")


def test_srt_is_numbered_and_vtt_has_a_header_and_escapes():
    transcript = Transcript("x.wav", 9.0, "words", speech("R&D", "<b>", 2.0, "end", start=3661.5))
    assert FORMATS["srt"](transcript) == (
        "1\n01:01:01,500 --> 01:01:02,500\nR&D <b>\n\n2\n01:01:04,100 --> 01:01:05,100\nend\n"
    )
    assert FORMATS["vtt"](transcript) == (
        "WEBVTT\n\n01:01:01.500 --> 01:01:02.500\nR&amp;D &lt;b&gt;\n\n01:01:04.100 --> 01:01:05.100\nend\n"
    )


def test_ctm_names_the_file_by_its_stem():
    assert (
        FORMATS["ctm"](Transcript("a/my talk.wav", 1.0, "words", speech("hi"))) == "my_talk 1 0.0000 0.3000 hi 0.9000\n"
    )


@pytest.mark.parametrize("format", FORMATS)
def test_a_recording_in_which_nothing_is_said_is_written_in_every_format(format):
    content = FORMATS[format](Transcript("x.wav", 1.0, "words", []))
    assert content in ("\n", "", "WEBVTT\n") or json.loads(content)["words"] == []


def test_clocks_round_to_milliseconds_and_carry():
    assert [clock(seconds, ".") for seconds in (0, 59.9996, 3599.9999)] == [
        "00:00:00.000",
        "00:01:00.000",
        "01:00:00.000",
    ]


def test_subtitles_end_at_pauses_and_hold_two_lines_of_what_fits():
    words = [f"word{number}" for number in range(60)]
    items = speech(*words[:5], 1.0, *words[5:])
    found = subtitles(items)
    assert " ".join(" ".join(one.lines) for one in found).split() == words
    assert found[0].lines == [" ".join(words[:5])]
    for one, following in zip(found, [*found[1:], None]):
        assert 1 <= len(one.lines) <= 2 and all(len(line) <= LINE for line in one.lines)
        assert 0 < one.end - one.start <= LONGEST
        assert following is None or one.end <= following.start


def test_a_long_phrase_is_split_where_the_longest_pause_is():
    words = ["communication"] * 4
    items = speech(*words, 0.3, *words, each=0.6)
    assert [len(" ".join(one.lines).split()) for one in subtitles(items)] == [4, 4]


def test_short_subtitles_stay_for_a_second_unless_the_next_one_comes():
    items = speech("yes", 0.6, "no", 3.0, "oh", each=0.2)
    assert [(one.start, round(one.end, 2)) for one in subtitles(items)] == [(0.0, 0.8), (0.8, 1.8), (4.0, 5.0)]


def test_a_word_longer_than_a_line_stands_by_itself():
    found = subtitles(speech("a", "x" * 60, "b"))
    assert "x" * 60 in [line for one in found for line in one.lines]
    assert " ".join(" ".join(one.lines) for one in found) == f"a {'x' * 60} b"


def test_one_channel_of_a_recording_is_heard_or_the_mean_of_all_which_is_said(tmp_path):
    time = numpy.arange(RATE) / RATE
    sides = numpy.stack([0.3 * numpy.sin(2 * numpy.pi * 300 * time), 0.2 * numpy.sin(2 * numpy.pi * 500 * time)], 1)
    path = tmp_path / "conversation.wav"
    soundfile.write(path, sides, RATE, subtype="FLOAT")
    told = []

    def heard(**options):
        return numpy.concatenate(list(stream_audio(path, RATE, mixed=told.append, **options)))

    for side in (0, 1):
        numpy.testing.assert_allclose(heard(channel=side + 1), sides[:, side], atol=1e-6)
    assert told == []
    numpy.testing.assert_allclose(heard(), sides.mean(1), atol=1e-6)
    assert told == [2]
    with pytest.raises(UserError, match="conversation.wav has 2 channels, but channel=3 was chosen"):
        heard(channel=3)


@pytest.mark.parametrize(("sides", "says"), [
    (lambda x, y: [x, -x], "is silent, .*channel=1 uses that one alone"),
    (lambda x, y: [0.5 * x, -0.48 * x], r"is 34 dB quieter than channel 1, .*channel=1 uses that one alone"),
    (lambda x, y: [-0.05 * x, 0.06 * x + 0.01 * y, 0 * x], r"is \d+ dB quieter than channel 2, .*channel=2 uses that one alone"),
    (lambda x, y: [x + 0.1, -x - 0.1], "is silent, "),
    (lambda x, y: [x, y], None), (lambda x, y: [x, 0 * x], None), (lambda x, y: [x, x], None),
    (lambda x, y: [0 * x, 0 * x], None), (lambda x, y: [0.05 * x + 0.6, 0.05 * x - 0.6], None), (lambda x, y: [x], None),
], ids=["opposite", "nearly opposite", "three", "opposite with an offset",
        "two speakers", "one side silent", "the same", "silence", "offsets alone", "mono"])  # fmt: skip
def test_channels_that_cancel_each_other_in_their_mean_are_named(place, model, capsys, sides, says):
    first, second = tones("abba cafe abba", around=0.2), tones("head bag. bag", around=0.2)
    length = min(len(first), len(second))
    soundfile.write("x.wav", numpy.stack(sides(first[:length], second[:length]), axis=1), RATE, subtype="FLOAT")
    _, complaints, failed = transcribed(capsys, model, "x.wav")
    assert failed == 0
    if says is None:
        assert "the mean of its channels" not in complaints
    else:
        assert re.search(f"x.wav: the mean of its channels {says}", complaints)
        assert "the mean of its channels" not in transcribed(capsys, model, "x.wav", channel=1)[1]


def test_the_sides_of_a_conversation_are_apart_in_the_ctm_and_scored_as_the_sides_of_an_stm(place, model, capsys):
    from asr.scoring.nist.ctm import read_ctm
    from asr.scoring.nist.rules import ScoringRules

    sides = [tones("abba cafe", around=0.2), tones("head", around=0.2)]
    stereo = numpy.zeros((len(sides[0]), 2))
    for channel, side in enumerate(sides):
        stereo[: len(side), channel] = side
    soundfile.write("call.wav", stereo, RATE)
    both = [transcribed(capsys, model, "call.wav", format="ctm", channel=channel)[0] for channel in (1, 2)]
    Path("call.ctm").write_text("".join(both))
    spoken = [(word.file, word.channel, word.text) for word in read_ctm("call.ctm")]
    assert spoken == [("call", "1", "abba"), ("call", "1", "cafe"), ("call", "2", "head")]
    assert transcribed(capsys, model, "call.wav", format="ctm")[0].split()[1] == "1"
    Path("reference.stm").write_text("call 1 ann 0.0 2.0 abba cafe\ncall 2 bob 0.0 2.0 head\n")
    scored = ScoringRules.read("reference.stm").score_ctm("call.ctm")
    assert [one.alignment.errors for one in scored.utterances] == [0, 0] and not scored.outside
    Path("letters.stm").write_text(Path("reference.stm").read_text().replace("call 2", "call B"))
    with pytest.raises(UserError, match="line 3: the reference has no segment of the channel call 2"):
        ScoringRules.read("letters.stm").score_ctm("call.ctm")


def test_every_setting_of_the_command_reaches_what_it_is_a_setting_of(monkeypatch):
    from omegaconf import OmegaConf

    from asr.config.settings import compose

    config = compose("transcribe", ["checkpoint=x"])
    wanted = {
        "device": "cpu", "format": "vtt", "output": "there", "channel": 2, "longest_seconds": 1.5, "whole_seconds": 2.5,
        "pause_seconds": 0.3, "skip_seconds": 0.7, "window_seconds": 3.5, "overlap_seconds": 0.5, "one_pass": True,
        "segment_seconds": 4.5, "batch_seconds": 5.5,
    }  # fmt: skip
    own = {key for key in config if key not in ("checkpoint", "files", "decoder", "attention", "hydra")}
    assert wanted.keys() == {key for key in own if key in Request.__dataclass_fields__}
    OmegaConf.set_struct(config, False)
    config.update(wanted)
    given = []
    monkeypatch.setattr("asr.inference.transcription.files.transcribe_files", given.append)
    monkeypatch.setattr("asr.cli.command.typed_in_group", lambda group: [])
    monkeypatch.setattr("asr.cli.command.typed_knobs", lambda config: {})
    runpy.run_path(str(Path(__file__).parents[3] / "transcribe.py"))["transcribe"].__wrapped__(config)
    assert {key: getattr(given[0], key) for key in wanted} == wanted

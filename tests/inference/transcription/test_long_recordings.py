"""Recordings of any length: windows, their joints, segments, and one pass."""

import json
from pathlib import Path

import numpy
import pytest
import torch

from asr.errors import UserError
from asr.inference.transcription.files import Request, transcribe_files
from asr.inference.transcription.joining import Joiner, choose_cut
from asr.inference.transcription.segments import Segmenter, choose_pause
from asr.inference.transcription.windows import Grid, emissions_of, windows
from tests.support.tones import LETTERS, RATE, built, tone_model, tones
from tests.support.transcribing import TEXT, record, said, transcribed


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

"""Which frames each unit has, what time that is, which word it belongs to, and how sure that is."""

import itertools
import json
import math
import re
import runpy
import sys
import warnings
from pathlib import Path

import numpy
import pytest
import soundfile
import torch

from asr.evaluation.times import errors, paired, scores
from asr.inference.alignment import Span, Timed
from asr.inference.alignment.ctm import ctm
from asr.inference.alignment.forced import align, fewest_frames
from asr.inference.alignment.hypothesis import read_hypothesis
from asr.inference.alignment.textgrid import textgrid
from asr.inference.alignment.timing import PAUSE, Timing, timed
from asr.inference.alignment.words import Spelling, gold_words, group, joint_confidence, reference, spelled
from asr.inference.decoders import Hypothesis, Word
from asr.model.topologies.ctc import Ctc
from asr.text.units import BLANK
from asr.text.units.characters import SPACE, Characters
from asr.text.units.phonemes import Phonemes
from tests.support.tones import GAP, LETTERS, RATE, built, tone_model, tones

ROOT = Path(__file__).resolve().parents[2]


def emissions_of(*rows):
    """(time, units) log-probabilities from rows of probabilities."""
    return torch.tensor(rows).log()


def peaked(path, units=4, sure=0.9):
    """Emissions in which a path of units is most probable."""
    rows = torch.full((len(path), units), (1 - sure) / (units - 1))
    rows[torch.arange(len(path)), torch.tensor(path)] = sure
    return rows.log()


def best_path(emissions, ids):
    """The most probable CTC path of ids by looking at every path there is."""
    time, units = emissions.shape
    best = (-math.inf, None)
    for path in itertools.product(range(units), repeat=time):
        collapsed = [unit for unit, _ in itertools.groupby(path)]
        if [unit for unit in collapsed if unit] == list(ids):
            best = max(best, (float(emissions[torch.arange(time), torch.tensor(path)].sum()), path))
    return best


@pytest.mark.parametrize("ids", [[1], [1, 1], [1, 2, 1], [2, 2, 1], [1, 2, 2]])
def test_the_path_is_the_most_probable_of_all_paths_repeats_too(ids):
    torch.manual_seed(sum(ids))
    for _ in range(5):
        emissions = torch.randn(6, 3).log_softmax(-1)
        spans = align(emissions, ids)
        score, path = best_path(emissions, ids)
        found = torch.zeros(6, dtype=torch.int64)
        for span in spans:
            found[span.start : span.end] = span.unit
        assert [span.unit for span in spans] == ids
        assert float(emissions[torch.arange(6), found].sum()) == pytest.approx(score, abs=1e-5)
        assert tuple(found.tolist()) == path


def test_equal_neighbours_are_kept_apart_by_a_blank():
    first, second = align(peaked([1, 1, 0, 1]), [1, 1])
    assert (first.start, first.end, second.start, second.end) == (0, 2, 3, 4)


def test_alignment_says_nothing_about_being_deprecated():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        align(peaked([1, 0, 2]), [1, 2])


def test_nothing_is_aligned_to_no_units_and_one_unit_fits_one_frame():
    assert align(peaked([0, 0]), []) == []
    assert [(span.start, span.end) for span in align(peaked([2]), [2])] == [(0, 1)]


@pytest.mark.parametrize(
    ("ids", "frames", "said"),
    [([1, 1], 2, "2 units need 3 emissions"), ([1, 2, 3], 2, "need 3"), ([0], 3, "not be the blank"), ([9], 3, "0..3")],
)
def test_what_cannot_be_aligned_is_refused(ids, frames, said):
    with pytest.raises(ValueError, match=said):
        align(peaked([0] * frames), ids)


def test_units_that_the_emissions_rule_out_have_no_confidence_and_emissions_that_are_no_numbers_are_refused():
    emissions = peaked([1, 1, 1])
    emissions[:, 2] = -math.inf
    assert [(span.unit, span.confidence) for span in align(emissions, [2])] == [(2, 0.0)]
    emissions[1, 1] = math.nan
    with pytest.raises(ValueError, match="not numbers"):
        align(emissions, [1])


def test_the_fewest_frames_count_a_blank_between_repeats():
    assert [fewest_frames(ids) for ids in ([], [1], [1, 2], [1, 1, 1])] == [0, 1, 2, 5]


def test_the_confidence_of_a_unit_is_its_largest_posterior_and_of_a_word_the_geometric_mean():
    emissions = emissions_of([0.1, 0.6, 0.3], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2], [0.3, 0.2, 0.5])
    spans = align(emissions, [1, 2])
    assert [span.confidence for span in spans] == pytest.approx([0.8, 0.5])
    assert joint_confidence([0.8, 0.5]) == pytest.approx(math.sqrt(0.4))
    assert joint_confidence([]) == 0.0 and joint_confidence([0.5, 0.0]) == 0.0


def test_confidences_lie_between_nothing_and_one():
    torch.manual_seed(3)
    for scale in (0.1, 1.0, 100.0):
        spans = align((scale * torch.randn(50, 5)).log_softmax(-1), [1, 2, 3, 4, 4, 1])
        assert all(0.0 <= span.confidence <= 1.0 for span in spans)


# times


def test_an_emission_stands_for_a_cell_around_the_middle_of_what_the_front_end_sees():
    # three frames of 25 ms, 10 ms apart, side by side: 0 to 45 ms, middle 22.5 ms, cell of 30 ms
    stacked = Timing.of(built(3, "full", 10))
    assert (stacked.shift, stacked.first) == (pytest.approx(0.03), pytest.approx(0.0075))
    single = Timing.of(built(1, "full", 10))
    assert (single.shift, single.first) == (pytest.approx(0.01), pytest.approx(0.0075))


def test_a_convolution_is_centred_on_its_first_frame():
    model = built(2, "full", 10)
    description = {**model.description, "encoder": {**model.description["encoder"], "front_end": "convolution"}}
    timing = Timing.of(type(model)(description))
    assert timing.first == pytest.approx(0.0125 - 0.01)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("front_end", ["stack", "convolution"])
def test_the_middle_of_the_front_end_is_the_middle_of_the_frames_that_change_its_output(front_end, factor):
    from asr.model.encoders.subsampling import create_front_end

    torch.manual_seed(0)
    module = create_front_end(front_end, 4, 8, factor)
    features = torch.randn(1, 48, 4, requires_grad=True)
    output, _ = module(features, torch.tensor([48]))
    output[0, 4].square().sum().backward()
    seen = features.grad[0].abs().sum(dim=1).nonzero()[:, 0]
    assert float(seen.min() + seen.max()) / 2 == pytest.approx(4 * factor + module.centre)


def test_a_unit_lasts_until_the_next_one_unless_a_pause_follows():
    timing = Timing(0.03, 0.0)
    spans = [Span(1, 0, 1, 1.0), Span(2, 3, 4, 1.0), Span(1, 30, 32, 1.0)]
    assert 29 * 0.03 > PAUSE > 2 * 0.03
    items = timed(spans, timing, [BLANK, "a", "b"], 10.0)
    assert [(item.text, round(item.start, 2), round(item.end, 2)) for item in items] == [
        ("a", 0.0, 0.09), ("b", 0.09, 0.12), ("a", 0.9, 0.96)
    ]  # fmt: skip


def test_no_time_lies_outside_of_the_recording():
    items = timed([Span(1, 0, 1, 1.0), Span(1, 9, 12, 1.0)], Timing(0.03, -0.01), [BLANK, "a"], 0.3)
    assert items[0].start == 0.0 and items[1].end == 0.3


@pytest.mark.parametrize("subsampling, output_subsampling", [(1, 1), (2, 1), (3, 1), (1, 3)])
def test_tones_are_found_where_they_sound(subsampling, output_subsampling):
    """Their starts within an emission and a window, whose ends hear both tone and silence; their middles without bias."""
    text, seconds = "abcdefgh", 0.1237  # beginning anywhere between two frames
    model, differences = built(subsampling, "full", 2 + len(LETTERS), output_subsampling), []
    timing, ids = Timing.of(model), [2 + LETTERS.index(letter) for letter in text]
    for around in (0.3, 0.31, 0.32):  # every place within 30 ms, so that rounding to emissions is no bias
        waveform = torch.from_numpy(tones(text, seconds, around=around))
        with torch.inference_mode():
            emissions, _ = model(waveform[None], torch.tensor([len(waveform)]))
        spans = align(emissions[0], ids)
        found = timed(spans, timing, [BLANK, SPACE, *LETTERS], len(waveform) / RATE)
        truth = [around + number * (seconds + GAP) for number in range(len(text))]
        assert all(abs(item.start - start) <= timing.shift + 0.025 for item, start in zip(found, truth))
        middles = [(timing.start(span.start) + timing.start(span.end)) / 2 for span in spans]
        differences += [middle - start - seconds / 2 for middle, start in zip(middles, truth)]
    assert abs(numpy.mean(differences)) <= 0.005


# words


def test_characters_spell_words_as_they_are_decoded():
    units = Characters([BLANK, SPACE, *"abc"])
    for text in ("ab c", "a", "", "a b c", "abc abc"):
        ids = [units.ids[sign] for sign in text.replace(" ", SPACE)]
        words = spelled(units, ids)
        assert [word.word for word in words] == units.decode(ids)
        assert ["".join(units.symbols[unit] for unit in ids[word.first : word.end]) for word in words] == text.split()


@pytest.mark.parametrize("ids", [[1, 2, 1, 1, 3, 1], [1, 1], [2, 3, 1]])
def test_spaces_at_the_ends_and_in_a_row_make_no_words(ids):
    units = Characters([BLANK, SPACE, *"abc"])
    words = spelled(units, ids)
    assert [word.word for word in words] == units.decode(ids)
    assert all(1 not in ids[word.first : word.end] for word in words)


def test_pieces_begin_words_where_they_say_so():
    from asr.text.units.bpe import Bpe

    class Sentence:
        def __init__(self, text):
            self.text, self.id = text, "x"

    units = Bpe.build([Sentence("the cat sat on the mat with that hat")] * 5, size=20)
    ids = units.encode(Sentence("the cat that sat"))
    words = spelled(units, ids)
    assert [word.word for word in words] == ["the", "cat", "that", "sat"] == units.decode(ids)
    pieces = ["".join(units.symbols[unit] for unit in ids[word.first : word.end]) for word in words]
    assert [piece.removeprefix("▁") for piece in pieces] == ["the", "cat", "that", "sat"]


def supervision(text, **alignment):
    from lhotse import SupervisionSegment
    from lhotse.supervision import AlignmentItem

    tiers = {tier: [AlignmentItem(*item) for item in items] for tier, items in alignment.items()}
    return SupervisionSegment("x", "x", 0.0, 2.0, text=text, language="en", alignment=tiers or None)


def test_the_words_of_phonemes_come_from_their_pronunciations():
    units = Phonemes.build([])
    ids, words = reference(units, supervision("the cat"))
    assert [units.symbols[unit] for unit in ids] == ["DH", "AH", "K", "AE", "T"]
    assert words == [Spelling("the", 0, 2), Spelling("cat", 2, 5)]


GOLD = {
    "phoneme": [("DH", 0.1, 0.1), ("IY", 0.2, 0.1), ("SIL", 0.3, 0.2), ("K", 0.5, 0.1), ("AE", 0.6, 0.1), ("T", 0.7, 0.1)],
    "word": [("the", 0.1, 0.2), ("cat", 0.5, 0.3)],
}  # fmt: skip


def test_gold_phonemes_are_grouped_by_the_gold_words_unless_pronunciations_are_asked_for():
    units = Phonemes.build([])
    ids, words = reference(units, supervision("the cat", **GOLD))
    assert [units.symbols[unit] for unit in ids] == ["DH", "IY", "K", "AE", "T"]
    assert words == [Spelling("the", 0, 2), Spelling("cat", 2, 5)]
    ids, words = reference(units, supervision("the cat", **GOLD), gold=False)
    assert units.symbols[ids[1]] == "AH" and [word.word for word in words] == ["the", "cat"]


def test_gold_tiers_that_do_not_fit_each_other_give_no_words():
    alignment = supervision("the cat", **{**GOLD, "word": GOLD["word"][:1]}).alignment
    assert gold_words(alignment, 5) is None
    assert gold_words({"phoneme": alignment["phoneme"]}, 5) is None


def test_a_word_lasts_from_its_first_unit_to_its_last():
    units = [Timed("a", 0.1, 0.2, 0.9), Timed("b", 0.2, 0.4, 0.4), Timed("c", 0.5, 0.6, 1.0)]
    (word,) = group([Spelling("ab", 0, 2)], units)
    assert (word.text, word.start, word.end) == ("ab", 0.1, 0.4)
    assert word.confidence == pytest.approx(0.6)


def test_words_of_a_decoder_take_the_units_in_their_frames_and_leave_silence_out():
    units = Characters([BLANK, SPACE, *"abc"])
    emissions = peaked([2, 0, 3, 0, 1, 0, 4, 4], units=5)
    hypothesis = Hypothesis([2, 3, 1, 4], 0.0, [0, 2, 4, 6], [Word("AB", 0, 3), Word("C", 6, 8)])
    spans, words = read_hypothesis(hypothesis, emissions, units, Ctc(len(units.symbols)), first=100)
    assert [(span.start, span.end) for span in spans] == [(100, 101), (102, 103), (104, 105), (106, 108)]
    assert words == [Spelling("AB", 0, 2), Spelling("C", 3, 4)]


def test_a_hypothesis_longer_than_its_emissions_keeps_the_decoders_frames():
    units = Characters([BLANK, SPACE, *"abc"])
    spans, _ = read_hypothesis(Hypothesis([2, 2], 0.0, [0, 1]), peaked([2, 2], units=5), units, Ctc(len(units.symbols)))
    assert [(span.start, span.end) for span in spans] == [(0, 1), (1, 2)]


# files


def read_textgrid(content):
    """Tiers of (xmin, xmax, text) as Praat reads them: by the order of numbers and strings."""
    tokens = re.findall(r'"((?:[^"]|"")*)"|(?<![\w.\[])(-?\d+(?:\.\d+)?)(?![\w\]])', content)
    values = [(text.replace('""', '"') if not number else float(number)) for text, number in tokens]
    assert values[:2] == ["ooTextFile", "TextGrid"]
    end, count, rest, tiers = values[3], int(values[4]), values[5:], {}
    for _ in range(count):
        kind, name, start, stop, size = rest[:5]
        assert (kind, start, stop) == ("IntervalTier", 0.0, end)
        items = rest[5 : 5 + 3 * int(size)]
        tiers[name] = list(zip(items[::3], items[1::3], items[2::3]))
        rest = rest[5 + 3 * int(size) :]
    assert not rest
    return end, tiers


HARD = [
    [],
    [Timed("a", 0.0, 1.0, 1.0)],
    [Timed('say "so"', 0.2, 0.4, 1.0), Timed("b", 0.4, 0.5, 1.0), Timed("c", 0.7, 0.9, 1.0)],
    [Timed("a", 0.1, 0.1, 1.0), Timed("b", 0.1, 0.1, 1.0), Timed("c", 0.05, 0.3, 1.0)],
    [Timed("a", 0.9, 1.0, 1.0), Timed("b", 1.0, 1.0, 1.0), Timed("c", 1.0, 1.0, 1.0)],
]


@pytest.mark.parametrize("items", HARD, ids=len)
def test_a_textgrid_covers_the_recording_without_gaps_or_empty_intervals(items):
    end, tiers = read_textgrid(textgrid({"words": items, "units": []}, 1.0))
    assert end == 1.0 and list(tiers) == ["words", "units"]
    for intervals in tiers.values():
        assert intervals[0][0] == 0.0 and intervals[-1][1] == end
        assert all(left[1] == right[0] for left, right in zip(intervals, intervals[1:]))
        assert all(stop > start for start, stop, _ in intervals)
    assert [text for _, _, text in tiers["words"] if text] == [item.text for item in items]


def test_a_ctm_holds_file_channel_start_duration_word_and_confidence(tmp_path):
    from asr.scoring.nist.ctm import read_ctm

    lines = ctm("my talk", [Timed("hello", 1.25, 1.5, 0.98765)])
    assert lines == "my_talk 1 1.2500 0.2500 hello 0.9877\n"
    (tmp_path / "x.ctm").write_text(lines)
    (word,) = read_ctm(tmp_path / "x.ctm")
    assert (word.file, word.text, word.more) == ("my_talk", "hello", ("0.9877",))


# scores


def test_errors_of_times_are_medians_means_biases_and_shares():
    row = errors([0.01, -0.03, 0.05, 0.1])
    assert (row["median"], row["mean"]) == (pytest.approx(0.04), pytest.approx(0.0475))
    assert (row["bias_mean"], row["bias_median"]) == (pytest.approx(0.0325), pytest.approx(0.03))
    assert [row[f"within_{most}_ms"] for most in (20, 40, 80)] == [0.25, 0.5, 0.75]
    assert errors([]) is None


def test_only_what_was_recognized_is_compared():
    gold = [Timed(text, number, number + 0.5, 1.0) for number, text in enumerate("abcd")]
    found = [Timed(text, number + 0.1, number + 0.5, 1.0) for number, text in ((0, "a"), (1, "x"), (3, "d"))]
    pairs = paired(found, gold)
    assert [(left.text, right.start) for left, right in pairs] == [("a", 0), ("d", 3)]
    scored = scores(pairs, len(gold))
    assert (scored["gold"], scored["paired"]) == (4, 2)
    assert scored["start"]["median"] == pytest.approx(0.1) and scored["end"]["median"] == pytest.approx(0.0)


# the program


def corpus_of_tones(folder):
    """Manifests of tones with gold times of words; returns what makes align.py take them."""
    from lhotse import CutSet, MonoCut, Recording
    from lhotse.supervision import AlignmentItem, SupervisionSegment

    texts = {"train": ["ab ba"], "dev": ["ba ab"], "test": ["abba cafe", "head", "xylo"]}
    settings = []
    for split, sentences in texts.items():
        cuts = []
        for number, text in enumerate(sentences):
            name, spoken = f"{split}-{number}", text if text != "xylo" else "a"
            waveform = tones(spoken, around=0.3)
            soundfile.write(folder / f"{name}.wav", waveform, RATE)
            words, at = [], 0.3
            for word in spoken.split():
                words.append(AlignmentItem(word, at, len(word) * (0.1 + GAP) - GAP))
                at += len(word) * (0.1 + GAP) + 0.2
            recording = Recording.from_file(folder / f"{name}.wav", recording_id=name)
            said = SupervisionSegment(
                name, name, 0.0, recording.duration, text=text, language="en", alignment={"word": words}
            )
            cuts.append(MonoCut(name, 0.0, recording.duration, 0, [said], recording=recording))
        CutSet.from_cuts(cuts).to_file(folder / f"{split}.jsonl")
        settings.append(f"corpus.{split}={folder / split}.jsonl")
    return ["corpus=cuts", *settings]


def run(program, arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(ROOT / program), *map(str, arguments)])
    runpy.run_path(str(ROOT / program), run_name="__main__")


def test_align_writes_ctm_textgrid_and_scores_and_names_what_it_cannot_align(tmp_path, monkeypatch, capsys):
    model = tone_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    arguments = [f"checkpoint={model}", *corpus_of_tones(tmp_path), "hypotheses=true", f"output={tmp_path / 'out'}"]
    run("scripts/align.py", arguments, monkeypatch)
    said = capsys.readouterr().out
    assert "reference words: 3 of 4 compared with gold times" in said and "2 utterances aligned, 1 not" in said
    times = json.loads((tmp_path / "out/times.json").read_text())
    assert times["reference"]["words"]["start"]["median"] < 0.03
    assert times["hypothesis"]["words"]["paired"] == 4
    assert times["confidence"]["kind"] == "acoustic" and times["confidence"]["words"] >= 4
    assert f"confidence (acoustic) of {times['confidence']['words']} hypothesis words" in said
    assert "'x'" in (tmp_path / "out/not_aligned.tsv").read_text()
    assert [line.split()[4] for line in (tmp_path / "out/reference.ctm").read_text().splitlines()] == [
        "abba", "cafe", "head"
    ]  # fmt: skip
    assert len((tmp_path / "out/hypothesis_units.ctm").read_text().splitlines()) == 9 + 4 + 1
    _, tiers = read_textgrid((tmp_path / "out/textgrid/test-0.TextGrid").read_text())
    assert list(tiers) == ["reference words", "reference units", "hypothesis words", "hypothesis units"]


def test_a_split_of_which_nothing_can_be_aligned_is_refused_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    model = tone_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    settings = corpus_of_tones(tmp_path)
    lines = (tmp_path / "test.jsonl").read_text().splitlines()
    (tmp_path / "test.jsonl").write_text(lines[2] + "\n")
    with pytest.raises(SystemExit) as ended:
        run("scripts/align.py", [f"checkpoint={model}", *settings, f"output={tmp_path / 'out'}"], monkeypatch)
    assert ended.value.code == 2 and not (tmp_path / "out").exists()
    assert "No utterance of the test split can be aligned" in capsys.readouterr().err

"""Confidences of words: posterior probabilities where a decoder finds words, and how well confidences are scored."""

import math
import random
import re
import subprocess

import numpy
import pytest
import torch

from asr.evaluation.confidences import confidence_scores, rated, show_confidence
from asr.inference.alignment import Timed
from asr.inference.alignment.ctm import ctm
from asr.inference.alignment.hypothesis import read_hypothesis
from asr.inference.alignment.words import group
from asr.inference.decoders import Hypothesis, Word, decoders, wfst
from asr.inference.decoders.confidence import Arc, lattice_confidences, nbest_confidences
from asr.inference.decoders.search import joined_hypothesis
from asr.model.topologies.ctc import Ctc
from asr.scoring.nist.sctk import find_sctk
from asr.text.units import BLANK
from asr.text.units.characters import Characters
from tests.support.tiny_language import every_sentence, phonemes, write_arpa

SPELT = {"ab": [(1, 2)], "ba": [(2, 1)], "b": [(2,)]}
WIDE = {
    "lexicon": {"beam_size": 20000, "beam_threshold": 1e4, "confidence_scale": 1.0},
    "wfst": {"beam": 200.0, "lattice_beam": 60.0, "confidence_scale": 1.0},
}
BOTH = pytest.mark.parametrize("name", ["lexicon", "wfst"])


def confident(name, tmp_path, units, **settings):
    settings = {"name": name, "out_of_vocabulary": "skip", **WIDE[name], **settings}
    if name == "wfst":
        settings["cache"] = str(tmp_path / "graphs")
    return decoders.create(settings).bind(units).with_confidences()


def best(decode, emissions):
    return decode(emissions[None], torch.tensor([len(emissions)]))[0][0]


def random_emissions(seed, *shape):
    return (2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).log_softmax(-1)


def peaked(path, units, peak=20.0):
    emissions = torch.zeros(len(path), units)
    emissions[torch.arange(len(path)), torch.tensor(path)] = peak
    return emissions.log_softmax(-1)


def edits(one, other, never=None):
    """The fewest edits between two sentences, the word `never` of the first one never matched."""
    row = list(range(len(other) + 1))
    for at, word in enumerate(one):
        new = [row[0] + 1]
        for place, each in enumerate(other):
            same = word == each and at != never
            new.append(min(new[-1] + 1, row[place + 1] + 1, row[place] + (not same)))
        row = new
    return row[-1]


def posterior_bounds(words, place, sentences):
    """The share of the probability of the sentences whose every, and whose some, alignment with the fewest edits has the word."""
    top = max(score for score, _ in sentences)
    total = sum(math.exp(score - top) for score, _ in sentences)
    every = some = 0.0
    for score, sentence in sentences:
        share, fewest = math.exp(score - top) / total, edits(words, sentence)
        every += share * (edits(words, sentence, never=place) > fewest)
        some += share * any(
            words[place] == sentence[at]
            and edits(words[:place], sentence[:at]) + edits(words[place + 1 :], sentence[at + 1 :]) == fewest
            for at in range(len(sentence))
        )
    return every, some


@BOTH
def test_a_confidence_is_the_share_of_all_sentences_that_have_the_word_there(name, tmp_path):
    # in longer sentences a lattice takes a word's place from the likest sentence that it is in, which is not always its own
    frames = 3 if name == "wfst" else 6
    lm, compared = write_arpa(tmp_path), 0
    decode = confident(name, tmp_path, phonemes(), lm=lm)
    for seed in range(12):
        emissions = random_emissions(seed, frames, 3)
        hypothesis = best(decode, emissions)
        sentences = every_sentence(emissions, SPELT, None, False, lm)
        for place, word in enumerate(hypothesis.words):
            least, most = posterior_bounds(hypothesis.transcript, place, sentences)
            assert least - 1e-3 <= word.confidence <= most + 1e-3
            compared += word.confidence < 0.95
    assert compared > 5


@BOTH
def test_homophones_share_their_probability(name, tmp_path):
    units = phonemes("ab A B\nabe A B\nb B\n")
    hypothesis = best(confident(name, tmp_path, units), peaked([1, 2], 3))
    assert [word.confidence for word in hypothesis.words] == pytest.approx([0.5], abs=0.01)


@BOTH
def test_a_word_that_nothing_competes_with_is_certain(name, tmp_path):
    hypothesis = best(confident(name, tmp_path, phonemes()), peaked([1, 0, 2, 0, 0, 2, 0, 1, 0], 3))
    assert hypothesis.transcript == ["ab", "ba"]
    assert all(word.confidence > 0.999 for word in hypothesis.words)


@BOTH
def test_where_no_word_is_found_there_is_no_confidence(name, tmp_path):
    decode = confident(name, tmp_path, phonemes())
    found = decode(torch.zeros(2, 5, 3).log_softmax(-1), torch.tensor([0, 1]))
    assert found[0][0].words == []
    assert best(decode, peaked([0, 0, 0, 0], 3)).words == []


@BOTH
def test_a_smaller_scale_is_less_sure(name, tmp_path):
    emissions = random_emissions(3, 6, 3)
    sure = best(confident(name, tmp_path, phonemes(), confidence_scale=2.0), emissions)
    unsure = best(confident(name, tmp_path, phonemes(), confidence_scale=0.1), emissions)
    assert sum(word.confidence for word in unsure.words) < sum(word.confidence for word in sure.words)


@BOTH
def test_confidences_are_told_only_when_asked_for_and_change_nothing_else(name, tmp_path):
    settings = {"name": name, "out_of_vocabulary": "skip", "lm": write_arpa(tmp_path), **WIDE[name]}
    if name == "wfst":
        settings["cache"] = str(tmp_path / "graphs")
    decode = decoders.create(settings).bind(phonemes())
    emissions, lengths = random_emissions(0, 2, 6, 3), torch.tensor([6, 5])
    plain, asked = decode(emissions, lengths), decode.with_confidences()(emissions, lengths)
    assert all(word.confidence is None for row in plain for each in row for word in each.words)
    assert all(word.confidence is not None for row in asked for word in row[0].words)
    assert [[(h.transcript, h.score, h.frames) for h in row] for row in asked] == [
        [(h.transcript, h.score, h.frames) for h in row] for row in plain
    ]


def noisy(text, units, noise, generator):
    """float32 (time, units): highest along a random path of the characters, more or less, as in scripts/benchmark_decoding.py."""
    path = [0]
    for sign in text:
        path += [units.symbols.index(sign)] * int(generator.integers(1, 3)) + [0] * int(generator.integers(1, 3))
    scores = generator.normal(0.0, noise, (len(path), len(units.symbols)))
    scores[numpy.arange(len(path)), path] += 4.0
    return torch.tensor(scores, dtype=torch.float32).log_softmax(-1)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """(units, the ARPA file of a vocabulary of short words that are much alike, noisy emissions and their sentences)."""
    generator = numpy.random.default_rng(0)
    units = Characters([BLANK, "▁", *"abcd"])
    words = sorted({"".join(generator.choice(list("abcd"), size=generator.integers(2, 5))) for _ in range(80)})
    lines = [f"{math.log10(0.9 / len(words)):.4f}\t{word}" for word in words]
    header = f"\\data\\\nngram 1={len(words) + 3}\n\n\\1-grams:\n-99\t<s>\n-1\t</s>\n-3\t<unk>\n"
    arpa = write_arpa(tmp_path_factory.mktemp("made_up"), header + "\n".join(lines) + "\n\n\\end\\\n")
    sentences = [list(generator.choice(words, size=6)) for _ in range(40)]
    heard = [(noisy("▁".join(each), units, 1.7, generator), each) for each in sentences]
    return units, arpa, heard


@pytest.mark.run
@BOTH
def test_wrong_words_have_lower_confidences_than_right_ones(name, made_up, tmp_path):
    units, arpa, heard = made_up
    decode = decoders.create({"name": name, "lm": arpa, **({"cache": str(tmp_path)} if name == "wfst" else {})}).bind(
        units
    )
    words = []
    for emissions, reference in heard:
        hypothesis = best(decode.with_confidences(), emissions)
        assert all(0.0 <= word.confidence <= 1.0 for word in hypothesis.words)
        words += rated([Timed(word.word, 0.0, 0.0, word.confidence) for word in hypothesis.words], reference)
    scored = confidence_scores(words)
    assert 20 < scored["wrong"] < scored["words"] / 2
    assert scored["area_under_curve"] > 0.7
    if name == "wfst":
        assert scored["normalized_cross_entropy"] > 0.1


def test_a_lattice_that_would_grow_without_bounds_is_searched_less_widely(made_up, tmp_path, monkeypatch):
    units, arpa, heard = made_up
    decode = decoders.create({"name": "wfst", "lm": arpa, "cache": str(tmp_path)}).bind(units).with_confidences()
    flat = torch.zeros(60, len(units.symbols)).log_softmax(-1)
    assert all(0.0 <= word.confidence <= 1.0 for word in best(decode, flat).words)
    monkeypatch.setattr(wfst, "MOST_STATES", 5)
    monkeypatch.setattr(wfst, "MOST_SENTENCE_STATES", -10)
    emissions, _ = heard[0]
    found = best(decode, emissions)
    assert found.words and all(0.0 <= word.confidence <= 1.0 for word in found.words)


def test_a_lattice_and_the_list_of_its_sentences_say_the_same():
    # a (b | c) d?
    arcs = [Arc(0, 1, "a", -1.0), Arc(1, 2, "b", -0.5), Arc(1, 2, "c", -1.5), Arc(2, 3, "d", -2.0)]
    finals = {2: 0.0, 3: -0.3}
    sentences = [["a", "b"], ["a", "c"], ["a", "b", "d"], ["a", "c", "d"]]
    scores = [-1.5, -2.5, -3.8, -4.8]
    for scale in (0.3, 1.0):
        for number in range(4):
            order = [number, *(other for other in range(4) if other != number)]
            listed = nbest_confidences([sentences[at] for at in order], [scores[at] for at in order], scale)
            by_lattice = lattice_confidences(sentences[number], scores[number], arcs, finals, 0, scale)
            assert by_lattice == pytest.approx(listed)


def test_a_sentence_that_a_lattice_lacks_counts_beside_it():
    arcs, finals = [Arc(0, 1, "a", math.log(0.25)), Arc(1, 2, "b", 0.0)], {2: 0.0}
    assert lattice_confidences(["a", "c"], math.log(0.75), arcs, finals, 0, 1.0) == pytest.approx([1.0, 0.75])
    assert lattice_confidences(["a"], 0.0, [], {}, 0, 1.0) == [1.0]
    assert lattice_confidences([], 0.0, arcs, finals, 0, 1.0) == []


def test_pieces_of_a_long_recording_keep_their_confidences():
    one = Hypothesis([1], -1.0, [0], [Word("a", 0, 1, 0.4)], -1.0, 0.0)
    other = Hypothesis([2], -1.0, [0], [Word("b", 0, 1, 0.7)], -1.0, 0.0)
    assert joined_hypothesis(one, other, 10).words == [Word("a", 0, 1, 0.4), Word("b", 10, 11, 0.7)]


def test_aligned_words_have_the_posterior_of_the_decoder_and_else_that_of_their_units():
    units = Characters([BLANK, "▁", *"ab"])
    emissions = peaked([2, 0, 1, 3], 4, peak=3.0)
    times = [Timed("a", 0.0, 0.1, 0.9), Timed("▁", 0.2, 0.3, 0.9), Timed("b", 0.3, 0.4, 0.9)]
    for given, expected in ((0.25, 0.25), (None, 0.9)):
        hypothesis = Hypothesis([2, 1, 3], 0.0, [0, 2, 3], [Word("a", 0, 1, given), Word("b", 3, 4, given)])
        _, words = read_hypothesis(hypothesis, emissions, units, Ctc(len(units.symbols)))
        assert [word.confidence for word in group(words, times)] == pytest.approx([expected, expected])


def test_a_decoder_without_words_has_no_posteriors():
    decode = decoders.create({"name": "greedy"}).bind(phonemes())
    assert decode.with_confidences() is decode


# how confidences are scored


def test_right_words_are_those_that_an_alignment_with_the_fewest_edits_matches():
    items = [Timed(text, 0.0, 0.0, 0.5) for text in ("the", "cat", "sat")]
    assert [right for _, right in rated(items, ["the", "bat", "sat", "down"])] == [True, False, True]


def test_the_area_under_the_curve_counts_pairs_in_the_right_order():
    assert confidence_scores([(0.9, True), (0.8, True), (0.1, False)])["area_under_curve"] == 1.0
    assert confidence_scores([(0.1, True), (0.9, False)])["area_under_curve"] == 0.0
    assert confidence_scores([(0.5, True), (0.5, False), (0.7, True)])["area_under_curve"] == 0.75


def test_the_normalized_cross_entropy_is_nothing_for_the_share_of_right_words_and_one_for_certainty():
    assert confidence_scores([(0.75, True)] * 3 + [(0.75, False)])["normalized_cross_entropy"] == pytest.approx(0.0)
    certain = confidence_scores([(1.0, True)] * 3 + [(0.0, False)])["normalized_cross_entropy"]
    assert certain == pytest.approx(1.0, abs=1e-3)
    assert confidence_scores([(0.9, True), (0.9, False)])["normalized_cross_entropy"] < 0


def test_words_that_are_all_right_cannot_be_told_from_wrong_ones():
    scored = confidence_scores([(0.9, True)])
    assert scored["area_under_curve"] is None and scored["normalized_cross_entropy"] is None
    assert "nothing to compare" in show_confidence({"kind": "posterior", **scored})
    assert confidence_scores([])["words"] == 0


@pytest.mark.run
@pytest.mark.skipif(find_sctk() is None, reason="NIST SCTK is not installed (Debian: apt install sctk)")
def test_the_normalized_cross_entropy_is_the_one_that_sclite_prints(tmp_path):
    generator = random.Random(1)
    words = [(generator.random() if right else generator.random() ** 3, right) for right in [True, True, False] * 40]
    words += [(1.0, False), (0.0, True), (1.0, True)]
    items = [
        Timed("right" if right else "wrong", 0.5 * at, 0.5 * at + 0.4, confidence)
        for at, (confidence, right) in enumerate(words)
    ]
    (tmp_path / "h.ctm").write_text(ctm("recording", items))
    stm = "".join(f"recording 1 speaker {0.5 * at} {0.5 * at + 0.5} right\n" for at in range(len(words)))
    (tmp_path / "r.stm").write_text(stm)
    command = [find_sctk().sclite, "-r", "r.stm", "stm", "-h", "h.ctm", "ctm", "-o", "sum", "stdout"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    printed = float(re.search(r"Sum/Avg.*\|\s*(-?[\d.]+)\s*\|", said).group(1))
    assert confidence_scores(words)["normalized_cross_entropy"] == pytest.approx(printed, abs=6e-4)

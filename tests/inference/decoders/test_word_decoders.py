"""Decoders that search: every one keeps the contract, finds what trying everything finds, and survives bad input."""

import base64
import bz2
import gzip
import lzma
import math
import sys

import pytest
import torch

from asr.errors import UserError
from asr.inference.decoders import decoders, search
from asr.text.ngrams import read_model
from asr.text.phones.files import write_phone_lm
from asr.text.phones.model import uniform
from tests.support.ngrams import PLAIN, VARIANTS
from tests.support.tiny_language import (
    ARPA,
    BINARY,
    LEXICON,
    characters,
    every_labelling,
    every_sentence,
    phonemes,
    write_arpa,
)

WIDE = {
    "greedy": {},
    "beam": {"beam_size": 5000, "beam_threshold": 1e4},
    "lexicon": {"beam_size": 20000, "beam_threshold": 1e4},
    "wfst": {"beam": 200.0, "lattice_beam": 60.0},
    "phones": {},
}
WITH_WORDS = ("lexicon", "wfst")
SPELT_IN_CHARACTERS = {"ab": [(2, 3)], "ba": [(3, 2)], "b": [(3,)]}
SPELT_IN_PHONEMES = {"ab": [(1, 2)], "ba": [(2, 1)], "b": [(2,)]}


def decoder(name, tmp_path, units=None, **settings):
    if name in ("beam", "lexicon") and sys.version_info >= (3, 13):
        pytest.importorskip("flashlight.lib.text.decoder", reason="flashlight-text has no wheel for this Python")
    settings = {"name": name, **WIDE[name], **settings}
    if name == "phones":
        symbols = (units or characters()).symbols
        write_phone_lm(tmp_path / "phone_lm.txt", uniform(len(symbols)), symbols)
        settings["lm"] = str(tmp_path / "phone_lm.txt")
    if name == "wfst":
        settings.setdefault("cache", str(tmp_path / "graphs"))
    if name in WITH_WORDS and "lm" not in settings:
        settings["lm"] = write_arpa(tmp_path)
    if name in WITH_WORDS and units is not None and units.name == "phonemes":
        settings.setdefault("out_of_vocabulary", "skip")
    return decoders.create(settings).bind(units or characters())


def random_emissions(seed: int, *shape: int) -> torch.Tensor:
    return (2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).log_softmax(-1)


def test_every_decoder_is_held_to_the_contract():
    assert set(WIDE) == set(decoders.names())
    assert {name for name in decoders.names() if decoders.get(name).gives_words} == set(WITH_WORDS)


@pytest.mark.parametrize("name", decoders.names())
def test_neither_padding_nor_the_rest_of_the_batch_changes_a_hypothesis(name, tmp_path):
    decode = decoder(name, tmp_path, **({} if name in ("greedy", "phones") else {"nbest": 3}))
    emissions, lengths = random_emissions(1, 4, 12, 4), torch.tensor([12, 7, 1, 0])
    for row, length in enumerate(lengths.tolist()):
        emissions[row, length:] = math.nan
    together = decode(emissions, lengths)
    assert len(together) == 4
    for row, length in enumerate(lengths.tolist()):
        assert decode(emissions[row : row + 1, :length], lengths[row : row + 1]) == [together[row]]


@pytest.mark.parametrize("name", [name for name in decoders.names() if name != "phones"])
@pytest.mark.parametrize("kind", ["characters", "phonemes", "silence"])
def test_hypotheses_are_sorted_and_their_parts_agree_with_each_other(name, kind, tmp_path):
    units = {"characters": characters, "phonemes": phonemes, "silence": lambda: phonemes(silence=True)}[kind]()
    decode = decoder(name, tmp_path, units, **({} if name == "greedy" else {"nbest": 5}))
    emissions = random_emissions(2, 6, 14, len(units.symbols))
    for hypotheses in decode(emissions, torch.tensor([14, 14, 14, 9, 4, 2])):
        assert 1 <= len(hypotheses) <= 5
        scores = [hypothesis.score for hypothesis in hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert len({(tuple(each.ids), tuple(each.transcript or ())) for each in hypotheses}) == len(hypotheses)
        for each in hypotheses:
            assert len(each.frames) == len(each.ids)
            assert each.frames == sorted(set(each.frames))
            assert 0 not in each.ids
            if name not in WITH_WORDS:
                assert each.words is None and each.transcript is None
                continue
            assert each.score == pytest.approx(each.acoustic_score + each.language_model_score, abs=1e-2)
            spoken = [units.symbols[unit].lower() for unit in each.ids if units.symbols[unit] not in ("▁", "SIL")]
            assert "".join(each.transcript) == "".join(spoken)
            for word, following in zip(each.words, [*each.words[1:], None]):
                assert 0 <= word.start < word.end <= (14 if following is None else following.start)
                assert word.start in each.frames


@pytest.mark.parametrize("name", decoders.names())
def test_what_has_no_frames_or_only_blanks_is_an_empty_hypothesis(name, tmp_path):
    decode = decoder(name, tmp_path)
    for time in (0, 3):
        ((none,),) = decode(torch.zeros(1, time, 4), torch.tensor([0]))
        assert (none.ids, none.frames, none.score) == ([], [], 0.0)
    assert decode(torch.zeros(0, 3, 4), torch.zeros(0, dtype=torch.int64)) == []
    if name == "phones":
        return  # every sentence of its language model has a phone
    blank = torch.full((1, 30, 4), -math.inf)
    blank[:, :, 0] = 0.0
    assert [each[0].ids for each in decode(blank, torch.tensor([30]))] == [[]]
    assert decode(blank, torch.tensor([30]))[0][0].words in (None, [])


@pytest.mark.parametrize("name", WITH_WORDS)
def test_emissions_shorter_than_any_word_are_read_as_no_word(name, tmp_path):
    decode = decoder(name, tmp_path, phonemes(), lm=None, lexicon=lexicon_file(tmp_path, "ab A B\nba B A\n"))
    hypothesis = decode(torch.tensor([[[0.01, 0.98, 0.01]]]).log(), torch.tensor([1]))[0][0]
    assert (hypothesis.ids, hypothesis.words) == ([], [])


@pytest.mark.parametrize("name", ["beam", *WITH_WORDS])
def test_emissions_of_another_model_or_without_numbers_are_refused(name, tmp_path):
    decode = decoder(name, tmp_path)
    with pytest.raises(ValueError, match="bound to 4"):
        decode(torch.zeros(1, 3, 5), torch.tensor([3]))
    with pytest.raises(ValueError, match="not numbers"):
        decode(torch.full((1, 3, 4), math.nan), torch.tensor([3]))
    with pytest.raises(RuntimeError, match="bind"):
        decoders.create({"name": name})(torch.zeros(1, 3, 4), torch.tensor([3]))


@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_the_labellings_with_the_highest_sums(seed, tmp_path):
    emissions = random_emissions(seed, 5, 4)
    expected = sorted(((score, ids) for ids, score in every_labelling(emissions, add=True).items()), reverse=True)[:10]
    (found,) = decoder("beam", tmp_path, nbest=10)(emissions[None], torch.tensor([5]))
    assert [tuple(each.ids) for each in found] == [ids for _, ids in expected]
    assert [each.score for each in found] == pytest.approx([score for score, _ in expected], abs=1e-4)


def test_the_beam_weighs_units_by_a_model_of_units(tmp_path):
    lm = write_arpa(tmp_path, ARPA.replace("ab", "a").replace("ba", "▁"))
    emissions = random_emissions(7, 4, 4)
    decode = decoder("beam", tmp_path, lm=lm, lm_weight=0.7, nbest=5)
    symbols = characters().symbols
    model = read_model(lm)
    expected = sorted(
        (
            score
            + 0.7 * math.log(10) * model.log10_probability([*(symbols[unit] for unit in ids), "</s>"], ["<s>"]), ids)
        for ids, score in every_labelling(emissions, add=True).items()
    )[::-1][:5]  # fmt: skip
    (found,) = decode(emissions[None], torch.tensor([4]))
    assert [tuple(each.ids) for each in found] == [ids for _, ids in expected]
    assert [each.score for each in found] == pytest.approx([score for score, _ in expected], abs=1e-4)


@pytest.mark.parametrize("name", WITH_WORDS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.4, 1.5), (2.0, -1.0)])
def test_words_of_characters_are_those_that_trying_everything_finds(name, seed, weights, tmp_path):
    emissions = random_emissions(seed, 6, 4)
    decode = decoder(name, tmp_path, lm_weight=weights[0], word_score=weights[1], nbest=6)
    expected = every_sentence(emissions, SPELT_IN_CHARACTERS, 1, True, write_arpa(tmp_path), *weights)[:6]
    assert_alike(decode(emissions[None], torch.tensor([6]))[0], expected)


def assert_alike(found, expected):
    """Graphs hold costs to four digits, so that what is as good as equal may change places."""
    assert [each.score for each in found] == pytest.approx([score for score, _ in expected], abs=5e-3)
    scores = {words: score for score, words in expected}
    assert found[0].score == pytest.approx(scores[tuple(found[0].transcript)], abs=5e-3)
    assert {tuple(each.transcript) for each in found[:3]} <= set(scores)
    for each in found:
        if tuple(each.transcript) in scores:
            assert each.score == pytest.approx(scores[tuple(each.transcript)], abs=5e-3)


@pytest.mark.parametrize("name", WITH_WORDS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("silence", [False, True])
def test_words_of_phonemes_are_those_that_trying_everything_finds(name, seed, silence, tmp_path):
    units = phonemes(silence=silence)
    emissions = random_emissions(seed, 6, len(units.symbols))
    decode = decoder(name, tmp_path, units, nbest=6)
    expected = every_sentence(emissions, SPELT_IN_PHONEMES, 3 if silence else None, False, write_arpa(tmp_path))
    found = decode(emissions[None], torch.tensor([6]))[0]
    if name == "lexicon" and silence:
        # silence stays where flashlight found it, which may not be the best place: exact for the best hypothesis only
        scores = {words: score for score, words in expected}
        assert all(each.score <= scores[tuple(each.transcript)] + 1e-3 for each in found)
        found, expected = found[:1], expected[:1]
    assert_alike(found, expected[:6])


@pytest.mark.parametrize("kind", ["characters", "phonemes"])
@pytest.mark.parametrize("seed", range(3))
def test_a_sum_over_alignments_is_the_sum_over_everything_that_can_be_tried(kind, seed, tmp_path):
    units, spelt, *separator = {
        "characters": (characters(), SPELT_IN_CHARACTERS, 1, True),
        "phonemes": (phonemes(), SPELT_IN_PHONEMES, None, False),
    }[kind]
    emissions = random_emissions(seed, 6, len(units.symbols))
    decode = decoder("lexicon", tmp_path, units, sum_alignments=True, nbest=6)
    expected = every_sentence(emissions, spelt, *separator, write_arpa(tmp_path), add=True)
    (found,) = decode(emissions[None], torch.tensor([6]))
    scores = {words: score for score, words in expected}
    assert [each.score for each in found] == pytest.approx([score for score, _ in expected[:6]], abs=1e-4)
    assert [each.score for each in found] == pytest.approx([scores[tuple(each.transcript)] for each in found], abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_a_sum_over_alignments_is_that_of_the_units_found_where_silence_may_stand_between_words(seed, tmp_path):
    emissions = random_emissions(seed, 6, 4)
    settings = {"sum_alignments": True, "nbest": 6, "lm_weight": 0.5, "word_score": 0.3, "silence_score": -0.2}
    (found,) = decoder("lexicon", tmp_path, phonemes(silence=True), **settings)(emissions[None], torch.tensor([6]))
    emissions[:, 3] -= 0.2
    sums, model = every_labelling(emissions, add=True), read_model(write_arpa(tmp_path))
    for each in found:
        language = model.log10_probability([*each.transcript, "</s>"], ["<s>"]) * math.log(10)
        expected = sums[tuple(each.ids)] + 0.5 * language + 0.3 * len(each.words)
        assert each.score == pytest.approx(expected, abs=1e-4)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


def test_a_phoneme_that_lasts_is_one_word_and_its_alignments_no_more_than_certain(tmp_path):
    emissions = torch.full((20, 3), -20.0)
    emissions[0, 0] = emissions[1:, 2] = 0.0
    lexicon = lexicon_file(tmp_path, "b B\nab A B\n")
    decode = decoder("lexicon", tmp_path, phonemes(), lm=None, lexicon=lexicon, sum_alignments=True, beam_size=1000)
    (best,) = decode(emissions.log_softmax(-1)[None], torch.tensor([20]))[0]
    assert best.transcript == ["b"] and (best.words[0].start, best.words[0].end) == (1, 20)
    assert best.score == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_alone_the_best_hypothesis_is_the_first_of_several(seed, tmp_path):
    emissions, lengths = random_emissions(seed, 2, 20, 3), torch.tensor([20, 11])
    several = decoder("wfst", tmp_path, phonemes(), nbest=4)(emissions, lengths)
    alone = decoder("wfst", tmp_path, phonemes())(emissions, lengths)
    for one, all_of_them in zip(alone, several):
        assert one[0].transcript == all_of_them[0].transcript
        assert one[0].score == pytest.approx(all_of_them[0].score, abs=1e-3)


@pytest.mark.parametrize("name", WITH_WORDS)
def test_word_times_reach_from_a_words_first_frame_to_its_last(name, tmp_path):
    path = [0, 2, 2, 3, 3, 0, 1, 1, 3, 0, 2, 0]  # of blank, space, a and b
    emissions = (torch.nn.functional.one_hot(torch.tensor(path), 4) * 12.0).log_softmax(-1)
    (best,) = decoder(name, tmp_path)(emissions[None], torch.tensor([12]))[0]
    assert [(word.word, word.start, word.end) for word in best.words] == [("ab", 1, 5), ("ba", 8, 11)]
    assert (best.ids, best.frames) == ([2, 3, 1, 3, 2], [1, 3, 6, 8, 10])


@pytest.mark.parametrize("name", ["beam", *WITH_WORDS])
def test_a_long_recording_is_cut_where_it_is_silent_and_reads_on(name, tmp_path, monkeypatch):
    path = [*[2, 3, 1, 3, 2, 1], *[0] * 6, *[3, 1, 3, 1], *[0] * 7, *[2, 3, 0, 1, 3, 2], *[0] * 3]
    emissions = (torch.nn.functional.one_hot(torch.tensor(path), 4) * 12.0).log_softmax(-1)[None]
    lengths = torch.tensor([len(path)])
    decode = decoder(name, tmp_path, nbest=2)
    whole = decode(emissions, lengths)[0]
    monkeypatch.setattr("asr.inference.decoders.search.LONGEST", 18)
    cut = decode(emissions, lengths)[0]
    assert cut[0].frames == whole[0].frames and cut[0].ids == whole[0].ids
    assert cut[0].words == whole[0].words
    assert cut[0].score >= cut[1].score
    if name != "beam":
        assert cut[0].transcript == ["ab", "ba", "b", "b", "ab", "ba"]


@pytest.mark.parametrize("name", ["beam", "lexicon"])
@pytest.mark.parametrize("add", [False, True])
def test_hypotheses_of_a_long_recording_are_different_ones(name, add, tmp_path, monkeypatch):
    path = [*[2, 3, 1, 3, 2, 1], *[0] * 6, *[3, 1, 3, 1], *[0] * 7, *[2, 3, 0, 1, 3, 2], *[0] * 3]
    emissions = (torch.nn.functional.one_hot(torch.tensor(path), 4) * 3.0).log_softmax(-1)[None]
    monkeypatch.setattr("asr.inference.decoders.search.LONGEST", 18)
    decode = decoder(name, tmp_path, nbest=20, beam_size=1000, sum_alignments=add)
    (found,) = decode(emissions, torch.tensor([len(path)]))
    assert len({tuple(each.transcript or each.ids) for each in found}) == len(found) == 20
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


@pytest.mark.parametrize("add", [False, True])
def test_units_that_the_pieces_of_a_recording_give_in_several_ways_are_added_up_or_the_best_way_counts(
    add, tmp_path, monkeypatch
):
    emissions = random_emissions(4, 7, 3)
    monkeypatch.setattr("asr.inference.decoders.search.LONGEST", 5)
    (cut,) = search.cuts(emissions[:, 0].numpy(), 5)
    pieces = [every_labelling(piece, add) for piece in (emissions[:cut], emissions[cut:])]
    expected = {}
    for first, one in pieces[0].items():
        for second, other in pieces[1].items():
            before = expected.get(first + second, -math.inf)
            both = torch.tensor([before, one + other], dtype=torch.float64)
            expected[first + second] = float(both.logsumexp(0) if add else both.max())
    decode = decoder("beam", tmp_path, phonemes(), nbest=10000, sum_alignments=add)
    (found,) = decode(emissions[None], torch.tensor([7]))
    assert len(found) == len(expected)
    for each in found:
        assert each.score == pytest.approx(expected[tuple(each.ids)], abs=1e-4)
        assert each.acoustic_score == pytest.approx(each.score, abs=1e-4)


@pytest.mark.parametrize("name", WITH_WORDS)
def test_homophones_and_words_that_begin_others_are_told_apart_by_the_language_model(name, tmp_path):
    lm = write_arpa(tmp_path, ARPA)
    lexicon = lexicon_file(tmp_path, "ab A B\nba A B\nb A\n")
    decode = decoder(name, tmp_path, phonemes(), lm=lm, lexicon=lexicon, nbest=3)
    emissions = (torch.nn.functional.one_hot(torch.tensor([1, 2, 0, 1, 2]), 3) * 9.0).log_softmax(-1)
    found = decode(emissions[None], torch.tensor([5]))[0]
    # P(ab ba) = 10^-1.2, P(ab ab) = 10^-1.5 and P(ba ab) = 10^-2.2
    assert [each.transcript for each in found] == [["ab", "ba"], ["ab", "ab"], ["ba", "ab"]]
    assert found[1].score - found[0].score == pytest.approx(-0.3 * math.log(10), abs=5e-3)


@pytest.mark.parametrize("name", WITH_WORDS)
def test_pronunciation_probabilities_count(name, tmp_path):
    lexicon = lexicon_file(tmp_path, "ab 1.0 A B\nab 0.2 B\nba 1.0 B A\n")
    decode = decoder(name, tmp_path, phonemes(), lexicon=lexicon, lm=None, lm_weight=0.5)
    emissions = (torch.nn.functional.one_hot(torch.tensor([0, 2, 0]), 3) * 9.0).log_softmax(-1)
    (best,) = decode(emissions[None], torch.tensor([3]))[0]
    assert best.transcript == ["ab"]
    assert best.score == pytest.approx(float(emissions.max(-1)[0].sum()) + 0.5 * math.log(0.2), abs=1e-3)
    assert decode.facts["spellings"] == 3


@pytest.mark.parametrize("name", WITH_WORDS)
def test_other_weights_need_no_other_decoder(name, tmp_path):
    emissions, lengths = random_emissions(5, 3, 15, 4), torch.tensor([15, 9, 3])
    again = decoder(name, tmp_path).with_weights(lm_weight=0.3, word_score=2.0)(emissions, lengths)
    anew = decoder(name, tmp_path, lm_weight=0.3, word_score=2.0)(emissions, lengths)
    assert again == anew
    assert again != decoder(name, tmp_path)(emissions, lengths)


@pytest.mark.parametrize("name", WITH_WORDS)
def test_a_language_model_may_weigh_nothing(name, tmp_path):
    emissions = random_emissions(3, 6, 4)
    (expected, words), *_ = every_sentence(emissions, SPELT_IN_CHARACTERS, 1, True, None)
    (best,) = decoder(name, tmp_path).with_weights(0.0, 0.0)(emissions[None], torch.tensor([6]))[0]
    assert (best.score, tuple(best.transcript)) == (pytest.approx(expected, abs=2e-2), words)


def test_an_unknown_word_is_written_where_its_score_allows_it(tmp_path):
    lexicon = lexicon_file(tmp_path, "ab A B\n")
    emissions = (torch.nn.functional.one_hot(torch.tensor([1, 0, 1, 2, 0, 0]), 3) * 9.0).log_softmax(-1)[None]
    never = decoder("lexicon", tmp_path, phonemes(), lm=None, lexicon=lexicon)
    assert set(never(emissions, torch.tensor([6]))[0][0].transcript) <= {"ab"}
    sometimes = decoder("lexicon", tmp_path, phonemes(), lm=None, lexicon=lexicon, unknown_score=-1.0)
    assert "<unk>" in sometimes(emissions, torch.tensor([6]))[0][0].transcript


def test_a_graph_is_kept_and_made_anew_when_anything_that_it_is_made_of_changes(tmp_path):
    def kept():
        return sorted((tmp_path / "graphs").glob("*.fst"))

    decoder("wfst", tmp_path, phonemes())
    (first,) = kept()
    made = first.stat().st_mtime_ns
    decoder("wfst", tmp_path, phonemes(), lm_weight=3.0, word_score=1.0)
    assert kept() == [first] and first.stat().st_mtime_ns == made
    decoder("wfst", tmp_path, phonemes(silence=True))
    decoder("wfst", tmp_path, phonemes(LEXICON + "ab B\n"), lexicon=lexicon_file(tmp_path, LEXICON + "ab B\n"))
    decoder("wfst", tmp_path, phonemes(), lm=write_arpa(tmp_path, ARPA.replace("-0.4\tab ba", "-0.3\tab ba")))
    assert len(kept()) == 4
    first.write_bytes(first.read_bytes()[:100])
    emissions, lengths = random_emissions(1, 1, 9, 3), torch.tensor([9])
    assert decoder("wfst", tmp_path, phonemes())(emissions, lengths)[0][0].words is not None


@pytest.mark.parametrize("place", ["below a file", "/proc/nocache", "no home"])
def test_a_graph_that_cannot_be_kept_is_searched_in_memory_and_that_is_said_once(place, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("mine")
    cache = {"below a file": str(tmp_path / "file" / "graphs"), "no home": None}.get(place, place)
    if place == "no home":
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    emissions, lengths = random_emissions(1, 1, 9, 3), torch.tensor([9])
    kept = decoder("wfst", tmp_path, phonemes())(emissions, lengths)[0][0]
    with caplog.at_level("WARNING"):
        found = decoder("wfst", tmp_path, phonemes(), cache=cache)(emissions, lengths)[0][0]
    assert (found.words, found.score) == (kept.words, kept.score)
    (record,) = (one for one in caplog.records if one.name == "asr.runtime.user_cache")
    assert "The search graph cannot be kept: " in record.message and "decoder.cache=FOLDER" in record.message
    assert ("you have no home folder" if cache is None else f"{cache}/") in record.message
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_leaves_no_half_of_a_graph(tmp_path, monkeypatch, caplog):
    def fill(graph, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("asr.inference.decoders.graph.write", fill)
    assert decoder("wfst", tmp_path, phonemes()).facts["graph_states"] > 0
    assert "(No space left on device)" in caplog.text and list((tmp_path / "graphs").iterdir()) == []


def lexicon_file(folder, text: str) -> str:
    path = folder / "lexicon.txt"
    path.write_text(text, encoding="utf8")
    return str(path)


@pytest.mark.parametrize("name", WITH_WORDS)
@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("ab A B\nba\n", "line 2: 'ba' has no phonemes"),
        ("ab A B\nba B X\n", "line 2: 'ba' is pronounced with 'X'"),
        ("ab 0.5 A B\nba B A\n", "line 2: 'ba' has no probability"),
        ("ab 0.0 A B\n", "line 1: .ab. has the probability 0.0, which must be a finite number above 0"),
        ("\n", "holds no word"),
    ],
)
def test_a_line_of_the_lexicon_that_cannot_be_is_named(name, lines, told, tmp_path):
    with pytest.raises(UserError, match=told):
        decoder(name, tmp_path, phonemes(), lexicon=lexicon_file(tmp_path, lines))


@pytest.mark.parametrize("name", ["beam", *WITH_WORDS])
def test_a_language_model_that_is_cut_short_or_none_is_named(name, tmp_path):
    units = characters()
    arpa = ARPA.replace("ab", "a").replace("ba", "▁") if name == "beam" else ARPA
    for text in (arpa[:150], arpa[: arpa.index("\\end")][:-30], arpa.replace("-0.4", "x"), "hello\n", ""):
        with pytest.raises(UserError, match="lm.arpa"):
            decoder(name, tmp_path, units, lm=write_arpa(tmp_path, text))
    with pytest.raises(UserError, match="nowhere.arpa"):
        decoder(name, tmp_path, units, lm=str(tmp_path / "nowhere.arpa"))


COMPRESSED = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}
WRITTEN = {
    **{variant: text.encode() for variant, text in VARIANTS.items()},
    **{variant: compress(PLAIN.encode()) for variant, compress in COMPRESSED.items()},
    "minus infinity in words": PLAIN.replace("-99", "-Infinity").encode(),
    "blank lines behind": (PLAIN + "\n\n").encode(),
}


@pytest.mark.parametrize("name", ["beam", *WITH_WORDS])
@pytest.mark.parametrize("variant", WRITTEN)
def test_an_arpa_file_says_the_same_however_it_is_written(name, variant, tmp_path):
    emissions, lengths = random_emissions(4, 2, 8, 4), torch.tensor([8, 5])
    (tmp_path / "lm").write_bytes(WRITTEN[variant])
    narrow = {} if name == "wfst" else {"beam_size": 500}
    found = decoder(name, tmp_path, lm=str(tmp_path / "lm"), **narrow)(emissions, lengths)
    assert found == decoder(name, tmp_path, lm=write_arpa(tmp_path, PLAIN), **narrow)(emissions, lengths)
    assert any(each[0].ids for each in found)


UNIGRAMS = "\\data\\\nngram 1=6\n\n\\1-grams:\n-99\t<s>\n-0.9\t</s>\n-2\t<unk>\n-0.7\tab\n-0.8\tba\n-1\tb\n\n\\end\\\n"


def of_order(order: int) -> str:
    """An ARPA file of unigrams, and one sequence of each higher order."""
    counts = "ngram 1=6\n" + "".join(f"ngram {length}=1\n" for length in range(2, order + 1))
    sections = [
        f"\\{length}-grams:\n-0.3\t<s>{' ab' * (length - 1)}{'' if length == order else chr(9) + '-0.1'}\n\n"
        for length in range(2, order + 1)
    ]
    return UNIGRAMS.replace("ngram 1=6\n", counts).replace("\\end", "".join(sections) + "\\end")


@pytest.mark.parametrize("name", WITH_WORDS)
@pytest.mark.parametrize("order", [1, 2, 6])
def test_models_of_every_order_that_a_decoder_can_hold_say_what_is_in_the_file(name, order, tmp_path):
    lm = write_arpa(tmp_path, UNIGRAMS if order == 1 else of_order(order))
    emissions = random_emissions(2, 12, 4)
    (found,) = decoder(name, tmp_path, lm=lm, nbest=4)(emissions[None], torch.tensor([12]))
    for each in found:
        language = read_model(lm).log10_probability([*each.transcript, "</s>"], ["<s>"]) * math.log(10)
        assert each.language_model_score == pytest.approx(language, abs=1e-2)


@pytest.mark.parametrize("name", ["beam", "lexicon"])
def test_an_order_that_kenlm_cannot_hold_is_a_sentence_and_a_transducer_takes_it(name, tmp_path):
    text = of_order(7)
    lm = write_arpa(tmp_path, text.replace("ab", "a").replace("ba", "▁") if name == "beam" else text)
    with pytest.raises(UserError, match="order 7.* supports at most 6: use decoder=wfst"):
        decoder(name, tmp_path, lm=lm)
    assert decoder("wfst", tmp_path, lm=write_arpa(tmp_path, text)).facts["words"] == 3


def test_a_kenlm_binary_says_the_same_as_its_arpa_file_and_is_named_where_it_is_cut_short(tmp_path):
    binary = tmp_path / "lm.bin"
    binary.write_bytes(gzip.decompress(base64.b64decode(BINARY)))
    emissions, lengths = random_emissions(4, 2, 12, 4), torch.tensor([12, 5])
    by_binary = decoder("lexicon", tmp_path, lm=str(binary), nbest=3)(emissions, lengths)
    for ours, theirs in zip(by_binary, decoder("lexicon", tmp_path, nbest=3)(emissions, lengths)):
        assert [each.transcript for each in ours] == [each.transcript for each in theirs]
        assert [each.score for each in ours] == pytest.approx([each.score for each in theirs], abs=1e-4)
    with pytest.raises(UserError, match="ARPA file"):
        decoder("wfst", tmp_path, lm=str(binary))
    whole = binary.read_bytes()
    for length in (60, 110, len(whole) // 2, len(whole) - 3):
        binary.write_bytes(whole[:length])
        with pytest.raises(UserError, match="lm.bin"):
            decoder("lexicon", tmp_path, lm=str(binary))


def test_units_and_files_that_do_not_go_together_are_told(tmp_path):
    strange = ARPA.replace("ab", "Ωψ").replace("ba", "ψΩ").replace("\tb\t", "\tψ\t").replace("b b", "ψ ψ")
    with pytest.raises(UserError, match="None of the words of the language model"):
        decoder("lexicon", tmp_path, lm=write_arpa(tmp_path, strange))
    with pytest.raises(UserError, match="contains none of the units"):
        decoder("beam", tmp_path, lm=write_arpa(tmp_path, ARPA.replace("\tb\t", "\tbb\t").replace("b b", "bb bb")))
    with pytest.raises(UserError, match="The decoder has no words"):
        decoder("lexicon", tmp_path, lm=None)
    with pytest.raises(UserError, match="have no pronunciation: ba"):
        decoder("wfst", tmp_path, phonemes("ab A B\nb B\n"), out_of_vocabulary="refuse")
    with pytest.raises(UserError, match="beam_size must be a whole number"):
        decoders.create({"name": "lexicon", "beam_size": 0})
    with pytest.raises(UserError, match="lm_weight must be a number, at least 0"):
        decoders.create({"name": "wfst", "lm_weight": -1.0})
    with pytest.raises(UserError, match="greedy has no language model"):
        decoders.create({"name": "greedy"}).with_weights(1.0, 0.0)


def test_more_homophones_than_flashlights_tree_holds_are_named_and_a_transducer_keeps_them(tmp_path, caplog):
    words = [f"w{chr(97 + number)}" for number in range(8)]
    lexicon = lexicon_file(tmp_path, "".join(f"{word} A B\n" for word in words))
    decode = decoder("lexicon", tmp_path, phonemes(), lm=None, lexicon=lexicon)
    assert decode.facts["homophones_left_out"] == ["wg", "wh"]
    assert "wg, wh" in caplog.text
    emissions = (torch.nn.functional.one_hot(torch.tensor([1, 2]), 3) * 9.0).log_softmax(-1)
    (found,) = decoder("wfst", tmp_path, phonemes(), lm=None, lexicon=lexicon, nbest=8)(
        emissions[None], torch.tensor([2])
    )
    assert sorted(each.transcript[0] for each in found) == words


def test_by_default_a_word_has_all_pronunciations_that_cmudict_knows_and_espeak_speaks_the_others(tmp_path):
    from asr.text.lexicon.dictionary import ARPABET
    from asr.text.units.phonemes import Phonemes

    units = Phonemes(["<blank>", *ARPABET])
    text = ARPA.replace("ab", "TOMATO").replace("ba", "glorbix").replace("b b", "<noise> <noise>")
    lm = write_arpa(tmp_path, text.replace("\tb\t", "\t<noise>\t"))
    decode = decoder("lexicon", tmp_path, units, lm=lm, out_of_vocabulary="espeak")
    spelt = {tuple(units.symbols[unit] for unit in each) for each in decode.spellings.words["TOMATO"]}
    assert spelt == {tuple("T AH M EY T OW".split()), tuple("T AH M AA T OW".split())}
    assert (decode.facts["espeak"], decode.facts["left_out"]) == (["glorbix"], ["<noise>"])
    assert len(decode.spellings.words["glorbix"]) == 1


def test_words_of_byte_pair_pieces_are_spelt_as_the_model_spells_them(tmp_path):
    from lhotse import SupervisionSegment

    from asr.text.units.bpe import Bpe

    texts = ["ab ba b ab ba", "ba ab b", "b b ab"] * 5
    units = Bpe.build([SupervisionSegment("s", "r", 0.0, 1.0, text=text) for text in texts], size=8)
    for name in WITH_WORDS:
        decode = decoder(name, tmp_path, units)
        for word in ("ab", "ba", "b"):
            ((spelling,),) = [decode.spellings.words[word]]
            assert units.decode(list(spelling)) == [word]
        ids = units.encode(SupervisionSegment("s", "r", 0.0, 1.0, text="ba ab"))
        path = [unit for each in ids for unit in (0, each, each)]
        clear = (torch.nn.functional.one_hot(torch.tensor(path), len(units.symbols)) * 12.0).log_softmax(-1)
        (best,) = decode(clear[None], torch.tensor([len(path)]))[0]
        assert (best.transcript, best.ids) == (["ba", "ab"], ids)


@pytest.mark.parametrize(("name", "module"), [("beam", "flashlight"), ("lexicon", "flashlight"), ("wfst", "kaldifst")])
def test_a_library_that_is_not_installed_is_named_with_the_way_to_get_it(name, module, tmp_path, monkeypatch):
    for known in [known for known in sys.modules if known.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, known)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"not installed.*pip install"):
        decoder(name, tmp_path)


def test_words_that_cannot_be_spelt_are_counted_and_named(tmp_path):
    decode = decoder("lexicon", tmp_path, phonemes("ab A B\nb B\n"))
    assert decode.facts["left_out"] == ["ba"]
    assert decode.facts["words"] == 2

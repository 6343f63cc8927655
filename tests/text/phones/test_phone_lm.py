"""Phone language models: expected counts by enumeration, exact sums, and the file."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from asr.errors import UserError
from asr.text.phones.counts import expected_counts
from asr.text.phones.estimation import Shape, estimate
from asr.text.phones.files import digest_of, read_phone_lm, write_phone_lm
from asr.text.phones.model import uniform
from asr.text.phones.slots import optional, with_silences, word
from tests.support.tiny_phones import AMBIGUOUS, SENTENCES, SHAPES, SILENCE, UNITS, WORDS, model, readings

SYMBOLS = ["<blank>", "A", "B", "SIL"]


def counted_one_by_one(sentences, order):
    """{(*history, what follows): expected count} over every reading of every sentence."""
    found = {}
    for slots in sentences:
        for phones, probability in readings(slots).items():
            padded = (0,) * (order - 1) + phones + (0,)
            for place in range(len(padded) - order + 1):
                ngram = padded[place : place + order]
                found[ngram] = found.get(ngram, 0.0) + probability
    return found


@pytest.mark.parametrize("order", [2, 3, 4])
def test_expected_counts_are_those_of_every_reading_weighted_by_its_probability(order):
    sentences = [*SENTENCES, AMBIGUOUS, []]
    counts = expected_counts(sentences, UNITS, order)
    expected = counted_one_by_one(sentences, order)
    found = {}
    for ngram, count in zip(counts.ngrams.tolist(), counts.expected.tolist()):
        found[tuple(ngram // UNITS**power % UNITS for power in reversed(range(order)))] = count
    assert found.keys() == expected.keys()
    assert all(abs(found[ngram] - expected[ngram]) < 1e-12 for ngram in expected)
    pairs = counted_one_by_one(sentences, 2)
    assert all(
        abs(counts.pairs()[pair] - pairs.get(pair, 0.0) * (pair[1] > 0)) < 1e-12 for pair in np.ndindex(UNITS, UNITS)
    )


def test_sentences_are_counted_alike_however_many_lie_side_by_side(monkeypatch):
    whole = expected_counts(SENTENCES, UNITS, 3)
    monkeypatch.setattr("asr.text.phones.counts.TOGETHER", 2)
    parts = expected_counts(SENTENCES, UNITS, 3)
    assert np.array_equal(whole.ngrams, parts.ngrams)
    np.testing.assert_allclose(whole.expected, parts.expected, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_follows_a_history_sums_to_one_and_all_sentences_have_a_path(shape):
    lm = model(shape)
    total = np.bincount(lm.sources, np.exp(lm.weights), len(lm.histories)) + np.exp(lm.ends)
    np.testing.assert_allclose(total, 1, atol=1e-12)
    assert all(lm.log_probability(phones) > -math.inf for slots in SENTENCES for phones in readings(slots))


def test_without_pruning_the_model_is_the_likeliest_of_its_order():
    """P(phone | history) is the share of the history's counts, histories longer than the order being cut."""
    lm, counts = model(Shape(3, 3, 0)), counted_one_by_one(SENTENCES, 3)
    for phones in readings(SENTENCES[5]):
        total, padded = 0.0, (0, 0, *phones, 0)
        for place in range(len(phones) + 1):
            history = padded[place : place + 2]
            follows = {ngram[2]: count for ngram, count in counts.items() if ngram[:2] == history}
            total += math.log(follows[padded[place + 2]] / sum(follows.values()))
        assert abs(lm.log_probability(phones) - total) < 1e-12


def test_the_extra_histories_are_those_that_raise_the_likelihood_most():
    sizes = [len([one for one in model(Shape(4, 3, extra)).histories if len(one) == 3]) for extra in (0, 1, 3, 999)]
    assert sizes[:3] == [0, 1, 3] and sizes[3] > 3

    def likelihood(lm):
        return sum(
            probability * lm.log_probability(phones)
            for slots in SENTENCES
            for phones, probability in readings(slots).items()
        )

    gained = [likelihood(model(Shape(4, 3, extra))) for extra in (0, 1, 3, 999)]
    assert gained == sorted(gained) and gained[0] < gained[1] < gained[3]


def test_a_history_is_the_longest_kept_one_and_unseen_phones_lead_to_their_own():
    lm = model(Shape(4, 3, 2))
    for source, phone, target in zip(lm.sources.tolist(), lm.phones.tolist(), lm.targets.tolist()):
        assert target == lm.after(source, phone)
        endings = [one for one in lm.histories if (*lm.histories[source], phone)[-len(one) :] == one]
        assert lm.histories[target] == max(endings, key=len)
    assert all((phone,) in lm.histories for phone in range(1, UNITS))


def test_silence_is_optional_around_words_and_between_them():
    slots = with_silences(WORDS[:2], SILENCE, edge=0.8, between=0.2)
    assert [slot for slot in slots if len(slot) == 2 and slot[0][1] == ()] == [
        optional(SILENCE, 0.8), optional(SILENCE, 0.2), optional(SILENCE, 0.8)
    ]  # fmt: skip
    assert with_silences([], SILENCE) == [optional(SILENCE, 0.8)]
    assert optional(SILENCE, 1.0) == ((1.0, (SILENCE,)),)
    assert word([(1,), (2,), (1,)]) == ((0.5, (1,)), (0.5, (2,)))


TIED = dataclasses.replace(model(), topology="chain-left", contexts=("0 1", "", "2"))


@pytest.mark.parametrize("lm", [*map(model, SHAPES), uniform(UNITS), TIED], ids=range(6))
def test_a_file_holds_the_model_exactly_and_is_the_same_each_time(tmp_path, lm):
    file = tmp_path / "phone_lm.txt"
    write_phone_lm(file, lm, SYMBOLS)
    again = read_phone_lm(file, SYMBOLS)
    assert (
        again.contexts == lm.contexts
        and again.histories == lm.histories
        and (again.units, again.order, again.topology)
        == (
            lm.units,
            lm.order,
            lm.topology,
        )
    )
    for name in ("sources", "phones", "targets", "weights", "ends"):
        assert np.array_equal(getattr(again, name), getattr(lm, name))
    content = file.read_bytes()
    write_phone_lm(file, again, SYMBOLS)
    assert file.read_bytes() == content and content.decode().split()[-1] == digest_of(lm, SYMBOLS)


def test_a_file_of_the_same_sentences_is_the_same_byte_for_byte():
    assert digest_of(model(), SYMBOLS) == digest_of(model(), SYMBOLS)
    assert digest_of(model(), SYMBOLS) != digest_of(model(sentences=SENTENCES[1:]), SYMBOLS)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda text: "", "is not a phone language model"),
        (lambda text: text.replace("model 1", "model 2", 1), "another version of asr"),
        (lambda text: text[: len(text) // 2], "is cut short"),
        (lambda text: text[:-1], "is cut short"),
        (lambda text: text.replace("order 3", "order 4"), "was changed since it was written"),
    ],
)
def test_a_file_that_is_cut_short_or_changed_is_answered_by_a_sentence(tmp_path, change, sentence):
    file = tmp_path / "phone_lm.txt"
    write_phone_lm(file, model(), SYMBOLS)
    file.write_text(change(file.read_text()))
    with pytest.raises(UserError, match=sentence):
        read_phone_lm(file, SYMBOLS)


def test_a_file_of_another_model_or_none_is_answered_by_a_sentence(tmp_path):
    file = tmp_path / "phone_lm.txt"
    with pytest.raises(UserError, match="cannot be read"):
        read_phone_lm(file, SYMBOLS)
    write_phone_lm(file, model(), SYMBOLS)
    with pytest.raises(UserError, match="over other units"):
        read_phone_lm(file, SYMBOLS[::-1])


def test_a_lines_that_say_nothing_are_refused_though_their_digest_fits(tmp_path):
    import hashlib

    file = tmp_path / "phone_lm.txt"
    write_phone_lm(file, model(), SYMBOLS)
    lines = file.read_text().splitlines()[:-1]
    for number, line in itertools.product((5, 6), ("X", " A", " A much", "", " X -1.0", " A nan", " A 0.5", "A A A A")):
        text = "\n".join([*lines[:number], line, *lines[number + 1 :], ""])
        file.write_text(f"{text}sha256 {hashlib.sha256(text.encode()).hexdigest()}\n")
        with pytest.raises(UserError, match="neither a history nor a phone"):
            read_phone_lm(file, SYMBOLS)


def test_sentences_without_phones_and_shapes_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="needs phones to estimate"):
        expected_counts([[], []], UNITS, 3)
    with pytest.raises(UserError, match="too large"):
        expected_counts(SENTENCES, 100_000, 4)
    for shape in ({"order": 5}, {"keep": 1}, {"order": 3, "keep": 4}, {"extra": -1}):
        with pytest.raises(UserError, match="loss."):
            Shape(**shape)


def test_a_history_that_all_its_counts_have_left_still_says_what_follows():
    """Where every longer history is a state, the shorter ones are reached by unseen phones alone."""
    lm = estimate(expected_counts(SENTENCES, UNITS, 3), Shape(3, 3, 0))
    alone = [state for state, history in enumerate(lm.histories) if len(history) == 1 and state]
    assert alone and not lm.reached()[alone].any()
    total = np.bincount(lm.sources, np.exp(lm.weights), len(lm.histories)) + np.exp(lm.ends)
    np.testing.assert_allclose(total[alone], 1, atol=1e-12)

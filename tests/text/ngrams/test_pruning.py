"""Pruning by relative entropy leaves a distribution."""

import math

import pytest

from asr.text.ngrams import estimate, prune
from tests.support.ngrams import made_up_text, ngrams_of, total


def test_without_a_threshold_nothing_is_pruned_and_more_is_pruned_with_a_higher_one():
    model = estimate(made_up_text(), 3)
    assert ngrams_of(prune(model, 0)) == ngrams_of(model)
    sizes = [sum(len(table) for table in prune(model, threshold).tables) for threshold in (0, 1e-6, 1e-5, 1e-4, 1e-3)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 5


def test_what_stays_keeps_its_probability_and_has_all_its_parts():
    model = estimate(made_up_text(), 4)
    before, after = ngrams_of(model), ngrams_of(prune(model, 1e-5))
    assert len(after) < len(before)
    for ngram, (log10, _) in after.items():
        assert log10 == before[ngram][0]
        assert len(ngram) == 1 or {ngram[1:], ngram[:-1]} <= after.keys()


def test_an_ngram_is_pruned_if_the_relative_entropy_of_doing_so_says_it():
    """Stolcke's distance, summed over the whole vocabulary, for every n-gram by itself."""
    model, threshold = estimate(made_up_text(80), 2), 1e-4
    after = ngrams_of(prune(model, threshold))
    rows = ngrams_of(model)
    words = [word for word in model.words if word != "<s>"]
    lower = {word: 10 ** rows[word,][0] for word in words}
    pruned = 0
    for history, word in [ngram for ngram in rows if len(ngram) == 2]:
        before = {other: 10 ** model.log10_probability(other, [history]) for other in words}
        listed = {other for other in words if (history, other) in rows} - {word}
        weight = (1 - sum(before[other] for other in listed)) / (1 - sum(lower[other] for other in listed))
        after_it = {other: before[other] if other in listed else weight * lower[other] for other in words}
        distance = sum(before[other] * math.log(before[other] / after_it[other]) for other in words)
        how_often = 10 ** rows["</s>" if history == "<s>" else history,][0]
        growth = math.expm1(how_often * distance)
        if abs(growth / threshold - 1) > 1e-3:
            assert ((history, word) in after) == (growth >= threshold)
            pruned += growth < threshold
    assert 20 < pruned < len(model.tables[1]) - 20


def test_pruning_everything_leaves_unigrams():
    model = prune(estimate([["a", "b"], ["a", "c"]], 3), 0.999)
    assert model.order == 1 and total(model, []) == pytest.approx(1, abs=1e-6)

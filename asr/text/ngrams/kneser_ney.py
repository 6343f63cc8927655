"""Interpolated modified Kneser-Ney estimation (Chen and Goodman 1998, An Empirical Study of Smoothing Techniques).

What the paper leaves open follows KenLM's `lmplz` (Heafield et al. 2013, Scalable Modified Kneser-Ney Language Model
Estimation): unigrams are interpolated with the uniform distribution over all words and `<unk>`, n-grams that begin with `<s>`
keep their counts, and the counts of counts are taken before the cutoffs. tests/text/ngrams/test_estimation.py compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy

from asr.errors import ArgumentError
from asr.text.ngrams.counts import BEGIN_ID, CountTable, adjusted_counts, count_ngrams, number_words
from asr.text.ngrams.discounts import Discounts
from asr.text.ngrams.model import IMPOSSIBLE, NgramModel, NgramTable
from asr.text.ngrams.pruning import prune as prune_model

HIGHEST_ORDER = 20


def estimate(
    sentences: Iterable[list[str]],
    order: int = 3,
    cutoffs: Sequence[int] = (),
    threshold: float = 0.0,
    vocabulary: Iterable[str] = (),
) -> NgramModel:
    """The interpolated modified Kneser-Ney model of a text, as a back-off model.

    sentences: lists of words; empty ones are left out. `<unk>` is always in the model; in the text it counts like a word.
    order: the length of the longest n-grams; less if no sentence is that long.
    cutoffs: by order from 1 on; n-grams that occur at most that often are left out. The last one applies to all higher
        orders, and they must not decrease. (0, 0, 1) leaves out trigrams that occur once.
    vocabulary: further words, which share with `<unk>` the unigram probability that is left for unseen words.
    threshold: of entropy pruning, see `asr.text.ngrams.pruning.prune`; the probabilities of contexts are those of the text.

    `NgramModel.discounts` has the discounts. Raises ArgumentError for an empty text and for settings out of range.
    """
    if isinstance(order, bool) or not isinstance(order, int) or not 1 <= order <= HIGHEST_ORDER:
        raise ArgumentError(f"order={order} is not a whole number from 1 to {HIGHEST_ORDER}.")
    cutoffs = check_cutoffs(cutoffs, order)
    words, stream = number_words(sentences)
    if not len(stream):
        raise ArgumentError("There is no word in the text: a language model needs at least one sentence.")
    seen = len(words)
    words += further_words(words, vocabulary)
    counts = count_ngrams(stream, len(words), order)
    tokens = len(stream) - int(counts[0].count[BEGIN_ID])
    del stream
    kept = [table.count > cutoff for table, cutoff in zip(counts, cutoffs)]
    kept[0][:3] = True
    kept[0][seen:] = True
    adjusted = adjusted_counts(counts)
    discounts = [Discounts.of(each) for each in adjusted]
    probabilities, weights = interpolate(counts, adjusted, kept, discounts)
    new_rows = [numpy.cumsum(keep) - 1 for keep in kept]
    words = [word for word, keep in zip(words, kept[0]) if keep]
    tables, frequencies = [], []
    for at, (table, keep) in enumerate(zip(counts, kept)):
        if not keep.any():
            break
        below = new_rows[at - 1] if at else numpy.zeros(len(keep), numpy.int64)
        with numpy.errstate(divide="ignore"):
            log10 = numpy.maximum(numpy.log10(probabilities[at][keep]), IMPOSSIBLE)
        made = (below[table.context[keep]], new_rows[0][table.word[keep]], log10, numpy.log10(weights[at][keep]))
        tables.append(NgramTable.of(*made, suffix=below[table.suffix[keep]]))
        frequencies.append(table.count[keep] / tokens)
    model = NgramModel(words, tables, tuple(discounts), tuple(len(table.count) for table in counts))
    return prune_model(model, threshold, frequencies) if threshold else model


def further_words(words: Iterable[str], vocabulary: Iterable[str]) -> list[str]:
    """The new words of a vocabulary, sorted. Raises ArgumentError for one that is empty or contains white space."""
    further = sorted(set(vocabulary) - set(words))
    for word in further:
        if not isinstance(word, str) or word.split() != [word]:
            raise ArgumentError(
                f"The vocabulary holds {word!r}, which is not a word: it is empty or contains white space."
            )
    return further


def check_cutoffs(cutoffs: Sequence[int], order: int) -> list[int]:
    """A cutoff for each order. Raises ArgumentError if there are too many, or if they decrease or are below zero."""
    cutoffs = list(cutoffs) or [0]
    if any(isinstance(cutoff, bool) or not isinstance(cutoff, int) or cutoff < 0 for cutoff in cutoffs):
        raise ArgumentError(f"cutoffs={cutoffs} are not whole numbers of 0 or more.")
    if len(cutoffs) > order:
        raise ArgumentError(
            f"cutoffs={cutoffs} are {len(cutoffs)}, but the model has order {order}: give at most one per order."
        )
    if cutoffs != sorted(cutoffs):
        raise ArgumentError(
            f"cutoffs={cutoffs} decrease: an n-gram that is kept needs its parts, which occur at least as often."
        )
    return cutoffs + cutoffs[-1:] * (order - len(cutoffs))


def interpolate(
    tables: list[CountTable], adjusted: list[numpy.ndarray], kept: list[numpy.ndarray], discounts: list[Discounts]
) -> tuple[list[numpy.ndarray], list[numpy.ndarray]]:
    """(probabilities, back-off weights) of all n-grams by order, float64.

    n-grams that are not kept give their mass to the order below. The probability of `<s>` is 0: nothing predicts it.
    """
    probabilities: list[numpy.ndarray] = []
    weights = [numpy.ones(len(table.count)) for table in tables]
    for at, (table, counts, keep, discount) in enumerate(zip(tables, adjusted, kept, discounts)):
        contexts = len(tables[at - 1].count) if at else 1
        total = numpy.bincount(table.context, counts, contexts)
        taken = numpy.where(keep, discount.take(counts), counts)
        freed = numpy.bincount(table.context, taken, contexts) / numpy.maximum(total, 1)
        if at == 0:
            below = 1 / (keep.sum() - 1)  # of all words with <unk>, without <s>
        else:
            weights[at - 1] = numpy.where(total > 0, freed, 1.0)
            below = probabilities[at - 1][table.suffix]
        probabilities.append((counts - taken) / total[table.context] + freed[table.context] * below)
    probabilities[0][BEGIN_ID] = 0.0
    return probabilities, weights

"""Entropy pruning (Stolcke 1998, Entropy-based Pruning of Backoff Language Models)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from asr.errors import ArgumentError
from asr.text.ngrams.model import IMPOSSIBLE, NgramModel, NgramTable

# If a context leaves less probability than this to the words that it does not list, it is taken for a rounding error.
NOTHING_LEFT = 1e-6


def prune(model: NgramModel, threshold: float, frequencies: Sequence[numpy.ndarray] | None = None) -> NgramModel:
    """The model without the n-grams whose removal, each by itself, changes its perplexity by less than `threshold`.

    threshold: relative, like SRILM's; 1e-8 prunes little, 1e-6 much. frequencies: by order, the probability of each n-gram as a
        context; by default the model's own, which is poor for Kneser-Ney (Chelba et al. 2010), whose low orders are not meant
        for that.

    Unigrams stay, and so do the prefixes and suffixes of longer n-grams that stay, so that backing off always leads somewhere.
    The probabilities of what stays do not change; the back-off weights are computed again, so that each context sums to 1.
    Raises ArgumentError unless the threshold is from 0 to 1.
    """
    if not 0 <= threshold < 1:
        raise ArgumentError(f"threshold={threshold:g} is not a number from 0 to 1, such as 1e-7.")
    frequencies = _own_frequencies(model) if frequencies is None else frequencies
    kept = [numpy.ones(len(table), bool) for table in model.tables]
    needed = numpy.zeros(len(model.tables[-1]), bool)
    for at in range(model.order - 1, 0, -1):
        table, below = model.tables[at], model.tables[at - 1]
        small = _changes(table, below, frequencies[at - 1]) < threshold
        kept[at] = needed | ~small
        needed = numpy.zeros(len(below), bool)
        needed[table.context[kept[at]]] = True
        needed[table.suffix[kept[at]]] = True
    rows_below, tables = numpy.zeros(1, numpy.int64), []
    for at, table in enumerate(model.tables):
        if not kept[at].any():
            break
        tables.append(table.only(kept[at], rows_below))
        rows_below = numpy.cumsum(kept[at]) - 1
        if at:
            lost = numpy.zeros(len(model.tables[at - 1]), bool)
            lost[table.context[~kept[at]]] = True
            tables[at - 1] = _weighted(tables[at - 1], tables[at], lost[kept[at - 1]])
    if len(tables) < model.order:
        # no n-gram of the next order is left
        tables[-1] = _weighted(tables[-1], None, numpy.ones(len(tables[-1]), bool))
    return NgramModel(model.words, tables, model.discounts, model.counted, model.added)


def _left(table: NgramTable, below: NgramTable) -> tuple[numpy.ndarray, numpy.ndarray]:
    """For each context, the probability (its own, that of the order below) left for words that it does not list."""
    own, lower = (10.0 ** log10.astype(numpy.float64) for log10 in (table.log10, below.log10[table.suffix]))
    return 1 - numpy.bincount(table.context, own, len(below)), 1 - numpy.bincount(table.context, lower, len(below))


def _changes(table: NgramTable, below: NgramTable, frequency: numpy.ndarray) -> numpy.ndarray:
    """The relative growth of the model's perplexity without each n-gram; infinite where it cannot be computed."""
    own_left, lower_left = (left[table.context] for left in _left(table, below))
    log_own, log_lower = (
        log10.astype(numpy.float64) * numpy.log(10) for log10 in (table.log10, below.log10[table.suffix])
    )
    own, lower = numpy.exp(log_own), numpy.exp(log_lower)
    sound = (own_left > NOTHING_LEFT) & (lower_left > NOTHING_LEFT) & (table.log10 > IMPOSSIBLE)
    with numpy.errstate(divide="ignore", invalid="ignore", over="ignore"):
        weight = numpy.log(own_left) - numpy.log(lower_left)
        new_weight = numpy.log(own_left + own) - numpy.log(lower_left + lower)
        gained = own * (log_lower + new_weight - log_own) + own_left * (new_weight - weight)
        changes = numpy.expm1(-frequency[table.context] * gained)
    return numpy.where(sound, changes, numpy.inf)


def _weighted(below: NgramTable, table: NgramTable | None, changed: numpy.ndarray) -> NgramTable:
    """`below` with new back-off weights where `changed` (bool) is true, for what is left of the next order."""
    weights = below.backoff.copy()
    if table is None:
        weights[changed] = 0.0
    else:
        own_left, lower_left = (left[changed] for left in _left(table, below))
        weights[changed] = numpy.log10(own_left / lower_left)
        listed = numpy.bincount(table.context, minlength=len(below)) > 0
        weights[changed & ~listed] = 0.0
    return NgramTable(below.context, below.word, below.suffix, below.log10, weights)


def _own_frequencies(model: NgramModel) -> list[numpy.ndarray]:
    """By order, the probability of each n-gram under the model itself; sentences begin as often as they end."""
    logs = model.tables[0].log10.astype(numpy.float64)
    logs[model.begin] = logs[model.end]
    frequencies = [logs]
    for table in model.tables[1:]:
        frequencies.append(frequencies[-1][table.context] + table.log10)
    return [10.0**each for each in frequencies]

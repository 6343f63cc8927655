"""Confidences: the posterior probability of each word, over all sentences that the decoder considered.

P(sentence) ∝ exp(scale · score), and the confidence of a word is the sum over the sentences that have it in the same place, by
the alignment of the two with the fewest edits. F. Wessel, R. Schlüter, K. Macherey, H. Ney, "Confidence measures for large
vocabulary continuous speech recognition" (2001), who also scale the scores, because frames are treated as independent; places
by edits as in H. Xu, D. Povey, L. Mangu, J. Zhu, "Minimum Bayes risk decoding" (2011).
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy
from numpy import ndarray

from asr.inference.decoders import Hypothesis
from asr.scoring.alignment import equal_runs


class Arc(NamedTuple):
    """A word between two states of a lattice. word: None for none. score: natural logarithm."""

    source: int
    target: int
    word: Hashable | None
    score: float


def with_posteriors(hypothesis: Hypothesis, confidences: Sequence[float]) -> Hypothesis:
    """The hypothesis with these confidences of its words."""
    words = hypothesis.words or []
    words = [dataclasses.replace(word, confidence=each) for word, each in zip(words, confidences, strict=True)]
    return dataclasses.replace(hypothesis, words=words)


def nbest_confidences(sentences: Sequence[Sequence[str]], scores: Sequence[float], scale: float) -> list[float]:
    """The posterior probability, 0..1, of each word of the first sentence. scores: natural logarithms; sentences differ.

    Sentences that are not in the list count as impossible, though for a long recording it holds only a few of them all.
    """
    weights = numpy.exp(scale * (numpy.asarray(scores, numpy.float64) - max(scores)))
    found = numpy.zeros(len(sentences[0]))
    runs = equal_runs([sentences[0]] * len(sentences), sentences)
    for equal, weight in zip(runs, (weights / weights.sum()).tolist()):
        for start, _, length in equal:
            found[start : start + length] += weight
    return found.clip(0.0, 1.0).tolist()


def lattice_confidences(
    words: Sequence[Hashable], score: float, arcs: Sequence[Arc], finals: Mapping[int, float], start: int, scale: float
) -> list[float]:
    """The posterior probability, 0..1, of each word of a sentence, over a lattice in which every sentence has one path.

    score: of the sentence; if it is not in the lattice, it is counted in addition. arcs: in any order, without cycles. finals:
    the score of ending in a state. start: the state where all sentences begin. The place of a word in the lattice is taken from
    the sentence through it with the fewest edits; where words repeat, another sentence through it may place it elsewhere.
    """
    order = topological(arcs, start)
    leaving, entering = defaultdict(list), defaultdict(list)
    for arc in arcs:
        leaving[arc.source].append(arc)
        entering[arc.target].append(arc)
    before = {start: 0.0}
    for state in order[1:]:
        before[state] = log_sum([before[arc.source] + scale * arc.score for arc in entering[state]])
    behind: dict[int, float] = {}
    for state in reversed(order):
        ends = [scale * finals[state]] if state in finals else []
        behind[state] = log_sum([*ends, *(scale * arc.score + behind[arc.target] for arc in leaving[state])])
    total, found = behind.get(start, -math.inf), numpy.zeros(len(words))
    if not within(words, leaving, finals, start):
        total = float(numpy.logaddexp(total, scale * score))
        found += math.exp(scale * score - total)
    differs = {word: numpy.array([word != each for each in words], numpy.float64) for word in {a.word for a in arcs}}
    edits = edits_before(words, order, entering, differs)
    left = edits_behind(words, order, leaving, finals, differs)
    places = set(words)
    for arc in arcs:
        if arc.word not in places:
            continue
        source, target = edits[arc.source], left[arc.target]
        fits = source[:-1] + differs[arc.word] + target[1:]
        place = int((fits + differs[arc.word]).argmin())
        if not differs[arc.word][place] and fits[place] <= min(fits.min(), (source + target).min() + 1):
            found[place] += math.exp(before[arc.source] + scale * arc.score + behind[arc.target] - total)
    return found.clip(0.0, 1.0).tolist()


def topological(arcs: Sequence[Arc], start: int) -> list[int]:
    """`start` and all states that arcs lead to, each after all its predecessors."""
    waiting, leaving = defaultdict(int), defaultdict(list)
    for arc in arcs:
        waiting[arc.target] += 1
        leaving[arc.source].append(arc.target)
    order = [start]
    for state in order:
        for target in leaving[state]:
            waiting[target] -= 1
            if not waiting[target]:
                order.append(target)
    return order


def log_sum(values: Sequence[float]) -> float:
    """The logarithm of the sum of exponentials; -inf for no values."""
    most = max(values, default=-math.inf)
    return most if most == -math.inf else most + math.log(sum(math.exp(value - most) for value in values))


def within(
    words: Sequence[Hashable], leaving: Mapping[int, list[Arc]], finals: Mapping[int, float], start: int
) -> bool:
    """Whether the sentence is in the lattice."""
    states = {start}
    for word in words:
        states = {arc.target for state in states for arc in leaving[state] if arc.word == word}
    return any(state in finals for state in states)


def edits_before(
    words: Sequence[Hashable], order: list[int], entering: Mapping[int, list[Arc]], differs: Mapping[Hashable, ndarray]
) -> dict[int, ndarray]:
    """For each state, float64 (words + 1,): the fewest edits between a path to it and the sentence's first 0, 1, … words."""
    counts = numpy.arange(len(words) + 1.0)
    found = {order[0]: counts}
    for state in order[1:]:
        row = numpy.full(len(words) + 1, math.inf)
        for arc in entering[state]:
            source = found[arc.source]
            numpy.minimum(row, source + 1, out=row)
            numpy.minimum(row[1:], source[:-1] + differs[arc.word], out=row[1:])
        found[state] = numpy.minimum.accumulate(row - counts) + counts
    return found


def edits_behind(
    words: Sequence[Hashable],
    order: list[int],
    leaving: Mapping[int, list[Arc]],
    finals: Mapping[int, float],
    differs: Mapping[Hashable, ndarray],
) -> dict[int, ndarray]:
    """For each state, float64 (words + 1,): the fewest edits between a path from it to an end and the words after the first
    0, 1, …"""
    counts = numpy.arange(len(words) + 1.0)
    found: dict[int, ndarray] = {}
    for state in reversed(order):
        row = counts[::-1].copy() if state in finals else numpy.full(len(words) + 1, math.inf)
        for arc in leaving[state]:
            target = found[arc.target]
            numpy.minimum(row, target + 1, out=row)
            numpy.minimum(row[:-1], target[1:] + differs[arc.word], out=row[:-1])
        found[state] = (numpy.minimum.accumulate((row + counts)[::-1])[::-1]) - counts
    return found

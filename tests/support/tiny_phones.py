"""Three phones, one of them silence, and sentences of two words: small enough to write out every path."""

from __future__ import annotations

import itertools
import math

import torch

from asr.text.phones.counts import expected_counts
from asr.text.phones.estimation import Shape, estimate
from asr.text.phones.slots import with_silences

UNITS, SILENCE = 4, 3
WORDS = [
    ((0.7, (1, 2)), (0.3, (1,))),
    ((1.0, (2,)),),
    ((0.5, (2, 1)), (0.5, (2, 2))),
]
SENTENCES = [
    with_silences([WORDS[word] for word in words], SILENCE)
    for words in ([0], [1], [0, 1], [2, 0], [1, 1], [2, 2, 1], [0, 0])
]
# the same sequences in several ways: 1 2 2 by two cuts, silence by two slots
AMBIGUOUS = [
    ((0.5, (1, 2)), (0.5, (1,))), ((0.5, (2,)), (0.5, (2, 2))), ((0.5, ()), (0.5, (3,))), ((0.5, (3,)), (0.5, ())),
]  # fmt: skip
SHAPES = [Shape(2, 2, 0), Shape(3, 3, 0), Shape(4, 3, 3), Shape(4, 3, 999)]


def model(shape=SHAPES[1], sentences=SENTENCES):
    return estimate(expected_counts(sentences, UNITS, shape.order), shape)


def readings(slots) -> dict[tuple[int, ...], float]:
    """Every phone sequence of slots with its probability."""
    found = {(): 1.0}
    for slot in slots:
        longer: dict[tuple[int, ...], float] = {}
        for before, likely in found.items():
            for probability, phones in slot:
                longer[before + phones] = longer.get(before + phones, 0.0) + likely * probability
        found = longer
    return found


def outputs_of(name: str, left: int, phone: int) -> tuple[int, int]:
    """(the output of the first frame, that of the others) by the definitions, for the topologies without a blank."""
    return {
        "chain": (2 * (phone - 1), 2 * (phone - 1) + 1),
        "one": (phone - 1, phone - 1),
        "left": (2 * ((phone - 1) * UNITS + left), 2 * ((phone - 1) * UNITS + left) + 1),
    }[name]


def durations(phones, frames):
    """Every way to give each phone at least one of the frames, as the frames where they begin and the end."""
    for cut in itertools.combinations(range(1, frames), len(phones) - 1):
        yield (0, *cut, frames)


def written_out(emissions: torch.Tensor, name: str, lm, language=None) -> torch.Tensor:
    """The logarithm of the weight of all paths: over all phone sequences (of a language) and all durations."""
    frames, terms = len(emissions), []
    for count in range(1, frames + 1):
        for phones in itertools.product(range(1, UNITS), repeat=count):
            weight = lm.log_probability(phones) if language is None or phones in language else -math.inf
            if weight == -math.inf:
                continue
            outputs = [outputs_of(name, left, phone) for left, phone in zip((0, *phones), phones)]
            for begins in durations(phones, frames):
                path = [
                    outputs[place][0 if frame == begins[place] else 1]
                    for place in range(count)
                    for frame in range(begins[place], begins[place + 1])
                ]
                terms.append(weight + emissions[torch.arange(frames), path].sum())
    return torch.stack(terms).logsumexp(0) if terms else torch.tensor(-math.inf)

"""Expected n-gram counts over all readings of sentences: nothing is sampled, and thousands of sentences are counted at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from asr.errors import UserError
from asr.text.phones.slots import Slot

# sentences side by side: enough that numpy's own loops take the time, few enough for the cache
TOGETHER = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
    """How often a phone follows a history, or the end does.

    A history is the `order - 1` units before, written as digits in base `units`; 0 is the place before a sentence. What follows
    is one more digit, 0 for the end.

    ngrams: (n,) int64, sorted, histories × units + what follows. expected: (n,) float64.
    """

    units: int
    order: int
    ngrams: np.ndarray
    expected: np.ndarray

    def pairs(self) -> np.ndarray:
        """(units, units) float64: how often the second phone follows the first, 0 as the first being the start."""
        left, phone = self.ngrams // self.units % self.units, self.ngrams % self.units
        table = np.bincount(left * self.units + phone, self.expected, self.units**2).reshape(self.units, self.units)
        table[:, 0] = 0
        return table


def expected_counts(sentences: Iterable[Sequence[Slot]], units: int, order: int) -> Counts:
    """Counts every n-gram of every reading, weighted by the reading's probability.

    units: how many, the blank (0) included, which no slot holds. Raises UserError for sentences without any phone.
    """
    base = units ** (order - 1)
    if base > 2**62 // units:
        raise UserError(f"An n-gram of order {order} over {units} units is too large: use a lower loss.order.")
    ids, kinds = numbered(sentences)
    if not kinds or not any(phones for kind in kinds for _, phones in kind):
        raise UserError(
            "loss=lfmmi needs phones to estimate a language model from, and the training transcripts have none. Check the corpus."
        )
    inventory = Inventory(kinds)
    longest_first = sorted(range(len(ids)), key=lambda index: -len(ids[index]))
    found = [
        count_together([ids[index] for index in longest_first[first : first + TOGETHER]], inventory, units, base)
        for first in range(0, len(ids), TOGETHER)
    ]
    ngrams, expected = summed(np.concatenate([keys for keys, _ in found]), np.concatenate([mass for _, mass in found]))
    return Counts(units, order, ngrams, expected)


def numbered(sentences: Iterable[Sequence[Slot]]) -> tuple[list[list[int]], list[Slot]]:
    """(of each sentence the numbers of its slots, the different slots)."""
    kinds: dict[Slot, int] = {}
    ids = [[kinds.setdefault(slot, len(kinds)) for slot in slots] for slots in sentences]
    return ids, list(kinds)


class Inventory:
    """The different slots as flat arrays.

    first, many: (slots,) int64, where a slot's alternatives begin and how many it has. probability, start, length:
    (alternatives,), where their phones begin. phones: (all phones,) int64.
    """

    def __init__(self, kinds: Sequence[Slot]):
        alternatives = [alternative for kind in kinds for alternative in kind]
        self.many = np.array([len(kind) for kind in kinds])
        self.first = np.cumsum(self.many) - self.many
        self.probability = np.array([probability for probability, _ in alternatives])
        self.length = np.array([len(phones) for _, phones in alternatives])
        self.start = np.cumsum(self.length) - self.length
        self.phones = np.array([phone for _, phones in alternatives for phone in phones], dtype=np.int64)


def count_together(ids: list[list[int]], inventory: Inventory, units: int, base: int) -> tuple[np.ndarray, np.ndarray]:
    """(n-grams, expected counts) of some sentences, the longest first: one slot of all of them at a time.

    A reading so far is (sentence, its last phones, its probability); those that agree in the first two become one.
    """
    lengths = np.array([len(slots) for slots in ids])
    table = np.zeros((len(ids), int(lengths[0])), dtype=np.int64)
    for row, slots in enumerate(ids):
        table[row, : len(slots)] = slots
    sentence, history, mass = np.arange(len(ids)), np.zeros(len(ids), dtype=np.int64), np.ones(len(ids))
    ngrams, expected = [], []
    for place in range(table.shape[1]):
        # sentences that are over lie at the end
        over = np.searchsorted(sentence, np.searchsorted(-lengths, -place, side="left"))
        ngrams.append(history[over:] * units)
        expected.append(mass[over:])
        sentence, history, mass = sentence[:over], history[:over], mass[:over]
        slot = table[sentence, place]
        many = inventory.many[slot]
        reading = np.repeat(np.arange(len(slot)), many)
        alternative = np.arange(len(reading)) - np.repeat(np.cumsum(many) - many - inventory.first[slot], many)
        sentence, history = sentence[reading], history[reading]
        mass = mass[reading] * inventory.probability[alternative]
        length, start = inventory.length[alternative], inventory.start[alternative]
        for number in range(int(length.max(initial=0))):
            longer = np.flatnonzero(length > number)
            ngram = history[longer] * units + inventory.phones[start[longer] + number]
            ngrams.append(ngram)
            expected.append(mass[longer])
            history[longer] = ngram % base
        both, mass = summed(sentence * base + history, mass)
        sentence, history = both // base, both % base
    ngrams.append(history * units)
    expected.append(mass)
    return summed(np.concatenate(ngrams), np.concatenate(expected))


def summed(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the different keys, sorted; of each the sum of its values)."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1)) if len(keys) else np.zeros(0, dtype=np.int64)
    return keys[starts], np.add.reduceat(values[order], starts) if len(keys) else values

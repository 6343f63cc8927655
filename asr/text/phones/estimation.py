"""From expected counts to a phone language model (Povey et al. 2016, section 3.1, without its sampling)."""

from __future__ import annotations

import dataclasses

import numpy as np

from asr.errors import UserError
from asr.text.phones.counts import Counts, summed
from asr.text.phones.model import PhoneLm

# gains that are equal but for rounding must not choose by it
DECIMALS = 9


@dataclasses.dataclass(frozen=True)
class Shape:
    """Which histories a model has: all of fewer than `keep` phones, and of the longer ones the `extra` most useful.

    order: no history has more than order - 1 phones. The place before a sentence counts as a phone.
    """

    order: int = 4
    keep: int = 3
    extra: int = 2000

    def __post_init__(self):
        if self.order not in (2, 3, 4):
            raise UserError(f"loss.order={self.order!r} must be 2, 3 or 4.")
        if not isinstance(self.keep, int) or not 2 <= self.keep <= self.order:
            raise UserError(f"loss.keep={self.keep!r} must be a whole number from 2 to loss.order={self.order}.")
        if not isinstance(self.extra, int) or self.extra < 0:
            raise UserError(f"loss.extra={self.extra!r} must be a whole number, at least 0.")


def estimate(counts: Counts, shape: Shape, topology: str = "any", contexts: tuple[str, ...] | None = None) -> PhoneLm:
    """The most likely model of a shape: every n-gram counts for the longest history that is a state.

    There is no smoothing and no back-off. counts: of the shape's order. topology, contexts: what it is for,
    see `PhoneLm`.
    """
    tables = by_length(counts)
    histories = Histories(chosen(tables, counts.units, shape), counts.units, shape.order)
    full = counts.ngrams // counts.units
    own = histories.state(full, true_length(full, counts.units, shape.order))
    ngrams, expected = summed(own * counts.units + counts.ngrams % counts.units, counts.expected)
    # a state that only unseen phones reach has all counts of its ending
    lacking = np.setdiff1d(np.arange(histories.states), np.unique(ngrams // counts.units))
    for length, (keys, mass) in tables.items():
        state = histories.state(keys // counts.units, np.full(len(keys), length), exactly=True)
        idle = np.isin(state, lacking)
        ngrams = np.concatenate([ngrams, state[idle] * counts.units + keys[idle] % counts.units])
        expected = np.concatenate([expected, mass[idle]])
    return dataclasses.replace(
        connected(histories.model(*summed(ngrams, expected))), topology=topology, contexts=contexts
    )


def by_length(counts: Counts) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """By length of history: (n-grams whose history is the last so many phones, expected counts)."""
    history, follows = counts.ngrams // counts.units, counts.ngrams % counts.units
    lengths = true_length(history, counts.units, counts.order)
    tables = {}
    for length in range(1, counts.order):
        long = lengths >= length
        keys = history[long] % counts.units**length * counts.units + follows[long]
        tables[length] = summed(keys, counts.expected[long])
    return tables


def true_length(history: np.ndarray, units: int, order: int) -> np.ndarray:
    """The phones of histories written with order - 1 digits, the place before a sentence being one."""
    phones = sum((history >= units**power).astype(np.int64) for power in range(order - 1))
    return np.minimum(phones + 1, order - 1)


def chosen(tables: dict, units: int, shape: Shape) -> dict[int, np.ndarray]:
    """By length the histories that become states, sorted."""
    kept = {length: np.unique(keys // units) for length, (keys, _) in tables.items()}
    candidates = []
    for length in range(shape.keep, shape.order):
        gain = gains(tables[length], tables[length - 1], units, length)
        candidates += [(-gain, length, code) for code, gain in zip(kept[length].tolist(), gain.tolist())]
    best = sorted(candidates)[: shape.extra]
    for length in reversed(range(shape.keep, shape.order)):
        extra = [code for _, its, code in best if its == length]
        # a history of a state needs its own endings
        longer = kept[length + 1] % units**length if length + 1 < shape.order else []
        kept[length] = np.unique(np.array([*extra, *longer], dtype=np.int64))
    return kept


def gains(table: tuple, shorter: tuple, units: int, length: int) -> np.ndarray:
    """(histories,) by how much the log-likelihood of the counts rises if a history is told apart from its ending."""
    (keys, mass), (short_keys, short_mass) = table, shorter
    history, which = np.unique(keys // units, return_inverse=True)
    short, short_which = np.unique(short_keys // units, return_inverse=True)
    total, short_total = np.bincount(which, mass), np.bincount(short_which, short_mass)
    ending = history[which] % units ** (length - 1)
    there = short_mass[np.searchsorted(short_keys, ending * units + keys % units)]
    ratio = mass / total[which] / (there / short_total[np.searchsorted(short, ending)])
    return np.round(np.bincount(which, mass * np.log(ratio)), DECIMALS)


class Histories:
    """The histories that are states, numbered by length and then by their digits; state 0 is the place before a sentence."""

    def __init__(self, kept: dict[int, np.ndarray], units: int, order: int):
        self.kept, self.units, self.order = kept, units, order
        sizes = np.array([len(codes) for codes in kept.values()])
        self.offset = dict(zip(kept, (np.cumsum(sizes) - sizes).tolist()))
        self.states = int(sizes.sum())

    def state(self, code: np.ndarray, length: np.ndarray, exactly: bool = False) -> np.ndarray:
        """The state of the longest kept ending of histories; -1 where there is none. exactly: of the histories themselves."""
        state = np.full(len(code), -1)
        for size, codes in self.kept.items():
            ending = code % self.units**size
            place = np.searchsorted(codes, ending)
            here = (length == size if exactly else length >= size) & (place < len(codes))
            here[here] = codes[place[here]] == ending[here]
            state[here] = self.offset[size] + place[here]
        return state

    def model(self, ngrams: np.ndarray, expected: np.ndarray) -> PhoneLm:
        """ngrams: states × units + what follows, 0 for the end. expected: their counts."""
        units = self.units
        source, follows = ngrams // units, ngrams % units
        weights = np.log(expected / np.bincount(source, expected, self.states)[source])
        ends = np.full(self.states, -np.inf)
        ends[source[follows == 0]] = weights[follows == 0]
        code = np.concatenate(list(self.kept.values()))
        length = np.repeat(list(self.kept), [len(codes) for codes in self.kept.values()])
        inner = follows > 0
        source, follows = source[inner], follows[inner]
        after = self.state(code[source] * units + follows, np.minimum(length[source] + 1, self.order - 1))
        histories = tuple(
            tuple(int(one) // units**power % units for power in reversed(range(size)))
            for one, size in zip(code.tolist(), length.tolist())
        )
        return PhoneLm(units, self.order, "any", histories, source, follows, after, weights[inner], ends)


def connected(lm: PhoneLm) -> PhoneLm:
    """Without the states that neither sentences nor unseen phones come through: the latter lead to histories of one phone."""
    found = lm.reached() | np.array([len(history) == 1 for history in lm.histories])
    while True:
        following = np.unique(lm.targets[found[lm.sources]])
        if found[following].all():
            break
        found[following] = True
    number = np.cumsum(found) - 1
    kept = found[lm.sources]
    return dataclasses.replace(
        lm,
        histories=tuple(history for history, there in zip(lm.histories, found) if there),
        sources=number[lm.sources[kept]],
        phones=lm.phones[kept],
        targets=number[lm.targets[kept]],
        weights=lm.weights[kept],
        ends=lm.ends[found],
    )

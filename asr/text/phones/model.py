"""A phone language model: a deterministic automaton without back-off, whose states remember their last phones."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

# what a history holds for the place before a sentence; the blank's number, which is no phone
START = 0
# the logarithm of what an n-gram costs that the training split does not have
UNSEEN = math.log(1e-4)


@dataclasses.dataclass(frozen=True, eq=False)
class PhoneLm:
    """P(phone | history) and P(end | history), natural logarithms; those of a state sum to 1.

    units: how many, the blank (0) included. order: a history has at most order - 1 phones. histories: of each state its last
    phones; that of state 0, before a sentence, is (START,). After a phone comes the longest history that is a state and that
    the phones so far end in. topology: what it is for, by the label of a topology (`asr.model.topologies`). sources, phones,
    targets: (arcs,) int64, sorted by state and phone. weights: (arcs,) and ends: (states,) float64. contexts: which pairs of
    phones have outputs of their own, as topologies have it; None where that does not matter, or all do.
    """

    units: int
    order: int
    topology: str
    histories: tuple[tuple[int, ...], ...]
    sources: np.ndarray
    phones: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    ends: np.ndarray
    contexts: tuple[str, ...] | None = None

    @functools.cached_property
    def states(self) -> dict[tuple[int, ...], int]:
        return {history: state for state, history in enumerate(self.histories)}

    @functools.cached_property
    def arcs(self) -> dict[int, tuple[int, float]]:
        """(next state, logarithm) by state × units + phone: a single look-up in loops over many."""
        keys = (self.sources * self.units + self.phones).tolist()
        return dict(zip(keys, zip(self.targets.tolist(), self.weights.tolist())))

    def after(self, state: int, phone: int) -> int | None:
        """The state after a phone, whether it was seen there or not; None if the phone was never seen anywhere."""
        history = (*self.histories[state], phone)[-(self.order - 1) :]
        return next((self.states[history[cut:]] for cut in range(len(history)) if history[cut:] in self.states), None)

    def log_probability(self, phones) -> float:
        """Of a whole sentence; -inf for what the model has no path for."""
        state, total = 0, 0.0
        for phone in phones:
            if state * self.units + phone not in self.arcs:
                return -math.inf
            state, weight = self.arcs[state * self.units + phone]
            total += weight
        return total + float(self.ends[state])

    def reached(self) -> np.ndarray:
        """(states,) bool: those that sentences of the model come through."""
        found = np.zeros(len(self.histories), dtype=bool)
        found[0], level = True, np.array([0])
        while len(level):
            following = np.unique(self.targets[np.isin(self.sources, level)])
            level = following[~found[following]]
            found[level] = True
        return found


def uniform(units: int) -> PhoneLm:
    """Every phone, and the end, equally likely after every other."""
    states, phones = np.arange(units), np.arange(1, units)
    weight = -math.log(units)
    return PhoneLm(
        units=units,
        order=2,
        topology="any",
        histories=((START,), *((phone,) for phone in phones.tolist())),
        sources=np.repeat(states, units - 1),
        phones=np.tile(phones, units),
        targets=np.tile(phones, units),
        weights=np.full(units * (units - 1), weight),
        ends=np.full(units, weight),
    )

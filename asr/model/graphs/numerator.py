"""The numerator of LF-MMI: all readings of one utterance, each once, with the denominator's weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from asr.model.graphs.graph import Graph, PhoneGraph
from asr.model.topologies.base import Topology
from asr.text.phones.model import UNSEEN, PhoneLm
from asr.text.phones.slots import Slot


class NumeratorBuilder:
    """Slots of an utterance → its graph. Picklable, so that a data loader's own processes build them.

    Every phone sequence that the slots allow is there once, whatever number of ways lead to it, and weighs what the phone
    language model says: the probabilities of the slots are in that already.
    """

    def __init__(self, lm: PhoneLm, topology: Topology):
        self.lm, self.topology = lm, topology

    def __call__(self, slots: Sequence[Slot]) -> Graph | None:
        """The frame-level graph; None where the slots allow no phone at all."""
        phones = numerator(slots, self.lm, self.topology.by_context)
        if phones is None:
            phones = numerator(slots, self.lm, self.topology.by_context, UNSEEN)
        return None if phones is None else self.topology.spell(phones)

    def unseen(self, slots: Sequence[Slot]) -> bool:
        """Whether the language model has no path for the utterance, so that what it has not seen costs `UNSEEN`."""
        return numerator(slots, self.lm, self.topology.by_context) is None


def numerator(
    slots: Sequence[Slot], lm: PhoneLm, by_context: bool = False, unseen: float | None = None
) -> PhoneGraph | None:
    """The graph of phones; None if it holds no sentence of at least one phone.

    by_context: whether states also remember the phone before theirs where the model's history is too short to do so.
    unseen: the logarithm of what an n-gram costs that the model lacks; None: there is no such path.
    """
    composed = compose(Readings(slots), lm, by_context, unseen)
    if composed is None or not any(weight > -np.inf for weight in composed.final):
        return None
    return trimmed(composed.graph())


class Readings:
    """The phone sequences of slots as a deterministic automaton, built as it is walked (subset construction).

    A place is before a phone of an alternative of a slot, or the end, `self.end`. A state is the sorted tuple of the places that
    a phone sequence may have led to.
    """

    def __init__(self, slots: Sequence[Slot]):
        self.phone: list[int] = []
        self.following: list[tuple[int, ...]] = []
        # from the last slot to the first, so that what follows a slot is known
        self.end = sum(len(phones) for slot in slots for _, phones in slot)
        ahead: tuple[int, ...] = (self.end,)
        for slot in reversed(slots):
            before: list[int] = []
            for probability, phones in slot:
                if probability <= 0:
                    continue
                if not phones:
                    before += ahead
                    continue
                place = len(self.phone)
                before.append(place)
                self.phone += phones
                self.following += [(number,) for number in range(place + 1, place + len(phones))]
                self.following.append(ahead)
            ahead = tuple(sorted(set(before))) if len(before) > 1 else tuple(before)
        self.start = ahead
        self.numbers: dict[tuple[int, ...], int] = {self.start: 0}
        self.states = [self.start]
        self._moves: dict[int, list[tuple[int, int]]] = {}

    def moves(self, state: int) -> list[tuple[int, int]]:
        """(phone, next state) of everything that may follow, by phone."""
        if state not in self._moves:
            by_phone: dict[int, tuple[int, ...]] = {}
            for place in self.states[state]:
                if place != self.end:
                    phone, following = self.phone[place], self.following[place]
                    by_phone[phone] = by_phone[phone] + following if phone in by_phone else following
            self._moves[state] = [(phone, self._number(places)) for phone, places in sorted(by_phone.items())]
        return self._moves[state]

    def _number(self, places: tuple[int, ...]) -> int:
        if len(places) > 1:
            places = tuple(sorted(set(places)))
        number = self.numbers.setdefault(places, len(self.states))
        if number == len(self.states):
            self.states.append(places)
        return number

    def ends(self, state: int) -> bool:
        return self.states[state][-1:] == (self.end,)


@dataclasses.dataclass
class Composed:
    """States and arcs as they were found, as plain lists; see `PhoneGraph`."""

    phones: list[int] = dataclasses.field(default_factory=list)
    left: list[int] = dataclasses.field(default_factory=list)
    start: list[float] = dataclasses.field(default_factory=list)
    final: list[float] = dataclasses.field(default_factory=list)
    sources: list[int] = dataclasses.field(default_factory=list)
    targets: list[int] = dataclasses.field(default_factory=list)
    weights: list[float] = dataclasses.field(default_factory=list)

    def graph(self) -> PhoneGraph:
        kinds = {"start": float, "final": float, "weights": float}
        return PhoneGraph(**{name: np.array(it, dtype=kinds.get(name, np.int64)) for name, it in vars(self).items()})


def compose(readings: Readings, lm: PhoneLm, by_context: bool, unseen: float | None) -> Composed | None:
    """Readings × language model, breadth first from the start."""
    out, arcs, units, states = Composed(), lm.arcs, lm.units, len(lm.histories)
    found: dict[int, int] = {}
    # (reading, state of the model, phone that led there), of the start and then of each state
    queue = [(0, 0, 0)]
    for number, (reading, history, last) in enumerate(queue):
        for phone, following in readings.moves(reading):
            arc = arcs.get(history * units + phone)
            if arc is None:
                if unseen is None or (after := lm.after(history, phone)) is None:
                    continue
                arc = (after, unseen)
            key = following * states + arc[0]
            if by_context:
                key = key * units + last
            target = found.get(key)
            if target is None:
                target = found[key] = len(found)
                queue.append((following, arc[0], phone))
                out.phones.append(phone)
                out.left.append(last)
                out.start.append(-np.inf)
                end = float(lm.ends[arc[0]]) if readings.ends(following) else -np.inf
                out.final.append(unseen if unseen is not None and end == -np.inf and readings.ends(following) else end)
            if number == 0:
                out.start[target] = arc[1]
            else:
                out.sources.append(number - 1)
                out.targets.append(target)
                out.weights.append(arc[1])
    return out if out.phones else None


def trimmed(graph: PhoneGraph) -> PhoneGraph:
    """Without the states that lead to no end."""
    leading = np.isfinite(graph.final)
    if (leading | (np.bincount(graph.sources, minlength=graph.states) > 0)).all():
        return graph
    while True:
        more = graph.sources[leading[graph.targets]]
        if leading[more].all():
            break
        leading[more] = True
    number, kept = np.cumsum(leading) - 1, leading[graph.sources] & leading[graph.targets]
    return PhoneGraph(
        phones=graph.phones[leading],
        left=graph.left[leading],
        start=graph.start[leading],
        final=graph.final[leading],
        sources=number[graph.sources[kept]],
        targets=number[graph.targets[kept]],
        weights=graph.weights[kept],
    )

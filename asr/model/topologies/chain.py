"""Kaldi's chain topology (Povey et al. 2016, "Purely sequence-trained neural networks for ASR based on lattice-free MMI")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from asr.errors import UserError
from asr.model.graphs.best_path import Run
from asr.model.graphs.graph import Graph, PhoneGraph
from asr.model.topologies.base import Topology

CONTEXTS = ("none", "left")
MOST_UNITS = 500


class Chain(Topology):
    """Two outputs a phone: one on its first frame, one on all others. A phone lasts a frame at least, and there is no blank.

    The transition probabilities, 0.5 a frame, are the same on all paths and left out.

    context: "none", or "left" for outputs by the phone and the one before it (left biphones). min_count: pairs with a smaller
    expected count in the training split share the outputs of their phone. contexts: one string a phone, the phones before it
    that have outputs of their own, as numbers (0: nothing before it); None: all of them.
    """

    name = "chain"
    pdfs: ClassVar[int] = 2

    def __init__(
        self, units: int, context: str = "none", min_count: float = 0.0, contexts: Sequence[str] | None = None
    ):
        if context not in CONTEXTS:
            raise UserError(f"topology.context={context!r}: one of {', '.join(CONTEXTS)}.")
        if not isinstance(min_count, (int, float)) or min_count < 0:
            raise UserError(f"topology.min_count={min_count!r} must be a number, at least 0.")
        self.by_context = context == "left"
        if self.by_context and units > MOST_UNITS:
            raise UserError(
                f"topology.context=left is for phones: {units} units have {units**2:,} pairs, too many outputs. "
                "Use topology.context=none."
            )
        self.table = (
            classes(units, contexts) if self.by_context else np.broadcast_to(np.arange(units) - 1, (units, units))
        )
        self.outputs = self.pdfs * (int(self.table.max()) + 1)

    @staticmethod
    def contexts_of(settings: Mapping[str, Any], pairs: np.ndarray) -> tuple[str, ...] | None:
        """The setting `contexts` by `min_count`; None for all of them. pairs: (units, units) expected counts."""
        if settings.get("context") != "left" or not settings.get("min_count"):
            return None
        frequent = pairs >= settings["min_count"]
        return tuple(" ".join(map(str, np.flatnonzero(column).tolist())) for column in frequent.T[1:])

    def spell(self, graph: PhoneGraph) -> Graph:
        """See `Topology.spell`."""
        place = self.table[graph.left, graph.phones]
        return Graph(
            first=self.pdfs * place,
            loop=self.pdfs * place + self.pdfs - 1,
            begins=graph.phones,
            start=graph.start,
            final=graph.final,
            sources=graph.sources,
            targets=graph.targets,
            weights=graph.weights,
        )

    @property
    def columns(self) -> np.ndarray:
        """Labels come in pairs, of a first frame and of others, also where both have the same output."""
        return np.arange(2 * (self.outputs // self.pdfs)) * self.pdfs // 2

    def transducer(self, marks: int) -> Iterator[str]:
        """See `Topology.transducer`. State 0 is the start; without contexts state n is unit n, with them unit n after unit m
        is state n + units × m.
        """
        units = len(self.table)
        for left in range(units if self.by_context else 1):
            for unit in range(1 if left else 0, units):
                state = left * units + unit
                if unit:
                    yield f"{state} {state} {2 * self.table[left, unit] + 2} 0"
                for following in range(1, units):
                    target = unit * units + following if self.by_context else following
                    yield f"{state} {target} {2 * self.table[unit, following] + 1} {following + 1}"
                for mark in range(marks):
                    yield f"{state} {state} 0 {units + 1 + mark}"
                yield f"{state}"

    def units_of(self, labels: Sequence[int]) -> list[Run]:
        """See `Topology.units_of`: a unit begins at each label of a first frame."""
        classes = (np.asarray(labels) - 1) // 2
        starts = np.flatnonzero(np.asarray(labels) % 2 == 1)
        ends = np.append(starts[1:], len(classes))
        phones = self.phones_of_classes
        return [Run(*run) for run in zip(phones[classes[starts]].tolist(), starts.tolist(), ends.tolist())]

    @property
    def phones_of_classes(self) -> np.ndarray:
        """(classes,) int64: the unit of each class of outputs."""
        phones = np.zeros(int(self.table.max()) + 1, dtype=np.int64)
        for phone in range(1, len(self.table)):
            phones[self.table[:, phone]] = phone
        return phones

    def outputs_of(self, unit: int) -> list[int]:
        """See `Topology.outputs_of`: in all of its contexts."""
        return [self.pdfs * one + pdf for one in np.unique(self.table[:, unit]).tolist() for pdf in range(self.pdfs)]

    def required_frames(self, labels: Sequence[int]) -> int:
        """One frame for each phone; equal neighbours need nothing between them."""
        return len(labels)


def classes(units: int, contexts: Sequence[str] | None) -> np.ndarray:
    """(units, units) int64: which class of outputs a phone (second) has after another (first; 0: nothing).

    A phone's pairs outside of `contexts` share one class. Raises UserError for contexts that do not fit the units.
    """
    table, count = np.zeros((units, units), dtype=np.int64), 0
    if contexts is not None and len(contexts) != units - 1:
        raise UserError(
            f"topology.contexts has {len(contexts)} entries for {units - 1} phones: the file was changed. "
            "Take it from the run again."
        )
    for phone in range(1, units):
        own = list(range(units)) if contexts is None else [int(left) for left in contexts[phone - 1].split()]
        if not set(own) <= set(range(units)):
            raise UserError(
                f"topology.contexts names phones that there are not, before phone {phone}: the file was changed. "
                "Take it from the run again."
            )
        if len(own) < units:
            table[:, phone], count = count, count + 1
        table[own, phone] = np.arange(count, count + len(own))
        count += len(own)
    return table

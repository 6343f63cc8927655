"""The base class of all topologies."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from asr.model.graphs.best_path import Run
from asr.model.graphs.graph import Graph, PhoneGraph


class Topology(abc.ABC):
    """How a sequence of phones becomes a sequence of outputs, one output a frame.

    A subclass takes `units` (how many, the blank at 0 included) and its own settings, those of `conf/topology/<name>.yaml`.

    outputs: how many outputs the model has. has_blank: whether output 0 is a blank, as in CTC. by_context: whether a phone's
    outputs depend on the phone before it.
    """

    name: ClassVar[str]
    has_blank: ClassVar[bool] = False
    by_context: bool = False
    outputs: int

    @property
    def label(self) -> str:
        """What a phone language model is for: the name, and "left" if outputs go by the phone before."""
        return f"{self.name}-left" if self.by_context else self.name

    @abc.abstractmethod
    def spell(self, graph: PhoneGraph) -> Graph:
        """The frame-level graph of a graph of phones: the same sequences with the same weights, spelled in outputs."""

    @property
    def columns(self) -> np.ndarray:
        """Which output each label of `transducer` reads, from label 1 on."""
        return np.arange(self.outputs)

    @abc.abstractmethod
    def transducer(self, marks: int) -> Iterator[str]:
        """H of a search graph H∘L∘G, from frames to units, as lines of text for kaldifst.

        A unit's label is its index + 1, and it is written when it begins. marks: how many disambiguation symbols there are; their
        labels follow those of units, and H reads nothing where the lexicon has one, so that they vanish.
        """

    @abc.abstractmethod
    def units_of(self, labels: Sequence[int]) -> list[Run]:
        """The units of a path, from the labels of `transducer` that it reads, one a frame."""

    @abc.abstractmethod
    def outputs_of(self, unit: int) -> list[int]:
        """All outputs of a unit."""

    def quiet(self, silence: int | None) -> list[int]:
        """The outputs that say that nobody speaks: the blank, or those of silence. silence: its unit, if there is one."""
        return [0] if self.has_blank else [] if silence is None else self.outputs_of(silence)

    @abc.abstractmethod
    def required_frames(self, labels: Sequence[int]) -> int:
        """The fewest frames that can hold these units."""

"""The base class of all topologies."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

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

    @abc.abstractmethod
    def required_frames(self, labels: Sequence[int]) -> int:
        """The fewest frames that can hold these units."""

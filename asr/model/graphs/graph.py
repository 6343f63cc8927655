"""Weighted graphs in state-emission form: what is emitted belongs to a state, never to an arc.

All arcs into a state share the output of its first frame, so a frame of the forward recursion is one product with the matrix
of arcs, and one with the outputs. There are no epsilon arcs and no start state; self-loops are implied.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Arcs:
    """start, final: (states,) float64, the logarithm of the weight of beginning and of ending there; -inf where it cannot be.

    sources, targets: (arcs,) int64 states. weights: (arcs,) float64 logarithms.
    """

    start: np.ndarray
    final: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    @property
    def states(self) -> int:
        return len(self.start)


@dataclasses.dataclass(frozen=True, eq=False)
class PhoneGraph(Arcs):
    """Sequences of phones. A state stands for the phone that was begun last.

    phones: (states,) int64 units. left: (states,) int64 the unit before it, 0 where there is none.
    """

    phones: np.ndarray
    left: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Graph(Arcs):
    """Sequences of outputs, one a frame.

    first: (states,) int64 output of the frame that enters a state. loop: (states,) int64 output of all further frames in it.
    begins: (states,) int64 unit that begins where a state is entered, 0 for none.
    """

    first: np.ndarray
    loop: np.ndarray
    begins: np.ndarray


def fewest_frames(graph: Arcs) -> int | None:
    """The states on the shortest path from a start to an end, which is the fewest frames it takes; None if there is no path."""
    reached, ends = np.isfinite(graph.start), np.isfinite(graph.final)
    level, frames = reached, 1
    while level.any():
        if (level & ends).any():
            return frames
        following = np.zeros_like(reached)
        following[graph.targets[level[graph.sources]]] = True
        level = following & ~reached
        reached, frames = reached | level, frames + 1
    return None

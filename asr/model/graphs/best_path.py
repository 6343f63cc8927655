"""The best path through a graph (Viterbi), for one utterance at a time: exact, without a beam."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asr.model.graphs.graph import Graph


class Run(NamedTuple):
    """A unit of a path, with the frame that begins it and the one before which the path leaves it."""

    unit: int
    start: int
    end: int


class BestPath:
    """Finds the path whose emissions and weights add up to most."""

    def __init__(self, graph: Graph, weight: float = 1.0):
        """weight: that the graph's logarithms are multiplied by."""
        self.graph = graph
        order = np.argsort(graph.targets, kind="stable")
        self.sources, targets = graph.sources[order], graph.targets[order]
        self.weights, self.start = weight * graph.weights[order], weighted(graph.start, weight)
        self.final = weighted(graph.final, weight)
        # the arcs into state s are those from first[s] to before first[s + 1]
        self.first = np.searchsorted(targets, np.arange(graph.states + 1))
        self.reached = np.flatnonzero(np.diff(self.first))

    def __call__(self, emissions: np.ndarray) -> tuple[float, list[Run]]:
        """(score, units). emissions: (time, outputs), at least one frame.

        Where no path ends in time, the best one that does not end is given.
        """
        graph, scores = self.graph, np.empty((len(emissions), self.graph.states))
        scores[0] = self.start + emissions[0, graph.first]
        for frame in range(1, len(emissions)):
            before = scores[frame - 1]
            scores[frame] = before + emissions[frame, graph.loop]
            if len(self.reached):
                best = np.maximum.reduceat(before[self.sources] + self.weights, self.first[self.reached])
                arriving = best + emissions[frame, graph.first[self.reached]]
                scores[frame, self.reached] = np.maximum(scores[frame, self.reached], arriving)
        last = scores[-1] + self.final
        last = last if np.isfinite(last.max()) else scores[-1]
        state = int(last.argmax())
        path = self._back(scores, emissions, state)
        ends = [start for _, start in path[1:]] + [len(emissions)]
        units = [(int(graph.begins[state]), start, end) for (state, start), end in zip(path, ends)]
        return float(last[state]), [Run(*unit) for unit in units if unit[0]]

    def _back(self, scores: np.ndarray, emissions: np.ndarray, state: int) -> list[tuple[int, int]]:
        """(state, the frame that enters it) of the best path to a state in the last frame."""
        found = []
        for frame in reversed(range(1, len(scores))):
            before, arcs = scores[frame - 1], slice(self.first[state], self.first[state + 1])
            arriving = before[self.sources[arcs]] + self.weights[arcs]
            staying = before[state] + emissions[frame, self.graph.loop[state]]
            if len(arriving) and arriving.max() + emissions[frame, self.graph.first[state]] > staying:
                found.append((state, frame))
                state = int(self.sources[arcs][arriving.argmax()])
        return [(state, 0), *reversed(found)]


def weighted(logarithms: np.ndarray, weight: float) -> np.ndarray:
    """What cannot be stays so, whatever its weight."""
    return np.multiply(weight, logarithms, out=np.full(len(logarithms), -np.inf), where=np.isfinite(logarithms))

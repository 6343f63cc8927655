"""The denominator of LF-MMI: all sentences of a phone language model."""

from __future__ import annotations

import numpy as np

from asr.model.graphs.graph import Arcs, PhoneGraph
from asr.text.phones.model import PhoneLm

# frames over which the states' mean occupancy is taken, as in Kaldi
FRAMES = 100


def denominator(lm: PhoneLm) -> PhoneGraph:
    """A state for each state of the model but the first: a phone after its history."""
    there = lm.reached()
    there[0] = False
    number = np.cumsum(there) - 1
    begins, inner = lm.sources == 0, there[lm.sources]
    start = np.full(int(there.sum()), -np.inf)
    start[number[lm.targets[begins]]] = lm.weights[begins]
    histories = [history for history, kept in zip(lm.histories, there) if kept]
    return PhoneGraph(
        phones=np.array([history[-1] for history in histories]),
        left=np.array([history[-2] if len(history) > 1 else 0 for history in histories]),
        start=start,
        final=lm.ends[there],
        sources=number[lm.sources[inner]],
        targets=number[lm.targets[inner]],
        weights=lm.weights[inner],
    )


def occupancy(graph: Arcs, frames: int = FRAMES) -> np.ndarray:
    """(states,) float64: the share of the first frames spent in each state, staying and leaving being equally likely.

    The prior of the leak (Kaldi's chain-den-graph.cc).
    """
    weights, total = np.exp(graph.weights), np.exp(graph.final)
    total = total + np.bincount(graph.sources, weights, graph.states)
    leaving = weights / np.maximum(total, 1e-30)[graph.sources]
    current = np.exp(graph.start) / np.exp(graph.start).sum()
    mean = np.zeros(graph.states)
    for _ in range(frames):
        mean += current / frames
        moved = np.bincount(graph.targets, current[graph.sources] * leaving, graph.states)
        current = 0.5 * current + 0.5 * moved
        current /= current.sum()
    return mean

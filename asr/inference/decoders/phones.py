"""The best path through a phone language model: no lexicon and no words, exact, and for models without a blank as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.errors import UserError
from asr.inference.decoders import Decoder, Hypothesis
from asr.inference.decoders.search import bound, check_numbers, decode_each
from asr.model.graphs.denominator import denominator
from asr.model.graphs.graph import Graph
from asr.model.topologies import topologies
from asr.text.phones.files import read_phone_lm
from asr.text.units import Units


class Phones(Decoder):
    """The phones whose path is best by the emissions and lm_weight · ln P(phones), silences among them (Viterbi).

    A model that was trained with loss=lfmmi counts on the phone language model of its training: without one its emissions say
    little. For models of CTC it is a fair comparison.
    """

    name = "phones"
    needs_blank = False

    def __init__(self, lm: str | None = None, lm_weight: float = 1.0):
        """lm: a phone language model's file (phone_lm.txt); None for the model's own. lm_weight: for natural logarithms."""
        check_numbers({"lm_weight": lm_weight})
        self.lm, self.lm_weight = lm, float(lm_weight)
        self.units: Units | None = None

    @property
    def facts(self) -> dict[str, Any]:
        return {} if self.units is None else {"graph_states": self._search.graph.states}

    def bind(self, units: Units) -> Phones:
        topology = self.topology or topologies.create({"name": "ctc"}, units=len(units.symbols))
        lm = units.phone_lm if self.lm is None else read_phone_lm(Path(self.lm).expanduser(), units.symbols)
        if lm is None:
            raise UserError(
                "decoder=phones needs a phone language model, and this model comes without one: name that of a run with "
                "loss=lfmmi and the same units, decoder.lm=RUN/phone_lm.txt."
            )
        self.units = units
        self._search = Viterbi(topology.spell(denominator(lm)), self.lm_weight)
        self._outputs = topology.outputs
        return self

    @torch.no_grad()
    def __call__(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """One hypothesis per utterance; see `Decoder.__call__` for the shapes."""
        bound(self.units, self.name)
        return decode_each(emissions, lengths, self._outputs, self._search, Hypothesis([], 0.0, []))


class Viterbi:
    """The best path through a graph, for one utterance at a time."""

    def __init__(self, graph: Graph, weight: float):
        """weight: that the graph's logarithms are multiplied by."""
        self.graph = graph
        order = np.argsort(graph.targets, kind="stable")
        self.sources, targets = graph.sources[order], graph.targets[order]
        self.weights, self.start = weight * graph.weights[order], weighted(graph.start, weight)
        self.final = weighted(graph.final, weight)
        # the arcs into state s are those from first[s] to before first[s + 1]
        self.first = np.searchsorted(targets, np.arange(graph.states + 1))
        self.reached = np.flatnonzero(np.diff(self.first))

    def __call__(self, emissions: np.ndarray) -> list[Hypothesis]:
        """emissions: (time, outputs), logarithms. A recording too short for any sentence is read as the start of one."""
        graph, scores = self.graph, np.empty((len(emissions), self.graph.states))
        scores[0] = self.start + emissions[0, graph.first]
        for frame in range(1, len(emissions)):
            before = scores[frame - 1]
            best = np.maximum.reduceat(before[self.sources] + self.weights, self.first[self.reached])
            scores[frame] = before + emissions[frame, graph.loop]
            arriving = best + emissions[frame, graph.first[self.reached]]
            scores[frame, self.reached] = np.maximum(scores[frame, self.reached], arriving)
        last = scores[-1] + self.final
        last = last if np.isfinite(last.max()) else scores[-1]
        state = int(last.argmax())
        path = self.path(scores, emissions, state)
        begun = [(int(graph.begins[state]), frame) for state, frame in path if graph.begins[state]]
        return [Hypothesis([unit for unit, _ in begun], float(last[state]), [frame for _, frame in begun])]

    def path(self, scores: np.ndarray, emissions: np.ndarray, state: int) -> list[tuple[int, int]]:
        """(state, the frame that entered it) of the best path to a state in the last frame."""
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
    return np.where(np.isfinite(logarithms), weight * logarithms, -np.inf)

"""CTC's topology (Graves et al. 2006): an output for each unit, and a blank that may fill the frames between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from asr.model.graphs.best_path import Run
from asr.model.graphs.graph import Graph, PhoneGraph
from asr.model.topologies.base import Topology


class Ctc(Topology):
    """Output u is unit u, output 0 the blank, which must stand between two equal units."""

    name = "ctc"
    has_blank = True

    def __init__(self, units: int):
        self.outputs = units

    def spell(self, graph: PhoneGraph) -> Graph:
        """See `Topology.spell`. State s is unit s of the graph, n + s the blank after it, 2n the blank before everything."""
        n, phones = graph.states, graph.phones
        units, blanks, first = np.arange(n), n + np.arange(n), 2 * n
        differ = phones[graph.sources] != phones[graph.targets]
        begins = np.flatnonzero(np.isfinite(graph.start))
        arcs = [
            (graph.sources[differ], graph.targets[differ], graph.weights[differ]),
            (n + graph.sources, graph.targets, graph.weights),
            (units, blanks, np.zeros(n)),
            (np.full(len(begins), first), begins, graph.start[begins]),
        ]
        sources, targets, weights = (np.concatenate(parts) for parts in zip(*arcs))
        outputs = np.concatenate([phones, np.zeros(n + 1, dtype=np.int64)])
        nowhere = np.full(n, -np.inf)
        return Graph(
            first=outputs,
            loop=outputs,
            begins=outputs,
            start=np.concatenate([graph.start, nowhere, [0.0]]),
            final=np.concatenate([graph.final, graph.final, [-np.inf]]),
            sources=sources,
            targets=targets,
            weights=weights,
        )

    def transducer(self, marks: int) -> Iterator[str]:
        """See `Topology.transducer`. Between two equal units there is a blank. State 0 follows a blank, state n the unit n."""
        for state in range(self.outputs):
            yield f"{state} 0 1 0"
            for unit in range(1, self.outputs):
                yield f"{state} {unit} {unit + 1} {0 if unit == state else unit + 1}"
            for mark in range(marks):
                yield f"{state} {state} 0 {self.outputs + 1 + mark}"
            yield f"{state}"

    def units_of(self, labels: Sequence[int]) -> list[Run]:
        """See `Topology.units_of`: repeats merged, then blanks removed."""
        path = np.asarray(labels) - 1
        starts = np.flatnonzero(np.diff(path, prepend=-1))
        ends = np.append(starts[1:], len(path))
        return [Run(*run) for run in zip(path[starts].tolist(), starts.tolist(), ends.tolist()) if run[0]]

    def outputs_of(self, unit: int) -> list[int]:
        return [unit]

    def required_frames(self, labels: Sequence[int]) -> int:
        """One frame for each unit, and one for the blank between two equal neighbours."""
        labels = list(labels)
        return len(labels) + sum(left == right for left, right in zip(labels, labels[1:]))

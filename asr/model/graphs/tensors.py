"""Graphs as the tensors that the recursions of `asr.kernels` take."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from asr.kernels.numerators import Numerators
from asr.kernels.shared_graph import SLICE, Arcs, Denominator
from asr.model.graphs.denominator import occupancy
from asr.model.graphs.graph import Graph

FORMS = ("sparse", "dense")


def pad_numerators(graphs: Sequence[Graph | None]) -> Numerators:
    """The graphs of a batch side by side, weights in float64. None stands for an utterance without a path."""
    states = max([1, *(graph.states for graph in graphs if graph is not None)])
    rows = len(graphs)
    first, loop = np.zeros((2, rows, states), dtype=np.int64)
    start, final = np.full((2, rows, states), -np.inf)
    for row, graph in enumerate(graphs):
        if graph is not None:
            first[row, : graph.states], loop[row, : graph.states] = graph.first, graph.loop
            start[row, : graph.states], final[row, : graph.states] = graph.start, graph.final
    there = [(row, graph) for row, graph in enumerate(graphs) if graph is not None]
    row = np.concatenate([np.full(len(graph.weights), row) for row, graph in there] or [np.zeros(0, dtype=np.int64)])
    sources, targets, weights = (
        np.concatenate([getattr(graph, name) for _, graph in there] or [np.zeros(0)])
        for name in ("sources", "targets", "weights")
    )
    shape = (rows, states)
    arriving, leaving = table(row, targets, sources, weights, shape), table(row, sources, targets, weights, shape)
    return Numerators(*(torch.from_numpy(part) for part in (first, loop, start, final, *arriving, *leaving)))


def table(row: np.ndarray, at: np.ndarray, other: np.ndarray, weights: np.ndarray, shape: tuple[int, int]):
    """(others, weights), both (batch, degree, states): of each state `at` the arcs to or from other states."""
    place = row * shape[1] + at.astype(np.int64)
    order = np.argsort(place, kind="stable")
    place = place[order]
    degree = np.bincount(place, minlength=shape[0] * shape[1])
    number = np.arange(len(place)) - (np.cumsum(degree) - degree)[place]
    most = max(1, int(degree.max(initial=0)))
    others = np.zeros((shape[0], most, shape[1]), dtype=np.int64)
    costs = np.full(others.shape, -np.inf)
    arc = (place // shape[1], number, place % shape[1])
    others[arc], costs[arc] = other[order], weights[order]
    return others, costs


def make_denominator(
    graph: Graph, outputs: int, leak: float, dtype: torch.dtype, device: torch.device, form: str | None = None
) -> Denominator:
    """The graph on a device. form: of its matrices, "sparse" or "dense"; None: what is fast there.

    Of the dense form there are also the arcs sorted for Triton kernels.
    """
    form = form or ("sparse" if device.type == "cpu" and torch.backends.mkl.is_available() else "dense")

    def column(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(device, dtype)[:, None]

    def matrix(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> Tensor:
        places = torch.from_numpy(np.stack([rows, columns]))
        made = torch.sparse_coo_tensor(
            places, torch.from_numpy(values).to(dtype), shape, check_invariants=True
        ).coalesce()
        if form == "dense":
            return made.to_dense().to(device)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return made.to_sparse_csr().to(device)

    square, weights = (graph.states, graph.states), np.exp(graph.weights)
    states, ones = np.arange(graph.states), np.ones(graph.states)
    return Denominator(
        start=column(np.exp(graph.start)),
        final=column(np.exp(graph.final)),
        prior=column(occupancy(graph)),
        first=torch.from_numpy(graph.first).to(device),
        loop=torch.from_numpy(graph.loop).to(device),
        arriving=matrix(graph.targets, graph.sources, weights, square),
        leaving=matrix(graph.sources, graph.targets, weights, square),
        entered=matrix(graph.first, states, ones, (outputs, graph.states)),
        stayed=matrix(graph.loop, states, ones, (outputs, graph.states)),
        leak=leak,
        into=sorted_arcs(graph.targets, graph.sources, graph, device) if form == "dense" else None,
        out_of=sorted_arcs(graph.sources, graph.targets, graph, device) if form == "dense" else None,
    )


def sorted_arcs(at: np.ndarray, others: np.ndarray, graph: Graph, device: torch.device) -> Arcs:
    """See `Arcs`. at: the state that each arc of the graph adds to; others: the one that it comes from."""
    weights, degree = np.exp(graph.weights), np.bincount(at, minlength=graph.states)
    slices = -(-graph.states // SLICE)
    slots = np.full(slices * SLICE, -1)
    slots[: graph.states] = np.argsort(-degree, kind="stable")
    # degrees fall, so that the first state of a slice has the most arcs
    degrees = degree[slots[::SLICE]]
    starts = (np.cumsum(degrees) - degrees) * SLICE
    slot = np.empty(graph.states, dtype=np.int64)
    slot[slots[: graph.states]] = np.arange(graph.states)
    order = np.argsort(at, kind="stable")
    number = np.arange(len(at)) - (np.cumsum(degree) - degree)[at[order]]
    place = starts[slot[at[order]] // SLICE] + number * SLICE + slot[at[order]] % SLICE
    filled, values = np.zeros((2, max(1, int(degrees.sum())) * SLICE))
    filled[place], values[place] = others[order], weights[order]
    prior = np.bincount(at, weights * occupancy(graph)[others], graph.states)

    def on_device(array: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(array).to(device, dtype)

    return Arcs(
        slots=on_device(slots, torch.int32),
        starts=on_device(starts, torch.int32),
        degrees=on_device(degrees, torch.int32),
        others=on_device(filled, torch.int32),
        weights=on_device(values, torch.float32),
        prior=on_device(prior, torch.float32),
    )

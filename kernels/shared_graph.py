"""The graph that all utterances of LF-MMI share, as tensors."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

# A frame's outputs are taken relative to their largest, and no lower than this: a frame that no state can emit would be 0 / 0.
FLOOR = -60.0
# States whose arcs kernels follow side by side.
SLICE = 512


class Arcs(NamedTuple):
    """Arcs sorted by the state that they add to, in slices of `SLICE` states of like degree, for Triton kernels.

    slots: (slices × SLICE,) int32 the states of each slice, -1 behind the last. starts, degrees: (slices,) int32 where a slice's
    arcs begin, and how many of each state there are. others: (all,) int32 the states that they come from, weights: (all,)
    float32, 0 where a state has fewer; arc a of lane i of a slice is at its start + a × SLICE + i. prior: (states,) float32, the
    prior after a step along the arcs.
    """

    slots: Tensor
    starts: Tensor
    degrees: Tensor
    others: Tensor
    weights: Tensor
    prior: Tensor


class Denominator(NamedTuple):
    """A graph (`asr.model.graphs.graph`) as tensors of one device and dtype; weights are probabilities.

    start, final, prior: (states, 1). first, loop: (states,) int64 outputs. leak: after every frame this share of everything
    leaks to all states, by `prior` (Kaldi's leaky HMM).
    arriving: (states, states), to whom arcs lead × from whom; leaving: its transpose. entered, stayed: (outputs, states), 1
    where a state's first frame, or its further ones, have that output. All four may be sparse (CSR).
    into, out_of: the arcs once more, sorted for Triton kernels, where they are to be used.
    """

    start: Tensor
    final: Tensor
    prior: Tensor
    first: Tensor
    loop: Tensor
    arriving: Tensor
    leaving: Tensor
    entered: Tensor
    stayed: Tensor
    leak: float
    into: Arcs | None = None
    out_of: Arcs | None = None

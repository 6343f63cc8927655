"""Forced alignment for any topology: CTC's by `forced.py`, others by the best path through the graph of the units."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor

from asr.inference.alignment import Span
from asr.inference.alignment.forced import align, confidence
from asr.model.graphs.best_path import BestPath
from asr.model.graphs.numerator import numerator
from asr.model.topologies.base import Topology
from asr.text.phones.model import uniform
from asr.text.phones.slots import Slot


def align_units(
    emissions: Tensor, ids: Sequence[int], topology: Topology, silence: int | None = None, before: Collection[int] = ()
) -> list[Span]:
    """The most probable frames of each unit, in order; see `align`, which it is for topologies with a blank.

    emissions: (time, outputs) log-probabilities, any floating dtype and device, at least as many as the topology requires.
    silence: the unit that may also stand before the units at the positions `before`, and at the end; its frames belong to none.
    The confidence of a unit is the maximum over its frames of the sum of the probabilities of its outputs.

    Raises ValueError if there are too few emissions, for NaN, and for shapes that do not fit.
    """
    if topology.has_blank:
        return align(emissions, ids)
    if not len(ids):
        return []
    if len(emissions) < topology.required_frames(ids) or emissions.shape[1] != topology.outputs:
        raise ValueError(f"{len(ids)} units do not fit into emissions {tuple(emissions.shape)}")
    emissions = emissions.detach().float().cpu()
    if bool(emissions.isnan().any()):
        raise ValueError("emissions hold values that are not numbers")
    pause: list[Slot] = [] if silence is None else [((0.5, ()), (0.5, (silence,)))]
    slots: list[Slot] = []
    for position, unit in enumerate(ids):
        slots += [*(pause if position in before else []), ((1.0, (unit,)),)]
    lm = uniform(max(*ids, silence or 0) + 1)
    phones = numerator([*slots, *pause], lm, topology.by_context)
    assert phones is not None  # every sequence of units has a path
    _, begun = BestPath(topology.spell(phones), 0.0)(emissions.numpy())
    spans = []
    for unit, start, end in begun:
        # silences that are no units of ours
        if len(spans) < len(ids) and unit == ids[len(spans)]:
            likely = emissions[start:end, topology.outputs_of(unit)].logsumexp(1)
            spans.append(Span(unit, start, end, confidence(float(likely.max()))))
    return spans

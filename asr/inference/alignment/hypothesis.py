"""A decoder's hypothesis, with the frames of its units and words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asr.inference.alignment import Span
from asr.inference.alignment.by_topology import align_units
from asr.inference.alignment.forced import confidence
from asr.inference.alignment.words import Spelling, spelled

if TYPE_CHECKING:
    from torch import Tensor

    from asr.inference.decoders import Hypothesis
    from asr.model.topologies.base import Topology
    from asr.text.units import Units


def read_hypothesis(
    hypothesis: Hypothesis, emissions: Tensor, units: Units, topology: Topology, first: int = 0
) -> tuple[list[Span], list[Spelling] | None]:
    """(the spans of its units, its words); words are None if neither the decoder nor the units define them.

    emissions: (time, outputs) log-probabilities that it was decoded from. topology: of the model. first: the recording's frame
    where they begin, added to all frames. Units get their frames by forced alignment, as references do, so that times are
    comparable between decoders.
    """
    ids = list(hypothesis.ids)
    fits = len(emissions) >= topology.required_frames(ids)
    spans = align_units(emissions, ids, topology) if fits else by_decoder(hypothesis, emissions, topology)
    spans = [Span(span.unit, span.start + first, span.end + first, span.confidence) for span in spans]
    if hypothesis.words is None:
        return spans, spelled(units, ids)
    return spans, words_of_units(hypothesis)


def words_of_units(hypothesis: Hypothesis) -> list[Spelling]:
    """The decoder's words, each with the units that start in its frames."""
    words, position, frames = [], 0, hypothesis.frames
    spoken = hypothesis.words or []
    for number, word in enumerate(spoken):
        following = spoken[number + 1].start if number + 1 < len(spoken) else None
        # silences between words are units too, but belong to no word
        while position < len(frames) and frames[position] < word.start:
            position += 1
        first = position
        end = word.end if following is None else min(max(word.end, word.start + 1), following)
        while position < len(frames) and frames[position] < end:
            position += 1
        if frames:
            # a word without a unit of its own shares its neighbour's
            begin = first if position > first else max(0, first - 1)
            words.append(Spelling(word.word, begin, max(1, position), word.confidence))
    return words


def by_decoder(hypothesis: Hypothesis, emissions: Tensor, topology: Topology) -> list[Span]:
    """Spans at the frames where the decoder starts its units, one frame each."""
    frames: Sequence[int] = [min(frame, len(emissions) - 1) for frame in hypothesis.frames]
    return [
        Span(unit, frame, frame + 1, confidence(float(emissions[frame, topology.outputs_of(unit)].logsumexp(0))))
        for unit, frame in zip(hypothesis.ids, frames)
    ]

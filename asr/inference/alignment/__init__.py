"""Alignment: emissions and units → spans of emission frames → seconds, words and confidences.

timing = Timing.of(model)
spans = align(emissions[0], ids)                     # forced alignment: the frames of each unit
words = group(spelled(units, ids), timed(spans, timing, units.symbols, seconds))
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Span:
    """The emission frames of one unit; `end` is exclusive.

    confidence: the largest posterior probability of the unit in these frames, 0..1 (`asr.inference.alignment.forced`).
    """

    unit: int
    start: int
    end: int
    confidence: float


@dataclasses.dataclass(frozen=True)
class Timed:
    """A unit or a word with its times: start and end in seconds, confidence 0..1."""

    text: str
    start: float
    end: float
    confidence: float

"""From emission frames to seconds.

An emission covers a cell of audio: one emission shift long, centred on the samples that the front end sees. A unit starts
where the cell of its first emission starts. It ends where the next unit starts, since CTC marks the beginning of a unit and
fills the rest with blanks; only if the next unit is more than `PAUSE` away does it end with its own last cell, followed by
silence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from asr.inference.alignment import Span, Timed

if TYPE_CHECKING:
    from asr.model.network import Model

# Seconds of blanks that still belong to the preceding unit: about the length of a long phoneme.
PAUSE = 0.12


@dataclasses.dataclass(frozen=True)
class Timing:
    """shift: seconds from one emission to the next. first: seconds from the first sample to the start of emission 0's cell.

    The encoder's self-attention sees everything, so the centre of what the front end sees is what counts.
    """

    shift: float
    first: float

    @classmethod
    def of(cls, model: Model) -> Timing:
        """The first cell starts half a shift before its centre: half a window plus the encoder's `centre` in frames."""
        bank, shift = model.features.filter_bank, model.seconds_per_emission
        middle = bank.window_samples / bank.sample_rate / 2 + model.encoder.centre * bank.frame_shift
        return cls(shift, middle - shift / 2)

    def start(self, frame: int) -> float:
        """The start of an emission's cell in seconds, at least 0."""
        return max(0.0, self.first + frame * self.shift)


def timed(spans: Sequence[Span], timing: Timing, symbols: Sequence[str], seconds: float) -> list[Timed]:
    """The units with their times. seconds: the length of the recording, which no time exceeds."""
    result = []
    for number, span in enumerate(spans):
        end = span.end
        if number + 1 < len(spans) and (spans[number + 1].start - span.end) * timing.shift <= PAUSE:
            end = spans[number + 1].start
        start, stop = (min(timing.start(frame), seconds) for frame in (span.start, end))
        result.append(Timed(symbols[span.unit], start, stop, span.confidence))
    return result

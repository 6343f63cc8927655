"""From emission frames to seconds.

An emission stands for a cell of audio: as long as the step from one emission to the next, around the middle of the samples
that the front end sees of it. A unit starts where the cell of its first emission starts. It ends where the next unit starts,
since CTC marks where a unit begins and fills the rest of it with blanks; only where that next unit is more than `PAUSE`
away does the unit end with its own last cell, and silence follows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from asr.inference.alignment import Span, Timed

if TYPE_CHECKING:
    from asr.model.network import Model

# Seconds of blanks that still belong to the unit before them: about the length of a long phoneme.
PAUSE = 0.12


@dataclasses.dataclass(frozen=True)
class Timing:
    """shift: seconds from one emission to the next. first: seconds from the first sample to where the cell of emission 0 starts.

    The self-attention of the encoder sees everything; what counts is the middle of what the front end sees.
    """

    shift: float
    first: float

    @classmethod
    def of(cls, model: Model) -> Timing:
        """Half a window, plus the frames that stand before the middle of the front end's first output, minus half a shift."""
        bank, shift = model.features.filter_bank, model.seconds_per_emission
        middle = bank.window_samples / bank.sample_rate / 2 + model.encoder.centre * bank.frame_shift
        return cls(shift, middle - shift / 2)

    def start(self, frame: int) -> float:
        """Where the cell of an emission starts, in seconds; 0 at the least."""
        return max(0.0, self.first + frame * self.shift)


def timed(spans: Sequence[Span], timing: Timing, symbols: Sequence[str], seconds: float) -> list[Timed]:
    """The units with their times. seconds: how long the recording is; no time lies behind its end."""
    result = []
    for number, span in enumerate(spans):
        end = span.end
        if number + 1 < len(spans) and (spans[number + 1].start - span.end) * timing.shift <= PAUSE:
            end = spans[number + 1].start
        start, stop = (min(timing.start(frame), seconds) for frame in (span.start, end))
        result.append(Timed(symbols[span.unit], start, stop, span.confidence))
    return result

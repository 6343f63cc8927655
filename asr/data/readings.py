"""What may have been said in each utterance, as graphs that the processes reading data build (loss=lfmmi)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from asr.model.graphs.graph import Graph
from asr.model.graphs.numerator import NumeratorBuilder
from asr.text.units import Saying, Units

if TYPE_CHECKING:
    from lhotse import SupervisionSegment


@dataclasses.dataclass(frozen=True)
class Readings:
    """A supervision → the graph of its readings. units: with SIL; build: slots → graph."""

    units: Units
    saying: Saying
    build: NumeratorBuilder

    def __call__(self, supervision: SupervisionSegment) -> Graph | None:
        """None where there is no phone to say."""
        return self.build(self.units.slots(supervision, self.saying))

    def unseen(self, supervision: SupervisionSegment) -> bool:
        """Whether the phone language model has no path for the utterance."""
        return self.build.unseen(self.units.slots(supervision, self.saying))

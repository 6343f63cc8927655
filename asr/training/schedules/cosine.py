"""Half a cosine from the base rate down."""

from __future__ import annotations

import dataclasses
import math

from asr.training.schedules.base import Schedule


@dataclasses.dataclass
class Cosine(Schedule):
    """Linear warm-up, then half a cosine from the base rate down to `final` times it at the end of the training.

    (Loshchilov and Hutter 2017, SGDR, equation 5, without restarts.)
    """

    name = "cosine"

    final: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("final", self.final >= 0, "a share of 0 or more")

    def factor(self, step: int, progress: float) -> float:
        """See `Schedule.factor`."""
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))
        return super().factor(step, progress) * (self.final + (1 - self.final) * decay)

"""The base class of all schedules."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from asr.errors import UserError


@dataclasses.dataclass
class Schedule:
    """Linear warm-up from 0 to the base rate over `warmup_steps` optimizer steps; subclasses add what follows.

    Raises UserError for a setting out of range.
    """

    name: ClassVar[str]

    warmup_steps: int = 0

    def __post_init__(self) -> None:
        self.require("warmup_steps", self.warmup_steps >= 0, "a number of 0 or more")

    def require(self, setting: str, holds: bool, allowed: str) -> None:
        """Raises UserError unless a setting is in its range."""
        if not holds:
            raise UserError(f"schedule.{setting} is {getattr(self, setting)}: give it {allowed}.")

    def factor(self, step: int, progress: float) -> float:
        """The factor of optimizer step `step`, counted from 0.

        progress: share of the training that is over, 0 to 1: of its steps, or of its minutes if `max_minutes` ends it first.
        """
        return min(1.0, (step + 1) / (self.warmup_steps + 1))

    def observe(self, validation_loss: float) -> None:
        """Called with the loss of every validation on dev."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, as plain data."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""

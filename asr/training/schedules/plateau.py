"""A rate that drops when the validation loss stops falling."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from asr.training.schedules.base import Schedule


@dataclasses.dataclass
class Plateau(Schedule):
    """Linear warm-up, then the rate is multiplied by `drop` after every `patience` + 1 validations in a row without a new best.

    A loss counts as a new best if it is lower by more than the share `threshold`. The factor never drops below `smallest`.
    (Vyas et al. 2020, C.3: the rate is dropped when the validation loss plateaus.)
    """

    name = "plateau"

    drop: float = 0.5
    patience: int = 3
    threshold: float = 1e-3
    smallest: float = 1e-3
    _best: float = dataclasses.field(default=math.inf, init=False)
    _waited: int = dataclasses.field(default=0, init=False)
    _scale: float = dataclasses.field(default=1.0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("drop", 0 < self.drop <= 1, "a factor above 0 and up to 1")
        self.require("patience", self.patience >= 0, "a number of 0 or more")
        self.require("threshold", 0 <= self.threshold < 1, "a share from 0 to below 1")
        self.require("smallest", 0 <= self.smallest <= 1, "a share from 0 to 1")

    def factor(self, step: int, progress: float) -> float:
        """See `Schedule.factor`."""
        return super().factor(step, progress) * self._scale

    def observe(self, validation_loss: float) -> None:
        """See `Schedule.observe`."""
        if validation_loss < self._best * (1 - self.threshold):
            self._best, self._waited = validation_loss, 0
            return
        self._waited += 1
        if self._waited > self.patience:
            self._scale, self._waited = max(self._scale * self.drop, self.smallest), 0

    def state_dict(self) -> dict[str, Any]:
        """See `Schedule.state_dict`."""
        return {"best": self._best, "waited": self._waited, "scale": self._scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Schedule.load_state_dict`."""
        self._best, self._waited, self._scale = state["best"], state["waited"], state["scale"]

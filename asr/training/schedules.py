"""Learning-rate schedules, as factors of the base rate.

A schedule is asked for its factor before every optimizer step and told every validation loss. `progress` is the share of the
training that is over: of its steps, or of its minutes when `max_minutes` ends it first.
"""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass
class Constant:
    """Linear warm-up over `warmup_steps` optimizer steps, then the base rate."""

    warmup_steps: int = 0

    def factor(self, step: int, progress: float) -> float:
        return min(1.0, (step + 1) / (self.warmup_steps + 1))

    def observe(self, validation_loss: float) -> None:
        """Takes notice of a validation loss."""

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        pass


@dataclasses.dataclass
class Cosine(Constant):
    """Linear warm-up, then half a cosine from the base rate down to `final` times it at the end of training."""

    final: float = 0.01

    def factor(self, step: int, progress: float) -> float:
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))
        return super().factor(step, progress) * (self.final + (1 - self.final) * decay)


@dataclasses.dataclass
class Plateau(Constant):
    """Linear warm-up, then the rate is multiplied by `drop` whenever `patience` validations in a row brought no new best.

    An improvement smaller than `threshold`, relatively, does not count. (Vyas et al. 2020, C.3: the rate is dropped when
    the validation loss plateaus.)
    """

    drop: float = 0.5
    patience: int = 3
    threshold: float = 1e-3
    smallest: float = 1e-3
    _best: float = math.inf
    _waited: int = 0
    _scale: float = 1.0

    def factor(self, step: int, progress: float) -> float:
        return super().factor(step, progress) * self._scale

    def observe(self, validation_loss: float) -> None:
        if validation_loss < self._best * (1 - self.threshold):
            self._best, self._waited = validation_loss, 0
            return
        self._waited += 1
        if self._waited > self.patience:
            self._scale, self._waited = max(self._scale * self.drop, self.smallest), 0

    def state_dict(self) -> dict:
        return {"best": self._best, "waited": self._waited, "scale": self._scale}

    def load_state_dict(self, state: dict) -> None:
        self._best, self._waited, self._scale = state["best"], state["waited"], state["scale"]

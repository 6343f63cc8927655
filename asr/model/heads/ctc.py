"""A linear layer to log-probabilities, with a loss over them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from asr.model.heads.linear import LinearHead
from asr.model.losses.loss import TrainingLosses


class Ctc(LinearHead):
    """Every hidden state emits a distribution over the units, the blank among them (Graves et al. 2006).

    loss: `name` and settings of a part of `asr.model.losses`; its weights, if it has any, belong to the head.
    """

    name = "ctc"

    def __init__(self, dim: int, units: int, loss: dict[str, Any] | None = None):
        super().__init__(dim, units, loss or {"name": "ctc"})
        self.views, self.time_mask_ratio, self.blocks = self.loss.views, self.loss.time_mask_ratio, self.loss.blocks

    def training_losses(self, hidden: Tensor, inner: list[Tensor], lengths: Tensor, *spoken: Any) -> TrainingLosses:
        """See `Head.training_losses`; the same linear layer reads the outputs of all blocks."""
        return self.loss.in_training(self.emissions(hidden), [self.emissions(one) for one in inner], lengths, *spoken)

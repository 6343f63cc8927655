"""A linear layer to log-probabilities, with a loss over them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from asr.model.heads.linear import LinearHead


class Ctc(LinearHead):
    """Every hidden state emits a distribution over the units, the blank among them (Graves et al. 2006).

    loss: `name` and settings of a part of `asr.model.losses`.
    """

    name = "ctc"

    def __init__(self, dim: int, units: int, loss: dict[str, Any] | None = None):
        super().__init__(dim, units, loss or {"name": "ctc"})

    def forward(self, hidden: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """See `Head.forward`."""
        return self.loss(self.emissions(hidden), lengths, targets, target_lengths)

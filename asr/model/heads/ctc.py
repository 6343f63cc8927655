"""A linear layer to log-probabilities, with a loss over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from asr.model.encoders.rows import in_rows
from asr.model.heads.base import Head
from asr.model.losses import losses
from asr.runtime.precision import at_least_float32


class Ctc(Head):
    """Every hidden state emits a distribution over the units, the blank among them (Graves et al. 2006).

    loss: `name` and settings of a part of `asr.model.losses`; its weights, if it has any, belong to the head.
    """

    name = "ctc"

    def __init__(self, dim: int, units: int, loss: dict[str, Any] | None = None):
        super().__init__()
        linear = nn.Linear(dim, units)
        # named as in checkpoints that predate heads: head.weight, head.bias
        self.weight, self.bias = linear.weight, linear.bias
        self.loss = losses.create(loss or {"name": "ctc"})

    def forward(self, hidden: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """See `Head.forward`."""
        return self.loss_and_emissions(hidden, lengths, targets, target_lengths)[0]

    def loss_and_emissions(
        self, hidden: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `Head.loss_and_emissions`."""
        emissions = self.emissions(hidden)
        return self.loss(emissions, lengths, targets, target_lengths), emissions

    def emissions(self, hidden: Tensor) -> Tensor:
        """See `Head.emissions`; float64 for float64 weights, float32 otherwise."""
        logits = in_rows(lambda rows: F.linear(rows, self.weight, self.bias), hidden)
        return at_least_float32(logits).log_softmax(dim=-1)

    def required_frames(self, labels: Sequence[int]) -> int:
        return self.loss.required_frames(labels)

"""What heads share whose emissions are a linear layer and a log-softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from asr.errors import UserError
from asr.model.encoders.rows import in_rows
from asr.model.heads.base import Head
from asr.model.losses import losses
from asr.runtime.precision import at_least_float32


class LinearHead(Head):
    """outputs: how many there are. loss: `name` and settings of a part of `asr.model.losses`, whose weights are the head's.

    Raises UserError for a loss that is made for another head.
    """

    def __init__(self, dim: int, outputs: int, loss: dict[str, Any]):
        super().__init__()
        linear = nn.Linear(dim, outputs)
        # named as in checkpoints that predate heads: head.weight, head.bias
        self.weight, self.bias = linear.weight, linear.bias
        self.loss = losses.create(loss)
        if self.loss.head != self.name:
            raise UserError(
                f"loss={self.loss.name} needs head={self.loss.head}, not head={self.name}. "
                f"Leave head=… out, or give head={self.loss.head}."
            )

    def forward(self, hidden: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, *more: Any) -> Tensor:
        """See `Head.forward`. more: further arguments of the loss."""
        return self.loss_and_emissions(hidden, lengths, targets, target_lengths, *more)[0]

    def loss_and_emissions(self, hidden: Tensor, lengths: Tensor, *spoken: Any) -> tuple[Tensor, Tensor]:
        """See `Head.loss_and_emissions`."""
        emissions = self.emissions(hidden)
        return self.loss(emissions, lengths, *spoken), emissions

    def emissions(self, hidden: Tensor) -> Tensor:
        """See `Head.emissions`; float64 for float64 weights, float32 otherwise."""
        logits = in_rows(lambda rows: F.linear(rows, self.weight, self.bias), hidden)
        return at_least_float32(logits).log_softmax(dim=-1)

    def required_frames(self, labels: Sequence[int]) -> int:
        return self.loss.required_frames(labels)

"""The base class of all heads."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from asr.errors import UserError
from asr.model.losses.loss import TrainingLosses


class Head(nn.Module, abc.ABC):
    """From hidden states to a loss and, for most heads, to emissions.

    A subclass takes `dim` (size of a hidden state), `units` (their number, the blank included) and its own settings, those of
    `conf/head/<name>.yaml`. All its parameters are trained, averaged, saved in checkpoints and shipped in model folders.

    views, time_mask_ratio, blocks: what training does differently, see `Loss`.
    """

    name: ClassVar[str]
    views: int = 1
    time_mask_ratio: float = 1.0
    blocks: tuple[int, ...] = ()

    @abc.abstractmethod
    def forward(self, hidden: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """The loss of each utterance, (batch,) float32 or more: a sum over the utterance, which the caller normalizes.

        hidden: (batch, time, dim) from the encoder. lengths: (batch,) int64, valid hidden states.
        targets: (batch, labels) int64 units, padded with any valid unit. target_lengths: (batch,) int64.
        """

    def training_losses(self, hidden: Tensor, inner: list[Tensor], lengths: Tensor, *spoken: Any) -> TrainingLosses:
        """The losses that training minimizes: those of `forward`, unless the head has `views` or `blocks`.

        hidden: (views · batch, time, dim), the whole batch once for each view. inner: likewise, the outputs of the encoder's
        `blocks`. lengths: (views · batch,). spoken: what `forward` takes after the lengths, for the batch.
        """
        return TrainingLosses(self(hidden, lengths, *spoken))

    def loss_and_emissions(self, hidden: Tensor, lengths: Tensor, *spoken: Any) -> tuple[Tensor, Tensor]:
        """`forward` and `emissions` in one go, as a validation needs both; a head whose loss reads its emissions saves work.

        spoken: what `forward` takes after the lengths.
        """
        return self(hidden, lengths, *spoken), self.emissions(hidden)

    @abc.abstractmethod
    def required_frames(self, labels: Sequence[int]) -> int:
        """The fewest hidden states for which the loss of these labels is finite."""

    def emissions(self, hidden: Tensor) -> Tensor:
        """Log-probabilities of the units for each hidden state: (batch, time, dim) → (batch, time, units), float32 or more.

        Raises UserError if the head has none; scoring dev in training, decoders, alignment and confidences all need
        emissions.
        """
        raise UserError(
            f"head={self.name} gives no emissions, which scoring dev in training, decoders, alignment and confidences need: "
            "use a head that does, such as head=ctc."
        )

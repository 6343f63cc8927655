"""The base class of all losses."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn


class Loss(nn.Module, abc.ABC):
    """A loss of emissions against the units that were spoken.

    head: the name of the head that it is made for.
    """

    name: ClassVar[str]
    head: ClassVar[str] = "ctc"

    @abc.abstractmethod
    def forward(self, emissions: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """The loss of each utterance, (batch,) float32 or more: a sum over the utterance, which the caller normalizes.

        emissions: (batch, time, units) log-probabilities. lengths: (batch,) int64 valid frames.
        targets: (batch, labels) int64 units, padded with any valid unit. target_lengths: (batch,) int64.
        """

    @abc.abstractmethod
    def required_frames(self, labels: Sequence[int]) -> int:
        """The fewest emissions for which the loss of these labels is finite."""

    def feasible(self, frames: int, labels: Sequence[int]) -> bool:
        """Whether `frames` emissions are enough for `labels`; the loss is finite exactly then."""
        return frames >= self.required_frames(labels)

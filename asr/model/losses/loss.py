"""The base class of all losses."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn


class TrainingLosses(NamedTuple):
    """What a training step minimizes, and what to report of it.

    losses: of each utterance, (batch,) float32 or more, as from `Loss.forward`. parts: the terms that they are made of, by name,
    each (batch,), before weighting and without gradients; empty where there is only one.
    """

    losses: Tensor
    parts: dict[str, Tensor] = {}


class Loss(nn.Module, abc.ABC):
    """A loss of emissions against the units that were spoken.

    head: the name of the head that it is made for.

    What training does differently, for losses that ask for it:
    views: how many times each utterance is augmented and encoded. time_mask_ratio: multiplies SpecAugment's time masks then.
    blocks: those of the encoder whose outputs the loss reads as well, in order, numbered from 1.
    """

    name: ClassVar[str]
    head: ClassVar[str] = "ctc"
    views: int = 1
    time_mask_ratio: float = 1.0
    blocks: tuple[int, ...] = ()

    @abc.abstractmethod
    def forward(self, emissions: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """The loss of each utterance, (batch,) float32 or more: a sum over the utterance, which the caller normalizes.

        emissions: (batch, time, units) log-probabilities. lengths: (batch,) int64 valid frames.
        targets: (batch, labels) int64 units, padded with any valid unit. target_lengths: (batch,) int64.
        """

    def in_training(self, emissions: Tensor, inner: list[Tensor], lengths: Tensor, *spoken: Any) -> TrainingLosses:
        """The losses that training minimizes; those of `forward` unless a loss has options for training.

        emissions: as in `forward`, of views · batch rows: the whole batch once for each view. inner: likewise, from the outputs
        of `blocks`. lengths: (views · batch,). spoken: what `forward` takes after the lengths, for the batch.
        """
        return TrainingLosses(self(emissions, lengths, *spoken))

    @abc.abstractmethod
    def required_frames(self, labels: Sequence[int]) -> int:
        """The fewest emissions for which the loss of these labels is finite."""

    def feasible(self, frames: int, labels: Sequence[int]) -> bool:
        """Whether `frames` emissions are enough for `labels`; the loss is finite exactly then."""
        return frames >= self.required_frames(labels)

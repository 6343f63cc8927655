"""Connectionist temporal classification (Graves et al., 2006), and options that make its training better."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asr.errors import UserError
from asr.model.losses.consistency import divergence
from asr.model.losses.loss import Loss, TrainingLosses
from asr.runtime.precision import at_least_float32


class Ctc(Loss):
    """The negative log-probability (natural logarithm) of the labels, summed over all their alignments (eqs. 3 and 8).

    An utterance with too few frames has an infinite loss, which is not zeroed: `feasible` finds such utterances before
    training. The gradient is only right for emissions that come out of a log-softmax, as torch's CTC requires.

    Two options change what training minimizes, and nothing else: `consistency` (CR-CTC, Yao et al. 2024) and `intermediate`
    (Lee and Watanabe 2021, "Intermediate loss regularization for CTC-based speech recognition"); see `in_training`.
    """

    name = "ctc"

    def __init__(
        self,
        blank: int = 0,
        consistency: float = 0.0,
        time_mask_ratio: float = 2.5,
        intermediate: Sequence[int] = (),
        intermediate_weight: float = 0.3,
    ):
        """blank: the index of the blank unit in the emissions; no label may be the blank. consistency: weight of the divergence
        between two views; 0: one view. time_mask_ratio: how many times as many time masks the two views have. intermediate:
        blocks of the encoder, from 1. intermediate_weight: their share of the CTC loss.

        Raises UserError, naming the key, for settings out of range.
        """
        super().__init__()
        refuse_out_of_range(consistency, time_mask_ratio, intermediate, intermediate_weight)
        self.blank, self.consistency, self.intermediate_weight = blank, consistency, intermediate_weight
        self.views, self.time_mask_ratio = (2, time_mask_ratio) if consistency else (1, 1.0)
        self.blocks = tuple(sorted(set(intermediate)))

    def forward(self, emissions: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """See `Loss.forward`. Computed in float32 even under autocast and for half precision; float64 stays float64.

        Raises ValueError for shapes that do not fit.
        """
        if emissions.dim() != 3 or targets.dim() != 2 or emissions.shape[0] != targets.shape[0]:
            raise ValueError(
                "emissions must be (batch, time, units) and targets (batch, labels), "
                f"not {tuple(emissions.shape)} and {tuple(targets.shape)}"
            )
        with torch.autocast(emissions.device.type, enabled=False):
            return torch.nn.functional.ctc_loss(
                at_least_float32(emissions).transpose(0, 1),
                targets,
                lengths,
                target_lengths,
                blank=self.blank,
                reduction="none",
                zero_infinity=False,
            )

    def in_training(self, emissions: Tensor, inner: list[Tensor], lengths: Tensor, *spoken: Tensor) -> TrainingLosses:
        """See `Loss.in_training`. CTC is the mean over the views, and over the blocks of `inner`:

        (1 - intermediate_weight) · CTC(emissions) + intermediate_weight · CTC(inner) + consistency · divergence of the views.
        """
        if self.views == 1 and not inner:
            return super().in_training(emissions, inner, lengths, *spoken)
        targets, target_lengths = spoken
        spoken = targets.repeat(self.views, 1), target_lengths.repeat(self.views)

        def of_views(emissions: Tensor) -> Tensor:
            return self(emissions, lengths, *spoken).view(self.views, -1).mean(0)

        losses = of_views(emissions)
        parts = {"ctc": losses}
        if inner:
            parts["intermediate"] = torch.stack([of_views(one) for one in inner]).mean(0)
            losses = (1 - self.intermediate_weight) * losses + self.intermediate_weight * parts["intermediate"]
        if self.views == 2:
            one, other = emissions.chunk(2)
            parts["consistency"] = divergence(one, other, lengths[: len(one)])
            losses = losses + self.consistency * parts["consistency"]
        return TrainingLosses(losses, {name: part.detach() for name, part in parts.items()})

    def required_frames(self, labels: Sequence[int]) -> int:
        """One frame per label, and one for the blank between each pair of equal neighbours."""
        labels = list(labels)
        return len(labels) + sum(first == second for first, second in zip(labels, labels[1:]))


def refuse_out_of_range(
    consistency: float, time_mask_ratio: float, intermediate: Sequence[int], intermediate_weight: float
) -> None:
    """Raises UserError, naming the key, for settings that a description must not have."""
    if not isinstance(consistency, (int, float)) or not 0 <= consistency < float("inf"):
        raise UserError(f"loss.consistency takes a number of 0 or more, not {consistency!r}.")
    if not isinstance(time_mask_ratio, (int, float)) or not 0 < time_mask_ratio < float("inf"):
        raise UserError(f"loss.time_mask_ratio takes a number above 0, not {time_mask_ratio!r}.")
    if not isinstance(intermediate, (list, tuple)) or not all(type(one) is int and one >= 1 for one in intermediate):
        raise UserError(f"loss.intermediate takes a list of whole numbers of 1 or more, not {intermediate!r}.")
    if not isinstance(intermediate_weight, (int, float)) or not 0 < intermediate_weight < 1:
        raise UserError(f"loss.intermediate_weight takes a number above 0 and below 1, not {intermediate_weight!r}.")

"""Connectionist temporal classification (Graves et al., 2006)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asr.model.losses.loss import Loss
from asr.runtime.precision import at_least_float32


class Ctc(Loss):
    """The negative log-probability (natural logarithm) of the labels, summed over all their alignments (eqs. 3 and 8).

    An utterance with too few frames has an infinite loss, which is not zeroed: `feasible` finds such utterances before
    training. The gradient is only right for emissions that come out of a log-softmax, as torch's CTC requires.
    """

    name = "ctc"

    def __init__(self, blank: int = 0):
        """blank: the index of the blank unit in the emissions; no label may be the blank."""
        super().__init__()
        self.blank = blank

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

    def required_frames(self, labels: Sequence[int]) -> int:
        """One frame per label, and one for the blank between each pair of equal neighbours."""
        labels = list(labels)
        return len(labels) + sum(first == second for first, second in zip(labels, labels[1:]))

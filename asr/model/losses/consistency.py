"""How far the emissions of two augmented views of an utterance are apart (Yao et al. 2024, "CR-CTC", section 3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from asr.runtime.precision import at_least_float32


def divergence(one: Tensor, other: Tensor, lengths: Tensor) -> Tensor:
    """½ Σ_t KL(other_t ‖ one_t) + KL(one_t ‖ other_t) for each utterance, (batch,) float32 or more, in nats.

    one, other: (batch, time, units) log-probabilities. lengths: (batch,) int64 valid frames of both. The first distribution
    of each KL is a target, through which no gradient flows. Computed in float32 even under autocast; float64 stays float64.
    """
    with torch.autocast(one.device.type, enabled=False):
        one, other = at_least_float32(one), at_least_float32(other)
        apart = directed(other, one) + directed(one, other)
        padding = torch.arange(one.shape[1], device=one.device) >= lengths.to(one.device)[:, None]
        return 0.5 * apart.masked_fill(padding, 0.0).sum(1)


def directed(target: Tensor, emissions: Tensor) -> Tensor:
    """KL(target ‖ emissions) of each frame, (batch, time)."""
    return F.kl_div(emissions, target.detach(), reduction="none", log_target=True).sum(2)

"""A linear layer to log-probabilities, with a loss over them."""

from __future__ import annotations

from typing import Any

from asr.model.heads.linear import LinearHead


class Ctc(LinearHead):
    """Every hidden state emits a distribution over the units, the blank among them (Graves et al. 2006).

    loss: `name` and settings of a part of `asr.model.losses`; its weights, if it has any, belong to the head.
    """

    name = "ctc"

    def __init__(self, dim: int, units: int, loss: dict[str, Any] | None = None):
        super().__init__(dim, units, loss or {"name": "ctc"})

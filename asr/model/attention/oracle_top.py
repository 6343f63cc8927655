"""Attention to every query's best keys only."""

from __future__ import annotations

from torch import Tensor

from asr.model.attention.base import Attention
from kernels.topk import topk_attention


class OracleTop(Attention):
    """Full attention cut down to every query's `topk` highest keys (Vyas et al. 2020, section 4.1, oracle-top).

    With as many as there are keys this is full attention. It computes all scores to find the best: no saving, an oracle.
    """

    name = "oracle_top"
    label_knob = "topk"

    def __init__(self, topk: int = 32, seed: int = 0) -> None:
        super().__init__(seed)
        self.topk = self.whole_number("topk", topk)

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None
    ) -> Tensor:
        return topk_attention(queries, keys, values, lengths, key_lengths, self.topk)

"""Attention to each query's best keys only."""

from __future__ import annotations

from torch import Tensor

from asr.kernels.topk import topk_attention
from asr.model.attention.base import Attention


class OracleTop(Attention):
    """Full attention restricted to each query's `topk` highest keys (Vyas et al. 2020, section 4.1, oracle-top).

    With `topk` at the number of keys it is full attention. It computes all scores to find the best, so it saves no time.
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

"""Softmax attention over all keys."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from asr.model.attention.base import Attention
from kernels.padding import additive_mask, zero_padded


class Full(Attention):
    """Every query attends to every key (Vaswani et al. 2017; Vyas et al. 2020, eqs. 1-2), by torch's fused kernels."""

    name = "full"

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None
    ) -> Tensor:
        mask = None if key_lengths is None else additive_mask(key_lengths, keys.shape[2], queries.dtype)[:, None, None]
        if self.finite_padding:
            return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        shared = keys is queries
        queries = zero_padded(queries, lengths)
        keys = queries if shared else zero_padded(keys, key_lengths)
        values = zero_padded(values, key_lengths)
        return zero_padded(F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask), lengths)

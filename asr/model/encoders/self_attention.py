"""Self-attention in an encoder's block: an attention between its projections."""

from __future__ import annotations

import torch
from torch import nn

from asr.model.attention.place import Place
from asr.model.encoders.base import CreateAttention
from asr.model.encoders.rows import in_rows


class SelfAttention(nn.Module):
    """Projects hidden states (batch, time, dim) to heads, applies the attention of `place`, and projects the heads back.

    shared_qk: whether one projection gives queries and keys.
    """

    def __init__(self, place: Place, shared_qk: bool, create_attention: CreateAttention):
        super().__init__()
        self.heads, self.head_dim, self.shared_qk = place.heads, place.head_dim, shared_qk
        inner = place.heads * place.head_dim
        self.input_projection = nn.Linear(place.dim, (2 if shared_qk else 3) * inner)
        self.output_projection = nn.Linear(inner, place.dim)
        self.attention = create_attention(place)
        # hidden states are finite everywhere, and nothing reads those in the padding
        self.attention.finite_padding = True

    def forward(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        batch, time, _ = hidden.shape
        projected = in_rows(self.input_projection, hidden).view(batch, time, -1, self.heads, self.head_dim)
        parts = projected.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, time, head_dim)
        queries, values = parts[0], parts[-1]
        keys = queries if self.shared_qk else parts[1]
        attended = self.attention(queries, keys, values, lengths)
        joined = attended.transpose(1, 2).reshape(batch, time, self.heads * self.head_dim)
        return in_rows(self.output_projection, joined)

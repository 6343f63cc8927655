"""The Transformer encoder of Vyas et al. 2020, section 4 and C.3: fixed sinusoidal positions, self-attention as a part."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from asr.errors import UserError
from asr.model.encoders import Encoder
from asr.model.encoders.rows import in_rows
from asr.model.encoders.subsampling import create_front_end


class Transformer(Encoder):
    """Subsampling, sinusoidal positions, and `layers` blocks of self-attention and feed-forward.

    create_attention: makes one layer's attention from the layer's index and the size of a head; the parts of
        `asr.model.attention` fit. Whether queries and keys share a projection (`shared_qk`) belongs to the weights and so to the
        encoder; an attention that needs it shared says so itself.
    """

    name = "transformer"

    def __init__(
        self,
        input_dim: int,
        create_attention: Callable[[int, int], nn.Module],
        layers: int = 9,
        heads: int = 6,
        head_dim: int = 32,
        feed_forward: int = 768,
        dropout: float = 0.1,
        norm: str = "pre",
        front_end: str = "stack",
        subsampling: int = 1,
        shared_qk: bool = False,
    ):
        super().__init__()
        if norm not in ("pre", "post"):
            raise UserError(f"encoder.norm is pre or post, not {norm!r}.")
        for key, value in (
            ("layers", layers),
            ("heads", heads),
            ("head_dim", head_dim),
            ("feed_forward", feed_forward),
        ):
            if not isinstance(value, int) or value < 1:
                raise UserError(f"encoder.{key} takes a whole number of 1 or more, not {value!r}.")
        if not 0 <= dropout < 1:
            raise UserError(f"encoder.dropout lies between 0 and 1, not at {dropout!r}.")
        dim = self.output_dim = heads * head_dim
        self.front_end = create_front_end(front_end, input_dim, dim, subsampling)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            Layer(dim, heads, head_dim, feed_forward, dropout, norm, shared_qk, create_attention(index, head_dim))
            for index in range(layers)
        )
        self.final_norm = nn.LayerNorm(dim) if norm == "pre" else nn.Identity()
        # less memory for a third more time: what lies inside a layer is computed again in the backward pass
        self.checkpoint_activations = False

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, lengths = self.front_end(features, lengths)
        hidden = self.dropout(hidden + sinusoidal_positions(hidden.shape[1], hidden.shape[2], hidden))
        for layer in self.layers:
            if self.checkpoint_activations and torch.is_grad_enabled():
                hidden = checkpoint(layer, hidden, lengths, use_reentrant=False)
            else:
                hidden = layer(hidden, lengths)
        return self.final_norm(hidden), lengths

    def output_lengths(self, lengths):
        return self.front_end.output_lengths(lengths)


class Layer(nn.Module):
    """One block: self-attention and feed-forward, each beside a residual connection, normalized before or after."""

    def __init__(self, dim, heads, head_dim, feed_forward, dropout, norm, shared_qk, attention):
        super().__init__()
        self.norm_first = norm == "pre"
        self.attention = SelfAttention(dim, heads, head_dim, shared_qk, attention)
        self.attention_norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, feed_forward), nn.GELU(), nn.Dropout(dropout), nn.Linear(feed_forward, dim)
        )
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if self.norm_first:
            hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden), lengths))
            return hidden + self.dropout(in_rows(self.feed_forward, self.feed_forward_norm(hidden)))
        hidden = self.attention_norm(hidden + self.dropout(self.attention(hidden, lengths)))
        return self.feed_forward_norm(hidden + self.dropout(in_rows(self.feed_forward, hidden)))


class SelfAttention(nn.Module):
    """Projects hidden states (batch, time, dim) to heads, hands them to `attention`, joins what comes back."""

    def __init__(self, dim: int, heads: int, head_dim: int, shared_qk: bool, attention: nn.Module):
        super().__init__()
        self.heads, self.head_dim, self.shared_qk = heads, head_dim, shared_qk
        self.input_projection = nn.Linear(dim, (2 if shared_qk else 3) * heads * head_dim)
        self.output_projection = nn.Linear(heads * head_dim, dim)
        self.attention = attention
        # hidden states are finite everywhere, and those at padded steps are never read
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


def sinusoidal_positions(time: int, dim: int, like: torch.Tensor) -> torch.Tensor:
    """(time, dim) fixed positions: sines and cosines of wavelengths from 2π to 20000π frames (Vaswani et al. 2017, 3.5)."""
    position = torch.arange(time, device=like.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2, device=like.device, dtype=torch.float32) * (-math.log(10000.0) / dim))
    angles = position * rate
    return torch.stack((angles.sin(), angles.cos()), dim=-1).reshape(time, -1)[:, :dim].to(like.dtype)

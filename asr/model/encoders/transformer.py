"""The Transformer encoder of Vyas et al. 2020, sections 4 and C.3: fixed sinusoidal positions, any self-attention."""

from __future__ import annotations

import math

import torch
from torch import nn

from asr.errors import UserError
from asr.model.attention.place import Place
from asr.model.encoders.base import CreateAttention, Encoder
from asr.model.encoders.rows import in_rows
from asr.model.encoders.self_attention import SelfAttention
from asr.model.encoders.subsampling import create_front_end


class Transformer(Encoder):
    """Subsampling, sinusoidal positions, and `layers` blocks of self-attention and feed-forward.

    `shared_qk` (one projection for queries and keys) changes the weights, so it is a setting of the encoder; an attention
    declares whether it needs it. The other settings are those of `conf/encoder/transformer.yaml`. Raises UserError, naming
    the key, for settings out of range.
    """

    name = "transformer"

    def __init__(
        self,
        input_dim: int,
        create_attention: CreateAttention,
        layers: int = 9,
        heads: int = 6,
        head_dim: int = 32,
        feed_forward: int = 768,
        dropout: float = 0.1,
        norm: str = "pre",
        front_end: str = "stack",
        subsampling: int = 1,
        output_subsampling: int = 1,
        shared_qk: bool = False,
    ):
        super().__init__(output_subsampling)
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
            raise UserError(f"encoder.dropout takes a number from 0 to below 1, not {dropout!r}.")
        if not isinstance(shared_qk, bool):
            raise UserError(f"encoder.shared_qk is true or false, not {shared_qk!r}.")
        dim = self.output_dim = heads * head_dim
        self.front_end = create_front_end(front_end, input_dim, dim, subsampling)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            Layer(Place(index, layers, heads, head_dim, dim), feed_forward, dropout, norm, shared_qk, create_attention)
            for index in range(layers)
        )
        self.final_norm = nn.LayerNorm(dim) if norm == "pre" else nn.Identity()
        self.subsampling, self.centre, self.shared_qk = subsampling, self.front_end.centre, shared_qk
        self.feed_forward = feed_forward

    def states(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, lengths = self.front_end(features, lengths)
        hidden = self.dropout(hidden + sinusoidal_positions(hidden.shape[1], hidden.shape[2], hidden))
        for layer in self.layers:
            hidden = self.run(layer, hidden, lengths)
        return self.finish(hidden), lengths

    def finish(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.final_norm(hidden)

    def state_lengths(self, lengths):
        return self.front_end.output_lengths(lengths)

    def values_per_state(self) -> int:
        return 12 * self.output_dim + 2 * self.feed_forward


class Layer(nn.Module):
    """One block: self-attention and feed-forward, each with a residual connection, normalized before or after."""

    def __init__(self, place: Place, feed_forward: int, dropout: float, norm: str, shared_qk: bool, create_attention):
        super().__init__()
        dim = place.dim
        self.norm_first = norm == "pre"
        self.attention = SelfAttention(place, shared_qk, create_attention)
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


def sinusoidal_positions(time: int, dim: int, like: torch.Tensor) -> torch.Tensor:
    """(time, dim) fixed positions: sines and cosines of wavelengths from 2π to 20000π frames (Vaswani et al. 2017, 3.5)."""
    position = torch.arange(time, device=like.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2, device=like.device, dtype=torch.float32) * (-math.log(10000.0) / dim))
    angles = position * rate
    return torch.stack((angles.sin(), angles.cos()), dim=-1).reshape(time, -1)[:, :dim].to(like.dtype)

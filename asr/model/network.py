"""The recognizer's network as one module: waveforms → emissions. Rebuilt by name from plain data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from asr.errors import UserError
from asr.model.attention import attentions
from asr.model.encoders import encoders
from asr.model.encoders.rows import in_rows
from asr.model.features import Features
from asr.runtime.precision import at_least_float32


class Model(nn.Module):
    """Features, encoder and a linear layer to units.

    description: what a checkpoint carries, as plain data:
        features: settings of `asr.model.features.Features`, the sample rate (Hz) among them;
        encoder: `name` and settings of a part of `asr.model.encoders`, `shared_qk` true or false;
        attention: `name` and settings of a part of `asr.model.attention`;
        units: how many, the blank included.

    Raises UserError if a part is unknown, or if the attention needs queries and keys from one projection and the encoder's
    weights have two.
    """

    def __init__(self, description: dict[str, Any]):
        super().__init__()
        self.description = description
        self.features = Features(**description["features"])
        refuse_unshared(description["attention"], description["encoder"]["shared_qk"])
        self.encoder = encoders.create(
            description["encoder"],
            input_dim=self.features.mels,
            create_attention=attention_maker(description["attention"]),
        )
        self.head = nn.Linear(self.encoder.output_dim, description["units"])

    def forward(self, waveforms: torch.Tensor, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """waveforms (batch, samples) float32, samples (batch,) int64 → emissions, their lengths.

        emissions: (batch, time', units) log-probabilities: float64 where the weights are, float32 elsewhere.
        """
        features, lengths = self.features(waveforms, samples)
        hidden, lengths = self.encoder(features.to(self.head.weight.dtype), lengths)
        return at_least_float32(in_rows(self.head, hidden)).log_softmax(dim=-1), lengths

    @property
    def seconds_per_emission(self) -> float:
        """How much audio an emission stands for, in seconds."""
        return self.features.filter_bank.frame_shift * self.description["encoder"].get("subsampling", 1)

    def attention_label(self) -> str:
        """`i_clustered-100`: the attention and its main knob."""
        return attentions.get(self.description["attention"]["name"])(
            **{key: value for key, value in self.description["attention"].items() if key != "name"}
        ).label()

    def with_attention(self, attention: dict[str, Any]) -> Model:
        """The same weights under another attention. Raises UserError if these weights cannot serve it."""
        other = Model({**self.description, "attention": attention})
        other.load_state_dict(self.state_dict())
        return other.to(self.head.weight.device, self.head.weight.dtype).train(self.training)


def attention_maker(settings: dict[str, Any]) -> Callable[[int, int], nn.Module]:
    """Makes the attention of each layer; a layer's index seeds what its attention draws."""

    def create(layer: int, head_dim: int) -> nn.Module:
        return attentions.create(settings, seed=layer)

    return create


def refuse_unshared(attention: dict[str, Any], shared_qk: bool) -> None:
    """Raises UserError if `attention` needs queries and keys from one projection and they come from two."""
    if attentions.get(attention["name"]).shared_qk and not shared_qk:
        raise UserError(
            f"attention={attention['name']} needs queries and keys from one projection, but here they come from two. "
            f"Train with attention={attention['name']} or with encoder.shared_qk=true for weights that can serve it."
        )

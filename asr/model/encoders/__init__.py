"""Encoders: features (batch, time, mels) → hidden states (batch, time', dim). Self-attention is a part handed in."""

from __future__ import annotations

import abc
from typing import ClassVar

import torch

from asr.registry import Registry

encoders = Registry("asr.model.encoders", "encoder")


class Encoder(torch.nn.Module, abc.ABC):
    """Base class of all encoders.

    output_dim: size of a hidden state.
    """

    name: ClassVar[str]
    output_dim: int

    @abc.abstractmethod
    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """features (batch, time, mels), lengths (batch,) int64 → hidden states (batch, time', output_dim), their lengths.

        Features at padded times are zero; nothing there, and no other sequence of the batch, changes a valid output.
        """

    @abc.abstractmethod
    def output_lengths(self, lengths):
        """The exact number of hidden states for a number of frames; takes an int or an int64 tensor."""

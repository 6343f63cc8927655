"""The base class of all encoders."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from asr.errors import UserError
from asr.model.attention.base import Attention
from asr.model.attention.place import Place

CreateAttention = Callable[[Place], Attention]


class Encoder(nn.Module, abc.ABC):
    """Base class of all encoders.

    A subclass takes `input_dim` (mels), `create_attention` (`CreateAttention`: from a layer's place to its attention) and its
    own settings, those of `conf/encoder/<name>.yaml`, and computes hidden states (`states`). It sets

    output_dim: size of a hidden state.
    layers: its blocks, in order; may be empty. Sharding spreads them over processes one by one.
    subsampling: feature frames per hidden state, which is what its attention sees.
    centre: middle of the frames that the first hidden state sees, counted in frames from the first one.
    shared_qk: whether one projection gives queries and keys, which some attentions need.

    output_subsampling: hidden states per output; the others never reach the head. Kaldi's chain models have 3, with hidden
        states every 10 ms.
    checkpoint_activations: set by training; saves memory for a third more time. `run` obeys it.
    """

    name: ClassVar[str]
    output_dim: int
    layers: nn.ModuleList
    subsampling: int = 1
    centre: float = 0.0
    shared_qk: bool = False
    checkpoint_activations: bool = False

    def __init__(self, output_subsampling: int = 1):
        """Raises UserError unless `output_subsampling` is a whole number of 1 or more."""
        super().__init__()
        if not isinstance(output_subsampling, int) or output_subsampling < 1:
            raise UserError(
                f"encoder.output_subsampling takes a whole number of 1 or more, not {output_subsampling!r}."
            )
        self.output_subsampling = output_subsampling

    @abc.abstractmethod
    def states(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """features (batch, time, mels), lengths (batch,) int64 → hidden states (batch, time', output_dim), their lengths.

        Padded features are zero. Neither they nor the other utterances of a batch may change a valid hidden state.
        """

    @abc.abstractmethod
    def state_lengths(self, lengths):
        """The exact number of hidden states for `lengths` frames. Takes and returns an int or an int64 tensor."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """As `states`, but only every `output_subsampling`-th hidden state, from the first."""
        hidden, lengths = self.states(features, lengths)
        return hidden[:, :: self.output_subsampling], self._outputs(lengths)

    def output_lengths(self, lengths):
        """The exact number of outputs for `lengths` frames. Takes and returns an int or an int64 tensor."""
        return self._outputs(self.state_lengths(lengths))

    def _outputs(self, states):
        return (states + self.output_subsampling - 1) // self.output_subsampling

    @property
    def frames_per_output(self) -> int:
        """Feature frames from one output to the next."""
        return self.subsampling * self.output_subsampling

    def run(self, layer: nn.Module, *arguments: Any) -> Any:
        """`layer(*arguments)`; with `checkpoint_activations`, recomputed in the backward pass instead of kept."""
        if self.checkpoint_activations and torch.is_grad_enabled():
            return checkpoint(layer, *arguments, use_reentrant=False)
        return layer(*arguments)

    def values_per_state(self) -> int:
        """Roughly how many values one block holds per hidden state, to estimate memory without gradients."""
        return 20 * self.output_dim

    @classmethod
    def settled(cls, settings: dict[str, Any], shared_qk: bool) -> dict[str, Any]:
        """`settings` with `shared_qk: auto` replaced by what the attention needs."""
        return {**settings, "shared_qk": shared_qk} if settings.get("shared_qk") == "auto" else settings

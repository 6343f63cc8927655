"""The base class of all encoders."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator, Sequence
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
        return self.outputs_of(hidden), self._outputs(lengths)

    def outputs_of(self, states: Tensor) -> Tensor:
        """Those of the hidden states (batch, time', dim) that reach the head."""
        return states[:, :: self.output_subsampling]

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

    def finish(self, hidden: Tensor) -> Tensor:
        """From a block's output to hidden states, as after the last block: (batch, time', dim) → the same shape.

        An encoder that normalizes after its last block does so here, for intermediate losses.
        """
        return hidden

    @contextlib.contextmanager
    def watched(self, blocks: Sequence[int]) -> Iterator[list[Tensor]]:
        """Gathers the outputs of some blocks, numbered from 1, in a forward pass within the context; in the encoder's order.

        Needs blocks that return hidden states alone, as many as `states` does.
        """
        outputs: list[Tensor] = []
        hooks = [
            self.layers[block - 1].register_forward_hook(lambda _block, _arguments, output: outputs.append(output))
            for block in blocks
        ]
        try:
            yield outputs
        finally:
            # before the backward pass, which runs checkpointed blocks again
            for hook in hooks:
                hook.remove()

    def values_per_state(self) -> int:
        """Roughly how many values one block holds per hidden state, to estimate memory without gradients."""
        return 20 * self.output_dim

    @classmethod
    def settled(cls, settings: dict[str, Any], shared_qk: bool) -> dict[str, Any]:
        """`settings` with `shared_qk: auto` replaced by what the attention needs."""
        return {**settings, "shared_qk": shared_qk} if settings.get("shared_qk") == "auto" else settings

"""The recognizer's network: waveforms → emissions, as one module built from plain data."""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
from torch import Tensor, nn

from asr.errors import UserError, listed
from asr.model.attention import attention_at, attentions, label_of, spelled_out
from asr.model.attention.base import Attention
from asr.model.encoders import Encoder, encoders
from asr.model.features import Features
from asr.model.heads import Head, heads
from asr.model.losses.loss import TrainingLosses
from asr.model.topologies import topologies
from asr.model.topologies.base import Topology

log = logging.getLogger(__name__)

# the head of descriptions that predate heads
FIRST_HEAD = {"name": "ctc", "loss": {"name": "ctc"}}


class Model(nn.Module):
    """Features, an encoder and a head.

    description: plain data, carried by every checkpoint:
        features: settings of `asr.model.features.Features`, the sample rate (Hz) among them;
        encoder: `name` and settings of a part of `asr.model.encoders`;
        attention: `name` and settings of a part of `asr.model.attention`;
        head: `name` and settings of a part of `asr.model.heads`; `FIRST_HEAD` if missing;
        units: their number, the blank included.

    Raises UserError if a part is unknown, if the attention needs queries and keys from one projection and the encoder has two, or
    if the loss needs blocks or augmentation that are not there.
    """

    def __init__(self, description: dict[str, Any]):
        super().__init__()
        attention = spelled_out(description["attention"])
        self.description = {"head": FIRST_HEAD, **description, "attention": attention}
        self.features = Features(**description["features"])
        self.encoder = encoders.create(
            description["encoder"],
            input_dim=self.features.mels,
            create_attention=functools.partial(attention_at, attention),
        )
        refuse_unshared(attention, self.encoder)
        self.head = heads.create(self.description["head"], dim=self.encoder.output_dim, units=description["units"])
        refuse_missing_blocks(self.head, self.encoder)
        if self.head.views > 1:
            refuse_equal_views(self.features, self.encoder)
            if self.features.spec_augment is not None:
                self.features.spec_augment.multiply_time_masks(self.head.time_mask_ratio)

    def encode(self, waveforms: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """waveforms (batch, samples) float32, samples (batch,) int64 → encoder outputs (batch, time', dim), their lengths."""
        features, lengths = self.features(waveforms, samples)
        return self.encoder(features.to(next(self.encoder.parameters()).dtype), lengths)

    def forward(self, waveforms: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """waveforms (batch, samples) float32, samples (batch,) int64 → emissions, their lengths.

        emissions: (batch, time', units) log-probabilities: float64 for float64 weights, float32 otherwise. Raises UserError
        if the head has none.
        """
        hidden, lengths = self.encode(waveforms, samples)
        return self.head.emissions(hidden), lengths

    def training_losses(self, waveforms: Tensor, samples: Tensor, *spoken: Any) -> TrainingLosses:
        """What training minimizes. The head may ask for several views of each utterance, augmented independently.

        waveforms (batch, samples) float32, samples (batch,) int64. spoken: what the head compares hidden states with, see
        `Batch.spoken`. The views share their speed, so that their frames correspond.
        """
        views = self.head.views
        if views > 1:
            waveforms, samples = waveforms.repeat(views, 1), samples.repeat(views)
        with self.encoder.watched(self.head.blocks) as outputs:
            hidden, lengths = self.encode(waveforms, samples)
        inner = [self.encoder.outputs_of(self.encoder.finish(output)) for output in outputs]
        return self.head.training_losses(hidden, inner, lengths, *spoken)

    @property
    def topology(self) -> Topology:
        """How emissions spell units; CTC's where the head has no other."""
        return getattr(self.head, "topology", None) or topologies.create(
            {"name": "ctc"}, units=self.description["units"]
        )

    @property
    def seconds_per_emission(self) -> float:
        """Seconds of audio per emission."""
        return self.features.frame_shift * self.encoder.frames_per_output

    @property
    def seconds_per_state(self) -> float:
        """Seconds of audio per hidden state, which attention sees."""
        return self.features.frame_shift * self.encoder.subsampling

    def attention_label(self) -> str:
        """The attention and its main knob: `i_clustered-100`."""
        return label_of(self.description["attention"])

    def attention_weights(self) -> set[str]:
        """The names of the weights that attentions own."""
        owners = [(name, part) for name, part in self.named_modules() if isinstance(part, Attention)]
        return {f"{name}.{weight}" for name, part in owners for weight in part.state_dict()}

    def with_attention(self, attention: dict[str, Any]) -> Model:
        """The same weights under another attention. Raises UserError if they do not fit it.

        Warns of weights that the other attention leaves unused.
        """
        other, weights = self._under(attention), self.state_dict()
        unused = sorted(weights.keys() - other.state_dict().keys())
        if unused:
            log.warning(
                "attention=%s leaves %d trained weights of attention=%s unused: %s",
                label_of(attention), len(unused), self.attention_label(), listed(unused, 3),
            )  # fmt: skip
        other.load_state_dict({name: weights[name] for name in other.state_dict()})
        like = next(self.encoder.parameters())
        return other.to(like.device, like.dtype).train(self.training)

    def refuse_attention(self, attention: dict[str, Any]) -> None:
        """Raises UserError if these weights do not fit an attention."""
        with torch.random.fork_rng([]):
            self._under(attention)

    def _under(self, attention: dict[str, Any]) -> Model:
        """A freshly initialized model with another attention. Raises UserError if it has weights that this one lacks."""
        refuse_unshared(attention, self.encoder)
        other, own = Model({**self.description, "attention": attention}), self.state_dict()
        lacking = [name for name, new in other.state_dict().items() if name not in own or own[name].shape != new.shape]
        if lacking:
            raise UserError(
                f"attention={label_of(attention)} has weights of its own that this model lacks ({listed(lacking, 3)}): it was "
                f"trained with attention={self.attention_label()}. Train with attention={attention['name']}; init_from=… starts "
                "from this model."
            )
        return other


def refuse_unshared(attention: dict[str, Any], encoder: Encoder) -> None:
    """Raises UserError if `attention` needs queries and keys from one projection and the encoder has two."""
    if attentions.get(attention["name"]).shared_qk and not encoder.shared_qk:
        raise UserError(
            f"attention={attention['name']} needs queries and keys from one projection, but here they come from two. "
            f"Train with attention={attention['name']} or with encoder.shared_qk=true for weights that can serve it."
        )


def refuse_missing_blocks(head: Head, encoder: Encoder) -> None:
    """Raises UserError if the head's loss reads blocks that the encoder does not have, or the last one, which it reads anyway."""
    count = len(encoder.layers)
    if any(block >= count for block in head.blocks):
        layers, advice = ("layers", f"Give numbers below {count}.") if count > 1 else ("layer", "Leave it out.")
        raise UserError(
            f"loss.intermediate={list(head.blocks)}: this encoder has {count} {layers}, and intermediate ones come before the "
            f"last. {advice}"
        )


def refuse_equal_views(features: Features, encoder: Encoder) -> None:
    """Raises UserError if nothing random sets the views of an utterance apart: their divergence would always be 0."""
    drops = any(isinstance(part, nn.Dropout) and part.p > 0 for part in encoder.modules())
    masks = features.spec_augment
    if not drops and (masks is None or not masks.time_masks + masks.frequency_masks):
        raise UserError(
            "loss.consistency compares two views of an utterance, which do not differ without masks and dropout: "
            "set features.spec_augment or encoder.dropout."
        )

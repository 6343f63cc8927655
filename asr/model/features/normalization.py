"""Normalization of features to mean zero and variance one, per utterance or by the training split's statistics."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from asr.errors import UserError, nearest
from asr.model.features.float32 import KeepsFloat32

NORMALIZATIONS = ("global", "none", "utterance")
LEAST_VARIANCE = 1e-5  # a constant band stays at zero instead of blowing up


class Normalization(KeepsFloat32):
    """Mean and variance normalization of each mel band over valid frames; frames after an utterance's end stay zero.

    `utterance` uses the utterance's own statistics; `global` those that `gather` computed over the training split, which are
    buffers and so are saved with the model; `none` leaves the features as they are.
    """

    mean: Tensor
    variance: Tensor
    frames: Tensor

    def __init__(self, mels: int, kind: str = "utterance"):
        """Raises UserError for any other kind."""
        super().__init__()
        if kind not in NORMALIZATIONS:
            raise UserError(f"features.normalization={kind!r}: {nearest(kind, NORMALIZATIONS)}.")
        self.kind = kind
        if kind == "global":
            self.register_buffer("mean", torch.zeros(mels))
            self.register_buffer("variance", torch.ones(mels))
            self.register_buffer("frames", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """features: (batch, frames, mels) float32; lengths: (batch,) int64 frames. Returns the same shape, float32."""
        if self.kind == "none":
            return features
        valid = valid_frames(features, lengths)
        if self.kind == "utterance":
            count = lengths.to(features.device).clamp_min(1)[:, None, None]
            centered = (features - (features * valid).sum(dim=1, keepdim=True) / count).mul_(valid)
            variance = centered.square().sum(dim=1, keepdim=True) / count
            return centered.mul_(variance.clamp_min(LEAST_VARIANCE).rsqrt())
        scale = self.variance.float().clamp_min(LEAST_VARIANCE).rsqrt()
        return (features - self.mean.float()).mul_(scale).mul_(valid)

    @torch.no_grad()
    def gather(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Computes mean and variance of each band over `batches` of (features, lengths), in float64.

        Raises UserError if they hold no frame.
        """
        frames = 0
        total = squares = torch.zeros_like(self.mean, dtype=torch.float64)
        shift = total
        for features, lengths in batches:
            valid = valid_frames(features, lengths)
            if not frames:  # near the mean, so that the difference of squares keeps its digits
                shift = ((features * valid).sum(dim=(0, 1)) / lengths.sum().clamp_min(1).to(features.device)).double()
            shifted = (features.double() - shift) * valid
            frames += int(lengths.sum())
            total = total + shifted.sum(dim=(0, 1)).to(total.device)
            squares = squares + shifted.square().sum(dim=(0, 1)).to(total.device)
        if frames == 0:
            raise UserError(
                "features.normalization=global finds no frame of speech in the training split: give it longer utterances."
            )
        mean = total / frames
        self.mean.copy_(mean + shift.to(mean.device))
        self.variance.copy_(squares / frames - mean.square())
        self.frames.fill_(frames)


def valid_frames(features: Tensor, lengths: Tensor) -> Tensor:
    """(batch, frames, 1) bool: which frames are valid."""
    frames = torch.arange(features.shape[1], device=features.device)
    return (frames < lengths.to(features.device)[:, None])[:, :, None]

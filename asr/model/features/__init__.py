"""From waveforms to normalized log-mel filter banks, for a whole batch, on the waveforms' device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from asr.errors import UserError
from asr.model.features.augment import SpecAugment, SpeedPerturbation, samples_at
from asr.model.features.filter_bank import FilterBank
from asr.model.features.normalization import Normalization


class Features(torch.nn.Module):
    """Speed perturbation → filter bank → normalization → SpecAugment; the first and last in training only."""

    def __init__(
        self,
        sample_rate: int,
        mels: int = 40,
        window_seconds: float = 0.025,
        hop_seconds: float = 0.010,
        dither: float = 0.0,
        normalization: str = "utterance",
        speed_perturbation: Sequence[float] = (),
        spec_augment: dict[str, Any] | None = None,
    ):
        """sample_rate: Hz. mels: values per frame. dither: see `FilterBank`. normalization: "utterance", "global", "none".
        speed_perturbation: factors, empty for none. spec_augment: settings of `SpecAugment`, None for none.

        Raises UserError, naming the key, for settings out of range.
        """
        super().__init__()
        self.filter_bank = FilterBank(sample_rate, mels, window_seconds, hop_seconds, dither)
        self.normalization = Normalization(mels, normalization)
        self.speed_perturbation = SpeedPerturbation(list(speed_perturbation or ()))
        self.spec_augment = None if spec_augment is None else create_spec_augment(spec_augment)
        self._settings = {
            "sample_rate": sample_rate,
            "mels": mels,
            "window_seconds": window_seconds,
            "hop_seconds": hop_seconds,
            "dither": dither,
            "normalization": normalization,
            "speed_perturbation": [float(factor) for factor in speed_perturbation or ()],
            "spec_augment": dict(spec_augment) if spec_augment is not None else None,
        }

    def settings(self) -> dict[str, Any]:
        """Plain values; `Features(**settings)` rebuilds the same features."""
        return dict(self._settings)

    @property
    def mels(self) -> int:
        return self.filter_bank.mels

    @property
    def sample_rate(self) -> int:
        return self.filter_bank.sample_rate

    @property
    def frame_shift(self) -> float:
        """Seconds from one frame to the next."""
        return self.filter_bank.frame_shift

    def frames_of(self, samples):
        """The exact number of frames of `samples` in evaluation. Takes and returns an int or an int64 tensor."""
        return self.filter_bank.frames_of(samples)

    def fewest_frames_of(self, samples):
        """The fewest frames that `samples` can give in training: their exact number at the fastest speed."""
        return self.frames_of(samples_at(samples, max(self.speed_perturbation.fastest, Fraction(1))))

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """waveforms: (batch, samples) in [-1, 1); lengths: (batch,) int64 samples.

        Returns features (batch, frames, mels) float32, zero after an utterance's end, and lengths (batch,) int64 frames.
        """
        waveforms, lengths = self.speed_perturbation(waveforms, lengths)
        features, lengths = self.filter_bank(waveforms, lengths)
        features = self.normalization(features, lengths)
        if self.spec_augment is not None:
            features = self.spec_augment(features, lengths)
        return features, lengths

    @property
    def wants_statistics(self) -> bool:
        """Whether `gather_statistics` must be called before training: normalization is global and has no statistics."""
        return self.normalization.kind == "global" and not int(self.normalization.frames)

    def gather_statistics(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Computes the statistics of global normalization over the training split.

        batches: (waveforms, lengths), as in `forward`. Raises UserError if they hold no frame.
        """
        self.normalization.gather(self.filter_bank(waveforms, lengths) for waveforms, lengths in batches)


def create_spec_augment(settings: dict[str, Any]) -> SpecAugment:
    """SpecAugment with these settings. Raises UserError for a setting it does not have."""
    try:
        return SpecAugment(**settings)
    except TypeError as error:
        raise UserError(f"features.spec_augment={dict(settings)}: {error}. Mend that setting.") from None

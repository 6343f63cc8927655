"""Augmentation of training data on the fly: SpecAugment's masks, and speed perturbation."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from asr.errors import UserError


class SpecAugment(torch.nn.Module):
    """Masks mel bands and spans of time with zero, the mean of normalized features; in training only.

    Park et al., "SpecAugment" (2019), section 2, without time warping; the longest time mask is a share of the utterance
    (Park et al., "SpecAugment on Large Scale Datasets", 2020, section 3). Masks are drawn per utterance.
    """

    def __init__(
        self,
        frequency_masks: int = 2,
        frequency_width: int = 8,
        time_masks: int = 2,
        time_share: float = 0.05,
    ):
        """frequency_masks, time_masks: masks per utterance. frequency_width: widest mask, in mels. time_share: longest mask, as
        a share of the valid frames.

        Raises UserError for negative settings, and for a share above 1.
        """
        super().__init__()
        if min(frequency_masks, frequency_width, time_masks) < 0 or not 0 <= time_share <= 1:
            raise UserError("features.spec_augment: masks and widths must be 0 or more, and time_share from 0 to 1.")
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.time_masks, self.time_share = time_masks, time_share

    def multiply_time_masks(self, ratio: float) -> None:
        """Masks `ratio` times as many spans of time, rounded, none wider than before."""
        self.time_masks = round(ratio * self.time_masks)

    @torch.no_grad()
    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """features: (batch, frames, mels); lengths: (batch,) int64 frames. Returns the same shape and dtype."""
        if not self.training:
            return features
        batch, frames, mels = features.shape
        lengths = lengths.to(features.device)[:, None]
        masked = spans(lengths, (lengths * self.time_share).long(), self.time_masks, frames)[:, :, None]
        bands = lengths.new_full((batch, 1), mels)
        masked = masked | spans(bands, bands.clamp_max(self.frequency_width), self.frequency_masks, mels)[:, None, :]
        return features.masked_fill(masked, 0.0)


def spans(lengths: Tensor, widest: Tensor, count: int, size: int) -> Tensor:
    """(batch, size) bool: the union of `count` random spans within each row's length.

    lengths, widest: (batch, 1) int64. A span's width is uniform in 0 … widest, its start in 0 … length - width.
    """
    shape = (lengths.shape[0], count)
    widths = (torch.rand(shape, device=lengths.device) * (widest + 1)).long().clamp_max(widest)
    starts = (torch.rand(shape, device=lengths.device) * (lengths - widths + 1)).long().clamp_max(lengths - widths)
    index = torch.arange(size, device=lengths.device)
    inside = (index >= starts[:, :, None]) & (index < (starts + widths)[:, :, None])
    return inside.any(dim=1)


class SpeedPerturbation(torch.nn.Module):
    """Resamples each training batch to a random speed, which changes tempo and pitch together.

    Ko et al., "Audio augmentation for speech recognition" (2015), section 2.
    """

    def __init__(self, factors: list[float]):
        """factors: speeds, all equally likely; 1.1 is 10% faster. Raises UserError outside 0.5 to 2."""
        super().__init__()
        for factor in factors:
            if not isinstance(factor, (int, float)) or not 0.5 <= factor <= 2:
                raise UserError(
                    f"features.speed_perturbation: {factor!r} is not a speed between 0.5 and 2, such as 0.9 or 1.1."
                )
        # A fraction of small numbers keeps the resampling filter short: 11/10, not 17600/16000.
        self.speeds = [Fraction(factor).limit_denominator(100) for factor in factors]

    @property
    def fastest(self) -> Fraction:
        """The highest speed, at which an utterance is shortest."""
        return max(self.speeds, default=Fraction(1))

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """waveforms: (batch, samples) float32; lengths: (batch,) int64 samples. Returns both at the drawn speed."""
        if not self.training or not self.speeds:
            return waveforms, lengths
        speed = self.speeds[int(torch.randint(len(self.speeds), ()))]
        if speed == 1:
            return waveforms, lengths
        from torchaudio.functional import resample

        with torch.autocast(waveforms.device.type, enabled=False):
            faster = resample(waveforms.float(), speed.numerator, speed.denominator)
        return faster, samples_at(lengths, speed)


def samples_at(samples, speed: Fraction):
    """The exact number of samples after a change of speed. Takes and returns an int or an int64 tensor."""
    if isinstance(samples, Tensor):
        return -torch.div(-samples * speed.denominator, speed.numerator, rounding_mode="floor")
    return -(-samples * speed.denominator // speed.numerator)

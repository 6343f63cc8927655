"""A batch of noise as large as any in a training, to find out early whether it fits into memory."""

from __future__ import annotations

import torch

from asr.model.network import Model


def rehearse(model: Model, utterances: int, frames: int, device: torch.device) -> None:
    """Forward and backward pass of `utterances` utterances of noise, each `frames` long and played at the slowest speed."""
    features = model.features
    # speed perturbation would draw a speed at random; the slowest makes the longest batch
    speed, random = features.speed_perturbation, features.speed_perturbation.training
    seconds = frames * features.frame_shift / min([1.0, *map(float, speed.speeds)]) + 0.02
    generator = torch.Generator().manual_seed(0)
    waveforms = 0.01 * torch.randn(utterances, round(seconds * features.sample_rate), generator=generator)
    samples = torch.full((utterances,), waveforms.shape[1])
    labels = torch.ones(utterances, max(1, frames // 16), dtype=torch.int64)
    lengths_of_labels = torch.full((utterances,), labels.shape[1])
    speed.eval()
    try:
        losses = model.training_losses(
            waveforms.to(device), samples.to(device), labels.to(device), lengths_of_labels.to(device)
        ).losses
    finally:
        speed.train(random)
    with torch.autocast(device.type, enabled=False):
        losses.nan_to_num(0, 0, 0).sum().backward()

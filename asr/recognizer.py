"""The LightningModule: the one place that knows features, encoder, loss, decoder, units and scoring together."""

from __future__ import annotations

import time
from typing import Any

import lightning
import torch

from asr.checkpoint import CARRIED, pack_units
from asr.data.batches import Batch
from asr.decoders import Decoder
from asr.losses import Loss
from asr.model import Model
from asr.model_folder import FORMAT
from asr.scoring import align
from asr.units import Units


class Recognizer(lightning.LightningModule):
    """Trains a `Model` and scores it on the dev split.

    references: the tokens to score of every dev utterance, by the index that batches carry.
    create_optimizer: parameters → torch optimizer; schedule: a part of `asr.schedules`.
    max_minutes: the time after which training stops, if it is bounded by time.
    """

    def __init__(
        self,
        model: Model,
        units: Units,
        loss: Loss,
        decoder: Decoder,
        create_optimizer,
        schedule,
        references: list[list[str]],
        trained_on: dict[str, Any],
        max_minutes: float | None = None,
    ):
        super().__init__()
        self.model, self.loss, self.decoder, self.units = model, loss, decoder, units
        self.create_optimizer, self.schedule = create_optimizer, schedule
        self.references, self.trained_on, self.max_minutes = references, trained_on, max_minutes
        self.started: float | None = None
        self.audio_seconds = 0.0
        self.validated_step: int | None = None

    def forward(self, waveforms: torch.Tensor, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """waveforms (batch, samples), samples (batch,) → emissions (batch, time, units), their lengths."""
        return self.model(waveforms, samples)

    def on_train_start(self) -> None:
        self.started = time.monotonic()
        self.total_steps = max(1, self.trainer.estimated_stepping_batches)

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        emissions, lengths = self.model(batch.waveforms, batch.samples)
        losses = self.loss(emissions, lengths, batch.labels, batch.label_lengths)
        # per label, so that the loss can be read without knowing how long the utterances are
        loss = losses.sum() / batch.label_lengths.sum()
        self.audio_seconds += float(batch.samples.sum()) / self.model.features.filter_bank.sample_rate
        self.log("train/loss", loss.detach(), batch_size=len(batch.samples))
        return loss

    def progress(self) -> float:
        """The share of the training that is over: of its steps, or of its minutes if they end first."""
        share = self.trainer.global_step / self.total_steps
        if self.max_minutes and self.started is not None:
            share = max(share, (time.monotonic() - self.started) / 60 / self.max_minutes)
        return min(1.0, share)

    def configure_optimizers(self):
        decayed = [parameter for parameter in self.model.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in self.model.parameters() if parameter.ndim <= 1]
        # biases and normalization are not decayed: pulling them to zero regularizes nothing
        optimizer = self.create_optimizer([{"params": decayed}, {"params": others, "weight_decay": 0.0}])
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
        return optimizer

    def on_before_optimizer_step(self, optimizer) -> None:
        factor = self.schedule.factor(self.trainer.global_step, self.progress())
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"])

    def on_validation_epoch_start(self) -> None:
        self._totals = torch.zeros(4, dtype=torch.float64)

    def validation_step(self, batch: Batch, index: int) -> None:
        emissions, lengths = self.model(batch.waveforms, batch.samples)
        losses = self.loss(emissions, lengths, batch.labels, batch.label_lengths)
        errors = reference_length = 0
        for row, hypotheses in zip(batch.indices.tolist(), self.decoder(emissions, lengths)):
            reference = self.references[row]
            errors += align(reference, self.units.decode(hypotheses[0].ids)).errors
            reference_length += len(reference)
        labels = float(batch.label_lengths.sum())
        self._totals += torch.tensor([float(losses.sum()), labels, errors, reference_length], dtype=torch.float64)

    def on_validation_epoch_end(self) -> None:
        totals = self.all_gather(self._totals.float()).double().view(-1, 4).sum(0)
        loss, error_rate = (totals[0] / totals[1]).item(), (totals[2] / max(1.0, totals[3])).item()
        self.log("dev/loss", loss)
        self.log("dev/error_rate", error_rate)
        self.validated_step = self.trainer.global_step
        self.schedule.observe(loss)
        if self.started is not None:
            self.log("seconds", time.monotonic() - self.started)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[CARRIED] = {
            "description": {"format": FORMAT, **self.model.description, "trained_on": self.trained_on},
            "units": pack_units(self.units),
            "schedule": self.schedule.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.schedule.load_state_dict(checkpoint[CARRIED]["schedule"])

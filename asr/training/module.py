"""The LightningModule: the one place that knows features, encoder, head, decoder, units and scoring together."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import lightning
import torch

from asr.data.batches import Batch
from asr.data.plan import worst_batches
from asr.errors import UserError
from asr.model.checkpoint import CARRIED, pack_units
from asr.model.folder import FORMAT
from asr.runtime.memory import is_out_of_memory
from asr.training.averaging import MovingAverage
from asr.training.lightning_loop import validate_now
from asr.training.position import Position, Stepping
from asr.training.rehearsal import rehearse
from asr.training.setup import TrainingSetup
from asr.training.stepping import TakesSteps
from asr.training.validation import Validates
from asr.training.watchdogs import Watchdogs


class Recognizer(TakesSteps, Validates, lightning.LightningModule):
    """Trains a `Model` and scores it on the dev split.

    setup: what is trained and on what. create_optimizer: parameters → torch optimizer; schedule: a part of
    `asr.training.schedules`. stop: the signals that end a training. `error_rate` on dev, 0 to 1, decides which weights are the
    best; `error_rates` holds it and what is shown beside it by their names.

    Gradients are summed over processes and accumulated batches and divided by the number of labels in all of them, so that an
    utterance counts the same wherever it lies. What is random in a step (masks, dropout) is seeded by the step itself.
    """

    def __init__(
        self, setup: TrainingSetup, create_optimizer, schedule, stepping: Stepping, watchdogs: Watchdogs, stop=None
    ):
        super().__init__()
        self.automatic_optimization = False
        self.model, self.decoder, self.units = setup.model, setup.decoder, setup.units
        self.create_optimizer, self.schedule, self.plan = create_optimizer, schedule, setup.plan
        self.train_split, self.dev, self.trained_on = setup.train, setup.dev, setup.trained_on
        self.stepping, self.watchdogs = stepping, watchdogs
        self.together, self.stop = setup.together, stop
        self.position = Position()
        self.average = MovingAverage(setup.model, stepping.average) if stepping.average else None
        self.metric = setup.metric
        self.error_rate = self.dev_loss = self.last_loss = None
        self.error_rates: dict[str, float] = {}
        self.stop_agreed = self.stepped = False
        # whether weights, gradients and moments are spread over the processes (FSDP), which then sum gradients by themselves
        self.sharded = False
        self._started: float | None = None
        self._held: list[tuple[float, float]] = []
        # (utterances, losses) of what went into the step, to name the one that spoilt it
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._idle_since, self._waited, self._working_since = None, 0.0, None
        self._rank, self._ranks, self._local = self.together.place

    def forward(self, waveforms: torch.Tensor, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """waveforms (batch, samples), samples (batch,) → emissions (batch, time, units), their lengths."""
        return self.model(waveforms, samples)

    def configure_model(self) -> None:
        """Spreads each layer over the processes, where that is asked for. Called again, it changes nothing."""
        if self.sharded and not hasattr(self.model, "unshard"):
            from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

            for layer in self.model.encoder.layers:
                fully_shard(layer, mesh=self.device_mesh["data_parallel"])
            fully_shard(self.model, mesh=self.device_mesh["data_parallel"])
            # gathers the root's weights, the head's among them, as a call of the model does
            register_fsdp_forward_method(self.model, "encode")

    def configure_optimizers(self):
        decayed = [parameter for parameter in self.model.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in self.model.parameters() if parameter.ndim <= 1]
        # biases and normalization are not decayed: pulling them to zero regularizes nothing
        optimizer = self.create_optimizer([{"params": decayed}, {"params": others, "weight_decay": 0.0}])
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
        return optimizer

    def on_train_start(self) -> None:
        if self.average is not None:
            self.average.to(self.device)
        if self.stop is not None:
            # Lightning has taken SIGTERM for itself
            self.stop.install()
        if self.stepping.rehearse:
            self.rehearse()
        self._started = time.monotonic() - self.position.seconds
        self._idle_since = self._working_since = time.monotonic()
        if self.position.validation_due:
            validate_now(self.trainer)

    def rehearse(self) -> None:
        """Runs the batches that need the most memory before any other, forward and backward, and forgets them.

        Raises UserError if one does not fit: at the first minute, not at the longest batch of the last epoch.
        """
        for utterances, frames in worst_batches(self.plan.frames, self.plan.bounds):
            try:
                with self.trainer.precision_plugin.train_step_context():
                    rehearse(self.model, utterances, frames, self.device)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                seconds = frames * self.model.features.frame_shift
                raise UserError(
                    f"The largest batch of this training does not fit into memory: {utterances} utterances of up to "
                    f"{seconds:.1f} s. Lower data.batch_frames, or use trainer.find_batch=true, "
                    "trainer.activation_checkpointing=true or another attention."
                ) from None
            finally:
                self.zero_grad(set_to_none=True)

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        self._waited += time.monotonic() - self._idle_since

    def on_train_batch_end(self, outputs, batch: Batch, index: int) -> None:
        self._idle_since = time.monotonic()

    def waiting(self) -> float:
        """The share of the time since the last validation that was spent waiting for data."""
        since = self._working_since
        return self._waited / max(1e-9, time.monotonic() - since) if since is not None else 0.0

    def seconds(self) -> float:
        """Spent training, those before an interruption included."""
        return self.position.seconds if self._started is None else time.monotonic() - self._started

    @property
    def epoch(self) -> int:
        """The current pass over the training split, from 0."""
        return min(self.position.batches // max(1, self.plan.per_epoch), self.plan.epochs - 1)

    def progress(self) -> float:
        """The share of the training that is over: of its batches, or of its minutes if they end first."""
        share = self.position.batches / max(1, self.plan.total)
        if self.stepping.max_minutes:
            share = max(share, self.position.seconds / 60 / self.stepping.max_minutes)
        return min(1.0, share)

    @property
    def workers(self) -> int:
        loader = self.trainer.train_dataloader
        return loader.num_workers if loader is not None else 0

    def write(self, metrics: dict[str, float]) -> None:
        """Gives numbers to every logger, under the number of steps taken."""
        if self._rank == 0:
            more = {"epoch": self.epoch + 1, "seconds": self.position.seconds}
            for logger in self.trainer.loggers:
                logger.log_metrics({**more, **metrics}, step=self.position.steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[CARRIED] = {
            "description": {"format": FORMAT, **self.model.description, "trained_on": self.trained_on},
            "units": pack_units(self.units),
            "schedule": self.schedule.state_dict(),
            "position": dataclasses.asdict(self.position),
            "watchdogs": self.watchdogs.state(),
            "plan": self.plan.as_data(),
            "average": self.average.state() if self.average is not None else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        carried = checkpoint[CARRIED]
        self.schedule.load_state_dict(carried["schedule"])
        self.position = Position(**carried["position"])
        self.watchdogs.load_state(carried["watchdogs"])
        if self.average is not None and carried["average"] is not None:
            self.average.load_state(carried["average"])
        # the position says it all; Lightning would look for its own place in an epoch
        checkpoint.pop("loops", None)

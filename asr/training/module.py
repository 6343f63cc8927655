"""The LightningModule: what happens at a training step, at a validation, and when a checkpoint is written or read."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, cast

import lightning
import torch

from asr.data.batches import Batch, halves
from asr.data.plan import worst_batches
from asr.errors import UserError
from asr.model.checkpoint import CARRIED, pack_units
from asr.model.folder import FORMAT
from asr.runtime.memory import is_out_of_memory
from asr.runtime.signals import StopSignals
from asr.scoring.metric import key_of
from asr.training.averaging import MovingAverage
from asr.training.clock import Clock
from asr.training.lightning_loop import validate_now
from asr.training.position import Position, Stepping, seed_of_batch
from asr.training.rehearsal import rehearse
from asr.training.schedules.base import Schedule
from asr.training.setup import TrainingSetup
from asr.training.stepping import StepGradients, apply_gradients, scaler_skips, set_rate
from asr.training.validation import DevScore, DevScorer
from asr.training.watchdogs import Watchdogs


class Recognizer(lightning.LightningModule):
    """Trains a `Model` and scores it on dev.

    setup: what is trained, on what. create_optimizer: parameter groups → torch optimizer. stop: the signals that end a training.

    What is random in a step (masks, dropout) is seeded by the step itself, so that a resumed training repeats it.
    """

    def __init__(
        self, setup: TrainingSetup, create_optimizer: Callable[[list[dict]], torch.optim.Optimizer], schedule: Schedule,
        stepping: Stepping, watchdogs: Watchdogs, stop: StopSignals | None = None,
    ):  # fmt: skip
        super().__init__()
        self.automatic_optimization = False
        self.training_setup, self.model, self.plan, self.group = setup, setup.model, setup.plan, setup.group
        self.create_optimizer, self.schedule, self.stepping = create_optimizer, schedule, stepping
        self.watchdogs, self.stop, self.clock = watchdogs, stop, Clock()
        self.position = Position()
        self.average = MovingAverage(setup.model, stepping.average) if stepping.average else None
        self.scorer = DevScorer(setup.scoring, setup.scoring.references(setup.dev), setup.group)
        self.dev_score: DevScore | None = None
        # of the last step, in nats per label; the terms of the loss, where it has several
        self.last_loss: float | None = None
        self.last_parts: dict[str, float] = {}
        # whether the last batch ended a step; whether all processes agreed to stop after it
        self.stepped = self.stop_agreed = False
        # whether weights, gradients and moments are spread over the processes (FSDP)
        self.sharded = False

    def forward(self, waveforms: torch.Tensor, samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """waveforms (batch, samples), samples (batch,) → emissions (batch, time, units), their lengths."""
        return self.model(waveforms, samples)

    def configure_model(self) -> None:
        """Shards each layer over the processes, where that is asked for. Lightning calls it more than once."""
        if self.sharded and not hasattr(self.model, "unshard"):
            from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

            assert self.device_mesh is not None  # set by the strategy
            mesh = self.device_mesh["data_parallel"]
            for layer in self.model.encoder.layers:
                fully_shard(layer, mesh=mesh)
            fully_shard(self.model, mesh=mesh)
            # gathers the weights outside of the layers, those of the head among them, as a call of the model would
            register_fsdp_forward_method(self.model, "encode")

    def configure_optimizers(self) -> torch.optim.Optimizer:
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
        halve = functools.partial(self.halved, kind="a batch", cuts=self.training_setup.train.cuts)
        self.gradients = StepGradients(self.model, self.group.world, halve, self.sharded, self.scaler)
        self.clock.start(self.position.seconds)
        if self.position.validation_due:
            validate_now(self.trainer)

    def rehearse(self) -> None:
        """Runs the batches that need the most memory, forward and backward, and forgets them.

        Raises UserError if one does not fit: in the first minute, not at the longest batch of the last epoch.
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
        self.clock.batch_arrived()

    def training_step(self, batch: Batch, index: int) -> dict[str, torch.Tensor]:
        position, world = self.position, self.group.world
        torch.manual_seed(seed_of_batch(self.plan.seed, position.batches * world.size + world.rank))
        self.gradients.add(batch)
        position.batches += 1
        position.audio_seconds += float(batch.samples.sum()) / self.model.features.sample_rate
        self.stepped = self.stepping.is_step(position, self.plan.total, self.gradients.batches)
        if self.stepped:
            self.take_step()
        return {"loss": torch.tensor(self.last_loss if self.last_loss is not None else math.nan)}

    def take_step(self) -> None:
        """One step of the optimizer, with the gradients of the batches held for it."""
        position, scaler = self.position, self.scaler
        optimizer = cast(torch.optim.Optimizer, self.optimizers(use_pl_optimizer=False))
        stopping = self.stop is not None and self.stop.received is not None
        facts, norm = self.gradients.sum_up(optimizer, stopping, self.clock.seconds())
        self.last_loss, self.last_parts = facts.mean_loss, facts.mean_parts
        self.stop_agreed = self.stop_agreed or facts.stopping > 0
        position.seconds = facts.seconds
        rate = set_rate(optimizer, self.schedule.factor(position.steps, self.progress()))
        suspects = functools.partial(self.gradients.utterances(), self.training_setup.train.cuts)
        if scaler_skips(scaler, facts) or self.watchdogs.finite(
            position.steps, facts.mean_loss, facts.norm, rate, suspects
        ):
            apply_gradients(optimizer, self.stepping.clip, norm, scaler)
            if self.average is not None:
                self.average.update()
        if scaler is not None:
            # after a skipped step as well: gradients must not be unscaled twice
            scaler.update()
        optimizer.zero_grad(set_to_none=True)
        position.steps += 1
        position.validation_due = self.stepping.wants_validation(position, self.plan.total)
        if position.steps % self.log_every == 0:
            self.write(
                {
                    "train/loss": facts.mean_loss, "train/learning_rate": rate, "train/gradient_norm": facts.norm,
                    "train/waiting": self.clock.waiting(),
                    **{f"train/{name}": part for name, part in self.last_parts.items()},
                }
            )  # fmt: skip

    def on_train_batch_end(self, outputs, batch: Batch, index: int) -> None:
        self.clock.batch_done()

    def halved(self, batch: Batch, kind: str, cuts: list) -> tuple[Batch, Batch]:
        """The halves of a batch that does not fit into memory. Reports it; raises UserError where it cannot be halved.

        kind: what the user is told it is. cuts: those that the batch's indices refer to.
        """
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        count, step = len(batch.samples), self.position.steps + 1
        named = ", ".join(cuts[index].id for index in batch.indices.tolist()[:3]) + (", …" if count > 3 else "")
        seconds = float(batch.samples.max()) / self.model.features.sample_rate
        if count == 1:
            raise UserError(
                f"step {step}: the utterance {named} ({seconds:.1f} s) alone does not fit into memory. Leave it out, or use "
                "trainer.activation_checkpointing=true or another attention."
            )
        report = f"step {step}: out of memory on {kind} of {count} utterances of up to {seconds:.1f} s ({named})."
        if self.sharded:
            # the other processes would wait for this one's share of the weights in a forward pass that they do not take
            raise UserError(f"{report} It cannot be halved while weights are sharded: lower data.batch_frames.")
        self.watchdogs.say(f"{report} It is taken in two halves.")
        return halves(batch)

    def on_validation_epoch_start(self) -> None:
        if self.average is not None and self.trainer.state.fn == "fit":
            self.average.swap()
        self.scorer.start()

    def validation_step(self, batch: Batch, index: int) -> None:
        """Scores a batch, halved if it does not fit into memory. Raises UserError if a single utterance does not."""
        try:
            hidden, lengths = self.model.encode(batch.waveforms, batch.samples)
            losses, emissions = self.model.head.loss_and_emissions(hidden, lengths, *batch.spoken)
            self.scorer.add(batch, emissions, lengths, losses)
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        hidden = lengths = losses = emissions = None
        for half in self.halved(batch, "a batch of dev", self.training_setup.dev.cuts):
            self.validation_step(half, index)

    def on_validation_epoch_end(self) -> None:
        score = self.dev_score = self.scorer.score()
        if self.trainer.state.fn != "fit":
            return
        position, stepping = self.position, self.stepping
        position.validated, position.validation_due = position.steps, False
        position.validations += 1
        position.unimproved = 0 if score.is_better(position) else position.unimproved + 1
        position.over = stepping.is_over(position, self.plan.total)
        if stepping.has_converged(position):
            self.watchdogs.say(
                f"{position.unimproved} validations brought no better error rate than {position.best:.2%} at step "
                f"{position.best_step}: the training ends here (stop_after={stepping.stop_after})."
            )
        self.schedule.observe(score.loss)
        named = {f"dev/{key_of(name)}": rate for name, rate in score.rates.items() if "cer" in score.rates}
        self.write({"dev/loss": score.loss, "dev/error_rate": score.error_rate, **named})
        self.watchdogs.silence(position.steps, score.empty, self.progress())

    def end_validation(self) -> None:
        """Brings the weights in training back, once the validation's checkpoint is written."""
        if self.average is not None:
            self.average.swap()
        if self.clock.running:
            self.watchdogs.waited(self.clock.waiting(), self.clock.lap(), self.workers)
            self.clock.new_lap()

    @property
    def scaler(self):
        """Of float16 losses; None in other precisions."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    @property
    def log_every(self) -> int:
        """Steps between two rows of training metrics."""
        # an attribute that the annotations of Lightning's trainer leave out
        return self.trainer.log_every_n_steps  # type: ignore[attr-defined]

    @property
    def workers(self) -> int:
        """Number of processes that read training data."""
        loader = self.trainer.train_dataloader
        return loader.num_workers if loader is not None else 0

    @property
    def epoch(self) -> int:
        """The current pass over the training split, from 0."""
        return min(self.position.batches // max(1, self.plan.per_epoch), self.plan.epochs - 1)

    def progress(self) -> float:
        """Share of the training that is over, 0 to 1."""
        return self.stepping.progress(self.position, self.plan.total)

    def write(self, metrics: dict[str, float]) -> None:
        """Gives numbers to every logger, under the number of steps taken."""
        if self.group.rank == 0:
            more = {"epoch": self.epoch + 1, "seconds": self.position.seconds}
            for logger in self.trainer.loggers:
                logger.log_metrics({**more, **metrics}, step=self.position.steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        setup = self.training_setup
        checkpoint[CARRIED] = {
            "description": {"format": FORMAT, **self.model.description, "trained_on": setup.trained_on},
            "units": pack_units(setup.scoring.units),
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
        # Lightning would look for its own place in an epoch; ours is the position
        checkpoint.pop("loops", None)

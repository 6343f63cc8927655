"""The LightningModule: the one place that knows features, encoder, head, decoder, units and scoring together."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import lightning
import torch

from asr.data.batches import Batch, TrainingPlan, halves
from asr.data.checks import CheckedSplit
from asr.data.plan import worst_batches
from asr.errors import UserError
from asr.inference.decoders import Decoder
from asr.model.checkpoint import CARRIED, pack_units
from asr.model.folder import FORMAT
from asr.model.network import Model
from asr.runtime.memory import is_out_of_memory
from asr.runtime.precision import at_least_float32
from asr.runtime.processes import Alone
from asr.scoring import align
from asr.scoring.metric import Metric, choose_metric, key_of
from asr.text.units import Units
from asr.training.averaging import MovingAverage
from asr.training.position import Position, Stepping, seed_of_batch, validation_interval
from asr.training.rehearsal import rehearse
from asr.training.watchdogs import Watchdogs


class Recognizer(lightning.LightningModule):
    """Trains a `Model` and scores it on the dev split.

    plan: the batches of the training; train, dev: the splits. create_optimizer: parameters → torch optimizer; schedule: a part
    of `asr.training.schedules`. together: the processes of the job. trained_on: plain data for the checkpoint. metric: what
    decides which
    weights are the best (`error_rate`, on dev, 0 to 1); `error_rates` holds it and what is shown beside it by their names.

    Gradients are summed over processes and accumulated batches and divided by the number of labels in all of them, so that an
    utterance counts the same wherever it lies. What is random in a step (masks, dropout) is seeded by the step itself.
    """

    def __init__(
        self, model: Model, units: Units, decoder: Decoder, create_optimizer, schedule, plan: TrainingPlan,
        train: CheckedSplit, dev: CheckedSplit, trained_on: dict[str, Any], stepping: Stepping, watchdogs: Watchdogs,
        together=None, stop=None, metric: Metric | None = None,
    ):  # fmt: skip
        super().__init__()
        self.automatic_optimization = False
        self.model, self.decoder, self.units = model, decoder, units
        self.create_optimizer, self.schedule, self.plan = create_optimizer, schedule, plan
        self.train_split, self.dev, self.trained_on = train, dev, trained_on
        self.stepping, self.watchdogs = stepping, watchdogs
        self.together, self.stop = together or Alone(), stop
        self.position = Position()
        self.average = MovingAverage(model, stepping.average) if stepping.average else None
        self.metric = metric or choose_metric("auto", units.metric, dev.references)
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
            self._validate_first()

    def _validate_first(self) -> None:
        """The validation that a stop came before: as Lightning's loop runs it between two steps."""
        self.trainer.validating = True
        self.trainer.fit_loop.epoch_loop.val_loop.run()
        self.trainer.training = True

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

    def training_step(self, batch: Batch, index: int) -> dict[str, torch.Tensor]:
        position = self.position
        torch.manual_seed(seed_of_batch(self.plan.seed, position.batches * self._ranks + self._rank))
        before = self._set_gradients_aside() if self._held and not self.sharded else None
        loss, labels = self.backward_whole_or_halved(batch)
        if before is not None:
            self._add_gradients(before, self._held[0][1] / labels)
        self._held.append((loss, labels))
        position.batches += 1
        position.audio_seconds += float(batch.samples.sum()) / self.model.features.sample_rate
        self.stepped = len(self._held) == self.stepping.accumulate or position.batches == self.plan.total
        if self.stepped:
            self.take_step()
        return {"loss": torch.tensor(self.last_loss if self.last_loss is not None else math.nan)}

    def backward_whole_or_halved(self, batch: Batch, whole: float | None = None) -> tuple[torch.Tensor, float]:
        """Adds the gradient of `losses.sum() / labels`; returns that sum as a tensor (), and the number of labels.

        A batch that does not fit into memory is taken in halves, which gives the same gradient. whole: the labels of the batch
        that this is a part of. Raises UserError when a single utterance does not fit.
        """
        labels = float(batch.label_lengths.sum())
        before = self._set_gradients_aside() if whole is not None else None
        try:
            hidden, lengths = self.model.encode(batch.waveforms, batch.samples)
            losses = self.model.head(hidden, lengths, batch.labels, batch.label_lengths)
            total = losses.sum()
            self._backward(total if self.sharded else total / (whole or labels))
            if before is not None:
                self._add_gradients(before, 1.0)
            self._seen.append((batch.indices, losses.detach()))
            return total.detach(), labels
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # only here has the failed attempt's memory been let go of
        self.zero_grad(set_to_none=True)
        hidden = lengths = losses = total = None
        first, second = self.halved(batch, "a batch")
        loss, _ = self.backward_whole_or_halved(first, whole or labels)
        if before is not None:
            self._add_gradients(before, 1.0)
        other, _ = self.backward_whole_or_halved(second, whole or labels)
        return loss + other, labels

    def halved(self, batch: Batch, kind: str) -> tuple[Batch, Batch]:
        """The halves of a batch that does not fit into memory. Says so, and raises UserError where it cannot be halved."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        count, split = len(batch.samples), self.train_split if self.training else self.dev
        named = ", ".join(split.cuts[index].id for index in batch.indices.tolist()[:3]) + (", …" if count > 3 else "")
        seconds = float(batch.samples.max()) / self.model.features.sample_rate
        if count == 1:
            raise UserError(
                f"step {self.position.steps + 1}: the utterance {named} ({seconds:.1f} s) alone does not fit into memory. Leave "
                "it out, or use trainer.activation_checkpointing=true or another attention."
            )
        size = f"{count} utterances of up to {seconds:.1f} s ({named})"
        told = f"step {self.position.steps + 1}: out of memory on {kind} of {size}."
        if self.sharded:
            # the other processes would wait for the part that they hold of a forward pass that they do not take
            raise UserError(f"{told} With weights that are sharded it cannot be halved: lower data.batch_frames.")
        self.watchdogs.say(f"{told} It is taken in two halves.")
        return halves(batch)

    def _backward(self, loss: torch.Tensor) -> None:
        """Gradients of this process alone: they are summed over processes in `take_step`, all at once."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        with torch.autocast(loss.device.type, enabled=False):
            (loss if scaler is None else scaler.scale(loss)).backward()

    def take_step(self) -> None:
        position, optimizer = self.position, self.optimizers(use_pl_optimizer=False)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        own = self._held[0][1]
        labels = sum(labels for _, labels in self._held)
        stopping = self.stop is not None and self.stop.received is not None
        # the clock of one process, so that all take the same decisions
        seconds = self.seconds() if self._rank == 0 else 0.0
        facts = torch.tensor([0.0, labels, float(stopping), seconds], device=self.device)
        facts[0] = sum(loss for loss, _ in self._held)
        if self.sharded:
            torch.distributed.all_reduce(facts)
        elif self._ranks > 1:
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            facts = sum_over_processes([parameter.grad for parameter in parameters], own, facts)
        if scaler is not None:
            # after the sum, so that every process sees the same overflow and skips the same step
            scaler.unscale_(optimizer)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self._ranks > 1 or len(self._held) > 1:
            # sharded gradients are means over the processes
            factor = self._ranks if self.sharded else 1 if self._ranks > 1 else own
            torch._foreach_mul_(gradients, factor / float(facts[1]))
        norm = torch.nn.utils.get_total_norm(gradients)
        norm = norm.full_tensor() if self.sharded else norm
        loss, labels, stopping, seconds, size = torch.cat([facts, norm.float()[None]]).tolist()
        self.last_loss, self._held = loss / labels, []
        seen, self._seen = self._seen, []
        self.stop_agreed = self.stop_agreed or stopping > 0
        position.seconds = seconds
        factor = self.schedule.factor(position.steps, self.progress())
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        rate = optimizer.param_groups[0]["lr"]
        # a float16 scaler that is too high overflows now and then: it skips such steps itself
        scaled = scaler is not None and math.isfinite(loss) and not math.isfinite(size) and scaler.get_scale() > 1
        if scaled or self.watchdogs.finite(position.steps, self.last_loss, size, rate, lambda: self.suspects(seen)):
            if self.stepping.clip:
                torch.nn.utils.clip_grads_with_norm_(parameters, self.stepping.clip, norm)
            if scaler is not None:
                scaler.step(optimizer)
            else:
                optimizer.step()
            if self.average is not None:
                self.average.update()
        if scaler is not None:
            # after a step that was skipped as well: nothing can be unscaled twice
            scaler.update()
        optimizer.zero_grad(set_to_none=True)
        position.steps += 1
        position.validation_due = self._wants_validation()
        if position.steps % self.trainer.log_every_n_steps == 0:
            self.write(
                {
                    "train/loss": self.last_loss, "train/learning_rate": rate, "train/gradient_norm": size,
                    "train/waiting": self.waiting(),
                }
            )  # fmt: skip

    def _wants_validation(self) -> bool:
        position, stepping = self.position, self.stepping
        if position.batches >= self.plan.total or self.time_is_over():
            return True
        if stepping.max_minutes:
            share = position.seconds / (60 * stepping.max_minutes)
            return share * stepping.validations >= position.validations + 1
        interval = validation_interval(self.plan.total, stepping.validations)
        return position.batches // interval > (position.batches - stepping.accumulate) // interval

    def has_converged(self) -> bool:
        return self.stepping.stop_after is not None and self.position.unimproved >= self.stepping.stop_after

    def time_is_over(self) -> bool:
        return bool(self.stepping.max_minutes) and self.position.seconds >= 60 * self.stepping.max_minutes

    def suspects(self, seen: list[tuple[torch.Tensor, torch.Tensor]]) -> list[str]:
        """The utterances of a step on every rank, those with a loss that is no finite number first.

        seen: (utterances, losses) of every batch, or part of one, that went into it.
        """
        named = [
            (math.isfinite(loss), self.train_split.cuts[index].id)
            for indices, losses in seen
            for index, loss in zip(indices.tolist(), losses.tolist())
        ]
        if self._ranks > 1:
            everyone: list = [None] * self._ranks
            torch.distributed.all_gather_object(everyone, named)
            named = [pair for pairs in everyone for pair in pairs]
        return [name for _, name in sorted(named, key=lambda pair: pair[0])]

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

    def on_validation_epoch_start(self) -> None:
        if self.average is not None and self.trainer.state.fn == "fit":
            self.average.swap()
        self._totals = torch.zeros(8, dtype=torch.float64)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Scores a batch, in halves where it does not fit into memory. Raises UserError when a single utterance does not."""
        try:
            self._totals += self.scored(batch)
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        for half in self.halved(batch, "a batch of dev"):
            self.validation_step(half, index)

    def scored(self, batch: Batch) -> torch.Tensor:
        """(8,) float64: sums of loss, labels, errors and tokens, those of characters, empty hypotheses and utterances."""
        hidden, lengths = self.model.encode(batch.waveforms, batch.samples)
        emissions = self.model.head.emissions(hidden)
        losses = self.model.head(hidden, lengths, batch.labels, batch.label_lengths)
        counts, empty = [0, 0, 0, 0], 0
        for row, hypotheses in zip(batch.indices.tolist(), self.decoder(emissions.float(), lengths)):
            pairs = [(self.dev.references[row], self.units.decode(hypotheses[0].ids))]
            if "cer" in self.metric.shown:
                pairs.append(tuple(map(self.metric.characters, pairs[0])))
            for place, (reference, hypothesis) in enumerate(pairs):
                counts[2 * place] += align(reference, hypothesis).errors
                counts[2 * place + 1] += len(reference)
            empty += not hypotheses[0].ids
        labels = float(batch.label_lengths.sum())
        return torch.tensor(
            [float(losses.double().sum()), labels, *counts, empty, len(batch.samples)], dtype=torch.float64
        )

    def on_validation_epoch_end(self) -> None:
        totals = self._totals
        if self._ranks > 1:
            everyone: list = [None] * self._ranks
            torch.distributed.all_gather_object(everyone, totals)
            totals = torch.stack(everyone).sum(0)
        loss, labels, errors, tokens, wrong_characters, characters, empty, utterances = totals.tolist()
        rates = {self.units.metric: errors / max(1.0, tokens), "cer": wrong_characters / max(1.0, characters)}
        self.error_rates = {name: rates[name] for name in self.metric.shown}
        self.dev_loss, self.error_rate = loss / labels, self.error_rates[self.metric.name]
        if self.trainer.state.fn != "fit":
            return
        position = self.position
        position.validated, position.validations, position.validation_due = (
            position.steps,
            position.validations + 1,
            False,
        )
        position.unimproved = 0 if self.is_better() else position.unimproved + 1
        position.over = position.batches >= self.plan.total or self.time_is_over() or self.has_converged()
        if self.has_converged():
            self.watchdogs.say(
                f"{position.unimproved} validations brought no better error rate than {position.best:.2%} at step "
                f"{position.best_step}: the training ends here (stop_after={self.stepping.stop_after})."
            )
        self.schedule.observe(self.dev_loss)
        named = {f"dev/{key_of(name)}": rate for name, rate in self.error_rates.items() if "cer" in self.error_rates}
        self.write({"dev/loss": self.dev_loss, "dev/error_rate": self.error_rate, **named})
        self.watchdogs.silence(position.steps, empty / utterances, self.progress())

    @property
    def beside(self) -> float | None:
        """The last validation's further rate, beside the one that decides, if there is one."""
        return next((rate for name, rate in self.error_rates.items() if name != self.metric.name), None)

    def is_better(self) -> bool:
        """Whether the last validation was better than the best before it."""
        position = self.position
        if position.best is None or self.error_rate != position.best:
            return position.best is None or self.error_rate < position.best
        return None not in (self.beside, position.best_beside) and self.beside < position.best_beside

    def end_validation(self) -> None:
        """Brings the weights in training back, once the validation's checkpoint is written."""
        if self.average is not None:
            self.average.swap()
        if self._idle_since is not None:
            self.watchdogs.waited(self.waiting(), time.monotonic() - self._working_since, self.workers)
            # time in validation is neither waiting nor training
            self._idle_since = self._working_since = time.monotonic()
            self._waited = 0.0

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

    def _set_gradients_aside(self) -> list[torch.Tensor | None]:
        gradients = [parameter.grad for parameter in self.model.parameters()]
        self.zero_grad(set_to_none=True)
        return gradients

    def _add_gradients(self, gradients: list[torch.Tensor | None], factor: float) -> None:
        """Adds what was set aside to the gradients, after these were multiplied by 1 / `factor`."""
        for parameter, gradient in zip(self.model.parameters(), gradients):
            if parameter.grad is None:
                parameter.grad = gradient
            elif gradient is not None:
                parameter.grad.mul_(1 / factor).add_(gradient)


def sum_over_processes(gradients: list[torch.Tensor], own_labels: float, facts: torch.Tensor) -> torch.Tensor:
    """Replaces gradients per own label by the sum over all processes; returns the sum of `facts`. One message for all."""
    flat = torch.cat([at_least_float32(gradient.reshape(-1)) for gradient in gradients])
    flat = torch.cat([flat.mul_(own_labels), facts])
    torch.distributed.all_reduce(flat)
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
    return flat[start:]

"""Taking one step: halving, accumulation, the sum over processes, clipping."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from asr.data.batches import Batch, halves
from asr.errors import UserError
from asr.runtime.memory import is_out_of_memory
from asr.runtime.precision import at_least_float32
from asr.training.position import seed_of_batch


class StepFacts(NamedTuple):
    """What all processes know of a step: sums over them, and the norm of the gradient. seconds: spent training, of rank 0."""

    loss: float
    labels: float
    stopping: float
    seconds: float
    norm: float


class TakesSteps:
    """The part of `Recognizer` that takes steps: gradients of batches, whole or in halves, then the optimizer."""

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
        """Takes one step of the optimizer with the gradients of the batches that were held for it."""
        position, optimizer = self.position, self.optimizers(use_pl_optimizer=False)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        facts, norm = self._sum_gradients(optimizer, parameters)
        self.last_loss, self._held = facts.loss / facts.labels, []
        self.stop_agreed = self.stop_agreed or facts.stopping > 0
        position.seconds = facts.seconds
        factor = self.schedule.factor(position.steps, self.progress())
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        rate = optimizer.param_groups[0]["lr"]
        self._update_weights(optimizer, parameters, facts, norm, rate)
        optimizer.zero_grad(set_to_none=True)
        position.steps += 1
        position.validation_due = self._wants_validation()
        if position.steps % self.trainer.log_every_n_steps == 0:
            self.write(
                {
                    "train/loss": self.last_loss, "train/learning_rate": rate, "train/gradient_norm": facts.norm,
                    "train/waiting": self.waiting(),
                }
            )  # fmt: skip

    def _sum_gradients(self, optimizer, parameters: list[torch.Tensor]) -> tuple[StepFacts, torch.Tensor]:
        """Makes gradients those of the mean over all labels of all processes; returns the step's facts, and the norm ()."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        own = self._held[0][1]
        labels = sum(labels for _, labels in self._held)
        stopping = self.stop is not None and self.stop.received is not None
        # the clock of one process, so that all take the same decisions
        seconds = self.seconds() if self._rank == 0 else 0.0
        # in the order of StepFacts
        sums = torch.tensor([0.0, labels, float(stopping), seconds], device=self.device)
        sums[0] = sum(loss for loss, _ in self._held)
        if self.sharded:
            torch.distributed.all_reduce(sums)
        elif self._ranks > 1:
            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            sums = sum_over_processes([parameter.grad for parameter in parameters], own, sums)
        if scaler is not None:
            # after the sum, so that every process sees the same overflow and skips the same step
            scaler.unscale_(optimizer)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self._ranks > 1 or len(self._held) > 1:
            # sharded gradients are means over the processes
            factor = self._ranks if self.sharded else 1 if self._ranks > 1 else own
            torch._foreach_mul_(gradients, factor / float(sums[1]))
        norm = torch.nn.utils.get_total_norm(gradients)
        norm = norm.full_tensor() if self.sharded else norm
        return StepFacts(*torch.cat([sums, norm.float()[None]]).tolist()), norm

    def _update_weights(self, optimizer, parameters, facts: StepFacts, norm: torch.Tensor, rate: float) -> None:
        """Clips, and has the optimizer change the weights, unless the watchdogs skip the step."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        seen, self._seen = self._seen, []
        # a float16 scaler that is too high overflows now and then: it skips such steps itself
        overflow = math.isfinite(facts.loss) and not math.isfinite(facts.norm)
        scaled = scaler is not None and overflow and scaler.get_scale() > 1
        suspects = lambda: self.suspects(seen)  # noqa: E731
        if scaled or self.watchdogs.finite(self.position.steps, self.last_loss, facts.norm, rate, suspects):
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

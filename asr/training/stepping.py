"""One optimizer step: backward passes, whole or in halves, their sum over batches and processes, clipping, the update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch

from asr.data.batches import Batch
from asr.model.network import Model
from asr.runtime.memory import is_out_of_memory
from asr.runtime.precision import at_least_float32
from asr.runtime.processes import World

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


class StepFacts(NamedTuple):
    """What every process knows of a step.

    loss, labels: sums over all batches of all processes. stopping: how many processes were told to stop. seconds: that rank 0
    has spent training. norm: of the gradient, before clipping. parts: the terms of the loss, likewise sums, where it has several.
    """

    loss: float
    labels: float
    stopping: float
    seconds: float
    norm: float
    parts: dict[str, float]

    @property
    def mean_loss(self) -> float:
        """Nats per label."""
        return self.loss / self.labels

    @property
    def mean_parts(self) -> dict[str, float]:
        """Nats per label, before weighting."""
        return {name: part / self.labels for name, part in self.parts.items()}


class StepGradients:
    """Accumulates the gradients of the batches of a step.

    In the end they are those of the mean loss over all labels of all batches of all processes, so that an utterance counts
    the same wherever it lies.
    """

    def __init__(
        self, model: Model, world: World, halve: Callable[[Batch], tuple[Batch, Batch]], sharded: bool, scaler
    ):
        """halve: halves a batch that does not fit into memory, or raises UserError. sharded: whether weights, gradients and
        moments are spread over the processes (FSDP), which then sum gradients by themselves. scaler: of float16 losses, or None.
        """
        self.model, self.world, self.halve, self.sharded, self.scaler = model, world, halve, sharded, scaler
        # (sums of losses and of their parts (1 + parts,), number of labels) of each batch
        self._held: list[tuple[torch.Tensor, float]] = []
        self._parts: tuple[str, ...] = ()
        # (utterances, losses) of each batch or part of one, to name the utterance that spoiled a step
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    @property
    def batches(self) -> int:
        """How many batches are held for the next step."""
        return len(self._held)

    def add(self, batch: Batch) -> None:
        """Adds the gradients of a batch to those held. Raises UserError if a single utterance does not fit into memory."""
        before = self._set_aside() if self._held and not self.sharded else None
        sums, labels = self._add_whole_or_halved(batch)
        if before is not None:
            self._put_back(before, self._held[0][1] / labels)
        self._held.append((sums, labels))

    def _add_whole_or_halved(self, batch: Batch, whole: float | None = None) -> tuple[torch.Tensor, float]:
        """Adds the gradient of `losses.sum() / labels`; returns the sums that `_held` holds, and the number of labels.

        A batch that does not fit into memory is halved, which gives the same gradient. whole: labels of the batch of which this
        is a part.
        """
        labels = float(batch.label_lengths.sum())
        before = self._set_aside() if whole is not None else None
        try:
            sums = self._add_whole(batch, whole or labels)
            if before is not None:
                self._put_back(before, 1.0)
            return sums, labels
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # outside of `except`: until here the error's traceback keeps the failed attempt in memory
        self.model.zero_grad(set_to_none=True)
        first, second = self.halve(batch)
        sums, _ = self._add_whole_or_halved(first, whole or labels)
        if before is not None:
            self._put_back(before, 1.0)
        other, _ = self._add_whole_or_halved(second, whole or labels)
        return sums + other, labels

    def _add_whole(self, batch: Batch, labels: float) -> torch.Tensor:
        losses, parts = self.model.training_losses(batch.waveforms, batch.samples, *batch.spoken)
        total = losses.sum()
        self.backward(total if self.sharded else total / labels)
        self._seen.append((batch.indices, losses.detach()))
        self._parts = tuple(parts)
        return torch.stack([total.detach(), *(part.sum() for part in parts.values())])

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of this process alone; `sum_up` sums them over processes, all at once."""
        with torch.autocast(loss.device.type, enabled=False):
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def sum_up(
        self, optimizer: torch.optim.Optimizer, stopping: bool, seconds: float
    ) -> tuple[StepFacts, torch.Tensor]:
        """Makes the gradients those of the step; returns its facts, and the gradient norm ().

        stopping: whether this process was told to stop. seconds: that it has spent training.
        """
        parameters, ranks = parameters_of(optimizer), self.world.size
        own = self._held[0][1]
        labels = sum(labels for _, labels in self._held)
        # one clock, so that all processes decide alike
        seconds = seconds if self.world.rank == 0 else 0.0
        # in the order of StepFacts, and then the parts of the loss
        held = cast(torch.Tensor, sum(held for held, _ in self._held))
        sums = torch.tensor([0.0, labels, float(stopping), seconds, *[0.0] * len(self._parts)], device=held.device)
        sums[0], sums[4:] = held[0], held[1:]
        if self.sharded:
            torch.distributed.all_reduce(sums)
        elif ranks > 1:
            sums = sum_over_processes([gradient_or_zeros(parameter) for parameter in parameters], own, sums)
        if self.scaler is not None:
            # after the sum, so that every process sees the same overflow and skips the same step
            self.scaler.unscale_(optimizer)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if ranks > 1 or len(self._held) > 1:
            # sharded gradients are means over the processes
            factor = ranks if self.sharded else 1 if ranks > 1 else own
            torch._foreach_mul_(gradients, factor / float(sums[1]))
        norm = torch.nn.utils.get_total_norm(gradients)
        norm = cast("DTensor", norm).full_tensor() if self.sharded else norm
        self._held = []
        loss, labels, stopping_, seconds, *parts, norm_ = torch.cat([sums, norm.float()[None]]).tolist()
        return StepFacts(loss, labels, stopping_, seconds, norm_, dict(zip(self._parts, parts, strict=True))), norm

    def utterances(self) -> Callable[[Sequence[Any]], list[str]]:
        """Hands over what went into the step: a function of the split's cuts that names its utterances on every rank.

        Those whose loss is not finite come first.
        """
        seen, self._seen = self._seen, []

        def names(cuts: Sequence[Any]) -> list[str]:
            named = [
                (math.isfinite(loss), cuts[index].id)
                for indices, losses in seen
                for index, loss in zip(indices.tolist(), losses.tolist())
            ]
            if self.world.size > 1:
                everyone: list = [None] * self.world.size
                torch.distributed.all_gather_object(everyone, named)
                named = [pair for pairs in everyone for pair in pairs]
            return [name for _, name in sorted(named, key=lambda pair: pair[0])]

        return names

    def _set_aside(self) -> list[torch.Tensor | None]:
        gradients = [parameter.grad for parameter in self.model.parameters()]
        self.model.zero_grad(set_to_none=True)
        return gradients

    def _put_back(self, gradients: list[torch.Tensor | None], factor: float) -> None:
        """Adds gradients that were set aside to the present ones, which are first divided by `factor`."""
        for parameter, gradient in zip(self.model.parameters(), gradients):
            if parameter.grad is None:
                parameter.grad = gradient
            elif gradient is not None:
                parameter.grad.mul_(1 / factor).add_(gradient)


def parameters_of(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def gradient_or_zeros(parameter: torch.nn.Parameter) -> torch.Tensor:
    """The parameter's gradient; where it has none it gets zeros, as other processes may have some."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def sum_over_processes(gradients: list[torch.Tensor], own_labels: float, facts: torch.Tensor) -> torch.Tensor:
    """Replaces gradients per own label by their sum over all processes; returns the sum of `facts`. One message for all."""
    flat = torch.cat([at_least_float32(gradient.reshape(-1)) for gradient in gradients])
    flat = torch.cat([flat.mul_(own_labels), facts])
    torch.distributed.all_reduce(flat)
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
    return flat[start:]


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Sets every group's learning rate to `factor` times its base rate; returns that of the first."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return optimizer.param_groups[0]["lr"]


def scaler_skips(scaler, facts: StepFacts) -> bool:
    """Whether a float16 scaler skips the step by itself: its scale is too high, which happens now and then."""
    overflow = math.isfinite(facts.loss) and not math.isfinite(facts.norm)
    return scaler is not None and overflow and scaler.get_scale() > 1


def apply_gradients(optimizer: torch.optim.Optimizer, clip: float | None, norm: torch.Tensor, scaler) -> None:
    """Clips gradients to the norm `clip` and updates the weights. norm: of the gradients, ()."""
    if clip:
        torch.nn.utils.clip_grads_with_norm_(parameters_of(optimizer), clip, norm)
    if scaler is not None:
        scaler.step(optimizer)
    else:
        optimizer.step()

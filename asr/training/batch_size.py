"""The largest batches that fit into memory: measured on small ones, never found out by dying."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console

from asr.data.checks import CheckedSplit
from asr.data.memory_model import MemoryModel, fit_memory
from asr.errors import UserError
from asr.model.attention import attentions
from asr.runtime.devices import device_of
from asr.runtime.memory import PeakMemory, free_memory, is_out_of_memory
from asr.runtime.precision import precision_of
from asr.training.rehearsal import rehearse

# utterances and quantiles of the lengths that are measured
NUMBERS, QUANTILES = (1, 2, 4, 8), (0.1, 0.5, 1.0)
# batches that are tried at the budget's edge on a GPU, each time one does not fit with a tenth less
TRIALS = 8


def measure_memory(config, model, split: CheckedSplit, together, console: Console) -> MemoryModel:
    """How much memory a training step takes, as a model of the batch's shape, with the memory that there is as its budget.

    Runs forward and backward of growing batches of noise, none of which is expected to exceed the budget by what the ones
    before it took. Attention whose complexity is linear is taken to need memory linear in the length. On a GPU the largest
    batches are then tried. Raises UserError if not even one utterance fits, or where memory cannot be measured.
    """
    device = device_of(config.trainer.accelerator)
    trial = copy.deepcopy(model).to(device).train()
    trial.encoder.checkpoint_activations = config.trainer.activation_checkpointing
    quadratic = attentions.get(model.description["attention"]["name"]).complexity == "quadratic"
    # the optimizer's two moments come on top of what is measured
    moments = 2 * sum(parameter.numel() * parameter.element_size() for parameter in trial.parameters())
    free = free_memory(device)
    if free is None:
        raise UserError("trainer.find_batch needs /proc/meminfo, which this machine does not have.")
    budget = config.trainer.memory_share * free
    if device.type == "cpu":
        budget /= together.place.ranks
    if config.trainer.memory_limit is not None:
        budget = min(budget, config.trainer.memory_limit * 2**30)
    budget -= moments
    step = training_step_on_noise(trial, device, config.trainer.precision)
    memory = measure(step, np.asarray(split.frames), budget, quadratic, device)
    if device.type == "cuda":
        memory = lowered_until_it_fits(memory, step, np.asarray(split.frames))
    longest = np.quantile(split.frames, QUANTILES, method="nearest").astype(int)
    shift = model.features.frame_shift
    shown = ", ".join(f"{most} of {frames * shift:.1f} s" for most, frames in zip(memory.most(longest), longest))
    console.print(
        f"memory: {budget / 2**30:.1f} GiB for a batch, {memory.linear / 2**10:.1f} KiB a frame"
        + (f" and {memory.quadratic:.1f} bytes a pair of frames" if quadratic else "")
        + f"; the largest batches in utterances: {shown}"
    )
    return memory


def training_step_on_noise(model, device: torch.device, precision: str | None) -> Callable[[int, int], None]:
    """A function of (utterances, frames) that takes a step on such a batch, as training does."""
    kind = precision_of(precision, device.type).products

    def step(utterances: int, frames: int) -> None:
        try:
            with torch.autocast(device.type, dtype=kind or torch.float32, enabled=kind is not None):
                rehearse(model, utterances, frames, device)
        finally:
            model.zero_grad(set_to_none=True)

    return step


def measure(
    step: Callable[[int, int], None], frames: np.ndarray, budget: float, quadratic: bool, device: torch.device
) -> MemoryModel:
    """Measures growing batches and fits the model to them. Raises UserError as `measure_memory` does."""
    lengths = sorted({int(length) for length in np.quantile(frames, QUANTILES, method="nearest")})
    # two lengths and numbers are the least that tells the terms apart
    lengths = lengths if len(lengths) > 1 else [max(1, lengths[0] // 2), lengths[0]]
    shapes = sorted(
        ((number, length) for number in NUMBERS for length in lengths), key=lambda shape: shape[0] * shape[1]
    )
    done, measured = [], []
    try:
        step(1, lengths[0])  # what is allocated once, at the first call, is not a batch's
        for number, length in shapes:
            if (
                measured
                and max(measured) * growth(done[int(np.argmax(measured))], (number, length), quadratic) > budget
            ):
                continue
            with PeakMemory(device) as peak:
                step(number, length)
            if peak.bytes is None:
                raise UserError("trainer.find_batch: memory cannot be measured here; set data.batch_frames instead.")
            done.append((number, length))
            measured.append(peak.bytes)
    except RuntimeError as error:
        # a GPU may be shared: what was measured before is what there is
        if not is_out_of_memory(error):
            raise
    memory = fit_memory(done, measured, budget, quadratic) if done else None
    if memory is None or memory.most(np.array([lengths[-1]]))[0] < 1:
        raise UserError(
            f"Not even one utterance of {lengths[-1]} frames, the longest, fits into the {max(0.0, budget) / 2**20:.0f} MiB that "
            "are free. Leave it out, make the encoder smaller, use trainer.activation_checkpointing=true, or free memory."
        )
    return memory


def growth(before: tuple[int, int], shape: tuple[int, int], quadratic: bool) -> float:
    """How many times the memory of one shape another takes at most."""
    numbers, lengths = shape[0] / before[0], shape[1] / before[1]
    return max(1.0, numbers) * max(1.0, lengths ** (2 if quadratic else 1))


def lowered_until_it_fits(memory: MemoryModel, step: Callable[[int, int], None], frames: np.ndarray) -> MemoryModel:
    """The model with a budget at whose edge batches do run: on a GPU running out of memory is an error, not the end."""
    for _ in range(TRIALS):
        try:
            for length in {int(frames.max()), int(np.median(frames))}:
                step(max(1, min(int(memory.most(np.array([length]))[0]), len(frames))), length)
            return memory
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        torch.cuda.empty_cache()
        memory = MemoryModel(memory.fixed, memory.linear, memory.quadratic, 0.9 * memory.budget)
    raise UserError("trainer.find_batch found no batch that fits; free the GPU or make the encoder smaller.")

"""The largest batches that fit into memory: extrapolated from small ones, not found by running out of it."""

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
from asr.model.network import Model
from asr.runtime.devices import device_of
from asr.runtime.memory import PeakMemory, free_memory, is_out_of_memory
from asr.runtime.precision import precision_of
from asr.runtime.processes import ProcessGroup
from asr.training.rehearsal import rehearse

# what is measured: numbers of utterances, and quantiles of the lengths
NUMBERS, QUANTILES = (1, 2, 4, 8), (0.1, 0.5, 1.0)
# how often the largest batches are tried on a GPU, each time with a tenth less memory
TRIALS = 8


def measure_memory(config, model: Model, split: CheckedSplit, group: ProcessGroup, console: Console) -> MemoryModel:
    """The memory of a training step as a function of the batch's shape, and the available memory as its budget.

    Measures growing batches of noise, none of which is expected to exceed the budget, judging by those before it. Attention of
    linear complexity is assumed to need memory linear in the length. On a GPU the largest batches are then tried. Raises
    UserError if not even one utterance fits, or if memory cannot be measured here.
    """
    device = device_of(config.trainer.accelerator)
    trial = copy.deepcopy(model).to(device).train()
    trial.encoder.checkpoint_activations = config.trainer.activation_checkpointing
    quadratic = attentions.get(model.description["attention"]["name"]).complexity == "quadratic"
    # the optimizer's two moments come on top of what is measured
    moments = 2 * sum(parameter.numel() * parameter.element_size() for parameter in trial.parameters())
    free = free_memory(device)
    if free is None:
        raise UserError(
            "trainer.find_batch needs /proc/meminfo, which this machine does not have. Set data.batch_frames instead."
        )
    budget = config.trainer.memory_share * free
    if device.type == "cpu":
        budget /= group.size
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
    """A function of (utterances, frames): a training step's forward and backward pass on a batch of that shape."""
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
    """Measures growing batches and fits the memory model to them. Raises UserError as `measure_memory` does."""
    lengths = sorted({int(length) for length in np.quantile(frames, QUANTILES, method="nearest")})
    # it takes two lengths and numbers to tell the terms apart
    lengths = lengths if len(lengths) > 1 else [max(1, lengths[0] // 2), lengths[0]]
    shapes = sorted(
        ((number, length) for number in NUMBERS for length in lengths), key=lambda shape: shape[0] * shape[1]
    )
    done, measured = [], []
    try:
        step(1, lengths[0])  # allocations of the first call do not belong to a batch
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
        # a GPU may be shared: make do with what was measured so far
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
    """Upper bound on the factor from the memory of shape `before` to that of `shape`, both (utterances, frames)."""
    numbers, lengths = shape[0] / before[0], shape[1] / before[1]
    return max(1.0, numbers) * max(1.0, lengths ** (2 if quadratic else 1))


def lowered_until_it_fits(memory: MemoryModel, step: Callable[[int, int], None], frames: np.ndarray) -> MemoryModel:
    """The memory model with its budget lowered until the largest batches run: a GPU survives running out of memory."""
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
    raise UserError("trainer.find_batch found no batch that fits: free the GPU, or make the encoder smaller.")

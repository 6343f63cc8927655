"""Which device the work runs on: the one place that decides between GPU and CPU."""

from __future__ import annotations

import torch

from asr.errors import UserError

# the names that ask for a GPU where there is one: those of `device` and of Lightning's `trainer.accelerator`
GPU = ("auto", "gpu", "cuda")


def on_gpu(accelerator: str) -> bool:
    """Whether work for this accelerator runs on a GPU here."""
    return accelerator in GPU and torch.cuda.is_available()


def device_of(accelerator: str) -> torch.device:
    """This process's own GPU where the accelerator asks for one and there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu(accelerator) else torch.device("cpu")


def choose_device(name: str) -> torch.device:
    """The device that a user calls `name`; `auto` is a GPU where there is one.

    Raises UserError for an unknown name, and for `cuda` on a machine without a GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"device is auto, cpu or cuda, not {name!r}.")
    if name == "cuda" and not on_gpu(name):
        raise UserError("device=cuda was asked for, but PyTorch sees no GPU here. Use device=cpu.")
    return device_of(name)


def synchronize(device: torch.device) -> None:
    """Waits for the work queued on a GPU, so that a clock read next has counted it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

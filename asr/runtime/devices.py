"""Which device work runs on: the only place that decides between GPU and CPU."""

from __future__ import annotations

import torch

from asr.errors import UserError

# values of `device` and of Lightning's `trainer.accelerator` that use a GPU if there is one
GPU = ("auto", "gpu", "cuda")


def on_gpu(accelerator: str) -> bool:
    """Whether work for this accelerator runs on a GPU here."""
    return accelerator in GPU and torch.cuda.is_available()


def device_of(accelerator: str) -> torch.device:
    """This process's own GPU if the accelerator asks for one and there is one, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu(accelerator) else torch.device("cpu")


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` is a GPU if there is one.

    Raises UserError for an unknown name, and for `cuda` on a machine without a GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"device is auto, cpu or cuda, not {name!r}.")
    if name == "cuda" and not on_gpu(name):
        raise UserError("device=cuda needs a GPU, but PyTorch sees none here: use device=cpu.")
    return device_of(name)


def synchronize(device: torch.device) -> None:
    """Waits for the work queued on a GPU, so that a clock read afterwards includes it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

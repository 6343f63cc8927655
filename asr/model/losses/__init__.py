"""Losses: one file each. The base class is in `asr.model.losses.loss`, which imports torch."""

from __future__ import annotations

from asr.registry import Registry

losses = Registry("asr.model.losses", "loss")


def __getattr__(attribute: str):
    # `from asr.model.losses import Loss` works, yet listing the names does not import torch
    if attribute == "Loss":
        from asr.model.losses.loss import Loss

        return Loss
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")

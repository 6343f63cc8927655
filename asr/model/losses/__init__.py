"""What training minimizes: one file per loss; the base class is in `asr.model.losses.loss`, where torch is imported."""

from __future__ import annotations

from asr.registry import Registry

losses = Registry("asr.model.losses", "loss")


def __getattr__(attribute: str):
    # `from asr.model.losses import Loss` works, while listing the names of the losses leaves torch unloaded.
    if attribute == "Loss":
        from asr.model.losses.loss import Loss

        return Loss
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")

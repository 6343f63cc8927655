"""What training minimizes: one file per loss; the base class is in `asr.losses.loss`, where torch is imported."""

from __future__ import annotations

from asr.registry import Registry

losses = Registry("asr.losses", "loss")


def __getattr__(attribute: str):
    # `from asr.losses import Loss` works, while listing the names of the losses leaves torch unloaded.
    if attribute == "Loss":
        from asr.losses.loss import Loss

        return Loss
    raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")

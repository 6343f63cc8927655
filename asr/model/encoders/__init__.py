"""Encoders: features (batch, time, mels) → hidden states (batch, time', dim). The attention is passed in.

An encoder is a file here plus `conf/encoder/<name>.yaml`. Listing the names does not import torch; asking for a class does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asr.registry import Registry

if TYPE_CHECKING:
    from asr.model.encoders.base import Encoder

__all__ = ["Encoder", "encoders"]

encoders = Registry("asr.model.encoders", "encoder")


def __getattr__(name: str) -> Any:
    if name == "Encoder":
        from asr.model.encoders.base import Encoder

        return Encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

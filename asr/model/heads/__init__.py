"""Heads: hidden states → loss and emissions. A head owns its weights, its loss, and the emissions that decoders read.

A head is a file here plus `conf/head/<name>.yaml`. Listing the names does not import torch; asking for a class does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asr.registry import Registry

if TYPE_CHECKING:
    from asr.model.heads.base import Head

__all__ = ["Head", "heads"]

heads = Registry("asr.model.heads", "head")


def __getattr__(name: str) -> Any:
    if name == "Head":
        from asr.model.heads.base import Head

        return Head
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

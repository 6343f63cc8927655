"""End-to-end speech recognition on long sequences, with the encoder's self-attention as a choice.

    recognizer = asr.load("runs/spoken/full/2026-01-31_12-00-00", attention="i_clustered-100", device="cpu")
    print(recognizer.transcribe("talk.wav").text)
    attend = asr.attention("i_clustered", clusters=100)     # a torch module: queries, keys, values → values

Importing this package imports nothing heavy: torch, lightning and lhotse come in where they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asr.inference.interface import Recognizer, attention, load

__all__ = ["Recognizer", "attention", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        import asr.inference.interface as interface

        return getattr(interface, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

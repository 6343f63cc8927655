"""Ways for a sequence to attend: one file per type, chosen by name, all called alike.

A type is a file here plus `conf/attention/<name>.yaml`; the encoder, the benchmarks and the contract tests find it by
itself. Nothing here knows about speech. torch is imported when a class is asked for, not when names are listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asr.errors import UserError, nearest
from asr.registry import Registry

if TYPE_CHECKING:
    from asr.model.attention.base import Attention

__all__ = ["Attention", "attentions", "parse_label"]

attentions = Registry("asr.model.attention", "attention")


def __getattr__(name: str) -> Any:
    if name == "Attention":
        from asr.model.attention.base import Attention

        return Attention
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def parse_label(label: str) -> dict[str, Any]:
    """Settings from what `Attention.label` writes: `"i_clustered-200"` -> `{"name": "i_clustered", "clusters": 200}`.

    A bare name, `"i_clustered"`, leaves the knob at its default. Raises UserError, with the nearest names, for anything else.
    """
    name, dash, amount = str(label).partition("-")
    if name not in attentions.names():
        raise UserError(f"There is no attention called {name!r} (in {label!r}): {nearest(name, attentions.names())}.")
    if not dash:
        return {"name": name}
    label_knob = attentions.get(name).label_knob
    if label_knob is None:
        raise UserError(f"The attention {name} has no number to set: write {name!r}, not {label!r}.")
    if not (amount.isascii() and amount.isdigit() and int(amount) > 0):
        raise UserError(f"In {label!r}, {label_knob} must be a whole number of at least 1, as in '{name}-100'.")
    return {"name": name, label_knob: int(amount)}

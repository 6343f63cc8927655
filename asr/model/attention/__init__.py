"""Attentions: one file per type, chosen by name, with one interface.

A type is a file here plus `conf/attention/<name>.yaml`; encoders, benchmarks and contract tests find it by its name.
Nothing here knows about speech. Listing the names does not import torch; asking for a class does.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from asr.errors import UserError, nearest
from asr.model.attention.place import Place
from asr.registry import Registry

if TYPE_CHECKING:
    from asr.model.attention.base import Attention

__all__ = [
    "Attention",
    "Place",
    "attention_at",
    "attentions",
    "completed",
    "knob_of",
    "label_of",
    "parse_label",
    "spelled_out",
    "takes_place",
]

attentions = Registry("asr.model.attention", "attention")


def __getattr__(name: str) -> Any:
    if name == "Attention":
        from asr.model.attention.base import Attention

        return Attention
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def takes_place(name: str) -> bool:
    """Whether the attention's constructor takes its `Place`, as those with weights do."""
    return "place" in inspect.signature(attentions.get(name)).parameters


def attention_at(settings: dict[str, Any], place: Place) -> Attention:
    """The attention of one layer. settings: `name` and knobs. Raises UserError for a setting it does not have."""
    more = {"place": place} if takes_place(settings["name"]) else {}
    return attentions.create(settings, seed=place.layer, **more)


def completed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that were written before some knobs were there, with what these would have been; others as they are."""
    known = settings.get("name") in attentions.names()
    return {**settings, **(attentions.get(settings["name"]).before | settings if known else {})}


def spelled_out(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with today's values of the knobs that `completed` would read otherwise; for what is saved."""
    return {**{knob: knob_of(settings, knob) for knob in attentions.get(settings["name"]).before}, **settings}


def knob_of(settings: dict[str, Any], knob: str) -> Any:
    """The value of a knob under these settings, or its default; None if the attention has no such knob."""
    parameter = inspect.signature(attentions.get(settings["name"])).parameters.get(knob)
    return None if parameter is None else settings.get(knob, parameter.default)


def label_of(settings: dict[str, Any]) -> str:
    """The attention's name in tables, with its main knob: `full`, `i_clustered-100`, `lsh-4`."""
    name = settings["name"]
    knob = attentions.get(name).label_knob
    return name if knob is None else f"{name}-{knob_of(settings, knob)}"


def parse_label(label: str) -> dict[str, Any]:
    """The inverse of `Attention.label`: `"i_clustered-200"` -> `{"name": "i_clustered", "clusters": 200}`.

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

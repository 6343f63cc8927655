"""The settings of a corpus as they are typed on a command line."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

from asr.data.corpora import corpora
from asr.errors import UserError, nearest


def settings_of(name: str) -> dict[str, tuple[Any, Any]]:
    """The settings of a corpus: (type, default) by name; the default of a required one is dataclasses.MISSING."""
    part = corpora.get(name)
    types = get_type_hints(part)
    return {field.name: (types[field.name], field.default) for field in dataclasses.fields(part)}


def parse(text: str, kind: Any, key: str) -> Any:
    """`text` as a value of type `kind`. Raises UserError if it is not one."""
    options = getattr(kind, "__args__", (kind,))
    if text.lower() in ("null", "none") and type(None) in options:
        return None
    for option in options:
        if option is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if option in (int, float, str):
            try:
                return option(text)
            except ValueError:
                continue
    words = {int: "a whole number", float: "a number", bool: "true or false"}
    expected = " or ".join(words[option] for option in options if option in words)
    raise UserError(f"{key}={text} is not {expected or kind}: give one.")


def parse_corpus(name: str | None, texts: dict[str, str]) -> dict[str, Any]:
    """The settings of the corpus `name`, including its name, from the typed `corpus.KEY=…`; {} without a name.

    Raises UserError for unknown settings, or for settings without a corpus.
    """
    if name is None:
        if texts:
            raise UserError(f"corpus.{next(iter(texts))}=... is a setting of a corpus: add corpus=NAME.")
        return {}
    accepted = settings_of(name)
    for key in texts:
        if key not in accepted:
            raise UserError(f"The corpus {name} takes no setting {key!r}: {nearest(key, accepted)}.")
    return {"name": name} | {key: parse(text, accepted[key][0], f"corpus.{key}") for key, text in texts.items()}

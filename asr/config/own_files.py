"""Checks the settings in a user's own YAML files (--config-dir, hydra.searchpath) as if they were typed.

Hydra adds keys that it does not know without a word, so that a misspelt one in an experiment would silently do nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from asr.config.comments import NOT_OURS
from asr.config.schema import Schema, schema_of
from asr.config.settings import CONF, default_choices, file_of, inherited, package_of_file, text_of
from asr.config.values import check_value
from asr.errors import UserError, nearest


def check_own_files(schema: Schema) -> None:
    """Raises UserError, naming the file, for a setting in a file of one's own that does not exist or does not take its value.

    A part such as an encoder may have new settings; so may an experiment, for its own `${key}` to read.
    """
    check_package(schema)
    names = own_files(schema)
    top = [name for name in names if not package_of_file(name)]
    known = schema_of(*without_own_files(schema)) if top else schema
    texts = "".join(map(text_of, top))
    for name in names:
        package = package_of_file(name)
        for key, value in leaves(content_of(name), f"{package}." if package else ""):
            if value == "???" or f"${{{key}}}" in texts or package and not schema.states(key):
                continue
            try:
                check_setting(schema if package else known, key, value)
            except UserError as error:
                raise UserError(f"{file_of(name)}: {error}") from None


def check_package(schema: Schema) -> None:
    """Raises UserError for an experiment whose settings Hydra would put below `experiment`, where nothing reads them."""
    name = f"experiment/{schema.choices.get('experiment')}"
    if file_of(name).is_file() and package_of_file(name):
        raise UserError(f"{file_of(name)}: begin its first line with `# @package _global_`, or it changes nothing.")


def own_files(schema: Schema) -> list[str]:
    """The user's own files among those of a configuration."""
    chosen = [f"{group}/{choice}" for group, choice in schema.choices.items()]
    names = dict.fromkeys(one for name in (schema.name, *chosen) for one in inherited(name))
    return [name for name in names if not file_of(name).is_relative_to(CONF)]


def without_own_files(schema: Schema) -> tuple[str, list[str]]:
    """The file in `conf/` that a configuration starts from, and its choices but for those that set what others define."""
    base = next((name for name in inherited(schema.name)[::-1] if file_of(name).is_relative_to(CONF)), "train")
    groups = default_choices(base)
    return base, [
        f"{group}={choice}"
        for group, choice in schema.choices.items()
        if group in groups and package_of_file(f"{group}/{choice}")
    ]


def content_of(name: str) -> dict[str, Any]:
    """The settings of a file, without Hydra's blocks."""
    import yaml

    content = yaml.load(text_of(name), yaml.CSafeLoader)
    return {key: value for key, value in content.items() if key not in NOT_OURS} if isinstance(content, dict) else {}


def leaves(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys of nested settings with their values."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def check_setting(known: Schema, key: str, value: Any) -> None:
    if key in known.keys or not known.below_target(key):
        return check_value(known, key, value)
    # it goes to a library, which may know it; not where it is a known one but for a letter
    siblings = [one for one in known.keys if one.rpartition(".")[0] == key.rpartition(".")[0]]
    if close := [one for one in siblings if one_letter_off(one, key)]:
        raise UserError(f"There is no setting called {key!r}: {nearest(key, close)}.")


def one_letter_off(one: str, other: str) -> bool:
    length = max(len(one), len(other))
    return difflib.SequenceMatcher(None, one, other).ratio() >= (length - 1) / length

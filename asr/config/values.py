"""Whether a setting exists and takes a value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asr.config.schema import Schema
from asr.config.settings import choices_with, default_choices, groups
from asr.errors import UserError, nearest


def check_value(schema: Schema, key: str, value: Any) -> None:
    """Raises UserError if there is no setting called `key`, or if it does not take `value`. Interpolations are not checked."""
    if key not in schema.keys:
        raise unknown(schema, key)
    if isinstance(value, str) and "${" in value:
        return
    limit, default = schema.limit(key), schema.default(key)
    if value in ("", "???") or value == [] != default:
        raise UserError(f"{key} is empty: {schema.comment(key)}")
    if not limit.admits(value):
        raise UserError(limit.refusal(key, value, default))


def unknown(schema: Schema, key: str) -> UserError:
    """The sentence for a setting that does not exist, with the nearest that does."""
    group = key.partition(".")[0]
    chosen, having = schema.choices.get(group), choices_with(key)
    if chosen and having:
        return UserError(
            f"There is no setting called {key!r} for {group}={chosen}: "
            f"add {' or '.join(f'{group}={choice}' for choice in having)}."
        )
    known = [*schema.keys, *default_choices(schema.name)]
    return UserError(f"There is no setting called {key!r}: {nearest(key, known)}.")


def check_addition(schema: Schema, key: str) -> None:
    """Raises UserError unless `+key` goes to a library as it is: groups with a `_target_` take new keys."""
    if key in groups():
        raise UserError(f"+{key}: there is such a group already; leave the + out: {key}=…")
    if not schema.below_target(key):
        raise UserError(f"There is no setting called {key!r}: {nearest(key, schema.keys)}.")


def of_own_corpus(config_name: str, key: str, typed: Iterable[str]) -> bool:
    """Whether a setting is one of the corpus that a run or checkpoint was trained on. typed: all keys that were typed."""
    by_default = default_choices(config_name).get("corpus")
    own = "resume" in typed and by_default is not None or by_default == "null"
    return key.startswith("corpus.") and own and "corpus" not in typed

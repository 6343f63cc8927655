"""A composed configuration with what its files say of each setting: what it may be, and what it does."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from asr.config.comments import settings_of
from asr.config.limits import Limit, limit_by_default, read_limit
from asr.config.settings import compose, default_of, file_of, inherited, keys_of, package_of_file, text_of
from asr.errors import UserError


class Stated(NamedTuple):
    """What a file says of a setting. limit: None where it says nothing. alias: the key that the value `${key}` names."""

    limit: Limit | None
    comment: str
    alias: str | None


@dataclass(frozen=True)
class Schema:
    """name: of the file in `conf/`. config: as composed. choices: what is chosen of each group. stated: what the files say,
    by dotted key.
    """

    name: str
    config: Any
    choices: dict[str, str] = field(default_factory=dict)
    stated: dict[str, Stated] = field(default_factory=dict)

    @functools.cached_property
    def keys(self) -> list[str]:
        """Every dotted key, parents before children."""
        return list(keys_of(self.config))

    def default(self, key: str) -> Any:
        """The default as plain data; "???" where the setting must be given."""
        from omegaconf import OmegaConf

        if OmegaConf.is_missing(*self._parent_and_name(key)):
            return "???"
        value = default_of(self.config, key)
        return OmegaConf.to_container(value, resolve=False) if OmegaConf.is_config(value) else value

    def _parent_and_name(self, key: str) -> tuple[Any, str]:
        parent, _, name = key.rpartition(".")
        return (default_of(self.config, parent) if parent else self.config), name

    def limit(self, key: str) -> Limit:
        """What a setting may be: what its file states, or else what its default shows."""
        said = self.stated.get(key)
        if said is not None and said.alias in self.stated:
            return self.limit(said.alias)
        if said is not None and said.limit is not None:
            return said.limit
        return limit_by_default(self.default(key))

    def states(self, key: str) -> bool:
        """Whether some file states what a setting may be."""
        return key in self.stated and self.stated[key].limit is not None

    def comment(self, key: str) -> str:
        """What its file says of a setting, as the end of a sentence."""
        said = self.stated.get(key)
        return f"{said.comment}." if said is not None and said.comment else "give it a value."

    def below_target(self, key: str) -> bool:
        """Whether a key goes to a library as it is, which has settings of its own: those beside a `_target_`."""
        parent = default_of(self.config, key.rpartition(".")[0]) if "." in key else None
        return isinstance(parent, Mapping) and "_target_" in parent


def schema_of(config_name: str, overrides: Iterable[str] = ()) -> Schema:
    """The schema of `conf/<config_name>.yaml` with overrides such as `attention=full`. Raises UserError as `compose` does."""
    from omegaconf import open_dict

    config = compose(config_name, list(overrides), with_hydra=True)
    chosen: dict[str, Any] = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config.hydra
    choices = {
        group.partition("@")[0]: str(choice)
        for group, choice in chosen.items()
        if choice is not None and not group.startswith("hydra/")
    }
    names = [*inherited(config_name), *(f"{group}/{choice}" for group, choice in choices.items())]
    return Schema(config_name, config, choices, stated_by(names))


def stated_by(names: Iterable[str]) -> dict[str, Stated]:
    """What files such as "train" and "attention/full" say of their settings, and those that they include.

    A later file that sets a setting of an earlier one again and states no limit leaves the limit as it is.
    """
    found: dict[str, Stated] = {}
    for name in dict.fromkeys(itertools.chain.from_iterable(map(inherited, names))):
        package = package_of_file(name)
        for setting in settings_of(text_of(name)):
            key = f"{package}.{setting.key}".lstrip(".")
            aliased = re.fullmatch(r"\$\{([\w.]+)\}", setting.default)
            before = found.get(key, Stated(None, "", None))
            limit = limit_in(name, key, setting.limit, setting.value) if setting.limit else before.limit
            alias = aliased[1] if aliased and limit is None else None
            found[key] = Stated(limit, setting.comment or before.comment, alias)
    return found


def limit_in(name: str, key: str, words: str, default: Any) -> Limit:
    """The limit that a file states. Raises UserError if it cannot be read."""
    try:
        return read_limit(words, default)
    except ValueError as error:
        raise UserError(
            f"{file_of(name)}: {key}: {error}. A comment that opens with brackets says what a setting may be, such as "
            "[>= 1], [number > 0 or null], [auto, cpu or cuda]."
        ) from None

"""Hydra's own settings on the command line: launchers and sweepers, `hydra.mode`, `hydra.searchpath`, sweeps, removals."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from asr.config.schema import Schema
from asr.config.settings import OWN, compose, default_of, first_choices, groups, text_of
from asr.errors import UserError, nearest

# Hydra's plugins, by the extra that installs each
PLUGINS = {
    "hydra/launcher=joblib": "joblib",
    "hydra/launcher=submitit_local": "slurm",
    "hydra/launcher=submitit_slurm": "slurm",
    "hydra/sweeper=optuna": "optuna",
}


def parse_overrides(arguments: list[str]) -> list[Any]:
    """Settings as Hydra's grammar reads them. Raises UserError for one that it cannot read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_overrides(arguments)
    except HydraException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"The options cannot be read: {reason}. Write KEY=VALUE, in quotes if VALUE has special characters."
        ) from None


def is_hydras(key: str) -> bool:
    """Whether a key is one of Hydra's own: `hydra.mode`, `hydra/launcher`."""
    return re.split(r"[./]", key.lstrip("+~"))[0] == "hydra"


def search_folders(config_name: str, config_dir: str | None, arguments: list[str]) -> None:
    """Has settings searched in the folders of --config-dir and `hydra.searchpath`, which a configuration there may set too.

    Raises UserError for a folder that does not exist.
    """
    OWN[:] = [] if config_dir is None else [existing(Path(config_dir), f"--config-dir {config_dir}")]
    places = search_path(config_name, arguments)
    OWN.extend(existing(folder_at(str(place)), f"hydra.searchpath={place}") for place in places)


def search_path(config_name: str, arguments: list[str]) -> list[Any]:
    """`hydra.searchpath` as typed, or else as the file of the configuration sets it."""
    import yaml

    if typed := [one for one in arguments if one.partition("=")[0].lstrip("+") == "hydra.searchpath"]:
        places = parse_overrides(typed)[-1].value()
        if not isinstance(places, list):
            raise UserError(f"{typed[-1]}: give a list of folders: hydra.searchpath=[FOLDER].")
        return places
    try:
        content = yaml.load(text_of(config_name), yaml.CSafeLoader)
    except yaml.YAMLError:
        return []  # composing says what is wrong
    places = ((content or {}).get("hydra") or {}).get("searchpath")
    return places if isinstance(places, list) else []


def existing(folder: Path, typed: str) -> Path:
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"{typed}: there is no such folder. Check its name.")
    return folder


def folder_at(place: str) -> Path:
    """The folder that a place in Hydra's search path names: `file:///folder`, `pkg://package.folder` or a plain path."""
    scheme, found, rest = place.partition("://")
    if not found or scheme == "file":
        return Path(rest if found else place)
    if scheme != "pkg":
        raise UserError(f"hydra.searchpath={place}: give a folder, file://FOLDER or pkg://PACKAGE.")
    package, *below = re.split(r"[./]", rest)
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"hydra.searchpath={place}: there is no package {package!r}. Install it.")
    return Path(spec.submodule_search_locations[0], *below)


def is_multirun(config_name: str, arguments: list[str]) -> bool:
    """Whether `hydra.mode` is MULTIRUN, on the command line or in a configuration of one's own."""
    typed = [one for one in arguments if one.partition("=")[0].lstrip("+") == "hydra.mode"]
    if not typed and not OWN:
        return False
    pairs = (one.partition("=") for one in arguments)
    chosen = first_choices(config_name, {key.lstrip("+"): value for key, _, value in pairs})
    try:
        return str(compose(config_name, [*chosen, *typed], with_hydra=True).hydra.mode) == "RunMode.MULTIRUN"
    except UserError:
        return False  # check_hydra says what is wrong


def swept_by_configuration(config_name: str, overrides: list[Any]) -> list[Any]:
    """The overrides that `hydra.sweeper.params` of a configuration of one's own asks for, as if they were typed."""
    if not OWN:
        return []
    single = [one.input_line for one in overrides if not one.is_sweep_override()]
    params = default_of(compose(config_name, single, with_hydra=True), "hydra.sweeper.params") or {}
    typed = {one.key_or_group for one in overrides}
    return parse_overrides([f"{key}={value}" for key, value in params.items() if key not in typed])


def check_hydra(config_name: str, overrides: list[Any]) -> None:
    """Raises UserError if Hydra does not know one of its own settings, such as a launcher whose plugin is not installed."""
    own = [one for one in overrides if is_hydras(one.key_or_group) and not one.is_sweep_override()]
    if not own:
        return
    try:
        compose(config_name, [one.input_line for one in own], with_hydra=True)
    except UserError as error:
        for one in own:
            if "Could not find" not in str(error):
                break
            if extra := PLUGINS.get(one.input_line):
                raise UserError(
                    f"{one.input_line}: its plugin is not installed. Install it: pip install 'asr[{extra}]'"
                ) from None
        typed, reason = " ".join(one.input_line for one in own), " ".join(str(error).split()).rstrip(".")
        raise UserError(f"{typed}: {reason}. Mend it, or leave it out.") from None


def check_sweep(override: Any, sweeper: str) -> None:
    """Raises UserError for a sweep that the sweeper cannot run."""
    if override.is_interval_sweep() and sweeper == "basic":
        raise UserError(f"{override.input_line}: an interval needs a sweeper that searches: add hydra/sweeper=optuna.")
    if is_glob(override):
        if sweeper != "basic":
            raise UserError(f"{override.input_line}: hydra/sweeper={sweeper} takes no glob; write choice(a,b).")
        choices = groups().get(override.key_or_group)
        if choices is None:
            raise UserError(
                f"{override.input_line}: glob(…) needs a group, not a setting: choose one of {', '.join(groups())}."
            )
        if not override.value().filter(choices):
            raise UserError(
                f"{override.input_line}: it matches no {override.key_or_group}: choose among {', '.join(choices)}."
            )


def check_removal(schema: Schema, key: str) -> None:
    """Raises UserError unless `key` is an argument of a library, which has a default of its own: `~optimizer.weight_decay`."""
    if key not in schema.keys:
        raise UserError(f"~{key}: there is no setting called {key!r}: {nearest(key, schema.keys)}.")
    if not schema.below_target(key) or key.rpartition(".")[2] in ("_target_", "name"):
        raise UserError(
            f"~{key}: this setting cannot be removed; set it to another value. Only arguments of a library, such as "
            "~optimizer.weight_decay, can be left to its own defaults."
        )


def is_glob(override: Any) -> bool:
    from hydra.core.override_parser.types import Glob

    return isinstance(override._value, Glob)


def values_of(override: Any) -> list[tuple[str, Any]]:
    """Every (key, value) that an override asks for: one, unless it is a sweep. A key that is to be added keeps its `+`."""
    key = override.get_key_element().removeprefix("++")
    if is_glob(override):
        return [(key, value) for value in override.value().filter(groups()[key])]
    if override.is_choice_sweep():
        return [(key, getattr(value, "text", value)) for value in override.value().list]
    if override.is_range_sweep():
        return [(key, value) for value in override.value().range()]
    if override.is_interval_sweep():
        return [(key, override.value().start), (key, override.value().end)]
    return [(key, override.value())]

"""Checks what was typed on the command line against `conf/`: every mistake gets a sentence before anything heavy is imported."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from asr.config.hydra_settings import (
    check_hydra,
    check_removal,
    check_sweep,
    is_hydras,
    parse_overrides,
    swept_by_configuration,
    values_of,
)
from asr.config.own_files import check_own_files
from asr.config.schema import Schema, schema_of
from asr.config.settings import all_knobs, default_choices, groups, knobs_of, unread_knob
from asr.config.values import check_addition, check_value, of_own_corpus
from asr.errors import UserError, nearest
from asr.runtime.files import make_folder

Combination = tuple[tuple[str, Any], ...]


def check_overrides(config_name: str, arguments: list[str]) -> None:
    """Raises UserError for the first of `arguments` that `conf/<config_name>.yaml` has no use for."""
    combinations = combinations_of(config_name, arguments)
    # in a sweep over attentions a knob need not be read by all of them
    read = {knob for attention in attentions_in(combinations) for knob in knobs_of(attention)}
    for combination in combinations:
        check_combination(config_name, combination, read)


def combinations_of(config_name: str, arguments: list[str]) -> list[Combination]:
    """The (key, value) pairs of every run that the arguments ask for: one, or each of a sweep.

    Raises UserError for arguments that cannot be read, and for sweeps that cannot be run.
    """
    from hydra._internal.utils import get_args_parser

    parsed = get_args_parser().parse_args(arguments)
    for argument in parsed.overrides:
        if "=" not in argument and not argument.startswith("~"):
            raise UserError(f"{argument!r} is not of the form key=value. --help lists the keys.")
    overrides = parse_overrides(parsed.overrides)
    check_hydra(config_name, overrides)
    if parsed.multirun:
        overrides = [*swept_by_configuration(config_name, overrides), *overrides]
    sweeper = next((str(one.value()) for one in overrides if one.key_or_group == "hydra/sweeper"), "basic")
    for override in overrides:
        if override.is_sweep_override() and not parsed.multirun:
            raise UserError(f"{override.input_line}: several values need --multirun; a list is written [a,b].")
        check_sweep(override, sweeper)
    return list(itertools.product(*map(values_of, overrides)))


def attentions_in(combinations: Iterable[Combination]) -> set[str]:
    """The attentions that are chosen in some combination."""
    chosen = {str(value) for combination in combinations for key, value in combination if key == "attention"}
    return chosen & set(groups()["attention"])


class Typed(NamedTuple):
    """What was typed for one run. chosen: `group=choice`. values: settings with their values. added, removed: keys."""

    chosen: list[str]
    values: list[tuple[str, Any]]
    added: list[str]
    removed: list[str]


def check_combination(config_name: str, combination: Combination, read: Collection[str] = ()) -> None:
    """Raises UserError for a mistake in the settings of one run. read: knobs that an attention of the same sweep reads."""
    typed = parted(config_name, combination)
    schema = schema_of(config_name, typed.chosen)
    check_own_files(schema)
    for key in typed.added:
        check_addition(schema, key)
    for key in typed.removed:
        check_removal(schema, key)
    keys = {key.lstrip("+") for key, _ in combination}
    for key, value in typed.values:
        if not of_own_corpus(config_name, key, keys):
            check_value(schema, key, value)
    check_knobs(schema, [key for key, _ in typed.values if key not in read])
    check_nothing_missing(schema, {key for key, _ in typed.values})
    check_whole(schema.config, typed.values)


def parted(config_name: str, combination: Combination) -> Typed:
    """The settings of one run by what they do; Hydra's own are left out. Raises UserError for an unknown choice."""
    available, defaults = groups(), default_choices(config_name)
    typed = Typed([], [], [], [])
    for key, value in combination:
        if is_hydras(key):
            continue
        if key.startswith("~"):
            typed.removed.append(key[1:])
        elif key.startswith("+"):
            typed.added.append(key[1:])
        elif key in available and key in defaults:
            allowed = available[key] + (["null"] if defaults[key] == "null" else [])
            name = "null" if value is None else str(value)
            if name not in allowed:
                raise UserError(f"There is no {key} called {name!r}: {nearest(name, available[key])}.")
            typed.chosen.append(f"{key}={name}")
        else:
            typed.values.append((key, value))
    return typed


def check_knobs(schema: Schema, keys: list[str]) -> None:
    """Raises UserError for a knob among the keys that the chosen attention does not read."""
    attention = schema.choices.get("attention")
    if attention is None:
        return
    for key in keys:
        if key in all_knobs() and key not in knobs_of(attention):
            raise UserError(unread_knob(attention, key))


def check_nothing_missing(schema: Schema, given: Collection[str]) -> None:
    """Raises UserError for a setting that must be given (`???`) and is not."""
    from omegaconf import OmegaConf

    for key in sorted(OmegaConf.missing_keys(schema.config)):
        if key not in given and key.rpartition(".")[0] not in given:
            raise UserError(f"{key}=… is needed: {schema.comment(key)}")


def check_whole(config: Any, values: list[tuple[str, Any]]) -> None:
    """Raises UserError if an interpolation leads nowhere or the run's folder cannot be made."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    config = OmegaConf.create(OmegaConf.to_container(config))
    OmegaConf.set_struct(config, False)
    for key, value in values:
        OmegaConf.update(config, key, value)
    try:
        OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        reason = f"{str(error).splitlines()[0]}."
        typed = [f"{key}={value}" for key, value in values if isinstance(value, str) and "${" in value]
        if not typed:
            raise UserError(f"The configuration does not resolve: {reason}") from None
        raise UserError(
            f"{', '.join(typed)}: ${{…}} leads nowhere: {reason} To mean these very characters, type \\${{ for ${{."
        ) from None
    if "run" in config:
        if "${" in str(config.run):
            raise UserError(f"run={config.run}: the name of a run's folder cannot hold ${{. Choose another.")
        check_folder(Path(str(config.run)).absolute())


def check_folder(folder: Path) -> None:
    """Raises UserError if `folder` cannot be made. Leaves no trace, and leaves alone what other processes make meanwhile."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    made = False
    try:
        made = make_folder(folder)
    except OSError as error:
        reason = "there is a file of that name" if folder.is_file() else error.strerror
        raise UserError(f"run={folder}: the folder cannot be made: {reason}.") from None
    finally:
        with contextlib.suppress(OSError):
            for parent in [folder] * made + missing:
                parent.rmdir()

"""Checks what was typed on the command line against `conf/`: every mistake gets a sentence before anything heavy is imported."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection
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

Pairs = tuple[tuple[str, Any], ...]


class Job(NamedTuple):
    """One run that was asked for. pairs: all that was typed for it. schema: of what it chooses.

    values: settings with their values. added, removed: keys.
    """

    pairs: Pairs
    schema: Schema
    values: list[tuple[str, Any]]
    added: list[str]
    removed: list[str]

    @property
    def attention(self) -> str | None:
        """The attention that is chosen, by its file; None where it comes with a checkpoint."""
        return self.schema.choices.get("attention")


def check_overrides(config_name: str, arguments: list[str]) -> list[Job]:
    """The jobs that the arguments ask for: one, or each of a sweep.

    Raises UserError for the first thing that `conf/<config_name>.yaml` has no use for.
    """
    schemas: dict[tuple[str, ...], Schema] = {}
    jobs = [job_of(config_name, pairs, schemas) for pairs in combinations_of(config_name, arguments)]
    # in a sweep over attentions a knob need not be read by all of them
    read = {knob for job in jobs if job.attention for knob in knobs_of(job.attention)} if len(jobs) > 1 else set()
    for schema in schemas.values():
        check_own_files(schema)
    for job in jobs:
        check_job(config_name, job, read)
    return jobs


def combinations_of(config_name: str, arguments: list[str]) -> list[Pairs]:
    """The (key, value) pairs of each job. Raises UserError for arguments that cannot be read, and sweeps that cannot be run."""
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


def check_job(config_name: str, job: Job, read: Collection[str]) -> None:
    """Raises UserError for a mistake in the settings of one job. read: knobs that an attention of the same sweep reads."""
    for key in job.added:
        check_addition(job.schema, key)
    for key in job.removed:
        check_removal(job.schema, key)
    typed = {key.lstrip("+") for key, _ in job.pairs}
    for key, value in job.values:
        if not of_own_corpus(config_name, key, typed):
            check_value(job.schema, key, value)
    for key, _ in job.values:
        if job.attention and key in all_knobs() and key not in (*read, *knobs_of(job.attention)):
            raise UserError(unread_knob(job.attention, key))
    check_nothing_missing(job.schema, {key for key, _ in job.values})
    check_whole(job.schema.config, job.values)


def job_of(config_name: str, pairs: Pairs, schemas: dict[tuple[str, ...], Schema]) -> Job:
    """A job by what was typed for it; Hydra's own settings are left out. schemas: those composed so far, by choices.

    Raises UserError for an unknown choice.
    """
    available, defaults = groups(), default_choices(config_name)
    chosen: list[str] = []
    values: list[tuple[str, Any]] = []
    added: list[str] = []
    removed: list[str] = []
    for key, value in pairs:
        if is_hydras(key):
            continue
        if key.startswith("~"):
            removed.append(key[1:])
        elif key.startswith("+"):
            added.append(key[1:])
        elif key in available and key in defaults:
            allowed = available[key] + (["null"] if defaults[key] == "null" else [])
            name = "null" if value is None else str(value)
            if name not in allowed:
                raise UserError(f"There is no {key} called {name!r}: {nearest(name, available[key])}.")
            chosen.append(f"{key}={name}")
        else:
            values.append((key, value))
    if tuple(chosen) not in schemas:
        schemas[tuple(chosen)] = schema_of(config_name, chosen)
    return Job(pairs, schemas[tuple(chosen)], values, added, removed)


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
        reason = str(error).splitlines()[0].rstrip(".")
        typed = [f"{key}={value}" for key, value in values if isinstance(value, str) and "${" in value]
        if not typed:
            raise UserError(f"The configuration does not resolve: {reason}. Mend the ${{…}} that it names.") from None
        raise UserError(
            f"{', '.join(typed)}: ${{…}} leads nowhere: {reason}. To mean these very characters, type \\${{ for ${{."
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

"""Going on with a run: its own configuration, its last good checkpoint, and what may be changed on the way."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

from asr.config.overrides import escaped, key_of, shown, typed_text
from asr.config.settings import CONF
from asr.data.moved import absolute_places, places_of, with_places
from asr.errors import UserError, nearest
from asr.model.attention import completed

# what may be given beside resume=…: how long to train, and where and how the machine does it
CHANGEABLE = (
    "max_epochs", "max_minutes", "stop_after", "cache", "checkpoint_minutes", "checkpoint_steps", "data.workers",
    "data.allow_leaks", "data.evaluation_frames", "trainer.accelerator", "trainer.log_every_n_steps", "logger", "watch",
)  # fmt: skip


# settings that older runs lack and whose default is another now: their dev was scored in the units' own tokens
BEFORE = {"metric": "own", "space": "hash", "seeds": "even"}

# where classes that older runs name have moved since
RENAMED = {"asr.schedules.": "asr.training.schedules."}


def with_run(arguments: list[str]) -> list[str]:
    """The arguments of the command line, `run` set to the folder that `resume` names; raises UserError if it holds no run."""
    several = any(argument in ("-m", "--multirun") for argument in arguments)
    if several and any(argument.startswith("run=") for argument in arguments):
        raise UserError("run=… names the folder of one run. That of several is hydra.sweep.dir=…")
    named = [argument.partition("=")[2] for argument in arguments if argument.startswith("resume=")]
    if not named or named[-1] in ("", "null"):
        return arguments
    folder = Path(typed_text(named[-1]))
    runs = [Path(typed_text(argument.removeprefix("run="))) for argument in arguments if argument.startswith("run=")]
    if any(run.resolve() != folder.resolve() for run in runs):
        raise UserError("resume=… goes on in the run's own folder; leave run=… out.")
    if any(argument in ("-m", "--multirun") for argument in arguments):
        raise UserError("resume=… goes on with one run; leave --multirun out.")
    if not folder.is_dir():
        raise UserError(f"There is no run at {folder} to go on with.")
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder} holds no run to go on with: it has no config.yaml.")
    return [*(argument for argument in arguments if not argument.startswith("run=")), f"run={folder}"]


def resumed_config(config, typed: list[str]):
    """The configuration that the run was started with, `typed` (key=value …) put in where that is possible.

    Raises UserError for a setting that cannot be changed on the way, and for a `config.yaml` that names code which `conf/` does
    not: a run's folder may come from a stranger.
    """
    import yaml
    from omegaconf import OmegaConf

    file = Path(config.resume) / "config.yaml"
    try:
        text = file.read_text(encoding="utf8")
        # a reference to another part of the file may be to itself, or unfold to more than fits into memory
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise UserError(f"{file} is not the configuration of a run: it refers to itself (*…).")
        saved = yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(saved, dict):
        raise UserError(f"{file} is not the configuration of a run.")
    name_what_has_moved(saved)
    refuse_foreign_code(saved, file)
    fresh = OmegaConf.to_container(config, resolve=True)
    for key, value in fresh.items():
        # settings that came after the run was started have their defaults
        if key not in saved:
            saved[key] = BEFORE.get(key, value)
        elif isinstance(value, dict) and not isinstance(saved[key], dict | None):
            raise UserError(f"{file}, {key}: expected a group of settings, not {saved[key]!r}.")
        elif key in ("data", "trainer", "watch") and isinstance(value, dict) and isinstance(saved[key], dict):
            saved[key] = {**value, **saved[key]}
    if isinstance(saved.get("attention"), dict):
        saved["attention"] = completed(saved["attention"])
    places = take_places(saved, fresh, typed, str(config.resume))
    for item in typed:
        key = key_of(item)
        if key in ("resume", "run") or key.startswith("hydra") or key in places:
            continue
        if not any(key == allowed or key.startswith(allowed + ".") for allowed in CHANGEABLE):
            raise UserError(
                f"{'='.join(shown(item))}: a run goes on with the settings that it was started with; only "
                f"{', '.join([*CHANGEABLE, *own_places(saved)])} can be changed. For other settings start a new run from its "
                f"weights: init_from={config.resume}"
            )
        *above, last = key.split(".")
        there, new = saved, fresh
        for name in above:
            if not isinstance(there.get(name), dict):
                there[name] = {}
            there, new = there[name], new[name]
        there[last] = new[last]
    given = {key_of(item) for item in typed}
    move(saved, str(config.run), working_directory(Path(config.resume)), given)
    saved["resume"] = str(config.resume)
    return OmegaConf.create(escaped(saved))


def name_what_has_moved(saved: dict[str, Any]) -> None:
    """Puts today's name of a schedule's class where an older run names it by the module that held it then."""
    schedule = saved.get("schedule")
    if isinstance(schedule, dict) and isinstance(target := schedule.get("_target_"), str):
        for before, now in RENAMED.items():
            if target.startswith(before):
                schedule["_target_"] = now + target.removeprefix(before)


def own_places(saved: dict[str, Any]) -> list[str]:
    """The settings that are paths to the corpus of a run, as they are typed."""
    corpus = saved.get("corpus")
    if not isinstance(corpus, dict) or not isinstance(corpus.get("name"), str):
        return []
    return [f"corpus.{place}" for place in places_of(corpus)]


def take_places(saved: dict[str, Any], fresh: dict[str, Any], typed: list[str], run: str) -> list[str]:
    """Puts the typed places of the corpus into `saved`, made absolute; returns the settings that this takes care of.

    Raises UserError for a setting that the run's corpus does not have.
    """
    own = own_places(saved)
    if not own:
        return []
    keys = [key_of(item) for item in typed]
    new = [key for key in keys if key in own or key.startswith("corpus.") and key[7:] not in saved["corpus"]]
    given = {key[7:]: fresh["corpus"][key[7:]] for key in new}
    corpus = with_places(saved["corpus"], given, run)
    here = absolute_places(corpus, Path.cwd())
    saved["corpus"] = corpus | {key: here[key] for key in given}
    return [*new, "corpus"] if "corpus" in keys and fresh["corpus"]["name"] == corpus["name"] else new


def working_directory(run: Path) -> Path:
    """Where a run was started, which its relative paths are relative to."""
    import json

    try:
        return Path(json.loads((run / "environment.json").read_text(encoding="utf8"))["working_directory"])
    except (OSError, ValueError, KeyError, TypeError):
        return Path.cwd()


def move(saved: dict[str, Any], run: str, started_in: Path, given: set[str]) -> None:
    """Makes a configuration hold for a run's folder that may have another place, and for another working directory."""
    before, saved["run"] = saved.get("run"), run

    def moved(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: moved(value) for key, value in part.items()}
        return run if part == before else part

    if isinstance(saved.get("logger"), dict) and "logger" not in given:
        saved["logger"] = moved(saved["logger"])
    # where that is gone, all of it has moved here: nothing is made in the old place again
    if started_in.absolute() == Path.cwd() or not started_in.is_dir():
        return
    if "cache" not in given and isinstance(saved.get("cache"), str):
        saved["cache"] = os.path.abspath(started_in / saved["cache"])
    if own_places(saved):
        there = absolute_places(saved["corpus"], started_in)
        saved["corpus"] |= {key: there[key] for key in there if f"corpus.{key}" not in given}


def refuse_foreign_code(saved: Any, file: Path) -> None:
    """Raises UserError for a `_target_` that no file of `conf/` names, or that hides in an interpolation.

    The places of a corpus may hold the signs of one: they are taken as they are.
    """
    known = {
        target
        for path in CONF.glob("**/*.yaml")
        for target in re.findall(r"_target_: *(\S+)", path.read_text(encoding="utf8"))
    }

    def look(part: Any, place: str) -> None:
        if isinstance(part, dict):
            for key, value in part.items():
                if key == "_target_" and not (isinstance(value, str) and value in known):
                    raise UserError(
                        f"{file}, {place or 'at the top'}: _target_ names {value!r}, which is not in conf/. What a run's folder "
                        f"names is not run: {nearest(str(value), known)}."
                    )
                look(value, f"{place}.{key}".lstrip("."))
        elif isinstance(part, list):
            for value in part:
                look(value, place)
        elif isinstance(part, str) and "${" in part and place not in own_places(saved):
            raise UserError(f"{file}, {place}: {part!r} is not a plain value.")

    look(saved, "")


def last_checkpoint(run: Path) -> tuple[Path, dict[str, Any], list[str]]:
    """(file, content, sentences for the user) of the last checkpoint of a run that is whole.

    Raises UserError if there is none.
    """
    from asr.model.checkpoint import CARRIED, read_tensors
    from asr.training.checkpoints import LAST, PREVIOUS
    from asr.training.position import Position

    fields = {field.name for field in dataclasses.fields(Position)}
    # those of checkpoints from before these were kept
    needed = fields - {"unimproved", "best_beside"}
    said = []
    for name in (LAST, PREVIOUS):
        file = run / "checkpoints" / name
        if not file.is_file():
            continue
        try:
            content = read_tensors(file)
            carried = content.get(CARRIED)
            position = carried.get("position") if isinstance(carried, dict) else None
            whole = isinstance(position, dict) and needed <= position.keys() <= fields
            whole = whole and isinstance(carried.get("plan"), dict)
            if not whole or "optimizer_states" not in content:
                raise UserError(f"{file} does not say where the training was.")
            return file, content, said
        except UserError as error:
            said.append(f"{error} Going on from the checkpoint before it.")
    if said:
        raise UserError(said[0].removesuffix(" Going on from the checkpoint before it."))
    raise UserError(
        f"{run} has no checkpoint to go on from: it was stopped before its first one. Remove the folder and start it again, with "
        f"the command in {run / 'command.txt'} and run={run}."
    )


def check_same(saved: dict[str, Any], now: dict[str, Any], source: Path) -> None:
    """Raises UserError if a position in the plan that was saved is not one in the plan that there is now."""
    if saved == now:
        return
    if saved.get("ranks") != now["ranks"]:
        raise UserError(
            f"{source} was written by {saved.get('ranks')} processes, and {now['ranks']} are going on: the batches would not be "
            "the same. Use as many as before."
        )
    if saved.get("frames") != now["frames"]:
        raise UserError(
            f"The training split is not the one that {source} was trained on: utterances or their durations have changed. "
            "Start a new run with init_from=…"
        )
    changed = ", ".join(key for key in now if saved.get(key) != now[key])
    raise UserError(f"{source} was written with other batches ({changed}).")

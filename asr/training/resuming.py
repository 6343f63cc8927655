"""Resuming a run: its own configuration, its last good checkpoint, and the settings that may be changed."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from asr.config.overrides import escaped, key_of, shown, typed_text
from asr.config.settings import CONF, plain
from asr.data.moved import absolute_places, places_of, with_places
from asr.errors import UserError, nearest
from asr.model.attention import completed
from asr.training.position import Position

# settings that may be given with resume=…: how long to train, and how this machine does it
CHANGEABLE = (
    "max_epochs", "max_minutes", "stop_after", "cache", "checkpoint_minutes", "checkpoint_steps", "data.workers",
    "data.allow_leaks", "data.evaluation_frames", "trainer.accelerator", "trainer.log_every_n_steps", "logger", "watch",
)  # fmt: skip

# the values of settings that older runs lack, where today's default is another: dev was scored in the units' own tokens,
# queries were clustered as Vyas et al. do, and CTC had no settings
BEFORE = {"metric": "own", "space": "hash", "seeds": "even", "head": {"name": "ctc", "loss": {"name": "ctc"}}}

# older runs name the class of their schedule, in the module that held it then
SCHEDULE_CLASS = re.compile(r"asr\.(?:training\.)?schedules\.(Constant|Cosine|Plateau)")


def with_run(arguments: list[str]) -> list[str]:
    """The command line's arguments with `run` set to the folder that `resume` names. Raises UserError if that holds no run."""
    several = any(argument in ("-m", "--multirun") for argument in arguments)
    if several and any(argument.startswith("run=") for argument in arguments):
        raise UserError("run=… names the folder of a single run; for several use hydra.sweep.dir=…")
    named = [argument.partition("=")[2] for argument in arguments if argument.startswith("resume=")]
    if not named or named[-1] in ("", "null"):
        return arguments
    folder = Path(typed_text(named[-1]))
    runs = [Path(typed_text(argument.removeprefix("run="))) for argument in arguments if argument.startswith("run=")]
    if any(run.resolve() != folder.resolve() for run in runs):
        raise UserError("run=… is not the folder that resume=… names, where a run stays: leave run=… out.")
    if any(argument in ("-m", "--multirun") for argument in arguments):
        raise UserError("--multirun does not work with resume=…, which resumes a single run: leave --multirun out.")
    if not folder.is_dir():
        raise UserError(f"resume={folder}: there is no such folder. Name the folder of a run, such as runs/wsj/full.")
    if not (folder / "config.yaml").is_file():
        raise UserError(
            f"resume={folder}: this folder holds no run, as it has no config.yaml. Name the folder of a run."
        )
    return [*(argument for argument in arguments if not argument.startswith("run=")), f"run={folder}"]


def resumed_config(config, typed: list[str]):
    """The configuration that the run was started with, changed by the settings in `typed` (key=value).

    Raises UserError for a setting that cannot be changed now, and for a `config.yaml` that names code which `conf/` does not: a
    run's folder may come from a stranger.
    """
    from omegaconf import OmegaConf

    file = Path(config.resume) / "config.yaml"
    saved = read_config(file)
    fresh: dict[str, Any] = plain(config)
    fill_in(saved, fresh, file)
    places = take_places(saved, fresh, typed, str(config.resume))
    for item in typed:
        key = key_of(item)
        if key not in ("resume", "run", *places) and not key.startswith("hydra"):
            change(saved, fresh, item, str(config.resume))
    given = {key_of(item) for item in typed}
    move(saved, str(config.run), working_directory(Path(config.resume)), given)
    saved["resume"] = str(config.resume)
    return OmegaConf.create(escaped(saved))


def read_config(file: Path) -> dict[str, Any]:
    """The configuration that a run saved, as today's version names things. Raises UserError, as `resumed_config` does."""
    import yaml

    try:
        text = file.read_text(encoding="utf8")
        # an alias may refer to itself, or unfold to more than fits into memory
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise UserError(
                f"{file} is not the configuration of a run: it has YAML aliases (*…). Restore the original file."
            )
        saved = yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"{file} cannot be read: {reason}. Restore it from a copy.") from None
    if not isinstance(saved, dict):
        raise UserError(f"{file} is not the configuration of a run: it holds no settings. Restore the original file.")
    name_schedule(saved)
    refuse_foreign_code(saved, file)
    return saved


def fill_in(saved: dict[str, Any], fresh: dict[str, Any], file: Path) -> None:
    """Gives settings that did not exist when the run was started their defaults, taken from `fresh`."""
    for key, value in fresh.items():
        if key not in saved:
            saved[key] = BEFORE.get(key, value)
        elif isinstance(value, dict) and not isinstance(saved[key], dict | None):
            raise UserError(
                f"{file}, {key}: expected a group of settings, not {saved[key]!r}. Restore the original file."
            )
        elif key in ("data", "trainer", "watch") and isinstance(value, dict) and isinstance(saved[key], dict):
            saved[key] = {**value, **saved[key]}
    if isinstance(saved.get("attention"), dict):
        saved["attention"] = completed(saved["attention"])


def change(saved: dict[str, Any], fresh: dict[str, Any], item: str, run: str) -> None:
    """Copies a typed setting from `fresh` to `saved`. Raises UserError if it must not change in a run."""
    key = key_of(item)
    if not any(key == allowed or key.startswith(allowed + ".") for allowed in CHANGEABLE):
        raise UserError(
            f"{'='.join(shown(item))} cannot be changed in a run that was already started; only "
            f"{', '.join([*CHANGEABLE, *own_places(saved)])} can. For other settings start a new run from its weights: "
            f"init_from={run}"
        )
    *above, last = key.split(".")
    there, new = saved, fresh
    for name in above:
        if not isinstance(there.get(name), dict):
            there[name] = {}
        there, new = there[name], new[name]
    there[last] = new[last]


def name_schedule(saved: dict[str, Any]) -> None:
    """Replaces the class of a schedule, which older runs name, by the schedule's name."""
    schedule = saved.get("schedule")
    if isinstance(schedule, dict) and (found := SCHEDULE_CLASS.fullmatch(str(schedule.get("_target_")))):
        del schedule["_target_"]
        saved["schedule"] = {"name": found[1].lower(), **schedule}


def own_places(saved: dict[str, Any]) -> list[str]:
    """The settings that hold paths of a run's corpus, as they are typed: corpus.path, …"""
    corpus = saved.get("corpus")
    if not isinstance(corpus, dict) or not isinstance(corpus.get("name"), str):
        return []
    return [f"corpus.{place}" for place in places_of(corpus)]


def take_places(saved: dict[str, Any], fresh: dict[str, Any], typed: list[str], run: str) -> list[str]:
    """Puts typed paths of the corpus into `saved`, made absolute; returns the settings that this takes care of.

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
    """Where a run was started: what its relative paths are relative to."""
    import json

    try:
        return Path(json.loads((run / "environment.json").read_text(encoding="utf8"))["working_directory"])
    except (OSError, ValueError, KeyError, TypeError):
        return Path.cwd()


def move(saved: dict[str, Any], run: str, started_in: Path, given: set[str]) -> None:
    """Rewrites the paths of a saved config, after the run moved or for another working directory.

    given: settings on the command line, which stay.
    """
    before, saved["run"] = saved.get("run"), run

    def moved(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: moved(value) for key, value in part.items()}
        return run if part == before else part

    if isinstance(saved.get("logger"), dict) and "logger" not in given:
        saved["logger"] = moved(saved["logger"])
    # if that folder is gone, everything has moved here: nothing must be made in the old place again
    if started_in.absolute() == Path.cwd() or not started_in.is_dir():
        return
    if "cache" not in given and isinstance(saved.get("cache"), str):
        saved["cache"] = os.path.abspath(started_in / saved["cache"])
    if own_places(saved):
        there = absolute_places(saved["corpus"], started_in)
        saved["corpus"] |= {key: there[key] for key in there if f"corpus.{key}" not in given}


def refuse_foreign_code(saved: Any, file: Path) -> None:
    """Raises UserError for a `_target_` that no file of `conf/` names, and for interpolations, which might hide one.

    Paths of a corpus may contain `${`: they are taken literally.
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
                        f"{file}, {place or 'at the top'}: _target_ names {value!r}, which conf/ does not, so it is not run: "
                        f"{nearest(str(value), known)}."
                    )
                look(value, f"{place}.{key}".lstrip("."))
        elif isinstance(part, list):
            for value in part:
                look(value, place)
        elif isinstance(part, str) and "${" in part and place not in own_places(saved):
            raise UserError(f"{file}, {place}: {part!r} is an interpolation. Write the value itself.")

    look(saved, "")


class ResumePoint(NamedTuple):
    """The checkpoint that a run resumes from. content: of the file; remarks: to tell the user about it."""

    file: Path
    content: dict[str, Any]
    remarks: list[str]

    @property
    def position(self) -> Position:
        """Where the run was: a new object every time."""
        return Position(**self._carried["position"])

    @property
    def units(self) -> dict[str, Any]:
        """The units of the run, as `pack_units` packs them."""
        return self._carried["units"]

    @property
    def plan(self) -> dict[str, Any]:
        """The training plan, as plain data."""
        return self._carried["plan"]

    @property
    def _carried(self) -> dict[str, Any]:
        from asr.model.checkpoint import CARRIED

        return self.content[CARRIED]


def last_checkpoint(run: Path) -> ResumePoint:
    """The last whole checkpoint of a run. Raises UserError if there is none."""
    from asr.model.checkpoint import CARRIED, read_tensors
    from asr.training.checkpoints import LAST, PREVIOUS

    fields = {field.name for field in dataclasses.fields(Position)}
    # the others came later: older checkpoints lack them
    needed = fields - {"unimproved", "best_beside"}
    remarks: list[str] = []
    for name in (LAST, PREVIOUS):
        file = run / "checkpoints" / name
        if not file.is_file():
            continue
        try:
            content = read_tensors(file)
            carried = content.get(CARRIED)
            carried = carried if isinstance(carried, dict) else {}
            position = carried.get("position")
            whole = isinstance(position, dict) and needed <= position.keys() <= fields
            whole = whole and isinstance(carried.get("plan"), dict)
            if not whole or "optimizer_states" not in content:
                raise UserError(
                    f"{file} is not a checkpoint to resume from: it does not say where the training was. Restore it from a "
                    "copy, or start a new run with init_from=FILE."
                )
            return ResumePoint(file, content, remarks)
        except UserError as error:
            remarks.append(f"{error} Resuming from the checkpoint before it.")
    if remarks:
        raise UserError(remarks[0].removesuffix(" Resuming from the checkpoint before it."))
    raise UserError(
        f"{run} has no checkpoint to resume from: it was stopped before its first one. Remove the folder and start it "
        f"again, with the command in {run / 'command.txt'} and run={run}."
    )


def check_same(saved: dict[str, Any], now: dict[str, Any], source: Path) -> None:
    """Raises UserError if the plan has changed, so that a saved position means nothing in it.

    saved, now: `TrainingPlan.as_data`; source: the checkpoint.
    """
    if saved == now:
        return
    if saved.get("ranks") != now["ranks"]:
        raise UserError(
            f"{source} was written by {saved.get('ranks')} processes, and {now['ranks']} are resuming it: the batches would not "
            f"be the same. Set trainer.devices and trainer.num_nodes for {saved.get('ranks')}."
        )
    if saved.get("frames") != now["frames"]:
        raise UserError(
            f"The training split is not the one that {source} was trained on: utterances or their durations have changed. "
            "Start a new run with init_from=…"
        )
    changed = ", ".join(key for key in now if saved.get(key) != now[key])
    raise UserError(f"{source} was written with other batches ({changed}). Start a new run with init_from=…")

"""A run's folder: what was asked for, what it was made of, and how to do it again."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from asr.data.fingerprint import data_facts
from asr.errors import UserError
from asr.runtime.files import write_whole
from asr.runtime.processors import processors
from asr.runtime.provenance import command_line, git_revision


def first_command(run: Path) -> str:
    """The command that a run was started with, though this one may go on with it."""
    try:
        return (run / "command.txt").read_text(encoding="utf8").strip() or command_line()
    except (OSError, UnicodeDecodeError):
        return command_line()


def keep_config(folder: Path, config) -> None:
    """Writes what a resumed run goes on with over its configuration, so that the next resuming finds it."""
    from omegaconf import OmegaConf

    kept = OmegaConf.merge(config, {"resume": None})
    try:
        write_whole(folder / "config.yaml", OmegaConf.to_yaml(kept, resolve=True).encode("utf8"))
    except OSError as error:
        raise UserError(f"The run's folder {folder} cannot be written: {error.strerror}.") from None


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other trainings out of a run's folder during the block; a process that dies lets go of it.

    Raises UserError if another process is training there.
    """
    file = folder / ".training"
    try:
        handle = open(file, "w")
    except OSError:
        # `start_run` reports this better
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise UserError(f"Another process is training in {folder} at this moment. Wait for it, or stop it.") from None
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        handle.close()


def start_run(folder: Path, config, splits, dropped: list[tuple[str, str, str]]) -> None:
    """Writes what the run is made of into its folder.

    dropped: (split, utterance id, reason) of every utterance that will not be used.
    Raises UserError if the folder cannot be written or already holds a run.
    """
    from omegaconf import OmegaConf

    if (folder / "config.yaml").exists():
        raise UserError(f"{folder} already holds a run. Name another folder with run=…")
    environment = {
        "working_directory": os.getcwd(),
        "git_revision": git_revision(),
        **data_facts(splits),
        "python": sys.version.split()[0],
        "processors": processors(),
    }
    contents = {
        "command.txt": command_line(),
        "environment.json": json.dumps(environment, indent=2),
        "dropped.tsv": "\n".join(["split\tutterance\treason", *("\t".join(row) for row in dropped)]),
        # last: a folder with it holds a run
        "config.yaml": OmegaConf.to_yaml(config, resolve=True).rstrip(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_text(content + "\n", encoding="utf8")
    except OSError as error:
        for name in contents:
            (folder / name).unlink(missing_ok=True)
        raise UserError(f"The run's folder {folder} cannot be written: {error.strerror}.") from None

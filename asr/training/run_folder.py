"""A run's folder: its settings, what it was made of, and the command that repeats it."""

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
    """The command that a run was started with, even if the present one resumes it."""
    try:
        return (run / "command.txt").read_text(encoding="utf8").strip() or command_line()
    except (OSError, UnicodeDecodeError):
        return command_line()


def keep_config(folder: Path, config) -> None:
    """Overwrites a run's configuration with that of the resumed run, for the next time it is resumed."""
    from omegaconf import OmegaConf

    kept = OmegaConf.merge(config, {"resume": None})
    try:
        write_whole(folder / "config.yaml", OmegaConf.to_yaml(kept, resolve=True).encode("utf8"))
    except OSError as error:
        raise UserError(
            f"The run's folder {folder} cannot be written: {error.strerror}. Make it writable, or make room on its disk."
        ) from None


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Locks a run's folder against other trainings during the block; the lock of a process that dies is released.

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
        raise UserError(f"Another process is training in {folder}. Wait for it, or stop it.") from None
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        handle.close()


def start_run(folder: Path, config, splits, dropped: list[tuple[str, str, str]]) -> None:
    """Writes the files that describe a run into its folder.

    dropped: (split, utterance id, reason) of every utterance not used.
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
        # last, as it is what makes a folder a run
        "config.yaml": OmegaConf.to_yaml(config, resolve=True).rstrip(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_text(content + "\n", encoding="utf8")
    except OSError as error:
        for name in contents:
            (folder / name).unlink(missing_ok=True)
        raise UserError(
            f"The run's folder {folder} cannot be written: {error.strerror}. Make it writable, or make room on its disk."
        ) from None

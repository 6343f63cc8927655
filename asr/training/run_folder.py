"""A run's folder: what was asked for, what it was made of, and how to do it again."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr.errors import UserError
from asr.runtime.processors import processors


def make_folder(folder: Path) -> bool:
    """Makes a folder and those above it; False if it exists already. Of several processes only one gets True.

    Raises OSError if it cannot be made.
    """
    for attempt in itertools.count():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            return True
        except (FileNotFoundError, FileExistsError):
            if folder.is_dir():
                return False
            # another process has just removed it, or an empty folder above it; unless a file is in the way
            if attempt == 100:
                raise


def remove_if_empty(folder: Path) -> None:
    """Removes `folder` and the empty folders above it, up to the working directory."""
    folder, here = folder.resolve(), Path.cwd().resolve()
    while folder != here:
        try:
            folder.rmdir()
        except OSError:  # something is in it, it is gone, or a disk is mounted there
            return
        folder = folder.parent


def folder_of_its_own(wanted: Path) -> Path:
    """Makes the folder `wanted`, or the first of `wanted`-2, `wanted`-3, … that does not exist yet.

    Of several processes that ask at the same time each gets its own. Raises UserError if it cannot be made.
    """
    try:
        for number in itertools.count(1):
            folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
            if make_folder(folder):
                return folder
    except OSError as error:
        raise UserError(f"run={wanted}: the folder cannot be made: {error.strerror}.") from None


def command_line() -> str:
    """The command that was typed, to be typed again."""
    program = Path(sys.argv[0])
    try:
        program = program.resolve().relative_to(Path.cwd())
    except ValueError:
        pass
    # a folder for one run cannot be used by its repetition
    return shlex.join(
        ["python", str(program), *(argument for argument in sys.argv[1:] if not argument.startswith("run="))]
    )


def first_command(run: Path) -> str:
    """The command that a run was started with, though this one may go on with it."""
    try:
        return (run / "command.txt").read_text(encoding="utf8").strip() or command_line()
    except (OSError, UnicodeDecodeError):
        return command_line()


def git_revision() -> str:
    """The revision of this code, with `-dirty` if the working tree has changes; `unknown` outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return described.stdout.strip() or "unknown"


def fingerprint(splits) -> str:
    """A digest of what a corpus holds: every utterance's id, duration, text and speaker, by split."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        for cut in splits[name]:
            digest.update(json.dumps([name, *described(cut).values()]).encode())
    return digest.hexdigest()[:16]


def described(cut) -> dict[str, str]:
    supervision = cut.supervisions[0]
    return {
        "ids": cut.id,
        "durations": f"{cut.duration:.4f}",
        "texts": supervision.text or "",
        "speakers": supervision.speaker or "",
    }


def data_facts(splits) -> dict[str, Any]:
    """The facts that tell whether a corpus still holds the same data: `data_fingerprint`, and `data` about each split.

    Of each split: how many `utterances`, and digests of their `ids`, `durations`, `texts` and `speakers`.
    """
    data = {}
    for name, cuts in splits.items():
        digests: dict[str, Any] = {}
        for cut in cuts:
            for part, value in described(cut).items():
                digests.setdefault(part, hashlib.sha256()).update(json.dumps(value).encode())
        data[name] = {"utterances": len(cuts)} | {part: digest.hexdigest()[:8] for part, digest in digests.items()}
    return {"data_fingerprint": fingerprint(splits), "data": data}


def keep_config(folder: Path, config) -> None:
    """Writes what a resumed run goes on with over its configuration, so that the next resuming finds it."""
    from omegaconf import OmegaConf

    aside = folder / ".config.yaml.partial"
    try:
        kept = OmegaConf.merge(config, {"resume": None})
        aside.write_text(OmegaConf.to_yaml(kept, resolve=True), encoding="utf8")
        os.replace(aside, folder / "config.yaml")
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
        # who writes the run says better what is wrong with its folder
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

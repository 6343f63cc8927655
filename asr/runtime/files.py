"""Files and folders that are either whole or absent, whatever stops the process that writes them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from asr.errors import UserError


@contextlib.contextmanager
def replacing(path: Path, alone: bool = False, durable: bool = False) -> Iterator[Path]:
    """Yields the name of a temporary file beside `path`, which replaces it when the block ends without an error.

    Whatever happens, `path` holds the old content or the new one, whole, and no other file is left behind.
    alone: no other process writes this file, so the half-written file of a killed process is overwritten.
    durable: the new file also survives a loss of power. Raises what the block raises, and OSError.
    """
    writer = "" if alone else f"{os.getpid()}."
    temporary = path.with_name(f".{path.name}.{writer}partial")
    try:
        temporary.unlink(missing_ok=True)
        yield temporary
        if durable:
            force_to_disk(temporary)
        os.replace(temporary, path)
        if durable:
            force_to_disk(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def force_to_disk(path: Path) -> None:
    """Flushes a file, or the names in a folder, to the disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all. Raises OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_together(contents: dict[Path, str | bytes]) -> None:
    """Writes several files; all are on the disk, under temporary names, before the first is renamed.

    contents: path → text (UTF-8) or bytes; missing folders are made. Raises UserError if one cannot be written; the old files
    then stay.
    """
    try:
        with contextlib.ExitStack() as stack:
            for path, content in contents.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary = stack.enter_context(replacing(path))
                temporary.write_bytes(content if isinstance(content, bytes) else content.encode("utf8"))
                if path.is_dir():
                    raise IsADirectoryError(21, "there is a folder of that name")
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}. Name another place, or make this one writable."
        ) from None


def make_folder(folder: Path) -> bool:
    """Makes a folder and its parents; False if it already exists. Of several processes only one gets True.

    Raises OSError if it cannot be made.
    """
    attempts = 0
    while True:
        attempts += 1
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            return True
        except (FileNotFoundError, FileExistsError):
            if folder.is_dir():
                return False
            # another process has just removed it or a parent; or a file is in the way
            if attempts > 100:
                raise


def remove_if_empty(folder: Path) -> None:
    """Removes `folder` and the empty folders above it, up to the working directory."""
    folder, here = folder.resolve(), Path.cwd().resolve()
    while folder != here:
        try:
            folder.rmdir()
        except OSError:  # not empty, already gone, or a mount point
            return
        folder = folder.parent


def folder_of_its_own(wanted: Path) -> Path:
    """Makes the folder `wanted`, or if it exists the first of `wanted`-2, `wanted`-3, … that does not.

    Processes that ask at the same time get different folders. Raises UserError if it cannot be made.
    """
    try:
        folder, number = wanted, 1
        while not make_folder(folder):
            number += 1
            folder = wanted.with_name(f"{wanted.name}-{number}")
        return folder
    except OSError as error:
        raise UserError(f"run={wanted}: the folder cannot be made: {error.strerror}. Name another place.") from None

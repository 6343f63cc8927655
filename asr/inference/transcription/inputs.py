"""From command-line arguments to audio files: files, folders, globs, and `-` for standard input."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import itertools
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.audio.arrays import Sound
from asr.audio.headers import AUDIO_SUFFIXES
from asr.errors import UserError
from asr.inference.alignment.ctm import in_one_field

STANDARD_INPUT = "-"


@dataclasses.dataclass(frozen=True)
class Source:
    """An audio file.

    name: as the user gave it, `-` for standard input; as `os.fsdecode` returns it if it is not UTF-8. below: the folder below
    `output=` for its transcript; empty for that folder itself. sound: samples to use instead of a file.
    """

    name: str
    below: str = ""
    sound: Sound | None = dataclasses.field(default=None, compare=False)

    @property
    def shown(self) -> str:
        """The name in printable form: bytes that are not UTF-8 as `\\xe4`."""
        return printable(self.name)

    @property
    def in_sentences(self) -> str:
        return "standard input" if self.name == STANDARD_INPUT else self.name

    @property
    def stem(self) -> str:
        return "standard_input" if self.name == STANDARD_INPUT else Path(self.name).stem

    @property
    def whole_name(self) -> str:
        return "standard_input" if self.name == STANDARD_INPUT else Path(self.name).name


def find_sources(arguments: Sequence[str]) -> tuple[list[Source], list[str]]:
    """(the audio files that the arguments name, in order and without duplicates; sentences about arguments that match none).

    A folder means all files below it whose names look like audio, sorted. An argument with `*`, `?` or `[` that is not a file is
    a glob, in which `**` matches any folders. Whether a file really is audio turns out when it is read.

    Transcripts keep the folders below the argument: if only `talks` is named, that of `talks/monday/x.wav` goes below `monday`;
    with `talks` and `news`, below `talks/monday`. Files named one by one need no folders, unless two have the same name.
    """
    found: dict[str, tuple[str, str]] = {}
    bases: list[str] = []
    problems = []
    one_by_one = True

    def add(names: Sequence[str], base: str) -> None:
        bases.append(place_of(base))
        for name in names:
            folder = os.path.dirname(name)
            # x.wav, ./x.wav and sub/../x.wav are one file
            file = os.path.join(real(folder), os.path.basename(name))
            found.setdefault(file, (name, place_of(folder)))

    for argument in arguments:
        path = Path(argument)
        if argument == STANDARD_INPUT:
            # a file of this name is ./-
            found.setdefault(STANDARD_INPUT, (STANDARD_INPUT, ""))
        elif is_folder(path):
            one_by_one = False
            names = audio_below(path)
            if names:
                add(names, argument)
            else:
                problems.append(
                    f"{argument} is a folder without audio files: name one that has files such as .wav or .flac."
                )
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            one_by_one = False
            names = [
                name
                for match in sorted(glob.glob(argument, recursive=True))
                for name in (audio_below(Path(match)) if is_folder(Path(match)) else [match])
            ]
            if names:
                add(names, before_magic(argument))
            else:
                problems.append(f"No file matches {argument}: check the pattern.")
        else:
            add([argument], os.path.dirname(argument))
    names = Counter(os.path.basename(name) for name, _ in found.values())
    if not bases or one_by_one and max(names.values()) == 1:
        return [Source(name) for name, _ in found.values()], problems
    root = os.path.commonpath([*bases, *(place for _, place in found.values() if place)])
    return [Source(name, below(place, root)) for name, place in found.values()], problems


def before_magic(pattern: str) -> str:
    """The folder that a glob starts from: `talks` for `talks/*/x?.wav`."""
    parts = Path(pattern).parts
    return str(Path(*itertools.takewhile(lambda part: not glob.has_magic(part), parts)))


def real(folder: str) -> str:
    """The absolute path of a folder without links and `..`."""
    try:
        return os.path.realpath(folder)
    except ValueError:  # NUL in a name: reported when it is read
        return os.path.abspath(folder)


def place_of(folder: str) -> str:
    """The absolute path of a folder as the user wrote it, keeping links, unless a `..` after one leads elsewhere."""
    place = os.path.abspath(folder)
    return place if real(place) == real(folder) else real(folder)


def below(place: str, root: str) -> str:
    return "" if place in ("", root) else os.path.relpath(place, root)


def is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a link to itself, NUL in a name: reported when it is read
        return False


def audio_below(folder: Path) -> list[str]:
    """The paths of files below a folder whose names look like audio; does not follow links to folders."""
    return sorted(
        os.path.join(where, name)
        for where, _, files in os.walk(folder)
        for name in files
        if Path(name).suffix.lower() in AUDIO_SUFFIXES
    )


def file_names(sources: Sequence[Source], suffix: str) -> dict[Source, str]:
    """The file below `output=` for each source: `monday/talk.srt` for `talk.wav` in `monday`, or `monday/talk.wav.srt` if several
    there are called talk. Raises UserError, naming two sources that would still share a file, or one whose file would replace a
    folder."""
    whole = {source: os.path.join(source.below, source.whole_name + suffix) for source in sources}
    names = {source: os.path.join(source.below, source.stem + suffix) for source in sources}
    folders = {str(folder) for source in sources for folder in (Path(source.below), *Path(source.below).parents)}
    while True:
        count = Counter(names.values())
        taken = [source for source, name in names.items() if count[name] > 1 or name in folders]
        if all(names[source] == whole[source] for source in taken):
            break
        names |= {source: whole[source] for source in taken}
    for source in taken:
        others = [other for other in taken if names[other] == names[source] and other != source]
        problem = f"and {others[0].shown} would both be written to" if others else "would be written to the folder"
        raise UserError(f"{source.shown} {problem} {names[source]} below output=: transcribe it into another folder.")
    return names


def recording_names(sources: Sequence[Source]) -> dict[Source, str]:
    """Each source's name in a CTM of all: `talk` for `talk.wav`; if several would share it, `talk.wav`, then `monday/talk`, with
    as many folders as it takes to distinguish them.

    Names that differ only in case or white space count as equal, as for NIST's tools. Raises UserError, naming two sources that
    cannot be distinguished.
    """
    spellings = {source: list(spellings_of(source)) for source in sources}
    while True:
        alike: dict[str, list[Source]] = {}
        for source in sources:
            alike.setdefault(spellings[source][0].lower(), []).append(source)
        together = [group for group in alike.values() if len(group) > 1]
        if not together:
            return {source: each[0] for source, each in spellings.items()}
        for group in together:
            longer = [source for source in group if len(spellings[source]) > 1]
            if not longer:
                raise UserError(
                    f"{group[0].shown} and {group[1].shown} would both be called {spellings[group[0]][0]} in one CTM: add "
                    "output=FOLDER to write one each."
                )
            for source in longer:
                del spellings[source][0]


def spellings_of(source: Source) -> Iterator[str]:
    """Possible names of a source in a CTM, shortest first."""
    if source.name == STANDARD_INPUT:
        yield source.stem
        return
    path = Path(source.name)
    for first in range(len(path.parts) - 1, -1, -1):
        whole = Path(*path.parts[first:])
        yield in_one_field(printable(str(whole.with_suffix(""))))
        yield in_one_field(printable(str(whole)))


def printable(name: str) -> str:
    """A file name, or a sentence with one, whose bytes that are not UTF-8 are written as `\\xe4`."""
    return name.encode("utf8", "surrogateescape").decode("utf8", "backslashreplace")


@contextlib.contextmanager
def opened(source: Source) -> Iterator[Path | Sound]:
    """What to read for a source: its sound, its file, or a temporary file with all of standard input.

    Raises UserError if standard input cannot be stored.
    """
    if source.sound is not None or source.name != STANDARD_INPUT:
        yield source.sound or Path(source.name)
        return
    # readers check the header's length and seek to the end, which a pipe does not allow
    with tempfile.NamedTemporaryFile(prefix="asr-standard-input-") as file:
        try:
            shutil.copyfileobj(sys.stdin.buffer, file)
            file.flush()
        except OSError as error:
            raise UserError(
                f"Standard input cannot be stored in {tempfile.gettempdir()}: {error.strerror}. Set TMPDIR to "
                "another folder."
            ) from None
        yield Path(file.name)


def named(error: UserError, source: Source, path: Path | Sound) -> str:
    """The message of an error, with \"standard input\" in place of its temporary file."""
    message = str(error)
    return message.replace(str(path), "standard input") if source.name == STANDARD_INPUT else message

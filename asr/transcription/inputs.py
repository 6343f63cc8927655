"""What a user names on the command line → audio files: files, folders, globs, and `-` for standard input."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.errors import UserError

STANDARD_INPUT = "-"
# Names of files in a folder that are taken for audio; a file that is named itself may have any name.
SUFFIXES = frozenset(
    ".3gp .aac .ac3 .adts .aif .aifc .aiff .amr .ape .au .avi .caf .flac .g722 .gsm .m4a .m4b .mka .mkv .mov .mp2 .mp3 .mp4 "
    ".mpeg .mpg .nist .oga .ogg .ogv .opus .ra .rf64 .snd .sph .spx .tta .voc .w64 .wav .wave .webm .wma .wmv .wv".split()
)


@dataclasses.dataclass(frozen=True)
class Source:
    """An audio file. name: how the user knows it, `-` for standard input."""

    name: str

    @property
    def stem(self) -> str:
        return "standard_input" if self.name == STANDARD_INPUT else Path(self.name).stem

    @property
    def whole_name(self) -> str:
        return "standard_input" if self.name == STANDARD_INPUT else Path(self.name).name


def find_sources(arguments: Sequence[str]) -> tuple[list[Source], list[str]]:
    """(the audio files that the arguments name, in their order and each once; sentences about arguments that name none).

    A folder stands for the files below it that are audio by their names, sorted. What has `*`, `?` or `[` in it and is no file is
    a glob, in which `**` stands for any folders. Whether a file is audio is found out when it is read.
    """
    names: dict[str, None] = {}
    problems = []
    for argument in arguments:
        path = Path(argument)
        if argument == STANDARD_INPUT:
            names[argument] = None
        elif is_folder(path):
            found = audio_below(path)
            if not found:
                problems.append(f"{argument} is a folder without audio files: none of the names in it ends like audio.")
            names |= dict.fromkeys(found)
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            found = sorted(glob.glob(argument, recursive=True))
            found = [
                name for match in found for name in (audio_below(Path(match)) if is_folder(Path(match)) else [match])
            ]
            if not found:
                problems.append(f"Nothing is called {argument}.")
            names |= dict.fromkeys(found)
        else:
            names[argument] = None
    return [Source(name) for name in names], problems


def is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a link to itself, NUL in a name: said when it is read
        return False


def audio_below(folder: Path) -> list[str]:
    """The paths of files below a folder that are audio by their names; links to folders are not followed."""
    return sorted(
        os.path.join(where, name)
        for where, _, files in os.walk(folder)
        for name in files
        if Path(name).suffix.lower() in SUFFIXES
    )


def file_names(sources: Sequence[Source], suffix: str) -> dict[Source, str]:
    """The name of the file to be written for each source: `talk.srt` for `talk.wav`, and `talk.wav.srt` where several are called
    talk. Raises UserError naming two sources that would still be written to one file."""
    stems = Counter(source.stem for source in sources)
    written: dict[str, Source] = {}
    for source in sources:
        name = (source.stem if stems[source.stem] == 1 else source.whole_name) + suffix
        if name in written:
            raise UserError(
                f"{written[name].name} and {source.name} would both be written to {name}: transcribe them into different "
                "folders (output=FOLDER)."
            )
        written[name] = source
    return {source: name for name, source in written.items()}


@contextlib.contextmanager
def opened(source: Source) -> Iterator[Path]:
    """The file to read for a source: its own, or one that holds all of standard input and is removed afterwards.

    Raises UserError if standard input cannot be kept.
    """
    if source.name != STANDARD_INPUT:
        yield Path(source.name)
        return
    # headers promise lengths, and libsndfile looks for the end: a pipe can tell neither
    with tempfile.NamedTemporaryFile(prefix="asr-standard-input-") as file:
        try:
            shutil.copyfileobj(sys.stdin.buffer, file)
            file.flush()
        except OSError as error:
            raise UserError(f"Standard input cannot be kept in {tempfile.gettempdir()}: {error.strerror}.") from None
        yield Path(file.name)


def named(error: UserError, source: Source, path: Path) -> str:
    """The sentence of an error, with standard input called by its name."""
    message = str(error)
    return message.replace(str(path), "standard input") if source.name == STANDARD_INPUT else message

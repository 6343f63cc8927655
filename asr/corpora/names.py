"""Finding the file that a table names, where the table was written on another system than the one it is read on.

A Mac writes é as e and an accent (NFD) where others write one letter (NFC), Windows takes u03.wav for u03.WAV and separates
folders by backslashes, and many tables leave out the ending. Such a name is looked for part by part, in steps from what is only
another form of the same letters to what is another ending; the first step that fits decides, and only if one file fits.
"""

from __future__ import annotations

import collections
import dataclasses
import difflib
import os
import unicodedata
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path

from asr.errors import listed
from asr.transcription.inputs import SUFFIXES

# Files with these endings are taken for audio: those of `asr.transcription.inputs`, and the LDC's.
AUDIO_SUFFIXES = SUFFIXES | {".wv1", ".wv2"}
# A folder with more files than this is not searched for names that resemble another one.
MOST_COMPARED = 5000
MOST_HELPED = 5  # names for which resembling ones are looked for


@dataclasses.dataclass(frozen=True)
class Match:
    """What was found for a name.

    path: the file; None where none fits, or several do. called: what it is called below the root, where that differs from the
    name by more than the form of its letters. resembling: what may be meant where path is None, below the root.
    """

    path: Path | None
    called: str = ""
    resembling: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """ " (did you mean u03b.wav?)", or nothing."""
        return f" (did you mean {' or '.join(self.resembling)}?)" if self.resembling else ""


def find_file(root: Path, name: str) -> Path | None:
    """The file that `name`, absolute or relative to `root`, stands for; None where there is none, or where several fit.

    `find_files` also tells what to say about it.
    """
    return find_files(root, [name])[0].path


def find_files(root: Path, names: Iterable[str]) -> list[Match]:
    """A match for each name, absolute or relative to `root`. A file that is named exactly is never taken for another name.

    Two names that would be taken for the same file match nothing. Nothing above `root` is found by a relative name that is not
    exact.
    """
    finder = _Finder(Path(root))
    names = list(names)
    exact = [finder.exact(name) for name in names]
    taken = {os.path.realpath(path) for path in exact if path is not None}
    matches = [Match(path) if path else finder.search(name, taken) for path, name in zip(exact, names)]
    found = collections.Counter(
        os.path.realpath(match.path) for match, path in zip(matches, exact) if path is None and match.path
    )
    helped = 0
    for at, (name, match) in enumerate(zip(names, matches)):
        if exact[at] is None and match.path and found[os.path.realpath(match.path)] > 1:
            matches[at] = Match(None, resembling=(finder.below(match.path),))
        elif match.path is None and not match.resembling and helped < MOST_HELPED:
            matches[at] = Match(None, resembling=finder.resembling(name, taken | found.keys()))
            helped += 1
    return matches


def renamed(names: Iterable[str], matches: Iterable[Match]) -> str | None:
    """A sentence about the files that are called otherwise than their names; None where there are none."""
    others = [f"{name} is {match.called}" for name, match in zip(names, matches) if match.path and match.called]
    if not others:
        return None
    one = len(others) == 1
    return (
        f"{len(others)} audio {'file is' if one else 'files are'} called otherwise than the table says, and "
        f"{'was' if one else 'were'} found: {listed(others, most=5)}."
    )


def in_one_form(name: str) -> str:
    """A name whose letters have one form, whichever they had: Unicode's NFC."""
    return unicodedata.normalize("NFC", name)


def _any_case(name: str) -> str:
    return in_one_form(in_one_form(name).casefold())


def _stem(name: str) -> str:
    """The name without the ending of an audio file, if it has one."""
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in AUDIO_SUFFIXES else name


# How the parts of two names are compared: folders, then files; from the strictest to the loosest.
_STEPS: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (in_one_form, in_one_form),
    (_any_case, _any_case),
    (in_one_form, lambda name: _stem(in_one_form(name))),
    (_any_case, lambda name: _stem(_any_case(name))),
)


class _Finder:
    """Looks below `root`, and lists every folder once."""

    def __init__(self, root: Path):
        self.root = root
        self._names: dict[str, list[str]] = {}
        self._keys: dict[tuple[str, Callable], dict[str, list[str]]] = {}

    def exact(self, name: str) -> Path | None:
        path = self.root / name
        try:
            # a folder may bear the name of a file without its ending
            return path if os.path.lexists(path) and not os.path.isdir(path) else None
        except ValueError:  # a NUL character
            return None

    def search(self, name: str, taken: set[str]) -> Match:
        """The file of which `name` is another spelling. taken: real paths of files that are not it."""
        for spelt in _spellings(name):
            start, parts = self._start(spelt)
            if not parts or ".." in parts:
                continue
            for folder_key, file_key in _STEPS:
                found = [path for path in self._walk(start, parts, folder_key, file_key) if _is_other(path, taken)]
                if len(found) > 1:
                    return Match(None, resembling=tuple(map(self.below, found[:3])))
                if found:
                    called = self.below(found[0])
                    same = in_one_form(called) == in_one_form(os.path.normpath(name))
                    return Match(found[0], "" if same else called)
        is_folder = name.strip() and "\0" not in name and os.path.isdir(self.root / name)
        return Match(self.root / name if is_folder else None)

    def resembling(self, name: str, taken: set[str]) -> tuple[str, ...]:
        """Audio files in the folder of a name that are called nearly so. taken: real paths of files that are not it."""
        start, parts = self._start((_spellings(name) or ["."])[-1])
        if not parts or ".." in parts:
            return ()
        for folder in self._walk(start, parts[:-1], _any_case, _any_case) if parts[:-1] else [start]:
            names = [each for each in self._listing(folder) if os.path.splitext(each)[1].lower() in AUDIO_SUFFIXES]
            if len(names) <= MOST_COMPARED:
                names = [each for each in names if _is_other(folder / each, taken)]
                close = difflib.get_close_matches(parts[-1], names, n=2, cutoff=0.75)
                return tuple(self.below(folder / each) for each in close)
        return ()

    def below(self, path: Path) -> str:
        """How a file is called from the root on."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def _start(self, name: str) -> tuple[Path, list[str]]:
        path = Path(os.path.normpath(name))
        if path.is_absolute():
            return Path(path.anchor), list(path.parts[1:])
        return self.root, [part for part in path.parts if part != "."]

    def _walk(self, start: Path, parts: list[str], folder_key: Callable, file_key: Callable) -> list[Path]:
        """All paths below `start` whose parts have the keys of these parts."""
        places = [start]
        for at, part in enumerate(parts):
            key = file_key if at == len(parts) - 1 else folder_key
            places = [place / name for place in places for name in self._with_key(place, part, key)]
        return places

    def _with_key(self, folder: Path, part: str, key: Callable) -> list[str]:
        if key in (in_one_form, _any_case) and os.path.lexists(folder / part):
            return [part]
        by_key = self._keys.get((str(folder), key))
        if by_key is None:
            by_key = self._keys[str(folder), key] = {}
            for name in self._listing(folder):
                by_key.setdefault(key(name), []).append(name)
        names = by_key.get(key(part), [])
        if key in (in_one_form, _any_case):
            return names
        # another ending has to be that of audio
        return [name for name in names if os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES]

    def _listing(self, folder: Path) -> list[str]:
        if str(folder) not in self._names:
            try:
                self._names[str(folder)] = sorted(os.listdir(folder))
            except (OSError, ValueError):
                self._names[str(folder)] = []
        return self._names[str(folder)]


def _spellings(name: str) -> list[str]:
    """The name, then without blanks around its parts, with Windows' backslashes, and percent-decoded."""
    spellings = [name, "/".join(part.strip() for part in name.split("/")), name.replace("\\", "/").strip()]
    spellings.append(urllib.parse.unquote(spellings[-1]))
    return list(dict.fromkeys(spelt for spelt in spellings if spelt and "\0" not in spelt))


def _is_other(path: Path, taken: set[str]) -> bool:
    return os.path.realpath(path) not in taken

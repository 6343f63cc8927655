"""Finds the files that a table names although the table was written on another system.

macOS splits é into e and an accent (NFD) where others write one letter (NFC), Windows treats u03.wav and u03.WAV alike and
separates folders by backslashes, and many tables leave out the suffix. A name is matched part by part, in ever looser steps:
first other forms of the same letters, last another suffix. The first step with a match decides, if just one file matches.
"""

from __future__ import annotations

import collections
import dataclasses
import difflib
import os
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path

from asr.audio.headers import AUDIO_SUFFIXES
from asr.errors import listed
from asr.runtime.text_files import composed

# Folders with more files than this are not searched for similar names.
MOST_COMPARED = 5000
MOST_HELPED = 5  # names for which similar ones are suggested


@dataclasses.dataclass(frozen=True)
class Match:
    """What was found for a name.

    path: the file; None if no file matches, or several do. called: its real name below the root, if that differs from the
    given one by more than the form of its letters. resembling: similar names below the root, if path is None.
    """

    path: Path | None
    called: str = ""
    resembling: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """ " (did you mean u03b.wav?)", or nothing."""
        return f" (did you mean {' or '.join(self.resembling)}?)" if self.resembling else ""


def find_files(root: Path, names: Iterable[str]) -> list[Match]:
    """A match for each name, absolute or relative to `root`.

    A file that one name gives exactly never matches another name, and two inexact names of one file match nothing. Outside
    `root` a relative name matches only exactly.
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
    """A sentence about files found under names other than those given; None if there are none."""
    others = [f"{name} is {match.called}" for name, match in zip(names, matches) if match.path and match.called]
    if not others:
        return None
    found = "1 audio file was" if len(others) == 1 else f"{len(others)} audio files were"
    return f"{found} found under names other than those given: {listed(others, most=5)}."


def _any_case(name: str) -> str:
    return composed(composed(name).casefold())


def _stem(name: str) -> str:
    """The name without its suffix, if that is an audio suffix."""
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in AUDIO_SUFFIXES else name


# How the parts of two names are compared (folders, files), from the strictest to the loosest.
_STEPS: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (composed, composed),
    (_any_case, _any_case),
    (composed, lambda name: _stem(composed(name))),
    (_any_case, lambda name: _stem(_any_case(name))),
)


class _Finder:
    """Searches below `root`, and lists every folder only once."""

    def __init__(self, root: Path):
        self.root = root
        self._names: dict[str, list[str]] = {}
        self._keys: dict[tuple[str, Callable], dict[str, list[str]]] = {}

    def exact(self, name: str) -> Path | None:
        path = self.root / name
        try:
            # a folder may have the name of a file without its suffix
            return path if os.path.lexists(path) and not os.path.isdir(path) else None
        except ValueError:  # a NUL character
            return None

    def search(self, name: str, taken: set[str]) -> Match:
        """The file that `name` means but spells differently. taken: real paths of files that other names refer to."""
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
                    same = composed(called) == composed(os.path.normpath(name))
                    return Match(found[0], "" if same else called)
        is_folder = name.strip() and "\0" not in name and os.path.isdir(self.root / name)
        return Match(self.root / name if is_folder else None)

    def resembling(self, name: str, taken: set[str]) -> tuple[str, ...]:
        """Audio files with similar names in the same folder. taken: real paths of files that other names refer to."""
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
        """The path of a file relative to the root."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def _start(self, name: str) -> tuple[Path, list[str]]:
        path = Path(os.path.normpath(name))
        if path.is_absolute():
            return Path(path.anchor), list(path.parts[1:])
        return self.root, [part for part in path.parts if part != "."]

    def _walk(self, start: Path, parts: list[str], folder_key: Callable, file_key: Callable) -> list[Path]:
        """All paths below `start` whose parts have the same keys as these parts."""
        paths = [start]
        for at, part in enumerate(parts):
            key = file_key if at == len(parts) - 1 else folder_key
            paths = [path / name for path in paths for name in self._with_key(path, part, key)]
        return paths

    def _with_key(self, folder: Path, part: str, key: Callable) -> list[str]:
        if key in (composed, _any_case) and os.path.lexists(folder / part):
            return [part]
        by_key = self._keys.get((str(folder), key))
        if by_key is None:
            by_key = self._keys[str(folder), key] = {}
            for name in self._listing(folder):
                by_key.setdefault(key(name), []).append(name)
        names = by_key.get(key(part), [])
        if key in (composed, _any_case):
            return names
        # a different suffix must still be an audio suffix
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

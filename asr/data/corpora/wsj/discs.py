"""Finds files on the WSJ discs (LDC93S6A/B and LDC94S13A/B), however they were copied.

There are two layouts. "Discs": one folder per CD-ROM, `11-1.1` to `11-14.1` (wsj0) and `13-1.1` to `13-34.1` (wsj1), also
spelt `11_1.1` or `11_1_1`, each with a folder `wsj0` or `wsj1`. "Flat": all of them merged into one `wsj0` and one `wsj1`.
CD-ROMs were read by systems that showed names in capitals, with a version (`;1`) or a final dot; names are compared without
these. Every folder is listed only once, because the discs are usually on a slow network drive.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from asr.errors import UserError

HALVES = ("wsj0", "wsj1")
_DISC = re.compile(r"(11|13)[-_.](\d{1,2})[-_.]1")
_HALF_OF = {"11": "wsj0", "13": "wsj1"}
# Packages keep the discs below folders of their own, such as csr_1/11-1.1 and wsj1/csr_2_comp/13-34.1.
_DEPTH = 3
# With more folders than this and no disc among them, the place is something else; stop searching.
_MOST_FOLDERS = 2000

# Names that a merged folder of one half has and one of the other half never has.
_ONLY_IN = {"wsj0": ("transcrp", "si_et_20", "si_et_05"), "wsj1": ("trans", "si_et_h1", "si_et_h2")}

# Other corpora: (name, pattern that one of the names at its top matches, in lower case).
_OTHERS = (
    ("Switchboard", r"swb1_?d[1-4]|swb1|sw0\d{4}\.sph|swb_ms98_transcriptions|ldc97s62"),
    ("the 2000 Hub-5 evaluation", r"hub5e_?00|hub-?5.*|ldc2002[st]\d\d|en_\d{4}\.sph|2000_hub5_eng_eval_tr"),
    ("LibriSpeech", r"librispeech|(train|dev|test)-(clean|other)(-\d+)?|(speakers|chapters|books)\.txt"),
    ("TIMIT", r"timit|dr[1-8]|timitdic\.txt"),
    ("Common Voice", r"cv-corpus.*|validated\.tsv|clips"),
    ("Fisher", r"fe_03_.*|fisher.*"),
)


def disc_name(text: str) -> str | None:
    """`11-13.1` for `11_13_1`, `11-13.1`, `11_13.1;1` …; None if it does not name a disc."""
    match = _DISC.fullmatch(_plain(text))
    return f"{match[1]}-{int(match[2])}.1" if match else None


def half_of(disc: str) -> str:
    """The half of the corpus that a disc belongs to: wsj0 for `11-13.1`, wsj1 for `13-34.1`."""
    return _HALF_OF[disc[:2]]


class Discs:
    """The discs in some folders, by the names that the index files use."""

    def __init__(self, places: dict[str, Path]):
        """places: the folders of wsj0 and wsj1, or of one of them; both may be the same folder.

        Raises UserError if a place is not a folder or holds no part of its half, naming what it does hold.
        """
        self._listed: dict[str, dict[str, str]] = {}
        self.places = {half: Path(place).expanduser().resolve() for half, place in places.items()}
        self.discs: dict[str, Path] = {}  # `11-13.1` → its folder
        self.flat: dict[str, Path] = {}  # "wsj0" → the folder of that name with all discs merged
        for half, place in self.places.items():
            if not place.is_dir():
                raise UserError(f"There is no folder {place} ({half}={places[half]}): name the folder with the discs.")
            discs, merged = self._look_around(half, place)
            if not discs and merged is None:
                raise UserError(self._not_here(half, place))
            self.discs |= discs
            if merged is not None:
                self.flat[half] = merged

    def listing(self, folder: str | os.PathLike[str]) -> dict[str, str]:
        """{name without capitals, version and final dot: path} of a folder's entries; {} if it is not a folder. Cached."""
        key = os.fspath(folder)
        if key not in self._listed:
            try:
                with os.scandir(key) as entries:
                    listed = sorted((_plain(entry.name), entry.path) for entry in entries)
                self._listed[key] = dict(listed)
            except (FileNotFoundError, NotADirectoryError):
                self._listed[key] = {}
            except OSError as error:
                raise UserError(f"The folder {key} cannot be listed: {error.strerror}. Make it readable.") from None
        return self._listed[key]

    def below(self, folder: str | os.PathLike[str], relative: str) -> str | None:
        """The path of `relative`, such as "doc/indices/si_tr_s.ndx", below a folder, in any case; None if missing."""
        path = os.fspath(folder)
        for part in relative.split("/"):
            if part:
                found = self.listing(path).get(_plain(part))
                if found is None:
                    return None
                path = found
        return path

    def find(self, disc: str, path: str) -> str | None:
        """The file `path`, such as "wsj0/si_tr_s/01i/01ic0201.wv1", of a disc: on the disc, else in the merged folder."""
        found = self.below(self.discs[disc], path) if disc in self.discs else None
        half, _, rest = path.partition("/")
        if found is None and half in self.flat:
            found = self.below(self.flat[half], rest)
        return found

    def has(self, disc: str) -> bool:
        """Whether files of this disc can be found: the disc is there, or its half is merged into one folder."""
        return disc in self.discs or half_of(disc) in self.flat

    def tops(self, half: str) -> list[str]:
        """The folders called wsj0 (wsj1) on all its discs, and the merged one."""
        tops = [self.below(self.discs[disc], half) for disc in sorted(self.discs) if half_of(disc) == half]
        merged = [str(self.flat[half])] if half in self.flat else []
        return [top for top in tops if top is not None] + merged

    def looked_for(self, disc: str) -> str:
        """A clause that says where a disc was looked for."""
        half = half_of(disc)
        return f"a folder {disc} (or {disc.replace('-', '_')}), or a folder {half} with all discs, below {self.places[half]}"

    def all_files(self, suffix: str) -> Iterator[str]:
        """Every file of all discs that ends in `suffix`, such as ".dot", in any case: a long walk."""
        waiting: list[str | Path] = [*self.discs.values(), *self.flat.values()]
        seen = set()
        while waiting:
            folder = os.path.realpath(waiting.pop())
            if folder in seen:
                continue
            seen.add(folder)
            for name, path in sorted(self.listing(folder).items()):
                if name.endswith(suffix):
                    yield path
                elif "." not in name or disc_name(name):
                    waiting.append(path)

    def _look_around(self, half: str, place: Path) -> tuple[dict[str, Path], Path | None]:
        """(the discs of one half by name, its merged folder), in `place` or a few levels below; `place` may be one itself."""
        discs: dict[str, Path] = {}
        merged = None
        waiting = [(_plain(place.name), str(place), 0)]
        for _ in range(_MOST_FOLDERS):
            if not waiting:
                break
            name, folder, depth = waiting.pop(0)
            disc = disc_name(name)
            if disc:
                if half_of(disc) == half:
                    discs.setdefault(disc, Path(folder))
            elif self._is_merged(half, folder):
                merged = merged or Path(folder)
            elif depth < _DEPTH:
                inside = [(name, path, depth + 1) for name, path in self.listing(folder).items() if os.path.isdir(path)]
                # Discs are recognized by name; nothing beside them is searched.
                named = [each for each in inside if each[0] == half or _is_disc_of(half, each[0])]
                waiting += named or inside
        return discs, merged

    def _is_merged(self, half: str, folder: str) -> bool:
        """Whether a folder is all of wsj0 (wsj1), under that name or another: it has its documents and its speech."""
        names = self.listing(folder)
        return "doc" in names and (
            _plain(os.path.basename(folder)) == half or any(sign in names for sign in _ONLY_IN[half])
        )

    def _not_here(self, half: str, place: Path) -> str:
        """The message for a folder without the half of the corpus that was expected in it."""
        other = HALVES[1 - HALVES.index(half)]
        first = "11-1.1 … 11-14.1" if half == "wsj0" else "13-1.1 … 13-34.1"
        expected = f"{half} is the discs {first}, or one folder {half} with all of them"
        discs, merged = self._look_around(other, place)
        if discs or merged:
            found = ", ".join(sorted(discs)[:3]) or merged
            return f"{place} ({half}=) holds {other} ({found}), not {half}: {expected}. Did you swap wsj0= and wsj1=?"
        names = [_plain(place.name), *self.listing(place)]
        for corpus, pattern in _OTHERS:
            sign = next((name for name in names if re.fullmatch(pattern, name)), None)
            if sign:
                return f"{place} ({half}=) looks like {corpus} (it has {sign}), not like WSJ: {expected}."
        some = ", ".join(names[1:6]) or "nothing"
        return f"{place} ({half}=) holds nothing of WSJ, but {some}: {expected}."


def _is_disc_of(half: str, name: str) -> bool:
    disc = disc_name(name)
    return disc is not None and half_of(disc) == half


def _plain(name: str) -> str:
    """A name in the form for comparison: no capitals, no ISO 9660 version (`;1`), no final dot."""
    return re.sub(r";\d+$", "", name.lower()).rstrip(".")

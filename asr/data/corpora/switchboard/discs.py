"""The files on the discs of Switchboard (LDC97S62) and of the Mississippi State transcripts, and what is missing.

Files are found by name, anywhere below the folder and in any case: copies of the discs come with and without
`swb1_d1/data/`, and in capitals.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from asr.errors import UserError
from asr.runtime.text_files import read_lines

# Conversations on the discs: the full release, and the copies that lack three.
CONVERSATIONS = (2438, 2435)
DISCS = ("swb1_d1", "swb1_d2", "swb1_d3", "swb1_d4")
# Beside the audio: lines `swb1_d1 sw02001.sph`
DISC_TABLE = "swb1_all.dvd.tbl"
DICTIONARY = "sw-ms98-dict.text"
NAMED_AT_MOST = 12
# If more conversations than this are missing, a disc is: there are four.
MOST_LOST = 0.2

_AUDIO = re.compile(r"sw0?(\d{4})\.sph", re.IGNORECASE)
_TRANSCRIPT = re.compile(r"sw0?(\d{4})([AB])-ms98-a-trans\.text", re.IGNORECASE)
_DISC = re.compile(r"(?:swb1[-_]?)?d(?:is[ck])?[-_]?([1-9])", re.IGNORECASE)
# Names of files in corpora that may be mistaken for this one; the first match counts.
OTHERS = (
    (r"fe_03_\d+\.(sph|txt)", "Fisher English (LDC2004S13, LDC2005S13; transcripts LDC2004T19, LDC2005T19)"),
    (r"(en|sw)_\d{4}\.(sph|txt)", "the Hub5 2000 evaluation (eval2000=, LDC2002S09; references=, LDC2002T43)"),
    (r"hub5e.*\.stm|.*hub5\.glm", "the references of the Hub5 2000 evaluation (references=, LDC2002T43)"),
    (r"\w+\.(wv1|wv2)|\w+\.(dot|ndx)", "WSJ (LDC93S6, LDC94S13: scripts/prepare.py wsj)"),
    (r"sw0?\d{4}\.sph", "the audio of Switchboard (swb1=, LDC97S62)"),
    (r"sw0?\d{4}[AB]-ms98-a-(trans|word)\.text", "the Mississippi State transcripts of Switchboard (transcripts=)"),
    (r"sw_\d+_\d{4}\.utt", "the Switchboard dialogue acts, which are not transcripts with times"),
    (r"s[ix]\d+\.(wav|phn|wrd|txt)|sa[12]\.(wav|phn|wrd|txt)", "TIMIT (LDC93S1)"),
    (r"\d+-\d+-\d{4}\.flac|\d+-\d+\.trans\.txt", "LibriSpeech"),
    (r"common_voice_\w+\.mp3", "Common Voice"),
)


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below `folder`, in sorted order; links to folders are followed, each folder once.

    Raises UserError for a folder that cannot be listed.
    """

    def refuse_unlisted(error: OSError) -> None:
        raise UserError(f"The folder {error.filename} cannot be listed: {error.strerror}. Make it readable.") from None

    seen = set()
    for place, below, files in os.walk(folder, onerror=refuse_unlisted, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below.sort()
        yield from (Path(place, file) for file in sorted(files))


def looks_like(files: Iterable[Path]) -> str:
    """A clause about what a folder holds, judged by the names of its files."""
    names = [file.name for file in files]
    for pattern, corpus in OTHERS:
        if any(re.fullmatch(pattern, name, re.IGNORECASE) for name in names):
            return f"it looks like {corpus}"
    if not names:
        return "it is empty"
    return f"it holds {len(names)} files such as {', '.join(sorted(names)[:3])}"


class Audio:
    """The audio below `folder`: `paths`, a SPHERE file by conversation ("sw02001"). Raises UserError if there is none."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser()
        files = list(files_below(self.folder))
        self.paths: dict[str, Path] = {}
        for file in files:
            found = _AUDIO.fullmatch(file.name)
            if found:
                add_once(self.paths, f"sw0{found[1]}", file)
        if not self.paths:
            raise UserError(
                f"swb1={self.folder} holds no conversations of Switchboard (files like swb1_d1/data/sw02001.sph): "
                f"{looks_like(files)}. Give the folder of LDC97S62."
            )
        self._listed = _disc_table(next((file for file in files if file.name.lower() == DISC_TABLE), None))

    @property
    def listed(self) -> set[str]:
        """The conversations in the discs' own table; none if it is missing."""
        return set(self._listed)

    def disc(self, conversation: str) -> str:
        """The disc of a conversation, or the discs that it may be on given its neighbours; "" if unknown."""
        if conversation in self._listed:
            return self._listed[conversation]
        if conversation in self.paths:
            return self._disc_of_path(self.paths[conversation])
        before = max((name for name in self.paths if name < conversation), default=None)
        after = min((name for name in self.paths if name > conversation), default=None)
        first = self._disc_of_path(self.paths[before]) if before else DISCS[0]
        last = self._disc_of_path(self.paths[after]) if after else DISCS[-1]
        between = [disc for disc in sorted({*DISCS, first, last}) if first <= disc <= last]
        return " or ".join(between) if first and last else ""

    def absent(self) -> list[str]:
        """The discs of which nothing was found, if folders are named after discs."""
        there = {self._disc_of_path(path) for path in self.paths.values()}
        return [disc for disc in DISCS if disc not in there] if there & set(DISCS) else []

    def _disc_of_path(self, path: Path) -> str:
        for part in reversed(path.relative_to(self.folder).parts[:-1]):
            found = _DISC.fullmatch(part)
            if found:
                return f"swb1_d{found[1]}"
        return ""

    def where(self, conversations: Iterable[str]) -> str:
        """The conversations by name, each with its disc: "sw02005 (swb1_d1), sw02009 and 3 more"."""
        names = sorted(conversations)
        shown = [f"{name} ({self.disc(name)})" if self.disc(name) else name for name in names[:NAMED_AT_MOST]]
        more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
        return ", ".join(shown) + more


def find_transcripts(folder: str | Path) -> tuple[dict[str, Path], Path | None]:
    """(the transcripts below `folder` by side, "sw02001-A"; their dictionary, if there is one).

    Raises UserError if there are none.
    """
    folder = Path(folder).expanduser()
    files = list(files_below(folder))
    paths: dict[str, Path] = {}
    for file in files:
        found = _TRANSCRIPT.fullmatch(file.name)
        if found:
            add_once(paths, f"sw0{found[1]}-{found[2].upper()}", file)
    if not paths:
        raise UserError(
            f"transcripts={folder} holds no Mississippi State transcripts (files like "
            f"swb_ms98_transcriptions/20/2001/sw2001A-ms98-a-trans.text): {looks_like(files)}. Give their folder."
        )
    return paths, next((file for file in files if file.name.lower() == DICTIONARY), None)


def check_conversations(audio: Audio, transcripts: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Audio without transcript and transcripts without audio, as (conversation or its side, reason).

    Raises UserError, naming them and the discs, unless everything is there: 2,438 conversations, or the 2,435 of the copies
    that lack three, whose transcripts may then be left over. `lost_conversations` may be missing.
    """
    missing = missing_parts(audio.paths, transcripts)
    told = {side.partition("-")[0] for side in transcripts}
    unheard = sorted((told | audio.listed) - audio.paths.keys())
    untold = sorted({key.partition("-")[0] for key, reason in missing if reason == "audio without transcript"})
    count = len(audio.paths)
    problems = []
    as_published = count in CONVERSATIONS and len(unheard) in (0, CONVERSATIONS[0] - count)
    if not as_published and not lost_conversations(audio, transcripts):
        problem = (
            f"swb1={audio.folder} holds {count} conversations; LDC97S62 has {CONVERSATIONS[0]:,} "
            f"({CONVERSATIONS[1]:,} in some copies)."
        )
        if unheard:
            problem += f" There is no audio of {audio.where(unheard)}: looked for files like {unheard[0]}.sph."
        if audio.absent():
            problem += f" Nothing of {' and '.join(audio.absent())} was found."
        problems.append(problem)
    if untold:
        problems.append(
            f"There are no transcripts of both sides of {audio.where(untold)}: looked for files like "
            f"{untold[0].replace('sw0', 'sw')}A-ms98-a-trans.text."
        )
    if problems:
        raise UserError(
            "\n".join([*problems, "Copy what is missing; --allow-missing continues without it and records it."])
        )
    return missing


@contextlib.contextmanager
def refused_or_noted(allow_missing: bool, problems: list[str]) -> Iterator[None]:
    """With allow_missing, a UserError raised inside is added to `problems` instead of propagating."""
    try:
        yield
    except UserError as error:
        if not allow_missing:
            raise
        problems.append(str(error))


def lost_conversations(audio: Audio, transcripts: Mapping[str, Path]) -> list[str]:
    """The conversations with transcripts but no audio, if single files are missing.

    Empty if so many are missing that it must be a disc, if the rest together with them is not the release, and if they are
    the three that some copies lack.
    """
    unheard = sorted(({side.partition("-")[0] for side in transcripts} | audio.listed) - audio.paths.keys())
    there, whole = len(audio.paths), CONVERSATIONS[0]
    published = there == CONVERSATIONS[1] and len(unheard) == whole - there
    a_disc = bool(audio.absent()) or len(unheard) > MOST_LOST * whole
    return [] if published or a_disc or there + len(unheard) not in CONVERSATIONS else unheard


def missing_parts(conversations: Iterable[str], transcripts: Iterable[str]) -> list[tuple[str, str]]:
    """(side, reason) of every side with audio but no transcript, or the other way round."""
    heard = {f"{conversation}-{side}" for conversation in conversations for side in "AB"}
    told = set(transcripts)
    missing = [(side, "audio without transcript") for side in heard - told]
    return sorted(missing + [(side, "transcript without audio") for side in told - heard])


def add_once(paths: dict[str, Path], key: str, file: Path) -> None:
    """Adds a file under a key. Raises UserError for a second file of the same key."""
    if key in paths and not os.path.samefile(paths[key], file):
        raise UserError(f"{key} exists twice: {paths[key]} and {file}. Give a folder that holds one of them.")
    paths.setdefault(key, file)


def _disc_table(file: Path | None) -> dict[str, str]:
    """The disc of each conversation by the discs' own table; skips lines of another form."""
    if file is None:
        return {}
    discs = {}
    for line in read_lines(file, otherwise="latin1"):
        fields = collections.deque(line.split(), maxlen=2)
        found = _AUDIO.fullmatch(fields[1]) if len(fields) == 2 else None
        if found:
            discs[f"sw0{found[1]}"] = fields[0].lower()
    return discs

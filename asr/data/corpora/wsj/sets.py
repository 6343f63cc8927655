"""The sets of WSJ: the index files that define them, their sizes, and what the discs lack of them.

The sets and their index files are those of Kaldi's recipe egs/wsj/s5 (local/wsj_data_prep.sh); the counts are those that it
and others have found on complete discs (the 5k test of 1993 has 213 utterances on some, 215 on others).
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
import re
from collections.abc import Iterator

from asr.data.corpora.wsj.discs import Discs, half_of
from asr.data.corpora.wsj.text import DOS_END, read_transcripts
from asr.runtime.text_files import read_lines

# The number of utterances that a message names one by one.
_NAMED = 20


@dataclasses.dataclass(frozen=True)
class Index:
    """An index file: its disc and its path there. moved: discs that it names → discs that have the files."""

    disc: str
    path: str
    moved: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Set:
    """indices: the files that list it. counts: its possible numbers of utterances."""

    indices: tuple[Index, ...]
    counts: tuple[int, ...]


_TRAIN_WSJ0 = Index("11-13.1", "wsj0/doc/indices/train/tr_s_wv1.ndx")
_TRAIN_WSJ1 = Index("13-34.1", "wsj1/doc/indices/si_tr_s.ndx")
# The indices of the 1993 tests name their own disc, but the speech is on the next one.
_MOVED = (("13-32.1", "13-33.1"),)
SETS = {
    "si284": Set((_TRAIN_WSJ0, _TRAIN_WSJ1), (37416,)),
    "si84": Set((_TRAIN_WSJ0,), (7138,)),
    "dev93": Set((Index("13-34.1", "wsj1/doc/indices/h1_p0.ndx"),), (503,)),
    "dev93_5k": Set((Index("13-34.1", "wsj1/doc/indices/h2_p0.ndx"),), (513,)),
    "eval92": Set((Index("11-13.1", "wsj0/doc/indices/test/nvp/si_et_20.ndx"),), (333,)),
    "eval92_5k": Set((Index("11-13.1", "wsj0/doc/indices/test/nvp/si_et_05.ndx"),), (330,)),
    "eval93": Set((Index("13-32.1", "wsj1/doc/indices/wsj1/eval/h1_p0.ndx", _MOVED),), (213,)),
    "eval93_5k": Set((Index("13-32.1", "wsj1/doc/indices/wsj1/eval/h2_p0.ndx", _MOVED),), (213, 215)),
}
# The index of wsj0's training set lists speaker 401 twice, the second time without speech; every recipe leaves that out.
LEFT_OUT = ("11-2.1", "wsj0/si_tr_s/401/")
LEFT_OUT_REASON = "the second listing of speaker 401, on disc 11-2.1: left out as in Kaldi's recipe"

_LINE = re.compile(r"(1[13])[-_.](\d{1,2})[-_.]1\s*:\s*/?\s*(\S+)")
_UTTERANCE = re.compile(r"\w{8}")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of an index: its disc, its path including `.wv1`, and the utterance, in lower case."""

    disc: str
    path: str
    utterance: str


@dataclasses.dataclass(frozen=True)
class Utterance:
    """audio: its .wv1 file. transcript: as in the .dot file."""

    audio: str
    transcript: str


@dataclasses.dataclass(frozen=True)
class Missing:
    """what: an utterance or a file. why: in words. file: the file that was looked for, if it is an utterance. disc: the disc
    of an utterance without speech, if that disc is there."""

    what: str
    why: str
    file: str = ""
    disc: str = ""


@dataclasses.dataclass
class Listing:
    """What the discs hold of the sets.

    sets: the utterances of each set that have speech and a transcript, sorted. lost: by set, (utterance, reason) of those
    without speech, although there is other speech of the set and of their disc. missing: by set, everything else that keeps
    it from being complete; complete sets are absent. left_out: (what, why) of everything outside the sets.
    """

    utterances: dict[str, Utterance] = dataclasses.field(default_factory=dict)
    sets: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    lost: dict[str, list[tuple[str, str]]] = dataclasses.field(default_factory=dict)
    missing: dict[str, list[Missing]] = dataclasses.field(default_factory=dict)
    left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def complaint(self, places: str) -> str | None:
        """A message that names the sets, discs and utterances that are missing; None if nothing is."""
        if not self.missing:
            return None
        lines = [f"WSJ is not complete in {places}:"]
        for name, missing in self.missing.items():
            counts = " or ".join(f"{count:,}" for count in SETS[name].counts)
            lines.append(f"  {name}: {len(self.sets[name]):,} of {counts} utterances can be used.")
            lines += _told(missing)
        lines.append(
            "Put the files there, or continue without them with --allow-missing (allow_missing=true), which records them."
        )
        return "\n".join(lines)


def _told(missing: list[Missing]) -> list[str]:
    """Lines that name what is missing, by reason; of many utterances, the first ones and their number."""
    by_reason: dict[str, list[str]] = collections.defaultdict(list)
    for each in missing:
        by_reason[each.why].append(f"{each.what} ({each.file})" if each.file else each.what)
    lines = []
    for why, names in by_reason.items():
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        count = f"{len(names):,} utterances: " if len(names) > 1 else ""
        lines.append(f"    {why}: {count}{', '.join(names[:_NAMED])}{more}")
    return lines


def read_index(path: str, index: Index) -> tuple[list[Entry], list[tuple[str, str]]]:
    """(entries, [(`file:line`, what is wrong with it)]) of an index file.

    Lines are `11_1_1:wsj0/si_tr_s/01i/01ic0201.wv1`, with or without a space or slash after the colon and with or without
    the suffix; those that begin with `;` are comments. Raises UserError if the file cannot be read.
    """
    moved = dict(index.moved)
    entries, wrong = [], []
    for number, line in enumerate(read_lines(path, otherwise="latin1"), start=1):
        line = line.rstrip(DOS_END).strip()
        if not line or line.startswith(";"):
            continue
        match = _LINE.fullmatch(line)
        stem, dot, suffix = match[3].rpartition("/")[2].lower().partition(".") if match else ("", "", "")
        if not match or not _UTTERANCE.fullmatch(stem) or (dot and suffix != "wv1"):
            wrong.append(
                (f"{path}:{number}", f"expected a line such as `11_1_1:wsj0/si_tr_s/01i/01ic0201.wv1`: {line[:60]}")
            )
            continue
        disc = f"{match[1]}-{int(match[2])}.1"
        entries.append(Entry(moved.get(disc, disc), match[3] if dot else f"{match[3]}.wv1", stem))
    return entries, wrong


def list_sets(discs: Discs) -> Listing:
    """Looks up every utterance of every set: its speech and its transcript, without reading audio.

    Raises UserError for an index or a transcript file that cannot be read; all other faults go to `missing`.
    """
    listing = Listing()
    transcripts = _Transcripts(discs)
    heard: set[str] = set()  # the discs with speech
    looked_up: dict[str, tuple[set[str], list[Missing], list[Missing]]] = {}
    for name, wanted in SETS.items():
        found, missing, twice = looked_up[name] = set(), [], []
        for index in wanted.indices:
            for entry in _entries(discs, index, missing, listing):
                if entry.utterance in found:
                    twice.append(Missing(entry.utterance, "listed twice", entry.path))
                    continue
                utterance = _utterance(entry, discs, transcripts)
                if isinstance(utterance, Utterance) and listing.utterances.get(entry.utterance, utterance) != utterance:
                    utterance = Missing(entry.utterance, "another file of the same name is in another set", entry.path)
                if isinstance(utterance, Missing):
                    missing.append(utterance)
                else:
                    listing.utterances[entry.utterance] = utterance
                    found.add(entry.utterance)
                    heard.add(entry.disc)
    for name, (found, missing, twice) in looked_up.items():
        lost = [each for each in missing if found and each.disc in heard]
        missing = [each for each in missing if not (found and each.disc in heard)]
        listing.lost[name] = [(each.what, f"missing audio: {each.file}, {each.why}") for each in lost]
        listed = len(found) + len(lost)
        if not missing and listed not in SETS[name].counts:
            files = " and ".join(f"{index.disc}/{index.path}" for index in SETS[name].indices)
            there = "all of them" if not lost else f"{len(found):,} of them"
            missing.append(Missing(files, f"the index lists {listed:,}, and {there} are there"))
            missing += _beside(found, listing, discs)
        if missing:
            listing.missing[name] = missing + twice
        else:
            listing.left_out += [(each.what, f"{name}: {each.why}") for each in twice]
        listing.sets[name] = sorted(found)
    listing.left_out = sorted({*listing.left_out, *transcripts.unused()})
    return listing


def _beside(found: set[str], listing: Listing, discs: Discs) -> list[Missing]:
    """Speech of the same speakers and kinds beside an index's speech that the index does not list."""
    kinds = {utterance[:4] for utterance in found}
    beside = {
        stem: name
        for folder in {os.path.dirname(listing.utterances[utterance].audio) for utterance in found}
        for name in discs.listing(folder)
        if (stem := name.partition(".")[0])[:4] in kinds and name == f"{stem}.wv1" and stem not in found
    }
    return [Missing(stem, "speech beside that, which the index does not list", beside[stem]) for stem in sorted(beside)]


def _entries(discs: Discs, index: Index, missing: list[Missing], listing: Listing) -> list[Entry]:
    """The usable entries of an index; faults go to `missing`, entries that no recipe uses to `listing.left_out`."""
    path = discs.find(index.disc, index.path)
    if path is None:
        why = "the index is not on its disc" if discs.has(index.disc) else _no_disc(discs, index.disc)
        missing.append(Missing(f"{index.disc}/{index.path}", why))
        return []
    entries, wrong = read_index(path, index)
    missing += [Missing(where, why) for where, why in wrong]
    disc, folder = LEFT_OUT
    used = []
    for entry in entries:
        if entry.disc == disc and entry.path.lower().startswith(folder):
            listing.left_out.append((f"{entry.disc}/{entry.path}", LEFT_OUT_REASON))
        else:
            used.append(entry)
    return used


def _no_disc(discs: Discs, disc: str) -> str:
    if half_of(disc) not in discs.places:
        return f"disc {disc} is missing, {half_of(disc)} was not given"
    return f"disc {disc} is missing, looked for {discs.looked_for(disc)}"


def _utterance(entry: Entry, discs: Discs, transcripts: _Transcripts) -> Utterance | Missing:
    audio = discs.find(entry.disc, entry.path)
    if audio is None:
        if not discs.has(entry.disc):
            return Missing(entry.utterance, _no_disc(discs, entry.disc), entry.path)
        return Missing(entry.utterance, f"no speech on disc {entry.disc}", entry.path, entry.disc)
    transcript, why = transcripts.of(entry, audio)
    return Missing(entry.utterance, why, entry.path) if transcript is None else Utterance(audio, transcript)


class _Transcripts:
    """The transcripts of the discs. That of utterance 01ic0201 is in 01ic0200.dot, somewhere."""

    def __init__(self, discs: Discs):
        self._discs = discs
        self._read: dict[str, tuple[dict[str, str], list[tuple[int, str]]]] = {}
        self._all: dict[str, list[str]] | None = None
        self._tops = {half: discs.tops(half) for half in discs.places}
        self._last: dict[tuple[str, str], str] = {}  # (folder of the speech, name) → where it was found last

    def of(self, entry: Entry, audio: str) -> tuple[str | None, str]:
        """(the transcript or None, the reason why there is none)."""
        name = f"{entry.utterance[:6]}00.dot"
        wrong = ""
        key = (os.path.dirname(audio), name)
        last = [self._last[key]] if key in self._last else []
        for path in itertools.chain(last, self._files(name, entry, audio)):
            if path not in self._read:
                self._read[path] = read_transcripts(path)
            transcripts, lines = self._read[path]
            if entry.utterance in transcripts:
                self._last[key] = path
                return transcripts[entry.utterance], ""
            wrong = wrong or "".join(f"; {path}:{number}: {why}" for number, why in lines[:_NAMED])
        return None, f"no transcript in {name}{wrong}"

    def unused(self) -> list[tuple[str, str]]:
        """(`file:line`, why) of the lines that are not transcripts, in the files read so far."""
        return [(f"{path}:{number}", why) for path, (_, wrong) in self._read.items() for number, why in wrong]

    def _files(self, name: str, entry: Entry, audio: str) -> Iterator[str]:
        """Candidates for a transcript file: beside the speech, in the trees of transcripts, then anywhere, as in Kaldi."""
        beside = self._discs.below(os.path.dirname(audio), name)
        if beside:
            yield beside
        half, *folders, _ = entry.path.lower().split("/")
        below = "/".join([*folders, name])
        for top in self._tops.get(half, []):
            for tree in (f"transcrp/dots/{below}", f"trans/{half}/{below}"):
                path = self._discs.below(top, tree)
                if path:
                    yield path
        if self._all is None:
            self._all = collections.defaultdict(list)
            for path in self._discs.all_files(".dot"):
                self._all[os.path.basename(path).lower().partition(".")[0]].append(path)
        yield from self._all.get(name.partition(".")[0], [])

"""Segment time marked references (STM), NIST's format for the references of conversations (SCTK, doc/infmts.htm)."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

from asr.errors import UserError
from asr.runtime.text_files import read_lines
from asr.scoring.nist.glm import OTHERWISE, SPACE

IGNORED = "ignore_time_segment_in_scoring"
NOTE = re.compile(r';;\s+(CATEGORY|LABEL)\s+"([^"]*)"\s+"([^"]*)"\s+"([^"]*)"', re.ASCII)


@dataclasses.dataclass(frozen=True)
class Segment:
    """One line of an STM: what one speaker said from `start` to `end` (seconds) in a channel of a file.

    identity: `file-channel_start-end` in hundredths of a second, as Kaldi names utterances, with a number appended if two
    would be equal. labels: such as ("o", "en", "f"). ignored: words at this time are not scored. line: from 1.
    """

    identity: str
    file: str
    channel: str
    speaker: str
    start: float
    end: float
    labels: tuple[str, ...]
    text: str
    line: int

    @property
    def ignored(self) -> bool:
        return IGNORED in self.text.lower()

    @property
    def side(self) -> tuple[str, str]:
        """File and channel in the form for comparison: sclite ignores the case of names."""
        return self.file.lower(), self.channel.lower()


@dataclasses.dataclass(frozen=True)
class Stm:
    """An STM file. segments: sorted by file, channel and start, as by hubscr.pl. labels: titles by lower-case id."""

    path: Path
    segments: list[Segment]
    labels: dict[str, str]

    @property
    def scored(self) -> list[Segment]:
        return [segment for segment in self.segments if not segment.ignored]


def read_stm(path: Path | str) -> Stm:
    """Reads an STM. Raises UserError, naming file and line, for a malformed line, and if there is no segment."""
    path = Path(path)
    found: list[tuple[tuple[str, str, float], dict]] = []
    labels: dict[str, str] = {}
    for number, line in enumerate(read_lines(path, OTHERWISE), start=1):
        note = NOTE.match(line)
        if note and note[1] == "LABEL":
            labels[note[2].lower()] = note[3] or note[2]
        if line.startswith(";;") or not line.strip(SPACE):
            continue
        fields = parse_line(line, f"{path}, line {number}") | {"line": number}
        found.append(((fields["file"], fields["channel"], fields["start"]), fields))
    if not found:
        raise UserError(f"{path} holds no segment: expected lines FILE CHANNEL SPEAKER START END [<LABELS>] WORDS.")
    found.sort(key=lambda pair: pair[0])
    taken: dict[str, int] = {}
    segments = []
    for _, fields in found:
        start, end = (round(100 * fields[key]) for key in ("start", "end"))
        name = f"{fields['file']}-{fields['channel']}_{start:06d}-{end:06d}"
        taken[name] = taken.get(name, 0) + 1
        segments.append(Segment(identity=name if taken[name] == 1 else f"{name}.{taken[name]}", **fields))
    return Stm(path, segments, labels)


def parse_line(line: str, place: str) -> dict:
    fields = line.split(maxsplit=5)
    if len(fields) < 5:
        raise UserError(
            f"{place}: expected FILE CHANNEL SPEAKER START END [<LABELS>] WORDS, found {len(fields)} fields."
        )
    start, end = (parse_time(field, name, place) for field, name in zip(fields[3:5], ("start", "end")))
    if end < start:
        raise UserError(
            f"{place}: the segment ends at {fields[4]} s, before its start at {fields[3]} s: correct the times."
        )
    text, labels = fields[5].rstrip(SPACE) if len(fields) > 5 else "", ()
    if text.startswith("<"):
        named, text = (re.split(f"[{SPACE}]+", text, maxsplit=1) + [""])[:2]
        labels = tuple(part.lower() for part in named.strip("<>").split(",") if part)
    names = dict(zip(("file", "channel", "speaker"), fields))
    return names | {"start": start, "end": end, "labels": labels, "text": text}


def parse_time(field: str, name: str, place: str) -> float:
    """A time in seconds, 0 or more. Raises UserError, naming the place, for anything else."""
    try:
        seconds = float(field)
    except ValueError:
        seconds = math.nan
    if not (0 <= seconds < math.inf):
        raise UserError(f"{place}: the {name} must be a number of seconds, 0 or more, not {field!r}.")
    return seconds


def by_side(segments: Sequence[Segment]) -> dict[tuple[str, str], list[Segment]]:
    """Segments by file and channel, in their order."""
    sides: dict[tuple[str, str], list[Segment]] = {}
    for segment in segments:
        sides.setdefault(segment.side, []).append(segment)
    return sides

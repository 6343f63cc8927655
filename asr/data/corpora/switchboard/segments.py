"""The utterances of Switchboard: the lines of the ms98 transcripts, checked against each other and against the audio.

A line is `sw2001A-ms98-a-0002 0.977625 11.561375 hi um yeah`, with times in seconds from the start of the conversation.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from asr.errors import UserError
from asr.runtime.text_files import read_lines

# As in Kaldi's extract-segments (seconds): a segment may end this much after the audio, and must be this long.
OVERSHOOT = 0.5
SHORTEST = 0.1
SAMPLE = 1 / 8000
BEYOND = "ends after its audio"
TOO_SHORT = f"shorter than {SHORTEST} s"

_SEGMENT = re.compile(r"sw0?(\d{4})([AB])-ms98-a-\w+", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Segment:
    """What one side says from `start` to `end` (seconds). place: file and line. utterance: Kaldi's id."""

    side: str
    start: float
    end: float
    transcript: str
    place: str

    @property
    def utterance(self) -> str:
        """sw02001-A_000098-001156: the side, and the times in hundredths of seconds, rounded half up as in Kaldi."""
        return f"{self.side}_{int(100 * self.start + 0.5):06d}-{int(100 * self.end + 0.5):06d}"


def read_side(path: Path, side: str) -> tuple[list[Segment], list[tuple[str, str]]]:
    """(the segments of one side of a conversation in file order, (place, what is wrong) of all other lines).

    Lines of another form or side, or that end before they begin, are wrong. Raises UserError if the file cannot be read.
    """
    segments: list[Segment] = []
    wrong = []
    for number, line in enumerate(read_lines(path, otherwise="latin1"), start=1):
        if not line.strip():
            continue
        segment = _segment(line, side, f"{path}:{number}")
        if isinstance(segment, str):
            wrong.append((f"{path}:{number}", segment))
        else:
            segments.append(segment)
    if not segments and not wrong:
        wrong.append((str(path), "holds no segments"))
    return segments, wrong


def _segment(line: str, side: str, place: str) -> Segment | str:
    """The segment in a line, or what is wrong with it."""
    fields = line.split(maxsplit=3)
    name = _SEGMENT.fullmatch(fields[0])
    if len(fields) < 3 or not name:
        return f"is not of the form `{side.replace('sw0', 'sw').replace('-', '')}-ms98-a-0001 0.00 0.98 words`"
    if f"sw0{name[1]}-{name[2].upper()}" != side:
        return f"is of another side, {fields[0]}"
    try:
        start, end = float(fields[1]), float(fields[2])
    except ValueError:
        return f"has times that are not numbers: {fields[1]} {fields[2]}"
    if not (0 <= start < end < math.inf):
        return f"has impossible times: {fields[1]} to {fields[2]}"
    return Segment(side, start, end, fields[3].strip() if len(fields) > 3 else "", place)


def overlapping(segments: Sequence[Segment]) -> list[str]:
    """The places and times of segments that begin before the previous one has ended. They are used nonetheless."""
    return [
        f"{segment.place} begins at {segment.start:g} s, the line before it ends at {before.end:g} s"
        for before, segment in zip(segments, segments[1:])
        if segment.start < before.end - SAMPLE
    ]


def unusable(segment: Segment, seconds: float) -> str | None:
    """Why a segment is left out of `seconds` of audio, as by Kaldi's extract-segments; None if it is used."""
    if segment.end > seconds + OVERSHOOT or segment.start >= seconds:
        return BEYOND
    return TOO_SHORT if min(segment.end, seconds) - segment.start < SHORTEST else None


def refuse(wrong: Iterable[tuple[str, str]]) -> None:
    """Raises UserError, listing the unusable lines, if there are any."""
    wrong = list(wrong)
    if wrong:
        shown = [f"  {place} {reason}" for place, reason in wrong[:20]]
        more = [f"  and {len(wrong) - 20} more"] if len(wrong) > 20 else []
        raise UserError(
            "\n".join(
                [f"{len(wrong)} lines of the transcripts cannot be used:", *shown, *more]
                + ["Copy the transcripts again; --allow-missing continues without these lines and records them."]
            )
        )

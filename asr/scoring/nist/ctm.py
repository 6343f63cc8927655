"""Time marked words (CTM), NIST's format for hypotheses, and the assignment of words to segments of an STM."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from asr.errors import UserError
from asr.runtime.text_files import read_lines
from asr.scoring.nist.glm import OTHERWISE, SPACE
from asr.scoring.nist.stm import Segment, by_side, parse_time


@dataclasses.dataclass(frozen=True)
class TimedWord:
    """One line of a CTM. start, duration: seconds. more: the fields after the word, the first of which is a confidence.

    line: its number, from 1; 0 for a word that was not read from a file.
    """

    file: str
    channel: str
    start: float
    duration: float
    text: str
    more: tuple[str, ...] = ()
    line: int = 0

    @property
    def side(self) -> tuple[str, str]:
        return self.file.lower(), self.channel.lower()

    @property
    def middle(self) -> float:
        return self.start + self.duration / 2


@dataclasses.dataclass(frozen=True)
class TimedItem:
    """What is scored for a word: one word or a list of alternatives, and its midpoint in seconds."""

    word: TimedWord
    item: str | list[list[str]]
    middle: float


def read_ctm(path: Path | str) -> list[TimedWord]:
    """The words of a CTM, sorted by file, channel and start. Raises UserError, naming file and line, for a malformed line."""
    path, words = Path(path), []
    for number, line in enumerate(read_lines(path, OTHERWISE), start=1):
        if line.startswith(";;") or not line.strip(SPACE):
            continue
        fields, place = line.split(), f"{path}, line {number}"
        if len(fields) < 5:
            raise UserError(f"{place}: expected FILE CHANNEL START DURATION WORD, found {len(fields)} fields.")
        if fields[4].upper().startswith("<ALT"):
            raise UserError(
                f"{place}: alternatives cannot be read, because hubscr.pl sorts words by time and {fields[4]} has none. Let a "
                "rule of the GLM write { A / B }."
            )
        start, duration = (parse_time(field, name, place) for field, name in zip(fields[2:4], ("start", "duration")))
        words.append(TimedWord(fields[0], fields[1], start, duration, fields[4], tuple(fields[5:]), number))
    return sorted(words, key=lambda word: (word.file, word.channel, word.start))


def assign(
    items: Iterable[TimedItem], segments: Sequence[Segment], hypothesis: str
) -> tuple[dict[str, list[TimedItem]], list[TimedItem]]:
    """(items by the identity of their segment, items outside all segments), as sclite cuts a CTM by an STM.

    segments: all of the STM, including ignored ones. A word goes to the first segment of its side that ends after the word's
    midpoint, even if it also begins after it, and to the last one if none does; the second list has the words that were moved
    this way. Raises UserError for words of a file or channel without a segment; `hypothesis` names them in the message.
    """
    sides = by_side(segments)
    assigned: dict[str, list[TimedItem]] = {segment.identity: [] for segment in segments}
    outside, places = [], dict.fromkeys(sides, 0)
    for item in items:
        word = item.word
        side = sides.get(word.side)
        if side is None:
            line = f", line {word.line}" if word.line else ""
            kind = "channel" if any(file == word.side[0] for file, _ in sides) else "file"
            raise UserError(
                f"{hypothesis}{line}: the reference has no segment of the {kind} {word.file} {word.channel}. "
                "Leave its words out, or score against a reference that has it."
            )
        place = places[word.side]
        while place < len(side) - 1 and item.middle >= single(side[place].end):
            place += 1
        places[word.side] = place
        segment = side[place]
        assigned[segment.identity].append(item)
        if item.item != "@" and not segment.start <= item.middle <= max(segment.end, single(segment.end)):
            outside.append(item)
    return assigned, outside


def single(seconds: float) -> float:
    """A time in single precision, as in sclite."""
    return struct.unpack("f", struct.pack("f", seconds))[0]


def spread_words(segments: Sequence[Segment], hypotheses: Mapping[str, Sequence[str]]) -> list[TimedWord]:
    """Words of a CTM with times inside their segments, so that sclite assigns them to these segments.

    segments: all of the STM. hypotheses: words by the identity of their segment. Sides with fewer than two words get an `@`,
    which counts as nothing, because sclite refuses a CTM that lacks a side of the STM. Raises UserError for a segment with
    words that lies within the time of earlier ones: sclite could not assign them to it.
    """
    words = []
    for side in by_side(segments).values():
        earliest, spread = 0.0, []
        for segment in side:
            texts, last = " ".join(hypotheses.get(segment.identity, ())).split(), segment is side[-1]
            start, end = max(segment.start, earliest), max(segment.end, earliest + 0.01) if last else segment.end
            if texts and end - start < 0.005:
                raise UserError(
                    f"The segment {segment.identity} of {segment.file} {segment.channel} lies within the time of earlier "
                    "ones, where sclite cannot assign words to it. Correct its times in the STM file."
                )
            # away from the borders, because csrfilt.sh rounds the times of words that it splits
            first, length = start + (end - start) / 4, (end - start) / 2
            for number, text in enumerate(texts):
                duration = length / len(texts)
                spread.append(TimedWord(segment.file, segment.channel, first + number * duration, duration, text))
            earliest = max(earliest, segment.end)
        fillers = max(0, 2 - len(spread))
        tail = side[-1]
        spread += [TimedWord(tail.file, tail.channel, max(tail.end, earliest), 0.0, "@")] * fillers
        words += spread
    return words


def ctm_text(words: Iterable[TimedWord], decimals: int = 9) -> str:
    """The lines of a CTM. decimals: of the times in seconds."""
    lines = (
        f"{word.file} {word.channel} {word.start:.{decimals}f} {word.duration:.{decimals}f} "
        f"{' '.join((word.text, *word.more))}\n"
        for word in words
    )
    return "".join(lines)


def write_ctm(
    path: Path | str, segments: Sequence[Segment], hypotheses: Mapping[str, Sequence[str]]
) -> list[TimedWord]:
    """Writes the words of segments as a CTM (see `spread_words`) and returns them with their times."""
    words = spread_words(segments, hypotheses)
    try:
        Path(path).write_text(ctm_text(words), encoding="utf8", newline="\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}. Choose another place.") from error
    return words

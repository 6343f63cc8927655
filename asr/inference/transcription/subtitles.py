"""Subtitles: from words and their times to readable lines of text."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence

from asr.inference.alignment import Timed

LINE, LINES = 42, 2  # characters per line, lines per subtitle: what broadcasters agree on
PAUSE = 0.5  # seconds without a word that end a subtitle
SHORTEST, LONGEST = 1.0, 7.0  # seconds on screen


@dataclasses.dataclass(frozen=True)
class Subtitle:
    """start, end: seconds. lines: one or two, of at most 42 characters unless a single word is longer."""

    start: float
    end: float
    lines: list[str]


def subtitles(items: Sequence[Timed]) -> list[Subtitle]:
    """The subtitles of a recording, in order and without overlap.

    They end at pauses of half a second; phrases of more than two lines or seven seconds are split at the longest pause that is
    not too early. Short ones stay for a second, unless the next one begins sooner.
    """
    pieces = [piece for phrase in phrases(items) for piece in split(phrase)]
    found = []
    for number, piece in enumerate(pieces):
        latest = pieces[number + 1][0].start if number + 1 < len(pieces) else float("inf")
        start, end = piece[0].start, piece[-1].end
        found.append(Subtitle(start, max(end, min(start + SHORTEST, latest)), wrapped(piece)))
    return found


def phrases(items: Sequence[Timed]) -> list[list[Timed]]:
    """Items without a pause between them."""
    result: list[list[Timed]] = []
    for item in items:
        if not result or item.start - result[-1][-1].end >= PAUSE:
            result.append([])
        result[-1].append(item)
    return result


def split(phrase: list[Timed]) -> list[list[Timed]]:
    """Splits a phrase into pieces that fit."""
    pieces = []
    while phrase:
        most = 1
        while most < len(phrase) and fits(phrase[: most + 1]):
            most += 1
        cut = most
        if most < len(phrase):
            # in the second half, so that pieces are not needlessly short; the last of equal pauses
            choices = range(max(1, (most + 1) // 2), most + 1)
            cut = max(choices, key=lambda place: (round(phrase[place].start - phrase[place - 1].end, 3), place))
        pieces.append(phrase[:cut])
        phrase = phrase[cut:]
    return pieces


def fits(piece: Sequence[Timed]) -> bool:
    lines = wrapped(piece)
    return len(lines) <= LINES and piece[-1].end - piece[0].start <= LONGEST


def wrapped(piece: Sequence[Timed]) -> list[str]:
    """The text in lines; two lines get about equal lengths, which read faster."""
    text = " ".join(item.text for item in piece)
    lines = textwrap.wrap(text, LINE, break_long_words=False, break_on_hyphens=False)
    if len(lines) == 2:
        for width in range((len(text) + 1) // 2, LINE):
            narrow = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
            if len(narrow) == 2:
                return narrow
    return lines

"""The tables of Common Voice: tab-separated, without quoting, with broken rows among the sound ones.

A sentence may contain a pasted line break or tab. A line break inside a row shows in the number of cells and is mended; a
tab is not, because nothing shows which column it is in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from asr.audio.headers import AUDIO_SUFFIXES
from asr.errors import UserError, listed
from asr.runtime.text_files import byte_lines, composed, open_unpacked, utf8

# Columns of numbers: if they hold anything else, the cells of the row have shifted.
NUMBERS = ("up_votes", "down_votes")


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table. line: where it begins. cells: by column; unreliable if the row has a `fault`.

    fault: why its text is unknown, else "".
    """

    line: int
    cells: dict[str, str]
    fault: str = ""


def read_rows(table: Path, needed: Iterable[str]) -> Iterator[Row]:
    """The rows of a table in order. needed: the columns that it must have.

    Raises UserError for a table that is missing, not UTF-8 or lacks one of the columns.
    """
    if not table.exists():
        raise UserError(f"There is no {table}: unpack the archive of this language again.")
    with open_unpacked(table) as file:
        # a carriage return inside a sentence does not end the line, and a NUL character spoils only its own row
        lines = [
            composed(utf8(line, table, at)).removesuffix("\n") for at, line in enumerate(byte_lines(file, table), 1)
        ]
    while lines and not lines[-1]:
        lines.pop()
    lines = lines or [""]
    columns = lines[0].rstrip("\r").split("\t")
    lacking = [column for column in needed if column not in columns]
    if lacking:
        raise UserError(
            f"{table}:1: the column {lacking[0]} is missing, there are {listed(columns)}: unpack the archive of this language "
            "again."
        )
    rows = [line.removesuffix("\r").split("\t") for line in lines[1:]]
    at = 0
    while at < len(rows):
        joined, taken = _joined(rows, at, columns)
        yield _row(at + 2, joined, columns)
        at += taken


def _joined(rows: list[list[str]], at: int, columns: list[str]) -> tuple[list[str], int]:
    """(cells of the row that begins at a line, number of lines it spans): several if a cell has line breaks."""
    cells, taken = list(rows[at]), 1
    while len(cells) < len(columns) and at + taken < len(rows):
        following = rows[at + taken]
        if _begins_a_row(following, columns):
            break
        cells[-1] += f"\n{following[0]}"
        cells += following[1:]
        taken += 1
    return (cells, taken) if len(cells) == len(columns) and _fits(cells, columns) else (list(rows[at]), 1)


def _begins_a_row(cells: list[str], columns: list[str]) -> bool:
    """Whether a line begins a row: it has the name of a clip where one belongs."""
    place = columns.index("path") if "path" in columns else None
    return place is None or (len(cells) > place and Path(cells[place]).suffix.lower() in AUDIO_SUFFIXES)


def _fits(cells: list[str], columns: list[str]) -> bool:
    """Whether the columns of numbers hold numbers or are empty."""
    numbers = [cells[columns.index(name)] for name in NUMBERS if name in columns]
    return not numbers or numbers[0].isdigit() or not any(numbers)


def _row(line: int, cells: list[str], columns: list[str]) -> Row:
    known = dict(zip(columns, cells))
    if any("\0" in cell for cell in cells):
        return Row(line, known, "a NUL character in its line")
    if len(cells) == len(columns):
        return Row(line, known, "" if _fits(cells, columns) else "cells that are not in their columns")
    # an intact row, but for empty cells at its end that an editor removed or added
    numbers = [columns.index(name) for name in NUMBERS if name in columns]
    added = cells[len(columns) :]
    if numbers and max(numbers) < len(cells) and all(cells[at].isdigit() for at in numbers) and not any(added):
        return Row(line, dict.fromkeys(columns, "") | known)
    return Row(line, known, f"{len(cells)} columns where {len(columns)} were expected")

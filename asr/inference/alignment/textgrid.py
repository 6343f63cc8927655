"""TextGrid: Praat's files of annotation tiers (Praat manual, "TextGrid file formats", long form)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asr.inference.alignment import Timed

SHORTEST = 1e-4  # seconds; Praat rejects empty intervals


def textgrid(tiers: Mapping[str, Sequence[Timed]], seconds: float) -> str:
    """The content of a TextGrid file, to be written as UTF-8.

    tiers: items by the name of their tier, sorted by start. seconds: the length of the recording. Gaps between items become
    intervals without text; an item that overlaps the previous one begins where that ends.
    """
    seconds = max(seconds, SHORTEST, *(item.end for items in tiers.values() for item in items), SHORTEST)
    lines = [
        'File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {seconds:.6f}",
        "tiers? <exists>", f"size = {len(tiers)}", "item []:",
    ]  # fmt: skip
    for number, (name, items) in enumerate(tiers.items(), start=1):
        intervals = fill(items, seconds)
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f'        name = "{quoted(name)}"',
            "        xmin = 0",
            f"        xmax = {seconds:.6f}",
            f"        intervals: size = {len(intervals)}",
        ]
        for index, (start, end, text) in enumerate(intervals, start=1):
            lines += [
                f"        intervals [{index}]:",
                f"            xmin = {start:.6f}",
                f"            xmax = {end:.6f}",
                f'            text = "{quoted(text)}"',
            ]
    return "\n".join(lines) + "\n"


def fill(items: Sequence[Timed], seconds: float) -> list[tuple[float, float, str]]:
    """(start, end, text) of contiguous intervals from 0 to the end of the recording."""
    intervals, at = [], 0.0
    for number, item in enumerate(items):
        start = max(item.start, at)
        # leaves room for all later items, should they be squeezed against the end
        latest = seconds - (len(items) - 1 - number) * SHORTEST
        start = min(start, latest - SHORTEST)
        end = min(max(item.end, start + SHORTEST), latest)
        if start - at >= SHORTEST:
            intervals.append((at, start, ""))
        else:
            start = at
        intervals.append((start, end, item.text))
        at = end
    if seconds - at >= SHORTEST or not intervals:
        intervals.append((at, seconds, ""))
    else:
        intervals[-1] = (intervals[-1][0], seconds, intervals[-1][2])
    return intervals


def quoted(text: str) -> str:
    return text.replace('"', '""').replace("\n", " ")

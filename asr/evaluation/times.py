"""Scores times against gold alignments: the errors of starts and ends, in seconds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from asr.inference.alignment import Timed
from asr.scoring.alignment import equal_runs

if TYPE_CHECKING:
    from lhotse import SupervisionSegment

WITHIN = (0.02, 0.04, 0.08)  # seconds


def gold_items(supervision: SupervisionSegment, tier: str) -> list[Timed]:
    """The items of a gold tier, without silences; empty if there is no such tier."""
    from asr.text.units.phonemes import SILENCES

    items = (supervision.alignment or {}).get(tier, [])
    return [
        Timed(item.symbol, item.start, item.start + item.duration, 1.0)
        for item in items
        if item.symbol.upper() not in SILENCES
    ]


def paired(found: Sequence[Timed], gold: Sequence[Timed]) -> list[tuple[Timed, Timed]]:
    """Pairs of equal items, in order, by an alignment with the fewest edits."""
    pairs = []
    texts = ([[item.text for item in items]] for items in (found, gold))
    for start, gold_start, length in equal_runs(*texts)[0]:
        pairs += zip(found[start : start + length], gold[gold_start : gold_start + length])
    return pairs


def scores(pairs: Iterable[tuple[Timed, Timed]], of: int) -> dict[str, Any]:
    """Errors of start and end over pairs of a found and a gold item, as plain data.

    of: the number of gold items. `start` and `end` hold, in seconds: median and mean of the absolute error, mean and median of
    the signed error (positive: too late), and the share of errors within 20, 40 and 80 ms; None without pairs.
    """
    pairs = list(pairs)
    return {
        "gold": of,
        "paired": len(pairs),
        "start": errors([found.start - gold.start for found, gold in pairs]),
        "end": errors([found.end - gold.end for found, gold in pairs]),
    }


def errors(differences: Sequence[float]) -> dict[str, float] | None:
    if not differences:
        return None
    sizes = [abs(difference) for difference in differences]
    return {
        "median": statistics.median(sizes),
        "mean": statistics.fmean(sizes),
        "bias_mean": statistics.fmean(differences),
        "bias_median": statistics.median(differences),
        # the margin absorbs rounding
        **{f"within_{1000 * most:.0f}_ms": sum(size <= most + 1e-9 for size in sizes) / len(sizes) for most in WITHIN},
    }


def show(what: str, scored: dict[str, Any]) -> str:
    """The scores as a few lines of text."""
    lines = [f"{what}: {scored['paired']} of {scored['gold']} compared with gold times"]
    for side in ("start", "end"):
        row = scored[side]
        if row is None:
            continue
        shares = ", ".join(f"{row[f'within_{1000 * most:.0f}_ms']:.1%} within {1000 * most:.0f} ms" for most in WITHIN)
        lines.append(
            f"  {side:<5} off by {1000 * row['median']:.1f} ms (median), {1000 * row['mean']:.1f} ms (mean); "
            f"bias {1000 * row['bias_mean']:+.1f} ms (mean), {1000 * row['bias_median']:+.1f} ms (median); {shares}"
        )
    return "\n".join(lines)

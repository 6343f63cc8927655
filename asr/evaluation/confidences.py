"""Scores confidences: how well they separate the right words of a hypothesis from the wrong ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from asr.inference.alignment import Timed
from asr.scoring.alignment import equal_runs

# as in a CTM
DECIMALS = 4
# a wrong word with confidence 1 would cost infinity, so sclite keeps confidences this far from 0 and 1
LEAST = 1e-7


def rated(items: Sequence[Timed], reference: Sequence[str]) -> list[tuple[float, bool]]:
    """(confidence, whether the word is right) for each word, by an alignment with the fewest edits."""
    right = [False] * len(items)
    for start, _, length in equal_runs([[item.text for item in items]], [reference])[0]:
        right[start : start + length] = [True] * length
    return [(item.confidence, each) for item, each in zip(items, right)]


def confidence_scores(rated: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """words, wrong: their number. area_under_curve: the probability that a right word has a higher confidence than a wrong one,
    with ties counted half; 0.5 is chance. normalized_cross_entropy: 1 for perfect confidences, 0 for those that say no more than
    the share of right words, below 0 for misleading ones. Both None if all words are right, or none.

    Normalized cross entropy is NIST's (sclite's manual, "Confidence measures": (H_max + Σ_right log₂ p + Σ_wrong log₂ (1 - p)) /
    H_max, where H_max is the entropy of the share of right words), as sclite prints it for a CTM of the words.
    """
    import numpy

    confidences = numpy.array([confidence for confidence, _ in rated], numpy.float64)
    is_right = numpy.array([right for _, right in rated], bool)
    right, wrong = int(is_right.sum()), int((~is_right).sum())
    result: dict[str, Any] = {"words": right + wrong, "wrong": wrong}
    if not right or not wrong:
        return {**result, "area_under_curve": None, "normalized_cross_entropy": None}
    lower = numpy.sort(confidences[~is_right])
    below, up_to = (numpy.searchsorted(lower, confidences[is_right], side) for side in ("left", "right"))
    kept = confidences.round(DECIMALS).clip(LEAST, 1 - LEAST)
    share = right / len(rated)
    most = -(right * math.log2(share) + wrong * math.log2(1 - share))
    entropy = -float(numpy.log2(numpy.where(is_right, kept, 1 - kept)).sum())
    return {
        **result,
        "area_under_curve": float((below + up_to).mean()) / 2 / wrong,
        "normalized_cross_entropy": (most - entropy) / most,
    }


def show_confidence(scored: dict[str, Any]) -> str:
    """The scores in one line."""
    words = f"confidence ({scored['kind']}) of {scored['words']} hypothesis words, {scored['wrong']} of them wrong"
    if scored["area_under_curve"] is None:
        return f"{words}: nothing to compare"
    return (
        f"{words}: area under the curve {scored['area_under_curve']:.3f} (0.5 is chance), "
        f"normalized cross entropy {scored['normalized_cross_entropy']:.3f}"
    )

"""Is one of two evaluations of the same utterances better? By the paired bootstrap of Bisani and Ney (2004)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from asr.errors import UserError
from asr.scoring.reading import ReadEvaluation, ReadUtterance

UNITS = ("auto", "speakers", "utterances")
FEWEST_SPEAKERS = 10  # with fewer, there are too few different samples for an interval


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How an evaluation `b` differs from `a`, in rates (0 and up); negative differences mean fewer errors in `b`.

    interval: percentiles of the difference over resampled units. improvement: the probability of improvement, the share of
    samples in which `b` has fewer errors, with ties counted half. p_value: two-sided, the share of samples whose difference
    is at least as far from the observed one as that is from zero (with one added to both counts, so it is never 0): how
    often chance alone would produce such a difference.
    unit: the unit of resampling, "speakers" or "utterances". units: their number. reason: why this unit.
    wins, losses, ties: numbers of utterances in which `b` has fewer, more and equally many errors.
    """

    rate_a: float
    rate_b: float
    difference: float
    interval: tuple[float, float]
    confidence: float
    improvement: float
    p_value: float
    resamples: int
    unit: str
    units: int
    reason: str
    wins: int
    losses: int
    ties: int
    changes: list[tuple[ReadUtterance, ReadUtterance]]

    @property
    def significant(self) -> bool:
        return self.p_value < 1 - self.confidence


def compare(
    a: ReadEvaluation,
    b: ReadEvaluation,
    unit: str = "auto",
    resamples: int = 10000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Comparison:
    """Compares two evaluations of the same utterances.

    unit: what to draw with replacement: "utterances", "speakers" (with all their utterances, because utterances of one
    speaker are not independent), or "auto", speakers if there are enough of them.
    Raises UserError if the utterances or their references differ, and if there is nothing to draw.
    """
    import numpy

    refuse_different(a, b)
    names = sorted(a.utterances)
    pairs = [(a.utterances[name], b.utterances[name]) for name in names]
    if not all(sum(one.reference_length for one in side) for side in zip(*pairs)):
        raise UserError(
            f"There is nothing to compare: all references in {a.folder} or {b.folder} are empty. Evaluate another split."
        )
    unit, reason = choose_unit([first.speaker for first, _ in pairs], unit)
    groups: dict[str, list[int]] = {}
    for first, second in pairs:
        sums = groups.setdefault(first.speaker if unit == "speakers" else first.utterance, [0, 0, 0, 0])
        # the lengths differ if a reference has alternatives or optional words
        values = (first.errors, second.errors, first.reference_length, second.reference_length)
        for column, value in enumerate(values):
            sums[column] += value
    counts = numpy.array(list(groups.values()), dtype=numpy.int64)
    errors_a, errors_b, length_a, length_b = counts.sum(axis=0).tolist()
    differences = bootstrap_differences(counts, resamples, seed)
    observed = errors_b / length_b - errors_a / length_a
    # far below one error, far above rounding errors
    tolerance = 1e-9
    strays = int((abs(differences - observed) >= abs(observed) - tolerance).sum())
    fewer, equal = int((differences < -tolerance).sum()), int((abs(differences) <= tolerance).sum())
    low, high = numpy.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    changed = [pair for pair in pairs if pair[0].errors != pair[1].errors]
    return Comparison(
        rate_a=errors_a / length_a,
        rate_b=errors_b / length_b,
        difference=observed,
        interval=(low, high),
        confidence=confidence,
        improvement=(fewer + equal / 2) / len(differences),
        p_value=(strays + 1) / (len(differences) + 1),
        resamples=len(differences),
        unit=unit,
        units=len(groups),
        reason=reason,
        wins=sum(second.errors < first.errors for first, second in pairs),
        losses=sum(second.errors > first.errors for first, second in pairs),
        ties=len(pairs) - len(changed),
        changes=sorted(changed, key=lambda pair: (-abs(pair[1].errors - pair[0].errors), pair[0].utterance)),
    )


def bootstrap_differences(counts, resamples: int, seed: int = 0):
    """The differences of error rates, b minus a, in samples of units drawn with replacement: (resamples,) float64.

    counts: (units, 3 or 4) int64: errors of a, errors of b and reference tokens of each unit, with those of b in a fourth
    column if they may differ. Drawing the same units for both pairs them. Samples without a reference token have no rate and
    are left out.
    """
    import numpy

    generator = numpy.random.default_rng(seed)
    at_once = max(1, 2_000_000 // len(counts))
    differences = []
    for start in range(0, resamples, at_once):
        drawn = generator.integers(len(counts), size=(min(at_once, resamples - start), len(counts)))
        errors_a, errors_b, length_a, length_b = (counts[:, column][drawn].sum(axis=1) for column in (0, 1, 2, -1))
        some = (length_a > 0) & (length_b > 0)
        differences.append(errors_b[some] / length_b[some] - errors_a[some] / length_a[some])
    return numpy.concatenate(differences)


def choose_unit(speakers: Sequence[str], unit: str) -> tuple[str, str]:
    """("speakers" or "utterances", why) for a setting. Raises UserError if it asks for speakers and they are unknown."""
    if unit not in UNITS:
        raise UserError(f"unit={unit!r} is not one of {', '.join(UNITS[:-1])} and {UNITS[-1]}.")
    unknown, different = sum(not speaker for speaker in speakers), len(set(speakers) - {""})
    if unit == "utterances":
        return unit, "as asked"
    if unit == "speakers":
        if unknown or different < 2:
            raise UserError(
                f"unit=speakers needs at least two speakers, and the speaker of every utterance: there are {different}, and "
                f"{unknown} of {len(speakers)} utterances name none. Use unit=utterances."
            )
        return unit, "as asked"
    if unknown:
        return "utterances", f"{unknown} utterances name no speaker"
    if different < FEWEST_SPEAKERS:
        return "utterances", f"{different} speakers are too few to resample"
    return "speakers", "utterances of one speaker are not independent"


def refuse_different(a: ReadEvaluation, b: ReadEvaluation) -> None:
    """Raises UserError unless both scored the same utterances, in the same measure, against the same references."""
    metrics = a.scores.get("metric"), b.scores.get("metric")
    if metrics[0] != metrics[1]:
        raise UserError(
            f"{a.folder} is scored in {metrics[0]} and {b.folder} in {metrics[1]}: they cannot be compared. For texts, choose "
            "one metric for both: metric=cer or metric=wer."
        )
    for one, other in ((a, b), (b, a)):
        missing = sorted(one.utterances.keys() - other.utterances.keys())
        if missing:
            raise UserError(
                f"{len(missing)} of the {len(one.utterances)} utterances in {one.folder} are not in {other.folder}, the first: "
                f"{missing[0]}. Compare evaluations of the same utterances."
            )
    different = [name for name in sorted(a.utterances) if a.utterances[name].reference != b.utterances[name].reference]
    if different:
        raise UserError(
            f"The references of {len(different)} of the {len(a.utterances)} utterances differ between {a.folder} and "
            f"{b.folder}, the first: {different[0]}. Score both with the same units and normalizer."
        )
    if not a.utterances:
        raise UserError(f"{a.folder} and {b.folder} hold no utterances: evaluate a split that has some.")

"""Error rates with their intervals, summed up from alignments."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from asr.errors import UserError
from asr.runtime.text_files import composed
from asr.scoring.alignment import Alignment, align


@dataclasses.dataclass(frozen=True)
class UtteranceScore:
    """One utterance: the spoken tokens, the recognized tokens, and their alignment. duration: in seconds.

    markup: reference and hypothesis in sclite's markup, if they have one (`asr.scoring.nist.rules`). Only the aligned one of
    several alternatives counts, so the alignment's reference length is then not the number of tokens.
    """

    utterance: str
    reference: list[str]
    hypothesis: list[str]
    alignment: Alignment
    speaker: str = ""
    duration: float = 0.0
    markup: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class SpeakerScore:
    """The sums over one speaker's utterances. error_rate: None without reference tokens. seconds: of audio."""

    speaker: str
    utterances: int
    seconds: float
    reference_length: int
    substitutions: int
    deletions: int
    insertions: int
    error_rate: float | None


@dataclasses.dataclass(frozen=True)
class Score:
    """The summary of an evaluation.

    error_rate: (substitutions + deletions + insertions) / reference_length; may exceed 1 with many insertions.
    interval: percentiles of that rate over resampled utterances (95 % by default).
    confusions: each erroneous pair (reference token, hypothesis token) and its count, the most frequent first; (token, None)
        is a deletion, (None, token) an insertion.
    """

    error_rate: float
    interval: tuple[float, float]
    confidence: float
    substitutions: int
    deletions: int
    insertions: int
    reference_length: int
    seconds: float
    utterances: list[UtteranceScore]
    speakers: list[SpeakerScore]
    confusions: list[tuple[tuple[str | None, str | None], int]]

    def as_data(self) -> dict[str, Any]:
        """The rate and its counts as plain data."""
        return {
            "error_rate": self.error_rate,
            "interval": list(self.interval),
            "substitutions": self.substitutions,
            "deletions": self.deletions,
            "insertions": self.insertions,
            "reference_length": self.reference_length,
        }


def score_utterance(
    utterance: str, reference: Sequence[str], hypothesis: Sequence[str], speaker: str = "", duration: float = 0.0
) -> UtteranceScore:
    """Aligns one utterance's hypothesis with its reference, both composed (Unicode NFC). duration: seconds of audio."""
    reference, hypothesis = ([composed(token) for token in tokens] for tokens in (reference, hypothesis))
    return UtteranceScore(utterance, reference, hypothesis, align(reference, hypothesis), speaker, float(duration))


def summarize(
    utterances: Iterable[UtteranceScore], resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Score:
    """Sums up utterances; the result does not depend on their order.

    An empty reference contributes its insertions. Raises UserError if all references are empty, which leaves the rate
    undefined, and if two utterances have the same id.
    """
    utterances = sorted(utterances, key=lambda utterance: utterance.utterance)
    for first, second in zip(utterances, utterances[1:]):
        if first.utterance == second.utterance:
            raise UserError(f"Two scored utterances are called {first.utterance!r}: give each an id of its own.")
    substitutions, deletions, insertions, length = _counts(utterances)
    if length == 0:
        raise UserError(
            f"There is no error rate: the references of all {len(utterances)} utterances are empty. "
            "Check the chosen split and its transcripts."
        )
    interval = bootstrap_interval(
        [utterance.alignment.errors for utterance in utterances],
        [utterance.alignment.reference_length for utterance in utterances],
        resamples,
        seed,
        confidence,
    )
    confusions = collections.Counter(
        (operation.reference, operation.hypothesis)
        for utterance in utterances
        for operation in utterance.alignment.operations
        if operation.kind != "equal"
    )
    return Score(
        error_rate=(substitutions + deletions + insertions) / length,
        interval=interval,
        confidence=confidence,
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        reference_length=length,
        seconds=sum(utterance.duration for utterance in utterances),
        utterances=utterances,
        speakers=_by_speaker(utterances),
        confusions=sorted(confusions.items(), key=lambda pair: (-pair[1], pair[0][0] or "", pair[0][1] or "")),
    )


def bootstrap_interval(
    errors: Sequence[int], lengths: Sequence[int], resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float]:
    """The percentile bootstrap interval of sum(errors) / sum(lengths) over utterances (Bisani and Ney, 2004).

    errors, lengths: errors and reference tokens per utterance; the result depends on their order. Utterances are drawn with
    replacement; draws without any reference token have no rate and are left out. With one utterance the interval is its
    rate. Raises ValueError if the lengths add up to 0 or an argument is out of range.
    """
    import numpy

    if len(errors) != len(lengths) or sum(lengths) <= 0:
        raise ValueError(
            f"{len(errors)} errors and {len(lengths)} lengths with {sum(lengths)} tokens: nothing to resample"
        )
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(f"resamples must be >= 1 and 0 < confidence < 1, not {resamples} and {confidence}")
    errors, lengths = numpy.asarray(errors, dtype=numpy.int64), numpy.asarray(lengths, dtype=numpy.int64)
    generator = numpy.random.default_rng(seed)
    # At most four million draws at once take a few dozen megabytes, however many utterances there are.
    at_once = max(1, 4_000_000 // len(errors))
    rates = []
    for start in range(0, resamples, at_once):
        drawn = generator.integers(len(errors), size=(min(at_once, resamples - start), len(errors)))
        totals = lengths[drawn].sum(axis=1)
        rates.append(errors[drawn].sum(axis=1)[totals > 0] / totals[totals > 0])
    rates = numpy.concatenate(rates)
    if not len(rates):
        rates = numpy.array([errors.sum() / lengths.sum()])
    low, high = numpy.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _counts(utterances: Iterable[UtteranceScore]) -> tuple[int, int, int, int]:
    alignments = [utterance.alignment for utterance in utterances]
    return (
        sum(alignment.substitutions for alignment in alignments),
        sum(alignment.deletions for alignment in alignments),
        sum(alignment.insertions for alignment in alignments),
        sum(alignment.reference_length for alignment in alignments),
    )


def _by_speaker(utterances: Iterable[UtteranceScore]) -> list[SpeakerScore]:
    groups: dict[str, list[UtteranceScore]] = collections.defaultdict(list)
    for utterance in utterances:
        groups[utterance.speaker].append(utterance)
    scores = []
    for speaker, group in sorted(groups.items()):
        substitutions, deletions, insertions, length = _counts(group)
        rate = (substitutions + deletions + insertions) / length if length else None
        seconds = sum(utterance.duration for utterance in group)
        scores.append(SpeakerScore(speaker, len(group), seconds, length, substitutions, deletions, insertions, rate))
    return scores

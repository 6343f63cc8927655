"""The alignment of a hypothesis with its reference by the fewest edits (Levenshtein, 1966), computed by jiwer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from jiwer import WordOutput

Kind = Literal["equal", "substitute", "delete", "insert"]


class Operation(NamedTuple):
    """One step of an alignment; `reference` is None for an insertion, `hypothesis` is None for a deletion."""

    kind: Kind
    reference: str | None
    hypothesis: str | None


@dataclasses.dataclass(frozen=True)
class Alignment:
    """The steps from a reference to a hypothesis, in order, and the number of each kind."""

    operations: list[Operation]
    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> int:
        return self.hits + self.substitutions + self.deletions


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Alignment:
    """Aligns two sequences of tokens (phonemes or words; any strings, compared exactly) with the fewest errors.

    Every edit costs one, as in Kaldi's `compute-wer`. NIST's sclite charges 4 for a substitution and 3 for the others: it may
    divide the same errors differently among the kinds, and in rare cases counts more errors, but never fewer.
    """
    operations: list[Operation] = []
    for chunk in process([reference], [hypothesis]).alignments[0]:
        wanted = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        got = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "delete":
            operations += [Operation("delete", token, None) for token in wanted]
        elif chunk.type == "insert":
            operations += [Operation("insert", None, token) for token in got]
        else:
            kind: Kind = "equal" if chunk.type == "equal" else "substitute"
            operations += [Operation(kind, *pair) for pair in zip(wanted, got, strict=True)]
    counts = {kind: 0 for kind in ("equal", "substitute", "delete", "insert")}
    for operation in operations:
        counts[operation.kind] += 1
    return Alignment(operations, *counts.values())


def count_errors(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]) -> int:
    """The number of errors in all pairs together, each aligned as by `align`."""
    counts = process(references, hypotheses)
    return counts.substitutions + counts.deletions + counts.insertions


def equal_runs(firsts: Sequence[Sequence[str]], seconds: Sequence[Sequence[str]]) -> list[list[tuple[int, int, int]]]:
    """For each pair of sequences, the runs of equal tokens: (start in the first, start in the second, length)."""
    return [
        [
            (chunk.ref_start_idx, chunk.hyp_start_idx, chunk.ref_end_idx - chunk.ref_start_idx)
            for chunk in chunks
            if chunk.type == "equal"
        ]
        for chunks in process(firsts, seconds).alignments
    ]


def process(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]) -> WordOutput:
    """jiwer's counts and alignments of pairs of token sequences, which may be empty and contain any strings."""
    import jiwer

    # jiwer's annotations expect sentences and a transform that splits them; our tokens may contain any separator
    process_words: Any = jiwer.process_words
    return process_words(list(references), list(hypotheses), as_given, as_given)


def as_given(sentences: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(tokens) for tokens in sentences]

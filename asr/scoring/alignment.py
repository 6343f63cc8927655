"""The alignment of a hypothesis with its reference that needs the fewest edits (Levenshtein, 1966)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

Kind = Literal["equal", "substitute", "delete", "insert"]


class Operation(NamedTuple):
    """One step of an alignment; `reference` is None for an insertion, `hypothesis` is None for a deletion."""

    kind: Kind
    reference: str | None
    hypothesis: str | None


@dataclasses.dataclass(frozen=True)
class Alignment:
    """The steps from a reference to a hypothesis, in order, and how many there are of each kind."""

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

    Every edit costs one, as in Kaldi's `compute-wer`. NIST's sclite charges 4 for a substitution and 3 for the others:
    it may split the same errors differently, and in rare cases counts more of them, never fewer.
    """
    from rapidfuzz.distance import Levenshtein

    # Numbers stand for tokens, so that a token may hold spaces or anything else and never meets a hash collision.
    number: dict[str, int] = {}
    encoded = [[number.setdefault(token, len(number)) for token in tokens] for tokens in (reference, hypothesis)]
    operations: list[Operation] = []
    for tag, start, end, hypothesis_start, hypothesis_end in Levenshtein.opcodes(*encoded):
        wanted, got = reference[start:end], hypothesis[hypothesis_start:hypothesis_end]
        if tag == "delete":
            operations += [Operation("delete", token, None) for token in wanted]
        elif tag == "insert":
            operations += [Operation("insert", None, token) for token in got]
        else:
            kind: Kind = "equal" if tag == "equal" else "substitute"
            operations += [Operation(kind, *pair) for pair in zip(wanted, got, strict=True)]
    counts = {kind: 0 for kind in ("equal", "substitute", "delete", "insert")}
    for operation in operations:
        counts[operation.kind] += 1
    return Alignment(operations, *counts.values())

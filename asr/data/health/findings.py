"""What a check of a corpus finds: single findings, and the `Health` that collects them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from asr.data.health.text import histogram, shared_edges

PROBLEM, REMARK = "problem", "remark"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A single finding. severity: "problem" (the corpus is not good) or "remark".

    splits: where. count: how many of `of` utterances (or whatever the sentence counts). examples: all, one line each.
    """

    kind: str
    severity: str
    splits: tuple[str, ...]
    count: int
    of: int
    sentence: str
    examples: list[str]


@dataclasses.dataclass
class Health:
    """What `check_corpus` found.

    splits: facts by split (plain data: counts, seconds, rates per second, dB). histograms: quantity → {"edges": [...],
    split: counts}. common: what two splits share, by "train and test". fingerprints: "manifests" and, after a full check,
    "audio". units: their "name" and the number of "symbols", 0 if they cannot be built.
    """

    corpus: str
    sample_rate: int
    quick: bool
    units: dict[str, Any]
    splits: dict[str, dict[str, Any]]
    common: dict[str, dict[str, int]]
    histograms: dict[str, dict[str, list]]
    findings: list[Finding]
    fingerprints: dict[str, str]

    @property
    def problems(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == PROBLEM]

    @property
    def verdict(self) -> str:
        """ "good" or "not good"."""
        return "not good" if self.problems else "good"

    def sentence(self) -> str:
        """The verdict in a sentence."""
        remarks = len(self.findings) - len(self.problems)
        noted = f" {remarks} remark{'s' * (remarks > 1)} below." if remarks else ""
        if not self.problems:
            left = " Its audio was not decoded (quick=true)." if self.quick else ""
            return f"The corpus {self.corpus} is good.{left}{noted}"
        leaking = [finding for finding in self.problems if finding.kind.startswith("leak")]
        why = "its splits leak into each other" if leaking else "it has faults that training would run into"
        if leaking and len(leaking) < len(self.problems):
            why += ", and it has other faults"
        return f"The corpus {self.corpus} is not good: {why}. {self.problems[0].sentence}{noted}"

    def plain(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return {"verdict": self.verdict, "sentence": self.sentence(), **dataclasses.asdict(self)}


def add_histogram(health: Health, quantity: str, values: Mapping[str, Iterable[float]]) -> None:
    """Adds a histogram of a quantity, whose values are given by split, with the same edges for all splits."""
    groups = {split: list(group) for split, group in values.items()}
    edges = shared_edges(groups.values())
    if edges:
        bars = {split: histogram(group, edges) for split, group in groups.items()}
        health.histograms[quantity] = {"edges": edges, **bars}

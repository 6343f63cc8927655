"""Scores of parts of a test set: by the labels of its STM, and by corpus."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from asr.scoring.nist.rules import ScoringRules
from asr.scoring.score import UtteranceScore

# beginnings of file names in the hub5 sets: sw_4390, en_4156
CORPORA = {"sw": "Switchboard", "en": "CallHome"}


def by_subset(rules: ScoringRules, utterances: Iterable[UtteranceScore]) -> dict[str, tuple[str, list[UtteranceScore]]]:
    """(title, utterances) by subset: the corpora by the names of the files ("Switchboard", "CallHome"), then the STM's labels
    by lower-case id ("o", "sw-f"). A segment with several labels is in several subsets."""
    corpora: dict[str, tuple[str, list[UtteranceScore]]] = {}
    labels: dict[str, tuple[str, list[UtteranceScore]]] = {}
    for utterance in utterances:
        segment = rules.segments[utterance.utterance]
        prefix = re.match(r"(sw|en)[_\d]", segment.side[0])
        if prefix:
            name = CORPORA[prefix[1]]
            corpora.setdefault(name, (name, []))[1].append(utterance)
        for label in segment.labels:
            labels.setdefault(label, (rules.stm.labels.get(label, label), []))[1].append(utterance)
    return corpora | labels


def named(key: str, subset: Mapping[str, Any]) -> str:
    """The name of a subset among others, with its label because titles repeat: "sw-f (Female)"."""
    return subset["title"] if key in CORPORA.values() else f"{key} ({subset['title']})"


def subsets_as_data(rules: ScoringRules, utterances: Iterable[UtteranceScore]) -> dict[str, dict[str, Any]]:
    """Title, utterances, counts and error rate (None without reference words) by subset: plain data for `scores.json`."""
    return {key: {"title": title, **totals(inside)} for key, (title, inside) in by_subset(rules, utterances).items()}


def totals(utterances: Collection[UtteranceScore]) -> dict[str, Any]:
    """Utterances, counts and error rate (None without reference words): plain data."""
    alignments = [utterance.alignment for utterance in utterances]
    names = ("reference_length", "substitutions", "deletions", "insertions", "errors")
    counts = {name: sum(getattr(alignment, name) for alignment in alignments) for name in names}
    errors, length = counts.pop("errors"), counts["reference_length"]
    return {"utterances": len(utterances), **counts, "error_rate": errors / length if length else None}

"""Scores as text: sclite's formats, tables, and alignments for people to read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any, Literal

from asr.scoring.alignment import Alignment
from asr.scoring.decoding import decoder_rows
from asr.scoring.metric import METRICS, as_line, rates_beside, spaces_note
from asr.scoring.score import Score, UtteranceScore
from asr.scoring.subsets import named

WIDTH = 110  # columns of an alignment before it continues in the next block
MARKS = {"equal": "", "substitute": "S", "delete": "D", "insert": "I"}


def trn_names(utterances: Iterable[UtteranceScore]) -> dict[str, str]:
    """The `speaker-utterance` of each utterance id, as in sclite's trn format (`sclite -i spu_id`).

    The speaker has no hyphen or underscore, because sclite ends it there; neither part has a space or a bracket. sclite
    folds the case of ASCII letters, so a number distinguishes names that would otherwise be equal.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for utterance in utterances:
        speaker = re.sub(r"[\s(){}<>;_\-\x00-\x1f\x7f]+", ".", utterance.speaker).strip(".") or "unknown"
        identity = re.sub(r"[\s(){}<>;\x00-\x1f\x7f]+", "_", utterance.utterance) or "_"
        name = f"{speaker}-{identity}"
        unique, number = name, 2
        while unique.lower() in taken:
            unique, number = f"{name}.{number}", number + 1
        taken.add(unique.lower())
        names[utterance.utterance] = unique
    return names


def trn_token(token: str) -> str:
    """A token as one word of a trn line, without anything that sclite takes for an alternative, an id or a comment."""
    token = re.sub(r"[\s\x00-\x1f\x7f]+", "_", token) or "_"
    token = token.translate(str.maketrans("(){}", "[][]"))
    token = re.sub(r"^;+", lambda run: ":" * len(run[0]), token)
    return "[@]" if token == "@" else token


def trn(score: Score, names: dict[str, str], side: Literal["reference", "hypothesis"]) -> str:
    """One line per utterance in NIST's trn format: `words (speaker-utterance)`; intended markup of sclite is kept."""
    lines = []
    for utterance in score.utterances:
        words = [trn_token(token) for token in getattr(utterance, side)]
        if utterance.markup is not None:
            words = utterance.markup[side == "hypothesis"].split()
        lines.append(" ".join([*words, f"({names[utterance.utterance]})"]) + "\n")
    return "".join(lines)


def alignments(score: Score, names: dict[str, str]) -> str:
    """Every utterance in the style of sclite's `pra` report: reference, hypothesis and marks in aligned columns.

    `***` marks a side without a token. Long utterances continue in further blocks.
    """
    parts = []
    for utterance in score.utterances:
        a = utterance.alignment
        parts.append(
            f"id: ({names[utterance.utterance]})\n"
            f"Scores: (#C #S #D #I) {a.hits} {a.substitutions} {a.deletions} {a.insertions}\n"
            + "".join(_blocks(a))
            + "\n"
        )
    return "".join(parts)


def _blocks(alignment: Alignment) -> Iterable[str]:
    columns = []
    for kind, reference, hypothesis in alignment.operations:
        shown = [None if token is None else trn_token(token) for token in (reference, hypothesis)]
        width = max(columns_of(token) for token in shown if token is not None)
        columns.append([*("*" * max(width, 3) if token is None else token for token in shown), MARKS[kind]])
    start = 0
    while True:
        end, used = start, 6
        while end < len(columns) and (end == start or used + 1 + max(map(columns_of, columns[end])) <= WIDTH):
            used += 1 + max(map(columns_of, columns[end]))
            end += 1
        widths = [max(map(columns_of, column)) for column in columns[start:end]]
        for row, title in enumerate(("REF: ", "HYP: ", "EVAL:")):
            cells = [column[row] + " " * (w - columns_of(column[row])) for column, w in zip(columns[start:end], widths)]
            yield f"{title} {' '.join(cells)}".rstrip() + "\n"
        start = end
        if start >= len(columns):
            return


def columns_of(text: str) -> int:
    """The columns of a text in a terminal: two for a wide (East Asian) character, none for a combining mark."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def hypotheses(score: Score, metric: str) -> str:
    """A tab-separated table of references and hypotheses, one line per utterance, with its errors in the metric."""
    header = (
        "utterance speaker duration reference_length substitutions deletions insertions reference hypothesis".split()
    )
    rows: list[list[Any]] = [header]
    for utterance in score.utterances:
        a = utterance.alignment
        counts = [a.reference_length, a.substitutions, a.deletions, a.insertions]
        sides = [as_line(utterance.reference, metric), as_line(utterance.hypothesis, metric)]
        rows.append([utterance.utterance, utterance.speaker, f"{utterance.duration:.3f}", *counts, *sides])
    return _tabbed(rows)


def confusions(score: Score) -> str:
    """A tab-separated table of all errors by kind and tokens, the most frequent first; a missing token is an empty field."""
    rows: list[list[Any]] = [["kind", "reference", "hypothesis", "count"]]
    rows += [[_kind(*pair), pair[0] or "", pair[1] or "", count] for pair, count in score.confusions]
    return _tabbed(rows)


def markdown(score: Score, data: dict[str, Any], most_confused: int = 15) -> str:
    """The summary for people: a table of totals, one by speaker, one of the most frequent errors."""
    low, high = (percent(value) for value in score.interval)
    title = METRICS[data["metric"]][0]
    whole = {
        title: f"**{percent(score.error_rate)}**",
        f"{100 * score.confidence:g} % interval": f"{low} to {high}",
        "Substitutions, deletions, insertions": f"{score.substitutions}, {score.deletions}, {score.insertions}",
        "Reference length": counted_tokens(score, data),
        **{METRICS[name][0]: rate_and_interval(data, name) for name in rates_beside(data)},
        "Utterances": len(score.utterances),
        "Audio": f"{data['audio_seconds']:.1f} s",
        "Forward pass": _or_dash(data["forward_seconds"], "{:.2f} s"),
        "Peak memory": _or_dash(data["peak_memory_bytes"], "{:,} bytes"),
        "Corpus, split": f"{data['corpus']}, {data['split']}",
        "Units, normalizer": f"{data['units']}, {data['normalizer']}",
        "Attention": data["attention"],
        **decoder_rows(data),
        "Checkpoint": data["checkpoint"],
        "Command": f"`{data['command']}`",
    }
    speakers = [
        [s.speaker or "unknown", s.utterances, s.reference_length, s.substitutions, s.deletions, s.insertions]
        + ["–" if s.error_rate is None else percent(s.error_rate)]
        for s in score.speakers
    ]
    confused = [
        [_kind(*pair), *(visible(token or "–") for token in pair), n] for pair, n in score.confusions[:most_confused]
    ]
    subsets = [
        [named(key, s), s["utterances"], s["reference_length"], s["substitutions"], s["deletions"], s["insertions"]]
        + ["–" if s["error_rate"] is None else percent(s["error_rate"])]
        for key, s in data.get("subsets", {}).items()
    ]
    columns = ["Utterances", "Reference length", "Sub", "Del", "Ins", "Error rate"]
    parts = [
        f"# {title}: {data['corpus']}, {data['split']}, {data['attention']}\n\n",
        _table(["", ""], whole.items()),
        *(["\n## By subset\n\n", _table(["Subset", *columns], subsets)] if subsets else []),
        "\n## By speaker\n\n",
        _table(["Speaker", *columns], speakers),
    ]
    if confused:
        parts += ["\n## Most frequent errors\n\n", _table(["Kind", "Reference", "Hypothesis", "Count"], confused)]
    return "".join(parts)


def counted_tokens(score: Score, data: dict[str, Any]) -> str:
    """`1,204 characters, spaces counted`. data: the content of `scores.json`."""
    counted = f"{score.reference_length} {METRICS[data['metric']][1]}"
    return ", ".join(part for part in (counted, spaces_note(data, data["metric"])) if part)


def rate_and_interval(data: dict[str, Any], name: str) -> str:
    """An additional rate with its interval, in one line."""
    rate = rates_beside(data)[name]
    low, high = (percent(end) for end in rate["interval"])
    counted = [f"{low} to {high}", f"{rate['reference_length']} {METRICS[name][1]}", spaces_note(data, name)]
    return f"{percent(rate['error_rate'])} ({', '.join(part for part in counted if part)})"


def visible(token: str) -> str:
    """A token made visible in a table: with characters as tokens, a space is one too."""
    return "␣" if token == " " else token


def percent(rate: float) -> str:
    """A rate for people: 0.0712 is "7.12 %", 0.256 is "25.6 %"."""
    return f"{100 * rate:.2f} %" if rate < 0.1 else f"{100 * rate:.1f} %"


def _kind(reference: str | None, hypothesis: str | None) -> str:
    return "insertion" if reference is None else "deletion" if hypothesis is None else "substitution"


def _or_dash(value: Any, form: str) -> str:
    return "–" if value is None else form.format(value)


def _table(header: list[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in rows:
        cells = [re.sub(r"\s+", " ", str(cell)).replace("|", "\\|") for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _tabbed(rows: Iterable[Iterable[Any]]) -> str:
    # Tabs and line ends inside fields are written \t, \n and so on, and a backslash twice.
    escapes = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
    return "".join("\t".join(str(field).translate(escapes) for field in row) + "\n" for row in rows)

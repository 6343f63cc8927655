"""Reads the folder of an evaluation, as written by `asr.scoring.files`."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from asr.errors import UserError
from asr.runtime.text_files import read_lines

TABLE, SCORES = "hypotheses.tsv", "scores.json"
COLUMNS = (
    "utterance", "speaker", "duration", "reference_length", "substitutions", "deletions", "insertions", "reference",
    "hypothesis",
)  # fmt: skip
ESCAPED = re.compile(r"\\([\\tnr])")
MEANT = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}


@dataclasses.dataclass(frozen=True)
class ReadUtterance:
    """One line of `hypotheses.tsv`. duration: seconds. reference, hypothesis: tokens in one line."""

    utterance: str
    speaker: str
    duration: float
    reference_length: int
    substitutions: int
    deletions: int
    insertions: int
    reference: str
    hypothesis: str

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions


@dataclasses.dataclass(frozen=True)
class ReadEvaluation:
    """An evaluation read from its folder. scores: the content of `scores.json`. utterances: by id."""

    folder: Path
    scores: dict[str, Any]
    utterances: dict[str, ReadUtterance]


def find_evaluation(path: Path | str, split: str = "test") -> Path:
    """The folder of the evaluation at `path`: `path` itself, or a run's evaluation of `split` with its own attention.

    Raises UserError if there is none, naming the evaluations that the run has.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"There is no folder {path}. Name a run's folder or the folder of an evaluation.")
    if (path / SCORES).is_file():
        return path
    found = sorted((path / "evaluation").glob(f"*/*/{SCORES}"))
    if not found:
        raise UserError(
            f"{path} is neither an evaluation's folder nor a run with evaluations: run python evaluate.py checkpoint={path}"
        )
    for file in found:
        scores = read_json(file)
        if file.parent.parent.name == split and scores.get("attention") == scores.get("trained_with"):
            return file.parent
    others = ", ".join(str(file.parent) for file in found)
    raise UserError(
        f"{path} has no evaluation of the {split} split with its own attention. Name one of its evaluations ({others}), or "
        f"run python evaluate.py checkpoint={path} split={split}"
    )


def read_evaluation(folder: Path | str) -> ReadEvaluation:
    """Reads `scores.json` and `hypotheses.tsv`.

    Raises UserError, naming file and line, if they are cut short or malformed, or do not belong together.
    """
    folder = Path(folder)
    scores = read_json(folder / SCORES)
    path = folder / TABLE
    lines = read_lines(path)
    if not lines or tuple(lines[0].split("\t")) != COLUMNS:
        raise UserError(
            f"{path} is not a table of hypotheses: its first line does not name {', '.join(COLUMNS)}. Evaluate again."
        )
    utterances: dict[str, ReadUtterance] = {}
    for number, line in enumerate(lines[1:], start=2):
        utterance = read_line(line, f"{path}, line {number}")
        if utterance.utterance in utterances:
            raise UserError(
                f"{path}, line {number}: the utterance {utterance.utterance} is there twice. Evaluate again."
            )
        utterances[utterance.utterance] = utterance
    for key in ("substitutions", "deletions", "insertions", "reference_length"):
        total = sum(getattr(utterance, key) for utterance in utterances.values())
        if scores.get(key) != total:
            raise UserError(
                f"{path} and {SCORES} do not belong together: {key} add up to {total} in the table, but {SCORES} says "
                f"{scores.get(key)}. Evaluate again."
            )
    return ReadEvaluation(folder, scores, utterances)


def read_line(line: str, place: str) -> ReadUtterance:
    fields = [ESCAPED.sub(lambda match: MEANT[match[1]], field) for field in line.split("\t")]
    if len(fields) != len(COLUMNS):
        raise UserError(
            f"{place}: {len(fields)} fields instead of {len(COLUMNS)}: the file is cut short or was changed. Evaluate again."
        )
    try:
        length, substitutions, deletions, insertions = (int(field) for field in fields[3:7])
        duration = float(fields[2])
    except ValueError as error:
        raise UserError(f"{place}: {error}; expected a duration and four counts. Evaluate again.") from None
    if min(length, substitutions, deletions, insertions) < 0:
        raise UserError(f"{place}: a count is below zero. Evaluate again.")
    return ReadUtterance(
        fields[0], fields[1], duration, length, substitutions, deletions, insertions, fields[7], fields[8]
    )


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Name the folder of an evaluation.") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): it is cut short or was changed. Evaluate again.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no scores: expected an object. Evaluate again.")
    return content

"""The references of the Hub5 2000 evaluation: the words that a model should write for them, and the files for scoring."""

from __future__ import annotations

import collections
import dataclasses
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from asr.runtime.text_files import read_lines
from asr.scoring.nist.glm import OTHERWISE, GlobalMapping
from asr.scoring.nist.stm import Stm, read_stm

# The rules that turn a reference into the words that a model should write, in order; the score comes from the STM file.
REFERENCE_RULES = {
    "asides": "<B_ASIDE>, <E_ASIDE> → nothing",
    "alternatives": "{ A / B } → the first that is not @",
    "optional words": "(we-) → we-",
    "hesitations": "%HESITATION → uh, %UM → um",
    "spelled letters": "P. H. D. → p h d",
    "lower case": "OH → oh",
}

_ASIDES = re.compile(r"<[be]_aside>", re.IGNORECASE)


def corrected(line: str) -> str:
    """A line or text of the STM file without the errors that csrfilt.sh refuses, as in Kaldi's eval2000_data_prep.sh: the
    first `((` becomes `(`, and the marks of asides are removed."""
    return _ASIDES.sub("", line.replace("((", "(", 1))


def count_words(stm: Path, glm: Path, conversations: Iterable[str]) -> int:
    """The number of words that sclite counts in the references of these conversations after the GLM's rules.

    Optional words count. Raises UserError, naming file and line, if one of the files is malformed.
    """
    from asr.scoring.nist.rules import ScoringRules

    wanted, read = set(conversations), read_stm(stm)
    segments = [
        dataclasses.replace(segment, text=corrected(segment.text))
        for segment in read.segments
        if segment.file.lower() in wanted
    ]
    rules = ScoringRules(Stm(stm, segments, read.labels), GlobalMapping.read(glm))
    scores = rules.score((identity, []) for identity in rules.segments)
    return sum(score.alignment.reference_length for score in scores)


class ReferenceText:
    """Turns references of an STM file into the words that a model should write. changed: tokens changed by each rule."""

    def __init__(self) -> None:
        self.changed = collections.Counter({rule: 0 for rule in REFERENCE_RULES})

    def __call__(self, transcript: str) -> str:
        text = transcript
        # brackets may touch words and each other: "((%HESITATION)", "{A / B}"
        for rule, pattern, change in (
            ("asides", r"<[be]_aside>", ""),
            ("alternatives", r"\{([^{}]*)\}", _first_alternative),
            ("optional words", r"\(+([^()]*)\)+", r"\1"),
            ("optional words", r"[()]", ""),
            ("hesitations", r"(?<!\S)%hesitation(?!\S)", "uh"),
            ("hesitations", r"(?<!\S)%(?=\S)", ""),
            ("spelled letters", r"(?<!\S)([a-z])\.(?=\s|$|'s)", r"\1"),
        ):
            text, count = re.subn(pattern, change, text, flags=re.IGNORECASE)
            self.changed[rule] += count
        words = text.split()
        self.changed["lower case"] += sum(word != word.lower() for word in words)
        return " ".join(words).lower()


def _first_alternative(found: re.Match) -> str:
    alternatives = [alternative.strip() for alternative in found[1].split("/")]
    return f" {next((alternative for alternative in alternatives if alternative not in ('@', '')), '')} "


def copy_references(stm: Path, glm: Path, folder: Path, conversations: set[str]) -> None:
    """Writes `reference.stm` and `rules.glm` into `folder`, which it makes.

    The STM file keeps the lines of these conversations, `corrected`, and its comments, which name the labels; the GLM file is
    copied byte for byte.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(glm, folder / "rules.glm")
    lines = []
    for line in read_lines(stm, OTHERWISE):
        if line.startswith(";;"):
            lines.append(line)
        elif line.strip() and line.split(maxsplit=1)[0].lower() in conversations:
            lines.append(corrected(line))
    (folder / "reference.stm").write_text("".join(f"{line}\n" for line in lines), encoding="utf8")

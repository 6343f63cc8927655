"""Writes the folder of an evaluation: numbers for tools, tables and alignments for people."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asr.errors import UserError
from asr.scoring import text
from asr.scoring.metric import METRICS
from asr.scoring.score import Score


@dataclasses.dataclass(frozen=True)
class EvaluationFacts:
    """What was evaluated and at what cost: the part of `scores.json` that does not come from the alignments.

    attention: its label, such as "i_clustered-100". metric: "per" (phonemes), "wer" (words) or "cer" (characters).
    audio_seconds: of the recognized speech. forward_seconds: time in the model alone. peak_memory_bytes: of the process or
    the device; both None if not measured. normalizer: the name of the text normalizer. command: the command that repeats the
    evaluation. more: further keys for `scores.json`, plain data, such as "attention_settings" or "normalizer_removed".
    """

    corpus: str
    split: str
    units: str
    attention: str
    metric: str
    audio_seconds: float
    forward_seconds: float | None
    peak_memory_bytes: int | None
    normalizer: str
    checkpoint: str
    command: str
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {self.metric!r}")


def scores_as_data(score: Score, facts: EvaluationFacts) -> dict[str, Any]:
    """The content of `scores.json`. Raises ValueError when a further key would hide one of the fixed ones."""
    data = {
        "corpus": facts.corpus,
        "split": facts.split,
        "units": facts.units,
        "attention": facts.attention,
        "metric": facts.metric,
        **score.as_data(),
        "utterances": len(score.utterances),
        "audio_seconds": facts.audio_seconds,
        "forward_seconds": facts.forward_seconds,
        "peak_memory_bytes": facts.peak_memory_bytes,
        "normalizer": facts.normalizer,
        "checkpoint": facts.checkpoint,
        "command": facts.command,
    }
    hidden = sorted(data.keys() & facts.more.keys())
    if hidden:
        raise ValueError(f"further keys would hide {', '.join(hidden)}")
    return {**data, **facts.more}


def write_evaluation(folder: Path | str, score: Score, facts: EvaluationFacts) -> dict[str, Path]:
    """Writes the files of an evaluation into `folder` and returns their paths by name.

    `scores.json` (strict JSON: no NaN or infinity), `scores.md`, `alignments.txt`, `ref.trn`, `hyp.trn`,
    `hypotheses.tsv`, `confusions.tsv`. All are written beside the folder first. A new folder appears complete; in an existing
    one only files of these names are replaced, and `scores.json` is removed first and written last: if it is there, the rest
    belongs to it. Raises UserError if the folder cannot be written, and ValueError or TypeError, before writing anything,
    for facts that JSON cannot represent.
    """
    folder = Path(folder)
    names = text.trn_names(score.utterances)
    data = scores_as_data(score, facts)
    contents = {
        "alignments.txt": text.alignments(score, names),
        "ref.trn": text.trn(score, names, "reference"),
        "hyp.trn": text.trn(score, names, "hypothesis"),
        "hypotheses.tsv": text.hypotheses(score, facts.metric),
        "confusions.tsv": text.confusions(score),
        "scores.md": text.markdown(score, data),
        "scores.json": json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        os.chmod(temporary, 0o777 & ~_umask())
        for name, content in contents.items():
            (temporary / name).write_text(content, encoding="utf8", newline="\n")
        if folder.exists():
            (folder / "scores.json").unlink(missing_ok=True)
            for name in contents:
                os.replace(temporary / name, folder / name)
        else:
            os.rename(temporary, folder)
    except OSError as error:
        raise UserError(
            f"The evaluation cannot be written to {folder}: {error.strerror or error}. "
            "Choose a writable folder on a disk with free space."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return {name: folder / name for name in contents}


def _umask() -> int:
    # The only way to read the mask is to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask

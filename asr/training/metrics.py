"""`metrics.csv`: a row for each step that logs anything, appended at once, cut back when a run is resumed."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from lightning.pytorch.loggers import Logger

from asr.runtime.files import replacing

COLUMNS = (
    "step", "epoch", "seconds", "train/loss", "train/learning_rate", "train/gradient_norm", "train/waiting",
    "dev/loss", "dev/error_rate", "dev/word_error_rate", "dev/character_error_rate",
    "train/ctc", "train/intermediate", "train/consistency",
)  # fmt: skip


class MetricsFile(Logger):
    """Losses in nats per label, and their terms before weighting, where a loss has several; waiting as a share of the time;
    seconds spent training; error rates from 0: the one that decides (`dev/error_rate`) and, for texts, those of words and
    characters."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = Path(path)
        self._file: TextIO | None = None

    name, version = "", ""

    def log_hyperparams(self, *_args, **_more) -> None:
        """config.yaml holds them."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if self._file is None:
            fresh = not self.path.exists()
            self._file = open(self.path, "a", encoding="utf8", newline="", buffering=1)
            if fresh:
                csv.writer(self._file).writerow(COLUMNS)
        row = {**metrics, "step": step}
        csv.writer(self._file).writerow([row.get(column, "") for column in COLUMNS])

    def to_disk(self) -> None:
        """Flushes the rows to the disk, so that they survive a loss of power as the checkpoint does that relies on them."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def finalize(self, status: str) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def cut_back(path: Path, step: int, validated: bool) -> None:
    """Removes what was logged after a checkpoint: rows later than `step`, a row cut short, its validation unless `validated`."""
    if not path.exists():
        return
    with open(path, encoding="utf8", newline="", errors="replace") as lines:
        # a line without its newline was cut short, even if every column has a value
        rows = list(csv.DictReader(line for line in lines if line.endswith("\n")))
    with (
        replacing(path, alone=True, durable=True) as temporary,
        open(temporary, "w", encoding="utf8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            kept = whole_number(row.get("step"))
            undone = kept == step and not validated and row.get("dev/loss")
            if kept is not None and kept <= step and not undone and None not in row.values():
                writer.writerow([row.get(column) or "" for column in COLUMNS])


def whole_number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None

"""The file of metrics that a run writes: one row for what was logged at a step, appended at once, cut back on resuming."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.loggers import Logger

COLUMNS = (
    "step", "epoch", "seconds", "train/loss", "train/learning_rate", "train/gradient_norm", "train/waiting",
    "dev/loss", "dev/error_rate", "dev/word_error_rate", "dev/character_error_rate",
)  # fmt: skip


class MetricsFile(Logger):
    """`metrics.csv`: losses in nats per label, waiting as a share of the time, seconds since the training began; error rates
    from 0 on: that which decides (`dev/error_rate`) and, of texts, those in words and characters by their names."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self._file = Path(path), None

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
        """Makes what was written survive a loss of power, as a checkpoint does that counts on it."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def finalize(self, status: str) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def cut_back(path: Path, step: int, validated: bool) -> None:
    """Takes out what was logged after a checkpoint: rows of later steps, a row cut short, and its own validation if undone."""
    if not path.exists():
        return
    with open(path, encoding="utf8", newline="", errors="replace") as lines:
        # a line without its end was cut short, even where every column has something
        rows = list(csv.DictReader(line for line in lines if line.endswith("\n")))
    aside = path.with_name(f".{path.name}.partial")
    with open(aside, "w", encoding="utf8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            kept = whole_number(row.get("step"))
            undone = kept == step and not validated and row.get("dev/loss")
            if kept is not None and kept <= step and not undone and None not in row.values():
                writer.writerow([row.get(column) or "" for column in COLUMNS])
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def whole_number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None

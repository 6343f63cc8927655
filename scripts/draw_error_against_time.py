"""Draws docs/images/error_against_time.png from the numbers in results/: python scripts/draw_error_against_time.py

One model, trained with full attention, scored under others, from the table of `scripts/cross_evaluate.py`. The last row, uniform
attention, is left out: its error rate is too far above the rest.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.evaluation.report.plots import TradeOffPoint, plot_trade_off  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "results/2026-11-22_two_cores/wsj_780/table.csv"
PICTURE = ROOT / "docs/images/error_against_time.png"
NOT_DRAWN = ("uniform",)


def points() -> list[TradeOffPoint]:
    """The rows of the table that were scored, as points of the picture."""
    with open(TABLE, encoding="utf8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["error_rate"] and row["evaluated_with"] not in NOT_DRAWN]
    return [
        TradeOffPoint(
            attention=row["evaluated_with"].partition("-")[0],
            label=row["evaluated_with"],
            seconds=float(row["forward_seconds"]),
            error_rate=float(row["error_rate"]),
            interval=(float(row["low"]), float(row["high"])),
        )
        for row in rows
    ]


if __name__ == "__main__":
    print(plot_trade_off(points(), PICTURE))

"""Several trainings by one command (--multirun): which of them are the same, and the table that they end in."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from asr.config.overrides import shown
from asr.config.settings import all_knobs, groups, knobs_of
from asr.scoring.metric import said_beside

# a column that is there only if some training has such rates: CER beside WER
OTHERS = "other rates"
COLUMNS = ("error rate", "interval", OTHERS, "seconds", "folder", "said")


def same_run(folder: Path, config) -> Path | None:
    """A finished run beside `folder` that differs from `config` only in knobs that its attention does not read."""
    import yaml

    from asr.config.settings import plain

    wanted = compared(plain(config))
    for file in sorted(folder.parent.glob("*/config.yaml")):
        if file.parent.name != folder.name and any(file.parent.glob("evaluation/test/*/scores.json")):
            try:
                there = yaml.safe_load(file.read_text(encoding="utf8"))
            except (OSError, UnicodeDecodeError, yaml.YAMLError):
                continue
            if isinstance(there, dict) and compared(there) == wanted:
                return file.parent
    return None


def compared(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in {*all_knobs(), "run", "logger"}}


def test_scores(run: Path) -> dict[str, Any] | None:
    """The scores of a run's test split with its own attention, the latest if there are several."""
    files = sorted(run.glob("evaluation/test/*/scores.json"), key=lambda file: file.stat().st_mtime)
    scores = [json.loads(file.read_text(encoding="utf8")) for file in files]
    own = [one for one in scores if one["attention"] == one["trained_with"]]
    return own[-1] if own else None


def write_sweep(folder: Path, jobs: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Writes `sweep.md` and `sweep.csv` and returns their rows, best first.

    jobs: for each training `overrides` (key=value …), `run` (its folder, or that of the same one) and `said` (why it failed or
    was not run).
    """
    rows = []
    for job in jobs:
        scores = test_scores(Path(job["run"])) if job["run"] else None
        row = without_unread_knobs(dict(map(shown, job["overrides"])))
        row |= {name: "" for name in COLUMNS} | {"said": job["said"], "folder": job["run"] or ""}
        if scores:
            low, high = scores["interval"]
            row |= {
                OTHERS: said_beside(scores),
                "error rate": f"{scores['error_rate']:.2%}", "interval": f"{low:.2%} to {high:.2%}",
                "seconds": f"{scores['forward_seconds']:.2f}",
            }  # fmt: skip
        rows.append((scores["error_rate"] if scores else float("inf"), row))
    rows = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
    keys = list(dict.fromkeys(key for row in rows for key in row if key not in COLUMNS))
    # what every training was given says nothing about any
    keys = [key for key in keys if len({row.get(key) for row in rows}) > 1] or keys[-4:]
    names = [*keys, *(name for name in COLUMNS if name != OTHERS or any(row[name] for row in rows))]
    table = io.StringIO()
    writer = csv.DictWriter(table, names, extrasaction="ignore", restval="")
    writer.writeheader()
    writer.writerows(rows)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(row.get(name, "").replace("|", "\\|") for name in names) + " |" for row in rows]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.csv").write_text(table.getvalue(), encoding="utf8")
    (folder / "sweep.md").write_text("\n".join(lines) + "\n", encoding="utf8")
    return [{name: row.get(name, "") for name in names} for row in rows]


def without_unread_knobs(overrides: dict[str, str]) -> dict[str, str]:
    """The overrides of a training, with a dash for knobs that its attention does not read."""
    attention = overrides.get("attention")
    if attention not in groups()["attention"]:
        return overrides
    unread = set(all_knobs()) - set(knobs_of(attention))
    return {key: "–" if key in unread else value for key, value in overrides.items()}


def show_sweep(folder: Path, rows: list[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = [name for name in rows[0] if name not in COLUMNS]
    others = [OTHERS] if OTHERS in rows[0] else []
    titles = (*shown, "error rate", "95 % interval", *others, "run")
    table = Table(*titles, title=f"{len(rows)} trainings, test split")
    for row in rows:
        table.add_row(*(row[name] for name in (*shown, "error rate", "interval", *others)), Path(row["folder"]).name)
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    console.print(table)
    for row in rows:
        if not row["error rate"]:
            console.print(f"{Path(row['folder']).name}: {row['said']}")
    console.print(f"also in {folder / 'sweep.md'} and sweep.csv")

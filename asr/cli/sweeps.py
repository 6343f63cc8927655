"""Several trainings by one command (--multirun): which of them are the same, and the table at their end.

The table is sorted by the error rate on dev, by which a sweeper chooses too; the one on test stands beside it.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asr.config.checks import Job
from asr.config.overrides import shown
from asr.config.settings import all_knobs, groups, knobs_of, plain
from asr.scoring.metric import said_beside

# a column only if some training has such rates: CER beside WER
OTHERS = "other rates"
COLUMNS = ("dev error rate", "test error rate", "test interval", OTHERS, "seconds", "folder", "said")

JOBS = ".jobs"


def keep_job(sweep: Path, number: int, job: dict[str, Any]) -> None:
    """Writes the state of a job into the folder of the sweep, where the process that started the sweep finds it."""
    file = sweep / JOBS / f"{number}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(".partial")
    aside.write_text(json.dumps(job), encoding="utf8")
    aside.replace(file)


def take_jobs(sweep: Path) -> list[dict[str, Any]]:
    """The state of every job that was started, in order; removes the files."""
    files = sorted(sweep.glob(f"{JOBS}/*.json"), key=lambda file: int(file.stem))
    jobs = [json.loads(file.read_text(encoding="utf8")) for file in files]
    shutil.rmtree(sweep / JOBS, ignore_errors=True)
    return jobs


def same_trainings(jobs: Sequence[Job]) -> list[str]:
    """A sentence for each attention of a sweep with jobs that differ only in knobs that it does not read."""
    unread: dict[str, set[str]] = {}
    seen: dict[tuple[str, frozenset[tuple[str, str]]], dict[str, Any]] = {}
    for job in jobs:
        if job.attention is None:
            continue
        knobs = set(all_knobs()) - set(knobs_of(job.attention))
        typed = {key: value for key, value in job.pairs if key in knobs}
        rest = frozenset((key, str(value)) for key, value in job.pairs if key not in knobs)
        first = seen.setdefault((job.attention, rest), typed)
        unread.setdefault(job.attention, set()).update(key for key in typed if typed[key] != first.get(key))
    return [
        f"attention={attention} does not read {' and '.join(sorted(keys))}: jobs that differ in nothing else are the same "
        "training, which is not run again once it has finished."
        for attention, keys in unread.items()
        if keys
    ]


def same_run(folder: Path, config: Any) -> Path | None:
    """A finished run beside `folder` that differs from `config` only in knobs that its attention does not read."""
    import yaml

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
    """The latest scores of a run on test under its own attention."""
    files = sorted(run.glob("evaluation/test/*/scores.json"), key=lambda file: file.stat().st_mtime)
    scores = [json.loads(file.read_text(encoding="utf8")) for file in files]
    own = [one for one in scores if one["attention"] == one["trained_with"]]
    return own[-1] if own else None


def write_sweep(folder: Path, jobs: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Writes `sweep.md` and `sweep.csv` and returns their rows, best on dev first.

    jobs: for each training `overrides` (key=value …), `run` (its folder, or that of the same one), `dev` (its error rate there,
    0 to 1, or None) and `said` (why it failed or was not run).
    """
    ranked = sorted(jobs, key=lambda job: float("inf") if job["dev"] is None else job["dev"])
    rows = [row_of(job) for job in ranked]
    keys = list(dict.fromkeys(key for row in rows for key in row if key not in COLUMNS))
    # what all trainings share tells none from another
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


def row_of(job: dict[str, Any]) -> dict[str, str]:
    """What was typed for a job, and the columns of its results."""
    row = without_unread_knobs(dict(map(shown, job["overrides"])))
    row |= {name: "" for name in COLUMNS} | {"said": job["said"], "folder": job["run"] or ""}
    if job["dev"] is not None:
        row["dev error rate"] = f"{job['dev']:.2%}"
    if scores := test_scores(Path(job["run"])) if job["run"] else None:
        low, high = scores["interval"]
        row |= {
            OTHERS: said_beside(scores),
            "test error rate": f"{scores['error_rate']:.2%}", "test interval": f"{low:.2%} to {high:.2%}",
            "seconds": f"{scores['forward_seconds']:.2f}",
        }  # fmt: skip
    return row


def without_unread_knobs(overrides: dict[str, str]) -> dict[str, str]:
    """The overrides of a training, with a dash for knobs that its attention does not read."""
    attention = overrides.get("attention")
    if attention not in groups()["attention"]:
        return overrides
    unread = set(all_knobs()) - set(knobs_of(attention))
    return {key: "–" if key in unread else value for key, value in overrides.items()}


def show_sweep(folder: Path, rows: list[dict[str, str]]) -> None:
    """Prints the table, and why trainings failed."""
    from rich.console import Console
    from rich.table import Table

    shown = [name for name in rows[0] if name not in COLUMNS]
    results = [name for name in COLUMNS[:4] if name in rows[0]]
    table = Table(*shown, *results, "run", title=f"{len(rows)} trainings, best on dev first")
    for row in rows:
        table.add_row(*(row[name] for name in (*shown, *results)), Path(row["folder"]).name)
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    console.print(table)
    for row in rows:
        if row["said"] and not row["dev error rate"]:
            console.print(f"{Path(row['folder']).name}: {row['said']}")
    console.print(f"also in {folder / 'sweep.md'} and sweep.csv")


def best_on_dev(run: Path) -> float | None:
    """The lowest error rate on dev in the `metrics.csv` of a run, 0 to 1; None if it was never validated."""
    with open(run / "metrics.csv", encoding="utf8", newline="") as file:
        rates = [float(row["dev/error_rate"]) for row in csv.DictReader(file) if row.get("dev/error_rate")]
    return min(rates, default=None)

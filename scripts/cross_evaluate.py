"""Scores every checkpoint under every attention and prints the table: Vyas et al. 2020, Table 1.

python scripts/cross_evaluate.py checkpoints=[a,b,c] attention=[full,clustered-100,i_clustered-100,i_clustered-200,oracle_top]
"""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from pathlib import Path

if __name__ == "__main__":  # a file of the checkout, which need not be installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.cli.command import command  # noqa: E402
from asr.errors import UserError  # noqa: E402


@command("cross_evaluate", aliases={"attention": "attentions"})
def cross_evaluate(config) -> None:
    """Scores every checkpoint under every attention: one row per attention, one column per checkpoint.

    python scripts/cross_evaluate.py checkpoints=[a,b] attention=[full,clustered-100,i_clustered-100,oracle_top]

    Pairs whose scores are in the output folder already are not computed again, so an interrupted run continues.
    """
    from asr.model.attention import parse_label
    from asr.model.checkpoint import open_checkpoint

    checkpoints = list(dict.fromkeys(names(config, "checkpoints", "[run1,run2]")))
    attentions = [parse_label(label) for label in names(config, "attentions", "[full,clustered-100]")]
    opened = {path: open_checkpoint(path) for path in checkpoints}
    metrics = {checkpoint.units.metric for checkpoint in opened.values()}
    if len(metrics) > 1:
        raise UserError(
            f"checkpoints={','.join(checkpoints)}: one table cannot hold both phoneme and word error rates. Name checkpoints "
            "with the same kind of units."
        )
    columns = column_names(opened)
    table = Table(columns, Path(config.output))
    for path, checkpoint in opened.items():
        evaluate_column(config, table, columns[path], path, checkpoint, attentions)
    metrics = {scores["metric"] for scores in table.scores.values()}
    if len(metrics) > 1:
        raise UserError(f"One table cannot hold several metrics ({', '.join(sorted(metrics))}): name one with metric=…")
    corpora = {(scores["corpus"], scores["split"]) for scores in table.scores.values()}
    if len(corpora) > 1:
        raise UserError(
            f"The checkpoints were trained on different corpora {sorted(corpora)}: choose one with corpus=NAME."
        )
    table.write()
    table.show()


def names(config, key: str, example: str) -> list[str]:
    value = config[key]
    values = [value] if isinstance(value, str) else list(value)
    if not values:
        raise UserError(f"{key} is empty: write {key}={example}.")
    return [str(name) for name in values]


def column_names(opened) -> dict[str, str]:
    """Each checkpoint's name: the attention it was trained with, and its folder if two share it."""
    labels = {path: checkpoint.model.attention_label() for path, checkpoint in opened.items()}
    twice = {label for label in labels.values() if list(labels.values()).count(label) > 1}
    return {path: f"{label} ({path})" if label in twice else label for path, label in labels.items()}


def evaluate_column(config, table: Table, column: str, path: str, checkpoint, attentions) -> None:
    """Scores one checkpoint under every attention; reads the corpus once."""
    from asr.config.settings import plain
    from asr.evaluation.evaluate import score_checkpoint
    from asr.evaluation.request import Request, load_split
    from asr.model.attention import label_of
    from asr.model.checkpoint import weights_digest
    from asr.scoring.metric import said_beside

    own = checkpoint.model.description["attention"]
    digest = weights_digest(checkpoint.model)
    trained_on = checkpoint.trained_on.get("corpus")
    corpus = plain(config.corpus) if config.get("corpus") else trained_on
    data = None
    for settings in attentions:
        # knobs that the label does not name default to those of training
        settings = {**(own if settings["name"] == own["name"] else {}), **settings}
        label = label_of(settings)
        request = Request(
            checkpoint=path,
            split=config.split,
            attention=settings,
            corpus=corpus,
            decoder=plain(config.decoder),
            device=config.device,
            batch_frames=config.batch_frames,
            bootstrap=config.bootstrap,
            metric=config.metric,
            max_dropped=config.max_dropped,
            cache=str(config.cache),
            output=str(table.folder(label, column)),
            report=False,
            sclite=False,
        )
        try:
            checkpoint.model.refuse_attention(settings)
        except UserError as error:
            table.cannot(label, column, str(error))
            continue
        asked = {**dataclasses.asdict(request), "weights": digest, "checkpoint": None, "output": None}
        scores = table.known(label, column, asked)
        if scores is None:
            data = data or load_split(checkpoint, request)
            scores = score_checkpoint(request, checkpoint, data)
            table.remember(label, column, asked)
        table.put(label, column, scores)
        said = [f"{scores['metric'].upper()} {scores['error_rate']:.2%}", said_beside(scores)]
        print(f"{column} under {label}: {', '.join(filter(None, said))}", flush=True)


class Table:
    """The scores of all pairs, or the reasons why a pair is impossible."""

    def __init__(self, columns: dict[str, str], output: Path):
        self.columns, self.output = list(columns.values()), output
        self.scores: dict[tuple[str, str], dict] = {}
        self.reasons: dict[tuple[str, str], str] = {}
        self.rows: list[str] = []

    def folder(self, label: str, column: str) -> Path:
        safe = "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in column)
        return self.output / safe / label

    def known(self, label: str, column: str, asked: dict) -> dict | None:
        """The scores of a pair, if computed before with the same weights, data and settings."""
        folder = self.folder(label, column)
        try:
            if json.loads((folder / "asked.json").read_text(encoding="utf8")) == asked:
                return json.loads((folder / "scores.json").read_text(encoding="utf8"))
        except (OSError, ValueError):
            pass
        return None

    def remember(self, label: str, column: str, asked: dict) -> None:
        (self.folder(label, column) / "asked.json").write_text(json.dumps(asked, indent=2) + "\n", encoding="utf8")

    def put(self, label: str, column: str, scores: dict) -> None:
        self.scores[label, column] = scores
        if label not in self.rows:
            self.rows.append(label)

    def cannot(self, label: str, column: str, reason: str) -> None:
        self.reasons[label, column] = reason
        if label not in self.rows:
            self.rows.append(label)

    def cell(self, label: str, column: str) -> str:
        from asr.scoring.metric import rates_beside

        scores = self.scores.get((label, column))
        if scores is None:
            return "–"
        rate = f"{100 * scores['error_rate']:.2f}"
        rate = f"**{rate}**" if label == scores["trained_with"] else rate
        memory = scores["peak_memory_bytes"]
        beside = [f"{name.upper()} {100 * other['error_rate']:.2f}" for name, other in rates_beside(scores).items()]
        cost = [f"{scores['forward_seconds']:.1f} s", *([f"{memory / 2**20:.0f} MiB"] if memory else [])]
        return f"{rate} ({', '.join(beside + cost)})"

    @property
    def others(self) -> list[str]:
        """The names of further error rates that some pair has, such as characters besides words."""
        from asr.scoring.metric import rates_beside

        return sorted({name for scores in self.scores.values() for name in rates_beside(scores)})

    @property
    def in_brackets(self) -> str:
        return ", ".join([*(name.upper() for name in self.others), "forward time", "peak memory"])

    def markdown(self) -> str:
        metric = next((scores["metric"].upper() for scores in self.scores.values()), "error rate")
        lines = [
            f"{metric} in percent ({self.in_brackets}); columns: trained with, rows: evaluated with; "
            "bold: the attention that the weights were trained with.",
            "",
            "| evaluated with | " + " | ".join(self.columns) + " |",
            "|---|" + "---|" * len(self.columns),
        ]
        for label in self.rows:
            lines.append(f"| {label} | " + " | ".join(self.cell(label, column) for column in self.columns) + " |")
        for reason in sorted(set(self.reasons.values())):
            lines += ["", f"–: {reason}"]
        return "\n".join(lines) + "\n"

    def write(self) -> None:
        """Writes table.csv, table.md and table.png into the output folder."""
        from asr.evaluation.report.plots import plot_heat_map
        from asr.scoring.metric import rates_beside

        self.output.mkdir(parents=True, exist_ok=True)
        fields = ["trained_with", "evaluated_with", "error_rate", "low", "high", "forward_seconds", "peak_memory_bytes"]
        with open(self.output / "table.csv", "w", newline="", encoding="utf8") as file:
            writer = csv.writer(file)
            writer.writerow([*fields, "reason", *self.others])
            for label in self.rows:
                for column in self.columns:
                    scores = self.scores.get((label, column))
                    if scores is None:
                        reason = self.reasons.get((label, column), "")
                        writer.writerow([column, label, "", "", "", "", "", reason, *("" for _ in self.others)])
                        continue
                    values = [scores["error_rate"], *scores["interval"], scores["forward_seconds"]]
                    beside = rates_beside(scores)
                    rates = [beside[name]["error_rate"] if name in beside else "" for name in self.others]
                    writer.writerow([column, label, *values, scores["peak_memory_bytes"], "", *rates])
        (self.output / "table.md").write_text(self.markdown(), encoding="utf8")
        rates = {
            label: {
                column: self.scores[label, column]["error_rate"] if (label, column) in self.scores else None
                for column in self.columns
            }
            for label in self.rows
        }
        plot_heat_map(rates, self.output / "table.png")

    def show(self) -> None:
        from rich.console import Console
        from rich.table import Table as RichTable

        shown = RichTable(title=f"error rate in percent ({self.in_brackets})")
        shown.add_column("evaluated with \\ trained with")
        for column in self.columns:
            shown.add_column(column)
        for label in self.rows:
            shown.add_row(label, *(self.cell(label, column).replace("**", "") for column in self.columns))
        console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
        console.print(shown)
        for reason in sorted(set(self.reasons.values())):
            console.print(f"–: {reason}")
        console.print(f"table.md, table.csv and table.png in {self.output}")


if __name__ == "__main__":
    cross_evaluate()

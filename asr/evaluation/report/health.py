"""Reports of a corpus check: Markdown, an HTML page with histograms, and JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from asr.data.health.check import PROBLEM, Health
from asr.data.health.leaks import LONG_TEXT
from asr.evaluation.report.page import (
    bullets,
    code,
    details,
    element,
    figure,
    notice,
    page,
    paragraph,
    table,
)
from asr.runtime.files import write_together

# examples per finding on a page; findings.json has all
SHOWN = 20
BARS = "▁▂▃▄▅▆▇█"
RULES = (
    "The splits leak if an utterance is in two of them (by its id, its stretch of the recording, or its bytes or samples), if a "
    "few speakers of a held-out split speak in train while most do not, and if 1 % or more of a held-out split has a text of "
    f"{LONG_TEXT} words or more that train has too. Speakers that are in all splits, short texts that repeat, and recordings "
    "divided between splits are only reported: a corpus may have them on purpose."
)


@dataclasses.dataclass(frozen=True)
class Section:
    """One part of the report. charts: the quantities of its histograms."""

    heading: str
    sentences: list[str]
    headers: list[str]
    rows: list[list[str]]
    charts: tuple[str, ...] = ()


def write_reports(health: Health, folder: Path, command: str) -> None:
    """Writes report.html, report.md and findings.json into `folder`, all or none. Raises UserError if it cannot."""
    write_together(
        {
            folder / "findings.json": json.dumps({"command": command, **health.plain()}, indent=1, ensure_ascii=False)
            + "\n",
            folder / "report.md": markdown(health, command),
            folder / "report.html": html_page(health, command),
        }
    )


def sections(health: Health) -> list[Section]:
    """The tables of the report, the same in all formats."""
    splits = health.splits
    audio = {name: facts["audio"] for name, facts in splits.items() if "audio" in facts}
    parts = [
        Section(
            "The splits",
            [],
            ["split", "utterances", "hours", "speakers", "words", health.units["name"], "distinct texts", "unusable"],
            [
                [
                    name,
                    f"{facts['utterances']}",
                    f"{facts['hours']:.2f}",
                    f"{facts['speakers']}",
                    f"{facts['words']}",
                    f"{facts['units']}",
                    f"{facts['distinct texts']}",
                    f"{sum(facts['unusable'].values())}",
                ]
                for name, facts in splits.items()
            ],
        ),
        Section(
            "Between the splits",
            [RULES],
            ["splits", "speakers in both", "texts in both", f"of {LONG_TEXT} words or more"],
            [
                [pair, f"{shared['speakers']}", f"{shared['texts']}", f"{shared['long_texts']}"]
                for pair, shared in health.common.items()
            ],
        ),
        Section(
            "Durations and speech rate",
            [],
            ["quantity", "split", "least", "5 %", "median", "95 %", "most", "mean"],
            [
                [quantity, name, *(f"{value:.2f}" for value in facts[quantity].values())]
                for quantity in ("seconds", "words a second", "units a second")
                for name, facts in splits.items()
                if facts[quantity]
            ],
            ("seconds", "words a second", "units a second"),
        ),
    ]
    if audio:
        parts.append(
            Section(
                "Audio",
                [
                    "As stored on disk, before any resampling. Level: root mean square of an utterance, in dB relative to "
                    "full scale. Clipped and zero: shares of all samples at full scale and exactly zero."
                ],
                ["split", "rate in Hz", "channels", "level 5 %", "median", "95 %", "clipped", "zero", "largest offset"],
                [
                    [
                        name,
                        ", ".join(f"{rate} ({count})" for rate, count in facts["sample rates"].items()),
                        ", ".join(f"{number} ({count})" for number, count in facts["channels"].items()),
                        *(
                            f"{facts['level'][share]:.1f}" if facts["level"] else "–"
                            for share in ("5 %", "median", "95 %")
                        ),
                        f"{100 * facts['clipped samples']:.3f} %",
                        f"{100 * facts['zero samples']:.2f} %",
                        f"{facts['largest offset']:.4f}",
                    ]
                    for name, facts in audio.items()
                ],
                ("level in dB",),
            )
        )
    return parts


def found_rows(health: Health) -> list[list[str]]:
    """Severity, kind, splits, count and sentence of each finding."""
    return [
        [each.severity, each.kind, " and ".join(each.splits), f"{each.count} of {each.of}", each.sentence]
        for each in health.findings
    ]


FOUND = ["", "kind", "in", "how many", "what"]


def prints(health: Health, command: str) -> list[tuple[str, str]]:
    rows = [("command", command)] + [(f"fingerprint of the {kind}", mark) for kind, mark in health.fingerprints.items()]
    return [*rows, ("sample rate", f"{health.sample_rate} Hz"), ("audio", "not decoded" if health.quick else "decoded")]


def markdown(health: Health, command: str) -> str:
    lines = [f"# Data check of {plain_cell(health.corpus)}", "", f"**{plain_cell(health.sentence())}**", ""]
    lines += [f"- {name}: `{value}`" for name, value in prints(health, command)]
    lines += ["", "## What was found", ""]
    lines += (
        markdown_table(FOUND, found_rows(health)) if health.findings else ["Nothing that speaks against the corpus."]
    )
    for each in health.findings:
        if each.examples:
            where = f", {' and '.join(each.splits)}" if each.splits else ""
            lines += ["", f"### {each.kind.capitalize()}{where}", ""]
            lines += [f"- {plain_cell(example)}" for example in each.examples[:SHOWN]]
            if len(each.examples) > SHOWN:
                lines.append(f"- … and {len(each.examples) - SHOWN} more in findings.json")
    for section in sections(health):
        lines += ["", f"## {section.heading}", ""]
        for sentence in section.sentences:
            lines += [sentence, ""]
        lines += markdown_table(section.headers, section.rows)
        for quantity in section.charts:
            if quantity in health.histograms:
                lines += ["", *text_histogram(quantity, health.histograms[quantity])]
    return "\n".join(lines) + "\n"


def markdown_table(headers: list[str], rows: list[list[str]]) -> list[str]:
    cells = [[plain_cell(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in [headers, ["---"] * len(headers), *cells]]


def plain_cell(text: str) -> str:
    """Text on one line, escaped so that Markdown shows it as it is."""
    for sign in "\\`*_|<>[]#":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return " ".join(text.split())


def text_histogram(quantity: str, counts: dict[str, list]) -> list[str]:
    """A line of bars for each split, scaled to the split's largest one."""
    edges = counts["edges"]
    lines = [f"Histogram of {quantity}, from {edges[0]:.2f} to {edges[-1]:.2f}:", "", "```"]
    for name, values in counts.items():
        if name != "edges":
            most = max(max(values), 1)
            bars = "".join(BARS[-(-value * (len(BARS) - 1) // most)] if value else " " for value in values)
            lines.append(f"{name:>8} {bars.rstrip()}")
    return [*lines, "```"]


def html_page(health: Health, command: str) -> str:
    kind = "bad" if health.problems else "good"
    parts: list[tuple[str, Any]] = [("What was found", found_blocks(health))]
    for section in sections(health):
        charts = {quantity: health.histograms[quantity] for quantity in section.charts if quantity in health.histograms}
        blocks = [paragraph(sentence) for sentence in section.sentences] + [table(section.headers, section.rows)]
        parts.append((section.heading, blocks + ([figure(histograms(charts))] if charts else [])))
    parts.append(
        ("How this was made", [bullets([[f"{name}: ", code(value)] for name, value in prints(health, command)])])
    )
    headline, _, rest = health.sentence().partition(". ")
    lead = notice(kind, f"{headline.rstrip('.')}.", *([rest] if rest else []))
    return page(f"Data check of {health.corpus}", parts, lead)


def found_blocks(health: Health) -> list:
    if not health.findings:
        return [paragraph("Nothing that speaks against the corpus.")]
    rows = [
        [element("span", element("strong", first), class_="bad" if first == PROBLEM else "warning"), *rest]
        for first, *rest in found_rows(health)
    ]
    blocks = [table(FOUND, rows)]
    for each in health.findings:
        if each.examples:
            left = len(each.examples) - SHOWN
            more = [paragraph(f"… and {left} more in findings.json", quiet=True)] if left > 0 else []
            where = f", {' and '.join(each.splits)}" if each.splits else ""
            summary = f"{each.kind.capitalize()}{where}: {len(each.examples)} named"
            blocks.append(details(summary, bullets(each.examples[:SHOWN]), *more))
    return blocks


def histograms(charts: dict[str, dict[str, list]]):
    """A matplotlib figure: one panel per quantity, one outline per split, in percent of the split."""
    from matplotlib.figure import Figure

    from asr.evaluation.report.plots import COLOURS

    drawing = Figure(figsize=(4.2 * len(charts) + (2.0 if len(charts) == 1 else 0.0), 3.1), layout="constrained")
    all_axes = drawing.subplots(1, len(charts), squeeze=False)[0]
    for axes, (quantity, counts) in zip(all_axes, charts.items()):
        for (name, values), colour in zip(((k, v) for k, v in counts.items() if k != "edges"), COLOURS):
            shares = [100 * value / max(1, sum(values)) for value in values]
            axes.stairs(shares, counts["edges"], label=name, color=colour, linewidth=1.4)
            if name == "train":
                axes.stairs(shares, counts["edges"], fill=True, color=colour, alpha=0.18)
        axes.set_xlabel(quantity)
        axes.set_ylabel("% of the split")
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].legend(frameon=False)
    return drawing


def show(health: Health, folder: Path) -> None:
    """Prints the splits, the findings and the verdict."""
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    first = sections(health)[0]
    shown = Table(title=f"{health.corpus}, {health.sample_rate} Hz")
    for header in first.headers:
        shown.add_column(header, justify="left" if header == "split" else "right", overflow="fold")
    for row in first.rows:
        shown.add_row(*row)
    console.print(shown)
    for each in health.findings:
        example = f" Such as {each.examples[0]}" if each.examples else ""
        console.print(f"{'PROBLEM' if each.severity == PROBLEM else 'remark '}  {each.sentence}{example}")
    console.print(health.sentence())
    console.print(f"report.html, report.md and findings.json in {folder}")

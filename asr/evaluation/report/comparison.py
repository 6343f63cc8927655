"""A comparison of two evaluations as text for the terminal, Markdown and HTML."""

from __future__ import annotations

from pathlib import Path

from asr.evaluation.report.alignment import STYLE, alignment_block, legend
from asr.evaluation.report.page import code, element, notice, page, paragraph, table
from asr.runtime.files import write_together
from asr.scoring.alignment import align
from asr.scoring.comparison import Comparison
from asr.scoring.metric import from_line, rates_beside
from asr.scoring.reading import ReadEvaluation
from asr.scoring.text import percent

CHANGE_HEADERS = ["Utterance", "Speaker", "Reference length", "Errors in a", "Errors in b", "Change"]


def verdict(comparison: Comparison) -> str:
    """The result in one sentence."""
    c = comparison
    if not c.significant:
        return (
            f"No difference beyond chance: {points(c.difference)}, p = {p_text(c)}"
            f" (significance at {100 * (1 - c.confidence):g} %)."
        )
    return f"b makes {'fewer' if c.difference < 0 else 'more'} errors than a: {points(c.difference)}, p = {p_text(c)}."


def result_rows(comparison: Comparison, a: ReadEvaluation, b: ReadEvaluation) -> list[list[str]]:
    """The results as rows of name and value."""
    c, metric = comparison, str(a.scores.get("metric", "error rate")).upper()
    low, high = c.interval
    relative = f" ({100 * c.difference / c.rate_a:+.1f} % of a's)" if c.rate_a else ""
    return [
        ["a", str(a.folder)],
        ["b", str(b.folder)],
        [f"{metric} of a", percent(c.rate_a)],
        [f"{metric} of b", percent(c.rate_b)],
        *beside_rows(a, b),
        ["Difference, b − a", points(c.difference) + relative],
        [f"{100 * c.confidence:g} % interval", f"{points(low)} to {points(high)}"],
        ["Probability of improvement", f"{100 * c.improvement:.1f} %"],
        ["p-value, two-sided", p_text(c)],
        [
            "Utterances",
            f"{c.wins + c.losses + c.ties}: {c.wins} better in b, {c.losses} worse, {c.ties} with equally many errors",
        ],
        ["Resampled", f"{c.units} {c.unit}, {c.resamples} times ({c.reason})"],
    ]


def beside_rows(a: ReadEvaluation, b: ReadEvaluation) -> list[list[str]]:
    """Further error rates that both evaluations have; older evaluations have none."""
    of_a, of_b = rates_beside(a.scores), rates_beside(b.scores)
    return [
        [f"{name.upper()} of a, of b", f"{percent(of_a[name]['error_rate'])}, {percent(of_b[name]['error_rate'])}"]
        for name in of_a
        if name in of_b
    ]


def change_rows(comparison: Comparison, most: int) -> list[list[str]]:
    """The utterances whose number of errors changed most."""
    return [
        [
            one.utterance, one.speaker or "–", str(one.reference_length), str(one.errors), str(two.errors),
            f"{two.errors - one.errors:+d}".replace("-", "−"),
        ]
        for one, two in comparison.changes[:most]
    ]  # fmt: skip


def points(difference: float) -> str:
    """A difference of rates in percentage points, with its sign: −0.45 points."""
    return f"{100 * difference:+.2f} points".replace("-", "−") if difference else "0.00 points"


def p_text(comparison: Comparison) -> str:
    return f"{comparison.p_value:.4f}" if comparison.p_value >= 1e-4 else "< 0.0001"


def markdown(comparison: Comparison, a: ReadEvaluation, b: ReadEvaluation, command: str, most: int) -> str:
    def cell(text: str) -> str:
        return " ".join(text.split()).replace("|", "\\|")

    lines = ["# Comparison", "", verdict(comparison), "", f"    {command}", "", "| | |", "|---|---|"]
    lines += [f"| {cell(name)} | {cell(value)} |" for name, value in result_rows(comparison, a, b)]
    rows = change_rows(comparison, most)
    if rows:
        lines += ["", "## Utterances that changed the most", "", "| " + " | ".join(CHANGE_HEADERS) + " |"]
        lines += ["|" + "---|" * len(CHANGE_HEADERS)]
        lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def html(comparison: Comparison, a: ReadEvaluation, b: ReadEvaluation, command: str, most: int) -> str:
    c = comparison
    kind = "plain" if not c.significant else "good" if c.difference < 0 else "bad"
    about = (
        "The paired bootstrap of Bisani and Ney (2004): the same units are drawn with replacement from both evaluations, and "
        "the difference of the error rates is computed for each sample. The probability of improvement is the share of samples "
        "in which b makes fewer errors; the p-value is the share whose difference deviates from the observed one by at least "
        "as much as that one does from zero."
    )
    sections = [("Results", [table(["What", "Value"], result_rows(c, a, b)), paragraph(about, quiet=True)])]
    rows, metric = change_rows(c, most), str(a.scores.get("metric"))
    aligned = []
    for one, two in c.changes[:most]:
        aligned.append(element("h3", one.utterance))
        for name, utterance in (("a", one), ("b", two)):
            aligned.append(paragraph(f"{name}: {utterance.errors} errors in {utterance.reference_length}", quiet=True))
            sides = (from_line(side, metric) for side in (utterance.reference, utterance.hypothesis))
            aligned.append(alignment_block(align(*sides)))
    changed = [table(CHANGE_HEADERS, rows), legend(), *aligned] if rows else [paragraph("None changed.")]
    sections.append(("Utterances that changed the most", changed))
    return page("Comparison", sections, [notice(kind, verdict(c)), paragraph(code(command))], STYLE)


def write_comparison(
    folder: Path, comparison: Comparison, a: ReadEvaluation, b: ReadEvaluation, command: str, most: int
) -> list[Path]:
    """Writes `comparison.md` and `comparison.html` into `folder`, both or neither. Raises UserError if it cannot."""
    contents: dict[Path, str | bytes] = {
        folder / "comparison.md": markdown(comparison, a, b, command, most),
        folder / "comparison.html": html(comparison, a, b, command, most),
    }
    write_together(contents)
    return list(contents)

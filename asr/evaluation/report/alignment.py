"""Alignments in a page: the reference above the hypothesis, errors marked by colour, letter and typeface."""

from __future__ import annotations

from asr.evaluation.report.page import Html, element
from asr.scoring.alignment import Alignment, Operation
from asr.scoring.text import visible

MARKS = {"equal": None, "substitute": "S", "delete": "D", "insert": "I"}
NOTHING = "\N{MIDDLE DOT}"
LONGEST_TOKEN = 60

STYLE = """
.alignment { display: flex; flex-wrap: wrap; gap: .35rem .2rem; margin: .6rem 0; line-height: 1.25;
  font: .85rem/1.3 ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.alignment > span { display: inline-grid; grid-template-rows: 1.3em 1.3em 1.1em; text-align: center; padding: 0 .25em;
  border-radius: 3px; min-width: 1.4em; }
.alignment > span > * { font-style: normal; font-weight: normal; text-decoration: none; }
.alignment .S, .alignment .D, .alignment .I { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.alignment .S { background: color-mix(in srgb, #e69f00 28%, transparent); box-shadow: inset 0 -2px #e69f00; }
.alignment .D { background: color-mix(in srgb, #d55e00 28%, transparent); box-shadow: inset 0 -2px #d55e00; }
.alignment .I { background: color-mix(in srgb, #0072b2 30%, transparent); box-shadow: inset 0 -2px #0072b2; }
.alignment .S b, .alignment .I b { font-weight: bold; }
.alignment .D s { text-decoration: line-through; }
.alignment i { font-size: .75em; align-self: center; }
.alignment.legend { gap: .35rem; } .alignment.legend em { font-family: system-ui, sans-serif; margin-right: 1rem; }
""".lstrip()


def alignment_block(alignment: Alignment, most: int = 1000) -> Html:
    """The steps of an alignment, each a column of reference, hypothesis and a letter for its kind; at most `most`."""
    columns = [column(operation) for operation in alignment.operations[:most]]
    block = element("div", *columns, class_="alignment")
    missing = len(alignment.operations) - len(columns)
    if not missing:
        return block
    sentence = f"{missing} more tokens are left out here; alignments.txt has them all."
    return Html(block + element("p", sentence, class_="quiet"))


def column(operation: Operation) -> Html:
    mark = MARKS[operation.kind]
    reference, hypothesis = shown(operation.reference), shown(operation.hypothesis)
    if mark is None:
        return element("span", element("span", reference), element("span", hypothesis))
    above = element("s" if mark == "D" else "span", reference)
    below = element("span" if mark == "D" else "b", hypothesis)
    return element("span", above, below, element("i", mark), class_=mark)


def shown(token: str | None) -> str:
    if token is None:
        return NOTHING
    token = visible(token)
    return token if len(token) <= LONGEST_TOKEN else token[: LONGEST_TOKEN - 1] + "…"


def legend() -> Html:
    """A legend that looks like a block."""
    steps = [
        (Operation("equal", "right", "right"), "recognized"),
        (Operation("substitute", "said", "heard"), "substitution"),
        (Operation("delete", "said", None), "deletion"),
        (Operation("insert", None, "heard"), "insertion"),
    ]
    parts = [part for operation, name in steps for part in (column(operation), element("em", name))]
    return element("div", *parts, class_="alignment legend")

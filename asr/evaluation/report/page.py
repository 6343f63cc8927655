"""Self-contained HTML pages: style sheet and pictures inside, nothing fetched, all text escaped.

Plain values (str, number) are escaped everywhere; the functions of this module return `Html`, which is left as it is:

    page("Evaluation", [("Results", [paragraph("WER 3.1 %"), table(["speaker", "WER"], [["anna", "2.9"]])])])
"""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from asr.errors import UserError

STYLE = """
:root { color-scheme: light dark; --text: #1d2329; --quiet: #5d6975; --ground: #ffffff; --raised: #f4f6f8;
  --line: #d9dfe5; --accent: #0060a0; --good: #0b7a4b; --warning: #8a5a00; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ec; --quiet: #9aa7b3; --ground: #14181c; --raised: #1e242a;
  --line: #343d46; --accent: #6cb8f0; --good: #5ac896; --warning: #e3b04b; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 68rem; background: var(--ground); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.5rem 0 .75rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p, ul, ol { margin: .6rem 0; max-width: 48rem; }
a { color: var(--accent); }
.quiet { color: var(--quiet); font-size: .9rem; }
.box { overflow-x: auto; margin: .9rem 0; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; line-height: 1.4; }
caption { text-align: left; padding: .5rem .75rem; color: var(--quiet); }
th, td { text-align: left; vertical-align: top; padding: .4rem .75rem; border-bottom: 1px solid var(--line); }
th { background: var(--raised); font-weight: 600; white-space: nowrap; }
tbody tr:last-child td { border-bottom: 0; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code, pre { font: .875em/1.5 ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { background: var(--raised); padding: .1em .3em; border-radius: 3px; }
pre { background: var(--raised); padding: .75rem; border-radius: 6px; overflow-x: auto; }
figure { margin: 1rem 0; overflow-x: auto; }
figure svg, figure img { display: block; max-width: 100%; height: auto; }
figure svg text { fill: currentColor; }
figcaption { color: var(--quiet); font-size: .9rem; }
details { margin: .6rem 0; }
summary { cursor: pointer; }
.notice { border-left: 4px solid var(--accent); background: var(--raised); padding: .6rem .9rem; margin: .9rem 0;
  border-radius: 0 6px 6px 0; }
.notice p { margin: .25rem 0; }
.notice.good { border-color: var(--good); } .notice.warning { border-color: var(--warning); }
.notice.bad { border-color: var(--bad); }
.good > strong:first-child { color: var(--good); } .warning > strong:first-child { color: var(--warning); }
.bad > strong:first-child { color: var(--bad); }
@media print { body { max-width: none; } .box { overflow: visible; } }
""".strip()

# besides the escaping: makes browsers fetch and run nothing, whatever the page contains
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"

NUMBER = re.compile(r"[-−+±]?\d[\d.,   ]*( ?(%|dB|Hz|s|ms|min|h|MiB|GiB))?|–|—|")


class Html(str):
    """Finished markup, whose text is already escaped."""


def markup(value: Any) -> Html:
    """`value` as markup: Html unchanged, a list of values joined, anything else as escaped text."""
    if isinstance(value, Html):
        return value
    if isinstance(value, (list, tuple)):
        return Html("\n".join(map(markup, value)))
    return Html(html.escape("" if value is None else str(value)))


def element(name: str, *contents: Any, **attributes: Any) -> Html:
    """`<name …>contents</name>`, everything escaped; attributes that are Python keywords end in `_`: `class_`."""
    written = "".join(
        f' {key.rstrip("_")}="{html.escape(str(value))}"' for key, value in attributes.items() if value is not None
    )
    return Html(f"<{name}{written}>{''.join(map(markup, contents))}</{name}>")


def paragraph(*contents: Any, quiet: bool = False) -> Html:
    return element("p", *contents, class_="quiet" if quiet else None)


def code(text: Any) -> Html:
    return element("code", text)


def bullets(items: Iterable[Any]) -> Html:
    return element("ul", *(element("li", item) for item in items))


def notice(kind: str, headline: Any, *contents: Any) -> Html:
    """A box with what a reader should see first. kind: good, warning, bad or plain."""
    return element("div", element("strong", headline), *map(as_block, contents), class_=f"notice {kind}")


def details(summary: Any, *contents: Any) -> Html:
    """Contents that unfold below a summary."""
    return element("details", element("summary", summary), *map(as_block, contents))


def table(headers: Sequence[Any], rows: Iterable[Sequence[Any]], caption: Any = None) -> Html:
    """A table that scrolls sideways in its box; columns of numbers only are aligned right."""
    rows = [list(row) for row in rows]
    right = [
        bool(rows) and all(not isinstance(row[i], Html) and NUMBER.fullmatch(text_of(row[i])) for row in rows)
        for i in range(len(headers))
    ]
    classes = ["number" if number else None for number in right]
    head = element("tr", *(element("th", header, class_=name) for header, name in zip(headers, classes)))
    body = [element("tr", *(element("td", cell, class_=name) for cell, name in zip(row, classes))) for row in rows]
    title = [element("caption", caption)] if caption else []
    whole = element("table", *title, element("thead", head), element("tbody", *body))
    return element("div", whole, class_="box", tabindex=0)


def figure(picture: Any, caption: Any = None) -> Html:
    """An inline picture: a matplotlib figure, trusted SVG text, or the bytes of a PNG file."""
    if isinstance(picture, bytes):
        image = Html(f'<img alt="" src="data:image/png;base64,{base64.b64encode(picture).decode()}">')
    else:
        image = inline_svg(picture if isinstance(picture, str) else svg_of(picture))
    return element("figure", image, *([element("figcaption", caption)] if caption else []))


def page(title: str, sections: Iterable[tuple[str, Any]], lead: Any = (), style: str = "") -> str:
    """The whole page, as text to be written in UTF-8.

    sections: (heading, contents), with contents as `markup` takes them; plain text becomes a paragraph. lead: contents below the
    title, before the first section, such as the verdict. style: CSS to add to STYLE.
    """
    body = [element("h1", title), *map(as_block, as_list(lead))]
    for heading, contents in sections:
        body.append(element("section", element("h2", heading), *map(as_block, as_list(contents))))
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            str(element("title", title)),
            f"<style>\n{STYLE}\n{style}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def refuse_unwritable(folder: Path, setting: str) -> None:
    """Raises UserError if `folder` cannot be created or written into; touches nothing. setting: its key on the command line."""
    there = next(each for each in [folder.absolute(), *folder.absolute().parents] if each.exists())
    if not there.is_dir():
        raise UserError(f"{setting}={folder}: {there} is a file, not a folder: name another folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{setting}={folder}: {there} cannot be written into: name another folder.")


def as_list(contents: Any) -> list:
    return list(contents) if isinstance(contents, (list, tuple)) else [contents]


def as_block(contents: Any) -> Html:
    return contents if isinstance(contents, Html) else paragraph(contents)


def text_of(value: Any) -> str:
    return "" if value is None else str(value)


def svg_of(drawing: Any) -> str:
    """A matplotlib figure as SVG, with letters as text and a transparent background; always the same bytes."""
    import io

    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "asr", "font.family": "sans-serif"}):
        drawing.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return file.getvalue()


def inline_svg(svg: str) -> Html:
    """SVG text for use in a page: no prologue, no names of other sites, the page's text colour for black."""
    start = svg.find("<svg")
    if start < 0:
        raise ValueError("a picture is a matplotlib figure, the text of an SVG file or the bytes of a PNG file")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[start:], flags=re.S)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    # matplotlib numbers groups from 1 in every figure, so ids would repeat within a page
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    # the page's colours for the grid and the quiet letters of asr.evaluation.report.plots
    svg = re.sub(r"#e3e3e3\b", "var(--line)", svg)
    svg = re.sub(r"#666666\b", "var(--quiet)", svg)
    return Html(re.sub(r"#000000\b", "currentColor", svg).strip())

"""The reference of every setting, as Markdown made from `conf/` and its comments: python scripts/settings_reference.py

`mkdocs build` calls `reference()` (see scripts/site_pages.py), so the page cannot fall behind the files.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.config.comments import Setting, opening, settings_of  # noqa: E402
from asr.config.settings import CONF, default_choices, groups  # noqa: E402

PROGRAMS = {
    "train": "train.py",
    "evaluate": "evaluate.py",
    "transcribe": "transcribe.py",
    "cross_evaluate": "scripts/cross_evaluate.py",
    "tune_decoder": "scripts/tune_decoder.py",
    "align": "scripts/align.py",
    "check_data": "scripts/check_data.py",
}

INTRODUCTION = """# Every setting

This page is generated from the files in `conf/` and their comments each time the site is built.

A **group** is a folder of choices: `decoder=wfst` picks `conf/decoder/wfst.yaml`. A **setting** of a choice is reached through
its group: `decoder.beam=24`. The settings of a program and the knobs of attention stand alone: `clusters=200`. `???` marks a
setting that you must give. Where the column "may be" is empty, a setting takes any value of its default's kind, or any text if
its default is `null`. `python train.py --cfg job` prints the whole configuration that a command line composes.
"""


def about(text: str) -> str:
    """The comment that opens a YAML file, as Markdown: its lines that are indented are commands."""
    words, result = [line[1:] for line in opening(text)], []
    for line in words:
        command = line.startswith("   ")
        if command != (bool(result) and result[-1].startswith("    ")):
            result.append("")
        result.append("    " + line.strip() if command else line.strip())
    return "\n".join(result).strip("\n")


def table(settings: list[Setting], prefix: str = "") -> str:
    """Settings as a Markdown table; prefix: how the command line reaches them, such as `decoder.`."""
    if not settings:
        return ""
    rows = [
        f"| {code(prefix + one.key)} | {code(one.default)} | {cell(one.limit)} | {cell(one.comment)} |"
        for one in settings
    ]
    return "\n".join(["| setting | default | may be | |", "|---|---|---|---|", *rows, ""])


def code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def reference() -> str:
    """The whole page: the programs, the knobs, then every group with its choices."""
    parts = [INTRODUCTION]
    for name, program in PROGRAMS.items():
        text = (CONF / f"{name}.yaml").read_text(encoding="utf8")
        chosen = default_choices(name).items()
        defaults = ", ".join(f"[{group}](#{group})" + f" (`{choice}`)" for group, choice in chosen if group in groups())
        parts += [f"## `{program}`", about(text), f"Groups, with their defaults: {defaults}.", table(settings_of(text))]
    knobs = (CONF / "knobs.yaml").read_text(encoding="utf8")
    parts += ["## Knobs of attention", "Each is read by the attentions in parentheses.", table(settings_of(knobs))]
    for group, choices in groups().items():
        parts.append(f"## {group}")
        if group == "experiment":
            parts.append(experiments(choices))
            continue
        prefix = "" if group == "attention" else f"{group}."
        for choice in choices:
            text = (CONF / group / f"{choice}.yaml").read_text(encoding="utf8")
            own = [one for one in settings_of(text) if one.key != "name"]
            parts += [f"### `{group}={choice}`", about(text)]
            parts.append(knobs_read(own) if group == "attention" else table(own, prefix))
    return "\n\n".join(part for part in parts if part) + "\n"


def knobs_read(settings: list[Setting]) -> str:
    if not settings:
        return ""
    return "Reads the knobs " + ", ".join(f"`{one.key}`" for one in settings) + "."


def experiments(choices: list[str]) -> str:
    """One line an experiment: its name and the sentence that opens its file."""
    lines = ["An experiment sets several groups and settings at once; what you type beside it wins.", ""]
    for choice in choices:
        text = (CONF / "experiment" / f"{choice}.yaml").read_text(encoding="utf8")
        lines.append(f"- `experiment={choice}`: {cell(about(text).splitlines()[0])}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(reference())

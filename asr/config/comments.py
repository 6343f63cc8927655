"""The settings of a YAML file with their comments: what `--help`, the reference in the docs and the checks all read.

    key: value    # [what it may be] what it does
                  # on as many lines as it takes

The comment may stand above the key instead. The one that opens the file is about the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

SETTING = re.compile(r"^( *)([\w/]+):(?: +([^#]*?))?(?: *# (.*))?$")
LIMIT = re.compile(r"\[([^\]]+)\] *(.*)")
NOT_OURS = ("defaults", "hydra")  # Hydra's own blocks


class Setting(NamedTuple):
    """key: dotted, from the top of its file. default: as it is written there. limit: the words in brackets, or ""."""

    key: str
    default: str
    limit: str
    comment: str

    @property
    def value(self) -> Any:
        """The default as YAML reads it."""
        import yaml

        return yaml.load(self.default, yaml.CSafeLoader)

    @property
    def described(self) -> str:
        """The limit and the comment as the file has them."""
        return f"[{self.limit}] {self.comment}".rstrip() if self.limit else self.comment


def settings_of(text: str) -> list[Setting]:
    """The settings of a YAML file, parents before children.

    Lines of comment right above a setting belong to it, unless they open the file; lines that are indented further than any
    setting continue the comment before them.
    """
    found: list[Setting] = []
    parents: list[tuple[int, str]] = []
    above: list[str] = []
    in_block_of = None
    for line in body_of(text):
        if line.lstrip().startswith("#"):
            words = line.lstrip("# ").rstrip()
            if found and len(line) - len(line.lstrip()) > 10:
                found[-1] = found[-1]._replace(comment=f"{found[-1].comment} {words}")
            else:
                above.append(words)
            continue
        matched = SETTING.match(line)
        if matched is None:
            continue
        indent, key, value, beside = len(matched[1]), matched[2], (matched[3] or "").strip(), matched[4] or ""
        in_block_of = key if indent == 0 else in_block_of
        if in_block_of in NOT_OURS:
            above.clear()
            continue
        parents = [(deep, name) for deep, name in parents if deep < indent]
        found.append(Setting(".".join([*(name for _, name in parents), key]), value, *limit_and_comment(above, beside)))
        above.clear()
        parents.append((indent, key))
    return found


def limit_and_comment(above: list[str], beside: str) -> tuple[str, str]:
    """What opens the comment in brackets, and the rest. above: lines before the setting; beside: what follows its value."""
    if limited := LIMIT.fullmatch(beside):
        return limited[1], " ".join([*above, limited[2]]).strip()
    comment = " ".join([*above, beside]).strip()
    return (limited[1], limited[2]) if (limited := LIMIT.fullmatch(comment)) else ("", comment)


def opening(text: str) -> list[str]:
    """The lines of comment that open a YAML file, the one about its package left out."""
    lines = text.splitlines()
    length = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line for line in lines[:length] if not line.startswith("# @package")]


def summary(text: str) -> str:
    """The first line of the comment that opens a YAML file."""
    return next((line.lstrip("# ") for line in opening(text)), "")


def package_of(text: str) -> str | None:
    """The package that a YAML file names in its first line (`# @package _global_`); None if it names none.

    Hydra reads no package below another comment.
    """
    named = re.match(r"\s*# *@package +(\S+)", text)
    return named[1] if named else None


def body_of(text: str) -> Iterator[str]:
    """The lines of a YAML file behind the comment that opens it."""
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return iter(lines[start:])

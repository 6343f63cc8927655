"""A griffe extension for the API reference: the lines `queries: (batch, heads, time, dim)` of a docstring become a list."""

from __future__ import annotations

import re

import griffe

STARTS = re.compile(r"^(?:[a-z_]\w*)(?:(?:, | and )[a-z_]\w*)*: ")


class ArgumentLists(griffe.Extension):
    """Our docstrings are prose, and Markdown would join such lines into one paragraph."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = with_lists(obj.docstring.value)


def with_lists(docstring: str) -> str:
    """The docstring, with lines that begin with the name of an argument turned into list items."""
    result: list[str] = []
    in_list = False
    for line in docstring.splitlines():
        if STARTS.match(line):
            if not in_list:
                result.append("")
            names, _, rest = line.partition(": ")
            result.append(f"- **{names}**: {rest}")
            in_list = True
        elif in_list and line and not line.startswith(" ") and line[:1].isupper():
            result += ["", line]
            in_list = False
        else:
            result.append(f"    {line.strip()}" if in_list and line.strip() else line)
            in_list = in_list and bool(line.strip())
    return "\n".join(result)

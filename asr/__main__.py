"""One command for everything: `asr train …`, or `python -m asr train …`, does what `python train.py …` does in a checkout.

The subcommands are the files of `asr/programs`: a link there to a program makes it one.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import sys

from asr.errors import nearest
from asr.runtime.called import PROGRAMS, programs


def main() -> int:
    """Runs the program that the first argument names, and returns its exit code."""
    command = "python -m asr" if sys.argv[0].endswith("__main__.py") else "asr"
    first, *others = sys.argv[1:] or [""]
    if first in ("", "-h", "--help", "help"):
        print(help_text(command))
        return 0 if first else 2
    if first == "--version":
        print(version())
        return 0
    name = first.replace("-", "_")
    if name not in programs():
        print(f"{command}: There is no command {first!r}: {nearest(name, programs())}.", file=sys.stderr)
        return 2
    sys.argv = [f"{command} {name}", *others]
    program = importlib.import_module(f"asr.programs.{name}")
    if hasattr(program, "main"):
        return program.main(others)
    getattr(program, name)()
    return 0


def help_text(command: str) -> str:
    """Every subcommand with the first sentence of its file, read without importing it."""
    lines = [f"usage: {command} COMMAND [SETTING=VALUE …]", ""]
    for name in programs():
        about = ast.get_docstring(ast.parse((PROGRAMS / f"{name}.py").read_text(encoding="utf8"))) or ""
        lines.append(f"    {name:<16} {about.splitlines()[0].partition(':')[0]}")
    return "\n".join([*lines, "", f"{command} COMMAND --help lists the settings of a command."])


def version() -> str:
    try:
        return importlib.metadata.version("asr")
    except importlib.metadata.PackageNotFoundError:
        return "asr, from a checkout that is not installed"


if __name__ == "__main__":
    sys.exit(main())

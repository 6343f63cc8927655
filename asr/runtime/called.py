"""How this program was called, and how to call it, or another program, again.

In a checkout a program is a file, `python train.py`; where asr is installed it is a subcommand, `asr train` or
`python -m asr train`, and `asr.__main__` leaves these words in `sys.argv[0]`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
# the checkout that this code lies in; None if it was installed from a wheel
CHECKOUT = PROGRAMS.parents[1] if (PROGRAMS / "train.py").is_symlink() else None


def programs() -> list[str]:
    """The names of all programs: the files of `asr/programs`, which in a checkout link to the scripts that one runs."""
    return sorted(file.stem for file in PROGRAMS.glob("*.py") if file.stem != "__init__")


def subcommand() -> list[str] | None:
    """The words that called this program as a subcommand, such as `["asr", "train"]`; None if it was called as a file."""
    *command, name = sys.argv[0].split(" ")
    return [*command, name] if command in (["asr"], ["python", "-m", "asr"]) else None


def called() -> list[str]:
    """The words that call this program from here: `["python", "train.py"]` or `["asr", "train"]`."""
    if words := subcommand():
        return words
    program = Path(sys.argv[0])
    try:
        program = program.resolve().relative_to(Path.cwd())
    except ValueError:
        pass
    return ["python", str(program)]


def call_again() -> list[str]:
    """The command, without arguments, that runs this program in another process."""
    words = subcommand()
    return [sys.executable, *(["-m", "asr", words[-1]] if words else sys.argv[:1])]


def as_called(text: str) -> str:
    """A text with its commands as this installation has them: `python scripts/prepare.py` becomes `asr prepare` outside of a
    checkout, and for users who call `asr`."""
    words = subcommand()
    if words is None and CHECKOUT:
        return text
    command = " ".join(words[:-1] if words else ["asr"])
    names = "|".join(programs())
    return re.sub(rf"(?<![\w./-])(?:python )?(?:scripts/)?({names})\.py\b", rf"{command} \1", text)

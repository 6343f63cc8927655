"""Where a result comes from: the command that was typed, and the revision of the code that ran."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from asr.runtime.called import called


def command_line() -> str:
    """The command that was typed, to be typed again."""
    # a folder for one run cannot be used by its repetition
    return shlex.join([*called(), *(argument for argument in sys.argv[1:] if not argument.startswith("run="))])


def git_revision() -> str:
    """The revision of this code, with `-dirty` if the working tree has changes; `unknown` outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return described.stdout.strip() or "unknown"

"""Where a result comes from: the command that was typed and the revision of the code."""

from __future__ import annotations

import contextlib
import importlib.metadata
import shlex
import subprocess
import sys

from asr.runtime.called import CHECKOUT, called


def command_line() -> str:
    """The command that was typed, ready to be typed again."""
    # a repetition needs a folder of its own
    return shlex.join([*called(), *(argument for argument in sys.argv[1:] if not argument.startswith("run="))])


def git_revision() -> str:
    """The git revision of this code, with `-dirty` if the working tree has changes; outside of a checkout its version, such as
    `0.1.0 (installed)`; `unknown` if neither is known."""
    if CHECKOUT is None:
        # site-packages may lie in a repository of somebody else's code
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return f"{importlib.metadata.version('asr')} (installed)"
        return "unknown"
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return described.stdout.strip() or "unknown"

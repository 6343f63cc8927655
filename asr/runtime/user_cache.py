"""Files that only save time: written if possible, skipped otherwise.

A home folder may be read-only, full or missing, as in many containers. As nothing kept here is needed, a failure to write is only
a warning.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from asr.runtime.files import replacing

log = logging.getLogger(__name__)


def user_cache() -> Path | None:
    """`$XDG_CACHE_HOME/asr` or `~/.cache/asr`; None for a user without a home folder.

    A relative `$XDG_CACHE_HOME` is ignored, as the XDG Base Directory Specification demands.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    with contextlib.suppress(RuntimeError):
        return Path(given if os.path.isabs(given) else "~/.cache").expanduser() / "asr"
    return None


def keep(path: Path | None, write: Callable[[Path], None], what: str, advice: str = "") -> bool:
    """Has `write(temporary)` write a file beside `path`, renames it to `path`, and returns whether that worked.

    If not, nothing is left behind, and a warning gives the reason. write: raises OSError if it fails. what: as in "The search
    graph cannot be kept". advice: a sentence that follows.
    """
    if path is None:
        problem = "you have no home folder"
    else:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                write(temporary)
            return True
        except OSError as error:
            problem = f"{path} cannot be written ({error.strerror or error})"
    log.warning("%s", f"{what} cannot be kept: {problem}. {advice}".rstrip())
    return False

"""Files that only save time: kept where they can be written, skipped where they cannot.

A home folder may be read-only, full or missing, as in many containers. Nothing kept here is needed, so a failure to write it is
only a warning.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)


def user_cache() -> Path | None:
    """`$XDG_CACHE_HOME/asr`, or `~/.cache/asr`; None for a user without a home folder.

    A relative `$XDG_CACHE_HOME` is ignored, as the XDG Base Directory Specification asks for.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    with contextlib.suppress(RuntimeError):
        return Path(given if os.path.isabs(given) else "~/.cache").expanduser() / "asr"
    return None


def keep(path: Path | None, write: Callable[[Path], None], what: str, advice: str = "") -> bool:
    """Has `write(temporary)` write a file beside `path`, renames it to `path`, and returns whether that worked.

    If not, nothing is left behind and a warning says why. write: raises OSError if it cannot. what: as in "The search graph
    cannot be kept". advice: a sentence to follow it.
    """
    if path is None:
        problem = "you have no home folder"
    else:
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            os.replace(temporary, path)
            return True
        except OSError as error:
            problem = f"{path} cannot be written ({error.strerror or error})"
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    log.warning("%s", f"{what} cannot be kept: {problem}. {advice}".rstrip())
    return False

"""What users are told when their input is wrong: a sentence, never a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """A mistake in what the user gave: an option, a file, a field.

    The message is shown as it is: it says what is wrong, names the file or field, and ends with what to do.
    """


class TooLong(UserError):
    """Audio longer than the `longest` seconds allowed. seconds: a lower bound of its length."""

    def __init__(self, path: Path | str, seconds: float, longest: float):
        super().__init__(f"{path} is longer than {longest:g} s: {seconds:.0f} s. Cut it into utterances first.")
        self.seconds, self.longest = seconds, longest


class ArgumentError(UserError, ValueError):
    """An argument out of range: a user's mistake on the command line, a ValueError for callers from Python."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """A clause that helps with a misspelt name: the nearest of `choices`, and all of them if they are few."""
    choices = sorted({str(choice) for choice in choices})
    close = difflib.get_close_matches(str(name), choices, n=3, cutoff=0.5)
    close = close or [choice for choice in choices if len(str(name)) > 1 and choice.startswith(str(name))][:3]
    few = len(choices) <= 20
    if close:
        return f"did you mean {' or '.join(close)}" + (f"? (one of: {', '.join(choices)})" if few else "")
    return f"one of: {', '.join(choices)}" if few else "--help lists what there is"


def listed(items: Iterable[str], most: int = 10) -> str:
    """The first `most` names, separated by commas, and the number of further ones."""
    items = list(items)
    return ", ".join(items[:most]) + (f" and {len(items) - most:,} more" if len(items) > most else "")


class Stopped(Exception):
    """A signal asked the program to stop, and it has kept what it had. exit_code: 128 plus the signal's number."""

    def __init__(self, sentence: str, exit_code: int):
        super().__init__(sentence)
        self.exit_code = exit_code

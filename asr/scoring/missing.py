"""Parts of a reference without a hypothesis: counted as deletions, skipped, or refused.

sclite skips utterances that are missing in a trn file, and counts segments without a word in a CTM as deletions. We count
both as deletions by default: with skipping, an error rate improves the more is missing.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from asr.errors import UserError, listed, nearest

CHOICES = ("deletions", "skip", "error")
SHOWN = 5  # names in a note or a message


def check_choice(choice: str) -> None:
    """Raises UserError unless it is one of CHOICES."""
    if choice not in CHOICES:
        raise UserError(f"missing={choice} is not one of the choices: {nearest(choice, CHOICES)}.")


def refuse_missing(choice: str, names: Collection[str], what: str, hypothesis: Path | str) -> None:
    """Raises UserError if the choice is "error" and something is missing. what: the kind of thing, such as "utterance"."""
    if choice == "error" and names:
        raise UserError(
            f"{hypothesis} has no hypothesis for {shown(names, what)}. Recognize these too, or choose missing=deletions (their "
            "words count as deletions) or missing=skip (they are not scored)."
        )


def note_on_missing(choice: str, names: Collection[str], what: str, deletions: int) -> str:
    """A note on missing hypotheses. deletions: the number that they count as."""
    counted = f"counted as {deletions} deletions (missing=skip leaves them out)"
    return f"no hypothesis for {shown(names, what)}: {'not scored (missing=skip)' if choice == 'skip' else counted}."


def shown(names: Collection[str], what: str) -> str:
    return f"{len(names)} {what}{'s' * (len(names) != 1)} of the reference ({listed(names, SHOWN)})"

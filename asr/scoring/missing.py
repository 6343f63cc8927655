"""Parts of a reference without a hypothesis: counted as deletions, skipped, or refused.

sclite skips utterances that a trn file lacks, and counts segments that a CTM has no word for as deletions. We count both as
deletions unless told otherwise: skipping makes an error rate better the more is missing.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from asr.errors import UserError, listed, nearest

CHOICES = ("deletions", "skip", "error")
SHOWN = 5  # names that a note or a refusal gives


def check_choice(choice: str) -> None:
    """Raises UserError unless it is one of CHOICES."""
    if choice not in CHOICES:
        raise UserError(f"missing={choice}: {nearest(choice, CHOICES)}.")


def refuse_missing(choice: str, names: Collection[str], what: str, hypothesis: Path | str) -> None:
    """Raises UserError if the choice is "error" and something is missing. what: the kind of thing named, such as "utterance"."""
    if choice == "error" and names:
        raise UserError(
            f"{hypothesis} has no hypothesis for {shown(names, what)}. Recognize the rest too, or choose missing=deletions (all "
            "of its words count as deletions) or missing=skip (it is not scored)."
        )


def note_on_missing(choice: str, names: Collection[str], what: str, deletions: int) -> str:
    """A note on missing hypotheses. deletions: how many they were counted as."""
    counted = f"counted as {deletions} deletions (missing=skip leaves them out)"
    return f"no hypothesis for {shown(names, what)}: {'not scored (missing=skip)' if choice == 'skip' else counted}."


def shown(names: Collection[str], what: str) -> str:
    return f"{len(names)} {what}{'s' * (len(names) != 1)} of the reference ({listed(names, SHOWN)})"

"""Why audio cannot be used, in the same words for every corpus."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

MOST_NAMED = 5
# the reason for audio that no table names
NO_TRANSCRIPT = "audio without transcript"


def unusable_audio(path: Path | None, name: str, detail: str) -> str:
    """The reason why a file cannot be used: a kind ("missing", "empty" or "unreadable audio"), a colon, and what is wrong.

    path: where it should be; None if it was not found. name: what the corpus's own table calls it, which replaces the path
    in `detail`, a sentence.
    """
    detail = detail.rstrip(".")
    if path is None or not os.path.lexists(path):
        return f"missing audio: {detail}"
    kind = "empty audio" if os.path.isfile(path) and os.path.getsize(path) == 0 else "unreadable audio"
    return f"{kind}: {detail.replace(str(path), name)}"


def kind_of(reason: str) -> str:
    """A reason without the details after its colon."""
    return reason.partition(":")[0]


def kinds_of(dropped: Iterable[tuple[str, str]]) -> Counter[str]:
    """The number of dropped utterances by kind of reason."""
    return Counter(kind_of(reason) for _, reason in dropped)


def reasons_of(dropped: Iterable[tuple[str, str]]) -> str:
    """The kinds of reasons with their counts: "2 × missing audio; 1 × empty audio"."""
    return "; ".join(f"{count} × {kind}" for kind, count in kinds_of(dropped).most_common())


def first_ones(dropped: Sequence[tuple[str, str]]) -> list[str]:
    """Lines that name the first few with their reasons and count the rest."""
    named = [f"  {utterance}: {reason}" for utterance, reason in dropped[:MOST_NAMED]]
    return named + ([f"  and {len(dropped) - MOST_NAMED} more"] if len(dropped) > MOST_NAMED else [])


def nothing_usable(what: str, dropped: Sequence[tuple[str, str]]) -> str:
    """A message for when no utterance is left. what: such as "transcripts.tsv names". dropped: (utterance, reason)."""
    count = f"{what} {len(dropped)} audio files, and none of them can be used"
    return "\n".join([f"{count} ({reasons_of(dropped)}):", *first_ones(dropped), "Repair or replace them."])

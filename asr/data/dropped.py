"""One rule for unusable utterances: count them, name them, and refuse more of them than a setting allows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from asr.data.corpora import Corpus
from asr.data.corpora.preparing.unusable import first_ones, reasons_of
from asr.errors import UserError


def refuse_many(
    dropped: Sequence[tuple[str, str]],
    used: int,
    what: str,
    share: float,
    setting: str,
    prepared_in: Path | None = None,
) -> None:
    """Raises UserError if more than a `share` of the utterances is dropped, or none is left.

    dropped: (utterance, reason). used: number of usable ones. what: what to call them all, such as "utterances of the
    train split". setting: the key that sets the share. prepared_in: as in `Corpus`.
    """
    total = used + len(dropped)
    if not dropped or (used and len(dropped) <= share * total):
        return
    remedy = "Fix them"
    if prepared_in is not None:
        remedy += f" and remove {prepared_in}, so that the corpus is prepared again"
    remedy += f"; or raise {setting} to continue without them." if used else "."
    allowed = f", more than {setting}={share:g} allows" if used else ""
    headline = f"{len(dropped)} of the {total} {what} cannot be used ({reasons_of(dropped)}){allowed}:"
    raise UserError("\n".join([headline, *first_ones(dropped), remedy]))


def refuse_unusable(corpus: Corpus, splits: Iterable[str], share: float, setting: str) -> None:
    """Raises UserError if preparing the corpus dropped too many utterances of one of these splits.

    Utterances dropped before they had a split count against the whole corpus. `asr.data.checks.refuse_if_many` counts
    again once the prepared utterances have been checked.
    """
    for name in splits:
        split = corpus.split_called(name)
        what = f"utterances of the {name} split"
        refuse_many(corpus.dropped_of(split), len(corpus.splits[split]), what, share, setting, corpus.prepared_in)
    used = len({cut.id for cuts in corpus.splits.values() for cut in cuts}) if corpus.dropped_of(None) else 0
    what = f"utterances of the corpus {corpus.name}"
    refuse_many(corpus.dropped_of(None), used, what, share, setting, corpus.prepared_in)

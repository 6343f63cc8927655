"""One rule for what cannot be used: it is named and counted, and refused above the share that a setting allows."""

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
    """Raises UserError if more than a `share` of some utterances is dropped, or none is left.

    dropped: (utterance, reason). used: how many others there are. what: names all of them, such as "utterances of the train
    split". setting: the key by which the user sets the share. prepared_in: as in `Corpus`.
    """
    total = used + len(dropped)
    if not dropped or (used and len(dropped) <= share * total):
        return
    remedy = "Fix them"
    if prepared_in is not None:
        remedy += f" and remove {prepared_in}, so that the corpus is prepared anew"
    remedy += f"; or set {setting} higher to go on without them." if used else "."
    allowed = f", more than {setting}={share:g} allows" if used else ""
    headline = f"{len(dropped)} of the {total} {what} cannot be used ({reasons_of(dropped)}){allowed}:"
    raise UserError("\n".join([headline, *first_ones(dropped), remedy]))


def refuse_unusable(corpus: Corpus, splits: Iterable[str], share: float, setting: str) -> None:
    """Raises UserError if preparing the corpus dropped too many utterances of one of these splits.

    What was dropped from no known split counts against the whole corpus. `asr.data.checks.refuse_if_many` counts again after the
    prepared utterances have been checked, too.
    """
    for name in splits:
        split = corpus.split_called(name)
        what = f"utterances of the {name} split"
        refuse_many(corpus.dropped_of(split), len(corpus.splits[split]), what, share, setting, corpus.prepared_in)
    used = len({cut.id for cuts in corpus.splits.values() for cut in cuts}) if corpus.dropped_of(None) else 0
    what = f"utterances of the corpus {corpus.name}"
    refuse_many(corpus.dropped_of(None), used, what, share, setting, corpus.prepared_in)

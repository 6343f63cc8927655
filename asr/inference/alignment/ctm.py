"""CTM files of aligned words: FILE CHANNEL START DURATION WORD CONFIDENCE, the form that NIST's tools read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from asr.inference.alignment import Timed
from asr.scoring.nist.ctm import TimedWord, ctm_text


def ctm(name: str, items: Sequence[Timed], channel: str = "1") -> str:
    """The lines of one recording. name: as `in_one_field` makes it. channel: the side of a conversation, as an STM calls it."""
    name = in_one_field(name)
    return ctm_text(
        (
            TimedWord(name, channel, item.start, item.end - item.start, item.text, (f"{item.confidence:.4f}",))
            for item in items
        ),
        decimals=4,
    )


def in_one_field(name: str) -> str:
    """A name without the spaces that would end its field: underscores stand for them."""
    return re.sub(r"\s+", "_", name) or "_"

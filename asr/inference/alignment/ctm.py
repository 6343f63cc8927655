"""CTM files of aligned words: FILE CHANNEL START DURATION WORD CONFIDENCE, as NIST's tools read them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from asr.inference.alignment import Timed
from asr.scoring.nist.ctm import TimedWord, ctm_text


def ctm(name: str, items: Sequence[Timed], channel: str = "1") -> str:
    """The lines of one recording. name: as `in_one_field` returns it. channel: its name in the STM."""
    name = in_one_field(name)
    return ctm_text(
        (
            TimedWord(name, channel, item.start, item.end - item.start, item.text, (f"{item.confidence:.4f}",))
            for item in items
        ),
        decimals=4,
    )


def in_one_field(name: str) -> str:
    """A name with underscores for white space, which would end its field."""
    return re.sub(r"\s+", "_", name) or "_"

"""CTM files of aligned words: FILE CHANNEL START DURATION WORD CONFIDENCE, the form that NIST's tools read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from asr.alignment import Timed
from asr.scoring.ctm import TimedWord, ctm_text

CHANNEL = "1"


def ctm(name: str, items: Sequence[Timed]) -> str:
    """The lines of one recording; spaces in its name, which end a field, become underscores."""
    name = re.sub(r"\s+", "_", name) or "_"
    return ctm_text(
        (
            TimedWord(name, CHANNEL, item.start, item.end - item.start, item.text, (f"{item.confidence:.4f}",))
            for item in items
        ),
        decimals=4,
    )

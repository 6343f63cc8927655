"""Audio files of any length → what was said in them, when, and how sure that is.

`inputs` finds the files, `audio` decodes them block by block, `pauses` finds where they pause, `windows` cuts them there or
into pieces that overlap, `joining` puts the emissions of these together again, `segments` cuts them where they are too long to be
decoded at once, `recording` decodes and times them, `formats` and `subtitles` write them down; `request` holds what was asked
for, `remarks` says what may be wrong with a recording, and `files` runs it all.
"""

from __future__ import annotations

import dataclasses

from asr.inference.alignment import Timed


@dataclasses.dataclass(frozen=True)
class Transcript:
    """What was said in one recording.

    name: what the user called it. seconds: its length. kind: what the items are, "words", or "phonemes" where neither the
    decoder nor the units know words. items: with their times, in order. segments: the positions in `items` before which a new
    segment begins; segments end at pauses. recording, channel: what a CTM calls it and the side of it that was heard, "1" for
    the mean of several; by default the name without folder and ending.
    skipped_seconds: of long pauses, in which nothing was looked for.
    """

    name: str
    seconds: float
    kind: str
    items: list[Timed]
    segments: list[int] = dataclasses.field(default_factory=list)
    recording: str | None = None
    channel: str = "1"
    skipped_seconds: float = 0.0

    @property
    def text(self) -> str:
        return " ".join(item.text for item in self.items)

    @property
    def words(self) -> list[Timed]:
        """The items under the name that one looks for; phonemes where `kind` says so."""
        return self.items

    @property
    def confidence(self) -> float | None:
        """The mean confidence of the items, 0..1; None where there are none."""
        return sum(item.confidence for item in self.items) / len(self.items) if self.items else None

    def segment_items(self) -> list[list[Timed]]:
        """The items of each segment; segments without any are left out."""
        borders = [0, *self.segments, len(self.items)]
        return [self.items[start:end] for start, end in zip(borders, borders[1:]) if end > start]

"""Transcription of audio files of any length: words, times and confidences.

`inputs` finds the files, `asr.audio.streaming` decodes them block by block, `pauses` finds their pauses, `windows` cuts them
there or into overlapping pieces, `joining` joins the emissions of these, `segments` cuts emissions too long to be decoded at
once, `recording` decodes and times them, `formats` and `subtitles` write them out; `request` holds the settings, `remarks`
warns about recordings, `transcriber` holds model and decoder, and `files` runs it all.
"""

from __future__ import annotations

import dataclasses

from asr.inference.alignment import Timed


@dataclasses.dataclass(frozen=True)
class Transcript:
    """What was said in one recording.

    name: what the user called it. seconds: its length. kind: what the items are: "words", or "phonemes" if neither the decoder
    nor the units know words. items: with their times, in order. segments: the positions in `items` at which a new segment
    begins; segments end at pauses. recording, channel: its name and channel in a CTM; by default the name without folder and
    suffix, and "1", which also is the mean of several channels. skipped_seconds: of long pauses, which were not recognized.
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
        """Alias of `items`; phonemes if `kind` says so."""
        return self.items

    @property
    def confidence(self) -> float | None:
        """The mean confidence of the items, 0..1; None if there are none."""
        return sum(item.confidence for item in self.items) / len(self.items) if self.items else None

    def segment_items(self) -> list[list[Timed]]:
        """The items of each segment, without empty segments."""
        borders = [0, *self.segments, len(self.items)]
        return [self.items[start:end] for start, end in zip(borders, borders[1:]) if end > start]

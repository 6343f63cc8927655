"""What is said of recordings that can be recognized, but perhaps not well."""

from __future__ import annotations

import math

from asr.inference.transcription.inputs import Source
from asr.inference.transcription.show import Bar, complain


class Remarks:
    """Sentences on standard error while recordings are read. sample_rate: of the model, in Hz."""

    def __init__(self, sample_rate: int, bar: Bar):
        self.sample_rate, self.bar = sample_rate, bar
        self.narrow_files = 0

    def say(self, sentence: str) -> None:
        with self.bar.hidden():
            complain(sentence)

    def mixed(self, source: Source, channels: int) -> None:
        """Says that a recording's channels are mixed."""
        self.say(f"{source.in_sentences} has {channels} channels, whose mean is heard; channel=1 takes one.")

    def cancelled(self, source: Source, decibels: float, channel: int) -> None:
        """Says that a recording's channels cancel each other in their mean."""
        self.say(
            f"{source.in_sentences}: the mean of its channels is "
            + ("silent" if math.isinf(decibels) else f"{decibels:.0f} dB quieter than channel {channel}")
            + ", so that little may be heard: they cancel each other, as channels of opposite phase do. "
            f"channel={channel} takes one."
        )

    def narrow(self, source: Source, rate: int) -> None:
        """Says of the first recording with a lower sample rate than the model's what that means; the others are counted."""
        self.narrow_files += 1
        if self.narrow_files == 1:
            self.say(
                f"{source.in_sentences} has {rate} Hz, the model hears {self.sample_rate} Hz: what is above {rate / 2:g} Hz is "
                "missing, expect more errors."
            )

    def count(self) -> None:
        """Says at the end how many recordings were like one that was named."""
        others = self.narrow_files - 1
        if others > 0:
            self.say(f"{others} more {'file has' if others == 1 else 'files have'} fewer than {self.sample_rate} Hz.")

    def unheard(self, source: Source) -> None:
        """Says that a transcript is empty."""
        self.say(f"Nothing was recognized in {source.in_sentences}.")

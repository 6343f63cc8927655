"""Warnings about recordings that may be recognized poorly."""

from __future__ import annotations

import math
from collections.abc import Callable

from asr.inference.transcription.inputs import Source


class Remarks:
    """Warns while recordings are read. sample_rate: of the model, in Hz. say: shows a sentence to the user."""

    def __init__(self, sample_rate: int, say: Callable[[str], None]):
        self.sample_rate, self.say = sample_rate, say
        self.narrow_files = 0

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

    def too_long(self, source: Source, seconds: float) -> None:
        """Says that a recording is longer than the `seconds` that memory has room for in one pass."""
        self.say(
            f"{source.name} is too long for one pass in the memory that is free: more than {seconds:.0f} s. It is recognized in "
            "windows."
        )

    def unheard(self, source: Source) -> None:
        """Says that a transcript is empty."""
        self.say(f"Nothing was recognized in {source.in_sentences}.")

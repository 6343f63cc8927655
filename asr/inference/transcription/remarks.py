"""Warnings about recordings that may be recognized poorly."""

from __future__ import annotations

import math
from collections.abc import Callable

from asr.inference.transcription.inputs import Source


class Remarks:
    """Warns while recordings are read. sample_rate: the model's, in Hz. say: shows a sentence to the user."""

    def __init__(self, sample_rate: int, say: Callable[[str], None]):
        self.sample_rate, self.say = sample_rate, say
        self.narrow_files = 0

    def mixed(self, source: Source, channels: int) -> None:
        """Warns that a recording's channels are mixed."""
        self.say(f"{source.in_sentences} has {channels} channels, whose mean is used; channel=1 uses the first.")

    def cancelled(self, source: Source, decibels: float, channel: int) -> None:
        """Warns that a recording's channels cancel each other in their mean."""
        self.say(
            f"{source.in_sentences}: the mean of its channels is "
            + ("silent" if math.isinf(decibels) else f"{decibels:.0f} dB quieter than channel {channel}")
            + ", so that little may be recognized: they cancel each other, as channels of opposite phase do. "
            f"channel={channel} uses that one alone."
        )

    def narrow(self, source: Source, rate: int) -> None:
        """Warns of the first recording with a lower sample rate than the model's, and counts the others."""
        self.narrow_files += 1
        if self.narrow_files == 1:
            self.say(
                f"{source.in_sentences} has {rate} Hz, and the model was trained at {self.sample_rate} Hz: it has nothing above "
                f"{rate / 2:g} Hz, so expect more errors."
            )

    def count(self) -> None:
        """Says at the end how many more recordings have a lower sample rate."""
        others = self.narrow_files - 1
        if others > 0:
            self.say(f"{others} more {'file has' if others == 1 else 'files have'} fewer than {self.sample_rate} Hz.")

    def too_long(self, source: Source, seconds: float) -> None:
        """Warns that a recording is longer than the `seconds` that fit into memory in one pass."""
        self.say(
            f"{source.name} is too long for one pass in the free memory: more than {seconds:.0f} s. It is recognized in windows."
        )

    def unheard(self, source: Source) -> None:
        """Warns that a transcript is empty."""
        self.say(f"Nothing was recognized in {source.in_sentences}.")

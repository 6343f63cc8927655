"""Audio players inside a page: FLAC in data: URIs, within a budget."""

from __future__ import annotations

import base64

from asr.audio.writing import flac
from asr.evaluation.report.page import Html, element


class AudioBudget:
    """Makes players until the page's bytes for audio are spent.

    bytes: of FLAC in total. seconds: embedded of one utterance at most. left_out: a sentence for each utterance that is missing
    or shortened.
    """

    def __init__(self, bytes: int = 4_000_000, seconds: float = 30.0):
        self.bytes, self.seconds = bytes, seconds
        self.left_out: list[str] = []

    def player(self, utterance: str, waveform, sample_rate: int) -> Html:
        """A player of `waveform`, (samples,) float32 in [-1, 1), or a sentence instead once the budget is spent.

        A long utterance is cut to its first `seconds`, with a sentence that says so. sample_rate: Hz.
        """
        total = len(waveform) / sample_rate
        encoded = flac(waveform[: int(self.seconds * sample_rate)], sample_rate)
        if len(encoded) > self.bytes:
            self.left_out.append(f"{utterance}: its audio is left out, because the page has reached its size limit.")
            return element("p", self.left_out[-1], class_="quiet")
        self.bytes -= len(encoded)
        source = f"data:audio/flac;base64,{base64.b64encode(encoded).decode()}"
        player = element("audio", controls="", preload="metadata", src=source)
        if total <= self.seconds:
            return player
        self.left_out.append(f"{utterance}: the first {self.seconds:g} s of {total:.1f} s can be played.")
        return Html(player + element("p", self.left_out[-1], class_="quiet"))

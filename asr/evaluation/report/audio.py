"""Audio inside a page: FLAC in a data: URI, within a budget."""

from __future__ import annotations

import base64
import io

from asr.evaluation.report.page import Html, element


class AudioBudget:
    """Hands out players until the bytes that a page may spend on audio are spent.

    bytes: of FLAC in all. seconds: the longest that is embedded of one utterance. left_out: a sentence for each
    utterance that is not there whole.
    """

    def __init__(self, bytes: int = 4_000_000, seconds: float = 30.0):
        self.bytes, self.seconds = bytes, seconds
        self.left_out: list[str] = []

    def player(self, utterance: str, waveform, sample_rate: int) -> Html:
        """A player of `waveform`, (samples,) float32 in [-1, 1); a sentence instead of it when the budget is spent.

        A long utterance is cut to its first `seconds`, and says so.
        """
        total = len(waveform) / sample_rate
        encoded = flac(waveform[: int(self.seconds * sample_rate)], sample_rate)
        if len(encoded) > self.bytes:
            self.left_out.append(f"{utterance}: its audio is left out, since the page has all that it may hold.")
            return element("p", self.left_out[-1], class_="quiet")
        self.bytes -= len(encoded)
        source = f"data:audio/flac;base64,{base64.b64encode(encoded).decode()}"
        player = element("audio", controls="", preload="metadata", src=source)
        if total <= self.seconds:
            return player
        self.left_out.append(f"{utterance}: the first {self.seconds:g} s of {total:.1f} s can be played.")
        return Html(player + element("p", self.left_out[-1], class_="quiet"))


def flac(waveform, sample_rate: int) -> bytes:
    """A FLAC file, 16 bits a sample. waveform: (samples,) float32; what lies beyond [-1, 1) is clipped."""
    import numpy
    import soundfile

    samples = numpy.clip(numpy.asarray(waveform, dtype=numpy.float64) * 32768, -32768, 32767).round().astype("int16")
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()

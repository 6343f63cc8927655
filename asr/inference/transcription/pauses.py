"""Finds the pauses of a recording by its level, and chooses which ones to cut in; streaming, a stretch of audio at a time.

Pieces that begin and end in pauses look to the model like the utterances of training. Levels are compared with those around
them, so neither the gain of a recording nor its steady noise matters.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy
from numpy import ndarray

STRETCH_SECONDS = 30.0  # of audio that define low and high levels
BAND = 150.0, 4000.0  # Hz: the band of speech, above hum and below hiss
SMOOTHED_SECONDS = 0.05
LOUD, QUIET = 95, 5  # percentiles of a stretch: its speech and its noise level
DEEPEST = 45.0  # dB below speech: anything quieter, such as digital silence, counts as this quiet
LEAST_RANGE = 6.0  # dB between noise and speech; with less, pauses cannot be told from speech
ABOVE_NOISE = 0.3  # of that range: levels below this are pauses,
ABOVE_NOISE_DB = 3.0, 10.0  # but at least and at most this many dB above the noise
EDGE_SECONDS = 0.5  # kept of either end of a skipped pause

# Costs for choosing among pauses, tuned on dev of the built-in corpus. A piece costs 1, which a pause of 0.25 s at its end pays.
PAID_PER_SECOND = 4.0
PAID_SECONDS = 0.5  # longer pauses pay no more: they end a sentence or a turn anyway
SHORT, LONG = (
    0.3,
    0.8,
)  # shares of the longest piece: shorter and longer ones cost more, by the square of the difference
SHORT_COST, LONG_COST = 50.0, 10.0  # for a difference of 1
NO_PAUSE = 1000.0  # the cost of a longest piece's length without any pause


@dataclasses.dataclass(frozen=True)
class Pause:
    """first, end: frames; `end` is exclusive."""

    first: int
    end: int


def levels_of(samples: ndarray, frame: int, hop: int, sample_rate: int) -> ndarray:
    """(frames,) float32: the level in dB of each whole frame of (samples,) float32, between 150 and 4000 Hz."""
    if len(samples) < frame:
        return numpy.zeros(0, numpy.float32)
    frames = numpy.lib.stride_tricks.sliding_window_view(samples, frame)[::hop]
    low, high = (round(hertz * frame / sample_rate) for hertz in BAND)
    power = numpy.empty(len(frames), numpy.float32)
    for start in range(0, len(frames), 1000):
        spectra = numpy.fft.rfft(frames[start : start + 1000] * numpy.hanning(frame).astype(numpy.float32))
        power[start : start + 1000] = numpy.square(numpy.abs(spectra[:, low : high + 1])).mean(axis=1)
    return 10.0 * numpy.log10(power / frame + 1e-10)


class Levels:
    """The levels of a recording whose samples come in blocks, as far back as they are still needed."""

    def __init__(self, frame: int, hop: int, sample_rate: int):
        self.frame, self.hop, self.sample_rate = frame, hop, sample_rate
        self.waiting = numpy.zeros(0, numpy.float32)
        self.blocks: list[ndarray] = []
        self.first = self.end = 0

    def add(self, block: ndarray) -> None:
        samples = numpy.concatenate([self.waiting, block])
        found = levels_of(samples, self.frame, self.hop, self.sample_rate)
        self.waiting = samples[len(found) * self.hop :].copy()
        self.blocks.append(found)
        self.end += len(found)

    def between(self, first: int, end: int) -> ndarray:
        """The available levels of frames first..end - 1. Frees those before `first`."""
        kept = numpy.concatenate([numpy.zeros(0, numpy.float32), *self.blocks])[max(0, first - self.first) :]
        self.blocks, self.first = [kept], max(first, self.first)
        return kept[: max(0, end - self.first)]


def smooth(levels: ndarray, frames: int) -> ndarray:
    """Running mean over `frames` levels, in dB; returns the shape of `levels`."""
    frames = max(1, frames)
    padded = numpy.pad(levels, (frames // 2, frames - 1 - frames // 2), mode="edge")
    return numpy.convolve(padded, numpy.full(frames, 1 / frames), "valid")


def quiet_below(levels: ndarray) -> float | None:
    """The threshold in dB below which these levels are quiet; None if noise and speech cannot be told apart."""
    if not len(levels):
        return None
    noise, speech = numpy.percentile(levels, [QUIET, LOUD])
    noise = max(noise, speech - DEEPEST)
    if speech - noise < LEAST_RANGE:
        return None
    least, most = ABOVE_NOISE_DB
    return float(noise + min(most, max(least, ABOVE_NOISE * (speech - noise))))


def find_pauses(levels: ndarray, below: float, shortest: int) -> list[Pause]:
    """The runs of at least `shortest` frames with levels below the threshold."""
    edges = numpy.diff((levels < below).astype(numpy.int8), prepend=0, append=0)
    runs = zip((edges == 1).nonzero()[0].tolist(), (edges == -1).nonzero()[0].tolist())
    return [Pause(first, end) for first, end in runs if end - first >= shortest]


@dataclasses.dataclass(frozen=True)
class Cut:
    """at: the frame to cut before. quiet: frames on either side that still belong to the pause. pays: the discount on a piece
    that ends here. skip: frames of a long pause that belong to no piece."""

    at: int
    quiet: int
    pays: float
    skip: int = 0


def cuts_in(
    pauses: Sequence[Pause], end: int, earliest: int, frames_per_second: float, skipped: float = math.inf
) -> list[Cut]:
    """Possible cuts: in the middle of a pause, or near both ends of a long one, whose middle is skipped.

    pauses: in frames from where the piece begins. end: frames known so far. earliest: the first frame allowed. skipped: pauses
    longer than this many seconds are long.
    """
    found, edge = [], round(EDGE_SECONDS * frames_per_second)
    for pause in pauses:
        length = pause.end - pause.first
        pays = PAID_PER_SECOND * min(PAID_SECONDS, length / frames_per_second)
        if length > skipped * frames_per_second:
            at = max(pause.first + edge, earliest)
            if at < pause.end - edge:
                found.append(Cut(at, min(edge, at - pause.first), pays, pause.end - edge - at))
        elif pause.first > 0 and pause.end < end and pause.first + length // 2 >= earliest:
            found.append(Cut(pause.first + length // 2, length // 2, pays))
    return found


def choose_cuts(cuts: Sequence[Cut], end: int, longest: int, ends: bool) -> list[Cut | None]:
    """The subset of `cuts`, in order, that makes the cheapest pieces of 0 … `end`; None marks the end.

    A piece costs 1, more if it is much shorter or only a little shorter than `longest`, and far more if it is longer, which
    happens only where there is no pause. ends: whether the recording ends at `end`; otherwise the last piece continues. All in
    frames.
    """
    places = [0, *(cut.at for cut in cuts), end]
    begins = [0, *(cut.at + cut.skip for cut in cuts)]
    cheapest, came_from = [0.0], [0]
    for number in range(1, len(places)):
        continues = number == len(places) - 1 and not ends
        best = (float("inf"), 0)
        for earlier in range(number - 1, -1, -1):
            length = (places[number] - begins[earlier]) / longest
            best = min(best, (cheapest[earlier] + cost_of(length, continues), earlier))
            if length > 1:
                break
        pays = cuts[number - 1].pays if number <= len(cuts) else 0.0
        cheapest.append(best[0] - pays)
        came_from.append(best[1])
    path, number = [], len(places) - 1
    while number:
        path.append(cuts[number - 1] if number <= len(cuts) else None)
        number = came_from[number]
    return path[::-1]


def cost_of(length: float, continues: bool) -> float:
    """length: of the piece, as a share of the longest. continues: whether it is still incomplete."""
    if length > 1:
        return NO_PAUSE * length
    short = 0.0 if continues else max(0.0, SHORT - length)
    return 1.0 + SHORT_COST * short**2 + LONG_COST * max(0.0, length - LONG) ** 2

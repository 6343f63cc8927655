"""One recording being recognized: its windows' emissions go in, a transcript comes out."""

from __future__ import annotations

import bisect
import dataclasses
import itertools

import torch
from torch import Tensor

from asr.inference.alignment import Span
from asr.inference.alignment.hypothesis import read_hypothesis
from asr.inference.alignment.timing import Timing, timed
from asr.inference.alignment.words import Spelling, group, spelled
from asr.inference.decoders import Decoder
from asr.inference.transcription import Transcript
from asr.inference.transcription.joining import Joiner
from asr.inference.transcription.segments import Segmenter
from asr.inference.transcription.windows import Window
from asr.model.topologies.base import Topology
from asr.text.units import Units
from asr.text.units.phonemes import SILENCE


@dataclasses.dataclass(frozen=True)
class Reader:
    """What turns emissions into words. overlap: of windows, in emissions. longest: of a segment, in emissions."""

    units: Units
    topology: Topology
    decoder: Decoder
    timing: Timing
    overlap: int
    longest: int


class Recording:
    """Joins overlapping windows, cuts the emissions at pauses, decodes each segment, and keeps the units with their frames."""

    def __init__(self, name: str, reader: Reader):
        self.name, self.reader = name, reader
        quiet = reader.topology.quiet(reader.units.ids.get(SILENCE))
        self.joiner, self.segmenter = Joiner(reader.overlap, quiet), Segmenter(reader.longest, quiet)
        self.spans: list[Span] = []
        self.words: list[Spelling] | None = None
        self.segment_frames: list[int] = []
        self.reached = self.skipped = 0  # emissions: the end of the windows so far, and those that no window covered
        self.pauses: list[int] = []  # number of units before each pause that ended a window

    def add(self, emissions: Tensor, window: Window) -> None:
        """emissions: (time, units) log-probabilities of the next window."""
        if self.joiner.tail is None:
            self.segmenter.first = window.first + window.before
        own = emissions[window.before : len(emissions) - window.after]
        begin = window.first + window.before
        self.skipped += max(0, begin - self.reached)
        self.reached = max(self.reached, begin + len(own))
        for first, segment in self.segmenter.add(self.joiner.add(own, window.closed), window.closed):
            self.decode(first, segment)
        if window.closed:
            self.pauses.append(len(self.spans))

    def decode(self, first: int, emissions: Tensor) -> None:
        hypothesis = self.reader.decoder(emissions[None], torch.tensor([len(emissions)]))[0][0]
        spans, words = read_hypothesis(hypothesis, emissions, self.reader.units, self.reader.topology, first)
        if hypothesis.words is not None and words is not None:
            at = len(self.spans)
            moved = [dataclasses.replace(word, first=word.first + at, end=word.end + at) for word in words]
            self.words = (self.words or []) + moved
        self.spans += spans
        self.segment_frames.append(first)

    def spelled(self, ids: list[int]) -> list[Spelling] | None:
        """The words that units spell. A word of characters or pieces may span the end of a segment, but not a pause: as at the
        end of an utterance, no space is emitted there."""
        words = []
        for first, end in itertools.pairwise([0, *self.pauses]):
            found = spelled(self.reader.units, ids[first:end])
            if found is None:
                return None
            words += [dataclasses.replace(word, first=word.first + first, end=word.end + first) for word in found]
        return words

    def transcript(self, seconds: float) -> Transcript:
        """The finished transcript. seconds: the length of the recording."""
        units = self.reader.units
        found = timed(self.spans, self.reader.timing, units.symbols, seconds)
        ids = [span.unit for span in self.spans]
        words = self.words if self.words is not None else self.spelled(ids)
        if words is None:
            kept = [(item, span) for item, span in zip(found, self.spans) if units.decode([span.unit])]
            items, starts = [item for item, _ in kept], [span.start for _, span in kept]
        else:
            items, starts = group(words, found), [self.spans[word.first].start for word in words]
        kind = "phonemes" if words is None and units.metric == "per" else "words"
        borders = [bisect.bisect_left(starts, frame) for frame in self.segment_frames[1:]]
        skipped = self.skipped * self.reader.timing.shift
        return Transcript(
            self.name, seconds, kind, items, sorted(set(borders) - {0, len(items)}), skipped_seconds=skipped
        )

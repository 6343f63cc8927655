"""One recording while it is recognized: emissions of its windows come in, a transcript comes out."""

from __future__ import annotations

import bisect
import dataclasses

import torch
from torch import Tensor

from asr.alignment import Span
from asr.alignment.hypothesis import read_hypothesis
from asr.alignment.timing import Timing, timed
from asr.alignment.words import Spelling, group, spelled
from asr.decoders import Decoder
from asr.transcription import Transcript
from asr.transcription.joining import Joiner
from asr.transcription.segments import Segmenter
from asr.units import Units


@dataclasses.dataclass(frozen=True)
class Reader:
    """What turns emissions into words. overlap, longest: emissions by which windows overlap, and of the longest segment."""

    units: Units
    decoder: Decoder
    timing: Timing
    overlap: int
    longest: int


class Recording:
    """Joins windows, cuts the emissions at pauses, decodes every segment, and keeps the units with their frames."""

    def __init__(self, name: str, reader: Reader):
        self.name, self.reader = name, reader
        self.joiner, self.segmenter = Joiner(reader.overlap), Segmenter(reader.longest)
        self.spans: list[Span] = []
        self.words: list[Spelling] | None = None
        self.segment_frames: list[int] = []

    def add(self, emissions: Tensor, last: bool) -> None:
        """emissions: (time, units) log-probabilities of the next window."""
        for first, segment in self.segmenter.add(self.joiner.add(emissions, last), last):
            self.decode(first, segment)

    def decode(self, first: int, emissions: Tensor) -> None:
        hypothesis = self.reader.decoder(emissions[None], torch.tensor([len(emissions)]))[0][0]
        spans, words = read_hypothesis(hypothesis, emissions, self.reader.units, first)
        if hypothesis.words is not None:
            at = len(self.spans)
            moved = [Spelling(word.word, word.first + at, word.end + at) for word in words]
            self.words = (self.words or []) + moved
        self.spans += spans
        self.segment_frames.append(first)

    def transcript(self, seconds: float) -> Transcript:
        """What was said. seconds: how long the recording is."""
        units = self.reader.units
        found = timed(self.spans, self.reader.timing, units.symbols, seconds)
        ids = [span.unit for span in self.spans]
        # by all units together, so that a word of characters or pieces may lie on both sides of a cut
        words = self.words if self.words is not None else spelled(units, ids)
        if self.words is None and words is None:
            kept = [(item, span) for item, span in zip(found, self.spans) if units.decode([span.unit])]
            items, starts = [item for item, _ in kept], [span.start for _, span in kept]
        else:
            items, starts = group(words, found), [self.spans[word.first].start for word in words]
        kind = "phonemes" if words is None and units.metric == "per" else "words"
        borders = [bisect.bisect_left(starts, frame) for frame in self.segment_frames[1:]]
        return Transcript(self.name, seconds, kind, items, sorted(set(borders) - {0, len(items)}))

"""What training demands of an utterance: readable audio, a transcript in known units, enough frames for its labels."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from asr.data.corpora.preparing.unusable import kinds_of
from asr.data.dropped import refuse_many
from asr.errors import UserError
from asr.text.units import UnknownUnit


@dataclasses.dataclass
class CheckedSplit:
    """The usable utterances of a split.

    cuts, labels, references and frames run in parallel: the lhotse cut, its unit ids, its tokens to score, and its length
    in feature frames. dropped: (utterance id, reason) of all others; those dropped while preparing come first.
    """

    name: str
    cuts: list
    labels: list[list[int]]
    references: list[list[str]]
    frames: list[int]
    dropped: list[tuple[str, str]]

    @property
    def seconds(self) -> float:
        return sum(cut.duration for cut in self.cuts)

    def reasons(self) -> Counter:
        """The number of dropped utterances by kind of reason."""
        return kinds_of(self.dropped)


def check_split(
    name: str,
    cuts,
    units,
    frames_of: Callable[[int], int],
    output_lengths: Callable[[int], int],
    required_frames: Callable[[list[int]], int] | None,
    fewest_frames_of: Callable[[int], int] | None = None,
    longest_seconds: float | None = None,
    dropped: Iterable[tuple[str, str]] = (),
) -> CheckedSplit:
    """Sorts the cuts of a split into usable and unusable ones, the latter with a reason.

    frames_of: samples → feature frames. output_lengths: feature frames → encoder outputs. required_frames: labels → the
    fewest encoder outputs that the loss can align them to; None for a split that is only scored, which gets no labels.
    fewest_frames_of: samples → feature frames at the highest speed of the speed perturbation; `frames_of` by default.
    longest_seconds: longer utterances are dropped; None for the default, which keeps a broken manifest from filling memory.
    dropped: what preparing the corpus dropped from this split, as `Corpus.dropped_of` returns it.
    """
    split = CheckedSplit(name, [], [], [], [], list(dropped))
    for cut in cuts:
        reason = unusable_audio(cut) or unusable_times(cut, longest_seconds)
        if reason is None:
            try:
                # when only scoring, a word that the units cannot spell counts as an error: keep the utterance
                labels = [] if required_frames is None else units.encode(cut.supervisions[0])
                reference = units.reference(cut.supervisions[0])
            except UnknownUnit as error:
                reason = f"outside the units: {error}"
        if reason is None and not reference:
            reason = "empty transcript"
        if reason is None:
            frames = frames_of(cut.num_samples)
            outputs = output_lengths((fewest_frames_of or frames_of)(cut.num_samples))
            if frames < 1:
                reason = f"shorter than one frame: {cut.duration:.3f} s"
            elif required_frames is not None and outputs < required_frames(labels):
                reason = (
                    f"too short for its labels: {outputs} encoder outputs for {len(labels)} labels "
                    f"that need {required_frames(labels)}"
                )
        if reason is None:
            split.cuts.append(cut)
            split.labels.append(labels)
            split.references.append(reference)
            split.frames.append(frames)
        else:
            split.dropped.append((cut.id, reason))
    return split


def unusable_audio(cut) -> str | None:
    """Why a cut's audio cannot be read, as far as its files show without decoding; None if nothing is wrong."""
    if not cut.has_recording:
        return "no recording"
    from asr.audio.cuts import rooms_of

    try:
        rooms = rooms_of(cut.recording)
    except Exception as error:
        return f"a transform that lhotse does not know: {error}"
    for source in (source for recording in (cut.recording, *rooms) for source in recording.sources):
        if source.type not in ("file", "memory"):
            # lhotse would run a command named in a manifest
            return f"audio that is not a file: {source.type}"
        if source.type == "file" and not Path(source.source).is_file():
            return f"missing audio: {source.source}"
        if source.type == "file" and Path(source.source).stat().st_size == 0:
            return f"empty audio: {source.source}"
    return unreadable_audio(cut)


def unreadable_audio(cut) -> str | None:
    """Why a cut's audio cannot be read or contradicts its manifest, by the headers of its files; None if it does not.

    The manifest describes the audio after the recording's transforms, the file the audio before them.
    """
    from asr.audio.cuts import refused_transform, stored_rate, stored_stretch
    from asr.audio.reading import LENGTH_TOLERANCE

    rate = stored_rate(cut.recording)
    _, seconds = stored_stretch(cut.recording, 0.0, cut.recording.duration)
    refused = refused_transform(cut.recording)
    if refused:
        return f"a transform that cannot be applied: {refused}"
    for source in cut.recording.sources:
        if source.type != "file":
            continue
        try:
            header = header_of(source.source)
            if header.sample_rate != rate:
                return f"another sample rate than its manifest says: {header.sample_rate} Hz, not {rate}"
            if header.samples is None or header.samples / rate + LENGTH_TOLERANCE >= seconds:
                continue
            there = duration_of(source.source)  # a chained file has more parts than its first header describes
        except UserError as error:
            return f"unreadable audio: {error}"
        if there + LENGTH_TOLERANCE < seconds:
            return f"shorter than its manifest says: {there:.3f} s, not {seconds:.3f}"
    return None


@functools.lru_cache(maxsize=64)  # the cuts of a recording follow each other
def header_of(path: str):
    from asr.audio.reading import read_header

    return read_header(path)


@functools.lru_cache(maxsize=64)
def duration_of(path: str) -> float:
    from asr.audio.reading import audio_duration

    return audio_duration(path)


def unusable_times(cut, longest_seconds: float | None = None) -> str | None:
    """Why a cut's times cannot be used: past the end of its recording, or too long for one utterance (default 600 s)."""
    from asr.audio.reading import LENGTH_TOLERANCE, LONGEST_SECONDS

    longest_seconds = LONGEST_SECONDS if longest_seconds is None else longest_seconds

    if cut.end > cut.recording.duration + LENGTH_TOLERANCE:
        return f"beyond its recording: it ends at {cut.end:.3f} s of {cut.recording.duration:.3f}"
    if cut.duration > longest_seconds:
        return f"longer than {longest_seconds:g} s: {cut.duration:.0f} s"
    return None


def refuse_if_many(split: CheckedSplit, share: float, setting: str) -> None:
    """Raises UserError if more than `share` of a split's utterances cannot be used, or none is left.

    setting: the key that sets the share.
    """
    if not split.cuts and not split.dropped:
        raise UserError(f"The {split.name} split of the corpus is empty: it needs at least one utterance.")
    what = f"utterances of the {split.name} split"
    refuse_many(split.dropped, len(split.cuts), what, share, setting)

"""Checks the utterances of a split without their audio: length, speech rate, and whether the units can spell them."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy

from asr.data.checks import check_split
from asr.errors import UserError
from asr.text.normalization import normalize, with_language
from asr.text.units import Units, UnknownUnit, build_units

QUANTILES = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "most": 1.0}
# a rate is an outlier this many robust standard deviations from the median, in logarithms
DEVIATIONS = 6.0
# ... and at least this factor away from it
FACTOR = 2.0


@dataclasses.dataclass(frozen=True)
class Lengths:
    """The exact lengths of an utterance on its way through the model, as `asr.data.checks.check_split` takes them."""

    frames_of: Callable[[int], int]
    fewest_frames_of: Callable[[int], int]
    output_lengths: Callable[[int], int]
    required_frames: Callable[[list[int]], int]

    @classmethod
    def of(cls, parts: dict[str, Any], sample_rate: int) -> Lengths:
        """The lengths under the settings of `features`, `encoder` and `head`, at a corpus's sample rate in Hz.

        Builds encoder and head without weights. Raises UserError for settings that do not work.
        """
        import torch

        from asr.model.attention import attention_at
        from asr.model.encoders import encoders
        from asr.model.features import Features
        from asr.model.heads import heads

        try:
            features = Features(**{**parts["features"], "sample_rate": sample_rate})
            with torch.device("meta"):
                encoder = encoders.create(
                    encoders.get(parts["encoder"]["name"]).settled(parts["encoder"], False),
                    input_dim=features.mels,
                    create_attention=functools.partial(attention_at, {"name": "full"}),
                )
                head = heads.create(parts["head"], dim=encoder.output_dim, units=2)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"The features, the encoder or the head cannot be built: {error}. Check their settings."
            ) from None
        return cls(features.frames_of, features.fewest_frames_of, encoder.output_lengths, head.required_frames)


@dataclasses.dataclass
class SplitText:
    """A split without its audio.

    ids, durations (seconds), words and labels (units, None where unknown) run in parallel.
    unknown: what the units cannot spell → utterances that contain it. dropped: (utterance, reason), as training drops them;
        it includes what preparing the corpus dropped, which is not among the ids.
    repeated: number of utterances that share their text with another. twice: ids that occur more than once.
    """

    name: str
    ids: list[str]
    durations: list[float]
    words: list[int]
    labels: list[int | None]
    texts: list[str]
    unknown: dict[str, list[str]]
    dropped: list[tuple[str, str]]
    repeated: int
    twice: list[str]

    @property
    def size(self) -> int:
        """The number of utterances, including those that preparing the corpus dropped."""
        return len({*self.ids, *(utterance for utterance, _ in self.dropped)})

    def rates(self, per: str) -> dict[str, float]:
        """Utterance → words or units (`per`: "words", "labels") a second."""
        return {
            name: count / seconds
            for name, count, seconds in zip(self.ids, getattr(self, per), self.durations)
            if count and seconds > 0
        }


def units_of(settings: dict[str, Any], corpus) -> tuple[Units | None, str | None]:
    """The units of the training split, or the reason why they cannot be built."""
    try:
        supervisions = (cut.supervisions[0] for cut in corpus.splits["train"])
        return build_units(settings, supervisions, corpus.lexicon, corpus.language), None
    except UserError as error:
        return None, str(error)


def read_split(
    name: str, cuts: Iterable, units: Units | None, lengths: Lengths, dropped: Iterable[tuple[str, str]] = ()
) -> SplitText:
    """Checks a split as training does at its start: units, and enough frames for them unless it is only scored.

    dropped: what preparing the corpus dropped from the split.
    """
    cuts = list(cuts)
    split = SplitText(name, [], [], [], [], [], defaultdict(list), list(dropped), 0, [])
    for cut in cuts:
        supervision = cut.supervisions[0]
        text = normalize(supervision.text or "", with_language("words", supervision.language))[0]
        split.ids.append(cut.id)
        split.durations.append(cut.duration)
        split.words.append(len(text.split()))
        split.texts.append(text)
        labels = None
        if units is not None:
            try:
                labels = len(units.encode(supervision))
            except UnknownUnit as error:
                for unit in unknown_units(units, supervision, error.unit):
                    split.unknown[unit].append(cut.id)
        split.labels.append(labels)
    split.repeated = sum(count for count in Counter(split.texts).values() if count > 1)
    split.twice = [name for name, count in Counter(split.ids).items() if count > 1]
    if units is not None:
        split.dropped = check_split(
            name,
            cuts,
            units,
            lengths.frames_of,
            lengths.output_lengths,
            # as in training: a split that is only scored needs no finite loss
            lengths.required_frames if name != "test" else None,
            lengths.fewest_frames_of if name == "train" else None,
            dropped=split.dropped,
        ).dropped
    return split


def unknown_units(units: Units, supervision, first: str) -> set[str]:
    """Everything that the units cannot spell in an utterance; encoding it names only the `first`."""
    found = {first}
    for word in set(units.words(supervision)):
        for part in (word, *word) if len(word) > 1 and units.name != "phonemes" else (word,):
            try:
                units.encode(dataclasses.replace(supervision, text=part, alignment=None))
            except UnknownUnit as error:
                found.add(error.unit)
    return found


def histogram(values: Iterable[float], edges: list[float]) -> list[int]:
    """The number of values between neighbouring edges."""
    return numpy.histogram(list(values), edges)[0].tolist()


def shared_edges(groups: Iterable[Iterable[float]]) -> list[float]:
    """Edges of bars of equal width over the values of all groups; none without values.

    The smallest group sets the number of bars: about twice the square root of its size, 8 to 40.
    """
    filled = [group for group in map(list, groups) if group]
    if not filled:
        return []
    bars = min(40, max(8, round(2 * min(map(len, filled)) ** 0.5)))
    return numpy.histogram_bin_edges([value for group in filled for value in group], bars).tolist()


def quantiles(values: Iterable[float]) -> dict[str, float]:
    """The values at `QUANTILES`, and their mean; {} without values."""
    values = numpy.asarray(list(values), dtype=float)
    if not len(values):
        return {}
    found = {name: float(numpy.quantile(values, share)) for name, share in QUANTILES.items()}
    return {**found, "mean": float(values.mean())}


def outliers(rates: dict[str, float], typical: Iterable[float]) -> dict[str, float]:
    """The rates (per second) that are far from the `typical` ones, those of the training split; the furthest first.

    Far: more than `DEVIATIONS` robust standard deviations (1.4826 times the median absolute deviation) of the logarithm,
    and at least a factor of `FACTOR`. Such an utterance often has the transcript of another one.
    """
    logarithms = numpy.log(numpy.asarray(list(typical), dtype=float))
    if len(logarithms) < 10:
        return {}
    median = float(numpy.median(logarithms))
    limit = max(DEVIATIONS * 1.4826 * float(numpy.median(numpy.abs(logarithms - median))), float(numpy.log(FACTOR)))
    far = {name: abs(float(numpy.log(rate)) - median) for name, rate in rates.items()}
    return {name: rates[name] for name in sorted(far, key=far.__getitem__, reverse=True) if far[name] > limit}

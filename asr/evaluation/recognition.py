"""Recognizes a split: decodes every utterance and scores it against its reference."""

from __future__ import annotations

import dataclasses
import time

import torch

from asr.data.checks import CheckedSplit
from asr.evaluation.emissions import Batching, batches_of_emissions
from asr.inference.decoders import Decoder, Hypothesis
from asr.model.network import Model
from asr.runtime.devices import choose_device
from asr.runtime.memory import PeakMemory
from asr.runtime.processes import ProcessGroup, SingleProcess
from asr.scoring import UtteranceScore, score_utterance
from asr.scoring.metric import Metric, choose_metric
from asr.text.normalization import MARK
from asr.text.units import Units


@dataclasses.dataclass
class Recognition:
    """The scored utterances of a split, and the cost of recognizing them.

    forward_seconds, decoding_seconds: of model and decoder, summed over all processes. peak_memory_bytes: of the process that
    needed most; None if it cannot be measured.
    """

    utterances: list[UtteranceScore]
    forward_seconds: float
    decoding_seconds: float
    peak_memory_bytes: int | None


def recognize(
    model: Model,
    units: Units,
    decoder: Decoder,
    split: CheckedSplit,
    batching: Batching,
    group: ProcessGroup | None = None,
) -> Recognition:
    """Recognizes every utterance of a split; several processes share its batches and exchange the results.

    Hypotheses do not depend on the batches, except with attention=auto, which chooses by the padded length of a batch.
    """
    batches = batches_of_emissions(model, split, batching, group, warm_up=True)
    utterances, forward, decoding = [], 0.0, 0.0
    with torch.inference_mode(), PeakMemory(choose_device(batching.device)) as memory:
        for batch in batches:
            forward += batch.seconds
            started = time.perf_counter()
            decoded = decoder(batch.emissions, batch.lengths)
            decoding += time.perf_counter() - started
            for index, hypotheses in zip(batch.indices, decoded):
                cut = split.cuts[index]
                utterances.append(
                    score_utterance(
                        cut.id,
                        reference_of(split, index, decoder, units),
                        tokens_of(hypotheses[0], units),
                        cut.supervisions[0].speaker or "",
                        cut.duration,
                    )
                )
    return gathered(Recognition(utterances, forward, decoding, memory.bytes), group or SingleProcess())


def gathered(own: Recognition, group: ProcessGroup) -> Recognition:
    """The recognition of all processes, gathered from each one's own."""
    ranks = group.size
    if ranks == 1:
        return own
    parts: list = [None] * ranks
    torch.distributed.all_gather_object(parts, own)
    peaks = [part.peak_memory_bytes for part in parts if part.peak_memory_bytes is not None]
    return Recognition(
        [one for part in parts for one in part.utterances],
        sum(part.forward_seconds for part in parts),
        sum(part.decoding_seconds for part in parts),
        max(peaks, default=None),
    )


def metric_of(asked: str, split: CheckedSplit, decoder: Decoder, units: Units) -> Metric:
    """The metric that `choose_metric` picks for the decoder's words, or else the units' tokens."""
    references = (reference_of(split, index, decoder, units) for index in range(len(split.cuts)))
    return choose_metric(asked, "wer" if decoder.gives_words else units.metric, references)


def reference_of(split: CheckedSplit, index: int, decoder: Decoder, units: Units) -> list[str]:
    """The reference that an utterance is scored against: words if the decoder gives words, else the units' tokens."""
    if not decoder.gives_words:
        return split.references[index]
    return without_marks(units.words(split.cuts[index].supervisions[0]))


def tokens_of(hypothesis: Hypothesis, units: Units) -> list[str]:
    """The words of a hypothesis if the decoder gives words, else the tokens that its units decode to."""
    return units.decode(hypothesis.ids) if hypothesis.transcript is None else without_marks(hypothesis.transcript)


def without_marks(words: list[str]) -> list[str]:
    """The words without noises such as <NOISE> and [laughter], and without <unk>."""
    return [word for word in words if not MARK.fullmatch(word)]

"""How dev is scored, and which of two scores is better."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from asr.data.batches import Batch
from asr.data.checks import CheckedSplit
from asr.evaluation.recognition import reference_of, tokens_of
from asr.inference.decoders import Decoder
from asr.runtime.processes import ProcessGroup
from asr.scoring import align
from asr.scoring.metric import Metric
from asr.text.units import Units
from asr.training.position import Position


@dataclasses.dataclass
class Scoring:
    """What it takes to score emissions.

    units: what the emissions are of. decoder: bound to the units. metric: what errors are counted in; it chooses the weights.
    """

    units: Units
    decoder: Decoder
    metric: Metric

    @property
    def tokens(self) -> str:
        """The metric whose tokens are aligned: "per" for phonemes, "wer" for words, also where characters decide."""
        return "per" if self.metric.name == "per" else "wer"

    def references(self, split: CheckedSplit) -> list[list[str]]:
        """The tokens that each utterance is scored against."""
        return [reference_of(split, index, self.decoder, self.units) for index in range(len(split.cuts))]


class DevScore(NamedTuple):
    """What a validation found.

    loss: nats per label. rates: error rates from 0 by metric, the one that decides first. empty: share of empty hypotheses.
    """

    loss: float
    rates: dict[str, float]
    empty: float

    @property
    def error_rate(self) -> float:
        """The rate that decides which weights are the best."""
        return next(iter(self.rates.values()))

    @property
    def beside(self) -> float | None:
        """The further rate, if there is one."""
        return next(iter([*self.rates.values()][1:]), None)

    def is_better(self, position: Position) -> bool:
        """Whether this is better than the best validation so far; the further rate breaks ties."""
        if position.best is None or self.error_rate != position.best:
            return position.best is None or self.error_rate < position.best
        if self.beside is None or position.best_beside is None:
            return False
        return self.beside < position.best_beside


class DevScorer:
    """Scores dev batch by batch, then over all processes."""

    def __init__(self, scoring: Scoring, references: Sequence[Sequence[str]], group: ProcessGroup):
        """references: tokens of each utterance of dev."""
        self.scoring, self.references, self.group = scoring, references, group
        self.start()

    def start(self) -> None:
        """Forgets all batches."""
        # loss, labels, errors and tokens, wrong and all characters, empty hypotheses, utterances
        self._totals = torch.zeros(8, dtype=torch.float64)

    def add(self, batch: Batch, emissions: Tensor, lengths: Tensor, losses: Tensor) -> None:
        """emissions: (batch, time, units); lengths: (batch,) valid frames; losses: (batch,)."""
        units, metric = self.scoring.units, self.scoring.metric
        counts, empty = [0, 0, 0, 0], 0
        for row, hypotheses in zip(batch.indices.tolist(), self.scoring.decoder(emissions.float(), lengths)):
            reference, hypothesis = self.references[row], tokens_of(hypotheses[0], units)
            pairs = [(reference, hypothesis)]
            if "cer" in metric.shown:
                pairs.append((metric.characters(reference), metric.characters(hypothesis)))
            for number, pair in enumerate(pairs):
                counts[2 * number] += align(*pair).errors
                counts[2 * number + 1] += len(pair[0])
            empty += not hypothesis
        loss, labels = float(losses.double().sum()), float(batch.label_lengths.sum())
        self._totals += torch.tensor([loss, labels, *counts, empty, len(batch.samples)], dtype=torch.float64)

    def score(self) -> DevScore:
        """The score of all batches of all processes."""
        totals = self._totals
        if self.group.size > 1:
            everyone: list = [None] * self.group.size
            torch.distributed.all_gather_object(everyone, totals)
            totals = torch.stack(everyone).sum(0)
        loss, labels, errors, tokens, wrong_characters, characters, empty, utterances = totals.tolist()
        rates = {self.scoring.tokens: errors / max(1.0, tokens), "cer": wrong_characters / max(1.0, characters)}
        return DevScore(loss / labels, {name: rates[name] for name in self.scoring.metric.shown}, empty / utterances)

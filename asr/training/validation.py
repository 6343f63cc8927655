"""When dev is scored, how, and what its score decides."""

from __future__ import annotations

import time

import torch

from asr.data.batches import Batch
from asr.runtime.memory import is_out_of_memory
from asr.scoring import align
from asr.scoring.metric import key_of
from asr.training.position import validation_interval


class Validates:
    """The part of `Recognizer` that scores dev and decides which weights are the best."""

    def on_validation_epoch_start(self) -> None:
        if self.average is not None and self.trainer.state.fn == "fit":
            self.average.swap()
        self._totals = torch.zeros(8, dtype=torch.float64)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Scores a batch, in halves where it does not fit into memory. Raises UserError when a single utterance does not."""
        try:
            self._totals += self.scored(batch)
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        for half in self.halved(batch, "a batch of dev"):
            self.validation_step(half, index)

    def scored(self, batch: Batch) -> torch.Tensor:
        """(8,) float64: sums of loss, labels, errors and tokens, those of characters, empty hypotheses and utterances."""
        hidden, lengths = self.model.encode(batch.waveforms, batch.samples)
        emissions = self.model.head.emissions(hidden)
        losses = self.model.head(hidden, lengths, batch.labels, batch.label_lengths)
        counts, empty = [0, 0, 0, 0], 0
        for row, hypotheses in zip(batch.indices.tolist(), self.decoder(emissions.float(), lengths)):
            pairs = [(self.dev.references[row], self.units.decode(hypotheses[0].ids))]
            if "cer" in self.metric.shown:
                pairs.append(tuple(map(self.metric.characters, pairs[0])))
            for place, (reference, hypothesis) in enumerate(pairs):
                counts[2 * place] += align(reference, hypothesis).errors
                counts[2 * place + 1] += len(reference)
            empty += not hypotheses[0].ids
        labels = float(batch.label_lengths.sum())
        return torch.tensor(
            [float(losses.double().sum()), labels, *counts, empty, len(batch.samples)], dtype=torch.float64
        )

    def on_validation_epoch_end(self) -> None:
        totals = self._totals
        if self._ranks > 1:
            everyone: list = [None] * self._ranks
            torch.distributed.all_gather_object(everyone, totals)
            totals = torch.stack(everyone).sum(0)
        loss, labels, errors, tokens, wrong_characters, characters, empty, utterances = totals.tolist()
        rates = {self.units.metric: errors / max(1.0, tokens), "cer": wrong_characters / max(1.0, characters)}
        self.error_rates = {name: rates[name] for name in self.metric.shown}
        self.dev_loss, self.error_rate = loss / labels, self.error_rates[self.metric.name]
        if self.trainer.state.fn != "fit":
            return
        position = self.position
        position.validated, position.validations, position.validation_due = (
            position.steps,
            position.validations + 1,
            False,
        )
        position.unimproved = 0 if self.is_better() else position.unimproved + 1
        position.over = position.batches >= self.plan.total or self.time_is_over() or self.has_converged()
        if self.has_converged():
            self.watchdogs.say(
                f"{position.unimproved} validations brought no better error rate than {position.best:.2%} at step "
                f"{position.best_step}: the training ends here (stop_after={self.stepping.stop_after})."
            )
        self.schedule.observe(self.dev_loss)
        named = {f"dev/{key_of(name)}": rate for name, rate in self.error_rates.items() if "cer" in self.error_rates}
        self.write({"dev/loss": self.dev_loss, "dev/error_rate": self.error_rate, **named})
        self.watchdogs.silence(position.steps, empty / utterances, self.progress())

    @property
    def beside(self) -> float | None:
        """The last validation's further rate, beside the one that decides, if there is one."""
        return next((rate for name, rate in self.error_rates.items() if name != self.metric.name), None)

    def is_better(self) -> bool:
        """Whether the last validation was better than the best before it."""
        position = self.position
        if position.best is None or self.error_rate != position.best:
            return position.best is None or self.error_rate < position.best
        return None not in (self.beside, position.best_beside) and self.beside < position.best_beside

    def end_validation(self) -> None:
        """Brings the weights in training back, once the validation's checkpoint is written."""
        if self.average is not None:
            self.average.swap()
        if self._idle_since is not None:
            self.watchdogs.waited(self.waiting(), time.monotonic() - self._working_since, self.workers)
            # time in validation is neither waiting nor training
            self._idle_since = self._working_since = time.monotonic()
            self._waited = 0.0

    def _wants_validation(self) -> bool:
        position, stepping = self.position, self.stepping
        if position.batches >= self.plan.total or self.time_is_over():
            return True
        if stepping.max_minutes:
            share = position.seconds / (60 * stepping.max_minutes)
            return share * stepping.validations >= position.validations + 1
        interval = validation_interval(self.plan.total, stepping.validations)
        return position.batches // interval > (position.batches - stepping.accumulate) // interval

    def has_converged(self) -> bool:
        return self.stepping.stop_after is not None and self.position.unimproved >= self.stepping.stop_after

    def time_is_over(self) -> bool:
        return bool(self.stepping.max_minutes) and self.position.seconds >= 60 * self.stepping.max_minutes

"""Watches for what goes wrong in trainings, and explains it: non-finite losses, exploding gradients, silence, waiting."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence

from asr.errors import UserError

# number of gradient norms that are remembered, and how many it takes to know what is usual
REMEMBERED, ENOUGH = 100, 20
# seconds of training after which the share of waiting means something
LONG_ENOUGH = 20.0
# good steps in a row after which skipped batches no longer count
FORGIVEN = 1000
# what a checkpoint keeps
CARRIED = ("norms", "skipped", "good_steps", "explosions", "spoke", "silent", "said_waiting")


@dataclasses.dataclass
class Watchdogs:
    """Watches a training; `say` tells the user.

    skip_nonfinite: batches with a non-finite loss or gradient to skip before the training stops; 1000 good steps reset the
    count. explosion: a gradient norm this many times the median is reported. silent_validations: validations in a row with
    empty hypotheses only, by a model that has spoken before or is half through, before the training stops. waiting: share of
    the time spent waiting for data above which it is reported.
    """

    skip_nonfinite: int = 10
    explosion: float = 50.0
    silent_validations: int = 5
    waiting: float = 0.2
    say: Callable[[str], None] = print

    def __post_init__(self):
        self.norms: list[float] = []
        self.skipped = self.good_steps = self.explosions = 0
        self.spoke, self.silent, self.said_waiting = False, 0, False

    def state(self) -> dict:
        """Plain data for the checkpoint."""
        return {name: getattr(self, name) for name in CARRIED}

    def load_state(self, state: dict) -> None:
        for name in CARRIED:
            setattr(self, name, state[name])

    def finite(
        self, step: int, loss: float, norm: float, learning_rate: float, utterances: Callable[[], Sequence[str]]
    ) -> bool:
        """Whether loss and gradient are finite. Reports it if not, and raises UserError once too many batches were skipped.

        loss: of the step; norm: of its gradient, before clipping; utterances: names what was in it, the culprits first.
        """
        if math.isfinite(loss) and math.isfinite(norm):
            self.good_steps += 1
            if self.good_steps >= FORGIVEN:
                self.skipped = 0
            self._explosion(step, norm)
            return True
        self.skipped, self.good_steps = self.skipped + 1, 0
        what = (
            f"the loss is {loss}"
            if not math.isfinite(loss)
            else f"the loss is {loss:.4g} but its gradient is not finite"
        )
        recent = ", ".join(f"{norm:.3g}" for norm in self.norms[-5:]) or "none yet"
        named = list(utterances())
        listed = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
        told = (
            f"step {step + 1}: {what}; utterances {listed}; learning rate {learning_rate:.3g}; "
            f"gradient norms before: {recent}."
        )
        if self.skipped > self.skip_nonfinite:
            raise UserError(
                f"{told} {self.skipped - 1} such batches were skipped already (watch.skip_nonfinite="
                f"{self.skip_nonfinite}). Try a lower optimizer.lr, more schedule.warmup_steps, a lower "
                "trainer.gradient_clip_val or trainer.precision=32-true, and look at the data with scripts/check_data.py."
            )
        self.say(f"{told} The batch is skipped ({self.skipped} of at most {self.skip_nonfinite}).")
        return False

    def _explosion(self, step: int, norm: float) -> None:
        if len(self.norms) >= ENOUGH:
            usual = statistics.median(self.norms)
            if norm > self.explosion * usual > 0:
                self.explosions += 1
                # the 1st, 2nd, 4th, 8th, …
                if self.explosions & (self.explosions - 1) == 0:
                    self.say(
                        f"step {step + 1}: the gradient norm is {norm:.3g}, {norm / usual:.0f} times its median of {usual:.3g} "
                        f"({self.explosions} such steps so far). It is clipped; if this continues, lower optimizer.lr or "
                        "raise schedule.warmup_steps."
                    )
        self.norms = [*self.norms[-REMEMBERED + 1 :], norm]

    def silence(self, step: int, empty: float, progress: float) -> None:
        """Checks a validation. empty: share of empty hypotheses; progress: share of the training that is over.

        Raises UserError after `silent_validations` in a row.
        """
        if empty < 1:
            self.spoke, self.silent = True, 0
            return
        # every CTC model emits only blanks at first
        if not self.spoke and progress < 0.5:
            return
        self.silent += 1
        advice = (
            "Try a lower optimizer.lr with more schedule.warmup_steps, fewer encoder layers to begin with, or init_from=… a "
            "model that speaks; and check the transcripts with scripts/check_data.py."
        )
        if self.silent >= self.silent_validations:
            raise UserError(
                f"step {step}: every hypothesis on dev has been empty for {self.silent} validations "
                f"(watch.silent_validations={self.silent_validations}): the model emits nothing but blanks. {advice}"
            )
        before = "It has spoken before" if self.spoke else "Half of the training is over"
        self.say(
            f"step {step}: every hypothesis on dev is empty: the model emits nothing but blanks. {before}. {advice}"
        )

    def waited(self, share: float, seconds: float, workers: int) -> None:
        """Reports, once, that the training waits for data too long.

        share: of the time since the last validation, `seconds` long; workers: processes that read data.
        """
        if share > self.waiting and seconds > LONG_ENOUGH and not self.said_waiting:
            self.said_waiting = True
            self.say(
                f"{share:.0%} of the time is spent waiting for data. Raise data.workers (now {workers}), or put the audio on a "
                "faster disk."
            )

"""What goes wrong in trainings, noticed and explained: losses that are no numbers, exploding gradients, silence, waiting."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence

from asr.errors import UserError

# gradient norms that are remembered, and how many it takes to know what is usual
REMEMBERED, ENOUGH = 100, 20
# seconds of training that tell whether data come fast enough
LONG_ENOUGH = 20.0
# good steps after which skipped batches are forgiven
FORGIVEN = 1000
# what a checkpoint carries
CARRIED = ("norms", "skipped", "good_steps", "explosions", "spoke", "silent", "said_waiting")


@dataclasses.dataclass
class Watchdogs:
    """Watches a training; `say` tells the user.

    skip_nonfinite: batches with a loss or gradient that is no finite number that are skipped before training stops; 1000 good
    steps clear the account. explosion: how many times its median a gradient norm may be before it is reported.
    silent_validations: validations in a row with nothing but empty hypotheses, by a model that has spoken before or is half
    through, before training stops. waiting: share of the time spent waiting for data above which it is reported.
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
        """Plain data that a checkpoint carries."""
        return {name: getattr(self, name) for name in CARRIED}

    def load_state(self, state: dict) -> None:
        for name in CARRIED:
            setattr(self, name, state[name])

    def finite(
        self, step: int, loss: float, norm: float, learning_rate: float, utterances: Callable[[], Sequence[str]]
    ) -> bool:
        """Whether a step may be taken. Says so if not, and raises UserError when too many were skipped.

        loss: of the batch; norm: of its gradient, before clipping; utterances: gives what was in it, worst first.
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
                f"{told} {self.skipped - 1} batches like this were skipped already (watch.skip_nonfinite="
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
                # the first ones, then ever fewer
                if self.explosions & (self.explosions - 1) == 0:
                    self.say(
                        f"step {step + 1}: the gradient norm is {norm:.3g}, {norm / usual:.0f} times its median of {usual:.3g} "
                        f"({self.explosions} such steps so far). It is clipped; if it goes on, lower optimizer.lr or "
                        "raise schedule.warmup_steps."
                    )
        self.norms = [*self.norms[-REMEMBERED + 1 :], norm]

    def silence(self, step: int, empty: float, progress: float) -> None:
        """Looks at a validation. empty: share of empty hypotheses; progress: share of the training that is over.

        Raises UserError after `silent_validations` in a row.
        """
        if empty < 1:
            self.spoke, self.silent = True, 0
            return
        # every CTC model begins with blanks only
        if not self.spoke and progress < 0.5:
            return
        self.silent += 1
        advice = (
            "Try a lower optimizer.lr with more schedule.warmup_steps, fewer encoder layers to begin with, or init_from=a model "
            "that speaks; and look at the transcripts with scripts/check_data.py."
        )
        if self.silent >= self.silent_validations:
            raise UserError(
                f"step {step}: every hypothesis on dev has been empty for {self.silent} validations: the model emits nothing "
                f"but blanks. {advice} (watch.silent_validations={self.silent_validations})"
            )
        before = "It has spoken before" if self.spoke else "Half of the training is over"
        self.say(
            f"step {step}: every hypothesis on dev is empty: the model emits nothing but blanks. {before}. {advice}"
        )

    def waited(self, share: float, seconds: float, workers: int) -> None:
        """Looks at the share of the time, since the last validation, that the trainer waited for data; says so once."""
        if share > self.waiting and seconds > LONG_ENOUGH and not self.said_waiting:
            self.said_waiting = True
            self.say(
                f"{share:.0%} of the time is spent waiting for data. Raise data.workers (now {workers}), or keep the audio on a "
                "faster disk."
            )

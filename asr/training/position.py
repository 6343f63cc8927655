"""Where a training is, how it takes steps, and when it validates and ends: plain data, and pure functions of it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Position:
    """Where a training is. With the weights and the optimizer's state, all that it takes to resume it.

    batches: taken on each rank. steps: of the optimizer. seconds: spent training. audio_seconds: of speech that this rank has
    trained on. validations: how many there were. validated: step of the last one, -1 before the first. best, best_step: lowest
    error rate on dev (0 to 1) and its step. best_beside: the further rate there, which breaks ties (characters, as long as no
    word is right); None if there is none. candidates: [error rate, step] of the best validations. validation_due: dev is to be
    scored before the next step. unimproved: validations since the best one. over: no step is left to take.
    """

    batches: int = 0
    steps: int = 0
    seconds: float = 0.0
    audio_seconds: float = 0.0
    validations: int = 0
    validated: int = -1
    best: float | None = None
    best_step: int = 0
    candidates: list = dataclasses.field(default_factory=list)
    validation_due: bool = False
    unimproved: int = 0
    over: bool = False
    best_beside: float | None = None


@dataclasses.dataclass
class Stepping:
    """How steps are taken, when dev is scored, and when the training ends.

    accumulate: batches to an optimizer step. clip: largest gradient norm, None for no limit. validations: in the whole training.
    max_minutes: ends the training after this long, None for no limit. stop_after: ends it after this many validations in a row
    without a better error rate, None for never. average: decay of the weights' moving average, None for none. rehearse: whether
    the largest batches are tried before the first step.

    `batches`, in the methods: of the whole training, on each rank.
    """

    accumulate: int = 1
    clip: float | None = None
    validations: int = 10
    max_minutes: float | None = None
    stop_after: int | None = None
    average: float | None = None
    rehearse: bool = True

    def progress(self, position: Position, batches: int) -> float:
        """Share of the training that is over, 0 to 1: of its batches, or of its minutes if they end first."""
        share = position.batches / max(1, batches)
        if self.max_minutes:
            share = max(share, position.seconds / 60 / self.max_minutes)
        return min(1.0, share)

    def is_step(self, position: Position, batches: int, held: int) -> bool:
        """Whether `held` batches make a step: enough were accumulated, or no other batch follows."""
        return held == self.accumulate or position.batches == batches

    def wants_validation(self, position: Position, batches: int) -> bool:
        """Whether dev is to be scored after the step just taken."""
        if position.batches >= batches or self.out_of_time(position):
            return True
        if self.max_minutes:
            share = position.seconds / (60 * self.max_minutes)
            return share * self.validations >= position.validations + 1
        interval = validation_interval(batches, self.validations)
        return position.batches // interval > (position.batches - self.accumulate) // interval

    def is_over(self, position: Position, batches: int) -> bool:
        """Whether no step is left to take."""
        return position.batches >= batches or self.out_of_time(position) or self.has_converged(position)

    def out_of_time(self, position: Position) -> bool:
        """Whether `max_minutes` have passed."""
        return bool(self.max_minutes) and position.seconds >= 60 * (self.max_minutes or 0)

    def has_converged(self, position: Position) -> bool:
        """Whether `stop_after` validations in a row brought no better error rate."""
        return self.stop_after is not None and position.unimproved >= self.stop_after


def seed_of_batch(seed: int, batch: int) -> int:
    """The seed for everything random in a batch; depends only on its number in the training, counted over all processes."""
    # the odd constants of splitmix64 (Steele et al., 2014) spread neighbours far apart
    mixed = (seed * 0x9E3779B97F4A7C15 + batch * 0xBF58476D1CE4E5B9) % 2**64
    mixed = ((mixed ^ (mixed >> 30)) * 0x94D049BB133111EB) % 2**64
    return (mixed ^ (mixed >> 27)) % 2**63


def validation_interval(batches: int, validations: int) -> int:
    """Number of batches between validations."""
    return -(-batches // min(max(1, validations), batches))

"""How far a training is, and how its steps are taken: plain data."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Position:
    """How far a training is, as plain data: with the weights and the optimizer all that it takes to go on.

    batches: taken on each rank. steps: of the optimizer. seconds: spent training; audio_seconds: of speech trained on by this
    rank. validations: how many there were; validated: the step of the last one. best: the best error rate on dev and
    best_step where it was; best_beside: the rate beside it there, which decides between equal ones (characters, where no word is
    right yet), None where there is none. candidates: (error rate, step) of the best validations. validation_due: the last step is
    to be followed by a validation. unimproved: validations since the best one. over: no step is left to take.
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
    """How a step is taken.

    accumulate: batches to a step of the optimizer. clip: largest gradient norm, None for no bound. validations: in the whole
    training. max_minutes: the time after which training stops, if it is bounded by time. stop_after: how many validations in a
    row without a better error rate end it, None for any number. average: decay of the moving average
    of the weights, None for none. rehearse: whether the largest batches are tried before the first step.
    """

    accumulate: int = 1
    clip: float | None = None
    validations: int = 10
    max_minutes: float | None = None
    stop_after: int | None = None
    average: float | None = None
    rehearse: bool = True


def seed_of_batch(seed: int, batch: int) -> int:
    """A seed for what is random in a batch, which depends on nothing but its place in the training, over all processes."""
    # the odd constants of splitmix64 (Steele et al., 2014) spread neighbours far apart
    mixed = (seed * 0x9E3779B97F4A7C15 + batch * 0xBF58476D1CE4E5B9) % 2**64
    mixed = ((mixed ^ (mixed >> 30)) * 0x94D049BB133111EB) % 2**64
    return (mixed ^ (mixed >> 27)) % 2**63


def validation_interval(batches: int, validations: int) -> int:
    """The batches between two validations of so many in a training of so many batches."""
    return -(-batches // min(max(1, validations), batches))

"""The plan of an epoch: which utterances make up which batch, on which rank.

A plan is a pure function of (frames, bounds, seed, epoch, ranks). Nothing is drawn while training, so a position in a training
is one number, and every rank knows that it has as many batches as the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from asr.data.memory_model import MemoryModel
from asr.errors import UserError


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a batch may hold.

    frames: feature frames, padding included. utterances: how many, if that is bounded. memory: what a batch may need by
    a model of the memory that training takes, if there is one. An utterance that alone exceeds a bound is a batch of its own.
    """

    frames: int | None
    utterances: int | None = None
    memory: MemoryModel | None = None

    def most(self, longest: np.ndarray) -> np.ndarray:
        """How many utterances a batch may have whose longest has so many frames; int64, at least 1. Never grows with it."""
        longest = np.maximum(np.asarray(longest, dtype=np.int64), 1)
        most = np.full(longest.shape, np.iinfo(np.int64).max)
        if self.frames is not None:
            most = np.minimum(most, self.frames // longest)
        if self.utterances is not None:
            most = np.minimum(most, self.utterances)
        if self.memory is not None:
            most = np.minimum(most, self.memory.most(longest))
        return np.maximum(most, 1)


class Batches(Sequence):
    """Batches of utterance indices as three arrays, since an epoch may have millions of them.

    order: (utterances,) int64; batch `i` is `order[starts[i]:ends[i]]`.
    """

    def __init__(self, order: np.ndarray, starts: np.ndarray, ends: np.ndarray):
        self.order, self.starts, self.ends = order, starts, ends

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Batches(self.order, self.starts[index], self.ends[index])
        return self.order[self.starts[index] : self.ends[index]].tolist()

    def __eq__(self, other) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def take(self, places: np.ndarray) -> Batches:
        """These batches, in this order."""
        return Batches(self.order, self.starts[places], self.ends[places])


def plan_epoch(
    frames: Sequence[int] | np.ndarray,
    bounds: Bounds,
    seed: int = 0,
    epoch: int = 0,
    ranks: int = 1,
    rank: int = 0,
    jitter: float = 0.1,
    number: int | None = None,
    shortest_first: bool = False,
) -> Batches:
    """The batches of one rank in one epoch.

    frames: length of every utterance in feature frames. Utterances of like length share a batch: they are sorted by length
        times a random factor within 1 ± `jitter`, cut into batches, and the batches are shuffled.
    number: `batches_in_an_epoch` of the same, for those who have counted already.
    shortest_first: batches come by their longest utterance instead of shuffled, as in the first epochs of a curriculum.

    Every epoch has as many batches as every other, on every rank: trainers count on it. Every utterance is in exactly one
    batch of one rank; only where there are fewer utterances than ranks are some repeated. Raises UserError if there are no
    utterances.
    """
    frames = np.asarray(frames, dtype=np.int64)
    if len(frames) == 0:
        raise UserError("There are no utterances to make batches of.")
    random = np.random.default_rng([seed, epoch])
    noise = random.uniform(-1, 1, len(frames))
    if number is None:
        number = batches_in_an_epoch(frames, bounds, ranks)
    while True:
        order = np.argsort(frames * (1 + jitter * noise), kind="stable")
        batches = cut_into_batches(order, frames, bounds)
        if len(batches) <= number:
            break
        # without jitter there are few enough by construction
        jitter = jitter / 2 if jitter > 0.01 else 0.0
    batches = split_to(number, batches)
    places = random.permutation(len(batches))
    if shortest_first:
        places = np.argsort([frames[batches[index]].max() for index in range(len(batches))], kind="stable")
    missing = -len(places) % ranks
    places = np.concatenate([places, np.resize(places, missing)])
    return batches.take(places[rank::ranks])


def batches_in_an_epoch(frames: Sequence[int] | np.ndarray, bounds: Bounds, ranks: int = 1) -> int:
    """How many batches every epoch has: those of utterances sorted by length, a twentieth more, and a multiple of `ranks`.

    The twentieth makes room for the orders of single epochs, which bring less like lengths together.
    """
    frames = np.asarray(frames, dtype=np.int64)
    fewest = len(cut_into_batches(np.argsort(frames, kind="stable"), frames, bounds))
    number = fewest + (fewest + 19) // 20
    number += -number % ranks
    return min(number, len(frames))


def split_to(number: int, batches: Batches) -> Batches:
    """Halves the batches with the most utterances until there are `number` of them."""
    starts, ends = batches.starts, batches.ends
    while len(starts) < number:
        largest = np.argsort(starts - ends, kind="stable")[: number - len(starts)]
        largest = largest[(ends - starts)[largest] > 1]
        middles = (starts[largest] + ends[largest]) // 2
        starts, ends = np.concatenate([starts, middles]), np.concatenate([ends, ends[largest]])
        ends[largest] = middles
    return Batches(batches.order, starts, ends)


def plan_in_order(frames: Sequence[int] | np.ndarray, bounds: Bounds) -> Batches:
    """Batches of every utterance exactly once, from the longest to the shortest: for evaluation, the worst batch first."""
    frames = np.asarray(frames, dtype=np.int64)
    return cut_into_batches(np.argsort(-frames, kind="stable"), frames, bounds)


def cut_into_batches(order: np.ndarray, frames: np.ndarray, bounds: Bounds) -> Batches:
    """Cuts utterances, in `order`, into runs that are as long as the bounds allow for their longest."""
    starts, held, least = [], 0, 0
    for place, most in enumerate(bounds.most(frames[order]).tolist()):
        if most < least:
            least = most
        if held >= least:
            starts.append(place)
            held, least = 0, most
        held += 1
    starts = np.array(starts, dtype=np.int64)
    return Batches(order, starts, np.append(starts[1:], len(order)))


def worst_batches(frames: Sequence[int] | np.ndarray, bounds: Bounds) -> list[tuple[int, int]]:
    """The batches that need the most memory, as (utterances, frames of the longest), whatever the attention.

    The one with the longest utterance, where a quadratic attention needs most, and the one with the most frames in all.
    """
    lengths = np.unique(np.asarray(frames, dtype=np.int64))
    most = np.minimum(bounds.most(lengths), len(frames))
    longest = (int(most[-1]), int(lengths[-1]))
    fullest = int(np.argmax(most * lengths))
    return list(dict.fromkeys([longest, (int(most[fullest]), int(lengths[fullest]))]))

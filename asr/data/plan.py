"""The plan of an epoch: which utterances form which batch, on which rank.

A plan is a pure function of (frames, bounds, seed, epoch, ranks). Training draws no random numbers for it, so a position
in a training is a single number, and every rank knows that all ranks have equally many batches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from asr.data.memory_model import MemoryModel
from asr.errors import UserError


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The limits of a batch; None lifts one.

    frames: feature frames, padding included. utterances: number of utterances. memory: a model of training memory whose
    budget a batch must fit. An utterance that exceeds a limit on its own gets a batch to itself.
    """

    frames: int | None
    utterances: int | None = None
    memory: MemoryModel | None = None

    def most(self, longest: np.ndarray) -> np.ndarray:
        """The largest batch for each length (frames) of its longest utterance; int64, at least 1, non-increasing."""
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
    """Batches of utterance indices, stored in three arrays because an epoch may have millions of them.

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

    def take(self, indices: np.ndarray) -> Batches:
        """The batches at these indices, in this order."""
        return Batches(self.order, self.starts[indices], self.ends[indices])


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

    frames: length of each utterance in feature frames. Utterances of similar length share a batch: they are sorted by
        length times a random factor within 1 ± `jitter`, cut into batches, and the batches are shuffled.
    number: the result of `batches_in_an_epoch` for the same arguments, if already known.
    shortest_first: batches come by their longest utterance instead of shuffled, as in the first epochs of a curriculum.

    All epochs have the same number of batches on every rank, as trainers require. Each utterance is in exactly one batch
    of one rank; some repeat only if there are fewer utterances than ranks. Raises UserError without any utterances.
    """
    frames = np.asarray(frames, dtype=np.int64)
    if len(frames) == 0:
        raise UserError(f"Epoch {epoch} has no utterances to make batches of: choose a split that has some.")
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
    """Batches per epoch: what utterances sorted by length need, plus 5 %, rounded up to a multiple of `ranks`.

    The 5 % leave room for the jittered order of an epoch, which groups lengths less tightly.
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
    """Batches that hold each utterance exactly once, longest first, so that evaluation meets its worst batch at once."""
    frames = np.asarray(frames, dtype=np.int64)
    return cut_into_batches(np.argsort(-frames, kind="stable"), frames, bounds)


def cut_into_batches(order: np.ndarray, frames: np.ndarray, bounds: Bounds) -> Batches:
    """Cuts utterances, in `order`, into batches as large as the bounds allow for their longest."""
    starts, held, least = [], 0, 0
    for index, most in enumerate(bounds.most(frames[order]).tolist()):
        if most < least:
            least = most
        if held >= least:
            starts.append(index)
            held, least = 0, most
        held += 1
    starts = np.array(starts, dtype=np.int64)
    return Batches(order, starts, np.append(starts[1:], len(order)))


def worst_batches(frames: Sequence[int] | np.ndarray, bounds: Bounds) -> list[tuple[int, int]]:
    """The batches that need the most memory, whatever the attention, as (utterances, frames of the longest).

    The one with the longest utterance, which costs a quadratic attention most, and the one with the most frames in total.
    """
    lengths = np.unique(np.asarray(frames, dtype=np.int64))
    most = np.minimum(bounds.most(lengths), len(frames))
    longest = (int(most[-1]), int(lengths[-1]))
    fullest = int(np.argmax(most * lengths))
    return list(dict.fromkeys([longest, (int(most[fullest]), int(lengths[fullest]))]))

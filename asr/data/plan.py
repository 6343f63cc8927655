"""The plan of an epoch: which utterances make up which batch, on which rank.

A plan is a pure function of (frames, seed, epoch, ranks). Nothing is drawn while training, so a position in an epoch is
one number, and every rank knows that it has as many batches as the others.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from asr.errors import UserError


def plan_epoch(
    frames: Sequence[int],
    batch_frames: int,
    batch_utterances: int | None = None,
    seed: int = 0,
    epoch: int = 0,
    ranks: int = 1,
    rank: int = 0,
    jitter: float = 0.1,
) -> list[list[int]]:
    """The batches of one rank in one epoch, as lists of utterance indices.

    frames: length of every utterance in feature frames. Utterances of like length share a batch: they are sorted by length
        times a random factor within 1 ± `jitter`, cut into batches, and the batches are shuffled.
    batch_frames: bound on a batch's frames, padding included. An utterance longer than that is a batch of its own.
    batch_utterances: bound on the utterances of a batch, if any.

    Every epoch has as many batches as every other, on every rank: trainers count on it. Every utterance is in exactly one
    batch of one rank; only where there are fewer utterances than ranks are some repeated. Raises UserError if there are no
    utterances.
    """
    frames = np.asarray(frames, dtype=np.int64)
    if len(frames) == 0:
        raise UserError("There are no utterances to make batches of.")
    random = np.random.default_rng([seed, epoch])
    noise = random.uniform(-1, 1, len(frames))
    number = batches_in_an_epoch(frames, batch_frames, batch_utterances, ranks)
    while True:
        order = np.argsort(frames * (1 + jitter * noise), kind="stable")
        batches = cut_into_batches(order, frames, batch_frames, batch_utterances)
        if len(batches) <= number:
            break
        # without jitter there are few enough by construction
        jitter = jitter / 2 if jitter > 0.01 else 0.0
    batches = split_to(number, batches)
    batches = [batches[index] for index in random.permutation(len(batches))]
    batches += [batches[index % len(batches)] for index in range(-len(batches) % ranks)]
    return batches[rank::ranks]


def batches_in_an_epoch(frames, batch_frames: int, batch_utterances: int | None, ranks: int = 1) -> int:
    """How many batches every epoch has: those of utterances sorted by length, a twentieth more, and a multiple of `ranks`.

    The twentieth makes room for the orders of single epochs, which bring less like lengths together.
    """
    order = np.argsort(frames, kind="stable")
    fewest = len(cut_into_batches(order, frames, batch_frames, batch_utterances))
    number = fewest + (fewest + 19) // 20
    number += -number % ranks
    return min(number, len(frames))


def split_to(number: int, batches: list[list[int]]) -> list[list[int]]:
    """Halves the batches with the most utterances until there are `number` of them."""
    queue = [(-len(batch), place, batch) for place, batch in enumerate(batches)]
    heapq.heapify(queue)
    for place in range(len(batches), number):
        _, first, batch = heapq.heappop(queue)
        middle = len(batch) // 2
        heapq.heappush(queue, (-middle, first, batch[:middle]))
        heapq.heappush(queue, (middle - len(batch), place, batch[middle:]))
    return [batch for _, _, batch in queue]


def plan_in_order(frames: Sequence[int], batch_frames: int, batch_utterances: int | None = None) -> list[list[int]]:
    """Batches of every utterance exactly once, from the longest to the shortest: for evaluation, the worst batch first."""
    frames = np.asarray(frames, dtype=np.int64)
    order = np.argsort(-frames, kind="stable")
    return cut_into_batches(order, frames, batch_frames, batch_utterances)


def cut_into_batches(order, frames, batch_frames: int, batch_utterances: int | None) -> list[list[int]]:
    """Cuts utterances, in `order`, into runs whose longest times their number stays within `batch_frames`."""
    batches, batch, longest = [], [], 0
    for index in order.tolist():
        longest_with = max(longest, int(frames[index]))
        full = batch_utterances is not None and len(batch) >= batch_utterances
        if batch and (full or longest_with * (len(batch) + 1) > batch_frames):
            batches.append(batch)
            batch, longest_with = [], int(frames[index])
        batch.append(index)
        longest = longest_with
    if batch:
        batches.append(batch)
    return batches

"""How Switchboard is divided: by conversations, or as Kaldi's recipe does."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from asr.data.corpora.preparing.folders import split_by_hash
from asr.errors import UserError

if TYPE_CHECKING:
    from lhotse import MonoCut

Item = TypeVar("Item")


def conversation_of(cut: MonoCut) -> str:
    """The conversation that a cut is from, "sw02001": the speaker is a side of it, "sw02001-A"."""
    return cut.supervisions[0].speaker.partition("-")[0]


def by_conversations(
    cuts: Sequence[MonoCut], dev_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[MonoCut]]:
    """train, dev and test of whole conversations, by a stable hash of (seed, conversation): no speaker is in two of them.

    Raises UserError for fewer than three conversations.
    """
    split_of = split_by_hash({conversation_of(cut) for cut in cuts}, dev_fraction, test_fraction, seed)
    splits: dict[str, list[MonoCut]] = {"train": [], "dev": [], "test": []}
    for cut in cuts:
        splits[split_of[conversation_of(cut)]].append(cut)
    return splits


def as_kaldi(
    cuts: Iterable[MonoCut], texts: Iterable[str], dev_utterances: int, most_copies: int, test: bool
) -> dict[str, list[MonoCut]]:
    """train and dev of Kaldi's egs/swbd/s5c/run.sh: of the utterances sorted by their ids, the first ones are dev (train_dev),
    the others are train (train_nodev), thinned out where a text comes often (train_nodup).

    texts: of each cut, what is compared. test: whether as many utterances after dev are to be a test split, which Kaldi
    does not have. The border falls into a conversation, so that two speakers are on both sides of it.
    Raises UserError if nothing is left to train on.
    """
    ordered = sorted(zip(cuts, texts), key=lambda pair: pair[0].id)
    dev, rest = ordered[:dev_utterances], ordered[dev_utterances:]
    held_out, rest = (rest[:dev_utterances], rest[dev_utterances:]) if test else ([], rest)
    if not rest:
        raise UserError(
            f"split=kaldi takes the first {dev_utterances} utterances for dev{' and as many for test' * test}; there are "
            f"{len(ordered)} in all. Use split=conversations, or a smaller dev_utterances."
        )
    splits = {"train": without_copies(*zip(*rest), most_copies), "dev": [cut for cut, _ in dev]}
    return splits | ({"test": [cut for cut, _ in held_out]} if test else {})


def without_copies(items: Sequence[Item], texts: Sequence[str], most: int) -> list[Item]:
    """The items, of which no text comes more than `most` times.

    Which of a frequent text's copies stay is drawn as Kaldi's utils/data/remove_dup_utts.sh draws, by the same numbers,
    spread over the whole; where its draw would let a few more than `most` through, those after them are left out.
    """
    count = collections.Counter(texts)
    kept: collections.Counter[str] = collections.Counter()
    draw, remaining = 0, []
    for item, text in zip(items, texts):
        if count[text] >= most:
            draw = (draw + 103349) % 71147
            if draw / 71147 >= most / count[text] or kept[text] == most:
                continue
        kept[text] += 1
        remaining.append(item)
    return remaining

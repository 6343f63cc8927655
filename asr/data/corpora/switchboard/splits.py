"""The splits of Switchboard: by conversations, or as in Kaldi's recipe."""

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
    """The conversation of a cut, "sw02001": its speaker is a side of it, "sw02001-A"."""
    return cut.supervisions[0].speaker.partition("-")[0]


def by_conversations(
    cuts: Sequence[MonoCut], dev_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[MonoCut]]:
    """train, dev and test of entire conversations, by a stable hash of (seed, conversation): no two share a speaker.

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
    """train and dev of Kaldi's egs/swbd/s5c/run.sh: sorted by id, the first utterances are dev (train_dev), the others are
    train (train_nodev) with fewer copies of frequent texts (train_nodup).

    texts: the text of each cut to compare. test: whether to add a test split of as many utterances after dev, which Kaldi
    does not have. The border falls within a conversation, so two speakers are on both sides of it.
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
    train = without_copies([cut for cut, _ in rest], [text for _, text in rest], most_copies)
    splits = {"train": train, "dev": [cut for cut, _ in dev]}
    return splits | ({"test": [cut for cut, _ in held_out]} if test else {})


def without_copies(items: Sequence[Item], texts: Sequence[str], most: int) -> list[Item]:
    """The items without those that would make a text occur more than `most` times.

    Which copies of a frequent text stay is drawn with the numbers of Kaldi's utils/data/remove_dup_utts.sh, spread over all
    items; where its draw would let a few more than `most` through, the last ones are left out.
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

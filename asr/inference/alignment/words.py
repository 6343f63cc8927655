"""Words and the units that spell them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from asr.inference.alignment import Timed
from asr.text.units.characters import SPACE

if TYPE_CHECKING:
    from lhotse import SupervisionSegment

    from asr.text.units import Units


@dataclasses.dataclass(frozen=True)
class Spelling:
    """A word and the positions of its units; `end` is exclusive.

    confidence: its posterior probability by the decoder that found it, 0..1; None if there is none.
    """

    word: str
    first: int
    end: int
    confidence: float | None = None


def spelled(units: Units, ids: Sequence[int]) -> list[Spelling] | None:
    """The words that ids of characters or pieces spell; None for units that do not mark word ends, such as phonemes.

    Joined by spaces, they equal `Units.decode`.
    """
    if units.metric != "wer":
        return None
    words, text, first = [], "", 0
    for position, unit in enumerate([*ids, None]):
        symbol = SPACE if unit is None else units.symbols[unit]
        if symbol.startswith(SPACE):
            if text:
                words.append(Spelling(text, first, position))
            text, symbol, first = "", symbol[len(SPACE) :], position
        if symbol and not text:
            first = position
        text += symbol
    return words


def reference(
    units: Units, supervision: SupervisionSegment, gold: bool = True
) -> tuple[list[int], list[Spelling] | None]:
    """(ids of what was said, its words). Raises UnknownUnit for text that the units cannot write.

    Phonemes come from the words' pronunciations. If the corpus has gold phonemes, the units use them and `gold` is true, they
    come from these, and words consist of the phonemes that start within their gold times. Words are None if neither applies.
    """
    alignment = supervision.alignment or {}
    if units.metric == "wer":
        ids = units.encode(supervision)
        return ids, spelled(units, ids)
    if getattr(units, "alignments", True) and "phoneme" in alignment and (gold or not hasattr(units, "pronunciations")):
        ids = units.encode(supervision)
        return ids, gold_words(alignment, len(ids))
    if not hasattr(units, "pronunciations"):
        return units.encode(supervision), None
    ids, words = [], []
    for word in units.words(supervision):
        spoken = units.encode(dataclasses.replace(supervision, text=word, alignment=None))
        words.append(Spelling(word, len(ids), len(ids) + len(spoken)))
        ids += spoken
    return ids, [word for word in words if word.end > word.first]


def gold_words(alignment: dict, phonemes: int) -> list[Spelling] | None:
    """Words by the gold tiers; None unless there are this many phonemes and each starts within a word."""
    from asr.text.units.phonemes import SILENCES

    items = [item for item in alignment["phoneme"] if item.symbol.upper() not in SILENCES]
    if len(items) != phonemes or "word" not in alignment:
        return None
    words, position = [], 0
    for word in alignment["word"]:
        first = position
        # manifests round their times
        while position < phonemes and items[position].start < word.start + word.duration - 1e-3:
            position += 1
        if position > first:
            words.append(Spelling(word.symbol, first, position))
    return words if position == phonemes else None


def group(words: Sequence[Spelling], timed_units: Sequence[Timed]) -> list[Timed]:
    """Words from their units: from the start of the first to the end of the last.

    The confidence of a word is its posterior probability by the decoder, which weighs lexicon, language model and competing
    words. Without one, as for references and greedy decoding, it is acoustic: the geometric mean of its units' confidences, so
    that long words are not penalized.
    """
    return [
        Timed(
            word.word,
            timed_units[word.first].start,
            timed_units[word.end - 1].end,
            joint_confidence([unit.confidence for unit in timed_units[word.first : word.end]])
            if word.confidence is None
            else word.confidence,
        )
        for word in words
    ]


def joint_confidence(confidences: Sequence[float]) -> float:
    """The geometric mean of probabilities, 0..1; of none, 0."""
    if not confidences or min(confidences) <= 0.0:
        return 0.0
    return min(1.0, math.exp(sum(map(math.log, confidences)) / len(confidences)))

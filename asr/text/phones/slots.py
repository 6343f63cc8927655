"""A sentence as slots, each with its alternatives: the pronunciations of a word, or silence and none."""

from __future__ import annotations

from collections.abc import Sequence

# the alternatives of one place in a sentence: (probability, units); they sum to 1, and () stands for nothing
Slot = tuple[tuple[float, tuple[int, ...]], ...]


def word(pronunciations: Sequence[tuple[int, ...]]) -> Slot:
    """The slot of a word whose pronunciations are equally likely."""
    different = dict.fromkeys(pronunciations)
    return tuple((1 / len(different), pronunciation) for pronunciation in different)


def optional(unit: int, probability: float) -> Slot:
    """The slot of a unit that may be left out. probability: that it is there."""
    options = ((1 - probability, ()), (probability, (unit,)))
    return tuple(option for option in options if option[0] > 0)


def with_silences(words: Sequence[Slot], silence: int, edge: float = 0.8, between: float = 0.2) -> list[Slot]:
    """Optional silences around words and between them.

    silence: the unit. edge, between: its probability at either end and between two words; Kaldi's are 0.8 and 0.2.
    """
    outside, inside = optional(silence, edge), optional(silence, between)
    slots = [outside]
    for slot in words:
        slots += [slot, inside]
    if words:
        slots[-1] = outside
    return slots

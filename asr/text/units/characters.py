"""Characters of the normalized text, with a visible space between words; scored in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from asr.errors import UserError
from asr.text.normalization import normalize
from asr.text.units import BLANK, Units, UnknownUnit

if TYPE_CHECKING:
    from lhotse import SupervisionSegment

SPACE = "▁"


class Characters(Units):
    """The characters of the training split's text."""

    name = "characters"
    metric = "wer"

    @classmethod
    def build(cls, supervisions: Iterable[SupervisionSegment], normalizer: str = "words") -> Characters:
        characters = {character for supervision in supervisions for character in spelled(supervision, normalizer)}
        if not characters - {SPACE}:
            raise UserError(
                "units=characters has no text to take characters from in the training split: check its transcripts."
            )
        return cls([BLANK, SPACE, *sorted(characters - {SPACE})], normalizer)

    def encode(self, supervision: SupervisionSegment) -> list[int]:
        unwritable = self.unwritable(supervision)
        if unwritable:
            raise UnknownUnit(
                unwritable[0],
                f"Utterance {supervision.id}: the character {unwritable[0]!r} is not among the model's "
                f"{len(self.symbols) - 1} (normalizer {self.normalizer!r}).",
            )
        return [self.ids[character] for character in spelled(supervision, self.normalizer)]

    def unwritable(self, supervision: SupervisionSegment) -> list[str]:
        return [character for character in spelled(supervision, self.normalizer) if character not in self.ids]

    def reference(self, supervision: SupervisionSegment) -> list[str]:
        return self.words(supervision)

    def decode(self, ids: list[int]) -> list[str]:
        return "".join(self.symbols[index] for index in ids).replace(SPACE, " ").split()


def spelled(supervision: SupervisionSegment, normalizer: str) -> str:
    return SPACE.join(normalize(supervision.text or "", normalizer)[0].split())

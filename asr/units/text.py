"""Text normalization by name, so that every score can say which text it was counted on and what was taken out."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from asr.errors import UserError, nearest

NORMALIZERS = ("none", "words", "speech")
APOSTROPHES = "’‘ʼ＇`´′"
# What transcribers write for what is no word: <NOISE>, [laughter].
MARK = re.compile(r"(?<!\S)(<[^<>\s]*>|\[[^\[\]\s]*\])(?!\S)")
LONE_APOSTROPHE = re.compile(r"(?<![^\W_])'|'(?![^\W_])")


class Replacements(dict):
    """By code point, what a character becomes; worked out when a character is first seen (for `str.translate`)."""

    def __missing__(self, code: int) -> str:
        character, category = chr(code), unicodedata.category(chr(code))
        if character in APOSTROPHES or character == "'":
            kept = "'"
        elif category[0] in "LMN":
            kept = character
        else:  # soft hyphens and joiners stand inside words, everything else between them
            kept = "" if category == "Cf" else " "
        self[code] = kept
        return kept


REPLACEMENTS = Replacements()


def normalize(text: str, name: str = "words") -> tuple[str, Counter]:
    """The text as the normalizer `name` leaves it, and how often each character was taken out.

    `words`: Unicode NFC, lower case, typographic apostrophes as ', hyphens and all other punctuation as the ends of
    words, apostrophes only inside words, single spaces. `speech`: the same, without noises such as `<NOISE>` and
    `[laughter]`. `none`: the text as it is. Raises UserError for another name.
    """
    check_normalizer(name)
    if name == "none":
        return text, Counter()
    removed = Counter()
    if name == "speech":
        removed.update(MARK.findall(text))
        text = MARK.sub(" ", text)
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    plain = text.translate(REPLACEMENTS)
    words = LONE_APOSTROPHE.sub(" ", plain)
    if plain != text:
        removed.update(
            character for character in text if not character.isspace() and REPLACEMENTS[ord(character)] in " "
        )
    if words != plain:
        removed["'"] += len(LONE_APOSTROPHE.findall(plain))
    return " ".join(words.split()), removed


def check_normalizer(name: str) -> None:
    """Raises UserError if there is no normalizer of that name."""
    if name not in NORMALIZERS:
        raise UserError(f"There is no text normalizer called {name!r}: {nearest(name, NORMALIZERS)}.")

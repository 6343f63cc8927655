"""Text normalization by name, so that every score can say which text it counts and what was removed.

A name may end in a language with rules of its own, as in `words-tr`: units keep it with the model.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections import Counter

from asr.errors import UserError, nearest

NORMALIZERS = ("none", "words", "speech")
# typographic apostrophes, and the Hebrew geresh, which is also typed as '
APOSTROPHES = "’‘ʼ＇`´′׳"
# How transcribers mark what is not a word: <NOISE>, [laughter].
MARK = re.compile(r"(?<!\S)(<[^<>\s]*>|\[[^\[\]\s]*\])(?!\S)")
# Joining signs that are not between two letters or digits.
LONE_JOINT = re.compile(r"(?<![^\s'·])['·]|['·](?![^\s'·])")
# Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties: joiners, soft hyphens, directional marks, variation
# selectors, fillers, the byte order mark …: all inaudible.
IGNORABLE = frozenset(
    code
    for first, last in (
        (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
        (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
        (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
    )
    for code in range(first, last + 1)
)  # fmt: skip
# the only one of them that separates words, in scripts without spaces (Khmer)
ZERO_WIDTH_SPACE = 0x200B
# Punctuation written inside words: Armenian stress, exclamation, question and abbreviation (ALetter and MidLetter of UAX #29).
INSIDE_WORDS = frozenset(map(ord, "՛՜՞՟"))
# Hebrew abbreviations (rule WB7b of UAX #29), with the gershayim or what people type instead.
GERSHAYIM = re.compile('(?<=[א-ת])["”״](?=[א-ת])')
# A soft-dotted letter, marks below it, and a dot above it, which repeats the letter's own dot.
SECOND_DOT = re.compile("([ijɨįịіј][\u0316-\u0333]*)\u0307+")
# Letters that were written with a joiner before they had code points of their own: Malayalam chillus, the Bengali khanda ta.
ATOMIC = {
    "ണ്\u200d": "ൺ", "ന്\u200d": "ൻ", "ര്\u200d": "ർ", "ല്\u200d": "ൽ", "ള്\u200d": "ൾ", "ക്\u200d": "ൿ",
    "ত্\u200d": "ৎ",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Language:
    """The special rules of a language. letters: replacements before lower-casing. joins: signs allowed inside words. names:
    its names in corpora besides its code."""

    letters: dict[str, str] = dataclasses.field(default_factory=dict)
    joins: str = ""
    names: tuple[str, ...] = ()


# Unicode's SpecialCasing for tr and az; Crimean Tatar and Gagauz have the same two letters.
DOTS = {"I": "ı", "İ": "i"}
LANGUAGES = {
    "tr": Language(DOTS, names=("tur", "turkish")),
    "az": Language(DOTS, names=("aze", "azj", "azerbaijani")),
    "crh": Language(DOTS),
    "gag": Language(DOTS),
    # col·lecció
    "ca": Language({"Ŀ": "L·", "ŀ": "l·"}, "·", ("cat", "catalan")),
}
CODES = {name: code for code, language in LANGUAGES.items() for name in (code, *language.names)}


class Replacements(dict):
    """What each character becomes, by code point, computed when it first occurs (for `str.translate`)."""

    def __init__(self, language: Language):
        super().__init__({ord(letter): other for letter, other in language.letters.items()})
        self.update({ord(sign): sign for sign in "'" + language.joins})

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character in APOSTROPHES:
            kept = "'"
        elif code in IGNORABLE or code in INSIDE_WORDS:
            kept = " " if code == ZERO_WIDTH_SPACE else ""
        else:
            kept = character if unicodedata.category(character)[0] in "LMN" else " "
        self[code] = kept
        return kept


@functools.cache
def replacements(language: str) -> Replacements:
    return Replacements(LANGUAGES.get(language, Language()))


def normalize(text: str, name: str = "words") -> tuple[str, Counter]:
    """The text after the normalizer `name`, and how often each character was removed.

    `words`: Unicode NFC, lower case, typographic apostrophes as ', hyphens and all other punctuation as ends of words,
    apostrophes only inside words, single spaces; what Unicode calls ignorable (zero-width joiners, soft hyphens, directional
    marks, variation selectors) is removed, and the zero-width space ends a word. `speech`: the same, without noises such as
    `<NOISE>` and `[laughter]`. `none`: the text as it is. `words-tr`, `speech-ca`, …: by the rules of that language
    (`LANGUAGES`). Raises UserError for any other name.
    """
    check_normalizer(name)
    name, _, language = name.partition("-")
    if name == "none":
        return text, Counter()
    removed = Counter()
    if name == "speech":
        removed.update(MARK.findall(text))
        text = MARK.sub(" ", text)
    text = unicodedata.normalize("NFC", text)
    for sequence, letter in ATOMIC.items() if "\u200d" in text else ():
        text = text.replace(sequence, letter)
    removed.update(GERSHAYIM.findall(text))
    text = GERSHAYIM.sub("", text)
    becomes = replacements(language)
    plain = text.translate(becomes)
    if plain != text:
        removed.update(character for character in text if not character.isspace() and becomes[ord(character)] in " ")
    removed.update(LONE_JOINT.findall(plain))
    # lower case comes last: whether a Greek sigma ends a word depends on its neighbours
    words = unicodedata.normalize("NFC", LONE_JOINT.sub(" ", plain).lower())
    if "\u0307" in words:
        words = unicodedata.normalize("NFC", SECOND_DOT.sub(r"\1", words))
    return " ".join(words.split()), removed


def with_language(name: str, language: str | None) -> str:
    """The normalizer for texts in a language, by its code (`tr`, `tr-TR`, eSpeak's `en-us`) or English name: `words` becomes
    `words-tr`. Most languages need no rules of their own, and unknown ones have none, so `words` stays `words`."""
    code = CODES.get(re.split("[-_+]", str(language or "").strip().lower())[0])
    return f"{name}-{code}" if code is not None and name in NORMALIZERS[1:] else name


@functools.lru_cache(maxsize=64)
def check_normalizer(name: str) -> None:
    """Raises UserError if there is no normalizer of that name."""
    base, dash, language = name.partition("-")
    if base not in NORMALIZERS or (dash and base == "none"):
        raise UserError(f"There is no text normalizer called {name!r}: {nearest(name, NORMALIZERS)}.")
    if dash and language not in LANGUAGES:
        raise UserError(
            f"There is no text normalizer called {name!r}: only {', '.join(sorted(LANGUAGES))} have rules of their own; use "
            f"{base!r} for any other language."
        )

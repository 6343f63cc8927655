"""The dictionary of the ms98 transcripts (sw-ms98-dict.text): which words are spelled out, and how fragments are pronounced.

Its lines are `IBM ay b iy eh m`, `-[an]y iy`, `them_1 eh m`; its phonemes are those of cmudict and the schwas ax, el and en.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from asr.runtime.text_files import read_lines

# The names of the letters, in the phonemes of cmudict; a word pronounced like its letters is spelled out.
_LETTERS = (
    "A EY; B B IY; C S IY; D D IY; E IY; F EH F; G JH IY; H EY CH; I AY; J JH EY; K K EY; L EH L; M EH M; N EH N; O OW; "
    "P P IY; Q K Y UW; R AA R; S EH S; T T IY; U Y UW; V V IY; W D AH B AH L Y UW; X EH K S; Y W AY; Z Z IY"
)
LETTERS = {entry.split()[0]: tuple(entry.split()[1:]) for entry in _LETTERS.split(";")}
SCHWAS = {"AX": "AH", "EL": "AH L", "EN": "AH N"}


def by_letters(capitals: str) -> tuple[str, ...]:
    """The phonemes of a word that is spelled out."""
    return tuple(phoneme for letter in capitals for phoneme in LETTERS[letter])


class Dictionary:
    """entries: (word as transcribed, its phonemes as in cmudict), in the order of the lines."""

    def __init__(self, lines: Iterable[str] = ()):
        from asr.text.lexicon.dictionary import ARPABET

        self.entries: list[tuple[str, tuple[str, ...]]] = []
        for line in lines:
            fields = line.split()
            phonemes = " ".join(SCHWAS.get(field.upper(), field.upper()) for field in fields[1:]).split()
            if phonemes and not fields[0].startswith("#") and set(phonemes) <= set(ARPABET):
                self.entries.append((fields[0], tuple(phonemes)))
        self._spelled: dict[str, bool] = {}
        for word, phonemes in self.entries:
            if re.fullmatch("[A-Z]{2,}", word):
                self._spelled[word] = self._spelled.get(word, False) or phonemes == by_letters(word)

    @classmethod
    def read(cls, path: Path) -> Dictionary:
        """The dictionary in a file. Raises UserError if it cannot be read."""
        return cls(read_lines(path, otherwise="latin1"))

    def spells(self, capitals: str) -> bool:
        """Whether a word in capitals is read letter by letter: it is pronounced like its letters (as in Kaldi's
        format_acronyms_dict.py), here or else in cmudict. A word in neither is spelled out."""
        if capitals in self._spelled:
            return self._spelled[capitals]
        from asr.text.lexicon.dictionary import cmudict_lexicon

        lexicon = cmudict_lexicon()
        return capitals.lower() not in lexicon or lexicon[capitals.lower()] == by_letters(capitals)

    def pronunciations(self, words: Iterable[str], said: Callable[[str], str]) -> dict[str, str]:
        """The phonemes of the words that cmudict lacks, mostly fragments; the first pronunciation if there are several.

        said: turns a transcribed word into the word of our transcripts.
        """
        from asr.text.lexicon.dictionary import cmudict_lexicon

        wanted = {word for word in words if word not in cmudict_lexicon()}
        found: dict[str, str] = {}
        for transcribed, phonemes in self.entries:
            word = said(transcribed)
            if word in wanted:
                found.setdefault(word, " ".join(phonemes))
        return found

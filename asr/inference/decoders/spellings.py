"""The words that a decoder can find, and their spellings in the model's units: phonemes, characters or byte-pair pieces."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import UserError, listed, nearest
from asr.text.lexicon.dictionary import cmudict_lexicon
from asr.text.lexicon.files import SPECIAL, Pronunciations, read_lexicon
from asr.text.units import BLANK, Units, UnknownUnit

if TYPE_CHECKING:
    from collections.abc import Callable

SPACE, SILENCE = "▁", "SIL"
OUT_OF_VOCABULARY = ("espeak", "skip", "refuse")
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Spellings:
    """words: each word's spellings, as unit indices, with their log-probabilities (natural logarithm, 0 for the likeliest).
    separator: the unit between words, if the model has one: the space, which is mandatory between two words, or silence, which
        is optional. is_space: whether it is the former.
    facts: where the spellings came from, as plain data.
    """

    words: dict[str, dict[tuple[int, ...], float]]
    separator: int | None
    is_space: bool
    facts: dict[str, Any]

    def of(self, word: str) -> Collection[tuple[int, ...]]:
        return self.words[word]


def spell(
    units: Units, vocabulary: Iterable[str] | None, lexicon: str = "auto", out_of_vocabulary: str = "espeak"
) -> Spellings:
    """Spells the words of a vocabulary in the units of a model.

    vocabulary: the words of the language model; None takes those of the lexicon. lexicon: a file (see `read_lexicon`; for
    characters and byte-pair pieces only its words count), or "auto": the model's own pronunciations and cmudict.
    A word is looked up as written, then in lower case, then in any case; a file that lacks more than half of the words gets a
    warning. out_of_vocabulary: words without a pronunciation are pronounced by eSpeak ("espeak"), left out ("skip") or refused
    ("refuse"). Raises UserError if no word is left, and for a lexicon that does not fit the units.
    """
    if out_of_vocabulary not in OUT_OF_VOCABULARY:
        raise UserError(
            f"decoder.out_of_vocabulary={out_of_vocabulary!r}: {nearest(out_of_vocabulary, OUT_OF_VOCABULARY)}."
        )
    by_phonemes = units.metric == "per"
    phonemes = [symbol for symbol in units.symbols if symbol != BLANK]
    own = None if lexicon == "auto" else OwnLexicon(Path(lexicon), phonemes if by_phonemes else None)
    if own is not None and vocabulary is not None:
        vocabulary = list(vocabulary)
        own.warn_of_missing(vocabulary, MISSING[out_of_vocabulary if by_phonemes else "skip"])
    if by_phonemes:
        words, facts = _pronounced(units, vocabulary, own, out_of_vocabulary)
    else:
        words, facts = _written(units, vocabulary, own)
    for key in ("espeak", "left_out"):
        if facts[key]:
            log.info("%s: %d words: %s", WORDS[key], len(facts[key]), listed(facts[key]))
    if not words:
        raise UserError(
            f"None of the words of the language model ({listed(facts['left_out'])}) can be spelt in the units of this model: "
            "give decoder.lm=FILE in its language and alphabet."
        )
    mark = SILENCE if by_phonemes else SPACE
    separator = units.ids.get(mark)
    if not by_phonemes and separator is not None:
        # byte-pair pieces begin with their space, whereas the space between characters is a unit
        first = units.symbols[next(iter(next(iter(words.values()))))[0]]
        separator = None if first.startswith(SPACE) else separator
    spellings = sum(len(each) for each in words.values())
    facts = {"words": len(words), "spellings": spellings, **facts}
    return Spellings(words, separator, not by_phonemes, facts)


WORDS = {
    "espeak": "Pronounced by eSpeak, because the lexicon lacks them",
    "left_out": "Left out, because they cannot be spelt",
}
MISSING = {"espeak": "eSpeak pronounces them", "skip": "they are left out", "refuse": "they are refused"}


class OwnLexicon:
    """A lexicon file given by the user. words: its content."""

    def __init__(self, path: Path, phonemes: Iterable[str] | None):
        self.path, self.words = path, read_lexicon(path, phonemes)

    @functools.cached_property
    def _in_any_case(self) -> dict[str, Pronunciations]:
        words: dict[str, Pronunciations] = {}
        for word, pronunciations in self.words.items():
            words.setdefault(word.casefold(), {}).update(pronunciations)
        return words

    def find(self, word: str) -> Pronunciations:
        """The word's pronunciations; empty if the file does not have it in any case."""
        return self.words.get(word) or self.words.get(word.lower()) or self._in_any_case.get(word.casefold()) or {}

    def warn_of_missing(self, vocabulary: list[str], consequence: str) -> None:
        """Warns if the file lacks more than half of these words, not counting marks and words without letters."""
        could_be = [word for word in vocabulary if not SPECIAL.fullmatch(word) and any(map(str.isalpha, word))]
        missing = [word for word in could_be if not self.find(word)]
        if 2 * len(missing) > len(could_be):
            log.warning(
                "The lexicon %s lacks %d of the %d words of the language model, such as %s; %s. It has words such as %s: check "
                "that both have the same language and spelling.",
                self.path, len(missing), len(could_be), listed(missing, 5), consequence, listed(self.words, 5),
            )  # fmt: skip


def _pronounced(
    units: Units, vocabulary: Iterable[str] | None, own: OwnLexicon | None, out_of_vocabulary: str
) -> tuple[dict[str, dict[tuple[int, ...], float]], dict[str, Any]]:
    find = _finder(units, own)
    facts: dict[str, Any] = {"espeak": [], "left_out": []}
    if vocabulary is None:
        vocabulary = own.words if own is not None else getattr(units, "pronunciations", ())
        if not len(vocabulary):
            raise UserError(
                "The decoder has no words: give a language model (decoder.lm=FILE) or a lexicon (decoder.lexicon=FILE); "
                "scripts/tune_decoder.py remembers them for the run."
            )
    words, missing = {}, []
    for word in vocabulary:
        found = find(word)
        spelt = {
            tuple(units.ids[phoneme] for phoneme in phonemes): probability
            for phonemes, probability in found.items()
            if all(phoneme in units.ids for phoneme in phonemes)
        }
        if spelt:
            most = max(spelt.values())
            words[word] = {spelling: math.log(probability / most) for spelling, probability in spelt.items()}
        else:
            missing.append(word)
    if missing and out_of_vocabulary == "refuse":
        raise UserError(
            f"{len(missing)} words of the language model have no pronunciation: {listed(missing)}. Add them to the lexicon "
            "(decoder.lexicon=FILE), or use decoder.out_of_vocabulary=espeak or skip."
        )
    for word in missing:
        spelling = _by_espeak(word, units) if out_of_vocabulary == "espeak" and not SPECIAL.fullmatch(word) else ()
        if spelling:
            words[word] = {spelling: 0.0}
        facts["espeak" if spelling else "left_out"].append(word)
    return words, facts


def _finder(units: Units, own: OwnLexicon | None) -> Callable[[str], Pronunciations]:
    """A function that looks up pronunciations: in the file only, or in the model's lexicon and cmudict."""
    if own is not None:
        return own.find
    model = getattr(units, "pronunciations", {})
    english = getattr(units, "lexicon", None) in ("cmudict", "corpus")

    def find(word: str) -> Pronunciations:
        found: Pronunciations = {}
        for form in dict.fromkeys((word, word.lower())):
            if not found and form in model:
                found[model[form]] = 1.0
            if english and form in cmudict_lexicon():
                found.update(dict.fromkeys(cmudict_lexicon().all_of(form), 1.0))
        return found

    return find


def _by_espeak(word: str, units: Units) -> tuple[int, ...]:
    from asr.text.lexicon.pronouncing import pronounced

    phonemes, _ = pronounced(word)
    return tuple(units.ids[phoneme] for phoneme in phonemes) if set(phonemes) <= set(units.ids) else ()


def _written(
    units: Units, vocabulary: Iterable[str] | None, own: OwnLexicon | None
) -> tuple[dict[str, dict[tuple[int, ...], float]], dict[str, Any]]:
    from lhotse import SupervisionSegment

    if vocabulary is None:
        if own is None:
            raise UserError(
                f"The decoder has no words, which it needs with units={units.name}: give a language model that lists them "
                "(decoder.lm=FILE), or a file of words (decoder.lexicon=FILE)."
            )
        vocabulary = own.words
    words: dict[str, dict[tuple[int, ...], float]] = {}
    left_out = []
    for word in vocabulary:
        if own is not None and not own.find(word):
            left_out.append(word)
            continue
        try:
            ids = units.encode(SupervisionSegment("word", "word", 0.0, 1.0, text=word))
        except UnknownUnit:
            ids = []
        # a mark such as <laughter> would lose its brackets and become a word
        if ids and not SPECIAL.fullmatch(word):
            words[word] = {tuple(ids): 0.0}
        else:
            left_out.append(word)
    return words, {"espeak": [], "left_out": left_out}

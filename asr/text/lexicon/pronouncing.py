"""The lexicon of a prepared corpus: every word of its texts, in Kaldi's format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from asr.errors import UserError
from asr.text.lexicon.dictionary import ARPABET, SPEECH_MARKS, Lexicon, cmudict_lexicon

LEXICON = "lexicon.txt"


def write_lexicon(folder: Path, words: Iterable[str], special: Mapping[str, str]) -> dict[str, Any]:
    """Writes `lexicon.txt`, one pronunciation for every word, and returns their sources, as plain data.

    words: of all texts, exactly as written there. special: pronunciations that take precedence, such as {"<NOISE>": "NSN",
    ",COMMA": "K AA M AH"}; they are written even if the words do not occur. Next come cmudict (39 phonemes, without stress),
    the pronunciations of the parts of a hyphenated word, and eSpeak NG for all others, including the beginnings and ends of
    words that were broken off (`ab-`, `-y`).

    Returns {"words", "special", "cmudict": counts, "parts", "espeak", "unpronounced": the words}. Unpronounced words are not
    in the file, and training drops utterances that contain one. Raises UserError for special pronunciations that are not
    ARPAbet, and if eSpeak is needed but not installed.
    """
    known = set(ARPABET) | set(SPEECH_MARKS)
    pronunciations = {word: tuple(phonemes.split()) for word, phonemes in special.items()}
    for word, phonemes in pronunciations.items():
        if not phonemes or not known.issuperset(phonemes):
            raise UserError(
                f"The pronunciation {' '.join(phonemes)!r} of {word!r} is not made of ARPAbet phonemes. Write it with those."
            )
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
        # eSpeak would read the number, but nobody knows how the speaker did
        return (), "unpronounced"
    from asr.text.espeak import pronounce, require

    require()
    try:
        return tuple(pronounce(plain.replace("-", " ").strip())), "espeak"
    except UserError:
        return (), "unpronounced"

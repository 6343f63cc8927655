"""How well a language model predicts a text."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Perplexity:
    """A model's predictions of a text. Every word and every end of a sentence (`</s>`) is a token; `<s>` is not.

    sentences, words: their numbers. unknown: the number of words that the model does not list.
    log10_probability: of all tokens together; unknown words have the probability of `<unk>`, or 0 (-inf) if the model has no
        `<unk>`. log10_probability_known: the same without the unknown words, which still serve as context for others.
    hits: hits[n-1] is the number of tokens predicted by an n-gram of order n, the longest that the model lists.
    """

    sentences: int
    words: int
    unknown: int
    log10_probability: float
    log10_probability_known: float
    hits: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return self.words + self.sentences

    @property
    def with_unknown(self) -> float:
        """Perplexity of all tokens; infinite if there are unknown words and the model has no `<unk>`."""
        return _inverse(self.log10_probability / self.tokens)

    @property
    def without_unknown(self) -> float:
        """Perplexity of all tokens except unknown words, as KenLM and SRILM report it."""
        return _inverse(self.log10_probability_known / (self.tokens - self.unknown))


def _inverse(log10: float) -> float:
    """1 / 10^log10, infinite if that overflows."""
    return 10**-log10 if log10 > -308 else math.inf

"""How well a language model foretells a text."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Perplexity:
    """What a model said about a text. Every word and every end of a sentence (`</s>`) is one token; `<s>` is none.

    sentences, words: as counted. unknown: words that the model does not list.
    log10_probability: of all tokens together; unknown words have the probability of `<unk>`, and none (-inf) where the model
        has no `<unk>`. log10_probability_known: the same without the unknown words, which stay in the contexts of others.
    hits: hits[n-1] is how many tokens the model foretold by an n-gram of that order, the longest that it lists.
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
        """Perplexity of all tokens; infinite where there are unknown words and the model has no `<unk>`."""
        return _inverse(self.log10_probability / self.tokens)

    @property
    def without_unknown(self) -> float:
        """Perplexity of all tokens but the unknown words, as KenLM and SRILM report it."""
        return _inverse(self.log10_probability_known / (self.tokens - self.unknown))


def _inverse(log10: float) -> float:
    """1 / 10^log10, infinite where that is more than a number can hold."""
    return 10**-log10 if log10 > -308 else math.inf

"""KenLM's binary models, read by KenLM's own module, an extra."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from asr.errors import ArgumentError, UserError
from asr.text.ngrams.perplexity import Perplexity
from asr.text.ngrams.text import BEGIN

BINARY_MAGIC = b"mmap lm http://kheafield.com/code"


class KenlmModel:
    """A model in KenLM. It gives the same probabilities as `asr.text.ngrams.NgramModel`, but cannot list its n-grams.

    Raises UserError if the module `kenlm` is not installed or cannot read the file.
    """

    def __init__(self, path: Path | str):
        try:
            import kenlm
        except ImportError:
            raise UserError(
                f"{path} is a KenLM binary, which needs the module kenlm: pip install kenlm (or give the ARPA file)."
            ) from None
        try:
            self.model = kenlm.Model(str(path))
        except (OSError, RuntimeError) as error:
            raise UserError(f"KenLM cannot read {path} ({' '.join(str(error).split())}). Build it again.") from None
        self.new_state = kenlm.State

    @property
    def order(self) -> int:
        return self.model.order

    def __contains__(self, word: str) -> bool:
        return word in self.model

    def log10_probability(self, words: Sequence[str] | str, context: Sequence[str] = ()) -> float:
        """As `NgramModel.log10_probability`; words that are not listed have -100 if the model has no `<unk>`."""
        words = [words] if isinstance(words, str) else list(words)
        state, following = self.new_state(), self.new_state()
        context = list(context)
        begins = context[:1] == [BEGIN]
        (self.model.BeginSentenceWrite if begins else self.model.NullContextWrite)(state)
        total = 0.0
        for at, word in enumerate([*context[begins:], *words], start=begins):
            score = self.model.BaseScore(state, word, following)
            state, following = following, state
            total += score if at >= len(context) else 0.0
        return total

    def perplexity(self, sentences: Iterable[list[str]]) -> Perplexity:
        """As `NgramModel.perplexity`. Raises ArgumentError if there is no sentence."""
        count = words = unknown = 0
        total, known, hits = 0.0, 0.0, [0] * self.order
        for sentence in filter(None, sentences):
            count, words = count + 1, words + len(sentence)
            for log10, length, is_unknown in self.model.full_scores(" ".join(sentence), bos=True, eos=True):
                total += log10
                known += 0.0 if is_unknown else log10
                unknown += is_unknown
                hits[length - 1] += 1
        if not count:
            raise ArgumentError("There is no sentence to compute the perplexity of: give a text with words.")
        return Perplexity(count, words, unknown, total, known, tuple(hits))

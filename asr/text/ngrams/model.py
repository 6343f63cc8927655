"""A back-off n-gram model in arrays: what it says about words, and perplexity at millions of words a minute."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from asr.errors import ArgumentError
from asr.text.ngrams.perplexity import Perplexity
from asr.text.ngrams.text import BEGIN, END, UNKNOWN

if TYPE_CHECKING:
    from asr.text.ngrams.kneser_ney import Discounts

# log10 of what cannot be, as SRILM and everybody after it writes it: the probability of `<s>` after something.
IMPOSSIBLE = -99.0
# Sentences are scored this many at a time, which bounds the memory.
SENTENCES_AT_ONCE = 20000


@dataclasses.dataclass(frozen=True)
class NgramTable:
    """The n-grams of one order, sorted by context and word; for order 1, all words by number.

    context: int32 (n,), the row of the first n-1 words in the table of the order below. word: int32 (n,), the last word.
    suffix: int32 (n,), the row of the last n-1 words in the table of the order below, where backing off leads. For order 1
        context and suffix are 0.
    log10: float32 (n,), log10 P(word | context). backoff: float32 (n,), log10 of the weight that the n-gram as a context gives
        to the order below; 0 where it is no context.
    """

    context: numpy.ndarray
    word: numpy.ndarray
    suffix: numpy.ndarray
    log10: numpy.ndarray
    backoff: numpy.ndarray

    @classmethod
    def of(cls, context, word, log10, backoff, suffix) -> NgramTable:
        """From arrays of any number type."""
        integers = [numpy.asarray(values).astype(numpy.int32) for values in (context, word, suffix)]
        return cls(*integers, numpy.asarray(log10, numpy.float32), numpy.asarray(backoff, numpy.float32))

    def __len__(self) -> int:
        return len(self.word)

    def only(self, keep: numpy.ndarray, rows_below: numpy.ndarray) -> NgramTable:
        """The n-grams to keep (bool). rows_below: the new row of each n-gram of the order below."""
        context, suffix = rows_below[self.context[keep]], rows_below[self.suffix[keep]]
        return NgramTable.of(context, self.word[keep], self.log10[keep], self.backoff[keep], suffix)


class NgramModel:
    """P(word | context) = 10^log10 of the longest n-gram that the model lists, times the back-off weights of longer contexts.

    words: all of them, with `<s>`, `</s>` and `<unk>`; their places are their numbers. tables: one for each order from 1 on.
        With every n-gram, what it begins and ends with is listed as well (`asr.text.ngrams.closure` sees to it).
    unknown: the number of `<unk>`, or None where the model has none.
    discounts, counted: of a model that was estimated, by order, what was taken off the counts, and how many different n-grams
        the text has; some may have been left out. Empty for a model that was read.
    added: how many n-grams were added to a model that was read, for others that need them as contexts or to back off to.
    """

    def __init__(
        self,
        words: list[str],
        tables: list[NgramTable],
        discounts: tuple[Discounts, ...] = (),
        counted: tuple[int, ...] = (),
        added: int = 0,
    ):
        self.words, self.tables, self.added = words, tables, added
        self.discounts, self.counted = discounts, counted
        self.ids = {word: number for number, word in enumerate(words)}
        self.begin, self.end, self.unknown = self.ids[BEGIN], self.ids[END], self.ids.get(UNKNOWN)

    @property
    def order(self) -> int:
        return len(self.tables)

    @property
    def vocabulary(self) -> list[str]:
        """The words without `<s>`, `</s>` and `<unk>`, in the order of their numbers."""
        return [word for number, word in enumerate(self.words) if number not in (self.begin, self.end, self.unknown)]

    def __contains__(self, word: str) -> bool:
        """Whether the model lists the word; `<unk>` is no word."""
        return word in self.ids and self.ids[word] != self.unknown

    @staticmethod
    def read_arpa(path: Path | str) -> NgramModel:
        """See `asr.text.ngrams.arpa.read_arpa`."""
        from asr.text.ngrams.arpa import read_arpa

        return read_arpa(path)

    def write_arpa(self, path: Path | str) -> None:
        """See `asr.text.ngrams.arpa_writing.write_arpa`."""
        from asr.text.ngrams.arpa_writing import write_arpa

        write_arpa(self, path)

    def log10_probability(self, words: Sequence[str] | str, context: Sequence[str] = ()) -> float:
        """log10 P(words | context), the words one after the other; a single word may be given as it is.

        `<s>` belongs into the context where the words begin a sentence, `</s>` to the words where they end it. Words that the
        model does not list are `<unk>`; -inf where it has none.
        """
        words = [words] if isinstance(words, str) else list(words)
        context = list(context)[max(0, len(context) - self.order + 1) :]
        log10, _ = self._score(self._numbers(itertools.chain(context, words)))
        return float(log10[len(context) :].sum())

    def distribution(self, context: Sequence[str] = ()) -> numpy.ndarray:
        """log10 P(word | context) of every word by number, float64 (words,). `<s>` is IMPOSSIBLE in our own models."""
        numbers = self._numbers(list(context)[max(0, len(context) - self.order + 1) :])
        scores = self.tables[0].log10.astype(numpy.float64)
        for length in range(1, len(numbers) + 1):
            row = numpy.zeros(1, numpy.int64)
            for order, number in enumerate(numbers[len(numbers) - length :], start=1):
                row = self._rows(order, row, number[None])
            if row[0] < 0:
                break
            scores += self.tables[length - 1].backoff[row[0]]
            if length < self.order:
                table = self.tables[length]
                first, last = numpy.searchsorted(table.context, (row[0], row[0] + 1))
                scores[table.word[first:last]] = table.log10[first:last]
        return scores

    def perplexity(self, sentences: Iterable[list[str]]) -> Perplexity:
        """How well the model foretells the sentences; empty ones are left out. Raises ArgumentError if there are none."""
        counts, total, known, hits = [0, 0, 0], 0.0, 0.0, numpy.zeros(self.order + 1, numpy.int64)
        sentences = (sentence for sentence in sentences if sentence)
        while batch := list(itertools.islice(sentences, SENTENCES_AT_ONCE)):
            stream = self._numbers(word for sentence in batch for word in (BEGIN, *sentence, END))
            begins = numpy.cumsum([0, *(len(sentence) + 2 for sentence in batch[:-1])])
            log10, orders = self._score(stream, begins)
            foretold = numpy.ones(len(stream), bool)
            foretold[begins] = False
            unknown = (stream < 0) | (stream == (-1 if self.unknown is None else self.unknown))
            counts = [counts[0] + len(batch), counts[1] + int(foretold.sum()), counts[2] + int(unknown.sum())]
            total += float(log10[foretold].sum())
            known += float(log10[foretold & ~unknown].sum())
            hits += numpy.bincount(orders[foretold], minlength=self.order + 1)
        if not counts[0]:
            raise ArgumentError("There is no sentence to take the perplexity of.")
        return Perplexity(counts[0], counts[1] - counts[0], counts[2], total, known, tuple(hits[1:].tolist()))

    def ngrams(
        self, order: int, at_once: int = 100_000
    ) -> Iterator[tuple[list[list[int]], numpy.ndarray, numpy.ndarray]]:
        """Of one order, block by block: (the words by number, log10, backoff)."""
        table = self.tables[order - 1]
        for start in range(0, len(table), at_once):
            rows = numpy.arange(start, min(start + at_once, len(table)))
            columns, block = [], slice(start, start + at_once)
            for below in reversed(self.tables[:order]):
                columns.append(below.word[rows])
                rows = below.context[rows]
            yield numpy.stack(columns[::-1], axis=1).tolist(), table.log10[block], table.backoff[block]

    @functools.cached_property
    def _keys(self) -> list[numpy.ndarray]:
        """By order, context and word of each n-gram as one number; they increase."""
        return [table.context.astype(numpy.int64) * len(self.words) + table.word for table in self.tables]

    def _numbers(self, words: Iterable[str]) -> numpy.ndarray:
        """int64; -1 for words that the model can say nothing about."""
        other = -1 if self.unknown is None else self.unknown
        return numpy.fromiter((self.ids.get(word, other) for word in words), numpy.int64)

    def _rows(self, order: int, context: numpy.ndarray, word: numpy.ndarray) -> numpy.ndarray:
        """The rows of the n-grams of these contexts (rows of the order below) and words; -1 where there are none."""
        if order == 1:
            return word
        keys, wanted = self._keys[order - 1], context * len(self.words) + word
        rows = numpy.minimum(numpy.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        return numpy.where((context >= 0) & (word >= 0) & (keys[rows] == wanted), rows, -1)

    def _score(self, stream: numpy.ndarray, begins: numpy.ndarray | slice = slice(0)) -> tuple:
        """(log10 of each word after all that stand before it, the order of the n-gram that foretold it).

        stream: int64, words by number. begins: places of which nothing before counts (what is given for them means nothing).
        Words that are -1 have order 0 and -inf.
        """
        log10, orders = numpy.zeros(len(stream)), numpy.zeros(len(stream), numpy.int64)
        rows = [stream]  # by order, the n-gram that ends at each word, -1 where it is not listed
        for order in range(2, self.order + 1):
            rows.append(self._rows(order, numpy.concatenate(([-1], rows[-1]))[: len(stream)], stream))
            rows[-1][begins] = -1
        missing = numpy.ones(len(stream), bool)
        for order in range(self.order, 0, -1):
            row = rows[order - 1]
            found = missing & (row >= 0)
            log10[found] += self.tables[order - 1].log10[row[found]]
            orders[found] = order
            missing &= ~found
            if order > 1:
                # the context is listed, but not with this word
                contexts = rows[order - 2][:-1]
                at = numpy.flatnonzero(missing[1:] & (contexts >= 0))
                log10[at + 1] += self.tables[order - 2].backoff[contexts[at]]
        log10[missing] = -numpy.inf
        return log10, orders

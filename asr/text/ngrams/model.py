"""A back-off n-gram model in arrays: probabilities of words, and perplexity at millions of words per minute."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy

from asr.errors import ArgumentError
from asr.text.ngrams.perplexity import Perplexity
from asr.text.ngrams.text import BEGIN, END, UNKNOWN

if TYPE_CHECKING:
    from asr.text.ngrams.discounts import Discounts

# log10 of an impossible event, such as `<s>` after a word, as written by SRILM and everybody since.
IMPOSSIBLE = -99.0
# Sentences scored at a time, which bounds the memory.
SENTENCES_AT_ONCE = 20000


@dataclasses.dataclass(frozen=True)
class NgramTable:
    """The n-grams of one order, sorted by context and word; for order 1, all words by number.

    context: int32 (n,), the row of the first n-1 words in the table of the order below. word: int32 (n,), the last word.
    suffix: int32 (n,), the row of the last n-1 words in the table of the order below, which backing off leads to. For order 1
        context and suffix are 0.
    log10: float32 (n,), log10 P(word | context). backoff: float32 (n,), log10 of the weight that the n-gram as a context gives
        to the order below; 0 if it is not a context.
    """

    context: numpy.ndarray
    word: numpy.ndarray
    suffix: numpy.ndarray
    log10: numpy.ndarray
    backoff: numpy.ndarray

    @classmethod
    def of(cls, context, word, log10, backoff, suffix) -> NgramTable:
        """Builds a table from arrays of any number type."""
        context, word, suffix = (numpy.asarray(values).astype(numpy.int32) for values in (context, word, suffix))
        return cls(context, word, suffix, numpy.asarray(log10, numpy.float32), numpy.asarray(backoff, numpy.float32))

    def __len__(self) -> int:
        return len(self.word)

    def only(self, keep: numpy.ndarray, rows_below: numpy.ndarray) -> NgramTable:
        """The n-grams to keep (bool). rows_below: the new row of each n-gram of the order below."""
        context, suffix = rows_below[self.context[keep]], rows_below[self.suffix[keep]]
        return NgramTable.of(context, self.word[keep], self.log10[keep], self.backoff[keep], suffix)


class NgramModel:
    """P(word | context) = 10^log10 of the longest n-gram that the model lists, times the back-off weights of longer contexts.

    words: all of them, with `<s>`, `</s>` and `<unk>`; their indices are their numbers. tables: one for each order from 1 on.
        The prefix and the suffix of every n-gram are listed too (`asr.text.ngrams.closure` ensures it).
    unknown: the number of `<unk>`, or None if the model has none.
    discounts, counted: of an estimated model, by order, the discounts and the number of distinct n-grams in the text, before
        cutoffs and pruning. Empty for a model that was read.
    added: the number of n-grams added to a model that was read, because others need them as contexts or to back off to.
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
        """Whether the model lists the word; `<unk>` is not a word."""
        return word in self.ids and self.ids[word] != self.unknown

    def log10_probability(self, words: Sequence[str] | str, context: Sequence[str] = ()) -> float:
        """log10 P(words | context) of consecutive words; a single word may be given as a string.

        If the words begin a sentence, `<s>` belongs in the context; if they end it, `</s>` belongs in the words. Words that the
        model does not list count as `<unk>`; -inf if it has none.
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
        """How well the model predicts the sentences; empty ones are left out. Raises ArgumentError if there are none."""
        counts, total, known, hits = [0, 0, 0], 0.0, 0.0, numpy.zeros(self.order + 1, numpy.int64)
        sentences = (sentence for sentence in sentences if sentence)
        while batch := list(itertools.islice(sentences, SENTENCES_AT_ONCE)):
            stream = self._numbers(word for sentence in batch for word in (BEGIN, *sentence, END))
            begins = numpy.cumsum([0, *(len(sentence) + 2 for sentence in batch[:-1])])
            log10, orders = self._score(stream, begins)
            predicted = numpy.ones(len(stream), bool)
            predicted[begins] = False
            unknown = (stream < 0) | (stream == (-1 if self.unknown is None else self.unknown))
            counts = [counts[0] + len(batch), counts[1] + int(predicted.sum()), counts[2] + int(unknown.sum())]
            total += float(log10[predicted].sum())
            known += float(log10[predicted & ~unknown].sum())
            hits += numpy.bincount(orders[predicted], minlength=self.order + 1)
        if not counts[0]:
            raise ArgumentError("There is no sentence to compute the perplexity of: give a text with words.")
        return Perplexity(counts[0], counts[1] - counts[0], counts[2], total, known, tuple(hits[1:].tolist()))

    def ngrams(
        self, order: int, at_once: int = 100_000
    ) -> Iterator[tuple[list[list[int]], numpy.ndarray, numpy.ndarray]]:
        """The n-grams of one order, block by block: (words by number, log10, backoff)."""
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
        """By order, the context and word of each n-gram as a single number, in increasing order."""
        return [table.context.astype(numpy.int64) * len(self.words) + table.word for table in self.tables]

    def _numbers(self, words: Iterable[str]) -> numpy.ndarray:
        """Words as numbers, int64; -1 for words that the model neither lists nor maps to `<unk>`."""
        other = -1 if self.unknown is None else self.unknown
        return numpy.fromiter((self.ids.get(word, other) for word in words), numpy.int64)

    def _rows(self, order: int, context: numpy.ndarray, word: numpy.ndarray) -> numpy.ndarray:
        """The rows of the n-grams with these contexts (rows of the order below) and words; -1 where there is none."""
        if order == 1:
            return word
        keys, wanted = self._keys[order - 1], context * len(self.words) + word
        rows = numpy.minimum(numpy.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        return numpy.where((context >= 0) & (word >= 0) & (keys[rows] == wanted), rows, -1)

    def _score(self, stream: numpy.ndarray, begins: numpy.ndarray | slice = slice(0)) -> tuple:
        """(log10 of each word given all words before it, the order of the n-gram that predicted it).

        stream: int64, words by number. begins: positions where the context starts anew; their own results are meaningless.
        Words that are -1 have order 0 and -inf.
        """
        log10, orders = numpy.zeros(len(stream)), numpy.zeros(len(stream), numpy.int64)
        rows = [stream]  # by order, the n-gram that ends at each word, -1 if it is not listed
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

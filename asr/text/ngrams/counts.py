"""Counts n-grams: each sentence gets `<s>` before it and `</s>` after it; the arrays are sorted lexicographically."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterable

import numpy

from asr.errors import ArgumentError
from asr.text.ngrams.text import BEGIN, END, UNKNOWN

# The numbers of these three words in a model that we estimate.
UNKNOWN_ID, BEGIN_ID, END_ID = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class CountTable:
    """The n-grams of one order in a text, sorted by context and word; for order 1, all words by number.

    context: int64 (n,), the row of the first n-1 words in the table of the order below. word: int64 (n,), the last word.
    suffix: int64 (n,), the row of the last n-1 words in the table of the order below. count: int64 (n,), its occurrences.
    begins: bool (n,), whether its first word is `<s>`.
    """

    context: numpy.ndarray
    word: numpy.ndarray
    suffix: numpy.ndarray
    count: numpy.ndarray
    begins: numpy.ndarray


def number_words(sentences: Iterable[list[str]]) -> tuple[list[str], numpy.ndarray]:
    """(words by number, the text in numbers with BEGIN_ID and END_ID around each sentence, int32).

    Empty sentences are left out; `<unk>` is a word like any other. Raises ArgumentError for `<s>` or `</s>` in a sentence
    and for words that are empty or contain white space, which ARPA cannot represent.
    """
    numbers = {UNKNOWN: UNKNOWN_ID, BEGIN: BEGIN_ID, END: END_ID}
    stream = array("i")
    for sentence in sentences:
        if isinstance(sentence, str):
            raise ArgumentError(f"A sentence is a list of words, not one text: {sentence[:40]!r}.")
        if not sentence:
            continue
        ids = [numbers.setdefault(word, len(numbers)) for word in sentence]
        if BEGIN_ID in ids or END_ID in ids:
            raise ArgumentError(
                f"A sentence contains {BEGIN if BEGIN_ID in ids else END}: {' '.join(sentence)[:80]}. Remove it: counting "
                "puts these marks around each sentence."
            )
        stream.append(BEGIN_ID)
        stream.extend(ids)
        stream.append(END_ID)
    for word in numbers:
        if word.split() != [word]:
            raise ArgumentError(
                f"{word!r} is not a word: it is empty or contains white space, which ARPA cannot represent."
            )
    return list(numbers), numpy.frombuffer(stream, numpy.int32) if stream else numpy.zeros(0, numpy.int32)


def count_ngrams(stream: numpy.ndarray, words: int, order: int) -> list[CountTable]:
    """The n-grams of each order up to `order`, or up to the longest that occurs. words: number of distinct words."""
    begin = stream == BEGIN_ID
    count = numpy.bincount(stream, minlength=words)
    zeros, numbers = numpy.zeros(words, numpy.int64), numpy.arange(words)
    tables = [CountTable(zeros, numbers, zeros, count, numbers == BEGIN_ID)]
    # at: the positions in the text where n-grams of this order end; row: their rows in the table
    at, row = numpy.arange(len(stream)), stream.astype(numpy.int64)
    for _ in range(1, order):
        longer = ~begin[numpy.minimum(at + 1, len(stream) - 1)] & (at + 1 < len(stream))
        suffixes = numpy.full(len(stream), -1, numpy.int64)
        suffixes[at] = row
        at, context = at[longer] + 1, row[longer]
        if not len(at):
            break
        key, first, row, count = numpy.unique(
            context * words + stream[at], return_index=True, return_inverse=True, return_counts=True
        )
        context = key // words
        tables.append(CountTable(context, key % words, suffixes[at[first]], count, tables[-1].begins[context]))
    return tables


def adjusted_counts(tables: list[CountTable]) -> list[numpy.ndarray]:
    """Kneser-Ney's counts: below the highest order, the number of distinct words that precede an n-gram.

    An n-gram that begins with `<s>` has none before it and keeps its own count; `<s>` itself is never predicted and has 0.
    """
    adjusted = []
    for table, longer in zip(tables, tables[1:]):
        follows = numpy.bincount(longer.suffix, minlength=len(table.count))
        adjusted.append(numpy.where(table.begins, table.count, follows))
    adjusted.append(tables[-1].count.copy())
    adjusted[0][BEGIN_ID] = 0
    return adjusted

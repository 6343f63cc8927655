"""Reads ARPA files of SRILM, KenLM, the LDC (WSJ's `bcb20onp`) and the CMU toolkit, line by line.

Anything may precede `\\data\\`. Fields are separated by tabs or spaces; missing back-off weights are 0; `<UNK>`, `<S>` and the
like count as `<unk>` and `<s>` if these are not listed.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy

from asr.errors import UserError
from asr.runtime.text_files import byte_lines, composed_words, open_unpacked
from asr.text.ngrams.closure import ListedTwice, closed_tables
from asr.text.ngrams.model import IMPOSSIBLE, NgramModel
from asr.text.ngrams.text import BEGIN, END, UNKNOWN

COUNT = re.compile(rb"ngram\s+(\d+)\s*=\s*(\d+)")
LINES_AT_ONCE = 50_000
Line = tuple[int, bytes]


def read_arpa(path: Path | str) -> NgramModel:
    """The model in an ARPA file, plain or compressed (gzip, bzip2, xz).

    Raises UserError, naming file and line, for a file that is cut short, has more or fewer n-grams than it says, lists an
    n-gram twice or one with a word that is not a unigram, for a line with the wrong number of fields, and for log probabilities
    that are not numbers up to 0; and for a model without `<s>` and `</s>`.
    """
    path = Path(path).expanduser()
    with open_unpacked(path) as file:
        return ArpaFile(path, iter(enumerate(byte_lines(file, path), start=1))).read()


class ArpaFile:
    """An ARPA file that is being read. at: the number of the last line read."""

    def __init__(self, path: Path, lines: Iterator[Line]):
        self.path, self.lines, self.at = path, lines, 0
        self.words: dict[bytes, int] = {}

    def error(self, line: int, wrong: str, advice: str = "Mend the line, or build the model again.") -> UserError:
        return UserError(f"{self.path}, line {line}: {wrong}. {advice}")

    def next(self, expected: str) -> Line:
        """The next line that is not blank."""
        for number, line in self.lines:
            self.at = number
            if stripped := line.strip():
                return number, stripped
        raise self.error(self.at, f"the file ends where {expected} should follow: it is cut short", "Copy it again.")

    def read(self) -> NgramModel:
        counts, where = self._counts()
        rows, log10, backoff, numbers = [], [], [], []
        number, line = where
        for order, count in enumerate(counts, start=1):
            if count == 0 and line != b"\\%d-grams:" % order:
                continue
            if line != b"\\%d-grams:" % order:
                raise self.error(number, f"expected \\{order}-grams:, found {shown(line)}")
            for parts, part in zip((rows, log10, backoff, numbers), self._section(order, count, len(counts))):
                parts.append(part)
            number, line = self.next("\\end\\" if order == len(counts) else f"\\{order + 1}-grams:")
            if not line.startswith(b"\\"):
                raise self.error(number, f"there are more {order}-grams than the {count} that \\data\\ announces")
        if line != b"\\end\\":
            raise self.error(number, f"expected \\end\\, found {shown(line)}")
        for number, line in self.lines:
            if line.strip():
                raise self.error(number, f"there is more after \\end\\: {shown(line)}")
        while len(rows) > 1 and not len(rows[-1]):
            del rows[-1], log10[-1], backoff[-1]
        words = self._spellings(numbers[0])
        try:
            tables, added = closed_tables(rows, log10, backoff, len(words))
        except ListedTwice as error:
            lines = numbers[error.order - 1]
            twice = " ".join(words[word] for word in rows[error.order - 1][error.second])
            raise self.error(lines[error.second], f"{twice!r} is listed on line {lines[error.first]} already") from None
        return NgramModel(words, tables, added=added)

    def _counts(self) -> tuple[list[int], Line]:
        """(the announced number of n-grams of each order, the first line after them)."""
        for number, line in self.lines:
            if line.strip() == b"\\data\\":
                break
            if b"\0" in line:
                raise self.error(number, "a zero byte: this is not an ARPA file", "Unpack a compressed KenLM binary.")
        else:
            raise UserError(f"{self.path} is not an ARPA file: it has no line \\data\\. Give another language model.")
        counts: list[int] = []
        while True:
            number, line = self.next("ngram 1=..." if not counts else "\\1-grams:")
            match = COUNT.fullmatch(line)
            if match is None:
                break
            if int(match[1]) != len(counts) + 1:
                raise self.error(number, f"expected the number of {len(counts) + 1}-grams, found {shown(line)}")
            counts.append(int(match[2]))
        if not counts or not counts[0]:
            raise self.error(number, f"expected ngram 1=... with the number of unigrams, found {shown(line)}")
        return counts, (number, line)

    def _section(self, order: int, count: int, highest: int) -> tuple:
        """(words by number (n, order), log10 (n,), back-off weights (n,), lines (n,)) of the n-grams of one order."""
        blocks, have = [], 0
        while have < count:
            block = list(itertools.islice(self.lines, min(count - have, LINES_AT_ONCE)))
            if not block:
                raise self.error(
                    self.at,
                    f"the file ends after {have} of {count} {order}-grams: it is cut short, or \\data\\ is wrong",
                    "Copy it again, or build the model again.",
                )
            self.at = block[-1][0]
            fields = [line.split() for _, line in block]
            if not {len(each) for each in fields} <= {order + 1, order + 2}:
                block, fields = self._only_ngrams(order, count, have, block, fields)
            blocks.append(self._parse(order, highest, [number for number, _ in block], fields))
            have += len(block)
        if not blocks:
            empty = numpy.zeros(0, numpy.float32)
            return numpy.zeros((0, order), numpy.int32), empty, empty, numpy.zeros(0, numpy.int64)
        return tuple(numpy.concatenate(parts) for parts in zip(*blocks))

    def _only_ngrams(self, order: int, count: int, have: int, block: list[Line], fields: list) -> tuple[list, list]:
        """The lines that are not blank. Raises UserError if the section ends early or a line has a wrong number of fields."""
        kept = [at for at, each in enumerate(fields) if each]
        for rank, at in enumerate(kept):
            number, found = block[at][0], fields[at]
            if found[0].startswith(b"\\") and len(found) == 1:
                raise self.error(
                    number, f"{shown(found[0])} comes after {have + rank} {order}-grams, but \\data\\ says {count}"
                )
            if len(found) not in (order + 1, order + 2):
                raise self.error(
                    number,
                    f"{len(found)} fields; a {order}-gram has a log probability, {order} word{'s' * (order > 1)} and perhaps a "
                    "back-off weight",
                )
        return [block[at] for at in kept], [fields[at] for at in kept]

    def _parse(self, order: int, highest: int, numbers: list[int], fields: list[list[bytes]]) -> tuple:
        log10 = self._floats(numbers, [each[0] for each in fields], "a log probability")
        log10[log10 == -math.inf] = IMPOSSIBLE
        for at in numpy.flatnonzero(~(log10 <= 0))[:1]:
            raise self.error(numbers[at], f"the log probability {shown(fields[at][0])} is not a number up to 0")
        with_weight = [at for at, each in enumerate(fields) if len(each) == order + 2]
        weights = numpy.zeros(len(fields), numpy.float32)
        weights[with_weight] = self._floats(
            [numbers[at] for at in with_weight], [fields[at][-1] for at in with_weight], "a back-off weight"
        )
        wrong = ~numpy.isfinite(weights) if order < highest else weights != 0
        for at in numpy.flatnonzero(wrong)[:1]:
            why = "is not finite" if order < highest else "is in the highest order, where nothing backs off"
            raise self.error(numbers[at], f"the back-off weight {shown(fields[at][-1])} {why}")
        if order == 1:
            for number, each in zip(numbers, fields):
                if each[1] in self.words:
                    raise self.error(number, f"the word {shown(each[1])} is listed twice")
                self.words[each[1]] = len(self.words)
        ids = [self.words.get(word) for each in fields for word in each[1 : order + 1]]
        if None in ids:
            at, word = divmod(ids.index(None), order)
            raise self.error(numbers[at], f"the word {shown(fields[at][1 + word])} is not among the unigrams")
        return numpy.array(ids, numpy.int32).reshape(-1, order), log10, weights, numpy.array(numbers)

    def _floats(self, numbers: list[int], values: list[bytes], what: str) -> numpy.ndarray:
        try:
            with numpy.errstate(over="ignore"):  # numbers beyond float32 become infinite
                return numpy.array(list(map(float, values)), numpy.float32)
        except ValueError:
            for number, value in zip(numbers, values):
                try:
                    float(value)
                except ValueError:
                    raise self.error(number, f"{shown(value)} is not {what}") from None
            raise

    def _spellings(self, lines: numpy.ndarray) -> list[str]:
        """The words in NFC, with `<s>`, `</s>` and `<unk>` spelt this way. Raises UserError if the first two are missing."""
        words = []
        for number, word in zip(lines, self.words):
            try:
                words.append(word.decode("utf8"))
            except UnicodeDecodeError:
                raise self.error(
                    number, f"{shown(word)} is not UTF-8", "If the file is Latin-1: iconv -f latin1 -t utf8"
                ) from None
        words = composed_words(words)
        for special in (BEGIN, END, UNKNOWN):
            if special not in words:
                others = [at for at, word in enumerate(words) if word.lower() == special]
                if others:
                    words[others[0]] = special
                elif special != UNKNOWN:
                    raise UserError(f"{self.path} does not list {special}: give a model of sentences.")
        return words


def shown(text: bytes) -> str:
    """Bytes of a file in the form that messages show."""
    return repr(text.strip()[:60].decode("utf8", "backslashreplace")).replace("\\\\", "\\")

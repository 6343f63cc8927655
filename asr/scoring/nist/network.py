"""Transcripts in NIST's markup as networks of words, and the alignment of two of them as by sclite.

The markup: `{ a / b c / @ }` is an alternation (`@` is no word), `(uh)` is optional, `ab-` and `-c` are fragments of words.
Weights, order of comparisons and the rounding of sums follow NIST's sclite 2.10 (SCTK 2.4.10: net_dp.c, net_adt.c, word.c),
because the counts depend on which of several equally good alignments is chosen.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import string
import struct
from collections.abc import Callable, Sequence
from typing import Any

from asr.scoring.alignment import Alignment, Operation

SPACE = " \t\n\v\f\r"
LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
NOTHING = "@"


@dataclasses.dataclass(frozen=True, slots=True)
class Word:
    """A word of a network. key: the text to compare. optional: may be left out. fragment: only a part has to match."""

    text: str
    key: str
    optional: bool = False
    fragment: bool = False

    @property
    def empty(self) -> bool:
        return self.text == NOTHING


# the first "word" of every network
START = Word("", "")


@dataclasses.dataclass(frozen=True)
class Network:
    """Words in topological order: each comes after those that may precede it.

    words: with START at index 0. before[i]: indices of the words that may precede word i, in the order of the alternatives.
    last: indices of the words that may end the transcript.
    """

    words: list[Word]
    before: list[list[int]]
    last: list[int]

    @property
    def plain(self) -> bool:
        """Whether it is a simple sequence of words that all count."""
        chain = all(previous == [index] for index, previous in enumerate(self.before[1:]))
        return chain and len(self.last) == 1 and not any(word.empty for word in self.words[1:])


def parse_markup(text: str) -> list:
    """The items of a transcript: words, and lists of alternatives. Raises ValueError for unbalanced braces.

    A backslash is dropped and `word;tag;tag` is the word, as sclite reads transcripts (but not the words of a CTM).
    """
    items: list[Any] = []
    position = 0
    while position < len(text):
        if text[position] in SPACE:
            position += 1
        elif text[position] == "{":
            end = closing_brace(text, position)
            alternatives = [parse_markup(part) for part in split_alternatives(text[position + 1 : end])]
            alternatives = [alternative for alternative in alternatives if alternative]
            if not alternatives:
                raise ValueError("an alternation { } without a word; write @ for no word")
            items.append(alternatives)
            position = end + 1
        else:
            end = position
            while end < len(text) and text[end] not in SPACE:
                end += 1
            token = text[position:end]
            if "{" in token or "}" in token:
                raise ValueError(f"a brace in {token!r} that does not open or close an alternation")
            items.append(without_tags(token))
            position = end
    return items


def closing_brace(text: str, start: int) -> int:
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0:
            return position
    raise ValueError("an alternation that is not closed: { without }")


def split_alternatives(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if letter == "/" and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def without_tags(token: str) -> str:
    end = 0
    while True:
        # sclite does not look at the last letter
        end = token.find(";", end, len(token) - 1)
        if end <= 0 or token[end - 1] != "\\":
            break
        end += 1
    return (token if end < 0 else token[:end]).replace("\\", "")


def build_network(items: Sequence, optional: bool = True, fragments: bool = True, fold: bool = True) -> Network:
    """The network of items. optional, fragments: sclite's flags -D and -F. fold: put ASCII letters in lower case."""
    words = [START]
    before: list[list[int]] = [[]]

    def add(sequence: Sequence, ends: list[int]) -> list[int]:
        for item in sequence:
            if isinstance(item, str):
                words.append(make_word(item, optional, fragments, fold))
                before.append(ends)
                ends = [len(words) - 1]
            else:
                ends = [end for alternative in item for end in add(alternative, ends)]
        return ends

    last = add(items, [0])
    return Network(words, before, last)


@functools.lru_cache(maxsize=100_000)
def make_word(token: str, optional: bool, fragments: bool, fold: bool) -> Word:
    text = token[:-1] if len(token) > 1 and token.endswith("*") else token
    text = text.translate(LOWER) if fold else text
    may_go = optional and text.startswith("(") and text.endswith(")")
    part = fragments and (text.endswith("-") or text.startswith("-") or (may_go and text[-2:-1] == "-"))
    return Word(text, text[1:-1] if may_go else text, may_go, part)


def same(one: Word, other: Word) -> bool:
    """Whether two words count as equal: they are, or one is a fragment (`ab-`, `-yz`) of the other."""
    if one.fragment or other.fragment:
        for part, whole in ((one.key, other.key), (other.key, one.key)):
            if len(part) > 1 and part.startswith("-"):
                return whole.endswith(part[1:])
            if len(part) > 1 and part.endswith("-"):
                return whole.startswith(part[:-1])
    return one.key == other.key


def align_networks(reference: Network, hypothesis: Network) -> Alignment:
    """The best alignment of any path of the reference with any path of the hypothesis, as found by sclite.

    A substitution costs 4, a deletion or an insertion 3 (2 for an optional word), an `@` without a counterpart 0.001. An
    optional word left out, on either side, is an operation "equal" with None on the other side and counts as a hit, as in
    sclite; an `@` is not an operation at all.
    """
    equal: dict[tuple[Word, Word], bool] = {}

    def substitution(a: Word, b: Word) -> float:
        if a.empty and b.empty:
            return 1
        known = equal.get((a, b))
        if known is None:
            known = equal[a, b] = same(a, b)
        return 0 if known else 4

    nothing = any(word.empty for network in (reference, hypothesis) for word in network.words[1:])
    # sums of whole numbers are exact; with thousandths, sclite's single precision breaks ties
    plus = rounded_sum if nothing else operator.add
    if reference.plain and hypothesis.plain:
        back = plain_table(reference, hypothesis, substitution)
        end = len(reference.words) - 1, len(hypothesis.words) - 1
    else:
        back, end = table(reference, hypothesis, substitution, plus)
    return trace(reference, hypothesis, back, end)


@functools.lru_cache(maxsize=1_000_000)
def rounded_sum(a: float, b: float) -> float:
    return struct.unpack("f", struct.pack("f", a + b))[0]


THOUSANDTH = struct.unpack("f", struct.pack("f", 0.001))[0]


def lone_cost(word: Word) -> float:
    return THOUSANDTH if word.empty else 2 if word.optional else 3


def plain_table(reference: Network, hypothesis: Network, substitution: Callable) -> list[list[int]]:
    """The steps of the best paths between plain sequences: 0 a pair, 1 a deletion, 2 an insertion, for each cell."""
    rows, columns = reference.words, hypothesis.words
    inserting: list[float] = [0, *(lone_cost(word) for word in columns[1:])]
    costs: list[float] = [0]
    for cost in inserting[1:]:
        costs.append(costs[-1] + cost)
    back = [[2] * len(columns)]
    for row in rows[1:]:
        deleting, left = lone_cost(row), costs[0] + lone_cost(row)
        new, steps = [left], [1]
        diagonal = costs[0]
        for column in range(1, len(columns)):
            above = costs[column]
            pair, deletion = diagonal + substitution(row, columns[column]), above + deleting
            left += inserting[column]
            if pair <= deletion and pair <= left:
                left = pair
                steps.append(0)
            elif deletion < left:
                left = deletion
                steps.append(1)
            else:
                steps.append(2)
            new.append(left)
            diagonal = above
        costs = new
        back.append(steps)
    return back


def table(
    reference: Network, hypothesis: Network, substitution: Callable, plus: Callable
) -> tuple[list[list[tuple[int, int]]], tuple[int, int]]:
    """For each pair of words, the previous cell on the best path; and the best last cell. The first of equals wins."""
    rows, columns = len(reference.words), len(hypothesis.words)
    costs = [[0.0] * columns for _ in range(rows)]
    back = [[(0, 0)] * columns for _ in range(rows)]
    for b in range(1, columns):
        before = cheapest(costs, [0], hypothesis.before[b])
        costs[0][b], back[0][b] = plus(costs[0][before[1]], lone_cost(hypothesis.words[b])), before
    for a in range(1, rows):
        word, above = reference.words[a], reference.before[a]
        deleting, here = lone_cost(word), costs[a]
        before = cheapest(costs, above, [0])
        here[0], back[a][0] = plus(costs[before[0]][0], deleting), before
        for b in range(1, columns):
            other, beside = hypothesis.words[b], hypothesis.before[b]
            inserted, deleted = cheapest(costs, [a], beside), cheapest(costs, above, [b])
            paired = cheapest(costs, above, beside)
            insertion = plus(here[inserted[1]], lone_cost(other))
            deletion = plus(costs[deleted[0]][b], deleting)
            pair = plus(costs[paired[0]][paired[1]], substitution(word, other))
            if pair <= deletion and pair <= insertion:
                here[b], back[a][b] = pair, paired
            elif deletion < insertion:
                here[b], back[a][b] = deletion, deleted
            else:
                here[b], back[a][b] = insertion, inserted
    return back, cheapest(costs, reference.last, hypothesis.last)


def cheapest(costs: list[list[float]], rows: Sequence[int], columns: Sequence[int]) -> tuple[int, int]:
    """The first cell with the lowest cost, row by row."""
    if len(rows) == 1 and len(columns) == 1:
        return rows[0], columns[0]
    best = rows[0], columns[0]
    least = costs[best[0]][best[1]]
    for row in rows:
        for column in columns:
            if costs[row][column] < least:
                least, best = costs[row][column], (row, column)
    return best


def trace(reference: Network, hypothesis: Network, back: list[list], end: tuple[int, int]) -> Alignment:
    a, b = end
    operations: list[Operation] = []
    while a > 0 or b > 0:
        step = back[a][b]
        if isinstance(step, int):
            step = (a - (step != 2), b - (step != 1))
        said, heard = reference.words[a], hypothesis.words[b]
        if step[0] == a:
            if not heard.empty:
                operations.append(Operation("equal" if heard.optional else "insert", None, heard.text))
        elif step[1] == b:
            if not said.empty:
                operations.append(Operation("equal" if said.optional else "delete", said.text, None))
        elif not (said.empty and heard.empty):
            operations.append(Operation("equal" if same(said, heard) else "substitute", said.text, heard.text))
        a, b = step
    operations.reverse()
    counts = {kind: 0 for kind in ("equal", "substitute", "delete", "insert")}
    for operation in operations:
        counts[operation.kind] += 1
    return Alignment(operations, *counts.values())

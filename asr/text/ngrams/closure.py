"""Turns n-grams in any order, as files list them, into the tables of a model."""

from __future__ import annotations

import numpy

from asr.text.ngrams.model import NgramTable


class ListedTwice(ValueError):
    """An n-gram listed twice: its order and its two indices in the list of that order."""

    def __init__(self, order: int, first: int, second: int):
        super().__init__(f"{order}-gram {second} is the same as {first}")
        self.order, self.first, self.second = order, first, second


def closed_tables(
    rows: list[numpy.ndarray], log10: list[numpy.ndarray], backoff: list[numpy.ndarray], words: int
) -> tuple[list[NgramTable], int]:
    """(tables by order, number of n-grams added).

    rows: by order n, int32 (ngrams, n), words by number; those of order 1 must be 0 to words-1 in this order. log10,
    backoff: float32 (ngrams,).

    Pruned models do not always list the prefixes and suffixes of their n-grams. These are added, with the probability that
    the model gives them anyway by backing off and without a back-off weight, so no probability changes. Raises ListedTwice.
    """
    rows, log10, backoff = list(rows), list(log10), list(backoff)
    links: list[tuple[numpy.ndarray, numpy.ndarray]] = [(numpy.zeros(words, numpy.int64),) * 2]
    added = 0
    ids = dense_ids([rows[-1]], words)[0]
    for at in range(len(rows) - 1, 0, -1):
        _sort(at, rows, log10, backoff, ids)
        listed = len(rows[at - 1])
        if at == 1:
            links.insert(1, (rows[1][:, 0], rows[1][:, 1]))
            break
        ids, contexts, suffixes = dense_ids([rows[at - 1], rows[at][:, :-1], rows[at][:, 1:]], words)
        links.insert(1, (contexts, suffixes))
        known = numpy.zeros(max(each.max(initial=-1) for each in (ids, contexts, suffixes)) + 1, bool)
        known[ids] = True
        _, first = numpy.unique(numpy.concatenate((contexts, suffixes)), return_index=True)
        needed = numpy.concatenate((rows[at][:, :-1], rows[at][:, 1:]))[first]
        new = ~known[numpy.concatenate((contexts, suffixes))[first]]
        added += int(new.sum())
        rows[at - 1] = numpy.concatenate((rows[at - 1], needed[new]))
        ids = numpy.concatenate((ids, numpy.concatenate((contexts, suffixes))[first][new]))
        # NaN for now: computed from the lower orders at the end
        log10[at - 1] = numpy.concatenate((log10[at - 1], numpy.full(new.sum(), numpy.nan, numpy.float32)))
        backoff[at - 1] = numpy.concatenate((backoff[at - 1], numpy.zeros(new.sum(), numpy.float32)))
        assert len(rows[at - 1]) == listed + new.sum()
    tables: list[NgramTable] = []
    for at, (context, suffix) in enumerate(links):
        values = log10[at]
        if at:
            below = tables[-1]
            values = numpy.where(numpy.isnan(values), below.backoff[context] + below.log10[suffix], values)
        tables.append(NgramTable.of(context, rows[at][:, -1], values, backoff[at], suffix))
    return tables, added


def _sort(at: int, rows, log10, backoff, ids: numpy.ndarray) -> None:
    """Sorts the n-grams of one order by their ids. Raises ListedTwice if two have the same one."""
    by_id = numpy.argsort(ids, kind="stable")
    twice = numpy.flatnonzero(ids[by_id][1:] == ids[by_id][:-1])
    if len(twice):
        # the duplicate that comes first in the file
        second = by_id[twice + 1]
        which = numpy.argmin(second)
        raise ListedTwice(at + 1, int(by_id[twice[which]]), int(second[which]))
    rows[at], log10[at], backoff[at] = rows[at][by_id], log10[at][by_id], backoff[at][by_id]


def dense_ids(matrices: list[numpy.ndarray], words: int) -> list[numpy.ndarray]:
    """For each row of each matrix, its rank among the distinct rows of all matrices in lexicographic order.

    matrices: (rows, n) of numbers below `words`, with the same n. Returns int64 (rows,) for each.
    """
    together = numpy.concatenate(matrices)
    ids = together[:, 0].astype(numpy.int64)
    for column in together.T[1:]:
        ids = numpy.unique(ids * words + column, return_inverse=True)[1]
    if together.shape[1] == 1:
        ids = numpy.unique(ids, return_inverse=True)[1]
    return numpy.split(ids, numpy.cumsum([len(matrix) for matrix in matrices])[:-1])

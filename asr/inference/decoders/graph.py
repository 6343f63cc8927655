"""The search graph H∘L∘G of the decoder `wfst`: CTC's paths, the lexicon and the language model in one transducer.

M. Mohri, F. Pereira, M. Riley, "Speech recognition with weighted finite-state transducers" (2008); disambiguation symbols as in
Kaldi's `add_lex_disambig.pl`. Labels: a unit is its index + 1, words count from 1 in their order, 0 is epsilon.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy

from asr.errors import UserError
from asr.inference.decoders.kenlm import is_binary
from asr.inference.decoders.search import LN10
from asr.inference.decoders.spellings import Spellings
from asr.runtime.user_cache import keep
from asr.text.ngrams import NgramModel

# Changes when graphs that are kept in files must be made anew.
VERSION = 2
# Costs that differ by less are taken for one when states are merged.
QUANTUM = 1e-4
# log10 of what a model holds for impossible
NEVER = -90.0
log = logging.getLogger(__name__)


def search_graph(
    spellings: Spellings, symbols: list[str], model: Path | None, cache: Path | None, kaldifst: Any
) -> Any:
    """The graph of these words, as kaldifst's StdVectorFst; costs are natural logarithms, the language model's unweighted.

    symbols: the units. model: an ARPA file. cache: a folder where graphs are kept, each in a file named by all that it is
    made of; where there is none or it cannot be written, the graph is in memory alone, which a warning says. Raises UserError
    for a language model that cannot be read.
    """
    kept = None if cache is None else cache / f"{fingerprint(spellings, symbols, model)}.fst"
    # os.path knows no folder that must not be looked into
    if kept is not None and os.path.isfile(kept):
        graph = kaldifst.StdVectorFst.read(str(kept))
        if graph is not None and graph.num_states:
            return graph
    if model is not None and is_binary(model):
        raise UserError(
            f"{model} is a KenLM binary, and decoder=wfst needs the n-grams themselves: give it the ARPA file, or take "
            "decoder=lexicon."
        )
    ngrams = None if model is None else NgramModel.read_arpa(model)
    log.info("Building the search graph of %d words; this takes a while for millions of n-grams.", len(spellings.words))
    graph = compose(spellings, len(symbols), ngrams, kaldifst)
    keep(
        kept,
        lambda path: write(graph, path),
        "The search graph",
        "It is built again next time; decoder.cache=FOLDER names another place.",
    )
    return graph


def fingerprint(spellings: Spellings, symbols: list[str], model: Path | None) -> str:
    """16 digits that change with anything that the graph is made of."""
    digest = hashlib.sha256()
    words = [
        [word, [[list(units), round(log_probability, 6)] for units, log_probability in each.items()]]
        for word, each in spellings.words.items()
    ]
    digest.update(json.dumps([VERSION, symbols, words, spellings.separator, spellings.is_space]).encode())
    if model is not None:
        with open(model, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def write(graph: Any, path: Path) -> None:
    """Raises OSError if the graph cannot be written."""
    path.touch()  # says why not, which kaldifst does not
    if not graph.write(str(path)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def compose(spellings: Spellings, symbols: int, ngrams: NgramModel | None, kaldifst: Any) -> Any:
    """H∘min(det(L∘G)), with the disambiguation symbols taken out."""
    lines, marks = lexicon_lines(spellings, symbols)
    lexicon = kaldifst.compile("\n".join(lines), acceptor=False, keep_state_numbering=True)
    kaldifst.arcsort(lexicon, "olabel")
    grammar = kaldifst.compile("\n".join(grammar_lines(spellings, ngrams, symbols)), keep_state_numbering=True)
    kaldifst.arcsort(grammar, "ilabel")
    graph = kaldifst.compose(lexicon, grammar)
    kaldifst.connect(graph)
    if graph.num_states == 0:
        raise UserError(
            "No sentence of the language model can be spelt in the units of this model: the search graph is empty."
        )
    kaldifst.determinize_star(graph)
    kaldifst.minimize_encoded(graph, QUANTUM)
    topology = kaldifst.compile("\n".join(ctc_lines(symbols, marks)), keep_state_numbering=True)
    kaldifst.arcsort(topology, "olabel")
    kaldifst.arcsort(graph, "ilabel")
    graph = kaldifst.compose(topology, graph)
    kaldifst.connect(graph)
    # what is composed with it later matches its words
    kaldifst.arcsort(graph, "olabel")
    return graph


def ctc_lines(symbols: int, marks: int) -> Iterator[str]:
    """H: from frames to units. A unit is written when it begins; between two that are equal there is a blank.

    marks: how many disambiguation symbols there are. H reads nothing where the lexicon has one, so that they vanish here.
    State 0 follows a blank, state n the unit n.
    """
    for state in range(symbols):
        yield f"{state} 0 1 0"
        for unit in range(1, symbols):
            yield f"{state} {unit} {unit + 1} {0 if unit == state else unit + 1}"
        for mark in range(marks):
            yield f"{state} {state} 0 {symbols + 1 + mark}"
        yield f"{state}"


def lexicon_lines(spellings: Spellings, symbols: int) -> tuple[list[str], int]:
    """(L: from units to words, how many disambiguation symbols it uses).

    Mark 0 stands where the language model backs off (its word label is the number of words + 1), mark 1 behind a separator, the
    others behind spellings that several words share or that others begin with.
    State 0 begins words, 1 is the start, 2 follows a word, 3 follows a separator.
    """
    back_off, separated = symbols + 1, symbols + 2
    every = [spelling for each in spellings.words.values() for spelling in each]
    counts: dict[tuple[int, ...], int] = {}
    for spelling in every:
        counts[spelling] = counts.get(spelling, 0) + 1
    prefixes = {spelling[:length] for spelling in counts for length in range(1, len(spelling))}
    lines = ["1 0 0 0", "3 0 0 0", "1", "2", "3"]
    for state in (1, 2):
        lines.append(f"{state} {state} {back_off} {len(spellings.words) + 1}")
    if not spellings.is_space or spellings.separator is None:
        lines.append("2 0 0 0")
    if spellings.separator is not None:
        lines += [f"{state} 4 {spellings.separator + 1} 0" for state in (1, 2, 3)]
        lines.append(f"4 3 {separated} 0")
    used: dict[tuple[int, ...], int] = {}
    marks, following = 2, 5
    for number, each in enumerate(spellings.words.values(), start=1):
        for spelling, log_probability in each.items():
            labels = [unit + 1 for unit in spelling]
            if counts[spelling] > 1 or spelling in prefixes:
                used[spelling] = used.get(spelling, 0) + 1
                labels.append(symbols + 2 + used[spelling])
                marks = max(marks, 2 + used[spelling])
            state = 0
            for place, label in enumerate(labels):
                last = place == len(labels) - 1
                target = 2 if last else following
                following += not last
                lines.append(
                    f"{state} {target} {label} {number if place == 0 else 0} {-log_probability if place == 0 else 0}"
                )
                state = target
    return lines, marks


def grammar_lines(spellings: Spellings, ngrams: NgramModel | None, symbols: int) -> Iterator[str]:
    """G: the language model over the words that have a spelling; with none, any words at no cost.

    The costs of the paths are those of the model, except that a path may back off where it need not: that counts where a listed
    n-gram is less probable than backing off.
    """
    labels = {word: number for number, word in enumerate(spellings.words, start=1)}
    if ngrams is None:
        yield "0"
        for label in labels.values():
            yield f"0 0 {label} {label}"
        return
    back_off = len(labels) + 1
    of_word = numpy.array([labels.get(word, 0) for word in ngrams.words])
    of_word[[ngrams.begin, ngrams.end]] = 0
    states, start = _states(ngrams)
    yield f"{0} {start + 1} 0 0"
    for order, table in enumerate(ngrams.tables, start=1):
        source = numpy.zeros(len(table), numpy.int64) if order == 1 else states[order - 1][table.context]
        if order < ngrams.order:
            target = states[order]
        else:
            target = numpy.zeros(len(table), numpy.int64) if order == 1 else states[order - 1][table.suffix]
        possible = table.log10 > NEVER
        costs = table.log10 * -LN10
        ends = numpy.flatnonzero(possible & (table.word == ngrams.end))
        for state, cost in zip(source[ends].tolist(), costs[ends].tolist()):
            yield f"{state + 1} {cost:.6f}"
        arcs = numpy.flatnonzero(possible & (of_word[table.word] > 0))
        for state, to, label, cost in zip(
            source[arcs].tolist(), target[arcs].tolist(), of_word[table.word[arcs]].tolist(), costs[arcs].tolist()
        ):
            yield f"{state + 1} {to + 1} {label} {label} {cost:.6f}"
        if order < ngrams.order:
            below = numpy.zeros(len(table), numpy.int64) if order == 1 else states[order - 1][table.suffix]
            contexts = numpy.flatnonzero(target != below)
            for state, to, weight in zip(
                target[contexts].tolist(), below[contexts].tolist(), table.backoff[contexts].tolist()
            ):
                yield f"{state + 1} {to + 1} {back_off} 0 {-weight * LN10:.6f}"


def _states(ngrams: NgramModel) -> tuple[list[numpy.ndarray], int]:
    """(by order below the highest, from 0 on, the state that follows each n-gram; the state in which a sentence begins).

    The state of an n-gram that is no context is that of its longest ending that is one; 0 follows nothing at all.
    """
    states, count = [numpy.zeros(1, numpy.int64)], 1
    for order, table in enumerate(ngrams.tables[:-1], start=1):
        needed = table.backoff != 0
        needed[ngrams.tables[order].context] = True
        state = numpy.zeros(len(table), numpy.int64) if order == 1 else states[order - 1][table.suffix]
        state[needed] = count + numpy.arange(int(needed.sum()))
        count += int(needed.sum())
        states.append(state)
    return states, int(states[1][ngrams.begin]) if len(states) > 1 else 0

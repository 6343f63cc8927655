"""The search graph H∘L∘G of the decoder `wfst`: CTC topology, lexicon and language model in one transducer.

M. Mohri, F. Pereira, M. Riley, "Speech recognition with weighted finite-state transducers" (2008); disambiguation symbols as in
Kaldi's `add_lex_disambig.pl`. Labels: units are their index + 1, words are numbered from 1 in order, 0 is epsilon.
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
from asr.model.topologies.base import Topology
from asr.runtime.user_cache import keep
from asr.text.ngrams import NgramModel, read_arpa

# increased when cached graphs must be rebuilt
VERSION = 2
# costs that differ by less count as equal when states are merged
QUANTUM = 1e-4
# log10 of the impossible in a model
NEVER = -90.0
log = logging.getLogger(__name__)


def search_graph(
    spellings: Spellings, symbols: list[str], topology: Topology, model: Path | None, cache: Path | None, kaldifst: Any
) -> Any:
    """The graph of these words, as kaldifst's StdVectorFst; costs are natural logarithms, the language model's unweighted.

    symbols: the units. model: an ARPA file. cache: a folder for graphs, each in a file named after a digest of all its parts;
    None keeps the graph in memory only, and so does a folder that cannot be written, with a warning. Raises UserError for a
    language model that cannot be read.
    """
    kept = None if cache is None else cache / f"{fingerprint(spellings, symbols, topology, model)}.fst"
    # os.path answers False for a folder without permission, where Path.is_file raises
    if kept is not None and os.path.isfile(kept):
        graph = kaldifst.StdVectorFst.read(str(kept))
        if graph is not None and graph.num_states:
            return graph
    if model is not None and is_binary(model):
        raise UserError(
            f"{model} is a KenLM binary, and decoder=wfst needs the n-grams themselves: give the ARPA file, or use "
            "decoder=lexicon."
        )
    ngrams = None if model is None else read_arpa(model)
    log.info("Building the search graph of %d words; this takes a while for millions of n-grams.", len(spellings.words))
    graph = compose(spellings, len(symbols), topology, ngrams, kaldifst)
    keep(
        kept,
        lambda path: write(graph, path),
        "The search graph",
        "It is built again next time; decoder.cache=FOLDER chooses another folder.",
    )
    return graph


def fingerprint(spellings: Spellings, symbols: list[str], topology: Topology, model: Path | None) -> str:
    """16 hex digits of a digest of everything that goes into the graph."""
    digest = hashlib.sha256()
    words = [
        [word, [[list(units), round(log_probability, 6)] for units, log_probability in each.items()]]
        for word, each in spellings.words.items()
    ]
    digest.update(json.dumps([VERSION, symbols, words, spellings.separator, spellings.is_space]).encode())
    if not topology.has_blank:
        # graphs of CTC are named as before there were others
        digest.update("\n".join(topology.transducer(0)).encode())
    if model is not None:
        with open(model, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def write(graph: Any, path: Path) -> None:
    """Raises OSError if the graph cannot be written."""
    path.touch()  # its error has a reason, kaldifst's has none
    if not graph.write(str(path)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def compose(spellings: Spellings, symbols: int, topology: Topology, ngrams: NgramModel | None, kaldifst: Any) -> Any:
    """H∘min(det(L∘G)), with the disambiguation symbols removed. Raises UserError if it accepts no sentence."""
    lines, marks = lexicon_lines(spellings, symbols)
    lexicon = kaldifst.compile("\n".join(lines), acceptor=False, keep_state_numbering=True)
    kaldifst.arcsort(lexicon, "olabel")
    grammar = kaldifst.compile("\n".join(grammar_lines(spellings, ngrams, symbols)), keep_state_numbering=True)
    kaldifst.arcsort(grammar, "ilabel")
    graph = kaldifst.compose(lexicon, grammar)
    kaldifst.connect(graph)
    if graph.num_states == 0:
        raise UserError(
            "No sentence of the language model can be spelt in the units of this model: give decoder.lm=FILE in its language "
            "and alphabet."
        )
    kaldifst.determinize_star(graph)
    kaldifst.minimize_encoded(graph, QUANTUM)
    frames = kaldifst.compile("\n".join(topology.transducer(marks)), keep_state_numbering=True)
    kaldifst.arcsort(frames, "olabel")
    kaldifst.arcsort(graph, "ilabel")
    graph = kaldifst.compose(frames, graph)
    kaldifst.connect(graph)
    # sorted for later compositions on words
    kaldifst.arcsort(graph, "olabel")
    return graph


def lexicon_lines(spellings: Spellings, symbols: int) -> tuple[list[str], int]:
    """(L: from units to words, the number of disambiguation symbols it uses).

    Mark 0 is where the language model backs off (its word label is the number of words + 1), mark 1 follows a separator, the
    others follow spellings that several words share or that are prefixes of others.
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
    """G: the language model over the words that have a spelling; without one, any words at no cost.

    The costs of paths are the model's, except that a path may also back off from a listed n-gram, which matters where the n-gram
    is less probable than backing off.
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
    """(for each order below the highest, from 0, the state after each n-gram; the state in which a sentence begins).

    An n-gram that is not a context gets the state of its longest suffix that is one; state 0 has the empty history.
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

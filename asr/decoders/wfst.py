"""The best path through a transducer of CTC, lexicon and language model: exact within its beam, for large lexicons; Kaldi's
decoders."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from asr.decoders import Decoder, Hypothesis
from asr.decoders.graph import search_graph
from asr.decoders.language_model import model_words
from asr.decoders.pronunciations import Spellings, spell
from asr.decoders.search import bound, check_numbers, decode_each, require, runs_of, words_of
from asr.units import Units

# The emissions are divided by the weight of the language model.
LEAST_WEIGHT = 1e-3


class Wfst(Decoder):
    """The best words of a lexicon, by the best path.

    score: ln P of the path through the emissions + lm_weight · (ln P(words) + ln P(pronunciations)) + word_score for each word +
    silence_score for each frame of silence.

    The graph is built once for units, lexicon and language model, and kept in a file; weights need no other graph.
    """

    name = "wfst"
    gives_words = True

    def __init__(
        self,
        lm: str | None = None,
        lexicon: str = "auto",
        out_of_vocabulary: str = "espeak",
        lm_weight: float = 1.0,
        word_score: float = 0.0,
        silence_score: float = 0.0,
        beam: float = 16.0,
        max_active: int = 7000,
        lattice_beam: float = 10.0,
        nbest: int = 1,
        cache: str | None = None,
    ):
        """lm: an ARPA file over words; None for none. lexicon, out_of_vocabulary: see `pronunciations.spell`.
        lm_weight: for natural logarithms; 0 counts as 0.001. word_score: added for each word. silence_score: added for each
        frame of silence or space. beam: how far below the best a path may score, natural logarithm; lattice_beam: the same
        for other hypotheses than the best. max_active: most states at a frame. nbest: how many hypotheses are returned;
        above 1 from a lattice. cache: the folder where graphs are kept; None for graphs in `~/.cache/asr`.
        """
        check_numbers(
            {
                "lm_weight": lm_weight,
                "word_score": word_score,
                "silence_score": silence_score,
                "beam": beam,
                "max_active": max_active,
                "lattice_beam": lattice_beam,
                "nbest": nbest,
            },
            positive={"beam", "lattice_beam"},
            counts={"max_active", "nbest"},
        )
        self.lm, self.lexicon, self.out_of_vocabulary = lm, lexicon, out_of_vocabulary
        self.lm_weight, self.word_score, self.silence_score = float(lm_weight), float(word_score), float(silence_score)
        self.beam, self.max_active, self.lattice_beam = float(beam), max_active, float(lattice_beam)
        self.nbest = nbest
        self.cache = Path(cache) if cache else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "asr" / "graphs"
        self.units: Units | None = None
        self.spellings: Spellings | None = None

    @property
    def facts(self) -> dict[str, Any]:
        return {} if self.spellings is None else {**self.spellings.facts, "graph_states": self._graph.num_states}

    def bind(self, units: Units) -> Wfst:
        self._kaldifst = require("kaldifst", "kaldifst", self.name)
        self._kaldi_decoder = require("kaldi_decoder", "kaldi-decoder", self.name)
        path = None if self.lm is None else Path(self.lm).expanduser()
        vocabulary = None if path is None else model_words(path)
        self.spellings = spell(units, vocabulary, self.lexicon, self.out_of_vocabulary)
        self._words = list(self.spellings.words)
        self.units = units
        self._graph = search_graph(self.spellings, units.symbols, path, self.cache, self._kaldifst)
        return self._with_search()

    def with_weights(self, lm_weight: float, word_score: float) -> Wfst:
        bound(self.units, self.name)
        check_numbers({"lm_weight": lm_weight, "word_score": word_score})
        other = copy.copy(self)
        other.lm_weight, other.word_score = float(lm_weight), float(word_score)
        return other._with_search()

    def _with_search(self) -> Wfst:
        """The graph's costs have the weight 1, so the emissions, and what is compared with them, are divided by lm_weight."""
        self._weighted, self._weight = self._graph, max(self.lm_weight, LEAST_WEIGHT)
        if self.word_score:
            cost = -self.word_score / self._weight
            loop = "\n".join(["0", *(f"0 0 {word} {word} {cost}" for word in range(1, len(self._words) + 1))])
            penalties = self._kaldifst.compile(loop)
            self._kaldifst.arcsort(penalties, "ilabel")
            self._weighted = self._kaldifst.compose(self._graph, penalties)
        beam, lattice_beam = self.beam / self._weight, self.lattice_beam / self._weight
        if self.nbest == 1:
            options = self._kaldi_decoder.FasterDecoderOptions(beam=beam, max_active=self.max_active)
            self._search = self._kaldi_decoder.FasterDecoder(self._weighted, options)
        else:
            config = self._kaldi_decoder.LatticeSimpleDecoderConfig(beam=beam, lattice_beam=lattice_beam)
            self._search = self._kaldi_decoder.LatticeSimpleDecoder(self._weighted, config)
        return self

    @torch.no_grad()
    def __call__(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        symbols = len(bound(self.units, self.name).symbols)
        return decode_each(emissions, lengths, symbols, self._decode, Hypothesis([], 0.0, [], [], 0.0, 0.0))

    def _decode(self, emissions: numpy.ndarray) -> list[Hypothesis]:
        scaled = emissions
        if self.spellings.separator is not None and self.silence_score:
            scaled = emissions.copy()
            scaled[:, self.spellings.separator] += self.silence_score
        scaled = numpy.ascontiguousarray(scaled / numpy.float32(self._weight))
        self._search.decode(decodable := self._kaldi_decoder.DecodableCtc(scaled))
        del decodable
        if self.nbest == 1:
            found, path = self._search.get_best_path()
            paths = [path] if found else []
        else:
            paths = self._distinct()
        hypotheses = [self._read(path, emissions) for path in paths]
        hypotheses.sort(key=lambda hypothesis: -hypothesis.score)
        return hypotheses or [Hypothesis([], float(emissions[:, 0].sum()), [], [], float(emissions[:, 0].sum()), 0.0)]

    def _distinct(self) -> list[Any]:
        """The best path of each of the best `nbest` sequences of words, as linear transducers."""
        kaldifst = self._kaldifst
        found, lattice = self._search.get_raw_lattice()
        if not found:
            return []
        lattice = plain_lattice(lattice, kaldifst)
        words = kaldifst.compile(word_acceptor(lattice), acceptor=True, keep_state_numbering=True)
        kaldifst.determinize_star(words)
        kaldifst.arcsort(lattice, "olabel")
        paths = []
        for best in kaldifst.convert_nbest_to_vector(kaldifst.shortest_path(words, n=self.nbest)):
            _, _, labels, _ = kaldifst.get_linear_symbol_sequence(best)
            sentence = kaldifst.make_linear_acceptor(labels)
            paths.append(kaldifst.shortest_path(kaldifst.compose(lattice, sentence)))
        return paths

    def _read(self, path: Any, emissions: numpy.ndarray) -> Hypothesis:
        """A linear transducer from frames to words."""
        _, labels, numbers, weight = self._kaldifst.get_linear_symbol_sequence(path)
        units: Sequence[int] = numpy.asarray(labels, numpy.int64) - 1
        runs = runs_of(units)
        separators = () if self.spellings.separator is None else (self.spellings.separator,)
        names = [self._words[number - 1] for number in numbers]
        words, kept = words_of(runs, names, self.spellings.of, separators)
        cost = (
            weight.value if hasattr(weight, "value") and not callable(weight.value) else weight.value1 + weight.value2
        )
        score = -cost * self._weight
        acoustic = float(emissions[numpy.arange(len(units)), units].sum(dtype=numpy.float64))
        silent = self.silence_score * sum(int((units == separator).sum()) for separator in separators)
        language = (score - acoustic - silent - self.word_score * len(numbers)) / self._weight
        runs = runs[:kept]
        return Hypothesis([run.unit for run in runs], score, [run.start for run in runs], words, acoustic, language)


def plain_lattice(lattice: Any, kaldifst: Any) -> Any:
    """A lattice with its two costs added up."""
    lines = []
    for line in lattice.to_str(show_weight_one=True).splitlines():
        *fields, costs = line.split()
        lines.append(" ".join(fields) + f" {sum(map(float, costs.split(',')))}")
    return kaldifst.compile("\n".join(lines), keep_state_numbering=True)


def word_acceptor(lattice: Any) -> str:
    """The words of a lattice without its frames, as the text of an acceptor."""
    lines = []
    for line in lattice.to_str(show_weight_one=True).splitlines():
        fields = line.split()
        lines.append(" ".join(fields[:2] + fields[3:] if len(fields) > 2 else fields))
    return "\n".join(lines)

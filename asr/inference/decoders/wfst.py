"""The best path through a transducer of topology, lexicon and language model: exact within its beam, for large lexicons; by
Kaldi's decoders."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from asr.inference.decoders import Decoder, Hypothesis
from asr.inference.decoders.confidence import Arc, lattice_confidences, with_posteriors
from asr.inference.decoders.graph import search_graph
from asr.inference.decoders.kenlm import model_words
from asr.inference.decoders.search import bound, check_numbers, decode_each, require, words_of
from asr.inference.decoders.spellings import Spellings, spell
from asr.model.topologies import topologies
from asr.runtime.user_cache import user_cache
from asr.text.units import Units

# emissions are divided by the language model's weight, which must not be zero
LEAST_WEIGHT = 1e-3
# The lattice for confidences is searched with ever wider beams, up to the decoder's own, until it has this many states per frame.
# Speech like the training data has 7 at a beam of 16, noise 1000 at a beam of 8, and Kaldi's lattice search has no other limit.
NARROWEST, WIDER, MOST_STATES = 4.0, 2**0.5, 60
# Then the lattice beam is narrowed until the sentences have at most this many states per frame; for speech they have 0.5.
NARROWER, MOST_SENTENCE_STATES = 0.7, 5


class Wfst(Decoder):
    """The best words of a lexicon, by the best path.

    score: ln P of the path through the emissions + lm_weight · (ln P(words) + ln P(pronunciations)) + word_score for each word +
    silence_score for each frame of silence.

    Confidences come from a lattice (`asr.inference.decoders.confidence`), which takes five times as long as the best words.

    The graph is built once per units, lexicon and language model, and cached in a file; other weights use the same graph.
    """

    name = "wfst"
    gives_words = True
    needs_blank = False

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
        confidence_scale: float = 0.9,
        cache: str | None = None,
    ):
        """lm: an ARPA file over words, or None. lexicon, out_of_vocabulary: see `spellings.spell`.
        lm_weight: for natural logarithms; 0 counts as 0.001. word_score: added for each word. silence_score: added for each
        frame of silence or space. beam: how far below the best a path may score, natural logarithm; lattice_beam: the same
        for hypotheses other than the best. max_active: most states per frame. nbest: hypotheses returned, from a lattice if
        more than 1. confidence_scale: scales scores for confidences, the smaller the less confident; the default has the best
        normalized cross entropy on the dev set of corpus=spoken. cache: the folder for graphs; None for `~/.cache/asr/graphs`.
        If it cannot be written, graphs are built each time.
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
                "confidence_scale": confidence_scale,
            },
            positive={"beam", "lattice_beam", "confidence_scale"},
            counts={"max_active", "nbest"},
        )
        self.lm, self.lexicon, self.out_of_vocabulary = lm, lexicon, out_of_vocabulary
        self.lm_weight, self.word_score, self.silence_score = float(lm_weight), float(word_score), float(silence_score)
        self.beam, self.max_active, self.lattice_beam = float(beam), max_active, float(lattice_beam)
        self.nbest = nbest
        self.confidence_scale, self._confident = float(confidence_scale), False
        kept = user_cache()
        self.cache = Path(os.path.expanduser(cache)) if cache else kept and kept / "graphs"
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
        self._outputs = self.topology or topologies.create({"name": "ctc"}, units=len(units.symbols))
        self._graph = search_graph(self.spellings, units.symbols, self._outputs, path, self.cache, self._kaldifst)
        return self._with_search()

    def with_weights(self, lm_weight: float, word_score: float) -> Wfst:
        bound(self.units, self.name)
        check_numbers({"lm_weight": lm_weight, "word_score": word_score})
        other = copy.copy(self)
        other.lm_weight, other.word_score = float(lm_weight), float(word_score)
        return other._with_search()

    def with_confidences(self) -> Wfst:
        other = copy.copy(self)
        other._confident = True
        return other

    def _with_search(self) -> Wfst:
        """The graph's costs have weight 1, so emissions, word scores and beams are divided by lm_weight."""
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
        bound(self.units, self.name)
        return decode_each(
            emissions, lengths, self._outputs.outputs, self._decode, Hypothesis([], 0.0, [], [], 0.0, 0.0)
        )

    def _decode(self, emissions: numpy.ndarray) -> list[Hypothesis]:
        scaled, separator = emissions, bound(self.spellings, self.name).separator
        if separator is not None and self.silence_score:
            scaled = emissions.copy()
            scaled[:, self._outputs.outputs_of(separator)] += self.silence_score
        scaled = numpy.ascontiguousarray(scaled[:, self._outputs.columns] / numpy.float32(self._weight))
        self._search.decode(decodable := self._kaldi_decoder.DecodableCtc(scaled))
        del decodable
        if self.nbest == 1:
            found, path = self._search.get_best_path()
            paths = [path] if found else []
        else:
            paths = self._distinct()
        hypotheses = [self._read(path, emissions) for path in paths]
        hypotheses.sort(key=lambda hypothesis: -hypothesis.score)
        if self._confident and hypotheses and hypotheses[0].words:
            hypotheses[0] = with_posteriors(hypotheses[0], self._confidences(hypotheses[0], scaled))
        return hypotheses or [Hypothesis([], float(emissions[:, 0].sum()), [], [], float(emissions[:, 0].sum()), 0.0)]

    def _confidences(self, hypothesis: Hypothesis, scaled: numpy.ndarray) -> list[float]:
        """The posteriors of its words. scaled: the emissions that are searched, float32 (time, units)."""
        beam = min(NARROWEST, self.beam)
        lattice = self._lattice(scaled, beam, min(beam, self.lattice_beam))
        while beam < self.beam and lattice.num_states < MOST_STATES * len(scaled):
            beam = min(self.beam, beam * WIDER)
            lattice = self._lattice(scaled, beam, min(beam, self.lattice_beam))
        kaldifst, lattice_beam = self._kaldifst, min(beam, self.lattice_beam)
        while (sentences := sentences_of(lattice, MOST_SENTENCE_STATES * len(scaled) + 1000, kaldifst)) is None:
            lattice_beam *= NARROWER
            lattice = self._lattice(scaled, beam, lattice_beam)
        arcs, finals = [], {}
        for line in sentences.to_str(show_weight_one=True).splitlines():
            state, *label, cost = line.split()
            score = -float(cost) * self._weight
            if label:
                arcs.append(Arc(int(state), int(label[0]), self._words[int(label[1]) - 1], score))
            else:
                finals[int(state)] = score
        return lattice_confidences(
            hypothesis.transcript or (), hypothesis.score, arcs, finals, sentences.start, self.confidence_scale
        )

    def _lattice(self, scaled: numpy.ndarray, beam: float, lattice_beam: float) -> Any:
        config = self._kaldi_decoder.LatticeSimpleDecoderConfig(
            beam=beam / self._weight, lattice_beam=lattice_beam / self._weight
        )
        search = self._kaldi_decoder.LatticeSimpleDecoder(self._weighted, config)
        search.decode(self._kaldi_decoder.DecodableCtc(scaled))
        return search.get_raw_lattice()[1]

    def _distinct(self) -> list[Any]:
        """The best path of each of the `nbest` best sequences of words, as linear transducers."""
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
        """The hypothesis of a linear transducer from frames to words."""
        _, labels, numbers, weight = self._kaldifst.get_linear_symbol_sequence(path)
        outputs, spellings = self._outputs.columns[numpy.asarray(labels) - 1], bound(self.spellings, self.name)
        runs = self._outputs.units_of(labels)
        separators = () if spellings.separator is None else (spellings.separator,)
        names = [self._words[number - 1] for number in numbers]
        words, kept = words_of(runs, names, spellings.of, separators)
        cost = (
            weight.value if hasattr(weight, "value") and not callable(weight.value) else weight.value1 + weight.value2
        )
        score = -cost * self._weight
        acoustic = float(emissions[numpy.arange(len(outputs)), outputs].sum(dtype=numpy.float64))
        silences = [output for separator in separators for output in self._outputs.outputs_of(separator)]
        silent = self.silence_score * int(numpy.isin(outputs, silences).sum())
        language = (score - acoustic - silent - self.word_score * len(numbers)) / self._weight
        runs = runs[:kept]
        return Hypothesis([run.unit for run in runs], score, [run.start for run in runs], words, acoustic, language)


def plain_lattice(lattice: Any, kaldifst: Any) -> Any:
    """A lattice whose two costs are added to one."""
    lines = []
    for line in lattice.to_str(show_weight_one=True).splitlines():
        *fields, costs = line.split()
        lines.append(" ".join(fields) + f" {sum(map(float, costs.split(',')))}")
    return kaldifst.compile("\n".join(lines), keep_state_numbering=True)


def sentences_of(lattice: Any, most_states: int, kaldifst: Any) -> Any | None:
    """A lattice with one path per sentence, scored as its best path; None if that takes too many states."""
    sentences = kaldifst.compile(word_acceptor(lattice), acceptor=True, keep_state_numbering=True)
    try:
        stopped = kaldifst.determinize_star(sentences, max_states=most_states)
    except RuntimeError:
        # too many arcs without a word in a row
        return None
    return None if stopped else sentences


def word_acceptor(lattice: Any) -> str:
    """The words of a lattice without its frames, with its costs added, as the text of an acceptor."""
    lines = []
    for line in lattice.to_str(show_weight_one=True).splitlines():
        *fields, costs = line.split()
        cost = sum(map(float, costs.split(",")))
        lines.append(f"{fields[0]} {fields[1]} {fields[3]} {cost}" if len(fields) > 2 else f"{fields[0]} {cost}")
    return "\n".join(lines)

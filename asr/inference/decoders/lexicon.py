"""Beam search over the words of a lexicon, with an n-gram language model; by flashlight.

J. Kahn et al., "Flashlight: Enabling Innovation in Tools for Machine Learning" (2022). `torchaudio.models.decoder.ctc_decoder`
wraps flashlight-text too, but neither separates the scores nor takes pronunciation probabilities.
"""

from __future__ import annotations

import copy
import dataclasses
import heapq
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy
import torch
from torch import Tensor

from asr.errors import listed
from asr.inference.decoders import Decoder, Hypothesis, Word, search
from asr.inference.decoders.confidence import nbest_confidences, with_posteriors
from asr.inference.decoders.kenlm import dictionary_of, load_kenlm, model_words
from asr.inference.decoders.search import IMPOSSIBLE, LN10, Run, bound, check_numbers, decode_each, require, runs_of
from asr.inference.decoders.spellings import Spellings, spell
from asr.text.units import Units

UNKNOWN = "<unk>"
# flashlight's tree keeps this many words with one spelling, and drops the others
MOST_HOMOPHONES = 6
# hypotheses that confidences are computed from
SENTENCES = 100
log = logging.getLogger(__name__)


class Lexicon(Decoder):
    """The best words of a lexicon: good for small vocabularies, KenLM binaries and unknown words. From 100 000 words on, its beam
    loses words that `wfst` finds, and is slower.

    score: ln P of the best path through the emissions (or of all, with sum_alignments) + lm_weight · ln P(words) + word_score for
    each word; a pronunciation of several adds lm_weight · ln of its probability, applied to the hypotheses found.

    flashlight lets the last unit of a word last only one frame, unless a space follows. Each last unit may therefore also end
    in a copy of itself, which can last, and a space is appended after the last frame. The copies allow two paths that CTC does
    not have: a blank within a word's last unit, and two words that share the frames of a unit. Words found on such a path are
    realigned, keeping the silence where it was. In a sum, copies would be counted repeatedly: with sum_alignments the search
    uses best paths, and its results are then rescored and sorted by the exact sum over all alignments of their units. Only
    with spaces between words does flashlight itself sum.

    Confidences come from the hypotheses that are left at the last frame, most of which begin alike: they rank words better
    than chance, but are overconfident. Those of `wfst` come from a lattice.

    Recordings of more than 6000 frames are cut where they are most silent; the language model starts a new sentence there.
    """

    name = "lexicon"
    gives_words = True

    def __init__(
        self,
        lm: str | None = None,
        lexicon: str = "auto",
        out_of_vocabulary: str = "espeak",
        lm_weight: float = 1.0,
        word_score: float = 0.0,
        silence_score: float = 0.0,
        unknown_score: float | None = None,
        beam_size: int = 100,
        beam_threshold: float = 25.0,
        beam_size_token: int | None = None,
        nbest: int = 1,
        sum_alignments: bool = False,
        confidence_scale: float = 0.5,
    ):
        """lm: an ARPA file or KenLM binary over words, or None. lexicon, out_of_vocabulary: see `spellings.spell`.
        lm_weight: for natural logarithms. word_score: added for each word; above 0 gives more and shorter words.
        silence_score: added for each frame of silence or space. unknown_score: added for units that spell no word, which are
        written <unk>; None allows none. beam_size: hypotheses kept per frame. beam_threshold: how far below the best they may
        score, natural logarithm. beam_size_token: units tried per frame, best first; None for all. nbest: hypotheses returned.
        sum_alignments: score by the sum over alignments instead of the best one. confidence_scale: scales scores for
        confidences, the smaller the less confident; chosen on the dev set of corpus=spoken.
        """
        numbers = {
            "lm_weight": lm_weight,
            "word_score": word_score,
            "silence_score": silence_score,
            "beam_size": beam_size,
            "beam_threshold": beam_threshold,
            "nbest": nbest,
            "confidence_scale": confidence_scale,
        }
        optional = {"unknown_score": unknown_score, "beam_size_token": beam_size_token}
        check_numbers(
            numbers | {key: value for key, value in optional.items() if value is not None},
            positive={"beam_threshold", "confidence_scale"},
            counts={"beam_size", "beam_size_token", "nbest"},
        )
        self.lm, self.lexicon, self.out_of_vocabulary = lm, lexicon, out_of_vocabulary
        self.lm_weight, self.word_score, self.silence_score = float(lm_weight), float(word_score), float(silence_score)
        self.unknown_score, self.beam_size, self.beam_threshold = unknown_score, beam_size, float(beam_threshold)
        self.beam_size_token, self.nbest, self.sum_alignments = beam_size_token, nbest, sum_alignments
        self.confidence_scale, self._confident = float(confidence_scale), False
        self.units: Units | None = None
        self.spellings: Spellings | None = None

    @property
    def facts(self) -> dict[str, Any]:
        return {} if self.spellings is None else {**self.spellings.facts, "homophones_left_out": self._left_out}

    def bind(self, units: Units) -> Lexicon:
        flashlight = require("flashlight.lib.text.decoder", "flashlight-text", self.name)
        vocabulary = None if self.lm is None else model_words(self.lm)
        self.spellings = spell(units, vocabulary, self.lexicon, self.out_of_vocabulary)
        self._words = [*self.spellings.words, UNKNOWN]
        if self.lm is None:
            self._model, self._dictionary = flashlight.ZeroLM(), dictionary_of(self._words, self.name)
        else:
            self._model, self._dictionary = load_kenlm(self.lm, self._words, self.name)
        self.units = units
        self._separator = self.spellings.separator
        self._ends_in_space = self.spellings.is_space and self._separator is not None
        # after the units come their copies, then an impossible silence for models that have none
        self._copies = not self._ends_in_space
        self._columns = 2 * len(units.symbols) + 1 if self._copies else len(units.symbols)
        self._silence = self._columns - 1 if self._separator is None else self._separator
        self._tree = self._grow(flashlight)
        return self._with_search()

    def with_weights(self, lm_weight: float, word_score: float) -> Lexicon:
        bound(self.units, self.name)
        check_numbers({"lm_weight": lm_weight, "word_score": word_score})
        other = copy.copy(self)
        other.lm_weight, other.word_score = float(lm_weight), float(word_score)
        return other._with_search()

    def with_confidences(self) -> Lexicon:
        other = copy.copy(self)
        other._confident = True
        return other

    def _grow(self, flashlight: Any) -> Any:
        """The tree of all spellings, with the words' language model scores smeared: looked ahead as early as possible."""
        symbols, spellings = len(bound(self.units, self.name).symbols), bound(self.spellings, self.name)
        tree = flashlight.Trie(self._columns, self._silence)
        start = self._model.start(False)
        scores = [self._model.score(start, number)[1] for number in range(len(self._words) - 1)]
        homophones: dict[tuple[int, ...], list[int]] = {}
        for number, word in enumerate(self._words[:-1]):
            for spelling in spellings.words[word]:
                homophones.setdefault(spelling, []).append(number)
        self._left_out = []
        for spelling, numbers in homophones.items():
            numbers.sort(key=lambda number: -scores[number])
            self._left_out += [self._words[number] for number in numbers[MOST_HOMOPHONES:]]
            for number in numbers[:MOST_HOMOPHONES]:
                if self._ends_in_space:
                    tree.insert([*spelling, self._separator], number, scores[number])
                else:
                    tree.insert(list(spelling), number, scores[number])
                    tree.insert([*spelling, spelling[-1] + symbols], number, scores[number])
        tree.smear(flashlight.SmearingMode.MAX)
        if self._left_out:
            log.warning(
                "Left out, because more than %d words share one spelling: %s", MOST_HOMOPHONES, listed(self._left_out)
            )
        return tree

    def _with_search(self) -> Lexicon:
        from flashlight.lib.text import decoder as flashlight

        most = self._columns
        if self.beam_size_token is not None:
            # each unit comes with its copy
            most = min(most, 2 * self.beam_size_token + 1 if self._copies else self.beam_size_token)
        options = flashlight.LexiconDecoderOptions(
            beam_size=self.beam_size,
            beam_size_token=most,
            beam_threshold=self.beam_threshold,
            # KenLM's logarithms are to base 10
            lm_weight=self.lm_weight * LN10,
            word_score=self.word_score,
            unk_score=float("-inf") if self.unknown_score is None else self.unknown_score,
            sil_score=0.0,
            log_add=self.sum_alignments and not self._copies,
            criterion_type=flashlight.CriterionType.CTC,
        )
        unknown = len(self._words) - 1
        self._search = flashlight.LexiconDecoder(options, self._tree, self._model, self._silence, 0, unknown, [], False)
        return self

    @torch.no_grad()
    def __call__(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        symbols = len(bound(self.units, self.name).symbols)
        empty = Hypothesis([], 0.0, [], [], 0.0, 0.0)
        return decode_each(
            emissions, lengths, symbols, self._decode, empty, search.LONGEST, self.nbest, self.sum_alignments
        )

    def _decode(self, emissions: numpy.ndarray) -> list[Hypothesis]:
        time, symbols = emissions.shape
        columns = numpy.full((time + self._ends_in_space, self._columns), IMPOSSIBLE, numpy.float32)
        columns[:time, :symbols] = emissions
        if self._copies:
            # the blank needs none
            columns[:time, symbols + 1 : -1] = emissions[:, 1:]
        if self._separator is not None:
            columns[:time, self._separator] += self.silence_score
        if self._ends_in_space:
            columns[time, self._separator] = 0.0
        results = self._search.decode(columns.ctypes.data, *columns.shape)
        if not self._confident:
            return self._best(results, columns[:time, :symbols], emissions, self.nbest)
        best = self._best(results, columns[:time, :symbols], emissions, max(self.nbest, SENTENCES))
        sentences, scores = [each.transcript or [] for each in best], [each.score for each in best]
        best[0] = with_posteriors(best[0], nbest_confidences(sentences, scores, self.confidence_scale))
        return best[: self.nbest]

    def _best(self, results: list[Any], scored: numpy.ndarray, emissions: numpy.ndarray, most: int) -> list[Hypothesis]:
        """The best distinct hypotheses, at most `most`. Reading a result can only lower its score, so that few need it."""
        if self.sum_alignments and self._copies:
            results = self._summed([self._read(result, emissions.shape) for result in results], scored)
        queue = [(-result.score, rank, result) for rank, result in enumerate(results)]
        heapq.heapify(queue)
        best: dict[tuple[str, ...], Hypothesis] = {}
        while queue and len(best) < most:
            _, rank, found = heapq.heappop(queue)
            if isinstance(found, Reading):
                if not found.is_path:
                    found = self._realigned(found, scored)
                    if found is not None:
                        heapq.heappush(queue, (-found.score, rank, found))
                    continue
                hypothesis = self._hypothesis(found, emissions)
                best.setdefault(tuple(hypothesis.transcript or ()), hypothesis)
            else:
                found = self._read(found, emissions.shape)
                heapq.heappush(queue, (-found.score, rank, found))
        return list(best.values()) or [
            Hypothesis([], float(emissions[:, 0].sum()), [], [], float(emissions[:, 0].sum()), 0.0)
        ]

    def _read(self, result: Any, shape: tuple[int, int]) -> Reading:
        """Reads a result of flashlight, whose first and last entries are padding."""
        time, symbols = shape
        tokens, numbers = numpy.array(result.tokens[1:-1]), numpy.array(result.words[1:-1])
        path = tokens[:time] % symbols if self._copies else tokens[:time].copy()
        path[tokens[:time] == 2 * symbols] = 0
        changes = numpy.concatenate(([True], tokens[1:] != tokens[:-1]))
        # a frame that ends a word is a run of its own
        changes[numbers >= 0] = True
        changes[1:][numbers[:-1] >= 0] = True
        starts = numpy.flatnonzero(changes)
        runs: list[Run] = []
        words: list[tuple[str, int, int]] = []
        kept = begun = previous = 0
        score, spellings = result.score, bound(self.spellings, self.name)
        for start, end, token, number in zip(
            starts.tolist(), [*starts[1:].tolist(), len(tokens)], tokens[starts].tolist(), numbers[starts].tolist()
        ):
            is_copy = symbols <= token < 2 * symbols
            lasts = token == previous and (begun < len(runs) or token == self._separator)
            previous = token
            if (is_copy or lasts) and runs and token > 0:
                runs[-1] = runs[-1]._replace(end=min(end, time))
            elif 0 < token < symbols and start < time:
                runs.append(Run(token, start, min(end, time)))
            if number >= 0:
                word = self._words[number]
                spelt = [at for at in range(begun, len(runs)) if runs[at].unit != self._separator]
                spelt = spelt or list(range(begun, len(runs)))
                words.append((word, spelt[0], spelt[-1]))
                spelling = tuple(runs[at].unit for at in spelt)
                score += self.lm_weight * spellings.words.get(word, {}).get(spelling, 0.0)
                begun = kept = len(runs)
            elif token == self._separator and begun == len(runs) - 1:
                # silence between words, not the beginning of one
                begun = kept = len(runs)
        runs = runs[:kept]
        is_path = [run.unit for run in runs] == [run.unit for run in runs_of(path)]
        return Reading(score, result.lmScore * LN10, runs, words, path, is_path)

    def _summed(self, readings: list[Reading], scored: numpy.ndarray) -> list[Reading]:
        """The readings, scored by the sum over their units' alignments instead of the path on which each was found."""
        sums: dict[tuple[int, ...], float] = {}
        summed = []
        for reading in readings:
            ids = tuple(run.unit for run in reading.runs)
            if ids not in sums:
                sums[ids] = sum_of_paths(ids, scored)
            if sums[ids] > -math.inf:
                before = scored[numpy.arange(len(scored)), reading.path].sum(dtype=numpy.float64)
                summed.append(dataclasses.replace(reading, score=float(reading.score - before + sums[ids])))
        return summed

    def _realigned(self, reading: Reading, scored: numpy.ndarray) -> Reading | None:
        """The words on their best CTC path, if flashlight's path was not one; None if they do not fit into the emissions."""
        before = scored[numpy.arange(len(scored)), reading.path].sum(dtype=numpy.float64)
        path = best_path([run.unit for run in reading.runs], scored)
        if path is None:
            return None
        if self.sum_alignments:
            return dataclasses.replace(reading, runs=runs_of(path), path=path, is_path=True)
        after = scored[numpy.arange(len(scored)), path].sum(dtype=numpy.float64)
        # a path that ended within a word has lost that word, and may have scored worse
        score = min(reading.score, float(reading.score - before + after))
        return Reading(score, reading.language, runs_of(path), reading.words, path, True)

    def _hypothesis(self, reading: Reading, emissions: numpy.ndarray) -> Hypothesis:
        runs, weighted = reading.runs, self.lm_weight * reading.language
        words = [Word(word, runs[first].start, runs[last].end) for word, first, last in reading.words]
        if self.sum_alignments:
            acoustic = reading.score - weighted - self.word_score * len(words)
        else:
            acoustic = float(emissions[numpy.arange(len(emissions)), reading.path].sum(dtype=numpy.float64))
        frames = [run.start for run in runs]
        return Hypothesis([run.unit for run in runs], reading.score, frames, words, acoustic, reading.language)


@dataclasses.dataclass(frozen=True)
class Reading:
    """A result of flashlight. words: each with the indices of its first and last run. path: (time,) int64, a unit per frame.
    is_path: whether CTC reads that path as these runs."""

    score: float
    language: float
    runs: list[Run]
    words: list[tuple[str, int, int]]
    path: numpy.ndarray
    is_path: bool


def sum_of_paths(ids: Sequence[int], emissions: numpy.ndarray) -> float:
    """ln of the sum over all CTC paths of these units; -inf if they need more frames. emissions: (time, units)."""
    log_probabilities = torch.from_numpy(emissions).double()[:, None]
    lengths = torch.tensor([len(emissions)]), torch.tensor([len(ids)])
    # torch warns about an empty target
    targets = torch.tensor([ids or (1,)])
    return -float(torch.nn.functional.ctc_loss(log_probabilities, targets, *lengths, reduction="none"))


def best_path(ids: list[int], emissions: numpy.ndarray) -> numpy.ndarray | None:
    """The best CTC path of these units, (time,); None if they need more frames. emissions: (time, units)."""
    from torchaudio.functional import forced_align

    if not ids:
        return numpy.zeros(len(emissions), numpy.int64)
    if len(ids) + sum(one == other for one, other in zip(ids, ids[1:])) > len(emissions):
        return None
    path, _ = forced_align(torch.from_numpy(emissions.copy())[None], torch.tensor([ids], dtype=torch.int32))
    return path[0].numpy()

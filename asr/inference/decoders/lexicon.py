"""Beam search over the words of a lexicon, with an n-gram language model; flashlight's.

J. Kahn et al., "Flashlight: Enabling Innovation in Tools for Machine Learning" (2022). flashlight-text is what
`torchaudio.models.decoder.ctc_decoder` wraps; the wrapper tells no scores apart and takes no pronunciation probabilities.
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
# flashlight's tree keeps this many words of one spelling, and forgets any more
MOST_HOMOPHONES = 6
# Hypotheses that the confidences of words go by.
SENTENCES = 100
log = logging.getLogger(__name__)


class Lexicon(Decoder):
    """The best words of a lexicon: good for small vocabularies, KenLM binaries and unknown words. With 100 000 words and more
    its beam loses words that `wfst` finds, and is slower.

    score: ln P of the best path through the emissions (or of all, with sum_alignments) + lm_weight · ln P(words) + word_score for
    each word; several pronunciations of a word weigh lm_weight · ln of their probability, which counts among the hypotheses
    found.

    flashlight lets the last unit of a word last one frame only, unless a space follows. So each last unit may also end in a
    copy of itself, which lasts; and a space is put behind the last frame. The copies allow two paths that CTC does not
    know: a blank within a word's last unit, and two words that share the frames of a unit; words that were found on such a
    path are aligned again, with silence where it was. Copies would also be counted again and again in a sum: with
    sum_alignments the search goes by best paths, and what it found is then scored, and put in order, by the exact sum over all
    alignments of its units. Only with spaces between words does flashlight itself add up.

    Confidences of words go by the hypotheses that are left at the last frame, which mostly begin alike: they rank words better
    than chance, but are too sure. Those of `wfst` go by a lattice.

    Recordings of more than 6000 frames are cut where they are most silent; for the language model a sentence begins there.
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
        """lm: an ARPA file or KenLM binary over words; None for none. lexicon, out_of_vocabulary: see `pronunciations.spell`.
        lm_weight: for natural logarithms. word_score: added for each word; above 0 makes more and shorter words.
        silence_score: added for each frame of silence or space. unknown_score: added for a stretch of units that is no
        word, which is then written <unk>; None for never. beam_size: hypotheses kept at each frame. beam_threshold: how far
        below the best a kept one may score, natural logarithm. beam_size_token: how many of a frame's best units are tried;
        None for all. nbest: how many hypotheses are returned. sum_alignments: score by the sum over alignments, not by the
        best one. confidence_scale: of the scores, in the confidences of words: the smaller, the less sure; chosen on
        the dev set of corpus=spoken.
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
        # behind the units stand their copies, and a silence that never sounds for models that have none
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
        """The tree of all spellings, in which each word's language model score is foreseen as early as can be."""
        symbols = len(self.units.symbols)
        tree = flashlight.Trie(self._columns, self._silence)
        start = self._model.start(False)
        scores = [self._model.score(start, number)[1] for number in range(len(self._words) - 1)]
        homophones: dict[tuple[int, ...], list[int]] = {}
        for number, word in enumerate(self._words[:-1]):
            for spelling in self.spellings.words[word]:
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
            # KenLM counts in log10
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
        sentences, scores = [each.transcript for each in best], [each.score for each in best]
        best[0] = with_posteriors(best[0], nbest_confidences(sentences, scores, self.confidence_scale))
        return best[: self.nbest]

    def _best(self, results: list[Any], scored: numpy.ndarray, emissions: numpy.ndarray, most: int) -> list[Hypothesis]:
        """At most so many different hypotheses, the best ones. What a closer look changes can only lower a score, so that few
        results need one."""
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
                best.setdefault(tuple(hypothesis.transcript), hypothesis)
            else:
                found = self._read(found, emissions.shape)
                heapq.heappush(queue, (-found.score, rank, found))
        return list(best.values()) or [
            Hypothesis([], float(emissions[:, 0].sum()), [], [], float(emissions[:, 0].sum()), 0.0)
        ]

    def _read(self, result: Any, shape: tuple[int, int]) -> Reading:
        """A result of flashlight, whose first and last entries are its own."""
        time, symbols = shape
        tokens, numbers = numpy.array(result.tokens[1:-1]), numpy.array(result.words[1:-1])
        path = tokens[:time] % symbols if self._copies else tokens[:time].copy()
        path[tokens[:time] == 2 * symbols] = 0
        changes = numpy.concatenate(([True], tokens[1:] != tokens[:-1]))
        # a frame that ends a word stands alone
        changes[numbers >= 0] = True
        changes[1:][numbers[:-1] >= 0] = True
        starts = numpy.flatnonzero(changes)
        runs: list[Run] = []
        words: list[tuple[str, int, int]] = []
        kept = begun = previous = 0
        score = result.score
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
                score += self.lm_weight * self.spellings.words.get(word, {}).get(spelling, 0.0)
                begun = kept = len(runs)
            elif token == self._separator and begun == len(runs) - 1:
                # silence between words, not the beginning of one
                begun = kept = len(runs)
        runs = runs[:kept]
        is_path = [run.unit for run in runs] == [run.unit for run in runs_of(path)]
        return Reading(score, result.lmScore * LN10, runs, words, path, is_path)

    def _summed(self, readings: list[Reading], scored: numpy.ndarray) -> list[Reading]:
        """The readings with the sum over their units' alignments instead of the path on which each was found."""
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
        """The words on their best path by CTC, where flashlight's was none; None if they do not fit into the emissions."""
        before = scored[numpy.arange(len(scored)), reading.path].sum(dtype=numpy.float64)
        path = best_path([run.unit for run in reading.runs], scored)
        if path is None:
            return None
        if self.sum_alignments:
            return dataclasses.replace(reading, runs=runs_of(path), path=path, is_path=True)
        after = scored[numpy.arange(len(scored)), path].sum(dtype=numpy.float64)
        # a path that ended within a word has lost it, and may have been worse
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
    """A result of flashlight. words: each with the places of its first and its last run. path: int64 (time,), a unit for
    each frame. is_path: whether CTC reads that path as these runs."""

    score: float
    language: float
    runs: list[Run]
    words: list[tuple[str, int, int]]
    path: numpy.ndarray
    is_path: bool


def sum_of_paths(ids: Sequence[int], emissions: numpy.ndarray) -> float:
    """ln of the sum over all CTC paths of these units; -inf if there are too few frames for them. emissions: (time, units)."""
    log_probabilities = torch.from_numpy(emissions).double()[:, None]
    lengths = torch.tensor([len(emissions)]), torch.tensor([len(ids)])
    # an empty target would warn that it has no elements
    targets = torch.tensor([ids or (1,)])
    return -float(torch.nn.functional.ctc_loss(log_probabilities, targets, *lengths, reduction="none"))


def best_path(ids: list[int], emissions: numpy.ndarray) -> numpy.ndarray | None:
    """The best CTC path of these units, (time,); None if there are too few frames for them. emissions: (time, units)."""
    from torchaudio.functional import forced_align

    if not ids:
        return numpy.zeros(len(emissions), numpy.int64)
    if len(ids) + sum(one == other for one, other in zip(ids, ids[1:])) > len(emissions):
        return None
    path, _ = forced_align(torch.from_numpy(emissions.copy())[None], torch.tensor([ids], dtype=torch.int32))
    return path[0].numpy()

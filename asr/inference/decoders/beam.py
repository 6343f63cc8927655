"""Prefix beam search over units, optionally with an n-gram language model over units; by flashlight, or torchaudio on a GPU.

CTC prefix search: A. Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional
Recurrent DNNs" (2014). `torchaudio.models.decoder.ctc_decoder` wraps flashlight-text too, but does not separate the scores.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy
import torch
from torch import Tensor

from asr.errors import UserError
from asr.inference.decoders import Decoder, Hypothesis, check_emissions, search
from asr.inference.decoders.kenlm import load_kenlm, model_words
from asr.inference.decoders.search import (
    IMPOSSIBLE,
    LN10,
    bound,
    check_is_number,
    check_numbers,
    check_units,
    decode_each,
    require,
    runs_of,
)
from asr.text.units import Units


class Beam(Decoder):
    """The most probable units, summed over all their alignments.

    score: ln P(units | emissions) over the alignments that the beam kept, plus lm_weight · ln P(units) of the language model.
    """

    name = "beam"

    def __init__(
        self,
        lm: str | None = None,
        lm_weight: float = 0.5,
        beam_size: int = 32,
        beam_threshold: float = 25.0,
        beam_size_token: int | None = None,
        nbest: int = 1,
        sum_alignments: bool = True,
        gpu: bool = True,
    ):
        """lm: an ARPA file or KenLM binary whose words are the units' symbols. lm_weight: its weight, for natural logarithms.
        beam_size: hypotheses kept per frame. beam_threshold: how far below the best they may score, natural logarithm.
        beam_size_token: units tried per frame, best first; None for all. nbest: hypotheses returned. sum_alignments: score by
        the sum over the alignments of the units instead of the best one. gpu: search emissions that are on a GPU there (without
        a language model), by torchaudio's `cuda_ctc_decoder`, which keeps and returns at most as many hypotheses as there are
        units.
        """
        check_numbers(
            {"lm_weight": lm_weight, "beam_size": beam_size, "beam_threshold": beam_threshold, "nbest": nbest}
            | ({} if beam_size_token is None else {"beam_size_token": beam_size_token}),
            positive={"beam_threshold"},
            counts={"beam_size", "beam_size_token", "nbest"},
        )
        self.lm, self.lm_weight = lm, float(lm_weight)
        self.beam_size, self.beam_threshold, self.beam_size_token = beam_size, float(beam_threshold), beam_size_token
        self.nbest, self.sum_alignments, self.gpu = nbest, sum_alignments, gpu
        self.units: Units | None = None
        self._model: Any = None
        self._search: Any = None
        self._on_gpu: Any = None

    def bind(self, units: Units) -> Beam:
        flashlight = require("flashlight.lib.text.decoder", "flashlight-text", self.name)
        if self.lm is None:
            self._model = flashlight.ZeroLM()
        else:
            listed = model_words(self.lm)
            missing = [] if listed is None else sorted(set(units.symbols[1:]) - set(listed))
            if listed is not None and len(missing) == len(units.symbols) - 1:
                raise UserError(
                    f"decoder.lm={self.lm} contains none of the units of this model, such as {units.symbols[1]!r}: "
                    "decoder=beam takes a language model over units (scripts/make_lm.py text=FILE of units); for one over "
                    "words use decoder=lexicon."
                )
            # no model has the blank, and its score is never needed
            self._model, self._dictionary = load_kenlm(self.lm, units.symbols, self.name)
        self.units = units
        return self._with_search()

    def with_weights(self, lm_weight: float, word_score: float = 0.0) -> Beam:
        """See `Decoder.with_weights`; word_score must be 0, as there are no words."""
        if word_score:
            raise UserError(
                f"word_score={word_score} does not fit decoder=beam, which finds units and not words: leave it at 0."
            )
        bound(self.units, self.name)
        check_numbers({"lm_weight": lm_weight})
        other = copy.copy(self)
        other.lm_weight = float(lm_weight)
        return other._with_search()

    def _with_search(self) -> Beam:
        from flashlight.lib.text import decoder as flashlight

        options = flashlight.LexiconFreeDecoderOptions(
            beam_size=self.beam_size,
            beam_size_token=self.beam_size_token or len(bound(self.units, self.name).symbols),
            beam_threshold=self.beam_threshold,
            # KenLM's logarithms are to base 10
            lm_weight=self.lm_weight * LN10,
            sil_score=0.0,
            log_add=self.sum_alignments,
            criterion_type=flashlight.CriterionType.CTC,
        )
        self._search = flashlight.LexiconFreeDecoder(options, self._model, 0, 0, [])
        return self

    @torch.no_grad()
    def __call__(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        symbols = len(bound(self.units, self.name).symbols)
        empty = Hypothesis([], 0.0, [], None, 0.0, 0.0)
        if emissions.is_cuda and self.gpu and self.lm is None and self._has_gpu_search():
            check_emissions(emissions, lengths)
            check_units(emissions, symbols)
            return self._decode_on_gpu(emissions, lengths, empty)
        return decode_each(
            emissions, lengths, symbols, self._decode, empty, search.LONGEST, self.nbest, self.sum_alignments
        )

    def _decode(self, emissions: numpy.ndarray) -> list[Hypothesis]:
        emissions = numpy.ascontiguousarray(emissions)
        results = self._search.decode(emissions.ctypes.data, *emissions.shape)
        hypotheses = []
        for result in results[: self.nbest]:
            # the first and the last entry are flashlight's own
            runs = runs_of(result.tokens[1:-1])
            language = result.lmScore * LN10
            acoustic = result.score - self.lm_weight * language
            hypotheses.append(
                Hypothesis(
                    [run.unit for run in runs], result.score, [run.start for run in runs], None, acoustic, language
                )
            )
        return hypotheses

    def _has_gpu_search(self) -> bool:
        """Whether torchaudio was built with its GPU search; if not, warns once, and the CPU searches."""
        if self._on_gpu is None:
            try:
                from torchaudio.models.decoder import cuda_ctc_decoder
            except (ImportError, OSError, RuntimeError) as error:
                warnings.warn(f"torchaudio cannot search on this GPU, so the CPU does: {error}", stacklevel=3)
                self.gpu = False
                return False
            symbols = bound(self.units, self.name).symbols
            self._on_gpu = cuda_ctc_decoder(
                list(symbols),
                nbest=min(self.nbest, self.beam_size, len(symbols)),
                beam_size=self.beam_size,
                blank_skip_threshold=1.0,
            )
        return True

    def _decode_on_gpu(self, emissions: Tensor, lengths: Tensor, empty: Hypothesis) -> list[list[Hypothesis]]:
        """By `torchaudio.models.decoder.cuda_ctc_decoder`; the times come from aligning what it found."""
        hypotheses = [[empty] for _ in lengths]
        rows = [row for row, length in enumerate(lengths.tolist()) if length]
        if not rows:
            return hypotheses
        for row in rows:
            check_is_number(emissions[row, : int(lengths[row])], row)
        # padding may hold anything
        emissions = emissions[rows].detach().float().nan_to_num(nan=IMPOSSIBLE).clamp(min=IMPOSSIBLE).contiguous()
        lengths = lengths[rows]
        found = self._on_gpu(emissions, lengths.to(emissions.device, torch.int32))
        for row, each, own, length in zip(rows, found, emissions, lengths.tolist()):
            hypotheses[row] = [aligned(one.tokens, float(one.score), own[:length]) for one in each]
        return hypotheses


def aligned(ids: list[int], score: float, emissions: Tensor) -> Hypothesis:
    """A hypothesis of these units, with the times of their best path. emissions: (time, units)."""
    from torchaudio.functional import forced_align

    if not ids:
        return Hypothesis([], score, [], None, score, 0.0)
    path, _ = forced_align(emissions[None], torch.tensor([ids], dtype=torch.int32, device=emissions.device))
    return Hypothesis(list(ids), score, [run.start for run in runs_of(path[0].tolist())], None, score, 0.0)

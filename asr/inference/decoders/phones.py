"""The best path through a phone language model: no lexicon and no words, exact, and for models without a blank as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.errors import UserError
from asr.inference.decoders import Decoder, Hypothesis
from asr.inference.decoders.search import bound, check_numbers, decode_each
from asr.model.graphs.best_path import BestPath
from asr.model.graphs.denominator import denominator
from asr.model.topologies import topologies
from asr.text.phones.files import read_phone_lm
from asr.text.units import Units


class Phones(Decoder):
    """The phones whose path is best by the emissions and lm_weight · ln P(phones), silences among them (Viterbi).

    A model that was trained with loss=lfmmi counts on the phone language model of its training: without one its emissions say
    little. For models of CTC it is a fair comparison.
    """

    name = "phones"
    needs_blank = False

    def __init__(self, lm: str | None = None, lm_weight: float = 1.0):
        """lm: a phone language model's file (phone_lm.txt); None for the model's own. lm_weight: for natural logarithms."""
        check_numbers({"lm_weight": lm_weight})
        self.lm, self.lm_weight = lm, float(lm_weight)
        self.units: Units | None = None

    @property
    def facts(self) -> dict[str, Any]:
        return {} if self.units is None else {"graph_states": self._search.graph.states}

    def bind(self, units: Units) -> Phones:
        topology = self.topology or topologies.create({"name": "ctc"}, units=len(units.symbols))
        lm = units.phone_lm if self.lm is None else read_phone_lm(Path(self.lm).expanduser(), units.symbols)
        if lm is None:
            raise UserError(
                "decoder=phones needs a phone language model, and this model comes without one: name that of a run with "
                "loss=lfmmi and the same units, decoder.lm=RUN/phone_lm.txt."
            )
        self.units = units
        self._search = BestPath(topology.spell(denominator(lm)), self.lm_weight)
        self._outputs = topology.outputs
        return self

    @torch.no_grad()
    def __call__(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """One hypothesis per utterance; see `Decoder.__call__` for the shapes."""
        bound(self.units, self.name)
        return decode_each(emissions, lengths, self._outputs, self._decode, Hypothesis([], 0.0, []))

    def _decode(self, emissions: np.ndarray) -> list[Hypothesis]:
        """emissions: (time, outputs), at least one frame. One too short for any sentence is read as the start of one."""
        score, units = self._search(emissions)
        return [Hypothesis([unit.unit for unit in units], score, [unit.start for unit in units])]

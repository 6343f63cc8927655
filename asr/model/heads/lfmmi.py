"""A linear layer to the outputs of a topology, trained by lattice-free MMI."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from asr.model.graphs.numerator import NumeratorBuilder
from asr.model.heads.linear import LinearHead
from asr.model.topologies import topologies
from asr.text.phones.model import PhoneLm, uniform


class Lfmmi(LinearHead):
    """Every hidden state emits a distribution over the outputs of a topology, such as two a phone, and no blank.

    topology: `name` and settings of a part of `asr.model.topologies`. loss: those of `asr.model.losses.lfmmi`. The phone language
    model is given with `prepare`; until then all phones are equally likely after all others. It is saved with the units.
    """

    name = "lfmmi"

    def __init__(
        self, dim: int, units: int, topology: dict[str, Any] | None = None, loss: dict[str, Any] | None = None
    ):
        spelled = topologies.create(topology or {"name": "chain"}, units=units)
        super().__init__(dim, spelled.outputs, loss or {"name": "lfmmi"})
        self.topology, self.units = spelled, units
        self.loss.topology = spelled
        self._lm: PhoneLm | None = None

    def prepare(self, lm: PhoneLm) -> None:
        """Takes the phone language model, for training. Raises UserError if it does not go together with the topology."""
        self._lm = lm
        self.loss.prepare(self.topology, lm)

    def loss_and_emissions(self, hidden: Tensor, lengths: Tensor, *spoken: Any) -> tuple[Tensor, Tensor]:
        """See `Head.loss_and_emissions`. spoken: targets, their lengths, and the graphs of what may have been said (`build`);
        without those the targets alone, without silences.
        """
        if self._lm is None:
            self.prepare(uniform(self.units))
        return super().loss_and_emissions(hidden, lengths, *spoken)

    @property
    def build(self) -> NumeratorBuilder:
        """Slots of an utterance → its numerator, for the processes that read data."""
        return self.loss.build

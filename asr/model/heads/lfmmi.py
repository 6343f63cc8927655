"""A linear layer to the outputs of a topology, trained by lattice-free MMI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from asr.kernels.numerators import Numerators
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
        self._lm: PhoneLm | None = None

    def prepare(self, lm: PhoneLm) -> None:
        """Takes the phone language model, for training. Raises UserError if it does not go together with the topology."""
        self._lm = lm
        self.loss.prepare(self.topology, lm)

    def forward(
        self,
        hidden: Tensor,
        lengths: Tensor,
        targets: Tensor,
        target_lengths: Tensor,
        graphs: Numerators | None = None,
    ) -> Tensor:
        """See `Head.forward`. graphs: what may have been said (`build`); None: the targets alone, without silences."""
        if self._lm is None:
            self.prepare(uniform(self.units))
        return self.loss(self.emissions(hidden), lengths, targets, target_lengths, graphs)

    @property
    def build(self) -> Callable:
        """Slots of an utterance → its numerator, for the processes that read data."""
        return self.loss.build

"""Lattice-free maximum mutual information (Povey et al. 2016; without alignments: Hadian et al. 2018)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from asr.errors import UserError
from asr.kernels.denominator import denominator_posteriors
from asr.kernels.numerators import Numerators, numerator_posteriors
from asr.kernels.shared_graph import Denominator
from asr.model.graphs.denominator import denominator
from asr.model.graphs.numerator import NumeratorBuilder
from asr.model.graphs.tensors import make_denominator, pad_numerators
from asr.model.losses.loss import Loss
from asr.model.topologies.base import Topology
from asr.runtime.arithmetic import exact_products, one_thread
from asr.runtime.precision import at_least_float32
from asr.text.phones.estimation import Shape
from asr.text.phones.model import PhoneLm
from asr.text.units import Saying

PRONUNCIATIONS = ("all", "first")


class Lfmmi(Loss):
    """log(weight of all sentences of a phone language model) - log(weight of the readings of what was said).

    Natural logarithms; a weight is what the language model says of the phones times what the emissions say of their frames. The
    loss is at least 0 (but for the leak), and does not change if all emissions of a frame are shifted.

    `prepare` gives it the topology and the language model, before which it cannot be used. An utterance that has too few frames,
    or no reading, has an infinite loss and the gradient 0.
    """

    name = "lfmmi"
    head = "lfmmi"
    topology: Topology
    build: NumeratorBuilder

    def __init__(
        self,
        order: int = 4,
        keep: int = 3,
        extra: int = 2000,
        edge: float = 0.8,
        between: float = 0.2,
        pronunciations: str = "all",
        leak: float = 1e-5,
        l2: float = 0.0,
    ):
        """order, keep, extra: of the phone language model, see `Shape`. edge, between: probability of silence at either end and
        between words. pronunciations: "all" that the lexicon has may have been said, or the "first". leak: the share of
        everything that leaks to all states after each frame; above 0, or float32 loses states. l2: 0.5 · l2 · emission² is
        added for every output of every frame (Kaldi's chain.l2-regularize).
        """
        super().__init__()
        self.shape = Shape(order, keep, extra)
        for key, value, most in (
            ("edge", edge, 1),
            ("between", between, 1),
            ("leak", leak, 1),
            ("l2", l2, float("inf")),
        ):
            if not isinstance(value, (int, float)) or not 0 <= value <= most:
                raise UserError(f"loss.{key}={value!r} must be a number from 0 to {most}.")
        if pronunciations not in PRONUNCIATIONS:
            raise UserError(f"loss.pronunciations={pronunciations!r}: one of {', '.join(PRONUNCIATIONS)}.")
        self.saying = Saying(edge, between, pronunciations)
        self.leak, self.l2 = leak, l2

    def prepare(self, topology: Topology, lm: PhoneLm) -> None:
        """Takes the topology and the language model. Raises UserError if the latter is too short for the former."""
        if topology.by_context and any(
            len(history) < 2 for history, there in zip(lm.histories[1:], lm.reached()[1:]) if there
        ):
            raise UserError(
                f"topology.context=left needs a language model that always knows the last two phones: set loss.keep=3 (now "
                f"{self.shape.keep}) and loss.order=3 or 4."
            )
        self.topology, self.build = topology, NumeratorBuilder(lm, topology)
        self.graph = topology.spell(denominator(lm))
        self._tensors: dict[tuple[torch.device, torch.dtype], Denominator] = {}

    def __getstate__(self) -> dict:
        """Without the tensors, of which sparse ones cannot be copied; they are made again."""
        return {**self.__dict__, "_tensors": {}}

    def forward(
        self,
        emissions: Tensor,
        lengths: Tensor,
        targets: Tensor,
        target_lengths: Tensor,
        graphs: Numerators | None = None,
    ) -> Tensor:
        """See `Loss.forward`. graphs: the numerators; None: the targets alone, without silences or other pronunciations.

        Computed in float32 also under autocast and for half precision; float64 stays float64.
        """
        if emissions.dim() != 3 or emissions.shape[2] != self.topology.outputs:
            raise ValueError(
                f"emissions must be (batch, time, {self.topology.outputs} outputs), not {tuple(emissions.shape)}"
            )
        if graphs is None:
            graphs = self.numerators_of(targets, target_lengths)
        emissions = at_least_float32(emissions)
        losses = Mmi.apply(emissions, lengths, graphs, self.tensors(emissions))
        if self.l2:
            valid = torch.arange(emissions.shape[1], device=lengths.device) < lengths[:, None]
            losses = losses + 0.5 * self.l2 * (emissions.square().sum(2) * valid).sum(1)
        return losses

    def numerators_of(self, targets: Tensor, target_lengths: Tensor) -> Numerators:
        """The graphs of bare sequences of units, on the targets' device."""
        rows = zip(targets.tolist(), target_lengths.tolist())
        padded = pad_numerators([self.build([((1.0, (unit,)),) for unit in row[:length]]) for row, length in rows])
        return Numerators(*(part.to(targets.device) for part in padded))

    def tensors(self, emissions: Tensor) -> Denominator:
        """The denominator on the emissions' device, made once."""
        key = (emissions.device, emissions.dtype)
        if key not in self._tensors:
            self._tensors[key] = make_denominator(
                self.graph, self.topology.outputs, self.leak, emissions.dtype, emissions.device
            )
        return self._tensors[key]

    def required_frames(self, labels: Sequence[int]) -> int:
        """See `Topology.required_frames`; without labels there is no sentence, however many frames."""
        return self.topology.required_frames(labels) if len(labels) else sys.maxsize


class Mmi(torch.autograd.Function):
    """The loss of each utterance, (batch,); its gradient is the difference of the posteriors, computed on the way forward."""

    @staticmethod
    def forward(ctx, emissions: Tensor, lengths: Tensor, numerators: Numerators, graph: Denominator) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        with exact_products(), one_thread(emissions.device):
            said, of_said = numerator_posteriors(emissions, lengths, numerators, wanted)
            all_, of_all = denominator_posteriors(emissions, lengths, graph, wanted)
        if wanted:
            feasible = (said > -torch.inf)[:, None, None]
            ctx.save_for_backward(torch.where(feasible, of_all - of_said, 0.0))
        return all_ - said

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):
        (difference,) = ctx.saved_tensors
        return difference * gradient[:, None, None], None, None, None

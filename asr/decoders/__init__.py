"""How emissions become units: one file per decoder."""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, ClassVar

from asr.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

decoders = Registry("asr.decoders", "decoder")


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """One reading of an utterance.

    ids: units without blanks, in order.
    score: log-probability (natural logarithm) by the decoder's own measure; higher is better.
    frames: for each unit the emission frame where it starts, so that `len(frames) == len(ids)`.
    """

    ids: list[int]
    score: float
    frames: list[int]


class Decoder(abc.ABC):
    """Base class of all decoders."""

    name: ClassVar[str]

    @abc.abstractmethod
    def __call__(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance, the best first; there is always at least one, which may have no units.

        emissions: (batch, time, units) log-probabilities, any floating dtype; what lies behind an utterance's length is
            never read. lengths: (batch,) int64 valid frames. Raises ValueError for shapes that do not fit.
        """


def check_emissions(emissions: Tensor, lengths: Tensor) -> None:
    """Raises ValueError unless `emissions` is (batch, time, units) and `lengths` integer (batch,), at most time."""
    if emissions.dim() != 3 or not emissions.is_floating_point():
        raise ValueError(
            f"emissions must be floating (batch, time, units), not {emissions.dtype} {tuple(emissions.shape)}"
        )
    if lengths.shape != emissions.shape[:1] or lengths.is_floating_point():
        raise ValueError(
            f"lengths must be ({emissions.shape[0]},) integers, one per utterance, "
            f"not {lengths.dtype} {tuple(lengths.shape)}"
        )
    if lengths.numel() and not 0 <= int(lengths.min()) <= int(lengths.max()) <= emissions.shape[1]:
        raise ValueError(f"lengths must lie in 0..{emissions.shape[1]}, the emissions' time, not {lengths.tolist()}")

"""Decoders, from emissions to units and words: one file each.

    decoder = decoders.create({"name": "lexicon", "lm": "lm.arpa"}).bind(units)
    best = decoder(emissions, lengths)[0][0]
    best.transcript, best.words[0].start

A decoder is created from plain settings; `bind` gives it the model's units before its first use.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from asr.errors import UserError
from asr.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from asr.model.topologies.base import Topology
    from asr.text.units import Units

decoders = Registry("asr.inference.decoders", "decoder")


@dataclasses.dataclass(frozen=True)
class Word:
    """A word of a hypothesis.

    start, end: emission frames, from the first of its first unit to the last of its last unit; `end` is exclusive.
    confidence: its posterior probability, 0..1 (`asr.inference.decoders.confidence`); None unless requested.
    """

    word: str
    start: int
    end: int
    confidence: float | None = None


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """One reading of an utterance.

    ids: units without blanks, in order.
    score: log-probability (natural logarithm) as the decoder defines it; higher is better.
    frames: for each unit the emission frame where it starts; `len(frames) == len(ids)`.
    words: in order, with their times; None if the decoder only knows units.
    acoustic_score, language_model_score: the share of the score from the emissions, and the language model's log-probability
        of the words before any weight; both natural logarithms, None if the decoder does not separate them.
    """

    ids: list[int]
    score: float
    frames: list[int]
    words: list[Word] | None = None
    acoustic_score: float | None = None
    language_model_score: float | None = None

    @property
    def transcript(self) -> list[str] | None:
        """The words without times; None if the decoder only knows units."""
        return None if self.words is None else [word.word for word in self.words]


class Decoder(abc.ABC):
    """Base class of all decoders.

    name: its name in the registry. gives_words: whether its hypotheses have words. needs_blank: whether it reads emissions as
    CTC's. topology: of the model that it decodes for; None for CTC's.
    """

    name: ClassVar[str]
    gives_words: ClassVar[bool] = False
    needs_blank: ClassVar[bool] = True
    topology: Topology | None = None

    def bind(self, units: Units) -> Decoder:
        """Prepares the decoder for a model's units and returns it. Call it once, before decoding.

        Reads the language model and the lexicon, if any; afterwards `facts` describes them. Raises UserError for files that
        cannot be read and for units that do not fit the decoder's settings.
        """
        return self

    def bind_to(self, units: Units, topology: Topology) -> Decoder:
        """`bind`, for a model's units and topology. Raises UserError also where the topology has no blank and it needs one."""
        if self.needs_blank and not topology.has_blank:
            raise UserError(
                f"decoder={self.name} needs the blank of CTC, which a model with topology={topology.name} does not have: use "
                "decoder=phones, or decoder=wfst for words."
            )
        self.topology = topology
        return self.bind(units)

    @property
    def facts(self) -> dict[str, Any]:
        """What a report says about the decoder, as plain data; filled by `bind`."""
        return {}

    def with_weights(self, lm_weight: float, word_score: float) -> Decoder:
        """The same decoder, bound to the same units and files, with other weights; reads no file again.

        Raises UserError if the decoder has no such weights.
        """
        raise UserError(f"decoder={self.name} has no language model to weight: use decoder=beam, lexicon or wfst.")

    def with_confidences(self) -> Decoder:
        """The same decoder, bound to the same units and files, that also gives the words of its best hypothesis a confidence
        (`Word.confidence`), which takes more time. A decoder without words is returned unchanged.
        """
        return self

    @abc.abstractmethod
    def __call__(self, emissions: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """The hypotheses of each utterance, best first; always at least one, perhaps without units.

        emissions: (batch, time, units) log-probabilities, any floating dtype; padding is never read. lengths: (batch,) int64
            valid frames. Raises ValueError for shapes that do not fit.
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

"""How emissions become units and words: one file per decoder.

    decoder = decoders.create({"name": "lexicon", "lm": "lm.arpa"}).bind(units)
    best = decoder(emissions, lengths)[0][0]
    best.transcript, best.words[0].start

A decoder is made of plain settings; `bind` gives it the model's units before it decodes for the first time.
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

    start, end: emission frames, from the first of its first unit up to, not including, the one after its last unit.
    confidence: its posterior probability, 0..1 (`asr.inference.decoders.confidence`); None unless the decoder was asked for it.
    """

    word: str
    start: int
    end: int
    confidence: float | None = None


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """One reading of an utterance.

    ids: units without blanks, in order.
    score: log-probability (natural logarithm) by the decoder's own measure; higher is better.
    frames: for each unit the emission frame where it starts, so that `len(frames) == len(ids)`.
    words: in order, with their times; None where the decoder knows units only.
    acoustic_score, language_model_score: what of the score comes from the emissions, and the logarithm of what the language model
        says about the words, before any weight; both natural logarithms, None where the decoder does not tell them apart.
    """

    ids: list[int]
    score: float
    frames: list[int]
    words: list[Word] | None = None
    acoustic_score: float | None = None
    language_model_score: float | None = None

    @property
    def transcript(self) -> list[str] | None:
        """The words alone; None where the decoder knows units only."""
        return None if self.words is None else [word.word for word in self.words]


class Decoder(abc.ABC):
    """Base class of all decoders.

    name: as in the registry. gives_words: whether its hypotheses have words. needs_blank: whether it reads emissions as CTC does.
    topology: of the model that it decodes for; None for CTC's.
    """

    name: ClassVar[str]
    gives_words: ClassVar[bool] = False
    needs_blank: ClassVar[bool] = True
    topology: Topology | None = None

    def bind(self, units: Units) -> Decoder:
        """Makes the decoder ready for a model's units, and returns it. To be called once before decoding.

        Reads language model and lexicon, where the decoder has them; `facts` says afterwards what became of them. Raises
        UserError for files that cannot be read and for units that do not go together with the decoder's settings.
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
        """What a report says about the decoder after `bind`, as plain data."""
        return {}

    def with_weights(self, lm_weight: float, word_score: float) -> Decoder:
        """The same decoder, bound to the same units and files, with other weights; nothing is read again.

        Raises UserError where the decoder has no such weights.
        """
        raise UserError(f"The decoder {self.name} has no language model that could be weighted.")

    def with_confidences(self) -> Decoder:
        """The same decoder, bound to the same units and files, that also says how sure it is of each word of its best hypothesis
        (`Word.confidence`), which takes more time. One that gives no words stays as it is.
        """
        return self

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

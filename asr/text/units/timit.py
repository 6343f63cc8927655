"""TIMIT's own phonemes: 61 in its transcripts, folded to 48 for training and 39 for scoring as by Lee and Hon.

K.-F. Lee and H.-W. Hon, "Speaker-independent phone recognition using hidden Markov models", IEEE Transactions on Acoustics,
Speech, and Signal Processing 37 (1989), 1641-1648. As in Kaldi's recipe (egs/timit/s5), the glottal stop q is deleted,
everything else is folded symbol by symbol, and nothing is merged: a closure before another closure stays two symbols, `cl`
`vcl` for training and `sil` `sil` for scoring. Unlike in Kaldi's scoring, where silences of a reference are optional, all 39
count alike here, including `sil`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from asr.errors import UserError
from asr.text.units import BLANK, UNITS_FILE, Units, UnknownUnit

if TYPE_CHECKING:
    from lhotse import SupervisionSegment

# one of the 48, its counterpart among the 39, and its counterparts among the 61
FOLDING = (
    ("aa", "aa", "aa"),
    ("ae", "ae", "ae"),
    ("ah", "ah", "ah"),
    ("ao", "aa", "ao"),
    ("aw", "aw", "aw"),
    ("ax", "ah", "ax ax-h"),
    ("ay", "ay", "ay"),
    ("b", "b", "b"),
    ("ch", "ch", "ch"),
    ("cl", "sil", "kcl pcl tcl"),
    ("d", "d", "d"),
    ("dh", "dh", "dh"),
    ("dx", "dx", "dx"),
    ("eh", "eh", "eh"),
    ("el", "l", "el"),
    ("en", "n", "en"),
    ("epi", "sil", "epi"),
    ("er", "er", "axr er"),
    ("ey", "ey", "ey"),
    ("f", "f", "f"),
    ("g", "g", "g"),
    ("hh", "hh", "hh hv"),
    ("ih", "ih", "ih"),
    ("ix", "ih", "ix"),
    ("iy", "iy", "iy"),
    ("jh", "jh", "jh"),
    ("k", "k", "k"),
    ("l", "l", "l"),
    ("m", "m", "em m"),
    ("n", "n", "n nx"),
    ("ng", "ng", "eng ng"),
    ("ow", "ow", "ow"),
    ("oy", "oy", "oy"),
    ("p", "p", "p"),
    ("r", "r", "r"),
    ("s", "s", "s"),
    ("sh", "sh", "sh"),
    ("sil", "sil", "h# pau"),
    ("t", "t", "t"),
    ("th", "th", "th"),
    ("uh", "uh", "uh"),
    ("uw", "uw", "uw ux"),
    ("v", "v", "v"),
    ("vcl", "sil", "bcl dcl gcl"),
    ("w", "w", "w"),
    ("y", "y", "y"),
    ("z", "z", "z"),
    ("zh", "sh", "zh"),
)
DELETED = "q"
TO_48 = {symbol: trained for trained, _, symbols in FOLDING for symbol in symbols.split()}
TO_39 = {trained: scored for trained, scored, _ in FOLDING}
# the symbols of transcripts
TRANSCRIBED = {*TO_48, DELETED}


class TimitPhonemes(Units):
    """48 phonemes for training, scored as 39. They come from the corpus's alignment; the text is not used."""

    name = "timit"
    metric = "per"

    def __init__(self, symbols: list[str], normalizer: str = "none"):
        super().__init__(symbols, normalizer)
        if self.symbols != [BLANK, *TO_39]:
            raise UserError(f"{UNITS_FILE}: the symbols of the units {self.name} must be the 48 of TIMIT, in order.")

    @classmethod
    def build(cls, supervisions: Iterable[SupervisionSegment]) -> TimitPhonemes:
        """The units; the supervisions are only checked. Raises UserError if one has no or other phonemes than TIMIT's."""
        for supervision in supervisions:
            for symbol in spoken(supervision):
                if symbol not in TRANSCRIBED:
                    raise UserError(f"{unknown(supervision, symbol)} {ADVICE}")
        return cls([BLANK, *TO_39])

    def encode(self, supervision: SupervisionSegment) -> list[int]:
        return [self.ids[symbol] for symbol in folded(supervision)]

    def reference(self, supervision: SupervisionSegment) -> list[str]:
        return [TO_39[symbol] for symbol in folded(supervision)]

    def decode(self, ids: list[int]) -> list[str]:
        return [TO_39[self.symbols[index]] for index in ids]


ADVICE = "The units timit are for corpus=timit; use units=phonemes, characters or bpe for others."


def spoken(supervision: SupervisionSegment) -> list[str]:
    """The phonemes of the supervision's alignment, unchanged. Raises UserError if it has none."""
    if not supervision.alignment or "phoneme" not in supervision.alignment:
        raise UserError(f"Utterance {supervision.id} has no phonemes with times (a tier `phoneme`). {ADVICE}")
    return [item.symbol for item in supervision.alignment["phoneme"]]


def folded(supervision: SupervisionSegment) -> list[str]:
    """The phonemes of the supervision among the 48, without q. Raises UnknownUnit for one that is not TIMIT's."""
    symbols = spoken(supervision)
    for symbol in symbols:
        if symbol not in TRANSCRIBED:
            raise UnknownUnit(symbol, unknown(supervision, symbol))
    return [TO_48[symbol] for symbol in symbols if symbol != DELETED]


def unknown(supervision: SupervisionSegment, symbol: str) -> str:
    return f"Utterance {supervision.id}: the phoneme {symbol!r} is not among the 61 of TIMIT."

"""Byte-pair pieces by sentencepiece, learned from the training split's text; scored in words."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import UserError
from asr.runtime.files import write_whole
from asr.text.normalization import normalize
from asr.text.units import BLANK, UNITS_FILE, Units, UnknownUnit

if TYPE_CHECKING:
    from lhotse import SupervisionSegment

MODEL_FILE = "bpe.model"
UNKNOWN_ID = 0  # sentencepiece's unknown piece; no text becomes it here, so the blank takes its index
log = logging.getLogger(__name__)


class Bpe(Units):
    """Sentencepiece's byte-pair encoding. `size` counts all symbols, including the blank."""

    name = "bpe"
    metric = "wer"

    def __init__(self, symbols: list[str], normalizer: str = "words", model: bytes = b""):
        """model: a serialized sentencepiece model whose pieces are the symbols, in this order."""
        import sentencepiece

        super().__init__(symbols, normalizer)
        self.model = model
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @classmethod
    def build(cls, supervisions: Iterable[SupervisionSegment], size: int = 200, normalizer: str = "words") -> Bpe:
        if not isinstance(size, int) or size < 3:
            raise UserError(f"units.size={size!r} must be a number of symbols, at least 3.")
        sentences = [normalize(supervision.text or "", normalizer)[0] for supervision in supervisions]
        sentences = [sentence for sentence in sentences if sentence]
        if not sentences:
            raise UserError("units=bpe has no text to learn from in the training split: check its transcripts.")
        model = train(sentences, size)
        return cls(pieces(model), normalizer, model)

    def encode(self, supervision: SupervisionSegment) -> list[int]:
        unwritable = self.unwritable(supervision)
        if unwritable:
            raise UnknownUnit(
                unwritable[0],
                f"Utterance {supervision.id}: {unwritable[0]!r} is not in any of the model's {len(self.symbols) - 1} pieces "
                f"(normalizer {self.normalizer!r}).",
            )
        return self.processor.encode(self.normalize(supervision)[0])

    def unwritable(self, supervision: SupervisionSegment) -> list[str]:
        text = self.normalize(supervision)[0]
        pieces = zip(self.processor.encode(text, out_type=str), self.processor.encode(text))
        # adjacent unknown characters come as one piece
        return [character for piece, index in pieces if index == UNKNOWN_ID for character in piece]

    def reference(self, supervision: SupervisionSegment) -> list[str]:
        return self.words(supervision)

    def decode(self, ids: list[int]) -> list[str]:
        return "".join(self.symbols[index] for index in ids).replace("▁", " ").split()

    def _save_files(self, folder: Path) -> None:
        write_whole(folder / MODEL_FILE, self.model)

    @classmethod
    def _load_files(cls, folder: Path, fields: dict[str, Any]) -> dict[str, Any]:
        path = folder / MODEL_FILE
        try:
            model = path.read_bytes()
            held = pieces(model)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): take it from the model again.") from None
        except RuntimeError:
            raise UserError(
                f"{path} is not a sentencepiece model or is cut short: take it from the model again."
            ) from None
        if held != fields["symbols"]:
            raise UserError(
                f"The pieces of {path} are not the symbols of {folder / UNITS_FILE}: take both from the same model."
            )
        return {"model": model}


def train(sentences: list[str], size: int) -> bytes:
    """A serialized model of `size` pieces, or, with a warning, of as many as the sentences have if that is fewer."""
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            character_coverage=1.0,
            normalization_rule_name="identity",
            max_sentence_length=1 << 24,
            num_threads=1,
            unk_id=UNKNOWN_ID,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        most = re.search(r"<=\s*(\d+)", str(error))
        if most and int(most[1]) < size:
            log.warning("units.size=%d is more than this text can fill: %s pieces are all it has.", size, most[1])
            return train(sentences, int(most[1]))
        characters = len(set("".join(sentences).replace(" ", "")))
        raise UserError(
            f"units.size={size} is too small for this text, whose {characters} characters all need a piece besides the "
            f"blank and the space: set units.size to {characters + 2} or more (sentencepiece: {error})."
        ) from None
    return model.getvalue()


def pieces(model: bytes) -> list[str]:
    """The symbols of a serialized model: its pieces, with the blank in place of the unknown one."""
    import sentencepiece

    if not model:
        raise RuntimeError("an empty model")
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [BLANK, *(processor.id_to_piece(index) for index in range(1, processor.get_piece_size()))]

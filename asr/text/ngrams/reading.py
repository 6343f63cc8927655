"""Reading a language model of whatever kind."""

from __future__ import annotations

from pathlib import Path

from asr.runtime.text_files import open_unpacked
from asr.text.ngrams.arpa import read_arpa
from asr.text.ngrams.kenlm_model import BINARY_MAGIC, KenlmModel
from asr.text.ngrams.model import NgramModel


def read_model(path: Path | str) -> NgramModel | KenlmModel:
    """The model in an ARPA file (plain or compressed) or a KenLM binary, told apart by its first bytes.

    Raises UserError as `read_arpa` and `KenlmModel` do.
    """
    path = Path(path).expanduser()
    open_unpacked(path).close()  # says what cannot be read
    with open(path, "rb") as file:
        first = file.read(len(BINARY_MAGIC))
    return KenlmModel(path) if first == BINARY_MAGIC else read_arpa(path)

"""Reads a language model of either kind."""

from __future__ import annotations

from pathlib import Path

from asr.runtime.text_files import open_unpacked
from asr.text.ngrams.arpa import read_arpa
from asr.text.ngrams.kenlm_model import BINARY_MAGIC, KenlmModel
from asr.text.ngrams.model import NgramModel


def read_model(path: Path | str) -> NgramModel | KenlmModel:
    """The model in an ARPA file (plain or compressed) or a KenLM binary, recognized by its first bytes.

    Raises UserError as `read_arpa` and `KenlmModel` do.
    """
    path = Path(path).expanduser()
    return KenlmModel(path) if is_kenlm_binary(path) else read_arpa(path)


def is_kenlm_binary(path: Path) -> bool:
    """Whether a file is a KenLM binary. Raises UserError for a file that cannot be read."""
    open_unpacked(path).close()
    with open(path, "rb") as file:
        return file.read(len(BINARY_MAGIC)) == BINARY_MAGIC

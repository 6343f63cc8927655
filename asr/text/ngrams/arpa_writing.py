"""Writes ARPA files."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

from asr.errors import UserError
from asr.runtime.files import replacing
from asr.text.ngrams.model import NgramModel


def write_arpa(model: NgramModel, path: Path | str) -> None:
    """Writes the model, compressed if the name ends in .gz; the file is complete or absent.

    Numbers have all the digits that float32 needs, so reading the file gives the same model. Raises UserError if it cannot
    be written.
    """
    path = Path(path).expanduser()
    try:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            if path.suffix == ".gz":
                # no name and no time, so that the same model gives the same file
                with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                    _write(model, packed)
            else:
                _write(model, file)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}. Choose another place.") from None


def _write(model: NgramModel, binary) -> None:
    file = io.TextIOWrapper(binary, encoding="utf8", newline="\n")
    file.write("\\data\\\n")
    file.writelines(f"ngram {order}={len(table)}\n" for order, table in enumerate(model.tables, start=1))
    words = model.words
    for order in range(1, model.order + 1):
        file.write(f"\n\\{order}-grams:\n")
        for numbers, log10, backoff in model.ngrams(order):
            texts = (" ".join([words[number] for number in row]) for row in numbers)
            if order == model.order:
                lines = (f"{p}\t{text}\n" for p, text in zip(log10.astype(str), texts))
            else:
                lines = (f"{p}\t{text}\t{b}\n" for p, text, b in zip(log10.astype(str), texts, backoff.astype(str)))
            file.writelines(lines)
    file.write("\n\\end\\\n")
    file.flush()
    file.detach()

"""Writing ARPA files."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

from asr.errors import UserError
from asr.text.ngrams.model import NgramModel


def write_arpa(model: NgramModel, path: Path | str) -> None:
    """Writes the model, compressed where the name ends in .gz; the file is there whole or not at all.

    Numbers have the digits that float32 needs, so that reading it gives the same model. Raises UserError if it cannot be
    written.
    """
    path = Path(path).expanduser()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            if path.suffix == ".gz":
                # without name and time, the same model gives the same file
                with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                    _write(model, packed)
            else:
                _write(model, file)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from None
    finally:
        temporary.unlink(missing_ok=True)


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

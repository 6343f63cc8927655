"""Language models for flashlight's decoders: ARPA files and KenLM binaries, in flashlight's KenLM."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import struct
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asr.errors import UserError
from asr.inference.decoders.search import require
from asr.runtime.text_files import byte_lines, composed, composed_words, open_unpacked
from asr.text.ngrams.kenlm_model import BINARY_MAGIC

SPECIAL = {"<s>", "</s>", "<unk>"}
# of a binary (lm/binary_format.cc, version 5): whether it has the words, and their number, perhaps without `<unk>`
HEADER = struct.Struct("<100x?7xQ")
SECTION = re.compile(rb"\\(\d+)-grams:")
# flashlight's KenLM is built for models up to this order
HIGHEST_ORDER = 6
log = logging.getLogger(__name__)


def model_words(path: Path | str) -> list[str] | None:
    """The words of a language model without `<s>`, `</s>` and `<unk>`: the unigrams of an ARPA file in NFC, or those that a
    KenLM binary lists, as they are.

    None for a binary built without its words. Raises UserError if the file cannot be read or is neither.
    """
    path = Path(path).expanduser()
    open_unpacked(path).close()  # raises UserError for a file that cannot be read
    words = _words_of_binary(path) if is_binary(path) else composed_words(list(_unigrams(path)))
    return None if words is None else [word for word in words if word.lower() not in SPECIAL]


def _unigrams(path: Path) -> Iterator[str]:
    """The unigrams of an ARPA file, as written."""
    begun = inside = False
    with open_unpacked(path) as file:
        for line in byte_lines(file, path):
            # a banner before \data\ may quote the format
            begun = begun or line.strip() == b"\\data\\"
            section = SECTION.match(line.lstrip()) if begun else None
            if section:
                if section[1] != b"1":
                    break
                inside = True
            elif inside and len(fields := line.split()) > 1:
                yield _word(fields[1], path)
    if not inside:
        raise UserError(
            f"{path} is not a language model: give an ARPA file, which has a line \\1-grams:, or a KenLM binary."
        )


def is_binary(path: Path) -> bool:
    """Whether the file is one of KenLM's binaries."""
    with open(path, "rb") as file:
        return file.read(len(BINARY_MAGIC)) == BINARY_MAGIC


def _words_of_binary(path: Path) -> list[str] | None:
    """KenLM writes the words last, each ended by a zero byte, `<unk>` first (lm/vocab.cc)."""
    content = path.read_bytes()
    cut_short = UserError(f"The KenLM binary {path} is cut short: copy it again.")
    if len(content) < HEADER.size:
        raise cut_short
    has_words, unigrams = HEADER.unpack_from(content)
    if not has_words:
        return None
    at = content.rfind(b"<unk>\0")
    words = content[at:].split(b"\0")[:-1]
    if at < 0 or len(words) not in (unigrams, unigrams + 1):
        raise cut_short
    return [_word(word, path) for word in words]


def _word(word: bytes, path: Path) -> str:
    try:
        return word.decode("utf8")
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: the word {word!r} is not UTF-8. If the file is Latin-1: iconv -f latin1 -t utf8"
        ) from None


def load_kenlm(path: Path | str, words: Sequence[str], decoder: str) -> tuple[Any, Any]:
    """(flashlight's language model of the file, its dictionary of these words, numbered 0, 1, …).

    An ARPA file that KenLM does not accept as written (spaces, a banner, other compression, a single order), or whose words are
    not in NFC, is read by `asr.text.ngrams.read_arpa` and rewritten for it.
    Raises UserError if the file is truncated or otherwise damaged, or of a higher order than flashlight's KenLM supports.
    """
    kenlm = require("flashlight.lib.text.decoder.kenlm", "flashlight-text", decoder)
    path = Path(path).expanduser()
    dictionary = dictionary_of(words, decoder)
    binary = is_binary(path)
    if binary or all(word == composed(word) for word in _unigrams(path)):
        try:
            with _silent():
                return kenlm.KenLM(str(path), dictionary), dictionary
        except RuntimeError as error:
            reason = " ".join(str(error).split())
        if binary:
            raise UserError(
                f"KenLM cannot read the language model {path} ({reason}). Build it again, or give its ARPA file."
            )
    return _rewritten(path, dictionary, kenlm), dictionary


def _rewritten(path: Path, dictionary: Any, kenlm: Any) -> Any:
    """Loads an ARPA file that KenLM cannot read, by rewriting it as KenLM expects it."""
    from asr.text.ngrams.arpa import read_arpa
    from asr.text.ngrams.arpa_writing import write_arpa

    # our own reader says which line is wrong
    model = read_arpa(path)
    if model.order > HIGHEST_ORDER:
        raise UserError(
            f"{path} is a model of order {model.order}, and the KenLM in flashlight-text supports at most {HIGHEST_ORDER}: use "
            f"decoder=wfst, or a model of lower order."
        )
    log.info("%s is not formatted as KenLM expects; it was rewritten for it.", path)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "lm.arpa")
        write_arpa(model, written)
        if model.order == 1:
            _with_empty_bigrams(written)
        try:
            with _silent():
                return kenlm.KenLM(str(written), dictionary)
        except RuntimeError as error:
            reason = " ".join(str(error).replace(str(written), str(path)).split())
            raise UserError(f"KenLM cannot read the language model {path} ({reason}). Build it again.") from None


def _with_empty_bigrams(path: Path) -> None:
    """Adds empty bigrams to a file of unigrams: KenLM needs at least two orders."""
    text = path.read_text(encoding="utf8")
    text = re.sub(r"^ngram 1=\d+\n", lambda match: match[0] + "ngram 2=0\n", text, count=1, flags=re.MULTILINE)
    path.write_text(text.removesuffix("\\end\\\n") + "\\2-grams:\n\n\\end\\\n", encoding="utf8")


def dictionary_of(words: Sequence[str], decoder: str) -> Any:
    """flashlight's dictionary of these words, numbered 0, 1, …"""
    dictionary = require("flashlight.lib.text.dictionary", "flashlight-text", decoder).Dictionary()
    for word in words:
        dictionary.add_entry(word)
    return dictionary


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Silences KenLM's progress bar, which it writes to standard error past Python."""
    with tempfile.TemporaryFile() as nowhere:
        before = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)

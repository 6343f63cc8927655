"""Reading users' text files: the only place that decodes them.

Files may be plain or compressed (gzip, bzip2, xz, recognized by their first bytes), in UTF-8 with or without a byte order mark,
with lines that end in LF, CRLF or, in files without any LF, CR. Accented letters are composed (Unicode NFC), so that a word is
the same string whichever editor or operating system wrote it.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import sys
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from asr.errors import UserError

COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
SUFFIXES = (".gz", ".bz2", ".xz")
# Unix `pack` and `compress`: the LDC's .z and .Z
PACKED = (b"\x1f\x1e", b"\x1f\x9d")
# raised for compressed files that are damaged or cut short
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def composed(text: str) -> str:
    """The text in Unicode NFC."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def composed_words(words: Sequence[str]) -> list[str]:
    """Distinct words in NFC; those that would become equal stay unchanged."""
    forms = Counter(map(composed, words))
    return [form if forms[form := composed(word)] == 1 else word for word in words]


def open_unpacked(path: Path | str) -> BinaryIO:
    """Opens a file to read its bytes, decompressed if need be; "-" is standard input.

    Raises UserError if it cannot be read.
    """
    if path == "-":
        # the descriptor: tests and callers may have replaced sys.stdin
        stream = open(sys.stdin.fileno(), "rb", closefd=False)
        opener = opener_of(stream.peek(8), "standard input")
        return opener(stream, "rb") if opener else stream
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file. Name a text file.")
    try:
        with open(path, "rb") as file:
            opener = opener_of(file.read(8), path)
        return (opener or open)(path, "rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}. Check its name and permissions.") from None


def opener_of(first: bytes, path: Path | str):
    """The function that opens a compressed file with these first bytes; None for any other file."""
    if first.startswith(PACKED):
        raise UserError(f"{path} is packed by Unix's compress or pack. Unpack it: gunzip -c {path} > {path}.plain")
    return next((opener for magic, opener in COMPRESSED.items() if first.startswith(magic)), None)


def byte_lines(file: BinaryIO, path: Path | str) -> Iterator[bytes]:
    """The lines of a file opened by `open_unpacked`, with their ends, without byte order marks.

    Marks are dropped from the start of every line: concatenated files have them in the middle, and some editors add one with
    each save. Raises UserError for UTF-16 and for a file that is damaged or cut short.
    """
    number = 0
    try:
        for number, line in enumerate(file, start=1):
            if number == 1 and line.startswith(WIDE):
                raise UserError(
                    f"{path} is UTF-16 or UTF-32. Save it as UTF-8: iconv -f utf-16 -t utf-8 {path} > {path}.utf8"
                )
            while line.startswith(codecs.BOM_UTF8):
                line = line.removeprefix(codecs.BOM_UTF8)
            if number == 1 and b"\r" in line and not line.endswith(b"\n"):
                # no LF in the whole file: line ends of classic Mac OS
                yield from line.removesuffix(b"\r").split(b"\r")
            else:
                yield line
    except DAMAGED as error:
        raise UserError(f"{path} is damaged or cut short after line {number} ({error}). Copy it again.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read after line {number} ({error}). Copy it again.") from None


def utf8(line: bytes, path: Path | str, number: int) -> str:
    """One line as text, unchanged. Raises UserError, naming file and line, if it is not UTF-8."""
    try:
        return line.decode("utf8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {number}: {line[error.start]:#04x} is not UTF-8. Save the file as UTF-8; if it is Latin-1: "
            f"iconv -f latin1 -t utf8 {path} > {path}.utf8"
        ) from None


def decoded(line: bytes, path: Path | str, number: int, compose: bool = True) -> str:
    """One line as text, without its end. Raises UserError, naming file and line, if it is not UTF-8 text."""
    text = utf8(line, path, number)
    if "\0" in text:
        raise UserError(f"{path}, line {number}: a zero byte (NUL), as in UTF-16. Save the file as UTF-8 text.")
    text = text.rstrip("\r\n")
    return composed(text) if compose else text


def iterate_lines(path: Path | str, compose: bool = True) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its end) of each line, read lazily.

    compose: False leaves the text unchanged, as file names need. Raises UserError as `open_unpacked`, `byte_lines` and `decoded`
    do.
    """
    with open_unpacked(path) as file:
        for number, line in enumerate(byte_lines(file, path), start=1):
            yield number, decoded(line, path, number, compose)


def read_lines(path: Path | str, otherwise: str | None = None, compose: bool = True) -> list[str]:
    """All lines, without their ends.

    otherwise: the encoding of a file that is not UTF-8, such as "latin1" for the LDC's; None refuses it. compose, and what is
    raised: see `iterate_lines`.
    """
    if otherwise is None:
        return [text for _, text in iterate_lines(path, compose)]
    with open_unpacked(path) as file:
        content = list(byte_lines(file, path))
    try:
        lines = [line.decode("utf8") for line in content]
    except UnicodeDecodeError:
        lines = [line.decode(otherwise) for line in content]
    lines = [line.rstrip("\r\n") for line in lines]
    return [composed(line) for line in lines] if compose else lines


def count_decomposed(path: Path | str, otherwise: str | None = None) -> int:
    """Number of lines in a file that are not in NFC."""
    return sum(line != composed(line) for line in read_lines(path, otherwise, compose=False))


def without_compression(path: Path | str) -> Path:
    """The path without .gz, .bz2 or .xz, so that its suffix tells the content."""
    path = Path(path)
    return path.with_suffix("") if path.suffix.lower() in SUFFIXES else path

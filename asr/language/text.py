"""Text for language models: UTF-8, one sentence per line, words separated by white space; compressed or not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from asr.errors import UserError
from asr.units.text import check_normalizer, normalize

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
# Of Unix `pack` and `compress`: the LDC's .z and .Z
PACKED = (b"\x1f\x1e", b"\x1f\x9d")
# What reading a compressed file that is damaged or cut short raises.
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)


class TextFile:
    """The sentences of a file as lists of words, each time it is gone through.

    path: a file, plain or compressed by gzip, bzip2 or xz (known by its first bytes); "-" is standard input.
    normalizer: what each line goes through first (asr.units.text).

    A line may begin with `<s>` and end in `</s>`, which are taken off. Counted on the way: `sentences`, `words`, `blank` lines
    (left out), `marked` lines (with `<s>` or `</s>` taken off), and `unknown`, how often `<unk>` stands in it.
    """

    def __init__(self, path: Path | str, normalizer: str = "none"):
        check_normalizer(normalizer)
        self.path, self.normalizer = path if path == "-" else Path(path).expanduser(), normalizer
        self._clear()

    def _clear(self) -> None:
        self.sentences = self.words = self.blank = self.marked = self.unknown = 0

    def __iter__(self) -> Iterator[list[str]]:
        """Raises UserError, naming file and line, for what is no text in UTF-8, or has `<s>` or `</s>` inside a line."""
        self._clear()
        with open_binary(self.path) as file:
            for number, line in enumerate(lines_of(file, self.path), start=1):
                words = self._words(line, number)
                if not words:
                    self.blank += 1
                    continue
                self.sentences += 1
                self.words += len(words)
                yield words

    def _words(self, line: bytes, number: int) -> list[str]:
        try:
            text = line.decode("utf8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.path}, line {number}: {line[error.start]:#04x} is not UTF-8. If the file is Latin-1: "
                f"iconv -f latin1 -t utf8 {self.path} > {self.path}.utf8"
            ) from None
        if "\0" in text:
            raise UserError(f"{self.path}, line {number}: a zero byte; this is no text with one sentence per line.")
        words = text.split()
        before = len(words)
        words = words[words[:1] == [BEGIN] :]
        words = words[: len(words) - (words[-1:] == [END])]
        self.marked += len(words) < before
        inside = [mark for mark in (BEGIN, END) if mark in words]
        if inside:
            raise UserError(
                f"{self.path}, line {number}: {inside[0]} stands inside the line. It marks where a sentence begins or ends: "
                "write one sentence per line."
            )
        if self.normalizer != "none":
            words = normalize(" ".join(words), self.normalizer)[0].split()
        self.unknown += words.count(UNKNOWN)
        return words


def open_binary(path: Path | str) -> BinaryIO:
    """The file's bytes, unpacked where it is compressed. Raises UserError if it cannot be read."""
    if path == "-":
        return open(sys.stdin.fileno(), "rb", closefd=False)
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file.")
    try:
        with open(path, "rb") as file:
            first = file.read(8)
        for magic, opener in COMPRESSED.items():
            if first.startswith(magic):
                return opener(path, "rb")
        if first.startswith(PACKED):
            raise UserError(f"{path} is packed by Unix's compress or pack. Unpack it: gunzip -c {path} > {path}.plain")
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None


def lines_of(file: BinaryIO, path: Path | str) -> Iterator[bytes]:
    """The lines of a file that `open_binary` opened. Raises UserError where it is damaged or cut short."""
    number = 0
    try:
        for number, line in enumerate(file, start=1):  # noqa: B007
            yield line
    except DAMAGED as error:
        raise UserError(f"{path} is damaged or cut short after line {number} ({error}).") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read after line {number} ({error}).") from None

"""Text for language models: UTF-8, one sentence per line, words separated by white space; compressed or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from asr.errors import UserError
from asr.runtime.text_files import iterate_lines
from asr.text.normalization import check_normalizer, normalize

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"


class TextFile:
    """The sentences of a file as lists of words; every iteration reads it again.

    path: a file, plain or compressed by gzip, bzip2 or xz (recognized by its first bytes); "-" is standard input.
    normalizer: the normalizer applied to each line (asr.text.normalization).

    A line may begin with `<s>` and end with `</s>`, which are removed. Each iteration counts `sentences`, `words`, `blank`
    lines (left out), `marked` lines (with `<s>` or `</s>`), and `unknown`, the occurrences of `<unk>`.
    """

    def __init__(self, path: Path | str, normalizer: str = "none"):
        check_normalizer(normalizer)
        self.path, self.normalizer = path if path == "-" else Path(path).expanduser(), normalizer
        self._clear()

    def _clear(self) -> None:
        self.sentences = self.words = self.blank = self.marked = self.unknown = 0

    def __iter__(self) -> Iterator[list[str]]:
        """Raises UserError, naming file and line, for text that is not UTF-8 or has `<s>` or `</s>` inside a line."""
        self._clear()
        for number, line in iterate_lines(self.path):
            words = self._words(line, number)
            if not words:
                self.blank += 1
                continue
            self.sentences += 1
            self.words += len(words)
            yield words

    def _words(self, text: str, number: int) -> list[str]:
        words = text.split()
        before = len(words)
        words = words[words[:1] == [BEGIN] :]
        words = words[: len(words) - (words[-1:] == [END])]
        self.marked += len(words) < before
        inside = [mark for mark in (BEGIN, END) if mark in words]
        if inside:
            raise UserError(
                f"{self.path}, line {number}: {inside[0]} is inside the line, but it marks where a sentence begins or ends: "
                "write one sentence per line."
            )
        if self.normalizer != "none":
            words = normalize(" ".join(words), self.normalizer)[0].split()
        self.unknown += words.count(UNKNOWN)
        return words

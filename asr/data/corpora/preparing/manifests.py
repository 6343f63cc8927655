"""JSON manifests: the objects in a file, and which toolkit wrote them, for users who give one kind for another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr.errors import UserError
from asr.runtime.text_files import read_lines

# every object of lhotse has one of these fields
LHOTSE = {"type", "sources", "recording_id"}


def objects_in(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of every object in a file, plain or compressed: one per line, or a single object or list.

    Raises UserError, naming the line, for anything else.
    """
    if file.is_dir():
        raise UserError(f"{file} is a folder: give a JSON manifest." + kaldi_hint(file))
    if not file.is_file():
        raise UserError(f"There is no file {file}: give a JSON manifest.")
    # not composed: a manifest names files
    text = "\n".join(read_lines(file, compose=False))
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    try:
        whole = json.loads(text) if len(lines) != 1 else None
    except (ValueError, RecursionError):
        whole = None
    if whole is not None:
        found = whole if isinstance(whole, list) else [whole]
        parsed = [(1, each) for each in found]
    else:
        parsed = [pair for number, line in lines for pair in parsed_line(file, number, line)]
    for number, each in parsed:
        if not isinstance(each, dict):
            raise UserError(f"{file}:{number}: expected a JSON object (one utterance).")
        yield number, each


def whats_in(file: Path) -> str | None:
    """A clause about a manifest that is not lhotse's; None for any other file."""
    try:
        _, first = next(objects_in(file))
    except (UserError, StopIteration):
        return None
    return None if LHOTSE & first.keys() else f"it begins with {what_it_is(first)}"


def json_in(file: Path, number: int, line: str) -> Any:
    """The content of one line. Raises UserError, naming the line, if it is not complete JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}:{number}: this line is not complete JSON ({error}): make the file again.") from None


def parsed_line(file: Path, number: int, line: str) -> list[tuple[int, Any]]:
    data = json_in(file, number, line)
    return [(number, each) for each in data] if isinstance(data, list) else [(number, data)]


def what_it_is(data: dict[str, Any]) -> str:
    """A clause that says what an object of a manifest is, and what reads it."""
    if data.get("type") in ("MonoCut", "MultiCut", "MixedCut"):
        return f"a {data['type']} of lhotse: corpus=cuts reads those"
    if "audio_filepath" in data:
        return "a line of a NeMo manifest: corpus=nemo corpus.path=FILE reads those"
    if "utts" in data:
        return "ESPnet's data.json: corpus=nemo corpus.path=FILE reads it if it names audio"
    kind = "a recording" if "sources" in data else "a supervision" if "recording_id" in data else None
    if kind:
        return f"{kind} of lhotse: `lhotse cut simple -r RECORDINGS -s SUPERVISIONS CUTS.jsonl.gz` makes cuts, for corpus=cuts"
    return "an object with " + (", ".join(list(data)[:5]) or "no fields")


def kaldi_hint(folder: Path) -> str:
    """A hint for users who gave a folder as a file, if it is one of Kaldi's."""
    return " It looks like a data folder of Kaldi: corpus=kaldi reads it." if (folder / "wav.scp").is_file() else ""

"""What a user asks of `transcribe.py`, and what can be found wrong with it before anything is loaded."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import UserError
from asr.inference.transcription.formats import SINGLE, SUFFIXES
from asr.inference.transcription.inputs import Source, file_names, printable, recording_names
from asr.model.attention import attentions

if TYPE_CHECKING:
    from asr.model.network import Model


@dataclasses.dataclass
class Request:
    """What to transcribe, and how.

    files: audio files, folders, globs, and `-` for standard input. attention: settings of another attention than the
    checkpoint's own; knobs: settings to change in it. decoder_typed: settings of the decoder that the user gave; the others are
    those found by `scripts/tune_decoder.py`, if any. format: a key of `asr.inference.transcription.formats.FORMATS`. output: a
    folder for one file per recording; None: standard output. channel: which one of a recording with several, from 1; None: their
    mean. longest_seconds: longer files are named and left out; None: any length.
    whole_seconds: recordings up to this length are recognized at once, as utterances are; longer ones in windows of at most
    `window_seconds`, from pause to pause. pause_seconds: the shortest pause that counts; None: none does. Where there is no
    pause, windows overlap by `overlap_seconds`. skip_seconds: of longer pauses only the ends are recognized; None: all is.
    one_pass: recordings of any length at once, as far as memory allows, which needs an attention of linear complexity.
    segment_seconds: the longest stretch that is decoded at once; they end at pauses. batch_seconds: of padded audio in a batch.
    """

    files: Sequence[str]
    checkpoint: str
    attention: dict[str, Any] | None = None
    knobs: dict[str, int] = dataclasses.field(default_factory=dict)
    decoder: dict[str, Any] = dataclasses.field(default_factory=lambda: {"name": "greedy"})
    decoder_typed: Sequence[str] = ()
    device: str = "auto"
    format: str = "text"
    output: str | None = None
    channel: int | None = None
    longest_seconds: float | None = None
    whole_seconds: float = 25.0
    window_seconds: float = 10.0
    overlap_seconds: float = 4.0
    pause_seconds: float | None = 0.12
    skip_seconds: float | None = 2.0
    one_pass: bool = False
    segment_seconds: float = 30.0
    batch_seconds: float = 120.0


def output_names(request: Request, sources: Sequence[Source]) -> tuple[dict[Source, str], dict[Source, str]]:
    """(the path of each source's file below the folder, what a CTM calls each source); empty where none is needed.

    Raises UserError where two sources would be called the same, and where standard output would have to hold several that only
    hold one.
    """
    if request.output is not None:
        names = file_names(sources, SUFFIXES[request.format])
        stems = Counter(Path(name).stem for name in names.values())
        return names, {
            # in the CTM of all, which is these one after the other, two have different names
            source: printable(Path(name).stem if stems[Path(name).stem] == 1 else name.removesuffix(Path(name).suffix))
            for source, name in names.items()
        }
    if request.format in SINGLE and len(sources) > 1:
        raise UserError(f"format={request.format} holds one recording: write those of several with output=FOLDER.")
    return {}, recording_names(sources) if request.format == "ctm" else {}


def check_windows(request: Request, length: int, overlap: int) -> None:
    if overlap < 0 or 2 * overlap > length:
        raise UserError(
            f"overlap_seconds={request.overlap_seconds:g} must be between 0 and half of "
            f"window_seconds={request.window_seconds:g}: a window overlaps with those on both sides."
        )


def refuse_quadratic(model: Model) -> None:
    name = model.description["attention"]["name"]
    if attentions.get(name).complexity != "linear":
        linear = [other for other in attentions.names() if attentions.get(other).complexity == "linear"]
        raise UserError(
            f"one_pass=true needs an attention whose time is linear, and attention={name} is not: choose one of "
            f"{', '.join(linear)}, or set window_seconds higher."
        )


def check_folder(output: str | None, names: Iterable[str]) -> None:
    """Raises UserError if there is something else than a folder where the folder, or one below it that holds one of the files
    `names`, is to be; makes nothing."""
    if output is None:
        return
    folder = Path(output)
    for needed in dict.fromkeys([folder, *((folder / name).parent for name in names)]):
        try:
            there = next((path for path in (needed, *needed.parents) if os.path.lexists(path)), None)
            problem = None if there is None or there.is_dir() else f"{there} is not a folder"
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or str(error)
        if problem:
            raise UserError(f"output={folder}: the folder cannot be made: {problem}.")


def made_folder(output: str | None) -> Path | None:
    if output is None:
        return None
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output={folder}: the folder cannot be made: {error.strerror}.") from None
    return folder

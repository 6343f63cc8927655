"""The settings of `transcribe.py`, and checks of them before anything is loaded."""

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

    files: audio files, folders, globs, and `-` for standard input. attention: settings of an attention to use instead of the
    checkpoint's own. knobs: settings to change in it. decoder_typed: decoder settings given by the user; the others default to
    what `scripts/tune_decoder.py` found, if anything. format: a key of `asr.inference.transcription.formats.FORMATS`. output: a
    folder for one file per recording; None for standard output. channel: which channel to use, from 1; None for their mean.
    longest_seconds: longer files are refused; None accepts any length.
    whole_seconds: recordings up to this length are recognized at once, like utterances; longer ones in windows of at most
    `window_seconds`, cut at pauses. pause_seconds: the shortest pause to cut in; None cuts in none. Without a pause, windows
    overlap by `overlap_seconds`. skip_seconds: only the ends of longer pauses are recognized; None recognizes all.
    one_pass: recognizes recordings of any length at once, as far as memory allows; needs an attention of linear complexity.
    segment_seconds: the longest segment to decode at once; segments end at pauses. batch_seconds: padded audio per batch.
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
    """(each source's file below the output folder, each source's name in a CTM); empty if not needed.

    Raises UserError if two sources would get the same name, and if standard output would have to hold several recordings in a
    format for one.
    """
    if request.output is not None:
        names = file_names(sources, SUFFIXES[request.format])
        stems = Counter(Path(name).stem for name in names.values())
        return names, {
            # names stay distinct when the CTM files are concatenated
            source: printable(Path(name).stem if stems[Path(name).stem] == 1 else name.removesuffix(Path(name).suffix))
            for source, name in names.items()
        }
    if request.format in SINGLE and len(sources) > 1:
        raise UserError(
            f"format={request.format} holds one recording, and {len(sources)} are named: add output=FOLDER."
        )
    return {}, recording_names(sources) if request.format == "ctm" else {}


def check_windows(request: Request, length: int, overlap: int) -> None:
    if overlap < 0 or 2 * overlap > length:
        raise UserError(
            f"overlap_seconds={request.overlap_seconds:g} does not fit window_seconds={request.window_seconds:g}: windows "
            "overlap on both sides, so it must be between 0 and half a window."
        )


def refuse_quadratic(model: Model) -> None:
    name = model.description["attention"]["name"]
    if attentions.get(name).complexity != "linear":
        linear = [other for other in attentions.names() if attentions.get(other).complexity == "linear"]
        raise UserError(
            f"one_pass=true needs an attention of linear time, and attention={name} is quadratic: choose one of "
            f"{', '.join(linear)}, or set window_seconds higher."
        )


def check_folder(output: str | None, names: Iterable[str]) -> None:
    """Raises UserError if the output folder, or a folder in it for one of the files `names`, cannot be created because something
    else is in its place. Creates nothing."""
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
            raise UserError(f"output={folder}: the folder cannot be made: {problem}. Name another one.")


def made_folder(output: str | None) -> Path | None:
    if output is None:
        return None
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output={folder}: the folder cannot be made: {error.strerror}. Name another one.") from None
    return folder

"""Files in, transcripts out: everything that `transcribe.py` does."""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

from asr.alignment.timing import Timing
from asr.attention import attentions
from asr.checkpoint import open_checkpoint
from asr.decoders import decoders
from asr.errors import UserError
from asr.evaluation import choose_attention, choose_device
from asr.model import Model
from asr.transcription import Transcript
from asr.transcription.audio import promised_seconds, stream_audio
from asr.transcription.formats import CONFIDENT, FORMATS, SINGLE, SUFFIXES, line
from asr.transcription.inputs import (
    STANDARD_INPUT,
    Source,
    file_names,
    find_sources,
    named,
    opened,
    printable,
    recording_names,
)
from asr.transcription.one_pass import most_samples
from asr.transcription.recording import Reader, Recording
from asr.transcription.show import Bar, complain, say
from asr.transcription.windows import Grid, Held, Pausing, Window, windows
from asr.tuning import with_tuned
from asr.units import write_whole


@dataclasses.dataclass
class Request:
    """What to transcribe, and how.

    files: audio files, folders, globs, and `-` for standard input. attention: settings of another attention than the
    checkpoint's own; knobs: settings to change in it. decoder_typed: settings of the decoder that the user gave; the others are
    those found by `scripts/tune_decoder.py`, if any. format: a key of `asr.transcription.formats.FORMATS`. output: a folder for
    one file a recording; None: standard output. channel: of recordings with several, from 1, as a CTM says; None: their mean.
    longest_seconds: longer files are named and left out; None: any length.
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


def transcribe_files(request: Request) -> int:
    """Transcribes every file and returns how many could not be used; those are named on standard error, the others go on.

    Raises UserError if there are no files, if the checkpoint cannot be opened or served, if the settings do not go together, or
    if nothing can be written.
    """
    if not request.files:
        raise UserError("Name at least one audio file: python transcribe.py checkpoint=RUN some.wav")
    if request.format not in FORMATS:
        raise UserError(f"format is {', '.join(FORMATS)}, not {request.format!r}.")
    checkpoint = open_checkpoint(request.checkpoint)
    other = choose_attention(checkpoint.model, request.attention, request.knobs)
    place = choose_device(request.device)
    model = (checkpoint.model if other is None else checkpoint.model.with_attention(other)).to(place).eval()
    grid = Grid.of(model)
    length, overlap = (
        grid.emissions(request.window_seconds),
        round(request.overlap_seconds / model.seconds_per_emission),
    )
    check_windows(request, length, overlap)
    whole = most_samples(model, place) if request.one_pass else round(request.whole_seconds * grid.sample_rate)
    if request.one_pass:
        refuse_quadratic(model)
    settings = with_tuned(checkpoint, request.decoder, request.decoder_typed)
    decoder = decoders.create(settings).bind(checkpoint.units)
    if request.format in CONFIDENT:
        decoder = decoder.with_confidences()
    reader = Reader(checkpoint.units, decoder, Timing.of(model), overlap, grid.emissions(request.segment_seconds))
    sources, problems = find_sources(request.files)
    if request.output is None and request.format in SINGLE and len(sources) > 1:
        raise UserError(f"format={request.format} holds one recording: write those of several with output=FOLDER.")
    names, called = {}, {}
    if request.output is not None:
        names = file_names(sources, SUFFIXES[request.format])
        called = {source: printable(Path(name).stem) for source, name in names.items()}
    elif request.format == "ctm":
        called = recording_names(sources)
    folder = made_folder(request.output)
    for problem in problems:
        complain(problem)
    failed, done, started, audio, skipped = len(problems), 0, time.perf_counter(), 0.0, 0.0
    with Bar(sum_of_seconds(sources)) as bar, torch.inference_mode():
        pieces = pieces_of(sources, model, request, grid, length, overlap, whole)
        for result in transcripts(pieces, sources, model, reader, grid, request.batch_seconds, bar):
            if isinstance(result, str):
                with bar.hidden():
                    complain(result)
                failed += 1
                continue
            source, transcript = result
            transcript = dataclasses.replace(
                transcript, name=source.shown, recording=called.get(source), channel=str(request.channel or 1)
            )
            done, audio, skipped = done + 1, audio + transcript.seconds, skipped + transcript.skipped_seconds
            if folder is None:
                with bar.hidden():
                    if spoken := line(transcript, request.format):
                        say(spoken)
            else:
                written(folder / names[source], FORMATS[request.format](transcript))
    bar.summary(done, audio, skipped, time.perf_counter() - started, folder)
    return failed


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


def made_folder(output: str | None) -> Path | None:
    if output is None:
        return None
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output={folder}: the folder cannot be made: {error.strerror}.") from None
    return folder


def written(path: Path, content: str) -> None:
    try:
        write_whole(path, content.encode("utf8"))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from None


def sum_of_seconds(sources: Sequence[Source]) -> float | None:
    """For the progress bar; None where a file does not tell its length by its header."""
    if not sys.stderr.isatty() or any(source.name == STANDARD_INPUT for source in sources):
        return None
    lengths = [promised_seconds(source.name) for source in sources]
    return None if None in lengths else sum(lengths)


Piece = tuple[int, Window | str]


def pieces_of(
    sources: Sequence[Source],
    model: Model,
    request: Request,
    grid: Grid,
    length: int,
    overlap: int,
    whole: int,
) -> Iterator[Piece]:
    """(number of the source, its next window), file after file; a sentence instead of a window for one that cannot be used.

    whole: samples of the longest recording that is to be one window, even if it is longer than `length` emissions.
    """
    pausing = None
    if request.pause_seconds is not None:
        skipped = math.inf if request.skip_seconds is None else request.skip_seconds
        pausing = Pausing(request.pause_seconds, skipped)
    for number, source in enumerate(sources):
        try:
            with opened(source) as path:
                try:
                    blocks = stream_audio(
                        path,
                        grid.sample_rate,
                        request.longest_seconds,
                        request.channel,
                        mixed=told_of(source),
                        cancelled=told_of_cancelling(source),
                    )
                    for window in windows_of(
                        blocks,
                        grid,
                        length,
                        overlap,
                        whole,
                        source if request.one_pass else None,
                        pausing,
                    ):
                        yield number, window
                except UserError as error:
                    sentence = named(error, source, path)
                    yield number, f"{source.name}: {sentence}" if sentence.startswith("it is ") else sentence
        except UserError as error:
            yield number, str(error)


def told_of(source: Source) -> Callable[[int], None]:
    """Says that a recording's channels are mixed."""
    return lambda channels: complain(
        f"{source.name} has {channels} channels, whose mean is heard; channel=1 takes one."
    )


def told_of_cancelling(source: Source) -> Callable[[float, int], None]:
    """Says that a recording's channels cancel each other in their mean."""
    return lambda decibels, channel: complain(
        f"{source.name}: the mean of its channels is "
        + ("silent" if math.isinf(decibels) else f"{decibels:.0f} dB quieter than channel {channel}")
        + f", so that little may be heard: they cancel each other, as channels of opposite phase do. channel={channel} takes one."
    )


def windows_of(
    blocks: Iterator[numpy.ndarray],
    grid: Grid,
    length: int,
    overlap: int,
    whole: int,
    asked: Source | None,
    pausing: Pausing | None = None,
) -> Iterable[Window]:
    """The windows of a recording; `asked`: the source that the user wanted in one window, for the sentence if it is too long."""
    held = Held()
    for block in blocks:
        held.add(block)
        if held.size > whole:
            if asked is not None:
                complain(
                    f"{asked.name} is too long for one pass in the memory that is free: more than "
                    f"{whole / grid.sample_rate:.0f} s. It is recognized in windows."
                )
            return windows(itertools.chain(drained(held), blocks), grid, length, overlap, pausing)
    return windows(drained(held), grid, held.size + 1, 0)


def drained(held: Held) -> Iterator[numpy.ndarray]:
    """The blocks that are held, each let go once it has been passed on."""
    held.blocks.reverse()
    while held.blocks:
        yield held.blocks.pop()


def transcripts(
    pieces: Iterable[Piece],
    sources: Sequence[Source],
    model: Model,
    reader: Reader,
    grid: Grid,
    batch_seconds: float,
    bar: Bar,
) -> Iterator[tuple[Source, Transcript] | str]:
    """(source, transcript) or the sentence about it, for every source in turn; windows of several files share a batch."""
    recordings: dict[int, Recording] = {}
    for batch in batches(pieces, round(batch_seconds * grid.sample_rate)):
        emissions = iter(recognized([piece for _, piece in batch if isinstance(piece, Window)], model))
        for number, piece in batch:
            if isinstance(piece, str):
                recordings.pop(number, None)
                yield piece
                continue
            recording = recordings.setdefault(number, Recording(sources[number].name, reader))
            recording.add(next(emissions), piece)
            bar.advance((piece.first * grid.stride + len(piece.samples)) / grid.sample_rate, number)
            if piece.last:
                yield sources[number], recordings.pop(number).transcript(piece.total / grid.sample_rate)


def batches(pieces: Iterable[Piece], most_samples: int) -> Iterator[list[Piece]]:
    """Pieces in order, as many at once as do not pad to more than so many samples; a longer one is alone."""
    batch: list[Piece] = []
    longest = rows = 0
    for piece in pieces:
        size = len(piece[1].samples) if isinstance(piece[1], Window) else 0
        if size and rows and max(longest, size) * (rows + 1) > most_samples:
            yield batch
            batch, longest, rows = [], 0, 0
        batch.append(piece)
        longest, rows = max(longest, size), rows + bool(size)
    if batch:
        yield batch


def recognized(batch: Sequence[Window], model: Model) -> list[torch.Tensor]:
    """(time, units) log-probabilities of every window."""
    if not batch:
        return []
    place = next(model.parameters()).device
    samples = torch.tensor([len(window.samples) for window in batch])
    if len(batch) == 1:
        waveforms = torch.from_numpy(batch[0].samples)[None]
    else:
        waveforms = torch.zeros(len(batch), int(samples.max()))
        for row, window in enumerate(batch):
            waveforms[row, : len(window.samples)] = torch.from_numpy(window.samples)
    emissions, lengths = model(waveforms.to(place), samples.to(place))
    return [emissions[row, :length] for row, length in enumerate(lengths.tolist())]

"""Files in, transcripts out: everything that `transcribe.py` does."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy
import torch

from asr.audio.streaming import promised_seconds, stream_audio
from asr.errors import UserError
from asr.evaluation.evaluate import choose_attention, choose_device
from asr.evaluation.tuning import with_tuned
from asr.inference.alignment.timing import Timing
from asr.inference.decoders import decoders
from asr.inference.transcription import Transcript
from asr.inference.transcription.formats import CONFIDENT, FORMATS, line
from asr.inference.transcription.inputs import STANDARD_INPUT, Source, find_sources, named, opened
from asr.inference.transcription.one_pass import most_samples
from asr.inference.transcription.recording import Reader, Recording
from asr.inference.transcription.remarks import Remarks
from asr.inference.transcription.request import (
    Request,
    check_folder,
    check_windows,
    made_folder,
    output_names,
    refuse_quadratic,
)
from asr.inference.transcription.show import Bar, complain, say
from asr.inference.transcription.windows import Grid, Held, Pausing, Window, windows
from asr.model.checkpoint import open_checkpoint
from asr.model.network import Model
from asr.text.units import write_whole


def transcribe_files(request: Request) -> int:
    """Transcribes every file and returns how many could not be used; those are named on standard error, the others go on.

    Raises UserError if there are no files, if the checkpoint cannot be opened or served, if the settings do not go together, or
    if nothing can be written.
    """
    if not request.files:
        raise UserError("Name at least one audio file: python transcribe.py checkpoint=RUN some.wav")
    if request.format not in FORMATS:
        raise UserError(f"format is {', '.join(FORMATS)}, not {request.format!r}.")
    sources, problems = find_sources(request.files)
    names, called = output_names(request, sources)
    check_folder(request.output, names.values())
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
    if request.one_pass:
        refuse_quadratic(model)
    whole = most_samples(model, place) if request.one_pass else round(request.whole_seconds * grid.sample_rate)
    decoder = decoders.create(with_tuned(checkpoint, request.decoder, request.decoder_typed))
    for problem in problems:
        complain(problem)
    if not sources:
        return len(problems)
    # graphs take seconds to load: whatever can be wrong with the request has been found before
    decoder = decoder.bind(checkpoint.units)
    if request.format in CONFIDENT:
        decoder = decoder.with_confidences()
    reader = Reader(checkpoint.units, decoder, Timing.of(model), overlap, grid.emissions(request.segment_seconds))
    folder = made_folder(request.output)
    failed, done, started, audio, skipped = len(problems), 0, time.perf_counter(), 0.0, 0.0
    with Bar(sum_of_seconds(sources)) as bar, torch.inference_mode():
        remarks = Remarks(grid.sample_rate, bar)
        pieces = pieces_of(sources, request, grid, length, overlap, whole, remarks)
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
            if not transcript.items:
                remarks.unheard(source)
            if folder is None:
                with bar.hidden():
                    if spoken := line(transcript, request.format):
                        say(spoken)
            else:
                written(folder / names[source], FORMATS[request.format](transcript))
        remarks.count()
    bar.summary(done, failed, audio, skipped, time.perf_counter() - started, folder)
    return failed


def written(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
    request: Request,
    grid: Grid,
    length: int,
    overlap: int,
    whole: int,
    remarks: Remarks,
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
                        mixed=functools.partial(remarks.mixed, source),
                        cancelled=functools.partial(remarks.cancelled, source),
                        narrow=functools.partial(remarks.narrow, source),
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
                    if sentence.startswith("it is "):  # from `windows`, which know no names
                        sentence = f"{source.in_sentences} {sentence.removeprefix('it ')}"
                    yield number, sentence
        except UserError as error:
            yield number, str(error)


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

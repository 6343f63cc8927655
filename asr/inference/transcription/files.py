"""Files in, transcripts out: everything that `transcribe.py` does."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from asr.audio.streaming import promised_seconds
from asr.errors import UserError
from asr.inference.alignment.timing import Timing
from asr.inference.decoders import decoders
from asr.inference.transcription import Transcript
from asr.inference.transcription.formats import CONFIDENT, FORMATS, line
from asr.inference.transcription.inputs import STANDARD_INPUT, Source, find_sources
from asr.inference.transcription.pieces import Cutting, Piece, batches, pieces_of
from asr.inference.transcription.recording import Reader, Recording
from asr.inference.transcription.remarks import Remarks
from asr.inference.transcription.request import Request, check_folder, made_folder, output_names
from asr.inference.transcription.show import Bar, complain, say
from asr.inference.transcription.windows import Grid, Window
from asr.inference.tuned import with_tuned
from asr.model.checkpoint import choose_attention, open_checkpoint
from asr.model.network import Model
from asr.runtime.devices import choose_device
from asr.runtime.files import write_whole


@dataclasses.dataclass
class Tally:
    """What became of the files. audio: seconds of the transcribed ones; skipped: seconds of them in long pauses."""

    failed: int = 0
    done: int = 0
    audio: float = 0.0
    skipped: float = 0.0

    def add(self, transcript: Transcript) -> None:
        self.done += 1
        self.audio += transcript.seconds
        self.skipped += transcript.skipped_seconds


def transcribe_files(request: Request) -> int:
    """Transcribes every file; returns how many failed, each of which a line on standard error names.

    Raises UserError if there are no files, if the checkpoint cannot be opened or served, if the settings contradict each other,
    or if nothing can be written.
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
    device = choose_device(request.device)
    model = (checkpoint.model if other is None else checkpoint.model.with_attention(other)).to(device).eval()
    cutting = Cutting.of(request, model, device)
    decoder = decoders.create(with_tuned(checkpoint, request.decoder, request.decoder_typed))
    for problem in problems:
        complain(problem)
    if not sources:
        return len(problems)
    # graphs take seconds to load, so mistakes in the request come first
    decoder = decoder.bind(checkpoint.units)
    if request.format in CONFIDENT:
        decoder = decoder.with_confidences()
    longest = cutting.grid.emissions(request.segment_seconds)
    reader = Reader(checkpoint.units, decoder, Timing.of(model), cutting.overlap, longest)
    folder, tally, started = made_folder(request.output), Tally(len(problems)), time.perf_counter()
    with Bar(sum_of_seconds(sources)) as bar, torch.inference_mode():
        remarks = Remarks(cutting.grid.sample_rate, bar)
        pieces = pieces_of(sources, request, cutting, remarks)
        for result in transcripts(pieces, sources, model, reader, cutting.grid, request.batch_seconds, bar):
            if isinstance(result, str):
                with bar.hidden():
                    complain(result)
                tally.failed += 1
                continue
            source, transcript = result
            tally.add(transcript)
            if not transcript.items:
                remarks.unheard(source)
            transcript = dataclasses.replace(
                transcript, name=source.shown, recording=called.get(source), channel=str(request.channel or 1)
            )
            put(transcript, request.format, None if folder is None else folder / names[source], bar)
        remarks.count()
    bar.summary(tally.done, tally.failed, tally.audio, tally.skipped, time.perf_counter() - started, folder)
    return tally.failed


def put(transcript: Transcript, form: str, path: Path | None, bar: Bar) -> None:
    """Writes a transcript into a file, or as a line on standard output if `path` is None."""
    if path is not None:
        written(path, FORMATS[form](transcript))
        return
    with bar.hidden():
        if spoken := line(transcript, form):
            say(spoken)


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

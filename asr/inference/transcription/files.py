"""Files in, transcripts out: everything that `transcribe.py` does."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from asr.audio.streaming import promised_seconds
from asr.errors import UserError
from asr.inference.transcription import Transcript
from asr.inference.transcription.formats import FORMATS, line
from asr.inference.transcription.inputs import STANDARD_INPUT, Source, find_sources
from asr.inference.transcription.remarks import Remarks
from asr.inference.transcription.request import Request, check_folder, made_folder, output_names
from asr.inference.transcription.show import Bar, complain, say
from asr.inference.transcription.transcriber import Transcriber
from asr.runtime.files import write_whole


@dataclasses.dataclass
class Tally:
    """Counts of files. audio: seconds transcribed. skipped: seconds of these in long pauses."""

    failed: int = 0
    done: int = 0
    audio: float = 0.0
    skipped: float = 0.0

    def add(self, transcript: Transcript) -> None:
        self.done += 1
        self.audio += transcript.seconds
        self.skipped += transcript.skipped_seconds


def transcribe_files(request: Request) -> int:
    """Transcribes every file; returns how many failed, each named by a line on standard error.

    Raises UserError if there are no files, if the checkpoint cannot be opened, if the settings do not fit it or contradict each
    other, or if nothing can be written.
    """
    if not request.files:
        raise UserError("No audio file is named. Add at least one: python transcribe.py checkpoint=RUN some.wav")
    if request.format not in FORMATS:
        raise UserError(f"format is {', '.join(FORMATS)}, not {request.format!r}.")
    sources, problems = find_sources(request.files)
    names, called = output_names(request, sources)
    check_folder(request.output, names.values())
    transcriber = Transcriber.of(request)
    for problem in problems:
        complain(problem)
    if not sources:
        return len(problems)
    _ = transcriber.reader  # takes seconds to load, so mistakes in the request are reported first
    folder, tally, started = made_folder(request.output), Tally(len(problems)), time.perf_counter()
    with Bar(sum_of_seconds(sources)) as bar:
        remarks = Remarks(transcriber.cutting.grid.sample_rate, bar.complain)
        for result in transcriber.transcripts(sources, remarks, bar.advance):
            if isinstance(result, str):
                bar.complain(result)
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
    """Writes a transcript to a file, or prints it as a line if `path` is None."""
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
        raise UserError(f"{path} cannot be written: {error.strerror}. Choose another output=FOLDER.") from None


def sum_of_seconds(sources: Sequence[Source]) -> float | None:
    """Total length for the progress bar; None without a terminal, or if a header does not give a length."""
    if not sys.stderr.isatty() or any(source.name == STANDARD_INPUT for source in sources):
        return None
    lengths = [promised_seconds(source.name) for source in sources]
    known = [seconds for seconds in lengths if seconds is not None]
    return sum(known) if len(known) == len(lengths) else None

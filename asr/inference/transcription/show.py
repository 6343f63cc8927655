"""Output of `transcribe.py`: transcripts on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from asr.errors import UserError
from asr.inference.transcription.inputs import printable
from asr.runtime.called import as_called


def say(text: str) -> None:
    """Prints a transcript and flushes. Raises UserError if standard output cannot be written, such as on a full disk, and
    BrokenPipeError if its reader is gone."""
    try:
        print(text, flush=True)
    except OSError as error:
        # Python would fail again on exit, flushing what is left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise UserError(
            f"The transcripts cannot be printed: {error.strerror}. Write them with output=FOLDER."
        ) from None


def complain(sentence: str) -> None:
    print(as_called(f"transcribe.py: {printable(sentence)}"), file=sys.stderr, flush=True)


class Bar:
    """A progress bar on standard error, if that is a terminal. seconds: of audio in all files; None if unknown."""

    def __init__(self, seconds: float | None):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.completed:.0f} s of audio"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.task = self.bar.add_task("", total=seconds)
        self.reached: dict[int, float] = {}

    def __enter__(self) -> Bar:
        self.bar.start()
        return self

    def __exit__(self, *_) -> None:
        self.bar.stop()

    def advance(self, seconds: float, number: int) -> None:
        """seconds: done so far of the recording with this number."""
        self.reached[number] = seconds
        self.bar.update(self.task, completed=sum(self.reached.values()))

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Hides the bar while something else is printed."""
        self.bar.stop()
        try:
            yield
        finally:
            self.bar.start()

    def complain(self, sentence: str) -> None:
        """Prints a sentence on standard error, above the bar."""
        with self.hidden():
            complain(sentence)

    def summary(
        self, files: int, failed: int, audio: float, skipped: float, seconds: float, folder: Path | None
    ) -> None:
        """Prints counts and speed; the real-time factor is processing time over audio time.

        failed: files that could not be used, each named already. audio: seconds transcribed. skipped: seconds of these in long
        pauses, not recognized. seconds: processing time. folder: of the transcripts, if they were written."""
        failures = f"{failed} {'file' if failed == 1 else 'files'} failed, named above"
        if not files:
            if failed:
                print(f"{failures}.", file=sys.stderr, flush=True)
            return
        what = f"{files} {'recording' if files == 1 else 'recordings'}, {audio:.1f} s of audio in {seconds:.1f} s"
        if skipped:
            what += f" ({skipped:.1f} s in long pauses not recognized)"
        parts = [f"{what}: real-time factor {seconds / max(audio, 1e-9):.4f}"]
        if folder is not None:
            parts.append(f"in {folder}")
        if failed:
            parts.append(failures)
        print("; ".join(parts), file=sys.stderr, flush=True)

"""What a user sees while a recognizer trains: a bar on a terminal, and one line for every validation anywhere."""

from __future__ import annotations

import time

from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


class ShowProgress(Callback):
    """Shows loss, error rate on dev, audio seconds per second and time left.

    metric: `per` or `wer`. The bar goes to standard error and only to a terminal; the lines go to standard output.
    """

    def __init__(self, metric: str):
        self.metric = metric.upper()
        self.lines, self.console = (
            Console(soft_wrap=True, highlight=False, markup=False, emoji=False),
            Console(stderr=True),
        )
        self.bar: Progress | None = None
        self.loss, self.best, self.last = None, None, None

    def on_train_start(self, trainer, recognizer) -> None:
        self.started = time.monotonic()
        self.paused, self.pause_started = 0.0, None
        if self.console.is_terminal and trainer.is_global_zero:
            # narrow enough for a terminal of 80 columns
            self.bar = Progress(
                TextColumn("{task.fields[epoch]}"), BarColumn(bar_width=14), TextColumn("{task.fields[status]}"),
                console=self.console,
            )  # fmt: skip
            self.task = self.bar.add_task("train", total=1.0, epoch="", status="")
            self.bar.start()

    def on_train_batch_end(self, trainer, recognizer, outputs, batch, index) -> None:
        loss = float(outputs["loss"])
        self.loss = loss if self.loss is None else 0.98 * self.loss + 0.02 * loss
        if self.bar is not None:
            self.bar.update(
                self.task, completed=recognizer.progress(), status=self.status(recognizer, ""), epoch=self.epoch(trainer)
            )

    def on_validation_start(self, trainer, recognizer) -> None:
        self.pause_started = time.monotonic()

    def on_validation_end(self, trainer, recognizer) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero or self.loss is None:
            return
        self.paused += time.monotonic() - self.pause_started
        self.last = float(trainer.callback_metrics["dev/error_rate"])
        self.best = self.last if self.best is None else min(self.best, self.last)
        best = f" (best {self.best:.2%})"
        line = f"{self.epoch(trainer)}  step {trainer.global_step:5d}  {self.status(recognizer, best)}"
        if self.bar is not None:
            self.bar.console.print(line, highlight=False, soft_wrap=True)
        else:
            self.lines.print(line)

    def on_train_end(self, trainer, recognizer) -> None:
        self.stop()

    def on_exception(self, trainer, recognizer, exception) -> None:
        self.stop()

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    @staticmethod
    def epoch(trainer) -> str:
        return f"epoch {min(trainer.current_epoch + 1, trainer.max_epochs)}/{trainer.max_epochs}"

    def status(self, recognizer, best: str) -> str:
        """`loss 0.412  dev PER 9.84% (best 9.80%)  231 audio s/s  3:12 left`."""
        elapsed = time.monotonic() - self.started
        share = recognizer.progress()
        parts = [f"loss {self.loss:.3f}"]
        if self.last is not None:
            parts.append(f"dev {self.metric} {self.last:.2%}{best}")
        parts.append(f"{recognizer.audio_seconds / max(1e-9, elapsed - self.paused):.0f} audio s/s")
        if share > 0:
            left = elapsed * (1 - share) / share
            parts.append(f"{int(left // 60)}:{int(left % 60):02d} left")
        return "  ".join(parts)

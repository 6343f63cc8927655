"""What a user sees of a training: a progress bar on a terminal, and a line for every validation."""

from __future__ import annotations

import time

from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


class ShowProgress(Callback):
    """Shows loss, error rate on dev, seconds of audio per second, share of the time spent waiting for data, and time left.

    metric: the one that decides, `per`, `wer` or `cer`; lines show further rates as well. The bar goes to standard error, if
    that is a terminal; lines go to standard output.
    """

    def __init__(self, metric: str):
        self.metric = metric
        self.lines, self.console = (
            Console(soft_wrap=True, highlight=False, markup=False, emoji=False),
            Console(stderr=True),
        )
        self.bar: Progress | None = None
        self.loss: float | None = None
        self.parts: dict[str, float] = {}
        self.silent = False

    def on_train_start(self, trainer, recognizer) -> None:
        self.silent = not trainer.is_global_zero
        self.started, self.began_at = time.monotonic(), recognizer.progress()
        self.audio_before = recognizer.position.audio_seconds
        self.paused = self.pause_started = 0.0
        if self.console.is_terminal and not self.silent:
            # narrow enough for a terminal of 80 columns
            self.bar = Progress(
                TextColumn("{task.fields[epoch]}"), BarColumn(bar_width=14), TextColumn("{task.fields[status]}"),
                console=self.console,
            )  # fmt: skip
            self.task = self.bar.add_task("train", total=1.0, epoch="", status="")
            self.bar.start()

    def on_train_batch_end(self, trainer, recognizer, outputs, batch, index) -> None:
        if recognizer.stepped:
            self.loss = smoothed(self.loss, recognizer.last_loss)
            self.parts = {name: smoothed(self.parts.get(name), part) for name, part in recognizer.last_parts.items()}
        if self.bar is not None and self.loss is not None:
            self.bar.update(
                self.task,
                completed=recognizer.progress(),
                status=self.status(recognizer, ""),
                epoch=self.epoch(recognizer),
            )

    def on_validation_start(self, trainer, recognizer) -> None:
        self.pause_started = time.monotonic()

    def on_validation_end(self, trainer, recognizer) -> None:
        if trainer.state.fn != "fit" or self.silent:
            return
        self.paused += time.monotonic() - self.pause_started
        best, error_rate = recognizer.position.best, recognizer.dev_score.error_rate
        best = error_rate if best is None else min(best, error_rate)
        status = self.status(recognizer, f" (best {best:.2%})")
        self.say(f"{self.epoch(recognizer)}  step {recognizer.position.steps:5d}  {status}")

    def on_train_end(self, trainer, recognizer) -> None:
        self.stop()

    def on_exception(self, trainer, recognizer, exception) -> None:
        self.stop()

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def say(self, line: str) -> None:
        """Prints a line: above the bar, or to standard output if there is none."""
        if self.silent:
            return
        if self.bar is not None:
            self.bar.console.print(line, highlight=False, soft_wrap=True, markup=False)
        else:
            self.lines.print(line)

    @staticmethod
    def epoch(recognizer) -> str:
        return f"epoch {recognizer.epoch + 1}/{recognizer.plan.epochs}"

    def status(self, recognizer, best: str) -> str:
        """`loss 0.412  dev WER 9.84% (best 9.80%)  CER 3.21%  231 audio s/s  waiting 1%  3:12 left`.

        best: about the best validation, for a line; "" for the bar, which has no room for it, for further rates, or for the terms
        of a loss: `loss 0.412 (ctc 0.318, consistency 0.470)`.
        """
        elapsed = time.monotonic() - self.started
        share = recognizer.progress() - self.began_at
        terms = ", ".join(f"{name} {part:.3f}" for name, part in self.parts.items()) if best else ""
        parts = [f"loss {self.loss:.3f}" + (f" ({terms})" if terms else "")] if self.loss is not None else []
        if recognizer.dev_score is not None:
            parts.append(f"dev {self.metric.upper()} {recognizer.dev_score.error_rate:.2%}{best}")
            others = {name: rate for name, rate in recognizer.dev_score.rates.items() if best and name != self.metric}
            parts += [f"{name.upper()} {rate:.2%}" for name, rate in others.items()]
        audio = (recognizer.position.audio_seconds - self.audio_before) * recognizer.group.size
        parts.append(f"{audio / max(1e-9, elapsed - self.paused):.0f} audio s/s")
        parts.append(f"waiting {recognizer.clock.waiting():.0%}")
        if share > 0:
            left = elapsed * (1 - recognizer.progress()) / share
            parts.append(f"{int(left // 60)}:{int(left % 60):02d} left")
        return "  ".join(parts)


def smoothed(before: float | None, now: float) -> float:
    """An exponential average over steps that starts at the first finite value."""
    return now if before is None or before != before else 0.98 * before + 0.02 * now

"""Checkpoints, whole or absent: written under another name, flushed to the disk, then renamed; and when they are written."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from asr.errors import Stopped, UserError
from asr.runtime.files import replacing
from asr.training.lightning_loop import validate_after_this_batch
from asr.training.metrics import MetricsFile

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"


def write_checkpoint(path: Path, content: Any, previous: Path | None = None) -> None:
    """Writes a checkpoint; whatever happens, `path` holds either the old one or the new one, whole.

    previous: where to keep the old one. Raises UserError if the disk is full or not writable; nothing half-written is left then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, alone=True, durable=True) as temporary:
            with open(temporary, "wb") as file:
                torch.save(content, file)
            if previous is not None:
                keep_previous(path, previous)
    except (OSError, RuntimeError) as error:
        # PyTorch's writer then fails to close its archive, which hides the disk's own error
        first = error
        while first.__context__ is not None and not isinstance(first, OSError):
            first = first.__context__
        reason = getattr(first, "strerror", None) or str(error).strip().splitlines()[0]
        raise UserError(
            f"The checkpoint {path} cannot be written: {reason}. The one before it is whole: "
            f"make room, then resume={shlex.quote(str(path.parent.parent))}"
        ) from None


def keep_previous(path: Path, previous: Path) -> None:
    """Keeps the checkpoint now at `path` as `previous` too, in case the disk spoils the next one."""
    if path.exists():
        with contextlib.suppress(OSError), replacing(previous, alone=True) as temporary:
            os.link(path, temporary)


class WholeCheckpoints(TorchCheckpointIO):
    """Has Lightning write checkpoints whole, and read them as data that runs no code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path, storage_options: Any = None) -> None:
        path = Path(path)
        write_checkpoint(path, checkpoint, path.with_name(PREVIOUS) if path.name == LAST else None)

    def load_checkpoint(self, path, map_location=None, weights_only: bool | None = None) -> dict[str, Any]:
        from asr.model.checkpoint import read_tensors

        return read_tensors(Path(path))


class KeepCheckpoints(Callback):
    """Writes `last.ckpt` at intervals, before and after each validation and at a signal; `best.ckpt` at the best validation.

    steps, minutes: interval between writes of `last.ckpt`, None for no such interval. candidates: how many of the best
    validations keep their weights, to be averaged at the end. stop: the signals that end a training.
    """

    def __init__(self, run: Path, steps: int | None, minutes: float | None, candidates: int, stop):
        self.run, self.folder = run, run / "checkpoints"
        self.steps, self.minutes, self.candidates, self.stop = steps, minutes, candidates, stop
        self._saved_at = 0.0

    def on_train_start(self, trainer, recognizer) -> None:
        self._saved_at = recognizer.position.seconds

    def on_train_batch_end(self, trainer, recognizer, outputs, batch, index) -> None:
        position = recognizer.position
        validate_after_this_batch(trainer, recognizer.stepped and position.validation_due)
        if not recognizer.stepped:
            return
        by_steps = self.steps is not None and position.steps % self.steps == 0
        by_time = self.minutes is not None and position.seconds - self._saved_at >= 60 * self.minutes
        if position.batches >= recognizer.plan.total:
            # written after the validation that follows: Lightning cannot resume with no batch left to train on
            return
        if position.validation_due or by_steps or by_time or recognizer.stop_agreed:
            self._save_last(trainer, recognizer)
        if recognizer.stop_agreed:
            raise self.stopped(position.steps)

    def on_validation_batch_end(self, trainer, recognizer, outputs, batch, index, dataloader_idx=0) -> None:
        # with several processes, all must finish the validation
        if trainer.state.fn == "fit" and trainer.world_size == 1 and self.stop.received is not None:
            raise self.stopped(recognizer.position.steps)

    def on_validation_end(self, trainer, recognizer) -> None:
        if trainer.state.fn != "fit":
            return
        position, score = recognizer.position, recognizer.dev_score
        if score.is_better(position):
            position.best, position.best_step, position.best_beside = score.error_rate, position.steps, score.beside
            trainer.save_checkpoint(self.folder / BEST, weights_only=True)
        self._keep_candidate(trainer, position, score.error_rate)
        recognizer.end_validation()
        self._save_last(trainer, recognizer)
        if trainer.is_global_zero:
            kept = {self.candidate(step) for _, step in position.candidates}
            for file in set(self.folder.glob("candidate-*.ckpt")) - kept:
                file.unlink()
        if position.over:
            trainer.should_stop = True

    def _keep_candidate(self, trainer, position, error_rate: float) -> None:
        if self.candidates < 2:
            return
        position.candidates = sorted([*position.candidates, [error_rate, position.steps]])[: self.candidates]
        if [error_rate, position.steps] in position.candidates:
            trainer.save_checkpoint(self.candidate(position.steps), weights_only=True)

    def candidate(self, step: int) -> Path:
        return self.folder / f"candidate-{step}.ckpt"

    def _save_last(self, trainer, recognizer) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, MetricsFile):
                logger.to_disk()
        trainer.save_checkpoint(self.folder / LAST)
        self._saved_at = recognizer.position.seconds

    def stopped_early(self) -> Stopped:
        """For a signal that came before the first step."""
        return Stopped(
            f"stopped by {self.stop.name} before the first step: there is nothing to keep; start it again.",
            self.stop.exit_code,
        )

    def stopped(self, steps: int) -> Stopped:
        """For a signal that came later: the checkpoint is kept."""
        return Stopped(
            f"stopped by {self.stop.name} at step {steps}; go on with: python train.py resume={shlex.quote(str(self.run))}",
            self.stop.exit_code,
        )

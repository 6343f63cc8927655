"""Batches of waveforms and labels, read from disk by a data loader's own processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from asr.data.plan import plan_epoch, plan_in_order
from asr.errors import UserError


class Batch(NamedTuple):
    """Utterances side by side, padded to the longest.

    waveforms: (batch, samples) float32 in [-1, 1), zeros after an utterance's end.
    samples: (batch,) int64, the length of each waveform.
    labels: (batch, labels) int64, padded with 0 (the blank).
    label_lengths: (batch,) int64.
    indices: (batch,) int64, which utterance of the data set each row is.
    """

    waveforms: torch.Tensor
    samples: torch.Tensor
    labels: torch.Tensor
    label_lengths: torch.Tensor
    indices: torch.Tensor


class Utterances(Dataset):
    """Utterances by index: (waveform (samples,) float32, labels (labels,) int64, index)."""

    def __init__(self, cuts: Sequence, labels: Sequence[Sequence[int]]):
        """cuts: lhotse cuts; labels: the unit ids of each."""
        self.cuts, self.labels = list(cuts), list(labels)

    def __len__(self) -> int:
        return len(self.cuts)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        return load_waveform(self.cuts[index]), torch.tensor(self.labels[index], dtype=torch.int64), index


def load_waveform(cut) -> torch.Tensor:
    """(samples,) float32. Raises UserError naming the cut and the file if the audio cannot be read or is cut short."""
    source = cut.recording.sources[0].source if cut.has_recording and cut.recording.sources else "?"
    try:
        waveform = cut.load_audio()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"The audio of utterance {cut.id} cannot be read from {source}: {reason}") from None
    if waveform.shape[-1] != cut.num_samples:
        raise UserError(
            f"The audio of utterance {cut.id} in {source} has {waveform.shape[-1]} samples instead of {cut.num_samples}: "
            "the file is cut short or has changed; prepare the corpus again."
        )
    return torch.from_numpy(np.ascontiguousarray(waveform[0], dtype=np.float32))


def collate(utterances: list[tuple[torch.Tensor, torch.Tensor, int]]) -> Batch:
    """Pads what `Utterances` returns to a `Batch`."""
    waveforms, labels, indices = zip(*utterances)
    return Batch(
        torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True),
        torch.tensor([len(waveform) for waveform in waveforms]),
        torch.nn.utils.rnn.pad_sequence(labels, batch_first=True),
        torch.tensor([len(label) for label in labels]),
        torch.tensor(indices),
    )


class PlannedBatches(Sampler):
    """A batch sampler that follows `plan(epoch)`; Lightning tells it the epoch."""

    def __init__(self, plan: Callable[[int], list[list[int]]]):
        # Lightning calls `set_epoch` of a batch sampler's `sampler` only
        self.sampler = self
        self.plan, self.epoch = plan, 0
        self._planned: tuple[int, list[list[int]]] | None = None

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def batches(self) -> list[list[int]]:
        if self._planned is None or self._planned[0] != self.epoch:
            self._planned = (self.epoch, self.plan(self.epoch))
        return self._planned[1]

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches())

    def __len__(self) -> int:
        return len(self.batches())


def training_loader(
    utterances: Utterances, frames: Sequence[int], settings, seed: int, ranks: int = 1, rank: int = 0
) -> DataLoader:
    """Batches of the training split, by the epoch's plan. settings: `conf/data`."""

    def plan(epoch: int) -> list[list[int]]:
        return plan_epoch(frames, settings.batch_frames, settings.batch_utterances, seed, epoch, ranks, rank)

    return _loader(utterances, PlannedBatches(plan), settings.workers)


def evaluation_loader(utterances: Utterances, frames: Sequence[int], batch_frames: int, workers: int = 0) -> DataLoader:
    """Every utterance once, the longest first."""
    batches = plan_in_order(frames, batch_frames)
    return _loader(utterances, PlannedBatches(lambda epoch: batches), workers)


def _loader(utterances: Utterances, batches: PlannedBatches, workers: int) -> DataLoader:
    return DataLoader(
        utterances,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )

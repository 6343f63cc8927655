"""Batches of waveforms and labels, read from disk by worker processes."""

from __future__ import annotations

import atexit
import dataclasses
import hashlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from asr.data.plan import Batches, Bounds, batches_in_an_epoch, plan_epoch, plan_in_order, split_to
from asr.kernels.numerators import Numerators
from asr.model.graphs.tensors import pad_numerators
from asr.runtime.signals import SIGNALS

if TYPE_CHECKING:
    from asr.data.readings import Readings


class Batch(NamedTuple):
    """Utterances padded to the longest.

    waveforms: (batch, samples) float32 in [-1, 1), zeros after an utterance's end.
    samples: (batch,) int64, the length of each waveform.
    labels: (batch, labels) int64, padded with 0 (the blank).
    label_lengths: (batch,) int64.
    indices: (batch,) int64, the index of each row's utterance in the data set.
    graphs: of what may have been said, for heads that learn from graphs.
    """

    waveforms: torch.Tensor
    samples: torch.Tensor
    labels: torch.Tensor
    label_lengths: torch.Tensor
    indices: torch.Tensor
    graphs: Numerators | None = None

    @property
    def spoken(self) -> tuple[Any, ...]:
        """What a head compares hidden states with: labels, their lengths, and graphs if there are any."""
        return (self.labels, self.label_lengths, *([] if self.graphs is None else [self.graphs]))


class Utterances(Dataset):
    """Utterances by index: (waveform (samples,) float32, labels (labels,) int64, index), and the graph where there are any."""

    def __init__(self, cuts: Sequence, labels: Sequence[Sequence[int]], readings: Readings | None = None):
        """cuts: lhotse cuts; labels: the unit ids of each. readings: supervision → graph of what may have been said."""
        self.cuts, self.labels, self.readings = list(cuts), list(labels), readings

    def __len__(self) -> int:
        return len(self.cuts)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        from asr.audio.cuts import load_waveform

        cut = self.cuts[index]
        graphs = [] if self.readings is None else [self.readings(cut.supervisions[0])]
        return load_waveform(cut), torch.tensor(self.labels[index], dtype=torch.int64), index, *graphs


def collate(utterances: list[tuple[Any, ...]]) -> Batch:
    """Pads items of `Utterances` into a `Batch`."""
    waveforms, labels, indices, *graphs = zip(*utterances)
    return Batch(
        torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True),
        torch.tensor([len(waveform) for waveform in waveforms]),
        torch.nn.utils.rnn.pad_sequence(list(labels), batch_first=True),
        torch.tensor([len(label) for label in labels]),
        torch.tensor(indices),
        *map(pad_numerators, graphs),
    )


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """Splits a batch in two, each padded only as far as it needs."""
    middle = len(batch.samples) // 2
    parts = []
    for rows in (slice(0, middle), slice(middle, None)):
        waveforms, samples, labels, label_lengths, indices = (part[rows] for part in batch[:5])
        parts.append(
            Batch(
                waveforms[:, : int(samples.max())],
                samples,
                labels[:, : int(label_lengths.max())],
                label_lengths,
                indices,
                None if batch.graphs is None else Numerators(*(part[rows] for part in batch.graphs)),
            )  # fmt: skip
        )
    return parts[0], parts[1]


class BatchStream(Sampler):
    """Batch sampler over a whole training, starting at any position.

    A position is the number of batches before it. Starting there plans a single epoch, however late it is.
    """

    def __init__(self, plan: Callable[[int], Sequence[list[int]]], per_epoch: int, epochs: int, start: int = 0):
        """plan: epoch → its batches. per_epoch: how many those are."""
        self.plan, self.per_epoch, self.total, self.start = plan, per_epoch, per_epoch * epochs, start

    def __iter__(self) -> Iterator[list[int]]:
        planned: int | None = None
        batches: Sequence[list[int]] = []
        for position in range(self.start, self.total):
            epoch, index = divmod(position, self.per_epoch)
            if epoch != planned:
                planned, batches = epoch, self.plan(epoch)
            yield batches[index]

    def __len__(self) -> int:
        return self.total - self.start


class Listed(Sampler):
    """Batch sampler over a precomputed list."""

    def __init__(self, batches: Sequence[list[int]]):
        self.batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


@dataclasses.dataclass
class TrainingPlan:
    """The batches of a whole training on one of `ranks` processes; a pure function of its fields.

    frames: feature frames of each utterance. epochs: set as soon as it is known. curriculum: epochs at the beginning that go
    from short batches to long ones.
    """

    frames: np.ndarray
    bounds: Bounds
    seed: int
    ranks: int = 1
    rank: int = 0
    epochs: int = 1
    curriculum: int = 0

    def __post_init__(self):
        self.frames = np.asarray(self.frames, dtype=np.int64)
        self._number = batches_in_an_epoch(self.frames, self.bounds, self.ranks) if len(self.frames) else 0

    @property
    def per_epoch(self) -> int:
        """Batches of an epoch on each rank."""
        return -(-self._number // self.ranks)

    @property
    def total(self) -> int:
        """Batches of the whole training on each rank."""
        return self.per_epoch * self.epochs

    def epoch(self, epoch: int) -> Batches:
        return plan_epoch(
            self.frames, self.bounds, self.seed, epoch, self.ranks, self.rank, number=self._number,
            shortest_first=epoch < self.curriculum,
        )  # fmt: skip

    def as_data(self) -> dict:
        """Everything that a position in this plan depends on, as plain data."""
        memory = self.bounds.memory
        digest = hashlib.sha256(self.frames.tobytes()).hexdigest()[:16]
        return {
            "ranks": self.ranks, "seed": self.seed, "frames": digest, "batch_frames": self.bounds.frames,
            "batch_utterances": self.bounds.utterances, "memory": memory.as_data() if memory else None,
            # runs from before there were curricula say nothing of them
            **({"curriculum": self.curriculum} if self.curriculum else {}),
        }  # fmt: skip

    def loader(self, utterances: Utterances, workers: int, start: int = 0) -> DataLoader:
        """The batches from position `start` on, as one stream."""
        return _loader(utterances, BatchStream(self.epoch, self.per_epoch, self.epochs, start), workers)


def evaluation_loader(
    utterances: Utterances,
    frames: Sequence[int],
    batch_frames: int,
    workers: int = 0,
    ranks: int = 1,
    rank: int = 0,
    batch_utterances: int | None = None,
) -> DataLoader:
    """Each utterance once, on one of the ranks, longest first; equally many batches on each rank if utterances suffice."""
    batches = plan_in_order(frames, Bounds(batch_frames, batch_utterances))
    if ranks > 1:
        batches = split_to(min(len(frames), len(batches) + -len(batches) % ranks), batches)
    return _loader(utterances, Listed(batches[rank::ranks]), workers)


def _loader(utterances: Utterances, batches: Sampler, workers: int) -> DataLoader:
    if workers:
        atexit.unregister(end_workers)
        atexit.register(end_workers)
    return DataLoader(
        utterances,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=leave_signals_to_the_trainer,
    )


def leave_signals_to_the_trainer(worker: int) -> None:
    """Ignores Ctrl-C and SLURM's signals, which reach every process: the trainer needs the data to finish its step."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end_workers() -> None:
    """Kills the workers still alive at exit: they ignore the SIGTERM that Python sends them."""
    for child in multiprocessing.active_children():
        child.kill()

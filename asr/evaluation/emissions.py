"""From a split to emissions: the loop behind scoring, aligning and tuning, and the cache for tuning."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.data.batches import Batch, Utterances, evaluation_loader
from asr.data.checks import CheckedSplit
from asr.errors import UserError
from asr.inference.decoders import Decoder, Hypothesis
from asr.model.checkpoint import weights_digest
from asr.model.network import Model
from asr.runtime.devices import choose_device, synchronize
from asr.runtime.processes import ProcessGroup, SingleProcess
from asr.runtime.user_cache import keep

# utterances decoded at once
BATCH = 32


@dataclasses.dataclass(frozen=True)
class Batching:
    """Device and batches for running a model over a split.

    device: auto, cpu or cuda. frames: feature frames per batch, padding included. utterances: most per batch; None for any.
    """

    device: str = "auto"
    frames: int = 16000
    utterances: int | None = None


class BatchEmissions(NamedTuple):
    """A model's output for a batch.

    indices: the position in the split of each row's utterance.
    emissions: (batch, time, units) float32 log-probabilities, on the model's device.
    lengths: (batch,) int64, valid emissions of each utterance.
    seconds: time of the forward pass.
    """

    indices: list[int]
    emissions: Tensor
    lengths: Tensor
    seconds: float

    def rows(self) -> Iterator[tuple[int, Tensor]]:
        """(index of the utterance, its emissions (time, units)), row by row."""
        for row, index in enumerate(self.indices):
            yield index, self.emissions[row, : int(self.lengths[row])]


def batches_of_emissions(
    model: Model,
    split: CheckedSplit,
    batching: Batching,
    group: ProcessGroup | None = None,
    warm_up: bool = False,
) -> Iterator[BatchEmissions]:
    """The emissions of a split, batch by batch, longest utterances first; moves the model to the device.

    group: processes that share the work; each gets its own batches. warm_up: whether to run the first utterance once
    beforehand, so that no batch's `seconds` include the cost of first calls. Raises UserError for a device that does not exist,
    and for audio that cannot be read.
    """
    device = choose_device(batching.device)
    model = model.to(device).eval()
    group = group or SingleProcess()
    loader = evaluation_loader(
        Utterances(split.cuts, split.labels),
        split.frames,
        batching.frames,
        ranks=group.size,
        rank=group.rank,
        batch_utterances=batching.utterances,
    )
    return _forward(model, loader, device, warm_up)


def _forward(model: Model, loader: Iterable[Batch], device: torch.device, warm_up: bool) -> Iterator[BatchEmissions]:
    for step, batch in enumerate(loader):
        waveforms, samples = batch.waveforms.to(device), batch.samples.to(device)
        with torch.inference_mode():
            if warm_up and step == 0:
                # the first call selects algorithms and fills caches
                model(waveforms[:1], samples[:1])
            synchronize(device)
            started = time.perf_counter()
            emissions, lengths = model(waveforms, samples)
            synchronize(device)
        yield BatchEmissions(batch.indices.tolist(), emissions, lengths, time.perf_counter() - started)


def emissions_of(model: Model, split: CheckedSplit, batching: Batching) -> list[Tensor]:
    """The emissions (time, units) float32 of every utterance of a split, on the CPU, in the order of its cuts."""
    found: dict[int, Tensor] = {}
    for batch in batches_of_emissions(model, split, batching):
        on_cpu = batch._replace(emissions=batch.emissions.float().cpu())
        found |= {index: emissions.clone() for index, emissions in on_cpu.rows()}
    return [found[index] for index in range(len(split.cuts))]


def cached_emissions(
    model: Model, split: CheckedSplit, batching: Batching, corpus: str, cache: Path
) -> tuple[list[Tensor], Path | None]:
    """`emissions_of`, and the file below `cache` with them; None, with a warning, if it cannot be written.

    The file is named after a digest of weights, attention and utterances; an audio file counts with its size and modification
    time. Raises UserError for missing audio.
    """
    digest = hashlib.sha256((json.dumps(model.description, sort_keys=True) + weights_digest(model)).encode())
    for cut in split.cuts:
        digest.update(f"{cut.id} {cut.start} {cut.duration} {cut.recording.id} {cut.channel}\n".encode())
    for line in audio_stamps(split):
        digest.update(line)
    file = Path(cache) / "emissions" / f"{corpus}-{split.name}-{digest.hexdigest()[:16]}.safetensors"
    with contextlib.suppress(SafetensorError, OSError, KeyError):
        kept = load_file(file)
        return [kept[str(index)] for index in range(len(split.cuts))], file
    emissions = emissions_of(model, split, batching)

    def write(path: Path) -> None:
        path.write_bytes(save({str(index): tensor for index, tensor in enumerate(emissions)}))

    written = keep(
        file, write, "The emissions", "They are computed again next time; cache=FOLDER chooses another folder."
    )
    return emissions, file if written else None


def audio_stamps(split: CheckedSplit) -> Iterator[bytes]:
    """Identifies the audio of a split, once per source: a file by its size and modification time, audio in memory by a digest.
    Raises UserError for a missing file."""
    seen = set()
    for cut in split.cuts:
        for source in cut.recording.sources:
            if (source.type, source.source) in seen:
                continue
            seen.add((source.type, source.source))
            if source.type == "file":
                try:
                    status = Path(source.source).stat()
                except OSError as error:
                    raise UserError(
                        f"{source.source}, the audio of {cut.id}, cannot be read: {error.strerror}. Put it back, or give the "
                        "corpus its new path."
                    ) from None
                yield os.fsencode(f"{source.source} {status.st_size} {status.st_mtime_ns}\n")
            else:
                content = source.source if isinstance(source.source, bytes) else str(source.source).encode()
                yield hashlib.sha256(content).digest()


def decode_all(decoder: Decoder, emissions: Sequence[Tensor]) -> list[Hypothesis]:
    """The best hypothesis of each utterance, in order; batches hold utterances of similar length."""
    order = sorted(range(len(emissions)), key=lambda index: len(emissions[index]))
    best: dict[int, Hypothesis] = {}
    for start in range(0, len(order), BATCH):
        indices = order[start : start + BATCH]
        padded = pad_sequence([emissions[index] for index in indices], batch_first=True)
        lengths = torch.tensor([len(emissions[index]) for index in indices])
        best |= {index: hypotheses[0] for index, hypotheses in zip(indices, decoder(padded, lengths))}
    return [best[index] for index in range(len(emissions))]

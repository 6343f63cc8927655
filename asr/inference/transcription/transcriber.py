"""A model and a decoder ready to transcribe; shared by `transcribe.py` and the Python interface."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import torch

from asr.inference.alignment.timing import Timing
from asr.inference.decoders import Decoder, decoders
from asr.inference.transcription import Transcript
from asr.inference.transcription.formats import CONFIDENT
from asr.inference.transcription.inputs import Source
from asr.inference.transcription.pieces import Cutting, batches, pieces_of
from asr.inference.transcription.recording import Reader, Recording
from asr.inference.transcription.remarks import Remarks
from asr.inference.transcription.request import Request
from asr.inference.transcription.windows import Window
from asr.inference.tuned import with_tuned
from asr.model.checkpoint import choose_attention, open_checkpoint
from asr.model.network import Model
from asr.runtime.devices import choose_device
from asr.text.units import Units


@dataclasses.dataclass(frozen=True)
class Transcriber:
    """model: on its device, with the requested attention. unbound: the decoder, before it loads its files."""

    request: Request
    model: Model
    units: Units
    cutting: Cutting
    unbound: Decoder

    @classmethod
    def of(cls, request: Request) -> Transcriber:
        """Opens the checkpoint. Raises UserError if that fails, or if the settings do not fit it or contradict each other."""
        checkpoint = open_checkpoint(request.checkpoint)
        other = choose_attention(checkpoint.model, request.attention, request.knobs)
        device = choose_device(request.device)
        model = (checkpoint.model if other is None else checkpoint.model.with_attention(other)).to(device).eval()
        cutting = Cutting.of(request, model, device)
        decoder = decoders.create(with_tuned(checkpoint, request.decoder, request.decoder_typed))
        return cls(request, model, checkpoint.units, cutting, decoder)

    @functools.cached_property
    def reader(self) -> Reader:
        """Binds the decoder on first use; its graph may take seconds to load."""
        decoder = self.unbound.bind_to(self.units, self.model.topology)
        if self.request.format in CONFIDENT:
            decoder = decoder.with_confidences()
        longest = self.cutting.grid.emissions(self.request.segment_seconds)
        return Reader(self.units, self.model.topology, decoder, Timing.of(self.model), self.cutting.overlap, longest)

    @torch.inference_mode()
    def transcripts(
        self,
        sources: Sequence[Source],
        remarks: Remarks,
        advance: Callable[[float, int], None] = lambda seconds, number: None,
    ) -> Iterator[tuple[Source, Transcript] | str]:
        """(source, transcript), or a sentence about what is wrong with it, for each source in turn; windows of several sources
        share a batch.

        advance: called with the seconds done so far of a source, and its number.
        """
        recordings: dict[int, Recording] = {}
        grid = self.cutting.grid
        pieces = pieces_of(sources, self.request, self.cutting, remarks)
        for batch in batches(pieces, round(self.request.batch_seconds * grid.sample_rate)):
            emissions = iter(recognized([piece for _, piece in batch if isinstance(piece, Window)], self.model))
            for number, piece in batch:
                if isinstance(piece, str):
                    recordings.pop(number, None)
                    yield piece
                    continue
                recording = recordings.setdefault(number, Recording(sources[number].name, self.reader))
                recording.add(next(emissions), piece)
                advance((piece.first * grid.stride + len(piece.samples)) / grid.sample_rate, number)
                if piece.total is not None:
                    yield sources[number], recordings.pop(number).transcript(piece.total / grid.sample_rate)


def recognized(batch: Sequence[Window], model: Model) -> list[torch.Tensor]:
    """(time, units) log-probabilities of each window."""
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

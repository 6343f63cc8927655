"""The longest recording that fits into memory in one pass."""

from __future__ import annotations

import torch

from asr.model.network import Model
from asr.runtime.memory import free_memory

# share of the free memory for one pass; the rest covers what the estimate leaves out
SHARE = 0.5
# bytes assumed free if the system does not tell
FREE = 4 * 2**30


def bytes_per_sample(model: Model) -> float:
    """Estimated bytes that one pass takes per sample.

    Counted: the waveform and its pre-emphasized copy, filter banks and the tensors that normalize them, the encoder's hidden
    states, projections and feed-forward layer, and the emissions.
    """
    features, units = model.features, model.description["units"]
    hop = features.filter_bank.hop_samples
    states = model.encoder.values_per_state() / model.encoder.subsampling
    return 4 * (3 + (4 * features.mels + states + 3 * units / model.encoder.frames_per_output) / hop)


def most_samples(model: Model, device: torch.device) -> int:
    """The longest recording, in samples, for one pass."""
    free = free_memory(device)
    return int(SHARE * (FREE if free is None else free) / bytes_per_sample(model))

"""Whether a whole recording fits into memory at once."""

from __future__ import annotations

import torch

from asr.model.network import Model

# Of the memory that is free this much may be taken; the rest is for what the estimate does not know.
SHARE = 0.5


def bytes_per_sample(model: Model) -> float:
    """Bytes that one pass takes for every sample, about: the waveform and its pre-emphasized copy, filter banks with what is made
    to normalize them, the encoder's hidden states, projections and feed-forward layer, and the emissions."""
    features, units = model.features, model.description["units"]
    hop = features.filter_bank.hop_samples
    stride = hop * model.encoder.subsampling
    return 4 * (3 + 4 * features.mels / hop + (model.encoder.values_per_state() + 3 * units) / stride)


def most_samples(model: Model, device: torch.device) -> int:
    """The longest recording, in samples, that may be recognized in one pass."""
    return int(SHARE * free_bytes(device) / bytes_per_sample(model))


def free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import resource

    free = 4 * 2**30  # where nothing tells
    try:
        with open("/proc/meminfo") as lines:
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return free
    with open("/proc/self/statm") as pages:
        held = int(pages.read().split()[0]) * resource.getpagesize()
    return max(0, min(free, limit - held))

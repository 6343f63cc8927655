"""Full or improved clustered attention, whichever is faster at a batch's length."""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import logging
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from asr.kernels import dispatch
from asr.model.attention import full
from asr.model.attention.crossover import (
    Crossover,
    find_crossover,
    like_speech,
    processor_name,
    remembered,
    time_in_turns,
)
from asr.model.attention.full import Full
from asr.model.attention.i_clustered import ImprovedClustered

log = logging.getLogger(__name__)

# Shorter batches get full attention unmeasured: it has won there on every machine so far, and short tests need no
# calibration.
SHORTEST = 512
LONGEST = 32768
# This many batch x heads fill a GPU; more do not move the crossover.
MOST_GROUPS = 128

_crossovers: dict[str, Crossover] = {}
_logged: set[tuple[str, int]] = set()


class Auto(ImprovedClustered):
    """Full attention for short batches, i_clustered for long ones: always the faster of the two.

    The crossover is measured: forward and backward of both in turns, for some seconds, once per machine, dtype, dim, number of
    heads and setting of the knobs (see `case`); `asr.model.attention.crossover` caches the result.

    The padded length of the batch decides, in training and evaluation alike, with and without gradients. Near the crossover
    an utterance may therefore get full attention in one batch and i_clustered in another, and a model's error rate depends on
    the machine and the batch size by as much as the two attentions differ. For numbers to be compared choose `full` or
    `i_clustered`. `choice` says which one a batch gets, and so does the log.

    clusters, topk, bits, iterations: as in `i_clustered`.
    """

    name = "auto"

    def __init__(
        self, clusters: int = 100, topk: int = 32, bits: int = 63, iterations: int = 10, seed: int = 0
    ) -> None:
        super().__init__(clusters, topk, bits, iterations, seed)
        self.full = Full(seed)

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None
    ) -> Tensor:
        if self.choice(queries, keys, padded=key_lengths is not None) == "full":
            return self.full.attend(queries, keys, values, lengths, key_lengths)
        return super().attend(queries, keys, values, lengths, key_lengths)

    @torch.compiler.disable
    def choice(self, queries: Tensor, keys: Tensor | None = None, padded: bool = False) -> str:
        """`full` or `i_clustered`: what a batch like this gets. Measures the crossover on first use.

        queries: (batch, heads, queries' time, dim). keys: (batch, heads, time, dim), by default shaped like queries. padded:
        whether any key is padding; full attention then needs a mask, which costs time.
        """
        length = middle_length(queries.shape[2], (queries if keys is None else keys).shape[2])
        chosen_name = "full"
        if length >= SHORTEST and length >= self.crossover(queries, padded).length:
            chosen_name = "i_clustered"
        bucket = int(length).bit_length() if length >= SHORTEST else 0
        if (chosen_name, bucket) not in _logged:
            _logged.add((chosen_name, bucket))
            log.info("attention=auto: %s at %d time steps", chosen_name, length)
        return chosen_name

    def crossover(self, queries: Tensor, padded: bool) -> Crossover:
        """The length from which i_clustered is faster than full attention, for queries like these of any length."""
        case = self.case(queries, padded)
        if case not in _crossovers:

            def find() -> Crossover:
                groups, dim = rounded_groups(queries), queries.shape[-1]
                measure = times(self.settings(), groups, dim, queries.dtype, queries.device, padded)
                return find_crossover(measure, SHORTEST, LONGEST)

            try:
                # A new thread inherits none of the caller's state: inference mode, autocast, checkpointing's hooks on
                # saved tensors.
                with concurrent.futures.ThreadPoolExecutor(1) as thread:
                    _crossovers[case] = remembered(case, lambda: thread.submit(find).result())
            except torch.OutOfMemoryError:
                log.warning(
                    "attention=auto: no memory left to measure the crossover, so full attention is used. %s",
                    case,
                )
                _crossovers[case] = Crossover(math.inf, {})
            log.info("attention=auto: i_clustered from %.0f time steps. %s", _crossovers[case].length, case)
        return _crossovers[case]

    def case(self, queries: Tensor, padded: bool) -> str:
        """Everything the crossover depends on, in words. Gradients are left out: the choice must be the same without them."""
        device = queries.device
        parts = [
            processor_name(device),
            *([f"{torch.get_num_threads()} threads"] if device.type == "cpu" else []),
            f"torch {torch.__version__}",
            f"kernels {sources()} by {dispatch.chosen(queries)}",
            str(queries.dtype).removeprefix("torch."),
            f"dim {queries.shape[-1]}",
            f"batch x heads {rounded_groups(queries)}",
            "padded" if padded else "unpadded",
            *(f"{knob} {getattr(self, knob)}" for knob in self.knobs()),
        ]
        return ", ".join(parts)


def middle_length(queries: int, keys: int) -> float:
    """The length of the self-attention with the same ratio of costs: the harmonic mean.

    Full attention takes time proportional to queries * keys, clustered attention to queries + keys.
    """
    return 2 * queries * keys / (queries + keys)


def rounded_groups(queries: Tensor) -> int:
    """batch * heads, rounded to a power of two and capped where more no longer matter."""
    most = MOST_GROUPS if queries.device.type == "cuda" else max(8, 2 * torch.get_num_threads())
    return 2 ** round(math.log2(min(queries.shape[0] * queries.shape[1], most)))


def times(
    settings: dict[str, int], groups: int, dim: int, dtype: torch.dtype, device: torch.device, padded: bool
) -> Callable[[int], tuple[float, float]]:
    """A function that times forward plus backward of (full, i_clustered) attention at a length, in milliseconds."""
    knobs = {knob: value for knob, value in settings.items() if knob != "name"}
    both = [Full(), ImprovedClustered(**knobs)]

    def milliseconds(length: int) -> tuple[float, float]:
        generator = torch.Generator(device).manual_seed(length)
        make = functools.partial(like_speech, groups, 1, length, dim, dtype, device, generator)
        leaves = [make().requires_grad_() for _ in range(3)]
        outgoing = make()
        lengths = torch.linspace(0.8 * length, length - 1, groups).long() if padded else None

        def run(attention: torch.nn.Module) -> None:
            torch.autograd.grad(attention(*leaves, lengths), leaves, outgoing)

        taken = time_in_turns([functools.partial(run, attention) for attention in both], device)
        return taken[0], taken[1]

    return milliseconds


@functools.cache
def sources() -> str:
    """Eight hex digits of a digest of the code that is timed."""
    folder = Path(dispatch.__file__).parent
    files = [*sorted(folder.rglob("*.py")), Path(full.__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]

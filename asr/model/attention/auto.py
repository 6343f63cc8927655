"""Full or improved clustered attention, whichever is faster at a batch's length."""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

# Shorter batches are full attention without a measurement: there it has won wherever it was measured, and tests of a few
# time steps start no calibration.
SHORTEST = 512
LONGEST = 32768
# More heads of sequences than this fill a GPU, so that more of them shift nothing.
MOST_GROUPS = 128

_crossovers: dict[str, Crossover] = {}
_logged: set[tuple[str, int]] = set()


class Auto(ImprovedClustered):
    """Full attention for short batches, i_clustered for long ones, so that it is never slower than the faster of the two.

    Where it changes from one to the other is measured: forward and backward of both in turns, some seconds, once for every
    machine, dtype, dim, number of heads and setting of the knobs (see `case`); `asr.model.attention.crossover` keeps the result.

    What counts is the time of the batch with its padding; in training and evaluation alike, with gradients and without. So
    near the crossover an utterance may get full attention in one batch and i_clustered in another, and the error rate of a
    model depends on the machine and the batch size by as much as the two differ. For numbers that are to be compared choose
    `full` or `i_clustered`; which one a batch would get, `choice` says, and so does the log.

    clusters, topk, space, bits, seeds, iterations: as in `i_clustered`.
    """

    name = "auto"

    def __init__(
        self,
        clusters: int = 100,
        topk: int = 32,
        space: str = "queries",
        bits: int = 63,
        seeds: str = "path",
        iterations: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(clusters, topk, space, bits, seeds, iterations, seed)
        self.full = Full(seed)

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None
    ) -> Tensor:
        if self.choice(queries, keys, padded=key_lengths is not None) == "full":
            return self.full.attend(queries, keys, values, lengths, key_lengths)
        return super().attend(queries, keys, values, lengths, key_lengths)

    @torch.compiler.disable
    def choice(self, queries: Tensor, keys: Tensor | None = None, padded: bool = False) -> str:
        """`full` or `i_clustered`: what a batch like this gets. Measures if that has never been done.

        queries: (batch, heads, queries' time, dim), keys: (batch, heads, time, dim), by default like queries. padded: whether
        any key is; full attention then needs a mask, which costs time.
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
        """From which length on i_clustered is faster than full attention for queries like these, whatever their length."""
        case = self.case(queries, padded)
        if case not in _crossovers:

            def find() -> Crossover:
                groups, dim = rounded_groups(queries), queries.shape[-1]
                measure = times(self.settings(), groups, dim, queries.dtype, queries.device, padded)
                return find_crossover(measure, SHORTEST, LONGEST)

            try:
                # In a thread of its own nothing of what the caller has set holds: inference mode, autocast, checkpointing's
                # hooks on saved tensors.
                with concurrent.futures.ThreadPoolExecutor(1) as thread:
                    _crossovers[case] = remembered(case, lambda: thread.submit(find).result())
            except torch.OutOfMemoryError:
                log.warning("attention=auto: no memory left to measure in, so full attention is used. %s", case)
                _crossovers[case] = Crossover(math.inf, {})
            log.info("attention=auto: i_clustered from %.0f time steps on. %s", _crossovers[case].length, case)
        return _crossovers[case]

    def case(self, queries: Tensor, padded: bool) -> str:
        """What the crossover depends on, in words. Not on whether gradients are wanted: the choice must not change with it."""
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
    """The length of self-attention whose costs are in the same proportion: the harmonic mean.

    Full attention takes time in proportion to queries * keys, clustered attention to queries + keys.
    """
    return 2 * queries * keys / (queries + keys)


def rounded_groups(queries: Tensor) -> int:
    """batch * heads as the nearest power of two, up to where more of them no longer matter."""
    most = MOST_GROUPS if queries.device.type == "cuda" else max(8, 2 * torch.get_num_threads())
    return 2 ** round(math.log2(min(queries.shape[0] * queries.shape[1], most)))


def times(
    settings: dict[str, Any], groups: int, dim: int, dtype: torch.dtype, device: torch.device, padded: bool
) -> Callable[[int], tuple[float, float]]:
    """A function that times forward and backward of (full, i_clustered) attention at a length, in milliseconds."""
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
    """Eight digits that change when the code which is timed does."""
    folder = Path(dispatch.__file__).parent
    files = [*sorted(folder.rglob("*.py")), Path(full.__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]

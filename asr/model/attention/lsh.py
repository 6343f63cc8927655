"""Reformer's attention: hashing groups similar positions."""

from __future__ import annotations

from torch import Tensor

from asr.kernels.lsh import draw_rotations, lsh_attention
from asr.model.attention.base import Attention


class LSH(Attention):
    """Attention within chunks of positions sorted by hash (Kitaev et al. 2020, "Reformer"); for shared queries and keys.

    rounds: of hashing, merged by log-sum-exp. chunk: positions in a sorted chunk. `asr.kernels.lsh` documents the choices
    that the paper leaves open.
    """

    name = "lsh"
    shared_qk = True
    complexity = "linear"
    label_knob = "rounds"

    def __init__(self, rounds: int = 1, chunk: int = 32, seed: int = 0) -> None:
        super().__init__(seed)
        self.rounds = self.whole_number("rounds", rounds)
        self.chunk = self.whole_number("chunk", chunk)
        # Not a buffer: buckets must stay the same in half precision, and rotations are not saved with the weights.
        self._rotations: Tensor | None = None

    def rotations(self, queries: Tensor) -> Tensor:
        """Random directions for queries of this dim, time and device; drawn on the CPU from the seed when first needed."""
        columns, dim = -(-queries.shape[2] // self.chunk), queries.shape[3]
        held = self._rotations
        if held is None or held.shape[0] < columns or held.shape[2] != dim or held.device != queries.device:
            held = self._rotations = draw_rotations(self.rounds, dim, columns, self.seed, queries.device)
        return held

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None
    ) -> Tensor:
        return lsh_attention(queries, values, lengths, self.rotations(queries), self.chunk)

"""Reformer's attention: hashing brings alike positions together."""

from __future__ import annotations

from torch import Tensor

from asr.model.attention.base import Attention
from kernels.lsh import draw_rotations, lsh_attention


class LSH(Attention):
    """Attention within chunks of positions sorted by hash (Kitaev et al. 2020, "Reformer"); for shared queries and keys.

    rounds: of hashing, merged by log-sum-exp. chunk: positions in a sorted chunk. See `kernels.lsh` for what is decided where
    the paper is silent.
    """

    name = "lsh"
    shared_qk = True
    complexity = "linear"
    label_knob = "rounds"

    def __init__(self, rounds: int = 1, chunk: int = 32, seed: int = 0) -> None:
        super().__init__(seed)
        self.rounds = self.whole_number("rounds", rounds)
        self.chunk = self.whole_number("chunk", chunk)
        # Not a buffer: a model turned to half precision must keep its buckets, and rotations are no part of its weights.
        self._rotations: Tensor | None = None

    def rotations(self, queries: Tensor) -> Tensor:
        """Random directions for queries of this dim, time and device, drawn from the seed on the CPU when first needed."""
        columns, dim = -(-queries.shape[2] // self.chunk), queries.shape[3]
        held = self._rotations
        if held is None or held.shape[0] < columns or held.shape[2] != dim or held.device != queries.device:
            self._rotations = draw_rotations(self.rounds, dim, columns, self.seed, queries.device)
        return self._rotations

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None
    ) -> Tensor:
        return lsh_attention(queries, values, lengths, self.rotations(queries), self.chunk)

"""Clustered attention: one softmax per cluster of queries."""

from __future__ import annotations

from torch import Tensor

from asr.model.attention.base import Attention
from kernels.clustered import MAXIMUM_CLUSTERS, clustered_attention
from kernels.hashing import Planes, draw_planes


class Clustered(Attention):
    """Queries of a cluster share the attention of their mean (Vyas et al. 2020, section 3.2, eqs. 3-6).

    clusters: clusters in every head of every sequence; with as many as there are queries this is full attention.
    bits: of the hash in whose Hamming space k-means works. iterations: of Lloyd's algorithm.
    """

    name = "clustered"
    complexity = "linear"
    label_knob = "clusters"

    def __init__(self, clusters: int = 100, bits: int = 63, iterations: int = 10, seed: int = 0) -> None:
        super().__init__(seed)
        self.clusters = self.whole_number("clusters", clusters, most=MAXIMUM_CLUSTERS)
        self.bits = self.whole_number("bits", bits)
        self.iterations = self.whole_number("iterations", iterations, least=0)
        # Not a buffer: a model turned to half precision must keep its codes, and planes are no part of its weights.
        self._planes: Planes | None = None

    def planes(self, queries: Tensor) -> Planes:
        """The hash planes for queries of this dim and device, drawn from the seed on the CPU when first needed."""
        if self._planes is None or self._planes.dim != queries.shape[-1] or self._planes.device != queries.device:
            self._planes = draw_planes(self.bits, queries.shape[-1], self.seed, queries.device)
        return self._planes

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None
    ) -> Tensor:
        planes = self.planes(queries)
        return clustered_attention(queries, keys, values, lengths, key_lengths, planes, self.clusters, self.iterations)

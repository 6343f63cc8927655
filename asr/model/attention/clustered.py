"""Clustered attention: one softmax per cluster of queries."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from asr.kernels.clustered import MAXIMUM_CLUSTERS, Space, clustered_attention
from asr.kernels.hashing import Planes, draw_planes
from asr.kernels.seeds import SEEDS
from asr.kernels.spaces import SPACES
from asr.model.attention.base import Attention


class Clustered(Attention):
    """Queries of a cluster share the attention of their mean (Vyas et al. 2020, section 3.2, eqs. 3-6).

    clusters: clusters in every head of every sequence; with as many as there are queries this is full attention.
    space: what k-means compares: `hash`, signs of random projections (the paper's); `queries`, the queries themselves; or
    `scores`, the scores that the keys give them. bits: of the hash. seeds: the first centroids, `even` in time (the paper's),
    `path`, as far from each other along the path of the queries, or `plusplus` (k-means++). iterations: of Lloyd's algorithm.
    """

    name = "clustered"
    complexity = "linear"
    label_knob = "clusters"
    before: ClassVar[dict[str, Any]] = {"space": "hash", "seeds": "even", "iterations": 10}

    def __init__(
        self,
        clusters: int = 100,
        space: str = "queries",
        bits: int = 63,
        seeds: str = "path",
        iterations: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.clusters = self.whole_number("clusters", clusters, most=MAXIMUM_CLUSTERS)
        self.space = self.one_of("space", space, SPACES)
        self.bits = self.whole_number("bits", bits)
        self.seeds = self.one_of("seeds", seeds, SEEDS)
        self.iterations = self.whole_number("iterations", iterations, least=0)
        # Not a buffer: a model turned to half precision must keep its codes, and planes are no part of its weights.
        self._planes: Planes | None = None

    def space_of(self, queries: Tensor) -> Space:
        """The space that the kernels are told; hash planes of this dim and device are drawn from the seed, on the CPU."""
        if self.space != "hash":
            return self.space
        if self._planes is None or self._planes.dim != queries.shape[-1] or self._planes.device != queries.device:
            self._planes = draw_planes(self.bits, queries.shape[-1], self.seed, queries.device)
        return self._planes

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None
    ) -> Tensor:
        space = self.space_of(queries)
        return clustered_attention(
            queries, keys, values, lengths, key_lengths, space, self.clusters, self.iterations, seeds=self.seeds
        )

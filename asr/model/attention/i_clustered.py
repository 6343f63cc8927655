"""Improved clustered attention: clustered, but exact on each cluster's best keys."""

from __future__ import annotations

from torch import Tensor

from asr.kernels.clustered import improved_clustered_attention
from asr.model.attention.clustered import Clustered


class ImprovedClustered(Clustered):
    """Clustered attention whose mass on each cluster's top keys is dealt out by every query's own softmax over them
    (Vyas et al. 2020, section 3.3, eqs. 9-11).

    clusters, space, bits, seeds, iterations: as in `clustered`. topk: the keys of a cluster that are attended to exactly; with
    as many as there are keys this is full attention.
    """

    name = "i_clustered"

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
        super().__init__(clusters, space, bits, seeds, iterations, seed)
        self.topk = self.whole_number("topk", topk)

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None
    ) -> Tensor:
        space = self.space_of(queries)
        knobs = self.clusters, self.iterations, self.topk
        return improved_clustered_attention(
            queries, keys, values, lengths, key_lengths, space, *knobs, seeds=self.seeds
        )

"""Labels of queries: their codes, the first centroids and k-means, see `asr.kernels.clustered.cluster_queries`."""

from __future__ import annotations

from torch import Tensor

from asr.kernels.gpu.hashing import hash_queries
from asr.kernels.gpu.kmeans import INDEX_SCALE, cluster_codes, table_size
from asr.kernels.gpu.seeds import choose_seeds, first_centroids
from asr.kernels.gpu.spaces import whole_codes
from asr.kernels.hashing import Planes
from asr.kernels.padding import zero_padded
from asr.kernels.spaces import Space, seen_by_keys


def cluster_queries(
    queries: Tensor,
    lengths: Tensor | None,
    keys: Tensor,
    key_lengths: Tensor | None,
    space: Space,
    clusters: int,
    iterations: int,
    seeds: str,
) -> tuple[Tensor, Tensor]:
    """Labels (groups, time) int32, -1 at padded steps, and their counts, see `cluster_codes`; padding may hold anything."""
    heads, (block, all_clusters) = queries.shape[1], table_size(clusters)
    if isinstance(space, Planes):
        codes, centroids = hash_queries(queries, space, lengths, clusters, all_clusters, INDEX_SCALE)
        bits, offsets = space.bits, None
    else:
        if space == "scores":
            # The factor of a covariance is left to torch.
            queries, keys = zero_padded(queries, lengths), zero_padded(keys, key_lengths)
            queries = seen_by_keys(queries, lengths, keys, key_lengths)
        codes, bits = whole_codes(queries, lengths), 0
    if bits == 0 or seeds != "even":  # even seeds are hashed with the queries
        chosen = choose_seeds(codes, lengths, heads, clusters, seeds)
        centroids, offsets = first_centroids(
            codes, chosen, lengths, heads, clusters, all_clusters, block, bits, INDEX_SCALE
        )
    return cluster_codes(codes, centroids, offsets, lengths, heads, clusters, iterations, bits)

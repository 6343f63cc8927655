"""Clustered attention and its improved form, composed of steps.

Labels and top keys are constants to the gradient; for fixed ones it is the exact gradient of eqs. 3-6 and 10-11, through
the mass of the top keys too.
"""

from __future__ import annotations

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from asr.kernels.centroids import broadcast, centroid_attention, cluster_means
from asr.kernels.dispatch import step
from asr.kernels.hashing import Planes, hash_codes
from asr.kernels.kmeans import euclidean_kmeans, hamming_kmeans
from asr.kernels.members import member_attention
from asr.kernels.padding import additive_mask, zero_padded
from asr.kernels.seeds import even_seeds, path_seeds, plusplus_seeds
from asr.kernels.spaces import Space, seen_by_keys, whole_codes

MAXIMUM_CLUSTERS = 1 << 16


def cluster_queries(
    queries: Tensor,
    lengths: Tensor | None,
    keys: Tensor,
    key_lengths: Tensor | None,
    space: Space,
    clusters: int,
    iterations: int,
    seeds: str = "even",
) -> Tensor:
    """Labels of queries: (batch, heads, time, dim) -> (batch, heads, time) int64, 0 at padded steps.

    Queries and keys are zero where they are padded; keys matter in the space `scores` only. seeds: of `asr.kernels.seeds`.
    """
    codes = query_codes(queries, lengths, keys, key_lengths, space)
    steps = torch.full((len(queries),), queries.shape[2], device=queries.device) if lengths is None else lengths
    return kmeans(codes, steps, space, clusters, iterations, seeds)


def query_codes(
    queries: Tensor, lengths: Tensor | None, keys: Tensor, key_lengths: Tensor | None, space: Space
) -> Tensor:
    """Codes (batch, heads, time, width) of queries in a space, zero at padded steps, see `hash_codes` and `whole_codes`."""
    if isinstance(space, Planes):
        return hash_codes(queries, space, lengths)
    seen = queries if space == "queries" else seen_by_keys(queries, lengths, keys, key_lengths)
    return whole_codes(seen, lengths)


def kmeans(codes: Tensor, lengths: Tensor, space: Space, clusters: int, iterations: int, seeds: str) -> Tensor:
    """Labels (batch, heads, time) int64 of codes from `query_codes`; lengths: (batch,) int64."""
    if seeds == "even":
        first = even_seeds(lengths, clusters)[:, None].expand(-1, codes.shape[1], -1)
    else:
        first = (path_seeds if seeds == "path" else plusplus_seeds)(codes, lengths, clusters)
    if isinstance(space, Planes):
        return hamming_kmeans(codes, first, iterations, space.bits)
    return euclidean_kmeans(codes, first, iterations)


def triton_version() -> ModuleType:
    """Imported when it is called for: Triton is slow to import, and not everywhere."""
    import asr.kernels.gpu.clustered

    return asr.kernels.gpu.clustered


@step(triton=triton_version)
def clustered_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor | None,
    key_lengths: Tensor | None,
    space: Space,
    clusters: int,
    iterations: int,
    *,
    seeds: str = "even",
) -> Tensor:
    """Vyas et al. 2020, eqs. 3-6. What stands at padded steps does not matter; the result is zero there.

    queries: (batch, heads, queries' time, dim), keys: (batch, heads, time, dim), values: (batch, heads, time, value dim),
    lengths and key_lengths: (batch,) int64, or None when nothing is padded. space, seeds: as of `cluster_queries`.
    Computes in float32 at least. Returns (batch, heads, queries' time, value dim).
    """
    return improved_clustered_attention.plain(
        queries, keys, values, lengths, key_lengths, space, clusters, iterations, topk=0, seeds=seeds
    )


@step(triton=triton_version)
def improved_clustered_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor | None,
    key_lengths: Tensor | None,
    space: Space,
    clusters: int,
    iterations: int,
    topk: int,
    *,
    seeds: str = "even",
) -> Tensor:
    """Vyas et al. 2020, eqs. 9-11. Arguments and result as of `clustered_attention`."""
    queries, keys, values = (x.float() if x.element_size() < 4 else x for x in (queries, keys, values))
    queries, keys, values = (
        zero_padded(queries, lengths),
        zero_padded(keys, key_lengths),
        zero_padded(values, key_lengths),
    )
    labels = cluster_queries(queries, lengths, keys, key_lengths, space, clusters, iterations, seeds)
    return zero_padded(attend_in_clusters(queries, keys, values, lengths, key_lengths, labels, clusters, topk), lengths)


def attend_in_clusters(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor | None,
    key_lengths: Tensor | None,
    labels: Tensor,
    clusters: int,
    topk: int,
) -> Tensor:
    """The attention of queries in given clusters; what is padded must be zero, and the result there is anything.

    labels: (batch, heads, queries' time) int64; topk: 0 for clustered attention (eqs. 3-6), else of the improved (eqs. 9-11).
    """
    means, counts = cluster_means(queries, labels, lengths, clusters)
    if not topk:
        mask = None if key_lengths is None else additive_mask(key_lengths, keys.shape[2], keys.dtype)[:, None, None]
        return broadcast(F.scaled_dot_product_attention(means, keys, values, attn_mask=mask), labels)
    others, mass, selected = centroid_attention(means, keys, values, key_lengths, topk, counts > 0)
    exact = member_attention(queries, keys, values, labels, selected, key_lengths)
    return torch.addcmul(broadcast(others, labels), broadcast(mass, labels), exact)

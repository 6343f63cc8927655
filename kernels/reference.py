"""What the kernels must compute, said with whole matrices in float64: slow, quadratic, easy to read.

Everything is for one head of one sequence without padding. Differentiable; labels and top keys are constants.
"""

from __future__ import annotations

import torch
from torch import Tensor


def full_matrix(queries: Tensor, keys: Tensor) -> Tensor:
    """A of eq. 1: queries (time, dim), keys (keys' time, dim) -> (time, keys' time)."""
    return (queries.double() @ keys.double().T * queries.shape[1] ** -0.5).softmax(-1)


def cluster_queries(codes: Tensor, first: Tensor, iterations: int) -> Tensor:
    """Lloyd's algorithm in Hamming space, one cluster after the other.

    codes: (time, bits) of +1 and -1, first: (clusters,) int64, the steps whose codes are the first centroids.
    Returns (time,) int64 labels. Ties go to the lowest index, an empty cluster and a tied bit keep what they had.
    """
    centroids = codes[first].clone()
    for _ in range(iterations):
        labels = nearest_centroids(codes, centroids)
        for cluster in range(len(centroids)):
            votes = codes[labels == cluster].sum(0)
            centroids[cluster] = torch.where(votes > 0, 1.0, torch.where(votes < 0, -1.0, centroids[cluster]))
    return nearest_centroids(codes, centroids)


def nearest_centroids(codes: Tensor, centroids: Tensor) -> Tensor:
    """The centroid with the fewest differing bits, the first of equals: (time, bits), (clusters, bits) -> (time,)."""
    distances = (codes[:, None] != centroids[None]).sum(-1)
    clusters = torch.arange(len(centroids))
    return (distances * len(centroids) + clusters).argmin(-1)


def cluster_whole_numbers(codes: Tensor, first: Tensor, iterations: int, fine: int) -> Tensor:
    """Lloyd's algorithm with Euclidean distance in whole numbers, one cluster after the other.

    codes: (time, dim) whole numbers, first: (clusters,) int64, the steps whose codes are the first centroids; fine: steps of
    a centroid's number to one of a code's. A mean is rounded to the nearest step, a half square likewise, halves upwards.
    Returns (time,) int64 labels. Ties go to the lowest index, an empty cluster keeps its centroid.
    """
    codes = codes.long()
    centroids = codes[first] * fine
    clusters = torch.arange(len(first))

    def nearest() -> Tensor:
        halves = (centroids.square().sum(-1) + fine) // (2 * fine)
        scores = (codes[:, None] * centroids[None]).sum(-1) - halves
        return (scores * len(clusters) - clusters).argmax(-1)

    for _ in range(iterations):
        labels = nearest()
        for cluster in clusters.tolist():
            members = codes[labels == cluster]
            if len(members):
                centroids[cluster] = (2 * fine * members.sum(0) + len(members)) // (2 * len(members))
    return nearest()


def clustered_matrix(queries: Tensor, keys: Tensor, labels: Tensor) -> Tensor:
    """Every query's row of A^c (eqs. 3, 4 and 6): queries (time, dim), labels (time,) -> (time, keys' time)."""
    membership = torch.nn.functional.one_hot(labels).double()
    means = membership.T @ queries.double() / membership.sum(0).clamp(min=1)[:, None]
    return full_matrix(means, keys)[labels]


def top_matrix(scores: Tensor, topk: int) -> Tensor:
    """T of section 3.3: 1 at the `topk` highest of every row, equal ones by lowest index; (rows, time) -> the same shape."""
    order = scores.argsort(dim=-1, descending=True, stable=True)
    return torch.zeros_like(scores).scatter_(1, order[:, :topk], 1.0)


def improved_matrix(queries: Tensor, keys: Tensor, labels: Tensor, topk: int) -> Tensor:
    """A^t of eqs. 9 and 10: as `clustered_matrix`, with the mass of the top keys dealt out anew."""
    clustered = clustered_matrix(queries, keys, labels)
    top = top_matrix(clustered.detach(), topk)
    mass = (top * clustered).sum(-1, keepdim=True)
    exact = full_matrix(queries, keys) * top
    return torch.where(top > 0, mass * exact / exact.sum(-1, keepdim=True), clustered)


def oracle_top_matrix(queries: Tensor, keys: Tensor, topk: int) -> Tensor:
    """Full attention to every query's `topk` best keys only (section 4.1, oracle-top)."""
    attention = full_matrix(queries, keys)
    kept = attention * top_matrix(attention.detach(), topk)
    return kept / kept.sum(-1, keepdim=True)


def lsh_matrix(queries: Tensor, buckets: Tensor, chunk: int) -> Tensor:
    """Reformer's attention: softmax over the union of what the rounds find, oneself only if there is nothing else.

    queries: (time, dim), buckets: (rounds, time) int64. Returns (time, time).
    """
    time = len(queries)
    keys = torch.nn.functional.normalize(queries.double(), dim=-1, eps=1e-6)
    scores = queries.double() @ keys.T * queries.shape[1] ** -0.5
    found = torch.zeros(time, time, dtype=torch.bool)
    for bucket in buckets:
        chunk_of = torch.empty(time, dtype=torch.int64)
        chunk_of[bucket.sort(stable=True).indices] = torch.arange(time) // chunk
        behind = chunk_of[:, None] - chunk_of[None]
        found |= (behind == 0) | (behind == 1)
    found &= ~torch.eye(time, dtype=torch.bool)
    alone = ~found.any(-1)
    found |= torch.diag(alone)
    return scores.masked_fill(~found, -torch.inf).softmax(-1)

"""K-means of codes that are whole numbers, many sequences at a time: exact, and so the same to the bit everywhere.

Codes are those of `asr.kernels.hashing` (Hamming space) or `asr.kernels.spaces` (Euclidean). Both have slots to spare, which
are constant in every code; there a centroid holds what its score is to be lowered by, minus its index as a fraction of one
among it. So one product and one maximum give both the nearest centroid and its index: fraction = ceil(score) - score. No two
scores of a code are equal, and ties go to the lowest index.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from asr.kernels.seeds import first_codes
from asr.kernels.spaces import FINE, SLOTS

# Centroids that are compared at a time: index / BLOCK is exact in bfloat16, and a score with it in float32.
BLOCK = 128


@contextlib.contextmanager
def _exact_fast_products(codes: Tensor) -> Iterator[None]:
    """Lets a CPU multiply codes in bfloat16 units: products of codes and indices are exact in it, sums are float32."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # set at run time: torch's module is a class
    before = matmul.fp32_precision
    if codes.device.type == "cpu":
        matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


@torch.no_grad()
def hamming_kmeans(codes: Tensor, seeds: Tensor, iterations: int, bits: int) -> Tensor:
    """Lloyd's algorithm with Hamming distance (Vyas et al. 2020, section 3.2.2).

    Ties go to the cluster with the lowest index, an empty cluster keeps its centroid, a centroid's bit that has as many
    members for as against it stays as it was.

    codes: (batch, heads, time, width) from `hash_codes`, the last width - bits slots constant; seeds: (batch, heads, clusters)
    int64, the steps whose codes are the first centroids. Returns (batch, heads, time) int64 labels, 0 at padded steps.
    """
    index = -block_index(seeds.shape[2], codes.device) / BLOCK

    def with_index(centroids: Tensor) -> Tensor:
        centroids[..., bits:] = 0
        centroids[..., -1] = index
        return centroids

    def move(votes: Tensor, before: Tensor) -> Tensor:
        # Half a vote for the centroid as it was decides where the members do not.
        return with_index(votes.add_(before, alpha=0.5).sign_())

    return _lloyd(codes, with_index(first_codes(codes, seeds)), iterations, move)


@torch.no_grad()
def euclidean_kmeans(codes: Tensor, seeds: Tensor, iterations: int) -> Tensor:
    """Lloyd's algorithm with Euclidean distance, centroids in steps of 1/FINE, halves rounded up.

    Ties go to the cluster with the lowest index, and an empty cluster keeps its centroid.

    codes: (batch, heads, time, dim + SLOTS) from `asr.kernels.spaces.whole_codes`; seeds: (batch, heads, clusters) int64, the
    steps whose codes are the first centroids. Returns (batch, heads, time) int64 labels, 0 at padded steps.

    A score is FINE * (code . centroid - |centroid|^2 / 2), the half square rounded to a whole number.
    """
    index = -block_index(seeds.shape[2], codes.device) / BLOCK

    def with_offsets(centroids: Tensor) -> Tensor:
        halves = centroids[..., :-SLOTS].square().sum(-1).div_(2 * FINE).add_(0.5).floor_()
        high = (halves / 256).floor_()
        centroids[..., -3], centroids[..., -2], centroids[..., -1] = -high, high * 256 - halves, index
        return centroids

    def move(sums: Tensor, before: Tensor) -> Tensor:
        # The last slot is 1 in every code and so counts the members. A quotient in float32 may be rounded up to a whole number.
        counts = sums[..., -1:].double()
        means = (FINE * sums.double()).div_(counts).add_(0.5).floor_().to(before.dtype)
        return with_offsets(torch.where(counts > 0, means, before))

    # Up to this dim scores are exact in float32.
    codes = codes if codes.shape[3] <= 128 + SLOTS else codes.double()
    return _lloyd(codes, with_offsets(first_codes(codes, seeds) * FINE), iterations, move)


def block_index(clusters: int, device: torch.device) -> Tensor:
    """(clusters,) each centroid's index among those that are compared with it."""
    return torch.arange(clusters, device=device) % BLOCK


def _lloyd(codes: Tensor, centroids: Tensor, iterations: int, move: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Labels of codes (batch, heads, time, width) by centroids (groups, clusters, width).

    move: the next centroids, from the sums of the members' codes and the centroids before. Stops early when no label has
    changed, which changes no result.
    """
    batch, heads, time, width = codes.shape
    groups, clusters, _ = centroids.shape
    codes = codes.view(groups, time, width)
    offsets = torch.arange(groups, device=codes.device)[:, None] * clusters
    with _exact_fast_products(codes):
        labels = _nearest(codes, centroids)
        for _ in range(iterations):
            sums = torch.zeros_like(centroids).view(groups * clusters, width)
            sums.index_add_(0, (labels + offsets).view(-1), codes.view(groups * time, width))
            centroids = move(sums.view_as(centroids), centroids)
            previous, labels = labels, _nearest(codes, centroids)
            if torch.equal(previous, labels):
                break
    return labels.view(batch, heads, time)


def _nearest(codes: Tensor, centroids: Tensor) -> Tensor:
    """The index of the centroid with the highest score: (groups, time) int64."""

    def in_block(start: int) -> tuple[Tensor, Tensor]:
        best = torch.bmm(codes, centroids[:, start : start + BLOCK].transpose(1, 2)).amax(-1)
        score = best.ceil()
        return ((score - best) * BLOCK).long() + start, score

    labels, highest = in_block(0)
    for start in range(BLOCK, centroids.shape[1], BLOCK):
        label, score = in_block(start)
        labels = torch.where(score > highest, label, labels)
        highest = torch.maximum(highest, score)
    return labels

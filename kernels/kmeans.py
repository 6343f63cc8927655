"""K-means of binary codes in Hamming space, many sequences at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from asr.kernels.hashing import INDEX_BASE


def first_centroids(lengths: Tensor, clusters: int) -> Tensor:
    """Steps whose codes are the first centroids: evenly spread over the valid ones.

    The same for a length whatever the padding, the batch and the device; with as many clusters as steps every step is one.
    lengths: (batch,) int64. Returns (batch, clusters) int64.
    """
    middles = torch.arange(clusters, device=lengths.device) * 2 + 1
    return middles * lengths[:, None] // (2 * clusters)


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
def hamming_kmeans(codes: Tensor, lengths: Tensor | None, clusters: int, iterations: int, bits: int) -> Tensor:
    """Lloyd's algorithm with Hamming distance (Vyas et al. 2020, section 3.2.2).

    Ties go to the cluster with the lowest index, an empty cluster keeps its centroid, a centroid's bit that has as many
    members for as against it stays as it was. Stops early when no label has changed, which changes no result.

    codes: (batch, heads, time, width) from `hash_codes`, the last width - bits slots constant.
    Returns (batch, heads, time) int64 labels, 0 at padded steps.

    A centroid's spare slots hold minus its index as a fraction of one, so that no two scores of a code are equal and one
    maximum gives both the nearest centroid and its index: fraction = ceil(score) - score.
    """
    batch, heads, time, width = codes.shape
    groups = batch * heads
    steps = torch.full((batch,), time, device=codes.device) if lengths is None else lengths
    codes = codes.reshape(groups, time, width)
    index = torch.arange(clusters, device=codes.device)
    spare = torch.zeros(clusters, width - bits, device=codes.device)
    if clusters <= INDEX_BASE:
        scale = INDEX_BASE
        spare[:, -1] = -index / scale
    else:
        if width - bits < 2:
            codes, spare = torch.cat([codes, codes[..., -1:]], -1), torch.zeros(clusters, 2, device=codes.device)
            width += 1
        scale = INDEX_BASE**2
        spare[:, -2], spare[:, -1] = -(index // INDEX_BASE) / INDEX_BASE, -(index % INDEX_BASE) / scale

    flat_codes = codes.view(groups * time, width)
    sequences = torch.arange(groups, device=codes.device)[:, None]
    first = first_centroids(steps, clusters).repeat_interleave(heads, 0) + sequences * time
    centroids = flat_codes.index_select(0, first.view(-1)).view(groups, clusters, width)
    centroids[..., bits:] = spare
    offsets = sequences * clusters
    labels = None
    with _exact_fast_products(codes):
        for iteration in range(iterations + 1):
            best = torch.bmm(codes, centroids.transpose(1, 2)).amax(-1)
            previous, labels = labels, ((best.ceil() - best) * scale).long()
            if iteration == iterations or (previous is not None and torch.equal(previous, labels)):
                break
            # Half a vote for the centroid as it was decides where the members do not.
            votes = centroids.mul_(0.5).view(groups * clusters, width)
            votes.index_add_(0, (labels + offsets).view(-1), flat_codes).sign_()
            centroids[..., bits:] = spare
    return labels.view(batch, heads, time)

"""Clusters: their means, what these attend to, and the way back to the members."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asr.kernels.padding import additive_mask, valid_steps
from asr.kernels.selection import top_keys


def flat_labels(labels: Tensor, clusters: int) -> Tensor:
    """Labels (batch, heads, time) as rows of a (batch * heads * clusters, ...) table: (batch * heads * time,) int64."""
    offsets = torch.arange(labels.shape[0] * labels.shape[1], device=labels.device) * clusters
    return (labels.flatten(0, 1) + offsets[:, None]).flatten()


def broadcast(table: Tensor, labels: Tensor) -> Tensor:
    """Every member gets its cluster's row (eq. 6): (batch, heads, clusters, dim) -> (batch, heads, time, dim)."""
    rows = table.flatten(0, 2).index_select(0, flat_labels(labels, table.shape[2]))
    return rows.view(*labels.shape, table.shape[3])


def cluster_means(queries: Tensor, labels: Tensor, lengths: Tensor | None, clusters: int) -> tuple[Tensor, Tensor]:
    """The mean of every cluster's members (eq. 3), zero for an empty cluster.

    queries: (batch, heads, time, dim), zero at padded steps; labels: (batch, heads, time) int64.
    Returns the means (batch, heads, clusters, dim) and the numbers of members (batch, heads, clusters), of the same dtype.
    """
    batch, heads, time, dim = queries.shape
    rows = flat_labels(labels, clusters)
    sums = queries.new_zeros(batch * heads * clusters, dim).index_add(0, rows, queries.reshape(-1, dim))
    ones = queries.new_ones(batch, heads, time)
    if lengths is not None:
        ones = ones * valid_steps(lengths, time)[:, None]
    counts = queries.new_zeros(batch * heads * clusters).index_add_(0, rows, ones.flatten())
    means = sums / counts.clamp(min=1)[:, None]
    return means.view(batch, heads, clusters, dim), counts.view(batch, heads, clusters)


def scaled_scores(rows: Tensor, keys: Tensor, key_lengths: Tensor | None) -> Tensor:
    """Scores of eq. 1 inside the softmax, hugely negative at padded keys.

    rows: (batch, heads, rows, dim), keys: (batch, heads, time, dim). Returns (batch, heads, rows, time).
    """
    scores = torch.matmul(rows * rows.shape[-1] ** -0.5, keys.transpose(2, 3))
    if key_lengths is not None:
        scores = scores + additive_mask(key_lengths, keys.shape[2], scores.dtype)[:, None, None]
    return scores


def centroid_attention(
    means: Tensor, keys: Tensor, values: Tensor, key_lengths: Tensor | None, topk: int, occupied: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The attention of cluster means, its top keys set apart (eqs. 4, 5 and 9).

    means: (batch, heads, clusters, dim), keys: (batch, heads, time, dim), values: (batch, heads, time, value dim),
    occupied: (batch, heads, clusters) bool, which clusters have members.
    Returns the values weighted by attention outside the top keys (batch, heads, clusters, value dim), the mass of attention
    on the top keys (batch, heads, clusters, 1), and the top keys, see `top_keys`. The first two carry exact gradients.
    """
    return _CentroidAttention.apply(means, keys, values, key_lengths, topk, occupied)


class _CentroidAttention(torch.autograd.Function):
    # Written out because autograd would keep half a dozen (clusters, time) tables; this keeps one.
    @staticmethod
    def forward(
        context: Any,
        means: Tensor,
        keys: Tensor,
        values: Tensor,
        key_lengths: Tensor | None,
        topk: int,
        occupied: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        scores = scaled_scores(means, keys, key_lengths)
        selected = top_keys(scores, topk, occupied)
        weights = scores.softmax(-1)
        top_weights = weights.gather(3, selected)
        others = weights.scatter_(3, selected, 0)
        output = others @ values
        mass = top_weights.sum(-1, keepdim=True)
        context.mark_non_differentiable(selected)
        context.save_for_backward(means, keys, values, others, top_weights, selected, output, mass)
        return output, mass, selected

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad_output: Tensor, grad_mass: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        means, keys, values, others, top_weights, selected, output, mass = context.saved_tensors
        scale = means.shape[-1] ** -0.5
        grad_values = others.transpose(2, 3) @ grad_output
        shift = (grad_output * output).sum(-1, keepdim=True) + grad_mass * mass
        grad_scores = (grad_output @ values.transpose(2, 3)).sub_(shift).mul_(others)
        grad_scores.scatter_(3, selected, top_weights * (grad_mass - shift))
        grad_means = (grad_scores @ keys).mul_(scale)
        grad_keys = grad_scores.transpose(2, 3) @ (means * scale)
        return grad_means, grad_keys, grad_values, None, None, None

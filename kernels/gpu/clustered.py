"""Clustered attention and its improved form on a GPU: `asr::clustered` and its backward pass, composed of kernels.

What is kept for the backward pass is linear in time: queries, keys and values, the order of the members, and tables with a
row per cluster. Nothing waits for the GPU, so that a pass can be captured in a CUDA graph.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from asr.kernels.gpu.centroids import TopGradients, centroid_gradients
from asr.kernels.gpu.clusters import cluster_means, cluster_sums, spread
from asr.kernels.gpu.grouping import place
from asr.kernels.gpu.kmeans import MAXIMUM_CLUSTERS
from asr.kernels.gpu.labels import cluster_queries
from asr.kernels.gpu.launch import along_dim, heads_last, heads_last_like, in_row, padded, refusal_of
from asr.kernels.gpu.members import member_attention, member_gradients
from asr.kernels.gpu.plan import planned
from asr.kernels.gpu.selection import MAXIMUM_TOPK, Attended, attend_rows
from asr.kernels.hashing import Planes
from asr.kernels.spaces import Space

MAXIMUM_BITS = 63


@torch.library.custom_op("asr::clustered", mutates_args=())
def clustered_op(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor | None,
    key_lengths: Tensor | None,
    normals: Tensor | None,
    offsets: Tensor | None,
    bits: int,
    clusters: int,
    iterations: int,
    topk: int,
    space: str = "hash",
    seeds: str = "even",
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Output and what the backward pass needs; `topk` 0 is clustered attention.

    Returns output (batch, heads, queries' time, value dim); labels and order (groups, queries' time) int32, start
    (groups, clusters + 1) int32, means (batch, heads, clusters, dim); and what `attend_rows` returns, empty where nothing is.
    """
    tensors = along_dim(queries), along_dim(keys), along_dim(values), lengths, key_lengths, normals, offsets
    return planned(_forward, tensors, bits, clusters, iterations, topk, space, seeds)


@clustered_op.register_fake
def _(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor | None,
    key_lengths: Tensor | None,
    normals: Tensor | None,
    offsets: Tensor | None,
    bits: int,
    clusters: int,
    iterations: int,
    topk: int,
    space: str = "hash",
    seeds: str = "even",
) -> tuple[Tensor, ...]:
    batch, heads, time, dim = queries.shape
    groups, value_dim = batch * heads, values.shape[3]
    rows = [groups, clusters]
    integers: dict[str, Any] = {"dtype": torch.int32}
    numbers: dict[str, Any] = {"dtype": torch.float32}
    return (
        heads_last(batch, heads, time, value_dim, values.dtype, values.device),
        queries.new_empty(groups, time, **integers),
        queries.new_empty(groups, time, **integers),
        queries.new_empty(groups, clusters + 1, **integers),
        queries.new_empty(batch, heads, clusters, dim),
        queries.new_empty(*rows, value_dim, **numbers),
        queries.new_empty(rows, **numbers),
        queries.new_empty([*rows, padded(topk)] if topk else [0], **integers),
        queries.new_empty([*rows, padded(topk)] if topk else [0], **numbers),
        queries.new_empty(rows if topk else [0], **numbers),
    )


def _forward(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor | None,
    key_lengths: Tensor | None,
    normals: Tensor | None,
    offsets: Tensor | None,
    bits: int,
    clusters: int,
    iterations: int,
    topk: int,
    space: str,
    seeds: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    planes = None if normals is None or offsets is None else Planes(normals, offsets, bits)
    labels, counts = cluster_queries(queries, lengths, keys, key_lengths, planes or space, clusters, iterations, seeds)
    order, start = place(labels, counts)
    means = cluster_means(queries, order, start)
    attended = attend_rows(means, keys, values, key_lengths, topk, start)
    if topk:
        output = member_attention(queries, keys, values, lengths, order, start, attended)
    else:
        output = spread(attended.output, labels, queries.shape[0], values.dtype)
    selected, weights, mass = attended.selected, attended.weights, attended.mass
    if selected is None or weights is None or mass is None:
        selected = labels.new_empty(0)
        weights, mass = (means.new_empty(0, dtype=torch.float32) for _ in range(2))
    return output, labels, order, start, means, attended.output, attended.lse, selected, weights, mass


@torch.library.custom_op("asr::clustered_backward", mutates_args=())
def clustered_backward_op(
    grad: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    key_lengths: Tensor | None,
    labels: Tensor,
    order: Tensor,
    start: Tensor,
    means: Tensor,
    output: Tensor,
    lse: Tensor,
    selected: Tensor,
    weights: Tensor,
    mass: Tensor,
    topk: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values, in the (batch, time, heads, dim) layout; zero at padded steps."""
    inputs = along_dim(grad), along_dim(queries), along_dim(keys), along_dim(values), key_lengths
    return planned(_backward_pass, (*inputs, labels, order, start, means, output, lse, selected, weights, mass), topk)


def _backward_pass(
    grad: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    key_lengths: Tensor | None,
    labels: Tensor,
    order: Tensor,
    start: Tensor,
    means: Tensor,
    output: Tensor,
    lse: Tensor,
    selected: Tensor,
    weights: Tensor,
    mass: Tensor,
    topk: int,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_queries = grad_means = top = None
    if topk:
        attended = Attended(output, lse, selected, weights, mass)
        gradients = member_gradients(grad, queries, keys, values, order, start, means, attended)
        grad_queries, grad_sums, shifts, grad_top_keys, grad_top_values, grad_means = gradients
        top = TopGradients(selected, grad_top_keys, grad_top_values)
    else:
        grad_sums, shifts = cluster_sums(grad, order, start, output)
    shares, grad_keys, grad_values = centroid_gradients(
        means, keys, values, grad_sums, lse, shifts, start, key_lengths, top, grad_means
    )
    return spread(shares, labels, queries.shape[0], queries.dtype, grad_queries), grad_keys, grad_values


@clustered_backward_op.register_fake
def _(grad: Tensor, queries: Tensor, keys: Tensor, values: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return heads_last_like(queries), heads_last_like(keys), heads_last_like(values)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    queries, keys, values, _, key_lengths = inputs[:5]
    ctx.topk = inputs[10]
    # Without this the backward pass is handed zeros for all of the other outputs.
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(queries, keys, values, key_lengths, *output[1:])


def _backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 13
    gradients = clustered_backward_op(grad, *ctx.saved_tensors, ctx.topk)
    return *gradients, *[None] * 10


clustered_op.register_autograd(_backward, setup_context=_keep)


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
    """As `asr.kernels.clustered.clustered_attention`."""
    return improved_clustered_attention(
        queries, keys, values, lengths, key_lengths, space, clusters, iterations, topk=0, seeds=seeds
    )


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
    """As `asr.kernels.clustered.improved_clustered_attention`."""
    # Only if it must be: what depends on the time is compiled for every time.
    topk = topk if topk <= MAXIMUM_TOPK else min(topk, keys.shape[2])
    lengths, key_lengths = in_row(lengths), in_row(key_lengths)
    return clustered_op(
        queries,
        keys,
        values,
        lengths,
        key_lengths,
        *(space if isinstance(space, Planes) else (None, None, 0)),
        clusters,
        iterations,
        topk,
        "hash" if isinstance(space, Planes) else space,
        seeds,
    )[0]


def refusal(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor | None,
    key_lengths: Tensor | None,
    space: Space,
    clusters: int,
    iterations: int,
    topk: int = 0,
    *,
    seeds: str = "even",
) -> str | None:
    """Why the kernels do not cover these arguments, in a sentence; None if they do."""
    refused = refusal_of(queries=queries, keys=keys, values=values)
    if refused is not None:
        return refused
    if clusters > MAXIMUM_CLUSTERS:
        return f"clusters is {clusters}, expected at most {MAXIMUM_CLUSTERS} for Triton kernels"
    if isinstance(space, Planes) and space.bits > MAXIMUM_BITS:
        return f"bits is {space.bits}, expected at most {MAXIMUM_BITS} for Triton kernels"
    if min(topk, keys.shape[2]) > MAXIMUM_TOPK:
        return f"topk is {topk}, expected at most {MAXIMUM_TOPK} for Triton kernels"
    return None

"""Attention to every query's highest keys (Gupta et al. 2021, "Memory-efficient Transformers via Top-k Attention")."""

from __future__ import annotations

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from asr.kernels.centroids import scaled_scores
from asr.kernels.dispatch import step
from asr.kernels.members import selection_mask
from asr.kernels.padding import valid_steps, zero_padded
from asr.kernels.selection import top_keys

# Scores that exist at a time; queries go in chunks of as many rows as that allows.
CHUNK_SCORES = 1 << 24


def triton_version() -> ModuleType:
    """Imported when it is called for: Triton is slow to import, and not everywhere."""
    import asr.kernels.gpu.topk

    return asr.kernels.gpu.topk


@step(triton=triton_version)
def topk_attention(
    queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None, topk: int
) -> Tensor:
    """Softmax over every query's `topk` highest keys, equal ones by lowest index; exact, and quadratic in time.

    queries: (batch, heads, queries' time, dim), keys: (batch, heads, time, dim), values: (batch, heads, time, value dim),
    lengths and key_lengths: (batch,) int64 or None; what stands at padded steps does not matter. Computes in float32 at
    least; the selection is a constant to the gradient. Returns (batch, heads, queries' time, value dim).
    """
    queries, keys, values = (x.float() if x.element_size() < 4 else x for x in (queries, keys, values))
    queries, keys, values = (
        zero_padded(queries, lengths),
        zero_padded(keys, key_lengths),
        zero_padded(values, key_lengths),
    )
    batch, heads, time, _ = queries.shape
    if lengths is None:
        valid = torch.ones(batch, 1, time, dtype=torch.bool, device=queries.device)
    else:
        valid = valid_steps(lengths, time)[:, None]
    rows = max(1, CHUNK_SCORES // (batch * heads * keys.shape[2]))
    chunks = list(zip(queries.split(rows, dim=2), valid.split(rows, dim=2)))
    if len(chunks) == 1:
        return zero_padded(_attend(queries, valid, keys, values, key_lengths, topk), lengths)
    # Scores are computed again in the backward pass, so that memory stays linear in time.
    outputs = [checkpoint(_attend, *chunk, keys, values, key_lengths, topk, use_reentrant=False) for chunk in chunks]
    return zero_padded(torch.cat(outputs, 2), lengths)


def _attend(
    queries: Tensor, valid: Tensor, keys: Tensor, values: Tensor, key_lengths: Tensor | None, topk: int
) -> Tensor:
    with torch.no_grad():
        selected = top_keys(scaled_scores(queries, keys, key_lengths), topk, valid)
        mask = selection_mask(selected, keys.shape[2], key_lengths, queries.dtype)
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)

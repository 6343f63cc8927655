"""The attention matrix of any part, read off its own arithmetic; and how far one matrix is from another."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from asr.model.attention.base import Attention


class Projections(NamedTuple):
    """What one layer's attention was given: queries and keys (batch, heads, time, dim), the lengths (batch,) or None.

    Where one projection gives both, `keys` is `queries`. seed: of what the layer's attention draws. attention: that module,
    with its weights.
    """

    queries: Tensor
    keys: Tensor
    lengths: Tensor | None
    seed: int
    attention: Attention | None = None


def attention_matrix(attention: Attention, queries: Tensor, keys: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The weights with which `attention` mixes the values of keys for every query: (batch, heads, queries' time, time).

    Every attention is linear in its values: output i is the sum over j of A[i, j] values[j]. With the identity matrix for
    values, output i is therefore row i of A itself. That needs nothing of the part but its `forward`, so it is exact for
    every registered attention, those to come included, and shows what is computed rather than what was meant.

    queries, keys: (batch, heads, time, dim), one tensor for both where the part shares them. lengths: (batch,) int64 or
    None. Takes batch * heads * time² values of memory.
    """
    batch, heads, time, _ = keys.shape
    identity = torch.eye(time, dtype=keys.dtype, device=keys.device).expand(batch, heads, time, time).contiguous()
    with torch.inference_mode():
        return attention(queries, keys, identity, lengths)


def capture_projections(module: torch.nn.Module, run: Callable[[], object]) -> list[Projections]:
    """Calls `run`, which runs `module`, and returns what each attention in it was given, in the order in which they ran."""
    captured: list[Projections] = []

    def keep(attention: Attention, arguments: tuple, named: dict) -> None:
        given = dict(zip(("queries", "keys", "values", "lengths"), arguments)) | named
        captured.append(Projections(given["queries"], given["keys"], given.get("lengths"), attention.seed, attention))

    hooks = [
        part.register_forward_pre_hook(keep, with_kwargs=True)
        for part in module.modules()
        if isinstance(part, Attention)
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return captured


class Distance(NamedTuple):
    """How far an attention matrix is from full attention's, as means over heads and queries.

    l1: the sum over keys of |difference|, from 0 (the same) to 2 (not a key in common), as in Vyas et al. 2020,
        section 3.3.1.
    captured: the share of full attention's weight on each query's top keys that the other matrix has on them too
        (the smaller of both weights, so that too much on one key does not make up for too little on another).
    concentration: how much of its weight full attention puts on these keys.
    """

    l1: float
    captured: float
    concentration: float


def distance(matrix: Tensor, full: Tensor, topk: int) -> Distance:
    """The `Distance` of `matrix` from `full`, both (heads, queries' time, time); topk: how many keys are a query's top."""
    matrix, full = matrix.double(), full.double()
    weights, keys = full.topk(min(topk, full.shape[-1]), dim=-1)
    both = torch.minimum(matrix.gather(-1, keys), weights).sum(-1)
    top = weights.sum(-1)
    return Distance((matrix - full).abs().sum(-1).mean().item(), (both / top).mean().item(), top.mean().item())

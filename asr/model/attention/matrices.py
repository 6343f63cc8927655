"""The attention matrix of any attention, computed by the attention itself; and the distance between two matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from asr.model.attention.base import Attention


class Projections(NamedTuple):
    """The arguments of one layer's attention: queries and keys (batch, heads, time, dim), lengths (batch,) or None.

    With shared queries and keys, `keys` is `queries`. seed: of the attention's random draws. attention: the module itself,
    with its weights.
    """

    queries: Tensor
    keys: Tensor
    lengths: Tensor | None
    seed: int
    attention: Attention | None = None


def attention_matrix(attention: Attention, queries: Tensor, keys: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The weights that `attention` gives to the values, for every query: (batch, heads, queries' time, time).

    Every attention is linear in its values: output i is the sum over j of A[i, j] values[j]. With the identity matrix as
    values, output i is row i of A. Only `forward` is called, so this is exact for every registered attention, present and
    future, and shows what is computed, not what was intended.

    queries, keys: (batch, heads, time, dim), one tensor if the attention shares them. lengths: (batch,) int64 or None. Takes
    batch * heads * time² values of memory.
    """
    batch, heads, time, _ = keys.shape
    identity = torch.eye(time, dtype=keys.dtype, device=keys.device).expand(batch, heads, time, time).contiguous()
    with torch.inference_mode():
        return attention(queries, keys, identity, lengths)


def capture_projections(module: torch.nn.Module, run: Callable[[], object]) -> list[Projections]:
    """Calls `run`, which runs `module`, and returns the arguments of each attention in it, in the order of the calls."""
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
    """Distance of an attention matrix from full attention's, as means over heads and queries.

    l1: the sum over keys of |difference|, from 0 (equal) to 2 (no key in common), as in Vyas et al. 2020, section 3.3.1.
    captured: of full attention's weight on each query's top keys, the share that the other matrix puts there too (the smaller
        of the two weights, so that an excess on one key does not make up for a lack on another).
    concentration: the weight that full attention puts on these keys, from 0 to 1.
    """

    l1: float
    captured: float
    concentration: float


def distance(matrix: Tensor, full: Tensor, topk: int) -> Distance:
    """The `Distance` of `matrix` from `full`, both (heads, queries' time, time); topk: number of top keys per query."""
    matrix, full = matrix.double(), full.double()
    weights, keys = full.topk(min(topk, full.shape[-1]), dim=-1)
    both = torch.minimum(matrix.gather(-1, keys), weights).sum(-1)
    top = weights.sum(-1)
    return Distance((matrix - full).abs().sum(-1).mean().item(), (both / top).mean().item(), top.mean().item())

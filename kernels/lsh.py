"""Attention among positions that hash alike (Kitaev, Kaiser, Levskaya 2020, "Reformer").

In every round positions are hashed, sorted by (bucket, position) and cut into chunks; a chunk attends to itself and the
chunk before. Rounds are merged by log-sum-exp, a key that several rounds find for a query being counted once, so that the
result is softmax attention over the union of what the rounds find (Reformer's eqs. 4-6 and its section on multi-round
attention, with N_ij). Two readings of the paper: the neighbouring chunk counts whatever its bucket (the set of its eq. 6),
and the first chunk has none before it, because the last one is not its neighbour in the order.
"""

from __future__ import annotations

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from asr.kernels.dispatch import step
from asr.kernels.padding import SELF_SCORE, masked_score, valid_steps, zero_padded

ROTATION_BLOCK = 64
# Projections that exist at a time while hashing.
PIECE_PROJECTIONS = 1 << 24


def half_buckets(lengths: Tensor, chunk: int) -> Tensor:
    """Half the number of buckets, (batch,) int64: 2 * time / chunk buckets as in the paper, at least two."""
    return -(-lengths // chunk).clamp(max=-1)


def draw_rotations(rounds: int, dim: int, columns: int, seed: int, device: torch.device | str = "cpu") -> Tensor:
    """Random directions (at least `columns`, rounds, dim) float32; more columns never change the first ones."""
    generator = torch.Generator().manual_seed(seed)
    blocks = [
        torch.randn(ROTATION_BLOCK, rounds, dim, generator=generator) for _ in range(-(-columns // ROTATION_BLOCK))
    ]
    return torch.cat(blocks).to(device)


@torch.no_grad()
def lsh_buckets(queries: Tensor, rotations: Tensor, lengths: Tensor, chunk: int) -> Tensor:
    """The bucket of every position: argmax of [xR; -xR], in as many buckets as the sequence's own length asks for.

    queries: (batch, heads, time, dim), rotations: (columns, rounds, dim), lengths: (batch,) int64.
    Returns (batch, heads, rounds, time) int64; padded positions are in a bucket after all others.
    """
    batch, heads, time, dim = queries.shape
    rounds = rotations.shape[1]
    columns = -(-time // chunk)
    directions = rotations[:columns].permute(1, 2, 0).reshape(1, 1, rounds, dim, columns)
    unused = torch.arange(columns, device=queries.device) >= half_buckets(lengths, chunk)[:, None]
    pieces = []
    for piece in queries.float()[:, :, None].split(max(1, PIECE_PROJECTIONS // (batch * heads * rounds * columns)), 3):
        projections = torch.matmul(piece, directions)
        # The largest of [xR; -xR] is the largest magnitude, on the side that its sign says.
        column = projections.abs().masked_fill_(unused[:, None, None, None], -1).max(-1, keepdim=True).indices
        negative = projections.gather(-1, column) < 0
        pieces.append((column + columns * negative)[..., 0])
    padding = ~valid_steps(lengths, time)[:, None, None]
    return torch.cat(pieces, -1).masked_fill_(padding, 2 * columns)


def triton_version() -> ModuleType:
    """Imported when it is called for: Triton is slow to import, and not everywhere."""
    import asr.kernels.gpu.lsh

    return asr.kernels.gpu.lsh


@step(triton=triton_version)
def lsh_attention(queries: Tensor, values: Tensor, lengths: Tensor | None, rotations: Tensor, chunk: int) -> Tensor:
    """Attention of queries to unit-length copies of themselves, in chunks of hashed order.

    A position attends to itself only if there is nothing else. Computes in float32 at least.

    queries: (batch, heads, time, dim), values: (batch, heads, time, value dim), whatever stands at padded steps,
    lengths: (batch,) int64 or None, rotations: (columns, rounds, dim) of at least time / chunk columns.
    Returns (batch, heads, time, value dim). Memory grows with rounds * time * chunk, time as well but for the hashing:
    as buckets grow with the sequence, that takes rounds * time * time / chunk * dim products.
    """
    valid = lengths
    if lengths is None:
        lengths = torch.full((len(queries),), queries.shape[2], device=queries.device)
    queries, values = zero_padded(queries, valid), zero_padded(values, valid)
    output = bucket_attention(queries, values, lengths, lsh_buckets(queries, rotations, lengths, chunk), chunk)
    return zero_padded(output, valid)


def bucket_attention(queries: Tensor, values: Tensor, lengths: Tensor, buckets: Tensor, chunk: int) -> Tensor:
    """`lsh_attention` in given buckets (batch, heads, rounds, time) int64, those of padded steps after all others."""
    queries, values = (x.float() if x.element_size() < 4 else x for x in (queries, values))
    batch, heads, time, dim = queries.shape
    rounds = buckets.shape[2]
    groups = batch * heads
    chunks = -(-time // chunk)
    extra = chunks * chunk - time
    buckets = F.pad(buckets, (0, extra), value=2 * chunks + 1).view(groups, rounds, -1)
    order = buckets.sort(dim=-1, stable=True).indices
    ranks = torch.empty_like(order).scatter_(
        2, order, torch.arange(chunks * chunk, device=order.device).expand_as(order)
    )

    sorted_queries = _in_order(F.pad(queries, (0, 0, 0, extra)), order, chunk)
    sorted_values = _with_previous(_in_order(F.pad(values, (0, 0, 0, extra)), order, chunk))
    sorted_keys = _with_previous(F.normalize(sorted_queries, dim=-1, eps=1e-6))
    scores = torch.matmul(sorted_queries * dim**-0.5, sorted_keys.transpose(3, 4))

    places = order.view(groups, rounds, chunks, chunk)
    key_places = _with_previous(places[..., None], fill=-1)[..., 0]
    limits = lengths.repeat_interleave(heads)[:, None, None, None]
    missing = ((key_places < 0) | (key_places >= limits))[..., None, :]
    itself = places[..., :, None] == key_places[..., None, :]
    scores = scores - _times_found(ranks // chunk, places, key_places.clamp(min=0)).to(scores.dtype).log()
    scores = scores.masked_fill(itself, SELF_SCORE).masked_fill(missing, masked_score(scores.dtype))

    totals = scores.logsumexp(-1, keepdim=True)
    outputs = torch.matmul((scores - totals).exp(), sorted_values)
    totals = totals.view(groups, rounds, -1).gather(2, ranks)
    shares = totals.softmax(1)[..., None]
    outputs = outputs.view(groups, rounds, chunks * chunk, -1)
    outputs = outputs.gather(2, ranks[..., None].expand_as(outputs))
    return (shares * outputs).sum(1)[:, :time].view(batch, heads, time, -1)


def _in_order(x: Tensor, order: Tensor, chunk: int) -> Tensor:
    """(batch, heads, time, dim) sorted by order (groups, rounds, time): (groups, rounds, chunks, chunk, dim)."""
    groups, rounds, time = order.shape
    rows = order + torch.arange(groups, device=order.device)[:, None, None] * time
    x = x.reshape(groups * time, -1).index_select(0, rows.flatten())
    return x.view(groups, rounds, time // chunk, chunk, -1)


def _with_previous(x: Tensor, fill: int = 0) -> Tensor:
    """Chunks beside the chunks before them: (groups, rounds, chunks, chunk, dim) -> (..., 2 * chunk, dim)."""
    previous = F.pad(x[:, :, :-1], (0, 0, 0, 0, 1, 0), value=fill)
    return torch.cat([previous, x], 3)


def _times_found(chunk_of: Tensor, places: Tensor, key_places: Tensor) -> Tensor:
    """In how many rounds a query finds a key, N_ij: (groups, rounds, chunks, chunk, 2 * chunk) int64, at least 1.

    chunk_of: (groups, rounds, time), the chunk of every position in every round.
    """
    groups, rounds = chunk_of.shape[:2]
    if rounds == 1:
        return torch.ones((), dtype=torch.int64, device=chunk_of.device)
    found = torch.zeros((), dtype=torch.int64, device=chunk_of.device)
    for other in range(rounds):
        of = chunk_of[:, other]
        mine = of.gather(1, places.reshape(groups, -1)).view(places.shape)
        theirs = of.gather(1, key_places.reshape(groups, -1)).view(key_places.shape)
        behind = mine[..., :, None] - theirs[..., None, :]
        found = found + ((behind == 0) | (behind == 1)).long()
    return found.clamp_(min=1)

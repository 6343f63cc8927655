"""Codes of queries as small whole numbers, in which Euclidean k-means is exact.

`queries`: the queries themselves. `scores`: such that the distance of two codes is that of the scores that the keys give the
two queries: (q - c)' M (q - c), with M the covariance of the valid keys.

Every step works with whole numbers or with one number at a time, so neither padding nor batch changes a bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asr.kernels.hashing import Planes
from asr.kernels.padding import valid_steps

SPACES = ("hash", "queries", "scores")
# Hash planes, or the name of another space.
Space = Planes | str
# Codes are from -LEVELS to LEVELS, centroids in steps of 1 / FINE: up to 128 numbers a code a score of k-means has less than
# 17 bits, and so is exact in float32 beside 7 bits of an index.
LEVELS, FINE = 15, 3
# Constant behind each code: 256 and 1 for the two digits of a centroid's half square, 1 for its index.
SLOTS = 3
# Numbers that a product of matrices takes exactly even in bfloat16.
WIDE = 127
# Below this share of the keys' average variance there is taken to be some in every direction.
LEAST_VARIANCE = 1e-4


@torch.no_grad()
def whole_codes(queries: Tensor, lengths: Tensor | None) -> Tensor:
    """(batch, heads, time, dim) -> (batch, heads, time, dim + SLOTS) float32, all zero at padded steps."""
    numbers = whole_numbers(queries, lengths, LEVELS)
    slots = numbers.new_tensor([256.0, 1.0, 1.0]).expand(*numbers.shape[:3], SLOTS)
    codes = torch.cat([numbers, slots], -1)
    return codes if lengths is None else codes * valid_steps(lengths, queries.shape[2])[:, None, :, None]


@torch.no_grad()
def seen_by_keys(queries: Tensor, lengths: Tensor | None, keys: Tensor, key_lengths: Tensor | None) -> Tensor:
    """Queries times a factor F of the keys' covariance, F F' = M, in float32 whole numbers: (batch, heads, time, dim)."""
    numbers = whole_numbers(queries, lengths, WIDE)
    factor = key_factor(keys, key_lengths)
    return torch.matmul(numbers, whole_numbers(factor, None, WIDE, centred=False))


def key_factor(keys: Tensor, key_lengths: Tensor | None) -> Tensor:
    """The Cholesky factor of the covariance of the valid keys, up to a scale: (batch, heads, dim, dim) float64."""
    numbers = whole_numbers(keys, key_lengths, LEVELS)
    count = torch.tensor(keys.shape[2]) if key_lengths is None else key_lengths[:, None, None, None]
    # Whole numbers, exact in float64. A product of more keys is not in float32.
    exact = numbers if keys.shape[2] < 2**24 // LEVELS**2 else numbers.double()
    sums = exact.sum(2, keepdim=True).double()
    covariance = count * torch.matmul(exact.transpose(2, 3), exact).double() - sums.transpose(2, 3) * sums
    variance = covariance.diagonal(dim1=2, dim2=3).mean(-1)[..., None]
    # Without any keys, or with none but equal ones, every direction is alike.
    ridge = (LEAST_VARIANCE * variance).clamp(min=1).expand(*variance.shape[:2], keys.shape[3])
    return torch.linalg.cholesky_ex(covariance + torch.diag_embed(ridge))[0]


def whole_numbers(x: Tensor, lengths: Tensor | None, levels: int, centred: bool = True) -> Tensor:
    """x as whole numbers from -levels to levels, one scale for a head of a sequence; float32, zero at padded steps.

    centred: moved so that the valid steps reach equally far up and down in every dimension, which changes no distance.
    x: (batch, heads, time, dim), lengths: (batch,) int64 or None.
    """
    x = x.detach().float()
    valid = None if lengths is None else valid_steps(lengths, x.shape[2])[:, None, :, None]
    high = (x if valid is None else x.masked_fill(~valid, -torch.inf)).amax(2, keepdim=True)
    low = (x if valid is None else x.masked_fill(~valid, torch.inf)).amin(2, keepdim=True)
    if centred:
        x = x - (high + low) / 2
        widest = (high - low).amax(3, keepdim=True) / 2
    else:
        widest = torch.maximum(high, -low).amax(3, keepdim=True)
    numbers = (x * (levels / widest.clamp(min=1e-30))).round_()
    # Numbers even where queries hold none: they become indices.
    numbers = numbers.nan_to_num_(0.0, 0.0, 0.0).clamp_(-levels, levels)
    return numbers if valid is None else numbers.masked_fill_(~valid, 0)

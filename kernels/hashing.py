"""Codes of queries: the signs of random projections."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from asr.kernels.padding import valid_steps


class Planes(NamedTuple):
    """Hash planes with room for a cluster's index.

    normals: (width, dim) float32; the rows from `bits` on are zero. offsets: (width,) float32; +1 from `bits` on, so that
    those slots are +1 in every code, and before that a hair below zero, so that there is no sign but + and -.
    """

    normals: Tensor
    offsets: Tensor
    bits: int

    @property
    def dim(self) -> int:
        return self.normals.shape[1]

    @property
    def device(self) -> torch.device:
        return self.normals.device


def draw_planes(bits: int, dim: int, seed: int, device: torch.device | str = "cpu") -> Planes:
    """Random hyperplanes through the origin, the same for a seed on every device.

    The width is a multiple of 32 with at least one slot to spare (63 bits: 64 wide), which is what matrix units like.
    """
    width = -(-(bits + 1) // 32) * 32
    generator = torch.Generator().manual_seed(seed)
    normals = torch.zeros(width, dim)
    normals[:bits] = torch.randn(bits, dim, generator=generator)
    offsets = torch.full((width,), -torch.finfo(torch.float32).tiny)
    offsets[bits:] = 1
    return Planes(normals.to(device), offsets.to(device), bits)


def hash_codes(queries: Tensor, planes: Planes, lengths: Tensor | None) -> Tensor:
    """Signs of the queries' projections (Vyas et al. 2020, section 3.2.2).

    queries: (batch, heads, time, dim), lengths: (batch,) int64 or None.
    Returns (batch, heads, time, width) float32: +1 or -1 (zero counts as negative), +1 in the slots to spare, and all zeros
    at padded steps, so that these count for nothing.
    """
    codes = F.linear(queries.detach().float(), planes.normals, planes.offsets).sign_()
    if lengths is not None:
        codes *= valid_steps(lengths, queries.shape[2])[:, None, :, None]
    return codes

"""The keys with the highest scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy

# Blocks that a row is divided into, for each key: then the `topk`-th highest of their maxima is reached by few more numbers.
BLOCKS = 2


@torch.no_grad()
def top_keys(scores: Tensor, topk: int, rows: Tensor | None = None) -> Tensor:
    """Indices of the `topk` highest scores of every row, equal ones by lowest index; in no order.

    scores: (batch, heads, rows, time), rows: (batch, heads, rows) bool, those that matter (elsewhere ties may fall either way).
    Returns (batch, heads, rows, min(topk, time)) int64. Where a sequence has fewer valid
    keys than that, padded ones fill the row: they are recognized by their index.
    """
    time = scores.shape[-1]
    if topk >= time:
        return torch.arange(time, device=scores.device).expand(*scores.shape[:-1], time)
    if scores.device.type == "cpu" and not torch.compiler.is_compiling():
        return _by_thresholds(scores.reshape(-1, time), topk).view(*scores.shape[:-1], topk)
    # One more than asked for shows whether the lowest was chosen among equals; unsorted, because sorting costs a fifth more.
    values, indices = scores.topk(topk + 1, sorted=False)
    lowest, place = values.min(-1, keepdim=True)
    tied = (values == lowest).sum(-1) > 1
    indices = indices.scatter_(-1, place, indices[..., topk:].clone())[..., :topk]
    if rows is not None:
        tied &= rows
    if bool(tied.any()):
        indices = indices.clone()
        indices[tied] = scores[tied].sort(dim=-1, descending=True, stable=True).indices[..., :topk]
    return indices


def _by_thresholds(scores: Tensor, topk: int) -> Tensor:
    """`top_keys` of (rows, time) on a CPU, several times as fast as `torch.topk`: most numbers are looked at twice only.

    What reaches the `topk`-th highest of the blocks' maxima holds all of the highest, and little else.
    """
    import numpy

    (rows, time), blocks = scores.shape, BLOCKS * topk
    numbers = scores.detach().numpy()
    if time < 2 * blocks:
        return torch.from_numpy(_highest(numbers, topk) % time)
    # Neighbours, which are often alike, are in different blocks.
    maxima = scores[:, : time // blocks * blocks].view(rows, -1, blocks).amax(1).numpy()
    found = _reaching(numbers, topk, maxima)
    counts = numpy.bincount(found // time, minlength=rows)
    row = numpy.repeat(numpy.arange(rows), counts)
    place = numpy.arange(len(found)) - (counts.cumsum() - counts)[row]
    few = numpy.full((rows, max(topk, counts.max())), -numpy.inf, dtype=numbers.dtype)
    columns = numpy.zeros(few.shape, dtype=numpy.int64)
    few[row, place], columns[row, place] = numbers.ravel()[found], found % time
    return torch.from_numpy(columns.ravel()[_highest(few, topk)])


def _highest(numbers: numpy.ndarray, topk: int) -> numpy.ndarray:
    """Where the `topk` highest of each row are, equal ones by lowest index, in (rows, columns) read row by row."""
    rows, columns = numbers.shape
    found = _reaching(numbers, topk, numbers)
    if len(found) != rows * topk:  # ties, or what is not a number and reaches nothing
        best = (-numbers).argsort(axis=1, kind="stable")[:, :topk]
        found = (best + columns * torch.arange(rows).numpy()[:, None]).ravel()
    return found


def _reaching(numbers: numpy.ndarray, topk: int, others: numpy.ndarray) -> numpy.ndarray:
    """Where in (rows, columns), read row by row, a number reaches the `topk`-th highest of the others in its row."""
    import numpy

    place = others.shape[1] - topk
    return numpy.flatnonzero(numbers >= numpy.partition(others, place, axis=1)[:, place, None])

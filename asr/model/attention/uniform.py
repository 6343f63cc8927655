"""No attention at all: the mean of the values."""

from __future__ import annotations

from torch import Tensor

from asr.kernels.padding import zero_padded
from asr.model.attention.base import Attention


class Uniform(Attention):
    """Every query gets the mean of its sequence's values: what a model can do without any scores."""

    name = "uniform"
    complexity = "linear"

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor | None, key_lengths: Tensor | None
    ) -> Tensor:
        if values.element_size() < 4:
            values = values.float()
        sums = zero_padded(values, key_lengths).sum(2, keepdim=True)
        if key_lengths is None:
            means = sums / values.shape[2]
        else:
            means = sums / key_lengths.clamp(min=1)[:, None, None, None]
        return zero_padded(means.expand(-1, -1, queries.shape[2], -1), lengths)

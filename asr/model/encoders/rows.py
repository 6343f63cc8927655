"""Matrix products in few distinct shapes, for bfloat16 on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

MULTIPLE = 64


def in_rows(function: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
    """Applies `function` to each step of hidden (batch, time, dim) on its own: returns (batch, time, other dim).

    Under autocast on a CPU the steps form one matrix whose rows are padded to a multiple of 64. oneDNN compiles a program for
    every new shape, which takes as long as several products; with lengths that vary from batch to batch, training would spend
    a quarter of its time compiling.
    """
    if hidden.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return function(hidden)
    batch, time, dim = hidden.shape
    rows = batch * time
    padded = F.pad(hidden.reshape(rows, dim), (0, 0, 0, -rows % MULTIPLE))
    return function(padded)[:rows].view(batch, time, -1)

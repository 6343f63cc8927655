"""Products of matrices whose shapes repeat, on a CPU in bfloat16."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

MULTIPLE = 64


def in_rows(function: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
    """`function` of hidden (batch, time, dim), applied to each step alone: returns (batch, time, other dim).

    Under autocast on a CPU the steps are laid out as one matrix whose number of rows is rounded up to a multiple of 64. oneDNN
    compiles a program for every shape that it meets, which takes as long as several products; lengths vary from batch to
    batch, and so a training would spend a quarter of its time compiling.
    """
    if hidden.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return function(hidden)
    batch, time, dim = hidden.shape
    rows = batch * time
    padded = F.pad(hidden.reshape(rows, dim), (0, 0, 0, -rows % MULTIPLE))
    return function(padded)[:rows].view(batch, time, -1)

"""Front ends that subsample time by 1, 2, 3 or 4, with exact output lengths.

Stacking concatenates `factor` frames without overlap: each output sees only its own frames, and relating them is left to
the attention. The convolution sees neighbouring frames too; after it, approximations of the attention are hard to tell
apart.
"""

from __future__ import annotations

import torch
from torch import nn

from asr.errors import UserError, nearest
from asr.model.encoders.rows import in_rows

FACTORS = (1, 2, 3, 4)


def valid_times(lengths: torch.Tensor, time: int) -> torch.Tensor:
    """(batch, time) bool: which times are within each sequence's length."""
    return torch.arange(time, device=lengths.device) < lengths[:, None]


class StackedFrames(nn.Module):
    """(batch, time, mels) → (batch, ceil(time / factor), dim): `factor` frames side by side, then a linear layer.

    centre: middle of the frames that the first output sees, counted in frames from the first one. Each further output's is
        `factor` frames later.
    """

    def __init__(self, input_dim: int, dim: int, factor: int):
        super().__init__()
        self.factor, self.centre = factor, (factor - 1) / 2
        self.projection = nn.Linear(input_dim * factor, dim)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = nn.functional.pad(features, (0, 0, 0, -features.shape[1] % self.factor))
        batch, time, mels = features.shape
        stacked = features.reshape(batch, time // self.factor, mels * self.factor)
        return in_rows(self.projection, stacked), self.output_lengths(lengths)

    def output_lengths(self, lengths):
        return (lengths + self.factor - 1) // self.factor


class Convolution(nn.Module):
    """(batch, time, mels) → (batch, time', dim): two convolutions over three frames, with strides whose product is the factor.

    Both pad one frame on either side, so that stride s turns `time` frames into ceil(time / s).

    centre: as in `StackedFrames`; frame 0, because of the padding before it.
    """

    centre = 0.0
    STRIDES = {1: (1, 1), 2: (2, 1), 3: (3, 1), 4: (2, 2)}

    def __init__(self, input_dim: int, dim: int, factor: int):
        super().__init__()
        self.strides = self.STRIDES[factor]
        self.layers = nn.ModuleList(
            nn.Conv1d(size, dim, kernel_size=3, stride=stride, padding=1)
            for size, stride in zip((input_dim, dim), self.strides)
        )

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = features.transpose(1, 2)
        for layer, stride in zip(self.layers, self.strides):
            hidden = nn.functional.gelu(layer(hidden))
            lengths = (lengths + stride - 1) // stride
            # the next kernel reaches one frame past the end, and must see zeros there, as it does at the end of the batch
            hidden = hidden * valid_times(lengths, hidden.shape[2])[:, None, :]
        return hidden.transpose(1, 2), lengths

    def output_lengths(self, lengths):
        for stride in self.strides:
            lengths = (lengths + stride - 1) // stride
        return lengths


FRONT_ENDS: dict[str, type[StackedFrames] | type[Convolution]] = {"stack": StackedFrames, "convolution": Convolution}


def create_front_end(name: str, input_dim: int, dim: int, factor: int) -> StackedFrames | Convolution:
    """The front end called `name`. Raises UserError for an unknown name or factor."""
    if name not in FRONT_ENDS:
        raise UserError(f"There is no encoder.front_end called {name!r}: {nearest(name, FRONT_ENDS)}.")
    if factor not in FACTORS:
        raise UserError(f"encoder.subsampling is one of {', '.join(map(str, FACTORS))}, not {factor!r}.")
    return FRONT_ENDS[name](input_dim, dim, factor)

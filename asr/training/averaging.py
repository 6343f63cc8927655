"""Averages of weights, which often recognize better than the weights that they average."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from asr.runtime.precision import at_least_float32


class MovingAverage:
    """The exponential moving average of a model's parameters over the steps of training (Polyak and Juditsky, 1992).

    After step n the average moves by 1 - min(decay, (1 + n) / (10 + n)) towards the parameters, so that the random initial
    weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.steps = decay, 0
        self._parameters = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
        # bfloat16 would round away what a step adds
        self.average = [at_least_float32(parameter.detach()).clone() for parameter in self._parameters]
        self._own: list[Tensor] | None = None

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the parameters, after an optimizer step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        parameters = [at_least_float32(parameter.detach()) for parameter in self._parameters]
        torch._foreach_lerp_(self.average, parameters, 1 - decay)
        self.steps += 1

    @torch.no_grad()
    def swap(self) -> None:
        """Swaps the model's parameters for the average; a second call restores them."""
        own, self._own = self._own, None
        if own is None:
            own, self._own = self.average, [parameter.detach().clone() for parameter in self._parameters]
        for parameter, weights in zip(self._parameters, own):
            parameter.copy_(weights)

    def state(self) -> dict:
        """What a checkpoint keeps."""
        return {"steps": self.steps, "average": self.average}

    @torch.no_grad()
    def load_state(self, state: dict) -> None:
        self.steps = state["steps"]
        for average, saved in zip(self.average, state["average"], strict=True):
            average.copy_(saved)

    def to(self, device: torch.device) -> None:
        self.average = [average.to(device) for average in self.average]


def average_of_files(files: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights in several checkpoints of one run, by name; tensors of integers are those of the first."""
    from asr.model.checkpoint import read_tensors

    total: dict[str, Tensor] = {}
    for file in files:
        for name, tensor in read_tensors(file)["state_dict"].items():
            if name not in total:
                total[name] = tensor.double() if tensor.is_floating_point() else tensor
            elif tensor.is_floating_point():
                total[name] = total[name] + tensor.double()
    kinds = read_tensors(files[0])["state_dict"]
    return {
        name: (tensor / len(files)).to(kinds[name].dtype) if tensor.is_floating_point() else tensor
        for name, tensor in total.items()
    }

"""The precision that a training is computed in, by the names that Lightning has for it.

`-mixed` computes products of matrices in a short format and keeps weights, gradients and moments in float32; `-true` keeps these
in the format too. Waveforms, filter banks, losses and what decoders see are float32 or more in all of them, and a model that is
opened to be scored, exported or transcribed with is float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from asr.errors import UserError
from asr.settings import ONE_OF

FORMATS = {"64": torch.float64, "32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}
# as Lightning reads a number alone
SHORT = {"64": "64-true", "32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


class Precision(NamedTuple):
    """weights: the dtype of weights, gradients and moments. products: of products of matrices, by autocast; None for theirs."""

    name: str
    weights: torch.dtype
    products: torch.dtype | None

    @property
    def of_lightning(self) -> str:
        """What Lightning's trainer is told. It would round the waveforms as well, so `-true` is done without it."""
        return "32-true" if self.products is None else self.name


def precision_of(name: str | int | None, accelerator: str) -> Precision:
    """The precision called `trainer.precision=<name>`; None: what suits the machine.

    Raises UserError if there is none of that name, or if it cannot be trained in here.
    """
    name = default_precision(accelerator) if name is None else SHORT.get(str(name), str(name))
    if name not in ONE_OF["trainer.precision"]:
        raise UserError(f"There is no trainer.precision={name}: {', '.join(map(str, ONE_OF['trainer.precision']))}.")
    if name == "16-mixed" and not on_gpu(accelerator):
        raise UserError("trainer.precision=16-mixed needs a GPU; on a CPU use bf16-mixed or 32-true.")
    if name == "16-true":
        raise UserError(
            "trainer.precision=16-true does not learn: the squares of small gradients, which the optimizers divide by, vanish in "
            "float16. Use 16-mixed on a GPU, bf16-true for as little memory, or bf16-mixed."
        )
    short, _, kind = name.partition("-")
    if kind == "true":
        return Precision(name, FORMATS[short], None)
    return Precision(name, torch.float32, FORMATS[short])


def default_precision(accelerator: str) -> str:
    """bfloat16 for products of matrices where the machine has units for it: a GPU's, or a CPU's AMX."""
    if on_gpu(accelerator):
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if torch.cpu.get_capabilities().get("amx_bf16") else "32-true"


def on_gpu(accelerator: str) -> bool:
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32, or as it is where it is float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))

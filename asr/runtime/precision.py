"""The precision of a training, under Lightning's names.

`-mixed` multiplies matrices in a short format and keeps weights, gradients and moments in float32; `-true` keeps those in the
short format too. Waveforms, filter banks, losses and the decoders' input are always float32 or more, and a model opened to
score, export or transcribe is float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from asr.errors import UserError
from asr.runtime.devices import on_gpu

FORMATS = {"64": torch.float64, "32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}
NAMES = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
# what Lightning makes of a format alone
SHORT = {"64": "64-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}


class Precision(NamedTuple):
    """weights: dtype of weights, gradients and moments. products: autocast's dtype of matrix products, None if it is the same."""

    name: str
    weights: torch.dtype
    products: torch.dtype | None

    @property
    def of_lightning(self) -> str:
        """What Lightning's trainer gets. Its own `-true` would round waveforms as well, so we convert the weights ourselves."""
        return "32-true" if self.products is None else self.name


def precision_of(name: str | int | None, accelerator: str) -> Precision:
    """The precision of `trainer.precision=<name>`; for None the one that suits the machine.

    Raises UserError for an unknown name, and for a precision in which this machine cannot train.
    """
    name = default_precision(accelerator) if name is None else SHORT.get(str(name), str(name))
    if name not in NAMES:
        raise UserError(f"trainer.precision={name} is unknown: use one of {', '.join([*NAMES, *SHORT])}.")
    if name == "16-mixed" and not on_gpu(accelerator):
        raise UserError("trainer.precision=16-mixed needs a GPU: use bf16-mixed or 32-true on a CPU.")
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
    """bfloat16 for matrix products if the hardware has units for it (GPU, or AMX of a CPU), else float32."""
    if on_gpu(accelerator):
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if torch.cpu.get_capabilities().get("amx_bf16") else "32-true"


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32, or unchanged if it is float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))

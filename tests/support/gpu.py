"""Where tests of Triton kernels run: on a GPU, or on a CPU in Triton's interpreter (TRITON_INTERPRET=1 in the environment)."""

from __future__ import annotations

import os

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
device = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"

needs_triton = pytest.mark.skipif(
    device == "cpu" and not INTERPRETED,
    reason="neither a GPU nor TRITON_INTERPRET=1 here: python scripts/check_kernels.py runs these",
)

if INTERPRETED:
    import tests.support.interpreter  # noqa: F401  makes its bfloat16 right

# In the interpreter float16 is tested where it differs: it is slow.
dtypes = [torch.float32, torch.bfloat16] if INTERPRETED else [torch.float32, torch.float16, torch.bfloat16]

# Against float64, of the norm. Half precision inputs are the same numbers in float64, so this is the error of the arithmetic.
tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}


def relative_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """||got - wanted|| / ||wanted||, infinite if anything is not a number."""
    got, wanted = got.detach().double().cpu(), wanted.detach().double().cpu()
    error = float((got - wanted).norm() / wanted.norm().clamp(min=1e-30))
    return error if error == error else float("inf")

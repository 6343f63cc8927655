"""The one place where it is chosen who computes: Triton kernels on a GPU, plain PyTorch anywhere."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

VARIABLE = "ASR_KERNELS"
CHOICES = ("auto", "triton", "pytorch")
NO_GPU = "expected a GPU, or Triton's interpreter on a CPU (TRITON_INTERPRET=1)"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_used: str | None = None


def setting() -> str:
    """`auto`, `triton` or `pytorch`: what `use` says, else the environment variable ASR_KERNELS, else `auto`.

    Raises ValueError if the variable says anything else.
    """
    chosen = _used or os.environ.get(VARIABLE) or "auto"
    if chosen not in CHOICES:
        raise ValueError(f"{VARIABLE} is {chosen!r}, expected one of {', '.join(CHOICES)}")
    return chosen


def check_environment() -> None:
    """Raises ValueError, in a sentence, if what the environment asks for is unknown or cannot be had on this machine."""
    if (
        setting() == "triton"
        and not _used
        and not torch.cuda.is_available()
        and os.environ.get("TRITON_INTERPRET") != "1"
    ):
        raise ValueError(f"{VARIABLE} is 'triton' and there is no GPU here, {NO_GPU}")


@contextlib.contextmanager
def use(choice: str) -> Iterator[None]:
    """Forces an implementation for as long as it is entered: `triton`, `pytorch`, or `auto` for the usual choice."""
    global _used
    if choice not in CHOICES:
        raise ValueError(f"choice is {choice!r}, expected one of {', '.join(CHOICES)}")
    before, _used = _used, choice
    try:
        yield
    finally:
        _used = before


def chosen(x: Tensor) -> str:
    """`triton` or `pytorch`: who computes with a tensor like this, as far as its device and dtype say."""
    wanted = setting()
    if wanted != "auto":
        return wanted
    return "triton" if x.device.type == "cuda" and x.dtype in DTYPES and torch.version.hip is None else "pytorch"


class Step:
    """A piece of arithmetic: a plain PyTorch function, which says what is meant, and a Triton version of it.

    def triton_version():
        import asr.kernels.gpu.topk
        return asr.kernels.gpu.topk

    @step(triton=triton_version)
    def topk_attention(queries, ...): ...

    makes `asr.kernels.gpu.topk.topk_attention(queries, ...)`, called alike, take its place wherever `chosen` says so and
    `asr.kernels.gpu.topk.refusal(queries, ...)` returns None. That one returns a sentence for arguments which the kernels do not
    cover: under `auto` plain PyTorch then computes; where `triton` is forced a ValueError says the sentence. (The module comes
    from a function with an import in it because torch.compile can trace that.)
    `topk_attention.plain` stays reachable, so that a test can compare the two.
    """

    def __init__(self, plain: Callable[..., Any], triton: Callable[[], ModuleType]) -> None:
        functools.update_wrapper(self, plain)
        self.plain = plain
        self.triton = triton

    def __call__(self, first: Tensor, *arguments: Any, **keywords: Any) -> Any:
        if chosen(first) == "pytorch":
            return self.plain(first, *arguments, **keywords)
        version = self.triton()
        refusal = version.refusal(first, *arguments, **keywords)
        if refusal is None:
            return getattr(version, self.plain.__name__)(first, *arguments, **keywords)
        if setting() == "triton":
            raise ValueError(refusal)
        return self.plain(first, *arguments, **keywords)


def step(triton: Callable[[], ModuleType]) -> Callable[[Callable[..., Any]], Step]:
    """Decorator: makes a function a `Step` whose Triton version is in the module that `triton` returns."""
    return lambda plain: Step(plain, triton)

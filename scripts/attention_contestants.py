"""Who takes part in `benchmark_attention.py`: PyTorch's fused attention, ours, those of other projects, and anybody else's."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.errors import UserError, nearest  # noqa: E402
from asr.model.attention import Place, attention_at, attentions, parse_label, takes_place  # noqa: E402

SDPA = {
    "sdpa": None,
    "sdpa-flash": SDPBackend.FLASH_ATTENTION,
    "sdpa-cudnn": SDPBackend.CUDNN_ATTENTION,
    "sdpa-efficient": SDPBackend.EFFICIENT_ATTENTION,
}
FULL_MATH = "full-math"
# Attention to the steps within so many on either side: FLEX-128, CHUNKS-128.
FLEX, CHUNKS = "flex-local", "nemo-local"


@dataclasses.dataclass(frozen=True)
class Implementation:
    """call: (queries, keys, values) -> output, all (batch, heads, time, dim).

    shared_qk: whether keys must be the queries. holds_scores: whether it holds a score for every pair of time steps.
    """

    name: str
    call: Callable[[Tensor, Tensor, Tensor], Tensor]
    shared_qk: bool = False
    holds_scores: bool = False


def implementation(name: str) -> Implementation:
    """What a name stands for. Raises UserError for one that stands for nothing, and whatever importing `module:` raises."""
    if name in SDPA:
        return Implementation(name, _sdpa(SDPA[name]))
    if name == FULL_MATH:
        return Implementation(name, _sdpa(SDPBackend.MATH), holds_scores=True)
    if ":" in name:
        module, _, path = name.partition(":")
        found = importlib.import_module(module)
        for part in path.split("."):
            if not hasattr(found, part):
                raise UserError(f"{module} has no {path}. Check its name.")
            found = getattr(found, part)
        if not callable(found):
            raise UserError(f"It cannot be called: it is of type {type(found).__name__}. Name a function or a class.")
        return Implementation(name, found)
    local = windowed(name)
    if local is not None:
        return local
    if name.partition("-")[0] not in attentions.names():
        choices = [*SDPA, FULL_MATH, f"{FLEX}-128", f"{CHUNKS}-128", *attentions.names()]
        raise UserError(f"There is no implementation called {name!r}: {nearest(name, choices)}, or module:callable.")
    settings = parse_label(name)
    kind = attentions.get(settings["name"])
    call = _placed(settings) if takes_place(kind.name) else attentions.create(settings)
    return Implementation(name, call, kind.shared_qk, kind.complexity == "quadratic" and kind.name != "full")


def _placed(settings: dict) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """An attention with weights, which are made for each number of heads and dim that it is called with."""

    @functools.cache
    def made(heads: int, dim: int, device: torch.device) -> torch.nn.Module:
        return attention_at(settings, Place(0, 1, heads, dim, heads * dim)).to(device)

    return lambda queries, keys, values: made(queries.shape[1], queries.shape[3], queries.device)(queries, keys, values)


def _sdpa(backend: SDPBackend | None) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def call(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        if backend is None:
            return F.scaled_dot_product_attention(queries, keys, values)
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(queries, keys, values)

    return call


def windowed(name: str) -> Implementation | None:
    """The implementation of a local window that a name like flex-local-128 stands for; None if it is no such name."""
    kind, _, steps = name.rpartition("-")
    if kind not in (FLEX, CHUNKS):
        return None
    if not steps.isdecimal() or int(steps) < 1:
        raise UserError(
            f"{name} does not say how far the window reaches: write {kind}-128 for 128 steps on either side."
        )
    call = _flex_local if kind == FLEX else sliding_chunks
    return Implementation(name, functools.partial(call, window=int(steps)))


@functools.cache
def _flex() -> tuple[Any, Any]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    return torch.compile(flex_attention, dynamic=False), torch.compile(create_block_mask)


@functools.lru_cache(maxsize=8)
def _window_mask(length: int, window: int, device: torch.device) -> Any:
    def near(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query - key).abs() <= window

    return _flex()[1](near, None, None, length, length, device=device)


def _flex_local(queries: Tensor, keys: Tensor, values: Tensor, window: int) -> Tensor:
    """PyTorch's FlexAttention, compiled, over blocks of keys near the queries. Its mask is made once per length."""
    if queries.device.type != "cuda":
        raise UserError("FlexAttention has no backward pass on a CPU. Compare it on a GPU (--device cuda).")
    return _flex()[0](queries, keys, values, block_mask=_window_mask(queries.shape[2], window, queries.device))


def sliding_chunks(queries: Tensor, keys: Tensor, values: Tensor, window: int) -> Tensor:
    """Local attention as NeMo's and Longformer's `sliding_chunks` compute it: chunks of `window` queries, each by a dense
    product with three chunks of keys (its own and its neighbours), masked to the window.

    queries, keys, values: (batch, heads, time, dim). Returns (batch, heads, time, value dim).
    """
    length, dim = queries.shape[2:]
    chunks = -(-length // window)
    rest = chunks * window - length
    queries = F.pad(queries, (0, 0, 0, rest)).unflatten(2, (chunks, window))

    def neighbours(x: Tensor) -> Tensor:
        """(batch, heads, chunks, 3 * window, dim), by strides: nothing is copied but the padding."""
        padded = F.pad(x, (0, 0, window, rest + window))
        return padded.unfold(2, 3 * window, window).transpose(3, 4)

    scores = torch.einsum("bhcqd,bhckd->bhcqk", queries, neighbours(keys)) * dim**-0.5
    place = torch.arange(window, device=queries.device)[:, None] + window
    key = torch.arange(3 * window, device=queries.device)
    step = torch.arange(chunks, device=queries.device)[:, None, None] * window - window + key
    seen = ((key - place).abs() <= window) & (step >= 0) & (step < length)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    # Padded queries of the last chunk may see nothing; they are cut off.
    output = torch.einsum("bhcqk,bhckd->bhcqd", weights.nan_to_num(0.0), neighbours(values))
    return output.flatten(2, 3)[:, :, :length]

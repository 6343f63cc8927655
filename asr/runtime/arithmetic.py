"""How a stretch of code computes: with one thread, or with exact products, whatever the rest of the program does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU, runs many small operations on the calling thread.

    A second thread gains little, and if it has to wait for a core, every operation waits with it: on two cores, one of them busy,
    filter banks took a hundred times longer with two threads than with one.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Products of float32 matrices in float32, never in TF32 or bfloat16 (`trainer.matmul_precision`), and no autocast."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with contextlib.ExitStack() as off:
            for kind in ("cpu", "cuda"):
                off.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        torch.set_float32_matmul_precision(precision)

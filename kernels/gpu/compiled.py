"""Kernels compiled ahead, for a GPU that need not be there: what they take of it is known before anything ever runs.

    for launch in distinct_launches(lambda: some_step(...)):
        print(launch.kernel.__name__, compile_ahead(launch, capability=90))

A process with TRITON_INTERPRET=1 has no compiler.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from asr.kernels.gpu.launch import HOPPER, INTERPRETED, Launch, recording

# What the products of tensor cores are called in PTX: those of an A100, which newer ones still have, of Hopper, of Blackwell.
PRODUCTS = {"mma": "mma.sync", "wgmma": "wgmma.mma_async", "tcgen05": "tcgen05.mma"}


class Resources(NamedTuple):
    """What a compiled kernel takes.

    registers: of a thread, 255 at most. stack: bytes per thread of slow local memory, for registers that were spilled or
    arrays with a running index. shared: bytes of shared memory. products: the kinds of tensor core instructions in it.
    seconds: that compiling took.
    """

    registers: int
    stack: int
    shared: int
    products: tuple[str, ...]
    seconds: float


def distinct_launches(run: Callable[[], object], capability: int = HOPPER) -> list[Launch]:
    """What `run` launches on GPUs of a compute capability, without what is the same to the compiler as an earlier launch.

    Nothing is computed and outputs are garbage. `run` may take gradients.
    """
    found: dict[Hashable, Launch] = {}

    def keep(launch: Launch) -> None:
        found.setdefault(specialization(launch), launch)

    with recording(keep, capability):
        run()
    return list(found.values())


def specialization(launch: Launch) -> Hashable:
    """All that the compiler knows about a launch.

    That is dtypes, constexprs, what is None, 1 or divisible by 16, where tensors begin likewise, warps and stages.
    """
    source, options = _source(launch, 90)
    return launch.kernel.cache_key, *(str(x) for x in (source.signature, source.constants, source.attrs, options))


def compile_ahead(launch: Launch, capability: int) -> Resources:
    """Compiles for NVIDIA GPUs of a compute capability such as 90, of which none needs to be there.

    Uses Triton's cache: what it finds there takes no time. Raises what the compiler raises.
    """
    start = time.perf_counter()
    source, options = _source(launch, capability)
    kernel = triton.compile(source, target=_target(capability), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as binary:
        binary.write(kernel.asm["cubin"])
        binary.flush()
        tool = triton.knobs.nvidia.cuobjdump.path
        report = subprocess.run(
            [tool, "--dump-resource-usage", binary.name], capture_output=True, text=True, check=True
        ).stdout
    usage = re.search(r"REG:(\d+) STACK:(\d+)", report)
    if usage is None:
        raise RuntimeError(f"{tool} --dump-resource-usage said nothing of registers and stack: {report!r}")
    products = tuple(name for name, instruction in PRODUCTS.items() if instruction in kernel.asm["ptx"])
    seconds = time.perf_counter() - start
    return Resources(int(usage[1]), int(usage[2]), kernel.metadata.shared, products, seconds)


def _target(capability: int) -> GPUTarget:
    return GPUTarget("cuda", capability, 32)


def _source(launch: Launch, capability: int) -> tuple[ASTSource, dict[str, Any]]:
    """What the compiler is given when this is launched, by the rules of Triton's own launcher, and its options."""
    if INTERPRETED:
        raise RuntimeError("TRITON_INTERPRET is 1, expected it unset: Triton's interpreter takes the compiler's place.")
    kernel, backend = launch.kernel, make_backend(_target(capability))
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, specialized, keywords = bind(**launch.arguments, **launch.options)
    options, signature, constants, attributes = kernel._pack_args(backend, keywords, bound, specialized, keywords)
    return ASTSource(kernel, signature, constants, attributes), options.__dict__

"""Checks the Triton kernels without a GPU: their tests in Triton's interpreter, and their compilation for GPUs that are not here.

    python scripts/check_kernels.py                  # both, as in CI
    python scripts/check_kernels.py --interpret      # tests/kernels/test_gpu_*.py on the CPU
    python scripts/check_kernels.py --compile --full --output results/kernels.md
    python scripts/check_kernels.py --orders 50      # programs interleaved in 50 ways, longer than the tests do
    python scripts/check_kernels.py --smoke          # a handful of both in about a minute: whether PyTorch and Triton will do

Compiling tells the registers, the stack and the shared memory of every kernel. A stack means that registers were spilled to
slow memory, too much shared memory that the kernel would not start: either one fails. On a machine with a GPU, --run starts
each kernel once on a small case instead (for compute-sanitizer).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import kernel_cases  # noqa: E402
from kernel_cases import CASES, MORE_CASES, Case, Inputs, forward_and_backward  # noqa: E402

from asr.cli.command import mistakes_as_sentences  # noqa: E402

# Bytes of shared memory that one program can have: A100 (sm_80), RTX 30 and A10 (86), RTX 40 and L4 (89), H100 and H200 (90),
# B200 (100), RTX 50 (120).
SHARED_LIMITS = {kind: kib * 1024 for kind, kib in {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}.items()}
# These have the A100's tensor cores and most often its tiles: what is light there is compiled again only with --full.
LIKE_AN_A100, LIGHT_REGISTERS, LIGHT_SHARED = (86, 89, 120), 120, 48 * 1024


class Exemption(NamedTuple):
    """A kernel that may have a stack of so many bytes, for that dtype and those targets, and why."""

    kernel: str
    dtype: str
    targets: tuple[int, ...]
    stack: int
    reason: str


EXEMPTIONS: list[Exemption] = []


# They launch most kernels between them.
SMOKE_CASES = [kernel_cases.improved_clustered(100, 32), kernel_cases.lsh(4, 32)]
# Each compares outputs and gradients with float64, or what is selected.
SMOKE_TESTS = [
    "tests/kernels/test_gpu_clustered.py::test_padding_of_queries_and_keys_never_matters",
    "tests/kernels/test_gpu_lsh.py::test_a_chunk_may_be_longer_than_the_sequence_and_any_number",
    "tests/kernels/test_gpu_selection.py::test_padded_rows_select_nothing_and_the_others_weigh_their_keys_by_a_softmax_over_these",
    "tests/kernels/test_gpu_topk.py::test_without_queries_or_keys_everything_is_zero",
]
DTYPES, ALL_DTYPES = ["bfloat16", "float32"], ["bfloat16", "float16", "float32"]
# 80 stands for all that are no power of two, and are padded with masks.
DIMS, ALL_DIMS = [64], [16, 32, 64, 80, 128]
TARGETS, SMOKE_TARGETS = list(SHARED_LIMITS), [80, 120]


class Compiled(NamedTuple):
    """A distinct binary. uses: the (case, dtype, dim) that launch it; error: what the compiler said instead of resources."""

    kernel: str
    uses: tuple[tuple[str, str, int], ...]
    warps: int
    target: int
    resources: Any
    error: str = ""

    @property
    def dtypes(self) -> list[str]:
        return list(dict.fromkeys(dtype for _, dtype, _ in self.uses))

    @property
    def dims(self) -> list[int]:
        return sorted({dim for _, _, dim in self.uses})

    def exempt(self, exemptions: Iterable[Exemption]) -> bool:
        """Whether its stack is allowed."""
        return any(
            one.kernel == self.kernel
            and self.dtypes == [one.dtype]
            and self.target in one.targets
            and self.resources.stack <= one.stack
            for one in exemptions
        )


# Forked processes find the launches in memory: kernels and tensors cannot be sent.
_launches: list[Any] = []
CRASHED = (None, "the compiler crashed")


def _compile(job: tuple[int, int]) -> tuple[Any, str]:
    """Of the launch of that number for that target: its resources, or the last lines of what went wrong."""
    from asr.kernels.gpu.compiled import compile_ahead

    number, target = job
    try:
        return compile_ahead(_launches[number], target), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {str(error).strip()[-500:]}"


def in_processes(function: Callable[[Any], Any], jobs: list[Any], processes: int, crashed: Any) -> list[Any]:
    """`function` of every job, in forked processes; `crashed` for jobs that end their process."""
    fork = multiprocessing.get_context("fork")
    results = {}
    with ProcessPoolExecutor(processes, mp_context=fork) as pool:
        futures = [pool.submit(function, job) for job in jobs]
        for number, future in enumerate(futures):
            with contextlib.suppress(BrokenProcessPool):
                results[number] = future.result()
    # A crash takes along all that had not ended: now one by one.
    for number, job in enumerate(jobs):
        if number not in results:
            with ProcessPoolExecutor(1, mp_context=fork) as pool:
                try:
                    results[number] = pool.submit(function, job).result()
                except BrokenProcessPool:
                    results[number] = crashed
    return [results[number] for number in range(len(jobs))]


def compile_all(
    cases: list[Case], all_inputs: list[Inputs], targets: list[int], processes: int, full: bool = True
) -> tuple[list[Compiled], list[str]]:
    """Every distinct kernel that the cases launch, compiled for every target; and what could not be recorded, in sentences.

    full: for targets like an A100 as well where it is light on that; this takes sm_80 to be among the targets.
    """
    from asr.kernels.gpu.compiled import distinct_launches, specialization

    found: dict[tuple[int, Any], Any] = {}
    uses: dict[Any, dict[tuple[str, str, int], None]] = defaultdict(dict)
    failures = []
    for inputs in all_inputs:
        for case, target in itertools.product(cases, targets):
            use_ = (case.label, str(inputs.dtype).removeprefix("torch."), inputs.dim)
            run = functools.partial(forward_and_backward, case, inputs)
            try:
                launches = distinct_launches(run, target)
            except Exception as error:
                failures.append(f"{' '.join(map(str, use_))}: {type(error).__name__}: {str(error).strip()[-500:]}")
                continue
            # Tiles are chosen for a target, so each has launches of its own.
            for launch in launches:
                key = target, specialization(launch)
                found.setdefault(key, launch)
                uses[key][use_] = None
    _launches[:] = found.values()
    jobs = [(number, target) for number, (target, _) in enumerate(found)]
    results = in_processes(_compile, [job for job in jobs if full or job[1] not in LIKE_AN_A100], processes, CRASHED)
    done = dict(zip([job for job in jobs if full or job[1] not in LIKE_AN_A100], results))
    light = {same for (target, same), result in zip(found, map(done.get, jobs)) if target == 80 and is_light(result)}
    rest = [job for job, (_, same) in zip(jobs, found) if job not in done and same not in light]
    done |= zip(rest, in_processes(_compile, rest, processes, CRASHED))
    compiled = []
    for (number, target), key in zip(jobs, found):
        if (number, target) in done:
            resources, error = done[number, target]
            launch = _launches[number]
            name = f"{launch.kernel.__module__.rpartition('.')[2]}.{launch.kernel.__name__}"
            compiled.append(Compiled(name, tuple(uses[key]), launch.warps, target, resources, error))
    return compiled, list(dict.fromkeys(failures))


def is_light(result: tuple[Any, str] | None) -> bool:
    """Whether what `_compile` returned is far from spilling registers and from the shared memory of any GPU."""
    return (
        result is not None
        and result[0] is not None
        and result[0].registers <= LIGHT_REGISTERS
        and result[0].shared <= LIGHT_SHARED
    )


def variants(compiled: Iterable[Compiled]) -> dict[tuple[str, str, str], list[Compiled]]:
    """Binaries by (kernel, dtypes, dims)."""
    groups = defaultdict(list)
    for one in compiled:
        groups[one.kernel, ", ".join(one.dtypes), ", ".join(map(str, one.dims))].append(one)
    return groups


def problems(compiled: list[Compiled], exemptions: list[Exemption]) -> list[str]:
    """What is wrong, a sentence each: errors, stacks that are not exempt, too much shared memory."""
    found = []
    for (kernel, dtypes, dims), group in variants(compiled).items():
        name = f"{kernel} ({dtypes}, dim {dims})"
        found += dict.fromkeys(
            f"{name} does not compile for sm_{one.target}: {one.error}" for one in group if one.error
        )
        group = [one for one in group if not one.error]
        spilling = [one for one in group if one.resources.stack and not one.exempt(exemptions)]
        large = [one for one in group if one.resources.shared > SHARED_LIMITS[one.target]]
        if spilling:
            stacks = _highest(spilling, "stack")
            found.append(f"{name} spills registers: " + ", ".join(f"{stacks[t]} bytes on sm_{t}" for t in stacks))
        if large:
            shared = _highest(large, "shared")
            amounts = (f"{shared[t] / 1024:.0f} of {SHARED_LIMITS[t] // 1024} KB on sm_{t}" for t in shared)
            found.append(f"{name} takes too much shared memory: {', '.join(amounts)}")
    return found


def _highest(group: list[Compiled], field: str) -> dict[int, int]:
    """The highest value of a field of the resources, by target."""
    targets = sorted({one.target for one in group})
    return {target: max(getattr(one.resources, field) for one in group if one.target == target) for target in targets}


def table(compiled: list[Compiled], exemptions: list[Exemption]) -> str:
    """Markdown: a line per kernel, dtypes and dims; of several variants each figure is the highest."""
    targets = sorted({one.target for one in compiled})
    lines = [
        "| kernel | in | dtype | dim | variants | warps | " + " | ".join(f"sm_{target}" for target in targets) + " |",
        "|---" * (6 + len(targets)) + "|",
    ]
    for (kernel, dtypes, dims), group in variants(compiled).items():
        attentions = dict.fromkeys(label.split()[0].rpartition("-")[0] for one in group for label, _, _ in one.uses)
        warps = ", ".join(str(number) for number in sorted({one.warps for one in group}))
        number = str(max(Counter(one.target for one in group).values()))
        cells = [kernel, ", ".join(attentions), dtypes, dims, number, warps]
        cells += [_cell([one for one in group if one.target == target]) for target in targets]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "registers / stack (bytes) / shared memory (KB), tensor core instructions; a stack means spilled registers.",
        f"What takes at most {LIGHT_REGISTERS} registers and {LIGHT_SHARED // 1024} KB on sm_80 is not compiled for its like.",
    ]
    for one in exemptions:
        where = ", ".join(f"sm_{target}" for target in one.targets)
        lines.append(f"{one.kernel} may have a stack of {one.stack} bytes for {one.dtype} on {where}: {one.reason}.")
    return "\n".join(lines) + "\n"


def _cell(group: list[Compiled]) -> str:
    if not group or any(one.error for one in group):
        return "error" if group else "–"
    registers, stack, shared = (
        max(getattr(one.resources, field) for one in group) for field in ("registers", "stack", "shared")
    )
    products = ", ".join(dict.fromkeys(product for one in group for product in one.resources.products))
    return f"{registers} / {f'**{stack}**' if stack else 0} / {shared / 1024:.0f} {products}".strip()


def check_compilation(arguments: argparse.Namespace) -> list[str]:
    """Prints and writes the table; returns what is wrong."""
    start = time.perf_counter()
    # A binary left by an earlier run would hide that the kernel no longer compiles.
    with tempfile.TemporaryDirectory(prefix="check_kernels_") as folder:
        os.environ["TRITON_CACHE_DIR"] = str(arguments.cache or folder)
        cases = SMOKE_CASES if arguments.smoke else CASES + MORE_CASES if arguments.full else CASES
        all_inputs = []
        for dtype in arguments.dtypes:
            for dim in arguments.dims:
                all_inputs.append(Inputs(getattr(torch, dtype), dim))
                if arguments.full:
                    all_inputs.append(Inputs(getattr(torch, dtype), dim, time=1999, heads=3, padded=False))
        # Nothing is known to be light without an A100.
        whole = arguments.full or 80 not in arguments.targets
        compiled, found = compile_all(cases, all_inputs, arguments.targets, arguments.processes, whole)
    found += [f"{name} has no case in scripts/kernel_cases.py" for name in kernel_cases.steps_without_case(CASES)]
    text = table(compiled, EXEMPTIONS)
    summary = f"{len(compiled)} binaries by {versions()} in {time.perf_counter() - start:.0f} s"
    print(f"{text}\n{summary}.", flush=True)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(f"`python {' '.join(sys.argv)}`: {summary}.\n\n{text}")
    return found + problems(compiled, EXEMPTIONS)


def versions() -> str:
    """What compiles and interprets, for the report."""
    import numpy
    import triton

    return f"Triton {triton.__version__}, PyTorch {torch.__version__}, NumPy {numpy.__version__}"


def check_in_interpreter(processes: int, smoke: bool) -> list[str]:
    """Runs the tests of the kernels on the CPU, or a few of them; returns what is wrong."""
    every = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_gpu_*.py"))
    tests = SMOKE_TESTS if smoke else every
    if not every:
        return ["There is no tests/**/test_gpu_*.py."]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(processes), *tests]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    code = subprocess.run(command, cwd=ROOT, env=environment).returncode
    print(f"Interpreted by {versions()}.", flush=True)
    return [f"TRITON_INTERPRET=1 pytest {' '.join(tests)} ended with exit code {code}"] if code else []


def check_orders(seeds: int) -> list[str]:
    """Runs every case of tests/kernels/test_gpu_program_order.py interleaved in so many ways; returns what is wrong."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/kernels/test_gpu_program_order.py",
    ]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "ASR_PROGRAM_ORDERS": str(seeds)}
    code = subprocess.run(command, cwd=ROOT, env=environment).returncode
    return [f"Programs in {seeds} orders: pytest ended with exit code {code}"] if code else []


def run_once(dtypes: list[str]) -> list[str]:
    """Starts every kernel on a GPU, on sequences of odd lengths; returns what is wrong."""
    if not torch.cuda.is_available():
        return ["There is no GPU here that torch can use: leave out --run."]
    found = []
    for dtype in dtypes:
        for case in CASES:
            inputs = Inputs(getattr(torch, dtype), 40, time=333, heads=3, device="cuda")
            try:
                finite = all(bool(x.isfinite().all()) for x in forward_and_backward(case, inputs))
            except Exception as error:
                finite, problem = False, f"{type(error).__name__}: {str(error).strip()[-500:]}"
            else:
                problem = "finite" if finite else "not finite"
            print(f"{case.label} {dtype}: {problem}", flush=True)
            if not finite:
                found.append(f"{case.label} {dtype}: {problem}")
    return found


def parse_arguments(typed: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interpret", action="store_true", help="only the tests in Triton's interpreter")
    parser.add_argument("--compile", action="store_true", help="only the compilation")
    parser.add_argument("--orders", type=int, metavar="N", help="only interleave programs in N ways")
    parser.add_argument("--run", action="store_true", help="only start each kernel once, on a GPU")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--full", action="store_true", help="compile for many settings, dims and dtypes: takes long")
    amount.add_argument("--smoke", action="store_true", help="only a few tests, steps and GPUs: about a minute")
    parser.add_argument("--dtypes", nargs="+", choices=ALL_DTYPES, help=f"default: {' '.join(DTYPES)}")
    parser.add_argument("--dims", nargs="+", type=int, metavar="DIM", help="1 to 128; default: 64")
    parser.add_argument("--targets", nargs="+", type=int, choices=TARGETS, help="default: all; with --smoke 80 120")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cache", type=Path, help="folder of compiled kernels that are used again; default: none are")
    parser.add_argument(
        "--output", type=Path, metavar="FILE.md", help="writes the table of compiled kernels there as well"
    )
    arguments = parser.parse_args(typed)
    if not (arguments.interpret or arguments.compile or arguments.run or arguments.orders):
        arguments.interpret = arguments.compile = True
    arguments.dtypes = arguments.dtypes or (ALL_DTYPES if arguments.full else DTYPES)
    arguments.dims = arguments.dims or (ALL_DIMS if arguments.full else DIMS)
    arguments.targets = arguments.targets or (SMOKE_TARGETS if arguments.smoke else TARGETS)
    return arguments


def main() -> None:
    arguments = parse_arguments()
    # Here kernels are compiled; those who interpret do it in a process of their own.
    os.environ.pop("TRITON_INTERPRET", None)
    found = []
    if arguments.interpret:
        found += check_in_interpreter(arguments.processes, arguments.smoke)
    if arguments.orders:
        found += check_orders(arguments.orders)
    if arguments.run:
        found += run_once(arguments.dtypes)
    if arguments.compile:
        found += check_compilation(arguments)
    if found:
        sys.exit("Kernels are not as they should be:\n" + "\n".join(f"- {sentence}" for sentence in found))


if __name__ == "__main__":
    with mistakes_as_sentences("check_kernels.py"):
        main()

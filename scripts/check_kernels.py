"""Checks the Triton kernels without a GPU: their tests in Triton's interpreter, and their compilation for GPUs that are not here.

    python scripts/check_kernels.py                  # both, as in CI
    python scripts/check_kernels.py --interpret      # tests/kernels/test_gpu_*.py on the CPU
    python scripts/check_kernels.py --compile --full --output results/kernels.md
    python scripts/check_kernels.py --smoke          # a handful of both in about a minute: whether PyTorch and Triton will do

Compiling tells the registers, the stack and the shared memory of every kernel, forward and backward. A stack means that
registers were spilled to slow memory, too much shared memory that the kernel would not start: either one fails.

On a machine with a GPU, --run starts each kernel once on a small case instead (for compute-sanitizer).

Long because interpreting, compiling and starting share their cases and their limits, which mean nothing apart from each other.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import itertools
import multiprocessing
import os
import pkgutil
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
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from asr import kernels  # noqa: E402
from asr.cli.command import mistakes_as_sentences  # noqa: E402
from asr.kernels.clustered import clustered_attention, improved_clustered_attention  # noqa: E402
from asr.kernels.denominator import denominator_posteriors  # noqa: E402
from asr.kernels.dispatch import Step, use  # noqa: E402
from asr.kernels.hashing import draw_planes  # noqa: E402
from asr.kernels.lsh import draw_rotations, lsh_attention  # noqa: E402
from asr.kernels.topk import topk_attention  # noqa: E402
from asr.model.graphs.denominator import denominator  # noqa: E402
from asr.model.graphs.tensors import make_denominator  # noqa: E402
from asr.model.topologies import topologies  # noqa: E402
from asr.text.phones.model import uniform  # noqa: E402

BITS, ITERATIONS = 63, 10
# Bytes of shared memory that one program can have on an A100 (sm_80), H100 or H200 (sm_90), B200 (sm_100).
SHARED_LIMITS = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
# GPUs of the A100's generation and the next for desktops and inference (sm_86, sm_89: A10, L4, RTX 30 and 40).
SMALLER_SHARED = 99 * 1024


class Exemption(NamedTuple):
    """A kernel that may have a stack of so many bytes, for that dtype and those targets, and why."""

    kernel: str
    dtype: str
    targets: tuple[int, ...]
    stack: int
    reason: str


EXEMPTIONS: list[Exemption] = []


class Inputs(NamedTuple):
    """What every case is built from; tensors are (batch, heads, time, dim) views of what a projection returns."""

    dtype: torch.dtype
    dim: int
    time: int = 2048
    heads: int = 6
    padded: bool = True
    device: str = "cpu"

    def tensor(self) -> Tensor:
        x = torch.randn(2, self.time, self.heads, self.dim, device=self.device).to(self.dtype)
        return x.transpose(1, 2).requires_grad_()

    def lengths(self) -> Tensor | None:
        return torch.tensor([self.time, self.time // 2], device=self.device) if self.padded else None


class Case(NamedTuple):
    """A step with its settings, and how its arguments are made."""

    label: str
    step: Step
    arguments: Callable[[Inputs], tuple[Any, ...]]


def clustered(clusters: int) -> Case:
    def arguments(inputs: Inputs) -> tuple[Any, ...]:
        planes = draw_planes(BITS, inputs.dim, 0, inputs.device)
        tensors, lengths = [inputs.tensor() for _ in range(3)], inputs.lengths()
        return *tensors, lengths, lengths, planes, clusters, ITERATIONS

    return Case(f"clustered-{clusters}", clustered_attention, arguments)


def improved_clustered(clusters: int, topk: int) -> Case:
    def arguments(inputs: Inputs) -> tuple[Any, ...]:
        return *clustered(clusters).arguments(inputs), topk

    return Case(f"i_clustered-{clusters} topk={topk}", improved_clustered_attention, arguments)


def lsh(rounds: int, chunk: int) -> Case:
    def arguments(inputs: Inputs) -> tuple[Any, ...]:
        rotations = draw_rotations(rounds, inputs.dim, -(-inputs.time // chunk), 0, inputs.device)
        return inputs.tensor(), inputs.tensor(), inputs.lengths(), rotations, chunk

    return Case(f"lsh-{rounds} chunk={chunk}", lsh_attention, arguments)


def top(topk: int) -> Case:
    def arguments(inputs: Inputs) -> tuple[Any, ...]:
        lengths = inputs.lengths()
        return *(inputs.tensor() for _ in range(3)), lengths, lengths, topk

    return Case(f"topk-{topk}", topk_attention, arguments)


def all_sentences(phones: int) -> Case:
    """LF-MMI's denominator over a bigram of so many phones; dim stands for nothing."""

    def arguments(inputs: Inputs) -> tuple[Any, ...]:
        topology = topologies.create({"name": "chain"}, units=phones + 1)
        graph = topology.spell(denominator(uniform(phones + 1)))
        device = torch.device(inputs.device)
        tensors = make_denominator(graph, topology.outputs, 1e-5, torch.float32, device, "dense")
        lengths = inputs.lengths()
        lengths = torch.tensor([inputs.time] * 2, device=device) if lengths is None else lengths
        return torch.zeros(2, inputs.time, topology.outputs, device=device), lengths, tensors

    return Case(f"denominator-{phones}", denominator_posteriors, arguments)


# A new step is one line here; `steps_without_case` finds those that were forgotten.
CASES = [clustered(100), improved_clustered(100, 32), lsh(1, 32), lsh(4, 32), top(32), all_sentences(40)]
MORE_CASES = [
    *(clustered(clusters) for clusters in (1, 25, 400, 1024)),
    *(improved_clustered(*settings) for settings in ((1, 1), (25, 16), (400, 64), (1024, 128))),
    *(lsh(*settings) for settings in ((1, 16), (1, 64), (4, 64), (8, 128))),
    *(top(topk) for topk in (1, 16, 64, 128)),
]
# They launch most kernels between them.
SMOKE_CASES = [improved_clustered(100, 32), lsh(4, 32)]
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
TARGETS, SMOKE_TARGETS = list(SHARED_LIMITS), [80, 100]


def steps_without_case(cases: Iterable[Case]) -> list[str]:
    """Names of the steps in `kernels` that no case runs."""
    steps = {}
    for module in pkgutil.iter_modules(kernels.__path__, "asr.kernels."):
        if not module.ispkg:
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, Step):
                    steps[id(value)] = f"{value.__module__}.{name}"
    covered = {id(case.step) for case in cases}
    return sorted(name for step, name in steps.items() if step not in covered)


def forward_and_backward(case: Case, inputs: Inputs) -> tuple[Tensor, ...]:
    """Runs a step on Triton kernels; returns its output and the gradient of every tensor that has one.

    A step none of whose arguments has a gradient returns gradients itself.
    """
    arguments = case.arguments(inputs)
    leaves = [x for x in arguments if isinstance(x, Tensor) and x.requires_grad]
    with use("triton"):
        output = case.step(*arguments)
        if not leaves:
            return output
        return output, *torch.autograd.grad(output, leaves, torch.randn_like(output))


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


_launches: list[Any] = []


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
    cases: list[Case], all_inputs: list[Inputs], targets: list[int], processes: int
) -> tuple[list[Compiled], list[str]]:
    """Every distinct kernel that the cases launch, compiled for every target; and what could not be recorded, in sentences."""
    from asr.kernels.gpu.compiled import distinct_launches, specialization

    found: dict[Any, Any] = {}
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
    keys = list(found)
    # Forked processes find the launches in memory: kernels and tensors cannot be sent.
    _launches[:] = found.values()
    jobs = [(number, target) for number, (target, _) in enumerate(keys)]
    crashed = (None, "the compiler crashed")
    results = in_processes(_compile, jobs, processes, crashed)
    compiled = []
    for (number, target), (resources, error) in zip(jobs, results):
        launch = _launches[number]
        name = f"{launch.kernel.__module__.rpartition('.')[2]}.{launch.kernel.__name__}"
        compiled.append(Compiled(name, tuple(uses[keys[number]]), launch.warps, target, resources, error))
    return compiled, list(dict.fromkeys(failures))


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
    ]
    large = sorted(
        {one.kernel for one in compiled if not one.error and one.target == 80 and one.resources.shared > SMALLER_SHARED}
    )
    if large:
        lines.append(
            f"An A100 has 163 KB of shared memory for a program, GPUs of sm_86 and sm_89 have 99: there some variants of "
            f"{', '.join(large)} do not start."
        )
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
        compiled, found = compile_all(cases, all_inputs, arguments.targets, arguments.processes)
    found += [f"{name} has no case in {Path(__file__).name}" for name in steps_without_case(CASES)]
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
    parser.add_argument("--run", action="store_true", help="only start each kernel once, on a GPU")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--full", action="store_true", help="compile for many settings, dims and dtypes: takes long")
    amount.add_argument("--smoke", action="store_true", help="only a few tests, steps and GPUs: about a minute")
    parser.add_argument("--dtypes", nargs="+", choices=ALL_DTYPES, help=f"default: {' '.join(DTYPES)}")
    parser.add_argument("--dims", nargs="+", type=int, metavar="DIM", help="1 to 128; default: 64")
    parser.add_argument("--targets", nargs="+", type=int, choices=TARGETS, help="default: all; with --smoke 80 100")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cache", type=Path, help="folder of compiled kernels that are used again; default: none are")
    parser.add_argument(
        "--output", type=Path, metavar="FILE.md", help="writes the table of compiled kernels there as well"
    )
    arguments = parser.parse_args(typed)
    if not (arguments.interpret or arguments.compile or arguments.run):
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
    if arguments.run:
        found += run_once(arguments.dtypes)
    if arguments.compile:
        found += check_compilation(arguments)
    if found:
        sys.exit("Kernels are not as they should be:\n" + "\n".join(f"- {sentence}" for sentence in found))


if __name__ == "__main__":
    with mistakes_as_sentences("check_kernels.py"):
        main()

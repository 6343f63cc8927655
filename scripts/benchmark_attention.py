"""Times attentions over sequence lengths beside PyTorch's fused full attention: the paper's Figure 4, and its modern version.

    python scripts/benchmark_attention.py --output results/attention                                # on a GPU
    python scripts/benchmark_attention.py --device cpu --lengths 512 1024 2048 --batch-heads 6 --dim 32 --dtype float32

Every implementation is timed forward (without gradients) and forward + backward, in rounds in which all take turns, so that
a clock that drifts does so for all alike; medians count. Queries, keys and values are smooth in time, like those of speech.
On a GPU a sample is as many calls in a row as take about 2 ms, by CUDA events, over copies of the input that together exceed
the L2 cache twice; --graphs times CUDA graphs of the same calls too, in which launching costs nothing.

A speedup is the time of the fastest backend of scaled_dot_product_attention, at the same shape in the same run, divided by the
implementation's own. Peak memory is that of forward + backward beyond the inputs, per element of batch * heads * length.

Implementations: sdpa (PyTorch's choice), sdpa-flash, sdpa-cudnn, sdpa-efficient, full-math (softmax by matrix products), the
labels of asr.model.attention (i_clustered-100), flex-local-128 (PyTorch's FlexAttention over 128 steps on either side, compiled,
on a GPU only), nemo-local-128 (the same window by sliding chunks, as NeMo and Longformer compute it), and module:callable for any
other: called as callable(queries, keys, values) with (batch, heads, time, dim) tensors, it returns what each query attends to.
What does not run is shown as –, with the reason.

Long because inputs, clocks and tables belong to one measurement, whose command results/ quotes.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import itertools
import math
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

from attention_contestants import FULL_MATH, SDPA, Implementation, implementation  # noqa: E402
from attention_roofline import roofline  # noqa: E402
from attention_tables import (  # noqa: E402
    GRAPH_PASSES,
    PASSES,
    Result,
    Shape,
    by_layer,
    draw,
    markdown,
    rows,
    write_csv,
)

from asr.cli.command import mistakes_as_sentences  # noqa: E402
from asr.errors import UserError  # noqa: E402
from asr.model.attention.crossover import calls_in_a_sample, like_speech, sample  # noqa: E402
from asr.runtime.memory import PeakMemory  # noqa: E402

OURS = ["clustered-100", "i_clustered-100", "lsh-1", "lsh-4", "topk-32"]
PEERS = ["flex-local-128", "nemo-local-128"]
DEFAULT_HEADS = 6
WARM_UPS, MOST_ROUNDS, MOST_COPIES = 3, 200, 64
MEBIBYTE, GIBIBYTE = 2**20, 2**30


@dataclasses.dataclass
class Task:
    """A pass that runs. function makes `passes_each` passes."""

    result: Result
    name: str
    function: Callable[[], object]
    passes_each: int = 1
    calls: int = 1
    samples: list[float] = dataclasses.field(default_factory=list)


def copies_of_inputs(bytes_each: int, device: torch.device) -> int:
    """How many copies of the inputs exceed twice the L2 cache of a GPU; one on a CPU."""
    if device.type != "cuda":
        return 1
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    return min(MOST_COPIES, max(1, math.ceil(2 * cache / bytes_each)))


def make_inputs(
    shape: Shape, dtype: torch.dtype, device: torch.device, generator: torch.Generator, silence: float = 0.0
) -> list[list[Tensor]]:
    """Copies of [queries, keys, values, outgoing gradient], all different. silence: the share of steps that are all the same."""

    def make(requires_grad: bool) -> Tensor:
        x = like_speech(shape.batch, shape.heads, shape.length, shape.dim, dtype, device, generator)
        x[:, :, : round(silence * shape.length)] = x[:, :, :1]
        return x.requires_grad_(requires_grad)

    copies = copies_of_inputs(3 * shape.elements * shape.dim * dtype.itemsize, device)
    return [[make(True), make(True), make(True), make(False)] for _ in range(copies)]


def passes_of(one: Implementation, inputs: list[list[Tensor]]) -> dict[str, Callable[[], object]]:
    """Functions that make a pass over the next copy of the inputs."""
    turns = {name: itertools.cycle(inputs) for name in PASSES}

    def forward() -> None:
        queries, keys, values, _ = next(turns["forward"])
        with torch.no_grad():
            one.call(queries, queries if one.shared_qk else keys, values)

    def forward_backward() -> None:
        queries, keys, values, outgoing = next(turns["forward_backward"])
        output = one.call(queries, queries if one.shared_qk else keys, values)
        leaves = [queries, values] if one.shared_qk else [queries, keys, values]
        torch.autograd.grad(output, leaves, outgoing, allow_unused=True)

    return {"forward": forward, "forward_backward": forward_backward}


def attempt(run: Callable[[], Any]) -> tuple[Any, str | None]:
    """What it returns and None; or None and, in a sentence, why it failed."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            return run(), None
        except Exception as error:
            why = reason(error, [str(warning.message) for warning in warned])
    # what was held when it failed is free again
    gc.collect()
    return None, why


def reason(error: Exception, warned: Iterable[str] = ()) -> str:
    """One line for what an implementation raised. Backends of PyTorch say why they refuse in warnings."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    lines = str(error).strip().splitlines()
    text = lines[0].strip() if lines else ""
    if "No available kernel" in text or "No viable backend" in text:
        hints = [re.sub(r"\s*\(Triggered internally.*", "", line).strip() for line in warned]
        hints = [hint for hint in hints if hint and not hint.endswith("because:") and "disabled" not in hint]
        text = "; ".join(["this backend of PyTorch does not run here", *dict.fromkeys(hints)])
    if not isinstance(error, UserError | RuntimeError):
        text = f"{type(error).__name__}: {text}"
    return text[:297] + "…" if len(text) > 298 else text


def warm(function: Callable[[], object], device: torch.device, measure_memory: bool) -> tuple[int, int | None]:
    """Compiles and caches what it needs. Returns how many calls make a sample, and the bytes that it held at its peak."""
    for _ in range(WARM_UPS):
        function()
    if not measure_memory:
        return calls_in_a_sample(function, device), None
    with PeakMemory(device) as memory:
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return calls_in_a_sample(function, device), memory.bytes


def graph_of(function: Callable[[], object], calls: int, pool: tuple[int, int]) -> torch.cuda.CUDAGraph:
    """A CUDA graph of so many calls. Graphs of one pool use the same memory: only one may run, and no output be kept."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=stream):
        for _ in range(calls):
            function()
    graph.replay()
    torch.cuda.synchronize()
    return graph


def tasks_of(
    one: Implementation, result: Result, inputs: list[list[Tensor]], device: torch.device, pool: tuple[int, int] | None
) -> list[Task]:
    """The passes of an implementation that run, once they are warm; the others have their reason in the result.

    pool: for CUDA graphs as well, or None.
    """
    tasks = []
    for name, function in passes_of(one, inputs).items():
        found, failed = attempt(partial(warm, function, device, name == "forward_backward"))
        if found is None:
            result.reasons |= {name: failed} | ({f"{name}_graph": failed} if pool is not None else {})
            continue
        calls, peak = found
        tasks.append(Task(result, name, function, calls=calls))
        if peak is not None:
            result.peak = peak / result.shape.elements
        if pool is not None:
            graph, failed = attempt(partial(graph_of, function, len(inputs), pool))
            if graph is None:
                result.reasons[f"{name}_graph"] = failed
            else:
                calls = calls_in_a_sample(graph.replay, device)
                tasks.append(Task(result, f"{name}_graph", graph.replay, len(inputs), calls))
    return tasks


def time_in_rounds(tasks: list[Task], device: torch.device, least_rounds: int, seconds: float) -> None:
    """Puts the median of each task's samples into its result. seconds: for each, on average."""
    start = time.monotonic()
    gc.collect()
    gc.disable()
    try:
        for number in range(MOST_ROUNDS):
            if number >= least_rounds and time.monotonic() - start > seconds * len(tasks):
                break
            for task in tasks:
                if task.name not in task.result.reasons:
                    try:
                        task.samples.append(sample(task.function, task.calls, device) / task.passes_each)
                    except RuntimeError as error:
                        task.result.reasons[task.name] = reason(error)
    finally:
        gc.enable()
    for task in tasks:
        if task.name not in task.result.reasons:
            task.result.milliseconds[task.name] = statistics.median(task.samples)


def measure(
    names: Sequence[str], shape: Shape, arguments: argparse.Namespace, generator: torch.Generator
) -> list[Result]:
    """Every implementation at one shape, in the order of `names`."""
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    wanted = [*PASSES, *(GRAPH_PASSES if arguments.graphs else ())]
    results = [Result(name, shape) for name in names]
    pool = torch.cuda.graph_pool_handle() if arguments.graphs else None
    inputs, no_inputs = attempt(partial(make_inputs, shape, dtype, device, generator, arguments.silence))
    tasks: list[Task] = []
    for result in results:
        one, failed = attempt(partial(implementation, result.name))
        if no_inputs is not None:
            failed = f"the inputs cannot be made: {no_inputs}"
        elif one is not None and one.holds_scores:
            result.holds_scores = True
            failed = too_large(shape, arguments.limit_gib)
        if failed is not None:
            result.reasons |= dict.fromkeys(wanted, failed)
        else:
            tasks += tasks_of(one, result, inputs, device, pool)
    time_in_rounds(tasks, device, arguments.runs, arguments.seconds)
    return results


def too_large(shape: Shape, limit_gib: float) -> str | None:
    """Why a table of scores is not made, if it would be too large. It is one of several that are held at a time."""
    gib = shape.groups * shape.length**2 * 4 / GIBIBYTE
    return None if gib <= limit_gib else f"its scores would take {gib:.3g} GiB (--limit-gib {limit_gib:.3g})"


def default_limit(device: torch.device) -> float:
    """An eighth of the memory there is, in GiB."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / 8 / GIBIBYTE
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf8"))
        return int(found[1]) / 8 / 2**20 if found else 1.0
    except OSError:
        return 1.0


def shape_of(groups: int, length: int, arguments: argparse.Namespace) -> Shape:
    """batch * heads split: into sequences of --heads heads, by default of 6 where that divides, else one sequence."""
    heads = arguments.heads or (DEFAULT_HEADS if groups % DEFAULT_HEADS == 0 else groups)
    return Shape(groups // heads, heads, length, arguments.dim)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--implementations", nargs="+", metavar="NAME",
        help=f"see above; SDPA's come along for the ratios. Default: {' '.join([FULL_MATH, *SDPA, *OURS])}, on a GPU also "
        f"{' '.join(PEERS)}",
    )  # fmt: skip
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--lengths", nargs="+", type=int, metavar="N",
        help="default: 512, doubling up to 32768 on a GPU and 4096 on a CPU",
    )  # fmt: skip
    parser.add_argument(
        "--batch-heads", nargs="+", type=int, metavar="N", help="batch * heads; default: 12 and 96 on a GPU, 6 on a CPU"
    )
    parser.add_argument(
        "--heads", type=int, help="heads of a sequence; default: 6 where that divides, else all of them"
    )
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument(
        "--dtype", choices=["float32", "float16", "bfloat16"], help="default: bfloat16 on a GPU, else float32"
    )
    parser.add_argument("--threads", type=int, help="threads on a CPU; default: PyTorch's choice")
    parser.add_argument("--graphs", action="store_true", help="times CUDA graphs as well, in columns of their own")
    parser.add_argument("--runs", type=int, default=10, help="rounds at least (10)")
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="to spend on each pass, on average, if rounds are short"
    )
    parser.add_argument("--minutes", type=float, help="begin no shape after so many; what is missing stands as –")
    parser.add_argument(
        "--limit-gib", type=float,
        help="skip what holds a score for every pair when those take more; default: an eighth of the memory",
    )  # fmt: skip
    parser.add_argument("--roofline", action="store_true", help="floors of clustered and i_clustered by stage, as well")
    parser.add_argument(
        "--silence", type=float, default=0.0, metavar="SHARE",
        help="share of equal steps, from 0 to 1: one cluster then holds them all (0)",
    )  # fmt: skip
    parser.add_argument("--by-layer", action="store_true", help="memory of a layer and the longest that fits, as well")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs")
    parser.add_argument("--output", type=Path, help="writes OUTPUT.csv, OUTPUT.md and OUTPUT.png as well")
    arguments = parser.parse_args(argv)
    cuda = arguments.device == "cuda"
    if cuda and not on_gpu:
        raise UserError("There is no GPU here that torch can use: leave out --device cuda.")
    if arguments.graphs and not cuda:
        raise UserError("--graphs is for CUDA graphs: it needs --device cuda.")
    arguments.dtype = arguments.dtype or ("bfloat16" if cuda else "float32")
    arguments.lengths = arguments.lengths or [512 << n for n in range(7 if cuda else 4)]
    arguments.batch_heads = arguments.batch_heads or ([12, 96] if cuda else [6])
    for option in ("lengths", "batch_heads", "heads", "dim", "runs", "threads"):
        value = getattr(arguments, option)
        for number in value if isinstance(value, list) else [value]:
            if number is not None and number < 1:
                raise UserError(f"--{option.replace('_', '-')} takes whole numbers of 1 or more, not {number}.")
    if not 0 <= arguments.silence <= 1:
        raise UserError(f"--silence takes a share from 0 to 1, not {arguments.silence:g}.")
    for groups in arguments.batch_heads:
        if arguments.heads and groups % arguments.heads:
            raise UserError(
                f"--batch-heads {groups} cannot be split into sequences of {arguments.heads} heads: give a multiple of it."
            )
    if arguments.limit_gib is None:
        arguments.limit_gib = default_limit(torch.device(arguments.device))
    for name in arguments.implementations or ():
        if ":" not in name:
            implementation(name)
    names = arguments.implementations or [FULL_MATH, *SDPA, *OURS, *(PEERS if cuda else ())]
    missing = [] if any(name in SDPA for name in names) else list(SDPA)
    arguments.implementations = list(dict.fromkeys([*missing, *names]))
    return arguments


def save(results: list[Result], text: str, arguments: argparse.Namespace) -> None:
    """Everything so far: a run that is cut short leaves what it measured."""
    if arguments.output:
        output = arguments.output
        output.parent.mkdir(parents=True, exist_ok=True)
        write_csv(rows(results, arguments), output.with_name(output.name + ".csv"), arguments.graphs)
        output.with_name(output.name + ".md").write_text(text, encoding="utf8")


def run(arguments: argparse.Namespace) -> str:
    """Measures, writes and returns the tables."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    # Until it has met a large tensor, the C library gives memory back after each call and clears it again for the next.
    # A model's own tensors are large; this is the largest that counts.
    torch.ones(7_000_000)
    generator = torch.Generator(device).manual_seed(arguments.seed)
    start = time.monotonic()
    results: list[Result] = []
    begun: list[Shape] = []
    shapes = [shape_of(*pair, arguments) for pair in itertools.product(arguments.batch_heads, arguments.lengths)]
    for shape in shapes:
        if arguments.minutes is not None and time.monotonic() - start > arguments.minutes * 60:
            passes = [*PASSES, *(GRAPH_PASSES if arguments.graphs else ())]
            why = f"not begun within --minutes {arguments.minutes:g}"
            results += [Result(name, shape, reasons=dict.fromkeys(passes, why)) for name in arguments.implementations]
        else:
            begun.append(shape)
            results += measure(arguments.implementations, shape, arguments, generator)
            gc.collect()
            if device.type == "cuda":
                with contextlib.suppress(RuntimeError):
                    torch.cuda.empty_cache()
        save(results, markdown(results, arguments), arguments)
        print(f"{shape.groups} x {shape.length}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    text = markdown(results, arguments)
    if arguments.by_layer:
        text += "\n".join([*by_layer(results), ""])
    if arguments.output:
        save(results, text, arguments)
        draw(results, arguments.output.with_name(arguments.output.name + ".png"))
    if arguments.roofline:
        labels = [name for name in arguments.implementations if name.partition("-")[0] in ("clustered", "i_clustered")]
        sizes = [(shape.batch, shape.heads, shape.length, shape.dim) for shape in begun]
        for part in roofline(labels, sizes, getattr(torch, arguments.dtype), device, generator):
            text += "\n" + part
            save(results, text, arguments)
        print(f"roofline: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return text


if __name__ == "__main__":
    with mistakes_as_sentences("benchmark_attention.py"):
        print(run(parse_arguments()))

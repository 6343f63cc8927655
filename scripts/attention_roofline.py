"""A roofline of clustered attention: how fast each stage could be, and how fast it is; `benchmark_attention.py --roofline`.

The floor of a stage is the longer of its arithmetic, at the rate of a large matrix product, and its memory traffic, at the rate
of a large copy, both measured here. Each number that a stage must read or write counts once, and products have their real sizes,
although kernels pad to powers of two and reread what falls out of the cache. Only a stage whose input is already in a cache can
be faster.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import asr.kernels.clustered  # noqa: E402
from asr.model.attention import attentions, parse_label  # noqa: E402
from asr.model.attention.crossover import like_speech, time_in_turns  # noqa: E402

ESTIMATES = Path(__file__).resolve().parent.parent / "results/2026-11-29_two_cores/kernels_estimate.json"
CODE_WIDTH = 64
# Signs of projections, or whole numbers; and the first centroids.
CODE_KERNELS = (
    "hash_kernel", "range_kernel", "whole_kernel", "moved_kernel", "path_kernel", "plusplus_kernel", "first_kernel",
)  # fmt: skip
PASSES = 5


class Stage(NamedTuple):
    """flops: two per multiply-add. of_codes: whether its numbers are exact in half precision. kernels: those that run it on a GPU
    in this pass. step: the function of `asr.kernels.clustered` that runs it on a CPU."""

    name: str
    flops: float
    bytes: float
    kernels: tuple[str, ...]
    step: str | None = None
    of_codes: bool = False


class Rates(NamedTuple):
    """Per second. code_flops: for products of codes, which are exact in half precision."""

    flops: float
    code_flops: float
    bytes: float


def stages(
    groups: int, length: int, dim: int, clusters: int, topk: int, iterations: float, element: int, on_gpu: bool
) -> dict[str, list[Stage]]:
    """The stages of both passes; `topk` 0 is clustered attention.

    iterations: of k-means until it settles, on average. element: bytes per number of the inputs. An iteration compares all codes
    with all centroids and sums the members' codes, on a GPU by a second product; a final comparison gives the labels. Codes are
    64 numbers, of 2 bytes on a GPU and 4 on a CPU.
    """
    clusters, topk = min(clusters, length), min(topk, length)
    steps, rows = groups * length, groups * clusters
    vectors = steps * dim * element  # queries, or keys, or values, or gradients of one
    means = rows * dim * 4
    codes = steps * CODE_WIDTH * (2 if on_gpu else 4)
    comparison = 2 * steps * clusters * CODE_WIDTH
    products = 2 * rows * length * dim  # of means and keys
    tops = 2 * steps * topk * dim  # of members and top keys
    top_vectors = 2 * rows * topk * dim * element
    forward = [
        Stage("hash", 2 * steps * dim * CODE_WIDTH, vectors + codes, CODE_KERNELS, "query_codes"),
        Stage(
            f"k-means, {iterations:.3g} iterations", ((2 if on_gpu else 1) * iterations + 1) * comparison,
            (iterations + 1) * codes + 4 * steps, ("vote_kernel", "assign_kernel"), "kmeans", True,
        ),
        Stage("grouping", 0, 8 * steps, ("count_kernel", "place_kernel")),
        Stage("means", steps * dim, vectors + means, ("mean_kernel",), "cluster_means"),
        Stage(
            "centroid attention", 2 * products, 2 * vectors + 2 * means,
            ("scan_kernel", "partial_kernel", "merge_kernel"), "centroid_attention" if topk else None,
        ),
    ]  # fmt: skip
    backward = []
    if topk:
        forward += [
            Stage("selection", products, vectors + rows * length / 8, ("mark_kernel", "collect_kernel")),
            Stage("members", 2 * tops, 2 * vectors + top_vectors + means, ("member_kernel",), "member_attention"),
        ]
        backward += [
            Stage("members", 5 * tops, 3 * vectors + 2 * top_vectors + 2 * means, ("member_backward_kernel",)),
            Stage("grouping of top keys", 0, 8 * rows * topk, ("count_kernel", "place_kernel")),
        ]
    else:
        forward.append(Stage("to members", 0, vectors + means, ("spread_kernel",), "broadcast"))
        backward.append(Stage("sums of members", steps * dim, vectors + means, ("mean_kernel",)))
    backward += [
        Stage(
            "centroid attention", 5 * products, 4 * vectors + 4 * means + top_vectors,
            ("centroid_backward_kernel", "share_kernel"),
        ),
        Stage(
            "to members", steps * dim if topk else 0, (2 if topk else 1) * vectors + means,
            ("spread_kernel", "spread_backward_kernel"),
        ),
    ]  # fmt: skip
    return {"forward": forward, "backward": backward}


def measured_rates(dtype: torch.dtype, device: torch.device) -> Rates:
    """Rates of products of two large square matrices, and of a large copy, counting reads and writes."""
    on_gpu = device.type == "cuda"
    side, numbers = (8192, 2**28) if on_gpu else (1536, 2**25)
    matrix = torch.ones(side, side, dtype=dtype, device=device)
    codes = matrix.to(torch.float16 if on_gpu else torch.bfloat16)
    source = torch.ones(numbers, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    functions = [lambda: matrix @ matrix, lambda: codes @ codes, lambda: target.copy_(source)]
    product, code_product, copy = (milliseconds * 1e-3 for milliseconds in time_in_turns(functions, device))
    return Rates(2 * side**3 / product, 2 * side**3 / code_product, 2 * source.nbytes / copy)


def floor_ms(stage: Stage, rates: Rates) -> tuple[float, str]:
    """(the floor in milliseconds, what sets it)."""
    arithmetic = stage.flops / (rates.code_flops if stage.of_codes else rates.flops)
    memory = stage.bytes / rates.bytes
    return max(arithmetic, memory) * 1e3, "arithmetic" if arithmetic > memory else "memory"


@torch.no_grad()
def iterations_until_settled(attention: Any, queries: Tensor) -> float:
    """Average number of k-means iterations per sequence and head, by plain PyTorch.

    An iteration that changes no label is the last, though one more may be needed to see that no centroid changes either.
    """
    space, clusters = attention.space_of(queries), attention.clusters
    plain = partial(
        asr.kernels.clustered.cluster_queries, queries, None, queries, None, space, clusters, seeds=attention.seeds
    )
    labels, unsettled, total = plain(0), None, 0.0
    for iteration in range(1, attention.iterations + 1):
        before, labels = labels, plain(iteration)
        total += 1.0 if unsettled is None else float(unsettled.double().mean())
        changed = (before != labels).any(-1)
        unsettled = changed if unsettled is None else unsettled & changed
        if not unsettled.any():
            break
    return total


def stage_times(
    passes: dict[str, list[Stage]], kernels_ms: dict[str, dict[str, float]]
) -> dict[str, list[float | None]]:
    """Milliseconds of each stage, or None if none of its kernels ran; then those of all other kernels.

    kernels_ms: {pass: {name of a kernel: milliseconds}}; names may have a compiler's suffix.
    """
    found = {}
    for name, here in passes.items():
        owner = {kernel: number for number, stage in enumerate(here) for kernel in stage.kernels}
        taken: list[float | None] = [None] * len(here)
        others = 0.0
        for kernel, milliseconds in kernels_ms[name].items():
            number = owner.get(re.sub(r"_kernel_.*", "_kernel", kernel))
            if number is None:
                others += milliseconds
            else:
                taken[number] = (taken[number] or 0.0) + milliseconds
        found[name] = [*taken, others]
    return found


def kernel_times(run: Callable[[], object], passes: int = PASSES) -> dict[str, float]:
    """Milliseconds per pass of each kernel on a GPU, by torch's profiler."""
    run()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(passes):
            run()
        torch.cuda.synchronize()
    taken: dict[str, float] = defaultdict(float)
    for event in profiler.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            taken[event.name] += event.time_range.elapsed_us() / 1e3 / passes
    return dict(taken)


@contextlib.contextmanager
def timed_steps(names: Sequence[str]) -> Iterator[dict[str, float]]:
    """Sums the milliseconds spent in those of these functions of `asr.kernels.clustered` that exist."""
    taken: dict[str, float] = {}
    originals = {name: getattr(asr.kernels.clustered, name) for name in names if hasattr(asr.kernels.clustered, name)}

    def timed(name: str) -> Callable:
        def call(*arguments, **keywords):
            start = time.perf_counter()
            try:
                return originals[name](*arguments, **keywords)
            finally:
                taken[name] = taken.get(name, 0.0) + (time.perf_counter() - start) * 1e3

        return call

    try:
        for name in originals:
            setattr(asr.kernels.clustered, name, timed(name))
        yield taken
    finally:
        for name, original in originals.items():
            setattr(asr.kernels.clustered, name, original)


def times_on_cpu(run: Callable[[], object], here: list[Stage]) -> list[float | None]:
    """Milliseconds of the stages of a forward pass; None for a stage that is not a separate function."""
    steps = [stage.step for stage in here if stage.step]
    run()
    with timed_steps(steps) as taken:
        for _ in range(PASSES):
            run()
    return [taken[stage.step] / PASSES if stage.step in taken else None for stage in here]


def roofline(
    labels: Sequence[str],
    shapes: Sequence[tuple[int, int, int, int]],
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> Iterator[str]:
    """Yields Markdown as it is measured. labels: of clustered and i_clustered. shapes: (batch, heads, length, dim)."""
    rates = measured_rates(dtype, device)
    name = str(dtype).removeprefix("torch.")
    yield (
        "## Floors by stage\n\n"
        f"Measured here: {rates.flops / 1e12:.3g} TFLOP/s in a matrix product ({name}), {rates.code_flops / 1e12:.3g} in one in "
        f"half precision, as codes are multiplied, {rates.bytes / 1e12:.3g} TB/s in a copy. k-means stops when it has settled.\n"
    )
    explained: list[tuple[str, float]] = []
    for shape in shapes:
        for label in labels:
            section, share = one_roofline(label, shape, dtype, device, rates, generator)
            explained.append((f"{label} at {shape[0] * shape[1]} x {shape[2]}", share))
            yield "\n".join(section) + "\n"
    lines = ["Share of forward + backward that the floor explains:", ""]
    yield "\n".join([*lines, *(f"- {case}: {share:.0%}" for case, share in explained)]) + "\n"


def one_roofline(
    label: str,
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    device: torch.device,
    rates: Rates,
    generator: torch.Generator | None,
) -> tuple[list[str], float]:
    """(the lines of one case, its floor as a share of forward + backward)."""
    batch, heads, length, dim = shape
    attention = attentions.create(parse_label(label))
    on_gpu = device.type == "cuda"
    inputs = [like_speech(*shape, dtype, device, generator) for _ in range(4)]
    iterations = iterations_until_settled(attention, inputs[0])
    topk = getattr(attention, "topk", 0)
    passes = stages(batch * heads, length, dim, attention.clusters, topk, iterations, dtype.itemsize, on_gpu)
    run = {"forward": forward_of(attention, inputs), "backward": backward_of(attention, inputs)}
    totals = dict(zip(run, time_in_turns(list(run.values()), device)))
    if on_gpu:
        by_kernel = {name: kernel_times(function) for name, function in run.items()}
        times = stage_times(passes, by_kernel)
    else:
        times = {
            "forward": [*times_on_cpu(run["forward"], passes["forward"]), 0.0],
            "backward": [None] * (len(passes["backward"]) + 1),
        }
    lines = [f"**{label} at {batch * heads} x {length}**", ""]
    lines += ["| pass | stage | GFLOP | MB | bound | floor ms | measured ms | floor / measured |", "|---" * 8 + "|"]
    floors = {}
    for name, here in passes.items():
        floors[name] = 0.0
        for stage, measured in zip(here, times[name]):
            floor, bound = floor_ms(stage, rates)
            floors[name] += floor
            lines.append(
                f"| {name} | {stage.name} | {stage.flops / 1e9:.3g} | {stage.bytes / 1e6:.3g} | {bound} | "
                + compared(floor, measured)
            )
        if times[name][-1]:
            lines.append(f"| {name} | other kernels | | | | | {times[name][-1]:.3g} | |")
        lines.append(f"| {name} | **all**, from start to end | | | | {compared(floors[name], totals[name])}")
    if on_gpu:
        lines += model_beside(label, shape, by_kernel["forward"] | by_kernel["backward"])
    return lines, sum(floors.values()) / sum(totals.values())


def model_beside(label: str, shape: tuple[int, int, int, int], measured: dict[str, float]) -> list[str]:
    """What `kernel_model.py` ESTIMATED for an H200 beside what was measured, where it has an estimate for this shape."""
    batch, heads, length, dim = shape
    if label != "i_clustered-100" or (batch * heads, dim) != (96, 64) or not ESTIMATES.exists():
        return []
    lines = ["", "| kernel | estimate for an H200, µs | measured, µs | measured / estimate |", "|---" * 4 + "|"]
    for kernel, by_length in json.loads(ESTIMATES.read_text()).items():
        taken = sum(1e3 * milliseconds for name, milliseconds in measured.items() if name.startswith(kernel))
        if str(length) in by_length and taken:
            guess = by_length[str(length)]
            lines.append(f"| {kernel} | {guess:.0f} | {taken:.0f} | {taken / guess:.2f} |")
    return lines if len(lines) > 3 else []


def compared(floor: float, measured: float | None) -> str:
    """The last three cells of a row."""
    return f"{floor:.3g} | " + ("not timed | |" if measured is None else f"{measured:.3g} | {floor / measured:.0%} |")


def forward_of(attention: torch.nn.Module, inputs: list[Tensor]) -> Callable[[], object]:
    def forward() -> None:
        with torch.no_grad():
            attention(*inputs[:3])

    return forward


def backward_of(attention: torch.nn.Module, inputs: list[Tensor]) -> Callable[[], object]:
    """The backward pass alone; the forward pass runs here, once."""
    leaves = [x.detach().requires_grad_() for x in inputs[:3]]
    output = attention(*leaves)
    return lambda: torch.autograd.grad(output, leaves, inputs[3], retain_graph=True)

"""Profiles an attention on a GPU: one line per kernel, for each length, forward and backward.

    python scripts/profile_attention.py --attention i_clustered-100 --lengths 2048 8192 32768 --output results/profile.md

Times are per pass, measured on the GPU by torch's profiler. The last line of each table includes idle time between kernels.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.cli.command import mistakes_as_sentences  # noqa: E402
from asr.errors import UserError  # noqa: E402
from asr.model.attention import Place, attention_at, parse_label  # noqa: E402

HEADS = 12
LONGEST_NAME = 60


class Kernel(NamedTuple):
    """All launches of a kernel in one pass. microseconds: their sum."""

    name: str
    launches: float
    microseconds: float


def by_kernel(events: Iterable[tuple[str, float]], passes: int) -> list[Kernel]:
    """(name, microseconds) of all launches in `passes` passes → kernels, longest first."""
    times: dict[str, list[float]] = defaultdict(list)
    for name, microseconds in events:
        times[name].append(microseconds)
    found = [Kernel(name, len(taken) / passes, sum(taken) / passes) for name, taken in times.items()]
    return sorted(found, key=lambda kernel: -kernel.microseconds)


def table(kernels: list[Kernel], elapsed: float) -> list[str]:
    """Markdown lines. elapsed: microseconds from the start to the end of a pass."""
    busy = sum(kernel.microseconds for kernel in kernels)
    lines = ["| kernel | launches | µs | share |", "|---|---|---|---|"]
    for kernel in [*kernels, Kernel("all kernels", sum(kernel.launches for kernel in kernels), busy)]:
        share = f"{100 * kernel.microseconds / busy:.1f} %" if busy else "–"
        lines.append(f"| {shortened(kernel.name)} | {kernel.launches:g} | {kernel.microseconds:.1f} | {share} |")
    return [*lines, f"| from start to end, without the profiler | | {elapsed:.1f} | |"]


def shortened(name: str) -> str:
    """A kernel's name for a table cell, cut if it is long."""
    name = name.removeprefix("void ").replace("|", "/")
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def profile(run: Callable[[], object], passes: int) -> tuple[list[Kernel], float]:
    """(the kernels of a pass, median microseconds from its start to its end)."""
    for _ in range(3):
        run()
    elapsed = []
    for _ in range(passes):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        elapsed.append(start.elapsed_time(end) * 1e3)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(passes):
            run()
        torch.cuda.synchronize()
    on_gpu = (event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA)
    kernels = by_kernel(((event.name, event.time_range.elapsed_us()) for event in on_gpu), passes)
    return kernels, statistics.median(elapsed)


def passes_of(label: str, length: int, arguments: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """The forward and the backward pass of an attention, separately."""
    place = Place(0, 1, HEADS, arguments.dim, HEADS * arguments.dim)
    attention = attention_at(parse_label(label), place).to("cuda")
    batch, dtype = arguments.batch_heads // HEADS, getattr(torch, arguments.dtype)
    queries, keys, values = (
        torch.randn(batch, length, HEADS, arguments.dim, device="cuda").to(dtype).transpose(1, 2).requires_grad_()
        for _ in range(3)
    )
    keys = queries if attention.shared_qk else keys
    leaves = [queries, values] if attention.shared_qk else [queries, keys, values]
    output = attention(queries, keys, values)
    outgoing = torch.randn_like(output)
    return {
        "forward": lambda: attention(queries, keys, values),
        "backward": lambda: torch.autograd.grad(output, leaves, outgoing, retain_graph=True),
    }


def report(arguments: argparse.Namespace) -> str:
    """Prints and writes tables for all lengths; returns a line with their totals."""
    sections = [
        f"# {arguments.attention}: time per kernel\n\n{torch.cuda.get_device_name()}, torch {torch.__version__}, "
        f"batch · heads = {arguments.batch_heads}, dim {arguments.dim}, {arguments.dtype}, means of {arguments.passes} passes."
    ]
    totals = []
    for length in arguments.lengths:
        passes = []
        for name, run in passes_of(arguments.attention, length, arguments).items():
            kernels, elapsed = profile(run, arguments.passes)
            passes.append(f"{elapsed:.0f}")
            sections.append("\n".join([f"## {length} steps, {name}", "", *table(kernels, elapsed)]))
            print(sections[-1] + "\n", flush=True)
            if arguments.output:
                arguments.output.parent.mkdir(parents=True, exist_ok=True)
                arguments.output.write_text("\n\n".join(sections) + "\n")
        totals.append(f"{length}: {' + '.join(passes)}")
    return f"{arguments.attention}, forward + backward in µs: {', '.join(totals)}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attention", default="i_clustered-100", help="a label; default: i_clustered-100")
    parser.add_argument("--lengths", nargs="+", type=int, default=[2048, 8192, 32768], metavar="N")
    parser.add_argument(
        "--batch-heads", type=int, default=96, help=f"batch · heads, a multiple of {HEADS}; default: 96"
    )
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="also write the tables there")
    arguments = parser.parse_args()
    if arguments.batch_heads < HEADS or arguments.batch_heads % HEADS:
        raise UserError(f"--batch-heads must be a multiple of {HEADS}, not {arguments.batch_heads}.")
    parse_label(arguments.attention)
    if not torch.cuda.is_available():
        raise UserError(
            "No GPU is available to torch, and there is nothing to profile without one: run this on a machine with a GPU."
        )
    return arguments


def main() -> None:
    print(report(parse_arguments()))


if __name__ == "__main__":
    with mistakes_as_sentences("profile_attention.py"):
        main()

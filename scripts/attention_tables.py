"""What `benchmark_attention.py` found, as CSV, tables and plots."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import importlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

from attention_contestants import FULL_MATH, SDPA  # noqa: E402

from asr.evaluation.report.plots import GrowthPanel, plot_growth  # noqa: E402
from asr.model.attention.crossover import processor_name  # noqa: E402
from asr.runtime.provenance import git_revision  # noqa: E402

COLUMNS = [
    *("implementation", "device", "dtype", "length", "batch_heads", "head_dim"),
    *("forward_ms", "forward_backward_ms", "peak_bytes_per_element", "forward_speedup", "forward_backward_speedup"),
]
GRAPH_COLUMNS = [
    *("forward_graph_ms", "forward_backward_graph_ms", "forward_graph_speedup", "forward_backward_graph_speedup"),
]
PASSES, GRAPH_PASSES = ("forward", "forward_backward"), ("forward_graph", "forward_backward_graph")
TITLES = {
    "forward": "Forward",
    "forward_backward": "Forward + backward",
    "forward_graph": "Forward, as a CUDA graph",
    "forward_backward_graph": "Forward + backward, as a CUDA graph",
    "memory": "Peak memory",
}
# Of a GPU, in gigabytes: A100 and H100, H200; what is left to activations of one layer, of a model trained on one recording.
GPU_MEMORY, FOR_ATTENTION = (80, 141), 0.9


@dataclasses.dataclass(frozen=True)
class Shape:
    batch: int
    heads: int
    length: int
    dim: int

    @property
    def groups(self) -> int:
        return self.batch * self.heads

    @property
    def elements(self) -> int:
        return self.groups * self.length


@dataclasses.dataclass
class Result:
    """An implementation at a shape. milliseconds: of its passes; peak: bytes per element; reasons: for passes without a time."""

    name: str
    shape: Shape
    milliseconds: dict[str, float] = dataclasses.field(default_factory=dict)
    peak: float | None = None
    holds_scores: bool = False
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)


def speedup(result: Result, name: str, results: Iterable[Result]) -> float | None:
    """How many times as fast as the fastest backend of scaled_dot_product_attention at the same shape."""
    best = [
        other.milliseconds[name]
        for other in results
        if other.name in SDPA and other.shape == result.shape and name in other.milliseconds
    ]
    return min(best) / result.milliseconds[name] if best and name in result.milliseconds else None


def rows(results: list[Result], arguments: argparse.Namespace) -> list[dict[str, object]]:
    """The lines of the CSV; a field is empty where there is no number."""
    passes = [*PASSES, *(GRAPH_PASSES if arguments.graphs else ())]
    lines = []
    for result in results:
        line: dict[str, object] = {
            "implementation": result.name,
            "device": arguments.device,
            "dtype": arguments.dtype,
            "length": result.shape.length,
            "batch_heads": result.shape.groups,
            "head_dim": result.shape.dim,
            "peak_bytes_per_element": "" if result.peak is None else f"{result.peak:.1f}",
        }
        for name in passes:
            faster = speedup(result, name, results)
            taken = result.milliseconds.get(name)
            line[f"{name}_ms"] = "" if taken is None else f"{taken:.5g}"
            line[f"{name}_speedup"] = "" if faster is None else f"{faster:.4g}"
        lines.append(line)
    return lines


def write_csv(lines: list[dict[str, object]], path: Path, graphs: bool) -> None:
    with open(path, "w", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, COLUMNS + (GRAPH_COLUMNS if graphs else []))
        writer.writeheader()
        writer.writerows(lines)


def markdown(results: list[Result], arguments: argparse.Namespace) -> str:
    """Tables with a line per implementation and a column per length, for every number of heads and every pass."""
    lines = heading(arguments)
    shapes = {shape.groups: shape for shape in (result.shape for result in results)}
    for groups, shape in shapes.items():
        here = [result for result in results if result.shape.groups == groups]
        split = f"{shape.batch} x {shape.heads}"
        for name in [*PASSES, *(GRAPH_PASSES if arguments.graphs else ()), "memory"]:
            unit = "bytes per element, forward + backward" if name == "memory" else "ms (speedup over the best SDPA)"
            lines += ["", f"**{TITLES[name]}, batch x heads = {split}**, {unit}:", ""]
            lines += table(here, name, results)
    gaps = notes(results)
    lines += ["", "What stands as –:", "", *(f"- {note}" for note in gaps)] if gaps else []
    return "\n".join(lines).rstrip() + "\n"


def table(here: list[Result], name: str, results: list[Result]) -> list[str]:
    """Lines of one table."""
    lengths = sorted({result.shape.length for result in here})
    cells = {(result.name, result.shape.length): result for result in here}
    lines = ["| | " + " | ".join(map(str, lengths)) + " |", "|---" * (len(lengths) + 1) + "|"]
    for implementation_name in dict.fromkeys(result.name for result in here):
        texts = []
        for length in lengths:
            result = cells.get((implementation_name, length))
            if result is None:
                texts.append("")
            elif name == "memory":
                texts.append("–" if result.peak is None else f"{result.peak:.0f}")
            elif name not in result.milliseconds:
                texts.append("–")
            else:
                faster = speedup(result, name, results)
                ratio = "" if faster is None else f" ({faster:.2f})"
                texts.append(f"{result.milliseconds[name]:.3g}{ratio}")
        lines.append(f"| {implementation_name} | " + " | ".join(texts) + " |")
    return lines


def notes(results: list[Result]) -> list[str]:
    """Why there are gaps: one line for every implementation and reason."""
    where: dict[tuple[str, str], list[tuple[str, Shape]]] = {}
    for result in results:
        for name, why in result.reasons.items():
            where.setdefault((result.name, why), []).append((name, result.shape))
    lines = []
    for (implementation_name, why), places in where.items():
        shapes = dict.fromkeys(f"{shape.groups} x {shape.length}" for _, shape in places)
        everywhere = len(shapes) == len({result.shape for result in results})
        passes = dict.fromkeys(name for name, _ in places)
        which = "" if "forward" in passes else f" ({', '.join(TITLES[name].lower() for name in passes)})"
        lines.append(f"{implementation_name}{which}{'' if everywhere else ' at ' + ', '.join(shapes)}: {why}")
    return lines


def heading(arguments: argparse.Namespace) -> list[str]:
    """The command, the machine and the versions."""
    device = torch.device(arguments.device)
    versions = [f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    try:
        versions.insert(1, f"triton {importlib.import_module('triton').__version__}")
    except ImportError:
        pass
    return [
        f"`{shlex.join(['python', *sys.argv])}`",
        "",
        f"{processor_name(device)}"
        + (f", driver {driver()}" if device.type == "cuda" else f", {torch.get_num_threads()} threads")
        + f"; {', '.join(versions)}"
        + f"; revision `{git_revision()}`. {arguments.dtype}, dim {arguments.dim}; medians of at least {arguments.runs} rounds.",
    ]


def driver() -> str:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        said = []
    return said[0] if said else "unknown"


def draw(results: list[Result], path: Path) -> None:
    """Time and memory per element over the length, one row of panels for every number of heads."""
    panels = []
    for groups in dict.fromkeys(result.shape.groups for result in results):
        here = [result for result in results if result.shape.groups == groups]
        for name in (*PASSES, "memory"):
            lines: dict[str, dict[int, float]] = {}
            for result in here:
                value = result.peak if name == "memory" else result.milliseconds.get(name)
                if value:
                    per_element = value if name == "memory" else value * 1e6 / result.shape.elements
                    lines.setdefault(result.name, {})[result.shape.length] = per_element
            unit = "Bytes per element" if name == "memory" else "Time per element (ns)"
            panels.append(GrowthPanel(f"{TITLES[name]}, batch × heads = {groups}", unit, lines))
    names = list(dict.fromkeys(result.name for result in results))
    if any(panel.lines for panel in panels):
        plot_growth(panels, path, names, [name for name in names if name in SDPA or name == FULL_MATH])


def by_layer(results: list[Result]) -> list[str]:
    """A table for one layer of one model: time and memory of forward + backward, and the longest recording that fits.

    Memory is taken to grow with the length; that of attention that holds all scores grows with its square.
    """
    lines = ["", "**One layer, forward + backward**, by batch x heads and length:", ""]
    lines += ["| | shape | ms | peak memory, GB | longest in 80 GB, steps | in 141 GB |", "|---" * 6 + "|"]
    for result in results:
        if "forward_backward" not in result.milliseconds or result.peak is None:
            continue
        shape, peak = result.shape, result.peak * result.shape.elements
        longest = [longest_that_fits(result, gigabytes) for gigabytes in GPU_MEMORY]
        cells = [
            result.name, f"{shape.groups} x {shape.length}", f"{result.milliseconds['forward_backward']:.3g}",
            f"{peak / 1e9:.3g}", *(f"{steps:.2g}" for steps in longest),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "The longest is extrapolated from the peak at this shape: linearly, or by the square where scores are held.",
    ]
    return lines


def longest_that_fits(result: Result, gigabytes: float) -> float:
    """Steps of one sequence of this shape's heads whose inputs, gradients and peak fill most of a GPU's memory."""
    shape = result.shape
    fixed = 8 * shape.dim * 2  # queries, keys, values, output and their gradients, in half precision
    room = FOR_ATTENTION * gigabytes * 1e9 / shape.groups
    if result.holds_scores:
        each = result.peak / shape.length
        return (-fixed + (fixed**2 + 4 * each * room) ** 0.5) / (2 * each)
    return room / (fixed + result.peak)

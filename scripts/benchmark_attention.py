"""Times every attention against torch's full attention over sequence lengths, as CSV and Markdown.

    python scripts/benchmark_attention.py --shapes 8x250 1x2048 1x8192 --output results/attention_cpu

All attentions take turns in every round, so that what else the machine does falls on all alike; the median of the rounds
counts, and ratios are medians of the ratio to full attention in the same round. Queries are smooth in time, like those of
speech. The forward pass is timed without gradients, forward + backward with them.
"""

from __future__ import annotations

import argparse
import csv
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.attention import attentions, parse_label  # noqa: E402
from asr.errors import UserError  # noqa: E402

COLUMNS = ["attention", "batch", "time", "pass", "milliseconds", "fastest", "ratio"]
PASSES = ("forward", "forward + backward")


def smooth(batch: int, heads: int, time: int, dim: int) -> torch.Tensor:
    """Random vectors whose neighbours in time are alike: (batch, heads, time, dim), of unit variance."""
    noise = torch.randn(batch * heads, dim, time + 4)
    averaged = F.avg_pool1d(noise, 5, stride=1) * 5**0.5
    return averaged.transpose(1, 2).reshape(batch, heads, time, dim).contiguous()


def runs(label: str, batch: int, time: int, arguments: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """The two passes of an attention as functions."""
    attention = attentions.create(parse_label(label))
    make = [smooth(batch, arguments.heads, time, arguments.dim) for _ in range(3)]
    dtype = getattr(torch, arguments.dtype)
    queries, keys, values = (x.to(arguments.device, dtype).requires_grad_() for x in make)
    keys = queries if attention.shared_qk else keys
    leaves = [queries, values] if attention.shared_qk else [queries, keys, values]
    outgoing = torch.randn_like(values)
    synchronize = torch.cuda.synchronize if arguments.device == "cuda" else lambda: None

    def forward() -> None:
        with torch.no_grad():
            attention(queries, keys, values)
        synchronize()

    def forward_and_backward() -> None:
        output = attention(queries, keys, values)
        torch.autograd.grad(output, leaves, outgoing, allow_unused=True)
        synchronize()

    return dict(zip(PASSES, (forward, forward_and_backward)))


def measure(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """One row per attention, shape and pass."""
    rows = []
    for shape in arguments.shapes:
        batch, time_steps = (int(number) for number in shape.split("x"))
        labels = [
            label
            for label in arguments.attentions
            if label == "full"
            or attentions.get(parse_label(label)["name"]).complexity == "linear"
            or time_steps <= arguments.longest_quadratic
        ]
        functions = {label: runs(label, batch, time_steps, arguments) for label in labels}
        seconds: dict[tuple[str, str], list[float]] = {(label, name): [] for label in labels for name in PASSES}
        for round_ in range(arguments.rounds + 1):
            for label, name in seconds:
                start = time.perf_counter()
                functions[label][name]()
                if round_ > 0:
                    seconds[label, name].append(time.perf_counter() - start)
        for (label, name), taken in seconds.items():
            ratios = [one / full for one, full in zip(taken, seconds["full", name])]
            row = [label, batch, time_steps, name, f"{statistics.median(taken) * 1e3:.2f}", f"{min(taken) * 1e3:.2f}"]
            rows.append(dict(zip(COLUMNS, [*row, f"{statistics.median(ratios):.2f}"])))
        print(f"{shape}: done", file=sys.stderr)
    return rows


def markdown(rows: list[dict[str, object]], arguments: argparse.Namespace) -> str:
    """A table with one line per attention and, for every shape and pass, milliseconds and the ratio to full attention."""
    columns = list(dict.fromkeys((row["batch"], row["time"], row["pass"]) for row in rows))
    cells = {(row["attention"], row["batch"], row["time"], row["pass"]): row for row in rows}
    processor = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.processor() or "CPU"
    lines = [
        f"`{shlex.join(['python', *sys.argv])}`",
        "",
        f"{processor}, {torch.get_num_threads()} threads, torch {torch.__version__}, {arguments.dtype}, {arguments.heads} heads, "
        f"dim {arguments.dim}; milliseconds (ratio to full attention), medians of {arguments.rounds} rounds.",
        "",
        "| attention | " + " | ".join(f"{batch} x {steps} {name}" for batch, steps, name in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for label in dict.fromkeys(row["attention"] for row in rows):
        found = [cells.get((label, *column)) for column in columns]
        texts = ["–" if row is None else f"{row['milliseconds']} ({row['ratio']})" for row in found]
        lines.append(f"| {label} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attentions", nargs="+", help="labels such as i_clustered-100; default: all of them")
    parser.add_argument("--shapes", nargs="+", default=["8x250", "1x2048", "1x4096", "1x8192"], metavar="BATCHxTIME")
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--longest-quadratic", type=int, default=2048, help="longest time for quadratic ones except full"
    )
    parser.add_argument("--output", type=Path, help="writes OUTPUT.csv and OUTPUT.md as well")
    arguments = parser.parse_args()
    labels = arguments.attentions or [attentions.create({"name": name}).label() for name in attentions.names()]
    for shape in arguments.shapes:
        parts = shape.split("x")
        if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
            raise UserError(f"A shape is a batch size and a number of time steps, such as 8x250, not {shape!r}.")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("There is no GPU here that torch can use: leave out --device cuda.")
    for label in labels:
        parse_label(label)
    arguments.attentions = ["full", *(label for label in labels if label != "full")]
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rows = measure(arguments)
    table = markdown(rows, arguments)
    print(table)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        with open(arguments.output.with_suffix(".csv"), "w", newline="", encoding="utf8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        arguments.output.with_suffix(".md").write_text(table, encoding="utf8")


if __name__ == "__main__":
    try:
        main()
    except UserError as mistake:
        sys.exit(f"benchmark_attention.py: {mistake}")

"""ESTIMATES, without a GPU, how long the kernels of i_clustered-100 take on an H200, and what a change of them is worth.

    python scripts/kernel_model.py --tree /path/to/another/checkout --save before.json
    python scripts/kernel_model.py --before before.json --output results/2026-11-29_two_cores/kernels_estimate.md

Nothing here is measured. The compiler says what a program takes and which instructions it runs (SASS for sm_90); the shapes say
how many programs there are and how often the longest loop of each turns. From these:

- issue: instructions of all warps over the four schedulers of 132 processors at 1.755 GHz, the time if no warp ever waited;
- resident: warps that fit on a processor by registers, shared memory and number;
- stall: by how much a stage of the kernels as they were reviewed is slower than `issue`, going by the review's table (its own
  estimate, give or take 35 %). Warps wait while few others are there to run: with more resident the stall shrinks in
  proportion, never below 1.25. What a pipelined loop saves beyond that is not modelled.

An estimate is issue times stall, and no less than the stage's memory traffic at 4.2 TB/s. OUTPUT.json has them for
`benchmark_attention.py --roofline`, which shows where a measurement says otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BATCH, HEADS, DIM, CLUSTERS, TOPK, ITERATIONS = 16, 6, 64, 100, 32, 10
LENGTHS = (2048, 4096, 8192, 16384, 32768)
PROCESSORS, SCHEDULERS, GIGAHERTZ, BYTES_A_SECOND, LEAST_STALL = 132, 4, 1.755, 4.2e12, 1.25
# The review's table, microseconds at LENGTHS. Other kernels have no line of their own there.
REVIEWED = {
    "hash_kernel": (21, 40, 75, 150, 300),
    "vote_kernel": (155, 230, 380, 700, 1450),
    "scan_kernel": (34, 52, 86, 156, 336),
    "member_kernel": (30, 35, 70, 130, 260),
    "member_backward_kernel": (145, 155, 195, 280, 450),
    "centroid_backward_kernel": (195, 245, 365, 670, 1320),
}
# Its totals with all other stages, and what it takes FlashAttention-3 to need, from memory: microseconds at LENGTHS.
TOTALS = {"forward": (348, 479, 782, 1411, 2858), "backward": (385, 462, 647, 1087, 2011)}
FLASH = {"forward": (240, 950, 3700, 14500, 58000), "backward": (830, 2950, 11100, 43500, 171000)}


def turns(name: str, arguments: dict[str, Any], length: int) -> float:
    """How often the longest loop of a program turns, on average."""
    members = -(-length // CLUSTERS // arguments["MEMBERS"]) if "MEMBERS" in arguments else 0
    return {
        "vote_kernel": lambda: min(arguments["rows_each"], length) / arguments["ROWS"],
        "scan_kernel": lambda: arguments["keys_per_split"] / arguments["KEYS"],
        "member_kernel": lambda: members,
        "member_backward_kernel": lambda: members,
        "centroid_backward_kernel": lambda: arguments["keys_each"] / arguments["KEYS"],
    }.get(name, lambda: 1.0)()


def bytes_moved(name: str, length: int) -> float:
    """What the kernel must read and write of tensors that grow with the length: bfloat16, codes of 64 numbers of 2 bytes."""
    steps = BATCH * HEADS * length * DIM * 2
    return {"hash_kernel": 2, "vote_kernel": ITERATIONS, "scan_kernel": 2, "member_kernel": 2}.get(name, 4) * steps


def instructions(cubin: bytes, tool: str) -> tuple[int, int]:
    """(outside of the longest loop, in it), of a program's code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "-sass", file.name], capture_output=True, text=True, check=True).stdout
    code = {int(place, 16): what for place, what in re.findall(r"/\*([0-9a-f]{4,})\*/\s+([^;]+);", text)}
    longest = (0, 0)
    for place, what in code.items():
        target = re.search(r"\bBRA\S*.*?0x([0-9a-f]+)", what)
        if target and int(target[1], 16) < place and place - int(target[1], 16) > longest[1] - longest[0]:
            longest = int(target[1], 16), place
    inside = sum(longest[0] <= place <= longest[1] for place in code) if longest[1] else 0
    live = sum(not what.strip().startswith("NOP") for what in code.values())
    return live - inside, inside


def resident_warps(registers: int, shared: int, warps: int) -> int:
    """Warps on a processor at a time: 65536 registers given out by 8 a thread, 227 KB of shared memory, 64 warps."""
    by_registers = 65536 // (-(-registers // 8) * 8 * 32 * warps)
    return warps * min(by_registers, 227 * 1024 // (shared + 1024), 64 // warps, 32)


def look_at(length: int) -> dict[str, dict[str, Any]]:
    """Of every reviewed kernel at one length: what it takes, and the time to issue its instructions, in microseconds."""
    import torch
    import triton

    from asr.kernels.clustered import improved_clustered_attention
    from asr.kernels.dispatch import use
    from asr.kernels.gpu.compiled import _source, _target, compile_ahead, distinct_launches
    from asr.kernels.hashing import draw_planes

    def tensor() -> torch.Tensor:  # never touched, so that it takes no memory
        return torch.empty(BATCH, length, HEADS, DIM, dtype=torch.bfloat16).transpose(1, 2).requires_grad_()

    def step() -> None:
        inputs = [tensor() for _ in range(3)]
        with use("triton"):
            output = improved_clustered_attention(
                *inputs, None, None, draw_planes(63, DIM, 0), CLUSTERS, ITERATIONS, TOPK
            )
            torch.autograd.grad(output, inputs, tensor().detach())

    found = {}
    for launch in distinct_launches(step, 90):
        name = launch.kernel.__name__
        if name not in REVIEWED or name in found:
            continue
        taken = compile_ahead(launch, 90)
        source, options = _source(launch, 90)
        compiled = triton.compile(source, target=_target(90), options=options)
        outside, inside = instructions(compiled.asm["cubin"], triton.knobs.nvidia.cuobjdump.path)
        each = outside + inside * turns(name, launch.arguments, length)
        programs = 1
        for side in launch.grid:
            programs *= side
        issued = programs * launch.warps * each * (ITERATIONS if name == "vote_kernel" else 1)
        found[name] = {
            "registers": taken.registers, "stack": taken.stack, "shared": taken.shared, "warps": launch.warps,
            "stages": launch.stages, "programs": programs,
            "resident": resident_warps(taken.registers, taken.shared, launch.warps),
            "instructions": round(each), "issue": issued / (PROCESSORS * SCHEDULERS) / (GIGAHERTZ * 1e3),
        }  # fmt: skip
    return found


def estimate(before: dict[str, Any], after: dict[str, Any], reviewed: float, floor: float) -> float:
    """Microseconds that the kernel takes now, by the rule at the top of this file."""
    stall = reviewed / before["issue"]
    stall = max(LEAST_STALL, stall * before["resident"] / after["resident"]) if stall > LEAST_STALL else stall
    return max(after["issue"] * stall, floor)


def table(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    lines = [
        "| kernel | steps | registers / stack / shared KB / warps x stages | resident warps | instructions a warp | issue, µs "
        "| review's estimate, µs | estimate now, µs |",
        "|---" * 8 + "|",
    ]
    for name, reviewed in REVIEWED.items():
        for number, length in enumerate(LENGTHS):
            was, now = before[str(length)].get(name), after[str(length)].get(name)
            if was is None or now is None:
                continue
            floor = bytes_moved(name, length) / BYTES_A_SECOND * 1e6
            taken = " → ".join(
                dict.fromkeys(
                    f"{x['registers']} / {x['stack']} / {x['shared'] / 1024:.0f} / {x['warps']} x {x['stages']}"
                    for x in (was, now)
                )
            )
            pairs = [
                " → ".join(dict.fromkeys(f"{x[field]:.0f}" for x in (was, now)))
                for field in ("resident", "instructions", "issue")
            ]
            cells = [
                name,
                str(length),
                taken,
                *pairs,
                f"{reviewed[number]}",
                f"{estimate(was, now, reviewed[number], floor):.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def estimates(before: dict[str, Any], after: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Microseconds by kernel and length."""
    found: dict[str, dict[str, float]] = {}
    for name, reviewed in REVIEWED.items():
        for length, was in zip(LENGTHS, reviewed):
            floor = bytes_moved(name, length) / BYTES_A_SECOND * 1e6
            pair = before[str(length)][name], after[str(length)][name]
            found.setdefault(name, {})[str(length)] = round(estimate(*pair, was, floor), 1)
    return found


def totals(found: dict[str, dict[str, float]]) -> list[str]:
    """The review's totals without what the kernels above have become faster by."""
    lines = [
        "",
        "| steps | forward, µs | backward, µs | over FlashAttention-3, forward | forward + backward |",
        "|---" * 5 + "|",
    ]
    for number, length in enumerate(LENGTHS):
        now = {name: float(taken[number]) for name, taken in TOTALS.items()}
        for kernel, reviewed in REVIEWED.items():
            which = "backward" if "backward" in kernel else "forward"
            now[which] += found[kernel][str(length)] - reviewed[number]
        flash = FLASH["forward"][number], FLASH["forward"][number] + FLASH["backward"][number]
        lines.append(
            f"| {length} | {TOTALS['forward'][number]} → {now['forward']:.0f} | {TOTALS['backward'][number]} → "
            f"{now['backward']:.0f} | {flash[0] / now['forward']:.2g} | {flash[1] / sum(now.values()):.2g} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tree", type=Path, default=Path(__file__).resolve().parent.parent, help="the checkout to look at"
    )
    parser.add_argument("--save", type=Path, metavar="FILE.json", help="keeps what the compiler says")
    parser.add_argument("--before", type=Path, metavar="FILE.json", help="of the kernels that were reviewed (f71f15f)")
    parser.add_argument("--output", type=Path, metavar="FILE.md")
    arguments = parser.parse_args()
    os.environ.pop("TRITON_INTERPRET", None)
    sys.path.insert(0, str(arguments.tree))
    with tempfile.TemporaryDirectory(prefix="kernel_model_") as folder:
        os.environ.setdefault("TRITON_CACHE_DIR", folder)
        found: dict[str, Any] = {str(length): look_at(length) for length in LENGTHS}
    if arguments.save:
        arguments.save.write_text(json.dumps(found, indent=1))
    if arguments.before:
        lines = [
            "# Estimates, not measurements",
            "",
            f"`{shlex.join(['python', *sys.argv])}`: see the script for the model.",
            "",
        ]
        before = json.loads(arguments.before.read_text())
        estimated = estimates(before, found)
        text = "\n".join([*lines, *table(before, found), *totals(estimated), ""])
        print(text)
        if arguments.output:
            arguments.output.write_text(text, encoding="utf8")
            arguments.output.with_suffix(".json").write_text(json.dumps(estimated, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What the host spends on a pass of clustered attention: everything but CUDA itself, so that no GPU is needed.

    python scripts/host_cost.py                    # as in training: bfloat16, dim 64, 100 clusters, top-32
    python scripts/host_cost.py --dim 16 --clusters 8 --topk 4 --rounds 50

Kernels are compiled for an H100 and launched on a driver that does nothing. Times are medians, beside that of one launch of
`member_kernel` by Triton's own launcher on the same processor: ratios hold on any machine, microseconds on this one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)

import torch  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.runtime import driver  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.kernels.clustered import improved_clustered_attention  # noqa: E402
from asr.kernels.dispatch import use  # noqa: E402
from asr.kernels.gpu import launch  # noqa: E402
from asr.kernels.hashing import draw_planes  # noqa: E402

launches = 0


class Launcher:
    """Launches nothing, but is called as Triton calls the launcher of a kernel."""

    global_scratch_size = profile_scratch_size = 0
    launch_cooperative_grid = launch_pdl = False

    def __init__(self, *_: object) -> None:
        pass

    def __call__(self, *_: object) -> None:
        global launches
        launches += 1


class Utils:
    def load_binary(self, *_: object) -> tuple[int, ...]:
        return 1, 2, 32, 0, 1024

    def unload_module(self, *_: object) -> None:
        pass

    def get_device_properties(self, _: int) -> dict[str, int]:
        return {"max_shared_mem": 232448}


class Driver:
    """A GPU of which nothing but its kind is known."""

    utils, launcher_cls = Utils(), Launcher

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", launch.HOPPER, 32)

    def is_active(self) -> bool:
        return True


def passes(arguments: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """One launch, forward, and forward with backward."""

    def tensor() -> torch.Tensor:
        x = torch.randn(1, arguments.time, 2, arguments.dim, dtype=torch.bfloat16)
        return x.transpose(1, 2).requires_grad_()

    inputs, outgoing = [tensor() for _ in range(3)], tensor().detach()
    planes = draw_planes(63, arguments.dim, 0)

    def attend() -> torch.Tensor:
        with use("triton"):
            return improved_clustered_attention(
                *inputs, None, None, planes, arguments.clusters, arguments.iterations, arguments.topk
            )

    def forward() -> None:
        with torch.no_grad():
            attend()

    seen: list[launch.Launch] = []
    with launch.recording(seen.append):
        forward()
    one = next(x for x in seen if x.kernel.__name__ == "member_kernel")
    return {
        "one launch": lambda: one.kernel[one.grid](**one.arguments, num_warps=one.warps, num_stages=one.stages),
        "forward": forward,
        "forward + backward": lambda: torch.autograd.grad(attend(), inputs, outgoing),
    }


def measure(functions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[int, float]]:
    """(launches, median microseconds) of each; they take turns, once all is compiled and planned."""
    counts, times = {}, {name: [] for name in functions}
    for name, function in functions.items():
        for _ in range(4):
            before = launches
            function()
        counts[name] = launches - before
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: (counts[name], statistics.median(times[name]) * 1e6) for name in functions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"time": 256, "dim": 64, "clusters": 100, "iterations": 10, "topk": 32, "rounds": 200}.items():
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    launch.check_device = lambda device: None
    driver.set_active(Driver())
    with tempfile.TemporaryDirectory(prefix="host_cost_") as folder:
        os.environ.setdefault("TRITON_CACHE_DIR", folder)
        found = measure(passes(arguments), arguments.rounds)
    one = found["one launch"][1]
    print("| pass | launches | host, µs | in launches by Triton |\n|---|---|---|---|")
    for name, (count, taken) in found.items():
        print(f"| {name} | {count} | {taken:.0f} | {taken / one:.1f} |")


if __name__ == "__main__":
    main()

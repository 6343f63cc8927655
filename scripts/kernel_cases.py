"""What Triton's kernels are checked and estimated on: every step of `asr.kernels` that has some, at settings that matter."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr import kernels  # noqa: E402
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
    keywords: Mapping[str, Any] = {}


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


def of_queries(clusters: int, topk: int, seeds: str) -> Case:
    """Clusters of the queries themselves rather than of their hashes."""

    def arguments(inputs: Inputs) -> tuple[Any, ...]:
        tensors, lengths = [inputs.tensor() for _ in range(3)], inputs.lengths()
        return *tensors, lengths, lengths, "queries", clusters, ITERATIONS, topk

    label = f"i_clustered-{clusters} topk={topk} space=queries seeds={seeds}"
    return Case(label, improved_clustered_attention, arguments, {"seeds": seeds})


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
CASES = [
    clustered(100), improved_clustered(100, 32), of_queries(100, 32, "path"), lsh(1, 32), lsh(4, 32), top(32), all_sentences(40),
]  # fmt: skip
MORE_CASES = [
    *(clustered(clusters) for clusters in (1, 25, 400, 1024)),
    *(improved_clustered(*settings) for settings in ((1, 1), (25, 16), (400, 64), (1024, 128))),
    of_queries(100, 32, "plusplus"),
    *(lsh(*settings) for settings in ((1, 16), (1, 64), (4, 64), (8, 128))),
    *(top(topk) for topk in (1, 16, 64, 128)),
]


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
        output = case.step(*arguments, **case.keywords)
        if not leaves:
            return output
        return output, *torch.autograd.grad(output, leaves, torch.randn_like(output))

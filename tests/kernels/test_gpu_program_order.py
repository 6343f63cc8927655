"""Results do not depend on the order in which programs run, nor on which others run at the same time.

A GPU promises neither. The interpreter runs one program after the other unless `tests.support.interpreter` interleaves them;
`python scripts/check_kernels.py --orders 50` does so for longer.
"""

from __future__ import annotations

import importlib.util
import inspect
import os

import pytest
import torch

from asr.kernels.clustered import clustered_attention, improved_clustered_attention
from asr.kernels.dispatch import use
from asr.kernels.hashing import draw_planes
from asr.kernels.lsh import draw_rotations, lsh_attention
from asr.kernels.topk import topk_attention
from tests.support.gpu import INTERPRETED

pytestmark = pytest.mark.skipif(
    not INTERPRETED, reason="it is the interpreter that runs programs in an order of choice"
)

# Several parts of the codes for each cluster, several parts of the keys, a padded sequence; all but float16.
CASES = {
    "i_clustered": (2, 1, 150, 16, torch.bfloat16),
    "i_clustered in float32": (1, 1, 130, 16, torch.float32),
    "clustered, five parts of the codes": (1, 2, 640, 16, torch.bfloat16),
    "lsh": (1, 1, 60, 16, torch.bfloat16),
    "topk": (1, 1, 20, 16, torch.bfloat16),
}
SEEDS = range(1, 1 + int(os.environ.get("ASR_PROGRAM_ORDERS", 3)))


def attend(name, queries, keys, values, lengths):
    planes = draw_planes(31, queries.shape[3], 0)
    kind = name.replace(",", "").split()[0]
    if kind == "i_clustered":
        return improved_clustered_attention(queries, keys, values, lengths, lengths, planes, 6, 3, 8)
    if kind == "clustered":
        return clustered_attention(queries, keys, values, lengths, lengths, planes, 6, 3)
    if kind == "lsh":
        rotations = draw_rotations(2, queries.shape[3], -(-queries.shape[2] // 16), 0)
        return lsh_attention(queries, values, lengths, rotations, 16)
    return topk_attention(queries, keys, values, lengths, lengths, 5)


def results(name, order="sequential", seed=0):
    """Output and gradients."""
    from tests.support.interpreter import order_of_programs

    batch, heads, time, dim, dtype = CASES[name]
    generator = torch.Generator().manual_seed(0)
    made = (torch.randn(batch, time, heads, dim, generator=generator).to(dtype).transpose(1, 2) for _ in range(4))
    *tensors, outgoing = made
    tensors = [x.requires_grad_() for x in tensors]
    lengths = torch.tensor([time, time // 2][:batch])
    with use("triton"), order_of_programs(order, seed):
        output = attend(name, *tensors, lengths)
        return [output, *torch.autograd.grad(output, tensors, outgoing, allow_unused=True)]


def differs(one, other):
    return any(a is not None and not torch.equal(a, b) for a, b in zip(one, other))


@pytest.mark.parametrize("name", CASES)
def test_every_order_of_programs_gives_the_same_bits(name):
    expected = results(name)
    assert all(x is None or bool(x.isfinite().all()) for x in expected)
    assert not differs(results(name, "reversed"), expected)
    for seed in SEEDS if name == "i_clustered" else SEEDS[: max(1, len(SEEDS) - 2)]:
        assert not differs(results(name, "interleaved", seed), expected), f"interleaved with seed {seed}"


def mutated(kernel, folder, replacements):
    """The kernel made of its module's source with these lines replaced, each found exactly once."""
    source = inspect.getsource(inspect.getmodule(kernel.fn))
    for line, instead in replacements.items():
        assert source.count(line) == 1, f"{line!r} is {source.count(line)} times in the source"
        source = source.replace(line, instead)
    path = folder / "mutant.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("mutant", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, kernel.fn.__name__)


def test_a_ticket_that_is_taken_before_the_votes_are_in_is_found_out_only_by_interleaving(tmp_path, monkeypatch):
    """So that the test above is known to find what it is there for."""
    from asr.kernels.gpu import kmeans
    from asr.kernels.gpu.plan import forget_plans

    case = "clustered, five parts of the codes"
    expected = results(case)
    votes = '        tl.atomic_add(votes + table, tl.trans(sums), sem="relaxed")\n'
    ticket = "        ticket = tl.atomic_add(arrived + group * tl.num_programs(2) + block, 1)\n"
    mutant = mutated(kmeans.vote_kernel, tmp_path, {ticket: "", votes: ticket + votes})
    assert not any(differs(results(case, "interleaved", seed), expected) for seed in SEEDS)
    monkeypatch.setattr(kmeans, "vote_kernel", mutant)
    forget_plans()  # or the kernels that were recorded would run
    assert not differs(results(case), expected) and not differs(results(case, "shuffled", 1), expected)
    assert any(differs(results(case, "interleaved", seed), expected) for seed in SEEDS)

"""A pass that is replayed from its plan gives the bits that it gives when it is run, on whatever tensors of its shapes."""

from __future__ import annotations

import pytest
import torch

from asr.kernels.dispatch import use
from asr.kernels.hashing import draw_planes
from tests.support.gpu import device, needs_triton

pytestmark = needs_triton


@pytest.fixture(autouse=True)
def no_plans():
    from asr.kernels.gpu.plan import forget_plans

    forget_plans()
    yield
    forget_plans()


def attend(seed, clusters=5, topk=8, dtype=torch.float32, lengths=(60, 33)):
    """Output and gradients."""
    from asr.kernels.clustered import improved_clustered_attention

    generator = torch.Generator().manual_seed(seed)
    made = (
        torch.randn(len(lengths), 60, 2, 16, generator=generator).to(device, dtype).transpose(1, 2) for _ in range(4)
    )
    *tensors, outgoing = made
    tensors = [x.requires_grad_() for x in tensors]
    lengths = torch.tensor(lengths, device=device)
    with use("triton"):
        planes = draw_planes(31, 16, 0, device)
        output = improved_clustered_attention(*tensors, lengths, lengths, planes, clusters, 2, topk)
        return [output, *torch.autograd.grad(output, tensors, outgoing)]


def plans():
    from asr.kernels.gpu import plan

    return [one for one in plan._plans.values() if isinstance(one, plan.Plan)]


@pytest.mark.parametrize("clusters, topk", [(5, 8), (5, 0)])
def test_the_third_pass_over_a_shape_is_replayed_with_the_same_bits(clusters, topk):
    expected = [attend(seed, clusters, topk, torch.bfloat16) for seed in (1, 2)]
    assert len(plans()) == 2  # forward and backward
    for seed in (1, 2):
        for one, other in zip(attend(seed, clusters, topk, torch.bfloat16), expected[seed - 1]):
            assert torch.equal(one, other) and one.stride() == other.stride()


def test_other_lengths_are_other_numbers_and_other_settings_another_plan():
    for _ in range(3):
        attend(1)
    replayed = attend(1, lengths=(17, 60))
    assert len(plans()) == 2
    attend(1, topk=7)
    from asr.kernels.gpu.plan import forget_plans

    forget_plans()
    assert all(torch.equal(one, other) for one, other in zip(replayed, attend(1, lengths=(17, 60))))


def rounded_transpose(x, size):
    """What PyTorch does of a pass: memory of zeros, another layout, another dtype."""
    zeros = torch.zeros(size, 5, device=x.device)
    return x.t().contiguous().to(torch.bfloat16), zeros.view(5, size).to(torch.float16)


def test_what_pytorch_does_of_a_pass_is_repeated():
    from asr.kernels.gpu.plan import planned

    for number in range(4):
        x = torch.arange(12.0, device=device).view(3, 4) + number
        found, zeros = planned(rounded_transpose, [x], 3)
        assert (
            torch.equal(found, x.t().bfloat16()) and found.is_contiguous() and zeros.shape == (5, 3) and not zeros.any()
        )
    assert [len(one.steps) for one in plans()] == [4]


def test_scratch_memory_is_shared_by_what_is_not_needed_at_the_same_time():
    from asr.kernels.gpu.plan import planned

    def body(x):
        for _ in range(5):
            x = x.contiguous().clone()
        return (x,)

    for _ in range(3):
        assert torch.equal(planned(body, [torch.ones(1000, device=device)])[0], torch.ones(1000, device=device))
    # Each copy needs the one before, and none before that.
    assert [one.scratch for one in plans()] == [2 * 4096]


def test_what_cannot_be_repeated_blindly_is_run_every_time():
    from asr.kernels.gpu.plan import planned

    called = []

    def body(x):
        called.append(1)
        return (x + 1,)  # computed by PyTorch, not by a kernel

    def of_part(x):
        called.append(1)
        return (x[1:],)  # not made here

    for function in (body, of_part):
        for number in range(5):
            assert torch.equal(
                planned(function, [torch.full([3], float(number))])[0], function(torch.full([3], float(number)))[0]
            )
    assert len(called) == 20 and plans() == []

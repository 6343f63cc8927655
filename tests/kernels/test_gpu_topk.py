"""Top-k attention by kernels against float64, and its gradient."""

from __future__ import annotations

import pytest
import torch

import kernels.gpu.topk
from asr.model.attention import attentions
from kernels import reference
from kernels.dispatch import use
from kernels.gpu.topk import refusal, topk_attention, topk_op
from kernels.topk import topk_attention as step
from tests.support.gpu import device, dtypes, needs_triton, relative_error, tolerance

pytestmark = needs_triton

# dim, value dim, queries' time, keys' time, topk
SHAPES = [
    (8, 8, 11, 11, 3),
    (64, 64, 7, 100, 32),  # attention to another sequence
    (1, 1, 1, 1, 1),
    (20, 33, 9, 7, 16),  # fewer keys than are selected
    (128, 16, 3, 65, 5),
    (16, 128, 3, 140, 128),
]


def draw(lengths, heads, time, dim, dtype=torch.float32, seed=0):
    """(batch, heads, time, dim) as a projection writes it, NaN where padded, that gradients can be taken for."""
    x = torch.randn(len(lengths), time, heads, dim, generator=torch.Generator().manual_seed(seed))
    padding = torch.arange(time) >= torch.as_tensor(lengths)[:, None]
    x = x.masked_fill(padding[:, :, None, None], torch.nan)
    return x.to(device, dtype).transpose(1, 2).requires_grad_()


def expected(queries, keys, values, lengths, key_lengths, topk, grad):
    """Output and gradients in float64, head by head, zero at padded steps."""
    output = torch.zeros(*queries.shape[:3], values.shape[3], dtype=torch.float64)
    gradients = [torch.zeros(x.shape, dtype=torch.float64) for x in (queries, keys, values)]
    for batch, (length, key_length) in enumerate(zip(lengths, key_lengths)):
        for head in range(queries.shape[1]):
            if not length or not key_length:
                continue
            sizes = length, key_length, key_length
            alone = [
                x[batch, head, :size].detach().cpu().double().requires_grad_()
                for x, size in zip((queries, keys, values), sizes)
            ]
            result = reference.oracle_top_matrix(*alone[:2], topk) @ alone[2]
            output[batch, head, :length] = result.detach()
            got = torch.autograd.grad(result, alone, grad[batch, head, :length].cpu().double())
            for whole, part, size in zip(gradients, got, sizes):
                whole[batch, head, :size] = part
    return output, *gradients


def check(inputs, lengths, key_lengths, topk):
    queries, keys, values = inputs
    dtype = queries.dtype
    on_device = [torch.tensor(x, device=device) for x in (lengths, key_lengths)]
    output = topk_attention(*inputs, *on_device, topk)
    assert output.dtype == dtype and output.shape == (*queries.shape[:3], values.shape[3])
    grad = draw(lengths, queries.shape[1], queries.shape[2], values.shape[3], dtype, seed=9).detach()
    got = output, *torch.autograd.grad(output, inputs, grad)
    wanted = expected(*inputs, lengths, key_lengths, topk, grad)
    for one, other, sizes in zip(got, wanted, (lengths, lengths, key_lengths, key_lengths)):
        assert relative_error(one, other) <= tolerance[dtype]
        assert not any(x[:, size:].any() for x, size in zip(one.detach(), sizes)), "padding is exactly zero"
    return got


@pytest.mark.parametrize("dtype", dtypes)
@pytest.mark.parametrize("dim, value_dim, time, keys_time, topk", SHAPES)
def test_it_attends_to_the_highest_keys_with_exact_gradients(dim, value_dim, time, keys_time, topk, dtype):
    lengths, key_lengths = [time, -(-time // 2)], [keys_time, -(-2 * keys_time // 3)]
    queries = draw(lengths, 2, time, dim, dtype)
    inputs = (
        queries,
        draw(key_lengths, 2, keys_time, dim, dtype, 1),
        draw(key_lengths, 2, keys_time, value_dim, dtype, 2),
    )
    check(inputs, lengths, key_lengths, topk)


def test_without_queries_or_keys_everything_is_zero():
    inputs = draw([4, 0, 4], 1, 4, 8), draw([0, 5, 5], 1, 5, 8, seed=1), draw([0, 5, 5], 1, 5, 8, seed=2)
    for x in check(inputs, [4, 0, 4], [0, 5, 5], 2):
        assert not x[:2].any() and x[2].any()


def test_equal_keys_are_attended_to_by_lowest_index():
    queries, values = draw([5], 1, 5, 4), draw([200], 1, 200, 4, seed=2)
    keys = torch.ones(1, 1, 200, 4, device=device, requires_grad=True)
    output = topk_attention(queries, keys, values, None, None, 20)
    assert relative_error(output[0, 0], values[0, 0, :20].mean(0).expand(5, 4)) <= 1e-5
    grads = torch.autograd.grad(output, (keys, values), torch.ones_like(output))
    assert all(x[0, 0, :20].any(1).all() and not x[0, 0, 20:].any() for x in grads)


def test_lengths_may_be_absent():
    inputs = [draw([9], 2, 9, 8, seed=seed) for seed in range(3)]
    full = torch.tensor([9], device=device)
    assert torch.equal(topk_attention(*inputs, None, None, 4), topk_attention(*inputs, full, full, 4))


def test_any_strides_will_do():
    inputs = [draw([9, 9], 2, 9, 8, seed=seed) for seed in range(3)]
    output = topk_attention(*inputs, None, None, 4)
    turned = [x.detach().transpose(2, 3).contiguous().transpose(2, 3).requires_grad_() for x in inputs]
    again = topk_attention(*turned, None, None, 4)
    assert torch.equal(output, again)
    # The gradient of a sum has no strides at all.
    for one, other in zip(torch.autograd.grad(output.sum(), inputs), torch.autograd.grad(again.sum(), turned)):
        assert torch.equal(one, other)


@pytest.fixture(scope="module")
def whole():
    """A case, and its output and gradients."""
    lengths, key_lengths = [12, 7], [130, 100]
    inputs = draw(lengths, 2, 12, 8), draw(key_lengths, 2, 130, 8, seed=1), draw(key_lengths, 2, 130, 8, seed=2)
    case = inputs, lengths, key_lengths, 6
    return case, check(*case)


@pytest.mark.parametrize(
    "pieces", [{"SCRATCH": 1, "FEWEST_QUERIES": 8}, {"ENTRIES_BYTES": 1}, {"MOST_BINS": 2}, {"MOST_BINS": 1}]
)
def test_the_result_is_the_same_in_chunks_of_queries_slices_of_heads_and_coarser_bins(monkeypatch, whole, pieces):
    for name, value in pieces.items():
        monkeypatch.setattr(kernels.gpu.topk, name, value)
    case, before = whole
    for one, other in zip(before, check(*case)):
        # Coarser bins leave gaps in the sums of a tile: only rounding may differ.
        assert torch.equal(one, other) or ("MOST_BINS" in pieces and relative_error(one, other) < 1e-6)


def test_it_gives_the_same_bits_again():
    inputs = [draw([20], 1, 20, 8, seed=seed) for seed in range(3)]
    first, second = (topk_attention(*inputs, None, None, 5) for _ in range(2))
    assert torch.equal(first, second)
    grads = [torch.autograd.grad(output, inputs, torch.ones_like(output)) for output in (first, second)]
    assert all(torch.equal(one, other) for one, other in zip(*grads))


def test_the_operator_is_one_that_torch_can_compile():
    lengths = torch.tensor([5, 3], device=device)
    inputs = [torch.randn(2, 1, 5, 4, device=device, requires_grad=True) for _ in range(3)]
    torch.library.opcheck(topk_op, (*inputs, lengths, lengths, 2))
    torch.library.opcheck(topk_op, (*inputs, None, None, 2))


def test_arguments_that_it_does_not_cover_are_refused_in_a_sentence():
    def reason(dim=8, value_dim=8, time=9, dtype=torch.float32, topk=4):
        queries, keys, values = (torch.empty(1, 1, time, size, dtype=dtype) for size in (dim, dim, value_dim))
        return refusal(queries, keys, values, None, None, topk)

    assert reason() is None and reason(dim=128, value_dim=1, time=1000, topk=128) is None
    assert "float64" in reason(dtype=torch.float64)
    assert "queries has dim 129" in reason(dim=129)
    assert "values has dim 200" in reason(value_dim=200)
    assert "topk is 129" in reason(time=1000, topk=129)
    assert reason(time=100, topk=129) is None, "there are only 100 keys"
    long = torch.empty(1, device="meta").expand(1, 1, 1 << 28, 8)
    assert "time 268435456" in refusal(long, long, long, None, None, 4)


def test_the_attention_takes_the_kernels_where_they_are_asked_for():
    lengths = torch.tensor([9, 4])
    inputs = [draw(lengths.tolist(), 2, 9, 8, seed=seed) for seed in range(3)]
    attention = attentions.create({"name": "topk", "topk": 3}, seed=0)
    with use("pytorch"):
        wanted = attention(*inputs, lengths)
    with use("triton"):
        got = attention(*inputs, lengths)
        with pytest.raises(ValueError, match="topk is 200"):
            step(*(torch.zeros(1, 1, 300, 8, device=device) for _ in range(3)), None, None, 200)
    assert relative_error(got, wanted) <= 1e-5

"""LSH attention in Triton kernels against plain PyTorch in float64, in the buckets that the kernels found."""

from __future__ import annotations

import pytest
import torch

from kernels.dispatch import use
from kernels.gpu.launch import recording
from kernels.gpu.lsh import attend, buckets_of, lsh_attention, order_of, refusal
from kernels.lsh import bucket_attention, draw_rotations, lsh_buckets
from kernels.lsh import lsh_attention as step
from tests.support.gpu import device, dtypes, needs_triton, relative_error, tolerance

pytestmark = needs_triton


def randn(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def padding(lengths, time):
    return (torch.arange(time, device=device) >= lengths[:, None])[:, None, :, None]


def inputs(lengths, rounds, chunk, dim=16, value_dim=16, heads=1, dtype=torch.float32):
    """Queries and values as a projection leaves them, the heads of a step side by side; and lengths and rotations."""
    time = max(lengths)
    queries, values = (
        randn(len(lengths), time, heads, size, dtype=dtype, seed=seed).transpose(1, 2)
        for seed, size in enumerate((dim, value_dim))
    )
    rotations = draw_rotations(rounds, dim, -(-time // chunk), seed=3, device=device)
    return queries, values, torch.tensor(lengths, device=device), rotations


def with_gradients(function, queries, values, output_grad):
    """Output and gradients of queries and values."""
    queries, values = (x.detach().requires_grad_() for x in (queries, values))
    output = function(queries, values)
    return output.detach(), *torch.autograd.grad(output, (queries, values), output_grad)


def expected(queries, values, lengths, rotations, chunk, output_grad):
    """What plain PyTorch in float64 makes of the same buckets; nothing comes from padding or goes there."""
    batch, heads, time, _ = queries.shape
    hidden = padding(lengths, time)
    buckets = buckets_of(queries, rotations, lengths, chunk).view(batch, heads, -1, time).long()

    def plain(queries, values):
        queries, values = (x.masked_fill(hidden, 0) for x in (queries, values))
        return bucket_attention(queries, values, lengths, buckets, chunk).masked_fill(hidden, 0)

    return with_gradients(plain, queries.double(), values.double(), output_grad.double().masked_fill(hidden, 0))


def assert_as_expected(queries, values, lengths, rotations, chunk):
    output_grad = randn(*queries.shape[:3], values.shape[3], dtype=values.dtype, seed=5)
    got = with_gradients(
        lambda queries, values: lsh_attention(queries, values, lengths, rotations, chunk), queries, values, output_grad
    )
    wanted = expected(queries, values, lengths, rotations, chunk, output_grad)
    hidden = padding(lengths, queries.shape[2])
    # A gradient that cancels leaves what its terms were rounded by.
    least = 0.1 * float(output_grad.masked_fill(hidden, 0).norm())
    for what, one, other in zip(("output", "gradient of queries", "gradient of values"), got, wanted):
        assert one.dtype == values.dtype and one.shape == other.shape
        error = relative_error(one, other) * min(1.0, float(other.norm()) / least)
        assert error <= tolerance[values.dtype], what
        assert not one.masked_fill(~hidden, 0).any(), f"{what} is not zero where padded"


@pytest.mark.parametrize("dtype", dtypes)
@pytest.mark.parametrize("rounds", [1, 4])
@pytest.mark.parametrize("chunk", [1, 7, 32, 64])
def test_output_and_gradients_are_those_of_plain_pytorch_in_the_same_buckets(dtype, rounds, chunk):
    lengths = [70, 9] if chunk >= 32 else [36, 9]
    assert_as_expected(*inputs(lengths, rounds, chunk, dtype=dtype), chunk)


@pytest.mark.parametrize("dtype", dtypes)
@pytest.mark.parametrize("dim, value_dim", [(128, 128), (64, 5), (3, 80), (100, 33)])
def test_dims_may_be_anything_up_to_128_and_those_of_values_may_differ(dtype, dim, value_dim):
    assert_as_expected(*inputs([40, 33], 2, 16, dim, value_dim, dtype=dtype), 16)


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("lengths", [[20, 1, 0], [1], [2, 1]])
def test_sequences_may_be_empty_or_a_single_step_which_attends_to_itself(rounds, lengths):
    queries, values, lengths, rotations = inputs(lengths, rounds, 4)
    assert_as_expected(queries, values, lengths, rotations, 4)
    alone = torch.nonzero(lengths == 1)[0, 0]
    output = lsh_attention(queries, values, lengths, rotations, 4)
    torch.testing.assert_close(output[alone, :, :1], values[alone, :, :1])


@pytest.mark.parametrize("chunk", [40, 128, 200])
def test_a_chunk_may_be_longer_than_the_sequence_and_any_number(chunk):
    assert_as_expected(*inputs([40, 9], 2, chunk), chunk)


def test_a_step_that_no_round_brings_near_another_has_all_of_its_own_value_and_gradient():
    # In chunks of one, the first place sees nothing but itself: alike steps are in their own order in all three rounds.
    queries, values, lengths, rotations = inputs([6], 3, 1)
    queries = queries[:, :, :1].expand_as(queries).contiguous()
    assert_as_expected(queries, values, lengths, rotations, 1)
    output = lsh_attention(queries, values, lengths, rotations, 1)
    torch.testing.assert_close(output[:, :, 0], values[:, :, 0])
    torch.testing.assert_close(output[:, :, 1:], values[:, :, :-1])


@pytest.mark.parametrize("dtype", dtypes)
def test_queries_that_are_zero_or_all_equal_give_what_is_finite(dtype):
    queries, values, lengths, rotations = inputs([30, 12], 2, 8, dtype=dtype)
    for same in (torch.zeros_like(queries), torch.ones_like(queries)):
        assert_as_expected(same + queries * 0, values, lengths, rotations, 8)
    queries[:, :, 3] = 0
    output_grad = randn(*values.shape, dtype=dtype)
    output, _, value_grad = with_gradients(
        lambda queries, values: lsh_attention(queries, values, lengths, rotations, 8), queries, values, output_grad
    )
    assert output.isfinite().all() and value_grad.isfinite().all()


def test_one_query_that_is_zero_has_the_gradient_of_a_norm_that_is_held():
    queries, values, lengths, rotations = inputs([30, 12], 2, 8)
    queries[:, :, 3] = 0
    assert_as_expected(queries, values, lengths, rotations, 8)


@pytest.mark.parametrize("dtype", dtypes)
@pytest.mark.parametrize("chunk", [3, 32])
def test_buckets_are_those_of_plain_pytorch_wherever_rounding_does_not_decide(dtype, chunk):
    queries, _, lengths, rotations = inputs([150, 61, 1], 2, chunk, dim=20, heads=2, dtype=dtype)
    queries[0, :, 5] = 0
    columns = -(-150 // chunk)
    rounded = rotations.to(dtype).float()
    got = buckets_of(queries, rotations, lengths, chunk).view(3, 2, 2, 150)
    assert got.dtype == torch.int16
    hidden = padding(lengths, 150)
    wanted = lsh_buckets(queries.masked_fill(hidden, 0), rounded, lengths, chunk)
    projections = torch.einsum("bhtd,crd->bhrtc", queries.double(), rounded[:columns].double()).abs()
    unused = torch.arange(columns, device=device) >= (-(-lengths // chunk)).clamp(min=1)[:, None]
    largest = projections.masked_fill(unused[:, None, None, None], -1).sort(-1).values
    clear = (largest[..., -1] - largest[..., -2] > 1e-5 * largest[..., -1]) | hidden[:, :, None, :, 0]
    assert clear.float().mean() > 0.98 and torch.equal(got[clear].long(), wanted[clear])
    assert not got[0, :, :, 5].any()


def test_buckets_that_do_not_fit_16_bits_have_32():
    queries, _, lengths, rotations = inputs([16400], 1, 1, dim=1, heads=1)
    with recording(lambda launch: None):
        assert buckets_of(queries, rotations, lengths, 1).dtype == torch.int32
        assert buckets_of(queries, rotations, lengths, 2).dtype == torch.int16


def test_equal_projections_go_to_the_lowest_column_and_the_positive_side():
    queries, _, lengths, _ = inputs([200], 1, 1, dim=4, heads=1)
    rotations = randn(1, 1, 4).expand(200, 1, 4).contiguous()
    buckets = buckets_of(queries, rotations, lengths, 1)
    assert torch.equal(buckets[0, 0] == 200, (queries[0, 0] @ rotations[0, 0]) < 0)
    assert torch.equal(buckets[0, 0] == 0, (queries[0, 0] @ rotations[0, 0]) >= 0)


def test_the_order_is_stable_and_knows_the_chunk_of_every_step():
    buckets = torch.randint(0, 5, (3, 2, 50), generator=torch.Generator().manual_seed(0)).to(device, torch.int16)
    order, chunk_of = order_of(buckets, 7)
    wanted = buckets.sort(dim=-1, stable=True).indices
    assert order.dtype == chunk_of.dtype == torch.int32 and torch.equal(order.long(), wanted)
    assert torch.equal(
        chunk_of.transpose(1, 2).gather(2, wanted), (torch.arange(50, device=device) // 7).expand(3, 2, 50)
    )
    assert order_of(buckets[:, :1], 7)[1].numel() == 0


@pytest.mark.parametrize("rounds", [1, 2])
def test_what_stands_in_padding_never_matters_and_every_output_is_written(rounds):
    queries, values, lengths, rotations = inputs([36, 11, 0], rounds, 8, heads=2)
    output_grad = randn(*values.shape, seed=5)
    hidden = padding(lengths, 36)

    def run(fill):
        tensors = [x.masked_fill(hidden, fill) for x in (queries, values, output_grad)]
        return with_gradients(lambda q, v: lsh_attention(q, v, lengths, rotations, 8), *tensors)

    clean = run(0.0)
    # Where PyTorch is told to be deterministic, memory that it hands out uninitialized holds NaN.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        dirty = run(float("nan"))
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip(clean, dirty):
        assert torch.equal(one, other)


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_sequence_has_the_same_result_alone_as_in_any_batch(rounds):
    queries, values, lengths, rotations = inputs([36, 18, 3], rounds, 8)
    output_grad = randn(*values.shape, seed=5)
    together = with_gradients(lambda q, v: lsh_attention(q, v, lengths, rotations, 8), queries, values, output_grad)
    for place, length in enumerate(lengths.tolist()):
        own = [x[place : place + 1, :, :length] for x in (queries, values, output_grad)]
        alone = with_gradients(lambda q, v: lsh_attention(q, v, None, rotations, 8), *own)
        for one, other in zip(together, alone):
            assert torch.equal(one[place, :, :length], other[0])


@pytest.mark.parametrize(
    "arrange",
    [
        lambda x: x.contiguous(),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: x.permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0),
        lambda x: torch.cat([x, x], 3)[..., : x.shape[3]],
    ],
)
def test_strides_may_be_anything(arrange):
    queries, values, lengths, rotations = inputs([20, 9], 2, 8, heads=2)
    output_grad = randn(*values.shape, seed=5)
    wanted = with_gradients(lambda q, v: lsh_attention(q, v, lengths, rotations, 8), queries, values, output_grad)
    got = with_gradients(
        lambda q, v: lsh_attention(arrange(q), arrange(v), lengths, rotations, 8), queries, values, arrange(output_grad)
    )
    assert all(torch.equal(one, other) for one, other in zip(got, wanted))


def test_the_outgoing_gradient_may_be_one_number_in_all_places():
    queries, values, lengths, rotations = inputs([20, 9], 2, 8, heads=2)
    ones = torch.ones_like(values)
    wanted = with_gradients(lambda q, v: lsh_attention(q, v, lengths, rotations, 8), queries, values, ones)
    got = with_gradients(
        lambda q, v: lsh_attention(q, v, lengths, rotations, 8), queries, values, ones[:1, :1, :1, :1].expand_as(ones)
    )
    assert all(torch.equal(one, other) for one, other in zip(got, wanted))


def test_half_precision_queries_hash_in_their_own_precision_and_rotations_may_have_more_columns_than_asked_for():
    queries, _, lengths, rotations = inputs([60], 1, 8, dtype=torch.float16)
    more = torch.cat([rotations, rotations * 5])
    assert torch.equal(buckets_of(queries, rotations, lengths, 8), buckets_of(queries, more, lengths, 8))
    alike = buckets_of(queries, rotations.half().float(), lengths, 8)
    assert torch.equal(buckets_of(queries, rotations, lengths, 8), alike)


@pytest.mark.parametrize("rounds", [1, 2])
def test_the_operator_keeps_the_rules_of_torch_library(rounds):
    queries, values, lengths, rotations = inputs([12, 5], rounds, 4)
    queries, values = queries.requires_grad_(), values.requires_grad_()
    torch.library.opcheck(attend, (queries, values, lengths, rotations, 4))
    torch.library.opcheck(attend, (queries, values, None, rotations, 4))


def test_what_is_kept_for_the_gradient_is_linear_in_time():
    queries, values, lengths, rotations = inputs([64], 3, 4, heads=1)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
        lsh_attention(queries.requires_grad_(), values, lengths, rotations, 4)
    assert max(sizes) <= 64 * 16


def test_the_step_takes_the_kernels_where_it_is_told_to():
    queries, values, lengths, rotations = inputs([30, 12], 2, 8)
    with use("triton"):
        got = step(queries, values, lengths, rotations, 8)
    assert torch.equal(got, lsh_attention(queries, values, lengths, rotations, 8))


def test_what_the_kernels_do_not_cover_is_refused_in_a_sentence():
    queries, values, lengths, rotations = inputs([8], 1, 4)
    assert refusal(queries, values, lengths, rotations, 4) is None
    assert refusal(queries, values, None, rotations, 400) is None
    wide, many = queries.new_empty(1, 2, 8, 129), queries.new_empty(1, 1, 1, 1).expand(256, 256, 8, 16)
    assert "queries has dtype torch.float64" in refusal(queries.double(), values, lengths, rotations, 4)
    assert "values has dim 129" in refusal(queries, wide, lengths, rotations, 4)
    assert "values has dtype torch.float16" in refusal(queries, values.half(), lengths, rotations, 4)
    assert "65536 heads" in refusal(many, many, lengths, rotations, 4)

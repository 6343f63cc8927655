"""Clustered attention in Triton, on a GPU or in the interpreter, against plain PyTorch in float64 with the same labels."""

from __future__ import annotations

import pytest
import torch

from asr.kernels import reference
from asr.kernels.clustered import attend_in_clusters
from asr.kernels.dispatch import use
from asr.kernels.hashing import draw_planes
from asr.kernels.padding import zero_padded
from asr.kernels.seeds import even_seeds, path_seeds, plusplus_seeds
from asr.kernels.spaces import FINE, LEVELS
from tests.support.gpu import INTERPRETED, device, dtypes, needs_triton, relative_error, tolerance

pytestmark = needs_triton


def lengths_of(*numbers):
    return torch.tensor(numbers, device=device)


def randn(*shape, dtype=torch.float32):
    return torch.randn(*shape, device=device).to(dtype)


def dirty(x, lengths):
    """x with NaN at padded steps, ready for gradients."""
    if lengths is not None:
        x = x.masked_fill((torch.arange(x.shape[2], device=device) >= lengths[:, None])[:, None, :, None], float("nan"))
    return x.detach().requires_grad_()


def run(queries, keys, values, lengths, key_lengths, clusters, topk, iterations=4, bits=63, space="hash", seeds="even"):
    from asr.kernels.gpu.clustered import clustered_op

    planes = draw_planes(bits, queries.shape[3], 1, device) if space == "hash" else (None, None, 0)
    settings = *planes, clusters, iterations, min(topk, keys.shape[2]), space, seeds
    return clustered_op(queries, keys, values, lengths, key_lengths, *settings)


def float64_attention(queries, keys, values, lengths, key_lengths, labels, top, clusters):
    """Eqs. 3-6 and 9-11 with whole matrices, for given labels and top keys: `top` (batch, heads, clusters, time) of 0 and 1."""
    membership = torch.nn.functional.one_hot(labels, clusters).double()
    if lengths is not None:
        membership = zero_padded(membership, lengths)
    counts = membership.sum(2).clamp(min=1)[..., None]
    means = membership.transpose(2, 3) @ queries / counts
    scale = queries.shape[3] ** -0.5
    masked = torch.zeros(len(keys), 1, 1, keys.shape[2], dtype=torch.float64, device=device)
    if key_lengths is not None:
        masked = masked.masked_fill(
            (torch.arange(keys.shape[2], device=device) >= key_lengths[:, None])[:, None, None], -1e30
        )
    attention = (means @ keys.transpose(2, 3) * scale + masked).softmax(-1)
    own = (queries @ keys.transpose(2, 3) * scale + masked + (membership @ top - 1) * 1e30).softmax(-1)
    mass = membership @ (attention * top).sum(-1, keepdim=True)
    return membership @ (attention * (1 - top)) @ values + mass * own @ values


def assert_equal_to_float64(queries, keys, values, lengths, key_lengths, clusters, topk, outgoing=None, **settings):
    """Forward and every gradient, from inputs and an outgoing gradient that are NaN where they are padded.

    outgoing: the gradient everywhere; None for one that is drawn.
    """
    inputs = [dirty(queries, lengths), dirty(keys, key_lengths), dirty(values, key_lengths)]
    results = run(*inputs, lengths, key_lengths, clusters, topk, **settings)
    output, labels, selected = results[0], results[1].view(*queries.shape[:3]).long().clamp(min=0), results[7]
    grad = randn(*output.shape, dtype=output.dtype) if outgoing is None else torch.full_like(output, outgoing)
    gradients = torch.autograd.grad(output, inputs, dirty(grad, lengths))

    wanted = [
        zero_padded(x.detach().double(), n).requires_grad_()
        for x, n in zip(inputs, (lengths, key_lengths, key_lengths))
    ]
    top = torch.zeros(*queries.shape[:2], clusters, keys.shape[2], dtype=torch.float64, device=device)
    if topk:
        selected = selected.view(*queries.shape[:2], clusters, -1).long()
        top.scatter_add_(3, selected.clamp(min=0), (selected >= 0).double())
    expected = zero_padded(float64_attention(*wanted, lengths, key_lengths, labels, top, clusters), lengths)
    wanted_gradients = torch.autograd.grad(expected, wanted, zero_padded(grad.double(), lengths))
    assert relative_error(output, expected) <= tolerance[queries.dtype]
    for got, gradient, n in zip(gradients, wanted_gradients, (lengths, key_lengths, key_lengths)):
        gradient = zero_padded(gradient, n)
        # Equal keys have a gradient of queries of zero, of which no error is a fraction.
        error = (got.double() - gradient).norm() / torch.maximum(
            gradient.norm(), zero_padded(grad, lengths).norm() / 100
        )
        assert error <= tolerance[queries.dtype]
        assert torch.equal(got, zero_padded(got, n))
    assert torch.equal(output, zero_padded(output, lengths))
    if queries.dtype == torch.float32:
        # Lower precision may choose otherwise between keys that are nearly alike.
        plain = attend_in_clusters(*wanted, lengths, key_lengths, labels, clusters, topk)
        assert relative_error(output, zero_padded(plain, lengths)) <= tolerance[torch.float32]


@pytest.mark.parametrize("clusters", [1, 10, 100, 300])
@pytest.mark.parametrize("bits", [63, 31, 5])
def test_labels_are_the_integer_hamming_argmax_bit_for_bit(clusters, bits):
    from asr.kernels.gpu.hashing import hash_queries
    from asr.kernels.gpu.kmeans import INDEX_SCALE, cluster_codes, table_size

    lengths = lengths_of(150, 70, 1, 0)
    queries = dirty(randn(4, 1, 150, 24), lengths).detach()
    planes = draw_planes(bits, 24, 1, device)
    for iterations in (0, 1, 4):
        codes, centroids = hash_queries(queries, planes, lengths, clusters, table_size(clusters)[1], INDEX_SCALE)
        projections = zero_padded(queries, lengths).double() @ planes.normals[:bits].double().T
        sure = projections.abs() > 1e-5
        assert torch.equal(codes[..., :bits].view_as(projections)[sure] > 0, projections[sure] > 0)
        labels, counts = cluster_codes(codes, centroids, None, lengths, 1, clusters, iterations, bits)
        for row, length in enumerate(lengths.tolist()):
            if length:
                first = even_seeds(lengths[row : row + 1], clusters)[0].cpu()
                expected = reference.cluster_queries(codes[row, :length, :bits].float().cpu(), first, iterations)
                assert torch.equal(labels[row, :length].long().cpu(), expected)
            assert (labels[row, length:] == -1).all() and int(counts[row].sum()) == length


@pytest.mark.parametrize("clusters, dim", [(1, 16), (10, 128), (100, 16), (140, 24)])
def test_labels_are_those_of_integer_kmeans_bit_for_bit(clusters, dim):
    from asr.kernels.gpu.kmeans import INDEX_SCALE, cluster_codes, table_size
    from asr.kernels.gpu.seeds import choose_seeds, first_centroids
    from asr.kernels.gpu.spaces import whole_codes

    lengths = lengths_of(110, 70, 1, 0)
    queries = dirty(randn(4, 1, 110, dim) + 3, lengths).detach()
    codes = whole_codes(queries, lengths)
    codes[0, 75:, :dim] = codes[0, 75:, :dim].sign() * LEVELS  # ties, and the largest numbers there are
    block, all_clusters = table_size(clusters)
    for seeds, plain in (("even", None), ("path", path_seeds), ("plusplus", plusplus_seeds)):
        chosen = choose_seeds(codes, lengths, 1, clusters, seeds)
        first = (
            even_seeds(lengths, clusters) if plain is None else plain(codes.float()[:, None], lengths, clusters)[:, 0]
        )
        assert chosen is None or torch.equal(chosen[:3].long(), first[:3])
        for iterations in (1, 3) if seeds == "even" else (0,):
            centroids, offsets = first_centroids(
                codes, chosen, lengths, 1, clusters, all_clusters, block, None, INDEX_SCALE
            )
            labels, counts = cluster_codes(codes, centroids, offsets, lengths, 1, clusters, iterations, 0)
            for row, length in enumerate(lengths.tolist()):
                if length:
                    numbers = codes[row, :length].long().cpu()
                    expected = reference.cluster_whole_numbers(numbers, first[row].cpu(), iterations, FINE)
                    assert torch.equal(labels[row, :length].long().cpu(), expected)
                assert (labels[row, length:] == -1).all() and int(counts[row].sum()) == length


@pytest.mark.parametrize("dtype", dtypes)
@pytest.mark.parametrize("time, dim", [(70, 24), (2100, 16)])
def test_whole_codes_are_those_of_plain_pytorch_except_at_halves(time, dim, dtype):
    from asr.kernels.gpu.spaces import whole_codes
    from asr.kernels.spaces import SLOTS
    from asr.kernels.spaces import whole_codes as plain_codes

    lengths = lengths_of(time, 7, 1, 0)
    queries = dirty(randn(4, 1, time, dim, dtype=dtype), lengths).detach()
    codes = whole_codes(queries, lengths).float()
    plain = plain_codes(zero_padded(queries, lengths), lengths)[:, 0, :, :-SLOTS]
    assert float((codes[..., :dim] - plain).abs().max()) <= 1
    assert float((codes[..., :dim] != plain).double().mean()) < 1e-2
    assert float(codes.abs().max()) == LEVELS and not codes[..., dim:].any() and not codes[1, 7:].any()
    # Alone, and with other padding, a sequence has the same codes.
    assert torch.equal(whole_codes(queries[1:2, :, :7], None)[0], codes[1, :7].half())


@pytest.mark.parametrize("space", ["queries", "scores"])
def test_queries_that_are_not_numbers_read_and_write_nothing_outside(space):
    queries, keys, values = (randn(1, 2, 70, 16) for _ in range(3))
    clean = run(queries, keys, values, None, None, 5, 4, space=space)[0]
    queries[0, 0, 3:9], keys[0, 0, 5] = float("nan"), float("inf")
    output = run(queries, keys, values, None, None, 5, 4, space=space)[0]
    assert torch.equal(output[0, 1], clean[0, 1])


@pytest.mark.parametrize("bins, items, width", [(10, 70, 1), (100, 1300, 1), (1000, 600, 1), (40, 600, 25)])
def test_grouping_is_a_stable_sort_that_leaves_out_negative_labels(bins, items, width):
    from asr.kernels.gpu.grouping import group_by

    labels = torch.randint(-3, bins * width, (3, items), device=device, dtype=torch.int32)
    order, start = group_by(labels, bins, width)
    for row in range(3):
        kept = (labels[row] >= 0).nonzero()[:, 0]
        bin_of = labels[row][kept] // width
        assert torch.equal(order[row, : len(kept)].long(), kept[bin_of.argsort(stable=True)])
        counts = torch.bincount(bin_of, minlength=bins)
        assert start[row].tolist() == [0, *counts.cumsum(0).tolist()]


@pytest.mark.skipif(not INTERPRETED, reason="kernels check it where TRITON_DEBUG is 1, and a GPU counts right")
def test_a_histogram_that_miscounts_is_found_out(monkeypatch):
    from triton.runtime.interpreter import InterpreterBuilder

    from asr.kernels.gpu.grouping import group_by

    right = InterpreterBuilder.create_histogram

    def wrong(*arguments):
        found = right(*arguments)
        found.data[0] += 1
        return found

    monkeypatch.setattr(InterpreterBuilder, "create_histogram", wrong)
    with pytest.raises(Exception, match="counts of a chunk"):
        group_by(torch.zeros(1, 70, dtype=torch.int32), 3)
    with pytest.raises(Exception, match="counts of a chunk"):
        run(randn(1, 1, 70, 16), randn(1, 1, 70, 16), randn(1, 1, 70, 16), None, None, 3, 0)


@pytest.mark.parametrize("improved", [False, True])
def test_sums_of_gradients_may_exceed_float16(improved):
    """As under a loss scale: 300 members with a gradient of 300 each sum up to 90000, and 65504 is the largest."""
    inputs = [randn(1, 1, 600, 16, dtype=torch.float16) for _ in range(3)]
    assert_equal_to_float64(*inputs, None, None, 2, 8 if improved else 0, outgoing=300.0)


SHAPES = [
    # batch, heads, queries' time, time, dim, value dim, clusters, topk
    (2, 2, 70, 70, 20, 12, 7, 8),
    (1, 1, 100, 100, 64, 64, 30, 32),
    (1, 2, 50, 90, 16, 33, 10, 5),
    (1, 1, 60, 33, 128, 128, 10, 100),
    (1, 1, 140, 20, 32, 32, 130, 2),
    (1, 1, 3, 5, 7, 3, 4, 2),
]


@pytest.mark.parametrize("dtype", dtypes)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("improved", [False, True])
def test_outputs_and_gradients_are_those_of_float64(shape, improved, dtype):
    batch, heads, time, key_time, dim, value_dim, clusters, topk = shape
    if dtype == torch.bfloat16 and device == "cpu" and shape not in (SHAPES[0], SHAPES[1], SHAPES[4]):
        pytest.skip("the interpreter is slow, and these add nothing to float32")
    queries, keys = randn(batch, heads, time, dim, dtype=dtype), randn(batch, heads, key_time, dim, dtype=dtype)
    values = randn(batch, heads, key_time, value_dim, dtype=dtype)
    assert_equal_to_float64(queries, keys, values, None, None, clusters, topk if improved else 0)


@pytest.mark.parametrize("improved", [False, True])
@pytest.mark.parametrize(
    "space, seeds", [("hash", "even"), ("hash", "path"), ("queries", "path"), ("scores", "plusplus")]
)
def test_padding_of_queries_and_keys_never_matters(improved, space, seeds):
    lengths, key_lengths = lengths_of(60, 21, 1, 0, 5), lengths_of(45, 70, 3, 4, 0)
    queries, keys, values = randn(5, 1, 60, 16), randn(5, 1, 70, 16), randn(5, 1, 70, 16)
    settings = {"space": space, "seeds": seeds}
    assert_equal_to_float64(queries, keys, values, lengths, key_lengths, 6, 8 if improved else 0, **settings)


@pytest.mark.parametrize("layout", ["heads last", "expanded", "strided", "transposed"])
def test_any_layout_in_memory_will_do(layout):
    if layout == "heads last":
        queries, keys, values = (randn(2, 40, 3, 16).transpose(1, 2) for _ in range(3))
    elif layout == "expanded":
        queries, keys, values = (randn(1, 1, 40, 16).expand(2, 3, 40, 16) for _ in range(3))
    elif layout == "strided":
        queries, keys, values = (randn(2, 3, 80, 32)[:, :, ::2, ::2] for _ in range(3))
    else:
        queries, keys, values = (randn(2, 3, 16, 40).transpose(2, 3) for _ in range(3))
    assert_equal_to_float64(queries, keys, values, None, None, 5, 7)


@pytest.mark.parametrize("improved", [False, True])
@pytest.mark.parametrize("clusters", [1, 5])
def test_equal_queries_and_equal_keys_are_exact_and_finite(improved, clusters):
    same = randn(1, 1, 1, 16).expand(1, 1, 70, 16)
    values = randn(1, 1, 70, 16)
    assert_equal_to_float64(same, randn(1, 1, 70, 16), values, None, None, clusters, 8 if improved else 0)
    assert_equal_to_float64(randn(1, 1, 70, 16), same, values, None, None, clusters, 8 if improved else 0)
    assert_equal_to_float64(same * 0, same * 0, values, None, None, clusters, 8 if improved else 0)


def full_attention(queries, keys, values):
    return torch.nn.functional.scaled_dot_product_attention(queries.double(), keys.double(), values.double())


@pytest.mark.parametrize("topk", [24, 128])
def test_as_many_top_keys_as_keys_is_full_attention(topk):
    queries, keys, values = (randn(1, 2, 24, 16) for _ in range(3))
    output = run(queries, keys, values, None, None, 3, topk)[0]
    assert relative_error(output, full_attention(queries, keys, values)) <= tolerance[torch.float32]


@pytest.mark.parametrize("topk", [0, 3])
def test_as_many_clusters_as_queries_is_full_attention(topk):
    queries, keys, values = (randn(1, 2, 24, 16) for _ in range(3))
    output = run(queries, keys, values, None, None, 24, topk, iterations=0)[0]
    assert relative_error(output, full_attention(queries, keys, values)) <= tolerance[torch.float32]


def test_the_improved_form_is_nowhere_further_from_full_attention():
    """Proposition 2 of Vyas et al. 2020, on the matrices that identity values show."""
    lengths = lengths_of(64, 40)
    queries, keys = randn(2, 1, 64, 16) * 2, randn(2, 1, 64, 16)
    identity = torch.eye(64, device=device).expand(2, 1, 64, 64)
    clustered, improved = (run(queries, keys, identity, lengths, lengths, 6, topk)[0] for topk in (0, 9))
    for row, length in enumerate(lengths.tolist()):
        full = full_attention(queries[row, :, :length], keys[row, :, :length], identity[row, :, :length])
        errors = [(matrix[row, :, :length] - full).abs().sum(-1) for matrix in (clustered, improved)]
        assert (errors[1] <= errors[0] + 1e-5).all()


def test_lengths_beyond_the_time_read_and_write_nothing_outside():
    queries, keys, values = (randn(1, 1, 20, 16) for _ in range(3))
    beyond = run(queries, keys, values, lengths_of(1000), lengths_of(1000), 3, 4)
    assert torch.equal(beyond[0], run(queries, keys, values, lengths_of(20), lengths_of(20), 3, 4)[0])


def test_the_same_input_gives_the_same_bits_in_forward_and_backward():
    inputs = [randn(2, 1, 90, 16).requires_grad_() for _ in range(3)]
    grad = randn(2, 1, 90, 16)
    results = []
    for _ in range(2):
        output = run(*inputs, lengths_of(90, 60), lengths_of(90, 60), 5, 8)[0]
        results.append([output, *torch.autograd.grad(output, inputs, grad)])
    assert all(torch.equal(one, other) for one, other in zip(*results))


@pytest.mark.parametrize("topk", [0, 5])
def test_the_op_keeps_torchs_rules(topk):
    from asr.kernels.gpu.clustered import clustered_op

    planes = draw_planes(31, 16, 1, device)
    inputs = [randn(1, 2, 20, 16).requires_grad_() for _ in range(3)]
    arguments = *inputs, lengths_of(17), lengths_of(17), planes.normals, planes.offsets, planes.bits, 4, 2, topk
    torch.library.opcheck(clustered_op, arguments)


def test_what_the_kernels_do_not_cover_is_refused_in_a_sentence_where_they_are_forced():
    from asr.kernels.clustered import improved_clustered_attention

    x = randn(1, 1, 300, 16)
    planes = draw_planes(63, 16, 1, device)
    wide, many = randn(1, 1, 5, 200), draw_planes(100, 16, 1, device)
    with use("triton"):
        for arguments, sentence in [
            ((x.double(), x.double(), x.double(), None, None, planes, 4, 2, 3), "queries has dtype torch.float64"),
            ((wide, wide, wide, None, None, planes, 4, 2, 3), "queries has dim 200, expected at most 128"),
            ((x, x, x, None, None, planes, 2000, 2, 3), "clusters is 2000, expected at most 1024"),
            ((x, x, x, None, None, many, 4, 2, 3), "bits is 100, expected at most 63"),
            ((x, x, x, None, None, planes, 4, 2, 200), "topk is 200, expected at most 128"),
        ]:
            with pytest.raises(ValueError, match=sentence):
                improved_clustered_attention(*arguments)
    with use("pytorch"):
        assert improved_clustered_attention(x, x, x, None, None, planes, 4, 2, 200).shape == x.shape

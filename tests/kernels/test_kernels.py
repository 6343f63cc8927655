"""Every step of the arithmetic against the reference, which says the same with whole matrices in float64."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import pytest
import torch

import asr.kernels.lsh
import asr.kernels.topk
from asr.errors import UserError
from asr.kernels import reference
from asr.kernels.centroids import centroid_attention, cluster_means
from asr.kernels.clustered import cluster_queries, clustered_attention, improved_clustered_attention
from asr.kernels.dispatch import chosen, step, use
from asr.kernels.hashing import draw_planes, hash_codes
from asr.kernels.kmeans import first_centroids, hamming_kmeans
from asr.kernels.lsh import draw_rotations, lsh_attention, lsh_buckets
from asr.kernels.members import block_size, blocked_members, dense_members, member_slots
from asr.kernels.selection import top_keys
from asr.kernels.topk import topk_attention
from asr.model.attention import attentions


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def zero_padding(x, lengths):
    return x * (torch.arange(x.shape[2]) < lengths[:, None])[:, None, :, None]


def inputs(lengths, heads=2, dim=8, value_dim=6):
    """Queries, keys and values, zero at padded steps, that gradients can be taken for."""
    shape = len(lengths), heads, int(lengths.max())
    tensors = randn(*shape, dim), randn(*shape, dim, seed=1), randn(*shape, value_dim, seed=2)
    return [zero_padding(x, lengths).requires_grad_() for x in tensors]


def one_by_one(matrix_of, queries, keys, values, lengths):
    """The output of `matrix_of(batch, head, queries, keys)` times values, for every head of every sequence alone."""
    output = torch.zeros(*queries.shape[:3], values.shape[3], dtype=torch.float64)
    rows = []
    for batch, length in enumerate(lengths.tolist()):
        for head in range(queries.shape[1]):
            if length:
                alone = [x[batch, head, :length] for x in (queries, keys, values)]
                rows.append(((batch, head, slice(length)), matrix_of(batch, head, *alone[:2]) @ alone[2]))
    for place, row in rows:
        output = output.index_put(tuple(torch.tensor(i) for i in place[:2]) + (torch.arange(len(row)),), row)
    return output


def assert_same_with_gradients(output, expected, inputs, *lengths):
    """At valid steps, that is: what calls the steps stops the gradient of padding. lengths: of each input, or of all."""
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-11)
    grad = randn(*output.shape, seed=3)
    got = torch.autograd.grad(output, inputs, grad)
    wanted = torch.autograd.grad(expected, inputs, grad)
    for one, other, length in zip(got, wanted, lengths * (len(inputs) // len(lengths))):
        one, other = zero_padding(one, length), zero_padding(other, length)
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_codes_are_signs_of_projections_and_zero_where_padded():
    lengths = torch.tensor([9, 4])
    queries = randn(2, 3, 9, 5).float()
    queries[0, 0, 0] = 0
    queries = zero_padding(queries, lengths)
    planes = draw_planes(63, 5, seed=1)
    codes = hash_codes(queries, planes, lengths)
    assert codes.shape == (2, 3, 9, 64) and codes.dtype == torch.float32
    projections = queries @ planes.normals[:63].T
    assert torch.equal(codes[0, ..., :63] > 0, projections[0] > 0) and (codes[0].abs() == 1).all()
    assert (codes[..., 63][0] == 1).all()
    assert not codes[1, :, 4:].any()


def test_planes_are_the_same_for_a_seed_and_not_for_another():
    assert torch.equal(draw_planes(63, 8, 1).normals, draw_planes(63, 8, 1).normals)
    assert not torch.equal(draw_planes(63, 8, 1).normals, draw_planes(63, 8, 2).normals)


@pytest.mark.parametrize("clusters", [1, 2, 7, 24, 25, 100])
def test_first_centroids_are_valid_distinct_and_all_steps_if_there_are_enough_clusters(clusters):
    lengths = torch.arange(1, 25)
    for length, steps in zip(lengths.tolist(), first_centroids(lengths, clusters).tolist()):
        assert min(steps) >= 0 and max(steps) < length
        assert len(set(steps)) == min(clusters, length)
        assert steps == first_centroids(torch.tensor([length]), clusters)[0].tolist()


@pytest.mark.parametrize("clusters", [1, 5, 40, 300, 700])
@pytest.mark.parametrize("bits", [3, 16, 63, 64])
def test_kmeans_is_lloyds_algorithm_with_ties_to_the_lowest_index(clusters, bits):
    lengths = torch.tensor([60, 33, 0])
    queries = zero_padding(randn(3, 2, 60, 8), lengths)
    codes = hash_codes(queries, draw_planes(bits, 8, seed=2), lengths)
    for iterations in (0, 1, 4):
        labels = hamming_kmeans(codes, lengths, clusters, iterations, bits)
        for batch, length in enumerate([60, 33]):
            first = first_centroids(lengths[batch : batch + 1], clusters)[0]
            for head in range(2):
                expected = reference.cluster_queries(codes[batch, head, :length, :bits], first, iterations)
                assert torch.equal(labels[batch, head, :length], expected)
        assert not labels[1, :, 33:].any() and not labels[2].any()


def test_kmeans_stops_early_only_where_nothing_would_change():
    lengths = torch.tensor([50])
    codes = hash_codes(randn(1, 2, 50, 8), draw_planes(31, 8, seed=2), None)
    many = hamming_kmeans(codes, lengths, 6, 100, 31)
    assert torch.equal(many, hamming_kmeans(codes, lengths, 6, 1000, 31))
    for head in range(2):
        expected = reference.cluster_queries(codes[0, head, :, :31], first_centroids(lengths, 6)[0], 100)
        assert torch.equal(many[0, head], expected)


def test_kmeans_tells_clusters_apart_up_to_the_last_of_many():
    # As many distinct codes as clusters, so that every index must come back from the fraction of a score.
    numbers = torch.arange(5000)
    codes = torch.stack([(numbers >> bit & 1) * 2.0 - 1 for bit in range(13)], -1)
    codes = torch.cat([codes, torch.ones(5000, 19)], -1)[None, None]
    assert torch.equal(hamming_kmeans(codes, None, 5000, 2, 13)[0, 0], numbers)


def test_kmeans_leaves_the_precision_of_products_as_it_was():
    before = torch.backends.mkldnn.matmul.fp32_precision
    codes = hash_codes(randn(1, 1, 9, 4), draw_planes(31, 4, seed=0), None)
    hamming_kmeans(codes, None, 3, 2, 31)
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    with pytest.raises(RuntimeError):
        hamming_kmeans(codes.to(torch.int8), None, 3, 2, 31)
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_labels_do_not_depend_on_padding_or_batch():
    lengths = torch.tensor([70, 41, 3])
    queries = zero_padding(randn(3, 2, 70, 8), lengths).float()
    planes = draw_planes(63, 8, seed=4)
    together = cluster_queries(queries, lengths, planes, 10, 10)
    for batch, length in enumerate(lengths.tolist()):
        alone = cluster_queries(queries[batch : batch + 1, :, :length], None, planes, 10, 10)
        assert torch.equal(together[batch, :, :length], alone[0])


def test_means_leave_out_padding_and_are_zero_for_empty_clusters():
    queries = randn(1, 1, 5, 3)
    queries[:, :, 4] = 0
    means, counts = cluster_means(queries, torch.tensor([[[0, 2, 2, 0, 0]]]), torch.tensor([4]), 3)
    assert counts.tolist() == [[[2, 0, 2]]]
    expected = torch.stack([queries[0, 0, [0, 3]].mean(0), torch.zeros(3), queries[0, 0, [1, 2]].mean(0)])
    torch.testing.assert_close(means[0, 0], expected)


@pytest.mark.parametrize("topk", [1, 4, 19, 20, 50])
def test_top_keys_are_the_highest_with_ties_to_the_lowest_index(topk):
    scores = torch.randint(0, 6, (2, 3, 7, 20), generator=torch.Generator().manual_seed(0)).double()
    scores[1] = randn(3, 7, 20)
    selected = top_keys(scores, topk)
    assert selected.shape == (2, 3, 7, min(topk, 20))
    chosen = torch.zeros_like(scores).scatter_(3, selected, 1.0)
    expected = reference.top_matrix(scores.view(-1, 20), topk).view(scores.shape)
    assert torch.equal(chosen, expected)


@pytest.mark.parametrize("topk", [1, 5, 30])
def test_centroid_attention_splits_the_matrix_and_has_its_gradient(topk):
    lengths = torch.tensor([12, 7])
    means, keys, values = randn(2, 2, 4, 8).requires_grad_(), *inputs(lengths)[1:]
    occupied = torch.ones(2, 2, 4, dtype=torch.bool)

    def outputs(means, keys, values):
        return centroid_attention(means, keys, values, lengths, topk, occupied)[:2]

    assert torch.autograd.gradcheck(outputs, (means, keys, values))
    others, mass = outputs(means, keys, values)
    for batch, length in enumerate(lengths.tolist()):
        for head in range(2):
            matrix = reference.full_matrix(means[batch, head], keys[batch, head, :length])
            top = reference.top_matrix(matrix, topk)
            torch.testing.assert_close(mass[batch, head, :, 0], (matrix * top).sum(-1))
            torch.testing.assert_close(others[batch, head], (matrix * (1 - top)) @ values[batch, head, :length])


@pytest.mark.parametrize("block", [1, 2, 4, 32])
def test_member_slots_keep_clusters_apart_and_lose_nobody(block):
    rows = torch.randint(0, 9, (50,), generator=torch.Generator().manual_seed(1))
    rows[rows == 4] = 5
    slots, owners = member_slots(rows, 9, block)
    assert len(set(slots.tolist())) == 50 and int(slots.max()) < len(owners) * block
    assert torch.equal(owners[slots // block], rows)
    assert len(owners) == sum(-(-count // block) for count in rows.bincount(minlength=9).tolist())


@pytest.mark.parametrize("block", [1, 4, 32])
@pytest.mark.parametrize("topk", [1, 6, 25])
def test_members_in_blocks_and_dense_agree(block, topk):
    lengths, key_lengths = torch.tensor([30, 11, 0]), torch.tensor([25, 4, 0])
    queries, keys, values = inputs(lengths)[0], *inputs(key_lengths)[1:]
    labels = torch.randint(0, 7, (3, 2, 30), generator=torch.Generator().manual_seed(1))
    selected = top_keys(randn(3, 2, 7, 25) - 1e30 * (torch.arange(25) >= key_lengths[:, None])[:, None, None], topk)
    dense = dense_members(queries, keys, values, labels, selected, key_lengths)
    blocked = blocked_members(queries, keys, values, labels, selected, key_lengths, block)
    assert_same_with_gradients(blocked, dense, (queries, keys, values), lengths, key_lengths, key_lengths)


def test_block_sizes_are_powers_of_two_that_grow_with_the_clusters():
    assert [block_size(members, 100) for members in (1, 250, 400, 800, 2048, 100_000)] == [4, 4, 8, 16, 32, 64]


LENGTHS = torch.tensor([40, 23, 5, 0])


@pytest.mark.parametrize("clusters", [1, 6, 60])
def test_clustered_attention_is_equations_3_to_6(clusters):
    tensors = inputs(LENGTHS)
    planes = draw_planes(63, 8, seed=3)
    labels = cluster_queries(tensors[0], LENGTHS, planes, clusters, 10)

    def matrix_of(batch, head, queries, keys):
        return reference.clustered_matrix(queries, keys, labels[batch, head, : len(queries)])

    output = zero_padding(clustered_attention(*tensors, LENGTHS, LENGTHS, planes, clusters, 10), LENGTHS)
    assert_same_with_gradients(output, one_by_one(matrix_of, *tensors, LENGTHS), tensors, LENGTHS)


@pytest.mark.parametrize("clusters", [1, 6, 60])
@pytest.mark.parametrize("topk", [1, 7, 50])
@pytest.mark.parametrize("way", ["dense", "blocked"])
def test_improved_clustered_attention_is_equations_9_to_11(clusters, topk, way, monkeypatch):
    monkeypatch.setattr("asr.kernels.members.dense_cost", lambda *_: 0 if way == "dense" else float("inf"))
    tensors = inputs(LENGTHS)
    planes = draw_planes(63, 8, seed=3)
    labels = cluster_queries(tensors[0], LENGTHS, planes, clusters, 10)

    def matrix_of(batch, head, queries, keys):
        return reference.improved_matrix(queries, keys, labels[batch, head, : len(queries)], topk)

    output = improved_clustered_attention(*tensors, LENGTHS, LENGTHS, planes, clusters, 10, topk)
    assert_same_with_gradients(
        zero_padding(output, LENGTHS), one_by_one(matrix_of, *tensors, LENGTHS), tensors, LENGTHS
    )


@pytest.mark.parametrize("topk", [1, 7, 50])
@pytest.mark.parametrize("chunk_scores", [1 << 24, 700])
def test_topk_attention_keeps_the_best_keys_of_every_query(topk, chunk_scores, monkeypatch):
    monkeypatch.setattr(asr.kernels.topk, "CHUNK_SCORES", chunk_scores)
    tensors = inputs(LENGTHS)

    def matrix_of(batch, head, queries, keys):
        return reference.oracle_top_matrix(queries, keys, topk)

    output = zero_padding(topk_attention(*tensors, LENGTHS, LENGTHS, topk), LENGTHS)
    assert_same_with_gradients(output, one_by_one(matrix_of, *tensors, LENGTHS), tensors, LENGTHS)


@pytest.mark.parametrize("rounds", [1, 4])
@pytest.mark.parametrize("chunk", [1, 4, 7, 64])
def test_lsh_attention_is_softmax_over_the_union_of_the_rounds(rounds, chunk):
    queries, _, values = inputs(LENGTHS)
    rotations = draw_rotations(rounds, 8, 40, seed=5)

    def matrix_of(batch, head, alone, _):
        length = torch.tensor([len(alone)])
        buckets = lsh_buckets(alone[None, None], rotations, length, chunk)[0, 0]
        return reference.lsh_matrix(alone, buckets, chunk)

    output = zero_padding(lsh_attention(queries, values, LENGTHS, rotations, chunk), LENGTHS)
    expected = one_by_one(matrix_of, queries, queries, values, LENGTHS)
    assert_same_with_gradients(output, expected, (queries, values), LENGTHS)


def test_buckets_depend_on_a_sequence_and_its_length_only():
    lengths = torch.tensor([64, 20])
    queries = zero_padding(randn(2, 2, 64, 8), lengths)
    rotations = draw_rotations(2, 8, 16, seed=1)
    buckets = lsh_buckets(queries, rotations, lengths, 4)
    for batch, length in enumerate(lengths.tolist()):
        alone = lsh_buckets(queries[batch : batch + 1, :, :length], rotations, lengths[batch : batch + 1], 4)
        order = buckets[batch, ..., :length].argsort(stable=True)
        assert torch.equal(order, alone[0].argsort(stable=True))
        assert len(alone[0, 0, 0].unique()) <= 2 * -(-length // 4)
    assert (buckets[1, ..., 20:] > buckets[1, ..., :20].max()).all()


def test_buckets_are_the_argmax_of_both_signs_also_when_hashed_in_pieces(monkeypatch):
    queries, rotations, lengths = randn(1, 2, 33, 8), draw_rotations(3, 8, 9, seed=1), torch.tensor([33])
    projections = torch.einsum("bhtd,crd->bhrtc", queries.float(), rotations[:9])
    expected = torch.cat([projections, -projections], -1).argmax(-1)
    assert torch.equal(lsh_buckets(queries, rotations, lengths, 4), expected)
    monkeypatch.setattr(asr.kernels.lsh, "PIECE_PROJECTIONS", 500)
    assert torch.equal(lsh_buckets(queries, rotations, lengths, 4), expected)


def test_more_rotations_do_not_change_the_first_ones():
    few, many = draw_rotations(3, 8, 10, seed=1), draw_rotations(3, 8, 1000, seed=1)
    assert len(few) >= 10 and len(many) >= 1000 and torch.equal(many[: len(few)], few)


def test_vectors_that_point_alike_share_a_bucket_and_opposite_ones_do_not():
    queries = randn(1, 1, 50, 8)
    rotations = draw_rotations(4, 8, 50, seed=1)
    lengths = torch.tensor([50])
    buckets = lsh_buckets(queries, rotations, lengths, 4)
    assert torch.equal(lsh_buckets(queries * 3, rotations, lengths, 4), buckets)
    assert not (lsh_buckets(-queries, rotations, lengths, 4) == buckets).any()


def test_a_gpu_gets_triton_and_everything_else_plain_pytorch_unless_one_is_forced(monkeypatch):
    x = torch.ones(2)
    assert chosen(x) == "pytorch" and chosen(torch.ones(2, device="meta")) == "pytorch"
    with use("triton"):
        assert chosen(x) == "triton"
        with use("pytorch"):
            assert chosen(x) == "pytorch"
        assert chosen(x) == "triton"
    monkeypatch.setenv("ASR_KERNELS", "triton")
    assert chosen(x) == "triton"
    with use("auto"):
        assert chosen(x) == "pytorch"
    monkeypatch.setenv("ASR_KERNELS", "cuda")
    with pytest.raises(ValueError, match="ASR_KERNELS is 'cuda', expected one of auto, triton, pytorch"):
        chosen(x)
    with pytest.raises(ValueError, match="choice is 'gpu', expected one of"), use("gpu"):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it may be forced")
@pytest.mark.parametrize(
    "wanted, sentence", [("cuda", "expected one of auto, triton, pytorch"), ("triton", "there is no GPU here")]
)
def test_an_environment_that_asks_for_what_there_is_not_is_told_so_in_a_sentence(wanted, sentence, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("ASR_KERNELS", wanted)
    with pytest.raises(UserError, match=f"ASR_KERNELS is '{wanted}'.*{sentence}"):
        attentions.create({"name": "clustered"})
    with use("pytorch"):
        attentions.create({"name": "clustered"})


def test_the_triton_version_of_a_step_takes_its_place_where_it_covers_the_arguments(monkeypatch):
    version = types.ModuleType("version")
    version.double = lambda x: "triton"
    version.refusal = lambda x: None if len(x) < 3 else f"x has {len(x)} numbers, expected at most 2"

    @step(triton=lambda: version)
    def double(x):
        """Twice x."""
        return x * 2

    assert double.__doc__ == "Twice x." and double(torch.ones(1)) == 2
    monkeypatch.setattr("asr.kernels.dispatch.chosen", lambda x: "triton")
    assert double(torch.ones(2)) == "triton" and double.plain(torch.ones(1)) == 2
    assert double(torch.ones(3)).tolist() == [2, 2, 2]
    with use("triton"), pytest.raises(ValueError, match="x has 3 numbers, expected at most 2"):
        double(torch.ones(3))


@pytest.mark.run
def test_kernels_import_nothing_but_torch():
    code = (
        "import sys, asr.kernels.clustered, asr.kernels.lsh, asr.kernels.topk\n"
        "assert not [m for m in ('triton', 'lightning', 'lhotse', 'hydra', 'matplotlib') if m in sys.modules]\n"
        "assert not [m for m in sys.modules if m.startswith('asr.') and not m.startswith('asr.kernels')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.run
def test_compiled_kernels_are_kept_for_the_process_where_the_home_folder_cannot_be_written(monkeypatch):
    pytest.importorskip("triton")
    for name in ("TRITON_CACHE_DIR", "TRITON_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc/nohome")
    code = (
        "import asr.kernels.gpu\nfrom triton.runtime.cache import get_cache_manager\n"
        "print(get_cache_manager('ab' * 32).put(b'compiled', 'kernel'))"
    )
    kept = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert "asr-triton-" in kept and not os.path.exists(kept)


@pytest.mark.run
def test_listing_attentions_imports_no_torch():
    code = (
        "import sys; from asr.model.attention import attentions; attentions.names(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Propositions 1 and 2 of Vyas et al. 2020, on the attention matrices that the real attentions apply.

A matrix is read off an attention by giving it the identity for values: row i of the output is how query i weighs the keys.
"""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.kernels.clustered import cluster_queries
from asr.model.attention import attentions

ROUNDING = 1e-9


@st.composite
def queries_and_keys(draw):
    """Queries that come in bunches, as they do in speech, of any scale; float64 (1, 1, time, dim)."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    time, dim, bunches = draw(st.integers(1, 40)), draw(st.sampled_from([1, 3, 8])), draw(st.integers(1, 6))
    spread, scale = draw(st.sampled_from([0.0, 0.1, 1.0])), draw(st.sampled_from([0.1, 1.0, 10.0]))
    centres = torch.randn(bunches, dim, generator=generator, dtype=torch.float64)
    queries = centres[torch.randint(bunches, (time,), generator=generator)]
    queries = (queries + spread * torch.randn(time, dim, generator=generator, dtype=torch.float64)) * scale
    keys = torch.randn(time, dim, generator=generator, dtype=torch.float64)
    return queries[None, None], keys[None, None]


def attention_matrix(queries, keys, **knobs):
    identity = torch.eye(keys.shape[2], dtype=torch.float64)[None, None]
    return attentions.create(knobs, seed=0)(queries, keys, identity)[0, 0]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(queries_and_keys())
def test_proposition_1_near_queries_have_near_attention(inputs):
    queries, keys = inputs
    matrix = attention_matrix(queries, keys, name="full")
    differences = torch.cdist(matrix, matrix)
    distances = torch.cdist(queries[0, 0], queries[0, 0], compute_mode="donot_use_mm_for_euclid_dist")
    norm = torch.linalg.matrix_norm(keys[0, 0], 2) / queries.shape[3] ** 0.5
    assert (differences <= distances * norm + 1e-6).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(queries_and_keys(), st.integers(1, 12))
def test_proposition_1_bounds_the_error_of_clustered_attention_by_the_distance_to_the_centroid(inputs, clusters):
    queries, keys = inputs
    attention = attentions.create({"name": "clustered", "clusters": clusters}, seed=0)
    settings = attention.space_of(queries), clusters, attention.iterations, attention.seeds
    labels = cluster_queries(queries, None, queries, None, *settings)[0, 0]
    membership = torch.nn.functional.one_hot(labels, clusters).double()
    centroids = membership.T @ queries[0, 0] / membership.sum(0).clamp(min=1)[:, None]
    distances = (queries[0, 0] - centroids[labels]).norm(dim=-1)
    full = attention_matrix(queries, keys, name="full")
    clustered = attention_matrix(queries, keys, name="clustered", clusters=clusters)
    norm = torch.linalg.matrix_norm(keys[0, 0], 2) / queries.shape[3] ** 0.5
    assert ((clustered - full).norm(dim=-1) <= distances * norm + ROUNDING).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(queries_and_keys(), st.integers(1, 12), st.integers(1, 20))
def test_proposition_2_improved_clustered_attention_is_never_further_from_full_attention(inputs, clusters, topk):
    queries, keys = inputs
    full = attention_matrix(queries, keys, name="full")
    clustered = attention_matrix(queries, keys, name="clustered", clusters=clusters)
    improved = attention_matrix(queries, keys, name="i_clustered", clusters=clusters, topk=topk)
    error, improved_error = ((matrix - full).abs().sum(-1) for matrix in (clustered, improved))
    assert (improved_error <= error + ROUNDING).all()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(queries_and_keys(), st.integers(1, 12), st.integers(1, 20))
def test_all_matrices_hold_probabilities(inputs, clusters, topk):
    queries, keys = inputs
    for knobs in (
        {"name": "full"},
        {"name": "uniform"},
        {"name": "oracle_top", "topk": topk},
        {"name": "clustered", "clusters": clusters},
        {"name": "i_clustered", "clusters": clusters, "topk": topk},
    ):
        matrix = attention_matrix(queries, keys, **knobs)
        assert (matrix >= -ROUNDING).all()
        torch.testing.assert_close(matrix.sum(-1), torch.ones_like(matrix[0]))

"""LF-MMI's denominator by kernels against the plain recursion in float64."""

from __future__ import annotations

import pytest
import torch

from asr.kernels.denominator import denominator_posteriors
from asr.kernels.dispatch import use
from asr.model.graphs import tensors
from asr.model.graphs.denominator import denominator
from asr.model.graphs.tensors import make_denominator
from asr.model.topologies import topologies
from tests.support.gpu import device, needs_triton
from tests.support.tiny_phones import SHAPES, UNITS, model

pytestmark = needs_triton


def both(monkeypatch, name="chain", leak=1e-5, slice_=16, lengths=(5, 2, 0), shape=SHAPES[1], scale=1.0):
    """(by kernels in float32, plainly in float64, lengths)."""
    for module in (tensors, __import__("asr.kernels.gpu.denominator", fromlist=["SLICE"])):
        monkeypatch.setattr(module, "SLICE", slice_)
    topology = topologies.create({"name": name}, units=UNITS)
    graph = topology.spell(denominator(model(shape)))
    generator = torch.Generator().manual_seed(0)
    emissions = scale * torch.randn(len(lengths), 5, topology.outputs, generator=generator)
    lengths = torch.tensor(lengths)
    on_device = make_denominator(graph, topology.outputs, leak, torch.float32, torch.device(device), "dense")
    exact = make_denominator(graph, topology.outputs, leak, torch.float64, torch.device("cpu"), "dense")
    with use("triton"):
        found = denominator_posteriors(emissions.to(device), lengths.to(device), on_device)
    return [x.cpu() for x in found], denominator_posteriors.plain(emissions.double(), lengths, exact), lengths


@pytest.mark.parametrize("leak, slice_", [(0.0, 16), (1e-5, 4), (0.1, 8)])
def test_the_sum_and_its_gradient_are_those_of_the_plain_recursion(monkeypatch, leak, slice_):
    (total, posteriors), (exact, right), lengths = both(monkeypatch, leak=leak, slice_=slice_)
    torch.testing.assert_close(total.double(), exact, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(posteriors.double(), right, atol=1e-5, rtol=0)
    behind = torch.arange(5) >= lengths[:, None]
    assert not posteriors[behind].any(), "frames behind an utterance take no part"


@pytest.mark.parametrize("name", topologies.names())
def test_every_topology_is_covered(monkeypatch, name):
    (total, posteriors), (exact, right), _ = both(monkeypatch, name, scale=5.0, shape=SHAPES[2])
    torch.testing.assert_close(total.double(), exact, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(posteriors.double(), right, atol=1e-5, rtol=0)


def test_two_runs_agree_to_the_bit(monkeypatch):
    one, other = both(monkeypatch)[0], both(monkeypatch)[0]
    assert all(torch.equal(x, y) for x, y in zip(one, other))


def test_what_kernels_do_not_cover_is_refused_in_a_sentence_or_computed_plainly():
    topology = topologies.create({"name": "chain"}, units=UNITS)
    graph = topology.spell(denominator(model()))
    sparse = make_denominator(graph, topology.outputs, 0.1, torch.float32, torch.device("cpu"), "sparse")
    emissions, lengths = torch.zeros(1, 3, topology.outputs), torch.tensor([3])
    with use("triton"), pytest.raises(ValueError, match="no arcs sorted for Triton"):
        denominator_posteriors(emissions, lengths, sparse)
    with use("triton"), pytest.raises(ValueError, match="expected float32"):
        denominator_posteriors(emissions.double(), lengths, sparse)
    assert denominator_posteriors(emissions, lengths, sparse)[0].isfinite()

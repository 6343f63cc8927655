"""LF-MMI against its definition: sums over every phone sequence and every duration, and CTC's own loss."""

import copy
import math
import pickle

import pytest
import torch
from torch.nn import functional as F

from asr.errors import UserError
from asr.kernels.denominator import denominator_posteriors
from asr.kernels.numerators import numerator_posteriors
from asr.model.graphs.best_path import BestPath
from asr.model.graphs.denominator import denominator
from asr.model.graphs.graph import PhoneGraph
from asr.model.graphs.numerator import NumeratorBuilder
from asr.model.graphs.tensors import FORMS, make_denominator, pad_numerators
from asr.model.heads import heads
from asr.model.losses import losses
from asr.model.topologies import topologies
from asr.text.phones.slots import with_silences
from tests.support.tiny_phones import SENTENCES, SHAPES, SILENCE, UNITS, WORDS, model, readings, written_out

CPU = torch.device("cpu")
TOPOLOGIES = {"chain": {"name": "chain"}, "one": {"name": "one"}, "left": {"name": "chain", "context": "left"}}


def made(name="chain", shape=SHAPES[1], **settings):
    """(loss, topology, language model)."""
    lm, topology = model(shape), topologies.create(TOPOLOGIES[name], units=UNITS)
    loss = losses.create({"name": "lfmmi", **settings})
    loss.prepare(topology, lm)
    return loss, topology, lm


def drawn(*shape, scale=1.0, seed=0, dtype=torch.float64):
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).to(dtype)


def apply(loss, emissions, lengths, sentences):
    nothing = torch.zeros(len(sentences), 1, dtype=torch.int64)
    return loss(emissions, lengths, nothing, nothing[:, 0], pad_numerators([loss.build(slots) for slots in sentences]))


def graph_of(loss, leak, dtype=torch.float64, form="dense"):
    return make_denominator(loss.graph, loss.topology.outputs, leak, dtype, CPU, form)


THREE, LENGTHS = [SENTENCES[2], SENTENCES[0], SENTENCES[4]], torch.tensor([6, 3, 5])


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_sums_and_their_gradients_are_those_of_every_sequence_and_duration(name, shape):
    if name == "left" and shape.keep < 3:
        return
    loss, topology, lm = made(name, shape)
    for frames in (1, 2, 4, 5):
        emissions = drawn(1, frames, topology.outputs, scale=2, seed=frames).requires_grad_()
        lengths = torch.tensor([frames])
        expected = written_out(emissions[0], name, lm)
        (gradient,) = torch.autograd.grad(expected, emissions)
        for form in FORMS:
            total, posteriors = denominator_posteriors(emissions.detach(), lengths, graph_of(loss, 0.0, form=form))
            assert abs(total[0] - expected) < 1e-9 and (posteriors - gradient).abs().max() < 1e-9
        for slots in (SENTENCES[2], SENTENCES[5]):
            numerators = pad_numerators([loss.build(slots)])
            total, posteriors = numerator_posteriors(emissions.detach(), lengths, numerators)
            expected = written_out(emissions[0], name, lm, readings(slots).keys())
            if min(map(len, readings(slots))) > frames:
                assert total[0] == -math.inf and not posteriors.any()
                continue
            (gradient,) = torch.autograd.grad(expected, emissions)
            assert abs(total[0] - expected) < 1e-9 and (posteriors - gradient).abs().max() < 1e-9


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-10), (torch.float32, 2e-4)])
def test_on_the_topology_of_ctc_a_numerator_is_torchs_own_ctc(dtype, bound):
    units, frames = 12, torch.tensor([60, 55, 40, 60])
    generator = torch.Generator().manual_seed(0)
    labels = [torch.randint(1, units, (count,), generator=generator).tolist() for count in (12, 20, 7, 25)]
    labels[1][3] = labels[1][4]
    topology = topologies.create({"name": "ctc"}, units=units)
    graphs = []
    for row in labels:
        places = torch.arange(len(row)).numpy()
        first, last = torch.full((2, len(row)), -math.inf, dtype=torch.float64).numpy()
        first[0] = last[-1] = 0
        chain = {"sources": places[:-1], "targets": places[1:], "weights": 0.0 * places[1:]}
        phones = torch.tensor(row).numpy()
        graphs.append(topology.spell(PhoneGraph(start=first, final=last, phones=phones, left=0 * phones, **chain)))
    logits = drawn(4, 60, units, scale=3, dtype=dtype).requires_grad_()
    emissions = logits.log_softmax(-1)
    targets, counts = torch.tensor(sum(labels, [])), torch.tensor([len(row) for row in labels])
    expected = F.ctc_loss(emissions.transpose(0, 1), targets, frames, counts, reduction="none")
    (gradient,) = torch.autograd.grad(expected.sum(), logits, retain_graph=True)
    total, posteriors = numerator_posteriors(emissions.detach(), frames, pad_numerators(graphs))
    (ours,) = torch.autograd.grad(emissions, logits, -posteriors)
    assert (total + expected).abs().max() < bound * 10 and (ours - gradient).abs().max() < bound


@pytest.mark.parametrize("leak", [0.0, 1e-5, 0.1])
def test_the_gradient_is_that_of_finite_differences(leak):
    loss, topology, _ = made(leak=leak, l2=1e-3)
    emissions = drawn(3, 6, topology.outputs).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: apply(loss, given, LENGTHS, THREE), (emissions,))


@pytest.mark.parametrize("leak", [1e-5, 0.1])
@pytest.mark.parametrize("form", FORMS)
def test_the_leak_is_that_of_the_plain_recursion(leak, form):
    loss, topology, _ = made()
    graph = graph_of(loss, leak)
    emissions = drawn(2, 7, topology.outputs).requires_grad_()
    lengths, expected = torch.tensor([7, 4]), []
    for row, length in zip(emissions, lengths.tolist()):
        alpha = graph.start[:, 0] * row[0, graph.first].exp()
        for frame in range(length):
            if frame:
                alpha = (graph.arriving @ alpha) * row[frame, graph.first].exp() + alpha * row[frame, graph.loop].exp()
            alpha = alpha + leak * alpha.sum() * graph.prior[:, 0]
        expected.append((alpha * graph.final[:, 0]).sum().log())
    (gradient,) = torch.autograd.grad(sum(expected), emissions)
    total, posteriors = denominator_posteriors(emissions.detach(), lengths, graph_of(loss, leak, form=form))
    assert (total - torch.stack(expected)).abs().max() < 1e-10 and (posteriors - gradient).abs().max() < 1e-10


def loss_and_gradient(loss, emissions, lengths, sentences):
    emissions = emissions.clone().requires_grad_()
    values = apply(loss, emissions, lengths, sentences)
    values.sum().backward()
    return values.detach(), emissions.grad


def test_what_lies_behind_an_utterance_and_beside_it_changes_nothing():
    loss, topology, _ = made()
    emissions = drawn(3, 6, topology.outputs)
    values, gradient = loss_and_gradient(loss, emissions, LENGTHS, THREE)
    longer = torch.full((3, 10, topology.outputs), 1e3, dtype=torch.float64)
    for row, length in enumerate(LENGTHS.tolist()):
        longer[row, :length] = emissions[row, :length]
        longer[row, length : length + 3] = drawn(3, topology.outputs, scale=50, seed=row)[: 10 - length]
    again, its = loss_and_gradient(loss, longer, LENGTHS, THREE)
    assert (again - values).abs().max() < 1e-12
    for row, length in enumerate(LENGTHS.tolist()):
        assert (its[row, :length] - gradient[row, :length]).abs().max() < 1e-12 and not its[row, length:].any()
        alone, own = loss_and_gradient(
            loss, emissions[row : row + 1, :length], LENGTHS[row : row + 1], THREE[row : row + 1]
        )
        assert (alone - values[row]).abs().max() < 1e-12 and (own[0] - gradient[row, :length]).abs().max() < 1e-12


def test_posteriors_sum_to_one_in_a_frame_and_a_shift_of_a_frame_changes_nothing():
    for dtype, bound in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        loss, topology, _ = made()
        emissions = drawn(3, 6, topology.outputs, dtype=dtype)
        valid = (torch.arange(6) < LENGTHS[:, None]).to(dtype)
        _, said = numerator_posteriors(emissions, LENGTHS, pad_numerators([loss.build(slots) for slots in THREE]))
        _, all_ = denominator_posteriors(emissions, LENGTHS, graph_of(loss, 0.0, dtype))
        assert (said.sum(-1) - valid).abs().max() < bound and (all_.sum(-1) - valid).abs().max() < bound
        values, gradient = loss_and_gradient(loss, emissions, LENGTHS, THREE)
        shifted, its = loss_and_gradient(loss, emissions + drawn(3, 6, 1, scale=4, seed=1, dtype=dtype), LENGTHS, THREE)
        assert (shifted - values).abs().max() < bound * 10 and (its - gradient).abs().max() < bound * 10
        assert gradient.sum(-1).abs().max() < 1e-4  # the leak belongs to no output


@pytest.mark.parametrize("name", TOPOLOGIES)
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 50.0])
def test_without_a_leak_the_loss_is_never_below_zero(name, scale):
    loss, topology, _ = made(name, leak=0.0)
    assert bool((apply(loss, drawn(3, 6, topology.outputs, scale=scale), LENGTHS, THREE) >= -1e-12).all())


@pytest.mark.parametrize("scale", [1.0, 10.0, 200.0])
def test_float32_is_near_float64_however_long_and_however_sure(scale):
    loss, topology, _ = made()
    lengths, long = torch.tensor([1283, 300]), with_silences([WORDS[word % 3] for word in range(100)], SILENCE)
    loss.prepare(topology, model(sentences=[*SENTENCES, long]))
    numerators = pad_numerators([loss.build(long)] * 2)
    emissions = drawn(2, 1283, topology.outputs, scale=scale, dtype=torch.float32)
    found = {}
    for dtype in (torch.float32, torch.float64):
        found[dtype] = (
            numerator_posteriors(emissions.to(dtype), lengths, numerators),
            denominator_posteriors(emissions.to(dtype), lengths, graph_of(loss, 1e-5, dtype, "sparse")),
        )
    for (total, posteriors), (exact, right), bound in zip(found[torch.float32], found[torch.float64], (1e-6, 1e-4)):
        assert bool(total.isfinite().all()) and (total / exact - 1).abs().max() < 1e-5
        assert (posteriors - right).abs().max() < bound


def test_an_utterance_without_a_path_has_an_infinite_loss_and_leaves_the_others_alone():
    loss, topology, _ = made()
    emissions = drawn(3, 6, topology.outputs, dtype=torch.float32)
    values, gradient = loss_and_gradient(loss, emissions, LENGTHS, THREE)
    for sentences, lengths in (
        ([THREE[0], SENTENCES[5], THREE[2]], torch.tensor([6, 2, 5])),
        ([THREE[0], [], THREE[2]], LENGTHS),
    ):
        again, its = loss_and_gradient(loss, emissions, lengths, sentences)
        assert again[1] == math.inf and not its[1].any()
        for row in (0, 2):
            assert torch.equal(again[row], values[row]) and torch.equal(its[row], gradient[row])


def test_the_forms_of_the_denominator_agree_and_two_runs_agree_to_the_bit():
    loss, topology, _ = made(shape=SHAPES[2])
    emissions = drawn(3, 6, topology.outputs)
    (total, posteriors), (other, others) = (
        denominator_posteriors(emissions, LENGTHS, graph_of(loss, 1e-5, form=form)) for form in FORMS
    )
    assert (total - other).abs().max() < 1e-10 and (posteriors - others).abs().max() < 1e-10
    one, two = (loss_and_gradient(loss, emissions.float(), LENGTHS, THREE) for _ in range(2))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_loss_is_float32_under_autocast_and_leaves_the_settings_of_the_program_alone(dtype):
    loss, topology, _ = made()
    emissions = drawn(3, 6, topology.outputs, dtype=dtype)
    expected = apply(loss, emissions.float(), LENGTHS, THREE)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            values = apply(loss, emissions, LENGTHS, THREE)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert values.dtype == torch.float32 and torch.equal(values, expected)


def test_without_graphs_the_targets_alone_are_what_was_said():
    head = heads.create({"name": "lfmmi", "loss": {"name": "lfmmi", "leak": 0.0}}, dim=5, units=UNITS).double()
    head.prepare(lm := model())
    hidden, lengths = drawn(2, 5, 5), torch.tensor([5, 4])
    values = head(hidden, lengths, torch.tensor([[1, 2], [2, 2]]), torch.tensor([2, 1]))
    for row, phones in enumerate([(1, 2), (2,)]):
        emissions = head.emissions(hidden)[row, : lengths[row]]
        expected = written_out(emissions, "chain", lm) - written_out(emissions, "chain", lm, {phones})
        assert abs(values[row] - expected) < 1e-9


def test_a_head_learns_what_was_said_and_its_decoder_finds_it():
    torch.manual_seed(0)
    head, lm = heads.create({"name": "lfmmi"}, dim=24, units=UNITS), model()
    head.prepare(lm)
    hidden, lengths = torch.randn(3, 12, 24), torch.tensor([12, 8, 10])
    spoken = torch.zeros(3, 1, dtype=torch.int64), torch.ones(3, dtype=torch.int64)
    graphs = pad_numerators([head.build(slots) for slots in THREE])
    optimizer = torch.optim.Adam(head.parameters(), 0.1)
    for _ in range(60):
        loss, emissions = head.loss_and_emissions(hidden, lengths, *spoken, graphs)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    assert float(loss.detach().max()) < 0.05
    search = BestPath(head.topology.spell(denominator(lm)))
    for row, slots in enumerate(THREE):
        _, units = search(emissions[row, : lengths[row]].detach().numpy())
        assert tuple(run.unit for run in units) in readings(slots)


def test_a_head_that_has_been_used_can_be_copied_and_its_builder_sent_to_other_processes():
    head = heads.create({"name": "lfmmi"}, dim=5, units=UNITS)
    head.prepare(model())
    batch = (torch.randn(1, 5, 5), torch.tensor([5]), torch.tensor([[1, 2]]), torch.tensor([2]))
    value = head(*batch)
    assert torch.equal(copy.deepcopy(head)(*batch), value)
    build: NumeratorBuilder = pickle.loads(pickle.dumps(head.build))
    assert torch.equal(pad_numerators([build(SENTENCES[0])]).into, pad_numerators([head.build(SENTENCES[0])]).into)


def test_what_does_not_go_together_is_answered_by_a_sentence():
    with pytest.raises(UserError, match="loss=lfmmi needs head=lfmmi"):
        heads.create({"name": "ctc", "loss": {"name": "lfmmi"}}, dim=5, units=UNITS)
    with pytest.raises(UserError, match="loss=ctc needs head=ctc"):
        heads.create({"name": "lfmmi", "loss": {"name": "ctc"}}, dim=5, units=UNITS)
    with pytest.raises(UserError, match="set loss.keep=3"):
        made("left", SHAPES[0])
    for settings in ({"leak": -1}, {"edge": 2}, {"pronunciations": "some"}, {"l2": "x"}, {"order": 7}):
        with pytest.raises(UserError, match="loss."):
            losses.create({"name": "lfmmi", **settings})
    loss, _, _ = made()
    with pytest.raises(ValueError, match="6 outputs"):
        apply(loss, torch.zeros(1, 2, 5), torch.tensor([2]), [SENTENCES[0]])


def test_the_denominator_of_a_language_model_is_made_once():
    loss, topology, lm = made()
    apply(loss, drawn(3, 6, topology.outputs), LENGTHS, THREE)
    assert loss.tensors(drawn(1, 1, 1)) is loss.tensors(drawn(1, 1, 1))
    assert loss.graph.states == denominator(lm).states

"""What every attention promises, where Triton computes it: on a GPU, or in the interpreter.

`test_attention_contract` asks the same of plain PyTorch in float64, and more; here it is float32, and torch's machinery.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from asr.kernels.dispatch import use
from asr.model.attention import Place, attention_at, attentions
from tests.support.gpu import INTERPRETED, device, needs_triton, relative_error

pytestmark = needs_triton
SMALL = {"clusters": 4, "topk": 3, "bits": 31, "iterations": 3, "rounds": 2, "chunk": 4}
WEIGHTED = "i_clustered with weights"
every_attention = pytest.mark.parametrize("name", [*attentions.names(), WEIGHTED])
on_a_gpu = pytest.mark.skipif(device == "cpu", reason="there is no GPU here")


@pytest.fixture(autouse=True)
def forced(request):
    # These have no kernels of their own, and run as they are.
    plain = request.node.callspec.params.get("name") in ("full", "shared_full", "uniform", "auto")
    with use("auto" if plain else "triton"):
        yield


class Tempered(attentions.get("i_clustered")):
    """Improved clustered attention with a learned temperature per head and dim, in front of the kernels."""

    def __init__(self, place: Place, **knobs):
        super().__init__(**knobs, seed=place.layer)
        self.temper = torch.nn.Parameter(torch.rand(place.heads, place.head_dim) + 0.5)

    def attend(self, queries, *others):
        return super().attend(queries * self.temper.to(queries.dtype)[:, None], *others)


def create(name, dim=16):
    kind = attentions.get("i_clustered" if name == WEIGHTED else name)
    knobs = {knob: value for knob, value in SMALL.items() if knob in kind.knobs()}
    place = Place(1, 2, 2, dim, 2 * dim)
    attention = Tempered(place, **knobs) if name == WEIGHTED else attention_at({"name": name, **knobs}, place)
    return attention.to(device)


def inputs(attention, batch=2, time=21, dim=16, dtype=torch.float32):
    queries, keys, values = (torch.randn(batch, 2, time, dim, device=device, dtype=dtype) for _ in range(3))
    return queries, queries if attention.shared_qk else keys, values


def leaves(attention, tensors):
    """(the arguments, all that gradients are taken for: weights come last, and shared queries and keys are one)."""
    queries, keys, values = (x.detach().requires_grad_() for x in tensors)
    keys = queries if attention.shared_qk else keys
    used = [queries, values] if attention.shared_qk else [queries, keys, values]
    return (queries, keys, values), [*used, *attention.parameters()]


def gradients(output, wanted, grad=None):
    grad = torch.ones_like(output) if grad is None else grad
    found = torch.autograd.grad(output, wanted, grad, allow_unused=True)
    return [torch.zeros_like(x) if one is None else one for one, x in zip(found, wanted)]


@every_attention
def test_what_stands_in_the_padding_never_matters(name):
    attention = create(name)
    tensors = inputs(attention, batch=3)
    lengths = torch.tensor([21, 8, 0])
    padding = (torch.arange(21) >= lengths[:, None])[:, None, :, None].to(device)
    results = []
    for junk in (0.0, float("nan")):
        called, wanted = leaves(attention, [x.masked_fill(padding, junk) for x in tensors])
        output = attention(*called, lengths)
        results.append([output, *gradients(output, wanted, torch.ones_like(output).masked_fill(padding, junk))])
    for clean, dirty in zip(*results):
        assert torch.equal(clean, dirty)
        assert not clean.masked_select(padding.expand_as(clean)).any() if clean.dim() == 4 else clean.any()


@every_attention
def test_a_sequence_has_the_same_output_alone_and_in_any_batch(name):
    attention = create(name)
    tensors = inputs(attention, batch=3)
    lengths = [21, 1, 13]
    together = attention(*tensors, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        queries, keys, values = (x[row : row + 1, :, :length] for x in tensors)
        alone = attention(queries, queries if attention.shared_qk else keys, values)
        torch.testing.assert_close(together[row : row + 1, :, :length], alone, rtol=1e-4, atol=1e-4)


@every_attention
def test_gradients_are_the_same_with_activation_checkpointing(name):
    attention = create(name)
    called, wanted = leaves(attention, inputs(attention))
    expected = gradients(attention(*called), wanted)
    again = gradients(checkpoint(attention, *called, use_reentrant=False), wanted)
    assert all(torch.equal(one, other) for one, other in zip(again, expected))


@every_attention
def test_autocast_decides_the_precision_and_float32_comes_back(name):
    attention = create(name)
    called, wanted = leaves(attention, inputs(attention))
    half = torch.bfloat16
    with torch.autocast(device, dtype=half):
        output = attention(*called)
    assert output.dtype == half
    # on a CPU attention stays in float32
    inside = torch.float32 if device == "cpu" else half
    lower = [x.to(inside) for x in called]
    lower[1] = lower[0] if attention.shared_qk else lower[1]
    assert relative_error(output, attention(*lower).to(half)) < 1e-6
    assert all(x.dtype == torch.float32 and torch.isfinite(x).all() for x in gradients(output, wanted))


@every_attention
def test_it_can_be_compiled_whole(name):
    if name == "auto":
        pytest.skip("it looks at a clock, which no graph holds")
    attention = create(name)
    called, wanted = leaves(attention, inputs(attention))
    expected = attention(*called)
    torch._dynamo.reset()
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager" if INTERPRETED else "inductor")
    output = compiled(*called)
    assert relative_error(output, expected) < 1e-5
    for one, other in zip(gradients(output, wanted), gradients(expected, wanted)):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@on_a_gpu
@every_attention
def test_nothing_waits_for_the_gpu(name):
    attention = create(name)
    called, wanted = leaves(attention, inputs(attention, time=70))
    lengths = torch.tensor([70, 33], device=device)
    gradients(attention(*called, lengths), wanted)
    torch.cuda.set_sync_debug_mode("error")
    try:
        gradients(attention(*called, lengths), wanted)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@on_a_gpu
@every_attention
def test_a_graph_of_forward_and_backward_replays_on_new_inputs(name):
    attention = create(name)
    called, wanted = leaves(attention, inputs(attention, time=70))
    lengths = torch.tensor([70, 33], device=device)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        gradients(attention(*called, lengths), wanted)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        output = attention(*called, lengths)
        captured = [output, *gradients(output, wanted)]
    with torch.no_grad():
        for x in wanted:
            x.copy_(torch.randn_like(x))
    lengths.copy_(torch.tensor([41, 70]))
    graph.replay()
    output = attention(*called, lengths)
    for one, other in zip(captured, [output, *gradients(output, wanted)]):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)

"""What every attention promises, asked of each one that the registry lists."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from asr.errors import UserError
from asr.model.attention import Place, attention_at, attentions, completed, parse_label

SMALL = {"clusters": 4, "topk": 3, "bits": 31, "iterations": 5, "rounds": 2, "chunk": 4}
NAMES = attentions.names()
CONFIGURATION = Path(__file__).parents[3] / "conf" / "attention"

# Each space and all seeds of clustering, beside the defaults that a bare name stands for.
CLUSTERINGS = ["i_clustered hash even", "i_clustered scores plusplus", "clustered scores path"]

every_attention = pytest.mark.parametrize("name", NAMES)
every_arithmetic = pytest.mark.parametrize("name", [*NAMES, *CLUSTERINGS])


def part_of(name):
    return attentions.get(name.split()[0])


def create(name, seed=1, heads=2, dim=8, **knobs):
    name, *clustering = name.split()
    knobs |= dict(zip(("space", "seeds"), clustering))
    settings = {knob: value for knob, value in (SMALL | knobs).items() if knob in part_of(name).knobs()}
    return attention_at({"name": name, **settings}, Place(seed, 2, heads, dim, heads * dim))


def having(knob):
    return pytest.mark.parametrize("name", [name for name in [*NAMES, *CLUSTERINGS] if knob in part_of(name).knobs()])


crossing = pytest.mark.parametrize("name", [name for name in NAMES if not part_of(name).shared_qk])


def inputs(name, batch=2, heads=2, time=11, dim=8, value_dim=8, dtype=torch.float64, seed=0):
    """Queries, keys and values; keys are the queries where the attention asks for that."""
    generator = torch.Generator().manual_seed(seed)
    queries, keys = (torch.randn(batch, heads, time, dim, generator=generator, dtype=torch.float64) for _ in range(2))
    values = torch.randn(batch, heads, time, value_dim, generator=generator, dtype=torch.float64)
    queries, keys, values = (x.to(dtype) for x in (queries, keys, values))
    return queries, queries if part_of(name).shared_qk else keys, values


def call(attention, queries, keys, values, *lengths):
    """Shared queries and keys are one tensor, also after they have been cut or filled."""
    return attention(queries, queries if attention.shared_qk else keys, values, *lengths)


def gradient_of(x):
    """Zeros where nothing depends on x, as on the queries of uniform attention."""
    return torch.zeros_like(x) if x.grad is None else x.grad


@every_attention
def test_its_configuration_sets_exactly_its_knobs(name):
    configuration = yaml.safe_load((CONFIGURATION / f"{name}.yaml").read_text())
    assert configuration.pop("name") == name
    assert sorted(configuration) == sorted(attentions.get(name).knobs())
    assert all(value == "${" + knob + "}" for knob, value in configuration.items())


@every_attention
def test_its_settings_build_it_again_and_its_label_names_it(name):
    attention = create(name)
    again = attention_at(attention.settings(), Place(attention.seed, 2, 2, 8, 16))
    assert again.settings() == attention.settings() and type(again) is type(attention)
    parsed = parse_label(attention.label())
    assert parsed["name"] == name
    if attention.label_knob:
        assert parsed[attention.label_knob] == getattr(attention, attention.label_knob)


@every_attention
def test_its_weights_are_trained_and_make_a_round_trip_and_nothing_else_is_saved(name):
    attention, other = create(name), create(name)
    queries, keys, values = inputs(name)
    for weight in attention.parameters():
        torch.nn.init.normal_(weight)
    output = call(attention, queries, keys, values, torch.tensor([11, 6]))
    if dict(attention.named_parameters()):
        (output * torch.linspace(-1, 1, 8)).sum().backward()
        assert all(weight.grad is not None and weight.grad.any() for weight in attention.parameters())
    assert attention.state_dict().keys() == dict(attention.named_parameters()).keys()
    other.load_state_dict(attention.state_dict())
    assert torch.equal(call(other, queries, keys, values, torch.tensor([11, 6])), output)


@every_arithmetic
def test_what_stands_in_the_padding_never_matters(name):
    attention = create(name)
    queries, keys, values = inputs(name, batch=3)
    lengths = torch.tensor([11, 7, 2])
    weights, padding = list(attention.parameters()), torch.arange(11) >= lengths[:, None]
    results = []
    for junk in (0.0, 1e4, float("nan"), float("inf")):
        dirty = [x.masked_fill(padding[:, None, :, None], junk) for x in (queries, keys, values)]
        output = call(attention, *dirty, lengths)
        results.append([output, *(torch.autograd.grad(output.square().sum(), weights) if weights else ())])
    assert all(torch.equal(one, other) for dirty in results[1:] for one, other in zip(dirty, results[0]))


@every_arithmetic
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_sequence_has_the_same_output_alone_and_in_any_batch(name, dtype):
    attention = create(name)
    lengths = [37, 1, 20, 33, 9]
    queries, keys, values = inputs(name, batch=5, time=40, dtype=dtype)
    together = call(attention, queries, keys, values, torch.tensor(lengths))
    order = [3, 0, 4]
    cut = [x[order, :, :38] for x in (queries, keys, values)]
    elsewhere = call(attention, *cut, torch.tensor(lengths)[order])
    torch.testing.assert_close(elsewhere, together[order, :, :38], rtol=1e-5, atol=1e-5)
    for row, length in enumerate(lengths):
        alone = call(attention, *(x[row : row + 1, :, :length] for x in (queries, keys, values)))
        torch.testing.assert_close(together[row : row + 1, :, :length], alone, rtol=1e-5, atol=1e-5)
        assert not together[row, :, length:].any()


@every_arithmetic
def test_lengths_that_are_all_the_time_change_nothing(name):
    attention = create(name)
    queries, keys, values = inputs(name)
    with_lengths = attention(queries, keys, values, torch.tensor([11, 11]))
    assert torch.equal(with_lengths, attention(queries, keys, values))


@every_arithmetic
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_close_to_float32_and_keeps_its_dtype(name, dtype):
    attention = create(name)
    queries, keys, values = inputs(name, batch=3, time=30, dtype=dtype)
    lengths = torch.tensor([30, 17, 0])
    half = call(attention, queries, keys, values, lengths)
    single = call(attention, *(x.float() for x in (queries, keys, values)), lengths)
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), single, rtol=2e-2, atol=2e-2)


@every_attention
def test_under_autocast_on_a_cpu_it_computes_in_float32_and_returns_what_torch_attention_would(name):
    attention = create(name)
    queries, keys, values = inputs(name, dtype=torch.float32)
    lengths = torch.tensor([11, 5])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = attention(queries, keys, values, lengths)
        assert torch.is_autocast_enabled("cpu")
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, call(attention, queries, keys, values, lengths).bfloat16())


@every_arithmetic
def test_the_same_input_has_the_same_output_in_training_and_evaluation_and_from_a_new_instance(name):
    queries, keys, values = inputs(name, time=50, dtype=torch.float32)
    lengths = torch.tensor([50, 44])
    attention = create(name)
    torch.manual_seed(3)
    first = attention.train()(queries, keys, values, lengths)
    torch.manual_seed(4)
    drawn_before = torch.get_rng_state()
    assert torch.equal(attention(queries, keys, values, lengths), first)
    assert torch.equal(attention.eval()(queries, keys, values, lengths), first)
    assert torch.equal(create(name)(queries, keys, values, lengths), first)
    assert torch.equal(torch.get_rng_state(), drawn_before)


@every_arithmetic
def test_lengths_of_other_inputs_before_leave_no_trace(name):
    attention = create(name)
    queries, keys, values = inputs(name, time=9)
    fresh = attention(queries, keys, values)
    attention(*inputs(name, time=300, dim=8))
    # what it draws must follow another dim; weights need not
    attention(*inputs(name, time=5, dim=8 if attention.state_dict() else 4))
    assert torch.equal(attention(queries, keys, values), fresh)


@every_arithmetic
@pytest.mark.parametrize("lengths", [None, [7, 4], [7, 0]])
def test_gradients_are_those_of_finite_differences(name, lengths):
    attention = create(name, heads=1, dim=4)
    queries, keys, values = (x.requires_grad_() for x in inputs(name, heads=1, time=7, dim=4, value_dim=3))
    lengths = None if lengths is None else torch.tensor(lengths)
    if attention.shared_qk:
        assert torch.autograd.gradcheck(lambda q, v: attention(q, q, v, lengths), (queries, values))
    else:
        assert torch.autograd.gradcheck(lambda q, k, v: attention(q, k, v, lengths), (queries, keys, values))


@every_arithmetic
def test_padding_gets_no_gradient_even_where_the_outgoing_one_is_not_zero(name):
    attention = create(name)
    queries, keys, values = (x.requires_grad_() for x in inputs(name, batch=3))
    lengths = torch.tensor([11, 6, 0])
    attention(queries, keys, values, lengths).sum().backward()
    for x in (queries, keys, values):
        gradient = gradient_of(x)
        assert torch.isfinite(gradient).all()
        assert not gradient[1, :, 6:].any() and not gradient[2].any()
    assert values.grad[1, :, :6].any()


@every_attention
def test_where_padding_is_known_to_be_finite_valid_steps_and_their_gradients_are_the_same(name):
    lengths, results = torch.tensor([11, 6]), []
    for finite in (False, True):
        attention = create(name)
        attention.finite_padding = finite
        queries, keys, values = (x.clone().requires_grad_() for x in inputs(name))
        out = call(attention, queries, keys, values, lengths)
        (out[0].square().sum() + out[1, :, :6].square().sum()).backward()
        used = (queries, values) if attention.shared_qk else (queries, keys, values)
        results.append([out[0], out[1, :, :6], *(gradient_of(x) for x in used)])
    for plain, trusting in zip(*results):
        torch.testing.assert_close(plain, trusting)


@every_arithmetic
def test_a_batch_of_empty_sequences_is_all_zeros(name):
    attention = create(name)
    queries, keys, values = (x.requires_grad_() for x in inputs(name))
    output = attention(queries, keys, values, torch.tensor([0, 0]))
    assert not output.any()
    output.sum().backward()
    assert not gradient_of(queries).any() and not gradient_of(values).any()


@every_arithmetic
def test_a_single_step_attends_to_itself(name):
    attention = create(name)
    queries, keys, values = inputs(name, time=1)
    torch.testing.assert_close(attention(queries, keys, values), values)


@every_arithmetic
def test_the_weights_of_a_query_sum_to_one(name):
    attention = create(name)
    queries, keys, values = inputs(name, time=30)
    output = call(attention, queries * 3, keys, torch.ones_like(values))
    torch.testing.assert_close(output, torch.ones_like(values))


@every_arithmetic
def test_large_scores_neither_overflow_nor_lose_the_weights(name):
    attention = create(name)
    queries, keys, values = inputs(name, time=30, dtype=torch.float32)
    output = call(attention, queries * 200, keys * 200, torch.ones_like(values), torch.tensor([30, 12]))
    torch.testing.assert_close(output[0], torch.ones_like(output[0]))


@every_attention
def test_values_may_have_another_dim(name):
    attention = create(name)
    queries, keys, values = inputs(name, value_dim=5)
    output = attention(queries, keys, values)
    assert output.shape == (2, 2, 11, 5)
    torch.testing.assert_close(attention(queries, keys, values[..., :2]), output[..., :2])


@every_arithmetic
def test_the_layout_in_memory_does_not_matter(name):
    attention = create(name)
    lengths = torch.tensor([11, 8])
    contiguous = inputs(name)
    expected = attention(*contiguous, lengths)
    by_time = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in contiguous]
    by_dim = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in contiguous]
    strided = [x.repeat_interleave(2, -1)[..., ::2] for x in contiguous]
    for other in (by_time, by_dim, strided):
        assert not other[0].is_contiguous()
        torch.testing.assert_close(call(attention, *other, lengths), expected)


@every_arithmetic
def test_equal_and_zero_queries_give_finite_outputs_and_gradients(name):
    attention = create(name)
    queries, keys, values = inputs(name, time=20)
    for same in (queries[:, :, :1].expand_as(queries), torch.zeros_like(queries)):
        same, values = same.clone().requires_grad_(), values.detach().requires_grad_()
        output = call(attention, same, keys, values, torch.tensor([20, 13]))
        output.sum().backward()
        assert (
            torch.isfinite(output).all()
            and torch.isfinite(gradient_of(same)).all()
            and torch.isfinite(values.grad).all()
        )


@pytest.mark.parametrize("name", [name for name in [*NAMES, *CLUSTERINGS] if name != "lsh"])
def test_duplicate_queries_have_the_same_output(name):
    # Reformer's chunks cut the sorted order anywhere, between duplicates too.
    attention = create(name)
    queries, keys, values = inputs(name, time=20)
    queries = torch.cat([queries[:, :, :10], queries[:, :, :10]], 2)
    output = call(attention, queries, keys, values)
    torch.testing.assert_close(output[:, :, :10], output[:, :, 10:])


@having("clusters")
def test_equal_queries_are_one_cluster_and_get_full_attention(name):
    queries, keys, values = inputs(name)
    queries = queries[:, :, :1].expand_as(queries)
    torch.testing.assert_close(create(name)(queries, keys, values), create("full")(queries, keys, values))


@having("clusters")
@pytest.mark.parametrize("clusters", [24, 25, 300])
def test_as_many_clusters_as_queries_is_full_attention(name, clusters):
    queries, keys, values = inputs(name, time=24)
    lengths = torch.tensor([24, 13])
    output = create(name, clusters=clusters, bits=63)(queries, keys, values, lengths)
    torch.testing.assert_close(output, create("full")(queries, keys, values, lengths), rtol=1e-12, atol=1e-12)


@having("topk")
@pytest.mark.parametrize("topk", [24, 1000])
def test_as_many_top_keys_as_keys_is_full_attention(name, topk):
    queries, keys, values = inputs(name, time=24)
    lengths = torch.tensor([24, 13])
    output = create(name, topk=topk)(queries, keys, values, lengths)
    torch.testing.assert_close(output, create("full")(queries, keys, values, lengths), rtol=1e-12, atol=1e-12)


@having("topk")
def test_fewer_valid_keys_than_top_keys_is_full_attention_for_that_sequence(name):
    queries, keys, values = inputs(name, batch=3, time=24)
    lengths = torch.tensor([24, 5, 1])
    output = create(name, topk=8)(queries, keys, values, lengths)
    full = create("full")(queries, keys, values, lengths)
    torch.testing.assert_close(output[1:], full[1:], rtol=1e-12, atol=1e-12)
    if name != "auto":  # which is full attention at so few steps
        assert (output[0] - full[0]).abs().max() > 1e-3


@having("clusters")
def test_one_cluster_gives_every_query_of_clustered_the_attention_of_the_mean(name):
    queries, keys, values = inputs(name)
    lengths = torch.tensor([11, 6])
    output = create("clustered", clusters=1)(queries, keys, values, lengths)
    for row, length in enumerate(lengths.tolist()):
        mean = queries[row : row + 1, :, :length].mean(2, keepdim=True)
        expected = create("full")(
            mean, keys[row : row + 1, :, :length], values[row : row + 1, :, :length], None, torch.tensor([length])
        )
        torch.testing.assert_close(output[row : row + 1, :, :length], expected.expand(-1, -1, length, -1))
    assert torch.isfinite(create(name, clusters=1)(queries, keys, values, lengths)).all()


@crossing
def test_queries_may_attend_to_another_sequence(name):
    attention = create(name)
    queries, _, _ = inputs(name, time=6)
    _, keys, values = inputs(name, time=15, value_dim=5, seed=1)
    lengths, key_lengths = torch.tensor([6, 4]), torch.tensor([9, 15])
    output = attention(queries, keys, values, lengths, key_lengths)
    assert output.shape == (2, 2, 6, 5) and not output[1, :, 4:].any()
    alone = attention(queries[:1], keys[:1, :, :9], values[:1, :, :9], None, torch.tensor([9]))
    torch.testing.assert_close(output[:1], alone)


@crossing
def test_a_query_with_no_keys_to_attend_to_gets_zeros(name):
    queries, _, _ = inputs(name, time=6)
    _, keys, values = (x.requires_grad_() for x in inputs(name, time=15, seed=1))
    output = create(name)(queries, keys, values, torch.tensor([6, 6]), torch.tensor([15, 0]))
    assert output[0].any() and not output[1].any()
    output.sum().backward()
    assert not gradient_of(keys)[1].any() and not gradient_of(values)[1].any()


@every_attention
def test_arguments_that_do_not_fit_are_named(name):
    attention = create(name)
    queries, keys, values = inputs(name)
    wrong = {
        "queries has shape": (queries[0], keys, values),
        "queries has dtype": (queries.long(), keys, values),
        "values has shape": (queries, keys, values[:, :, :5]),
        "values has dtype": (queries, keys, values.float()),
        "lengths has shape": (queries, keys, values, torch.tensor([3])),
        "lengths has .* dtype": (queries, keys, values, torch.tensor([3.0, 2.0])),
        r"lengths is \[3, 12\]": (queries, keys, values, torch.tensor([3, 12])),
        r"lengths is \[3, -1\]": (queries, keys, values, torch.tensor([3, -1])),
        "empty": (queries[:, :, :0], keys[:, :, :0], values[:, :, :0]),
    }
    if attention.shared_qk:
        wrong["keys is not queries"] = (queries, keys.clone(), values)
        wrong["key_lengths is given"] = (queries, keys, values, None, torch.tensor([3, 3]))
    else:
        wrong["keys has shape"] = (queries, keys[..., :3], values)
        wrong["key_lengths is None"] = (queries[:, :, :3], keys, values)
    for message, arguments in wrong.items():
        with pytest.raises(ValueError, match=message):
            attention(*arguments)


@every_attention
def test_knobs_that_make_no_sense_are_refused_in_a_sentence(name):
    for knob in attentions.get(name).knobs():
        allowed = "one of" if knob in ("space", "seeds") else "a whole number"
        for value in (-1, "abc", 2.5, True, None):
            with pytest.raises(UserError, match=f"{knob} of the attention {name} must be {allowed}"):
                attentions.create({"name": name, knob: value})
        if knob not in ("iterations", "space", "seeds"):
            with pytest.raises(UserError, match="at least 1|from 1"):
                attentions.create({"name": name, knob: 0})
            with pytest.raises(ValueError, match=f"{knob} of the attention"):
                attentions.get(name)(**{knob: 0})
    with pytest.raises(UserError, match="takes no setting 'colour'"):
        attentions.create({"name": name, "colour": 1})


def test_settings_from_before_there_were_spaces_mean_the_papers():
    old = {"name": "i_clustered", "clusters": 7, "topk": 3, "bits": 31, "iterations": 5}
    attention = attentions.create(completed(old))
    assert attention.settings() == {**old, "space": "hash", "seeds": "even"}
    assert completed(attention.settings()) == attention.settings()
    new = {"name": "clustered", "space": "scores", "seeds": "plusplus", "iterations": 3}
    assert completed(new) == new
    assert completed({"name": "clustered"})["iterations"] == 10
    for other in ({"name": "full"}, {"name": "unknown", "clusters": 3}):
        assert completed(other) == other


def test_labels_are_read_or_refused_in_a_sentence():
    assert parse_label("i_clustered-200") == {"name": "i_clustered", "clusters": 200}
    assert parse_label("lsh-4") == {"name": "lsh", "rounds": 4}
    assert parse_label("oracle_top") == {"name": "oracle_top"}
    for label, message in {
        "i_clusterd-200": "did you mean i_clustered",
        "full-3": "no number to set",
        "clustered-": "whole number",
        "clustered-0": "whole number",
        "clustered-ten": "whole number",
        "-5": "There is no attention",
    }.items():
        with pytest.raises(UserError, match=message):
            parse_label(label)

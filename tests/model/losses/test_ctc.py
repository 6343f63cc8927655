"""CTC against its definition: the sum over every alignment, one by one."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import UserError
from asr.model.losses import Loss, losses

ctc = losses.create({"name": "ctc"})


def collapse(path: tuple[int, ...]) -> list[int]:
    return [unit for unit, _ in itertools.groupby(path) if unit != 0]


def alignments_of(labels: list[int], frames: int, units: int) -> list[tuple[int, ...]]:
    return [path for path in itertools.product(range(units), repeat=frames) if collapse(path) == labels]


def loss_of(emissions: torch.Tensor, labels: list[int]) -> torch.Tensor:
    """emissions: (time, units)."""
    targets = torch.tensor([labels], dtype=torch.int64).reshape(1, -1)
    return ctc(emissions[None], torch.tensor([len(emissions)]), targets, torch.tensor([len(labels)]))[0]


small = st.integers(2, 4).flatmap(
    lambda units: st.tuples(
        st.just(units), st.integers(1, 5), st.lists(st.integers(1, units - 1), max_size=4), st.integers(0, 2**31)
    )
)


@settings(max_examples=60, deadline=None)
@given(small)
def test_the_loss_is_the_sum_over_all_alignments(case):
    units, frames, labels, seed = case
    emissions = torch.randn(frames, units, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    paths = alignments_of(labels, frames, units)
    if paths:
        expected = -torch.stack([sum(emissions[t, u] for t, u in enumerate(path)) for path in paths]).logsumexp(0)
        torch.testing.assert_close(loss_of(emissions, labels), expected, rtol=1e-4, atol=1e-5)
    else:
        assert loss_of(emissions, labels) == math.inf


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 7), st.lists(st.integers(1, 2), max_size=5))
def test_labels_are_feasible_exactly_when_the_loss_is_finite(frames, labels):
    targets = torch.tensor([labels], dtype=torch.int64).reshape(1, -1)
    emissions = torch.zeros(1, 8, 3).log_softmax(-1)
    loss = ctc(emissions, torch.tensor([frames]), targets, torch.tensor([len(labels)]))
    assert ctc.feasible(frames, labels) == bool(loss.isfinite())


def test_labels_are_feasible_exactly_when_an_alignment_exists():
    for frames in range(6):
        for length in range(5):
            for labels in itertools.product((1, 2), repeat=length):
                assert ctc.feasible(frames, labels) == bool(alignments_of(list(labels), frames, 3))


def test_adjacent_repeats_need_a_frame_more_each():
    assert [ctc.required_frames(labels) for labels in ([], [1], [1, 2, 1], [1, 1], [2, 2, 2, 1, 1])] == [0, 1, 3, 3, 8]


def test_padding_of_frames_and_of_targets_changes_nothing():
    torch.manual_seed(2)
    emissions = torch.randn(3, 9, 6).log_softmax(-1)
    lengths, labels = torch.tensor([9, 6, 4]), [[1, 2, 2, 5], [3], []]
    targets = torch.tensor([row + [4] * (4 - len(row)) for row in labels])
    emissions[1, 6:] = emissions[2, 4:] = -1000.0
    together = ctc(emissions, lengths, targets, torch.tensor([4, 1, 0]))
    alone = [loss_of(emissions[row, :length], labels[row]) for row, length in enumerate(lengths.tolist())]
    torch.testing.assert_close(together, torch.stack(alone))


def test_the_gradient_through_the_log_softmax_is_that_of_the_sum_over_all_alignments():
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    labels = [2, 2, 3]
    (gradient,) = torch.autograd.grad(loss_of(logits.log_softmax(-1), labels), logits)
    emissions = logits.log_softmax(-1)
    paths = torch.tensor(alignments_of(labels, 5, 4))
    written_out = -emissions[torch.arange(5), paths].sum(1).logsumexp(0)
    torch.testing.assert_close(gradient, torch.autograd.grad(written_out, logits)[0])


def test_an_infeasible_utterance_leaves_the_others_of_its_batch_alone():
    emissions = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(4)).log_softmax(-1)
    losses_ = ctc(emissions, torch.tensor([3, 3]), torch.tensor([[1, 1], [1, 2]]), torch.tensor([2, 2]))
    assert losses_.isfinite().all()
    losses_ = ctc(emissions, torch.tensor([2, 3]), torch.tensor([[1, 1], [1, 2]]), torch.tensor([2, 2]))
    assert losses_[0] == math.inf and losses_[1].isfinite()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_loss_is_float32_for_half_precision_and_under_autocast(dtype):
    emissions = torch.randn(1, 50, 6, generator=torch.Generator().manual_seed(5)).log_softmax(-1).to(dtype)
    arguments = (torch.tensor([50]), torch.tensor([[1, 2, 3, 3]]), torch.tensor([4]))
    expected = ctc(emissions.float(), *arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ctc(emissions, *arguments)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


BETTER = [{"consistency": 0.2}, {"intermediate": [1, 2]}, {"consistency": 0.3, "intermediate": [1]}]


def views_of(better, dtype=torch.float64):
    """Random logits (views · 3, time, units) of an encoder's last layer and of inner ones, lengths, and what was said."""
    loss = losses.create({"name": "ctc", **better})
    logits = torch.randn(
        1 + len(loss.blocks), loss.views * 3, 7, 4, dtype=dtype, generator=torch.Generator().manual_seed(6)
    ).requires_grad_()
    lengths = torch.tensor([7, 5, 4]).repeat(loss.views)
    return loss, logits, lengths, torch.tensor([[1, 2, 2], [3, 1, 1], [2, 1, 1]]), torch.tensor([3, 1, 0])


def written_out(loss, logits, lengths, targets, target_lengths):
    """The losses of training from their definitions: a probability and an utterance at a time."""
    outputs = logits.log_softmax(-1)
    total, batch = [], len(targets)
    for row in range(batch):
        labels = targets[row, : target_lengths[row]].tolist()
        views = [outputs[:, view * batch + row, : lengths[row]] for view in range(loss.views)]
        last, *inner = [
            sum(loss_of(view[layer], labels) for view in views) / len(views) for layer in range(len(outputs))
        ]
        weight = loss.intermediate_weight if inner else 0.0
        value = (1 - weight) * last + sum(weight / len(inner) * one for one in inner)
        if len(views) == 2:
            for target, learner in ((views[0][0], views[1][0]), (views[1][0], views[0][0])):
                fixed = target.detach()
                value = value + loss.consistency / 2 * (fixed.exp() * (fixed - learner)).sum()
        total.append(value)
    return torch.stack(total)


@pytest.mark.parametrize("better", BETTER, ids=str)
def test_training_with_options_has_the_losses_and_gradients_of_their_definitions(better):
    loss, logits, lengths, *spoken = views_of(better)
    last, *inner = logits.log_softmax(-1)
    got, parts = loss.in_training(last, inner, lengths, *spoken)
    expected = written_out(loss, logits, lengths, *spoken)
    torch.testing.assert_close(got, expected)
    gradient, right = (torch.autograd.grad(one.sum(), logits)[0] for one in (got, expected))
    assert gradient.abs().max() > 0.1
    torch.testing.assert_close(gradient, right)
    weights = {"ctc": 1.0, "consistency": loss.consistency}
    if inner:
        weights |= {"ctc": 1 - loss.intermediate_weight, "intermediate": loss.intermediate_weight}
    torch.testing.assert_close(sum(weights[name] * part for name, part in parts.items()), got.detach())
    assert not any(part.requires_grad for part in parts.values())


@pytest.mark.parametrize("better", BETTER, ids=str)
def test_losses_of_training_are_float32_under_autocast_and_blind_to_padding(better):
    loss, logits, lengths, *spoken = views_of(better, torch.float32)
    last, *inner = logits.detach().log_softmax(-1)
    expected = loss.in_training(last, inner, lengths, *spoken).losses
    padding = torch.arange(7) >= lengths[:, None]
    spoilt = [one.masked_fill(padding[:, :, None], -50.0) for one in (last, *inner)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss.in_training(spoilt[0], spoilt[1:], lengths, *spoken).losses
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_views_that_agree_diverge_by_nothing_and_evaluation_has_plain_losses():
    loss, logits, lengths, *spoken = views_of(BETTER[0])
    same = logits[0, :3].log_softmax(-1)
    trained, parts = loss.in_training(same.repeat(2, 1, 1), [], lengths, *spoken)
    assert parts["consistency"].abs().max() == 0
    assert torch.equal(trained, loss(same, lengths[:3], *spoken)) and torch.equal(
        trained, ctc(same, lengths[:3], *spoken)
    )


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"consistency": -1}, r"loss\.consistency takes a number of 0 or more, not -1"),
        ({"time_mask_ratio": 0}, r"loss\.time_mask_ratio takes a number above 0"),
        ({"intermediate": [0]}, r"loss\.intermediate takes a list of whole numbers of 1 or more, not \[0\]"),
        ({"intermediate_weight": 1}, r"loss\.intermediate_weight takes a number above 0 and below 1"),
    ],
)
def test_options_out_of_range_are_named(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        losses.create({"name": "ctc", **wrong})


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="emissions"):
        ctc(torch.zeros(3, 4), torch.tensor([3]), torch.tensor([[1]]), torch.tensor([1]))
    with pytest.raises(ValueError, match="targets"):
        ctc(torch.zeros(2, 3, 4), torch.tensor([3, 3]), torch.tensor([[1]]), torch.tensor([1]))


def test_every_loss_is_a_loss_and_an_unknown_one_is_answered_with_the_nearest_name():
    assert all(issubclass(losses.get(name), Loss) for name in losses.names())
    with pytest.raises(UserError, match="ctc"):
        losses.get("ctx")

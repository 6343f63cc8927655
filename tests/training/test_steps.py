"""A step depends only on its utterances, not on how they were batched."""

import copy

import pytest
import torch

from asr.data.batches import halves
from asr.runtime.memory import is_out_of_memory
from asr.training.position import seed_of_batch
from tests.support.small_training import (
    ALL,
    BETTER,
    CLOSE,
    Training,
    assert_same,
    build_better,
    limit_backward,
    limit_forward,
    step_of,
)


def test_a_step_divides_the_gradient_by_the_labels_of_its_batch(tmp_path, cuts):
    training = Training(tmp_path, cuts, [[0, 3, 5]])
    before, other = training.weights(), copy.deepcopy(training.model)
    batch = training.batch([0, 3, 5])
    emissions, lengths = other(batch.waveforms, batch.samples)
    loss = training.model.head.loss(emissions, lengths, batch.labels, batch.label_lengths).sum() / (2 + 1 + 4)
    loss.backward()
    loss = loss.detach()
    after = training.fit().weights()
    gradients = {name: parameter.grad for name, parameter in other.named_parameters()}
    assert_same({name: before[name] - after[name] for name in before}, gradients, rtol=1e-3, atol=1e-5)
    assert training.recognizer.last_loss == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize("where", [limit_forward, limit_backward])
@pytest.mark.parametrize("most, better", [(1, {}), (2, {}), (3, {}), (5, {}), (3, BETTER)])
def test_a_batch_that_does_not_fit_is_halved_and_gives_the_same_step(tmp_path, cuts, where, most, better):
    whole, _ = step_of(tmp_path / "whole", cuts, [ALL], model=build_better(better))
    parts, noted = step_of(
        tmp_path / "parts", cuts, [ALL], lambda training: where(training, most), model=build_better(better)
    )
    assert_same(parts.weights(), whole.weights(), **CLOSE)
    assert parts.recognizer.last_parts == pytest.approx(whole.recognizer.last_parts, rel=1e-5)
    assert len(parts.recognizer.last_parts) == (3 if better else 0)
    assert parts.recognizer.last_loss == pytest.approx(whole.recognizer.last_loss, rel=1e-5)
    assert parts.said[0] == (
        "step 1: out of memory on a batch of 8 utterances of up to 0.5 s (utterance-0, utterance-1, utterance-2, …). It is taken "
        "in two halves."
    )
    assert len(parts.said) == {1: 7, 2: 3, 3: 3, 5: 1}[most]
    assert parts.recognizer.position.steps == 1
    if where is limit_backward:
        assert len(noted) == len(parts.said) and all(size > 0 for size in noted), "the failed attempts left gradients"


@pytest.mark.parametrize("where", [limit_forward, limit_backward])
@pytest.mark.parametrize("better", [{}, BETTER], ids=str)
def test_a_batch_that_does_not_fit_gives_the_same_step_among_accumulated_ones(tmp_path, cuts, where, better):
    batches = [[0, 1], [2, 3, 4, 5], [6], [7]]
    whole, _ = step_of(tmp_path / "whole", cuts, batches, accumulate=3, model=build_better(better))
    parts, _ = step_of(
        tmp_path / "parts", cuts, batches, lambda training: where(training, 1), accumulate=3, model=build_better(better)
    )
    assert_same(parts.weights(), whole.weights(), **CLOSE)
    assert len(parts.said) == 4 and parts.recognizer.position.steps == 2


def test_errors_other_than_out_of_memory_are_not_swallowed(tmp_path, cuts):
    training = Training(tmp_path, cuts, [ALL])

    def broken(waveforms, samples):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    training.model.encode = broken
    with pytest.raises(RuntimeError, match="shapes"):
        training.fit()
    assert training.said == []


def test_running_out_of_memory_on_a_real_cpu_is_recognized():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60)
    assert is_out_of_memory(refused.value) and is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(RuntimeError("shapes"))


def test_halves_hold_every_utterance_once_padded_no_longer_than_they_need(tmp_path, cuts):
    batch = Training(tmp_path, cuts, [ALL]).batch([2, 7, 1, 0, 5])
    for half, indices in zip(halves(batch), ([2, 7], [1, 0, 5])):
        again = Training(tmp_path, cuts, [ALL]).batch(indices)
        assert half.graphs is again.graphs is None
        assert all(torch.equal(one, other) for one, other in zip(half[:5], again[:5]))


@pytest.mark.parametrize("better", [{}, BETTER], ids=str)
@pytest.mark.parametrize("batches", [[[0, 1, 2], [3, 4, 5, 6, 7]], [[0, 1, 2, 3, 4, 5, 6], [7]]])
def test_two_batches_accumulated_take_the_same_step_as_one_of_both(tmp_path, cuts, batches, better):
    one, _ = step_of(tmp_path / "one", cuts, [ALL], model=build_better(better))
    two, _ = step_of(tmp_path / "two", cuts, batches, accumulate=2, model=build_better(better))
    assert_same(two.weights(), one.weights(), **CLOSE)
    assert two.recognizer.last_parts == pytest.approx(one.recognizer.last_parts, rel=1e-5)
    assert two.recognizer.last_loss == pytest.approx(one.recognizer.last_loss, rel=1e-5)
    assert (two.recognizer.position.steps, two.recognizer.position.batches) == (1, 2)


def test_the_last_batches_make_a_step_even_if_they_are_fewer(tmp_path, cuts):
    settings = {"optimizer": lambda groups: torch.optim.SGD(groups, lr=0.05)}
    three, _ = step_of(tmp_path / "three", cuts, [[0, 1], [2, 3], [4, 5, 6, 7]], accumulate=2, **settings)
    two, _ = step_of(tmp_path / "two", cuts, [[0, 1, 2, 3], [4, 5, 6, 7]], **settings)
    assert_same(three.weights(), two.weights(), **CLOSE)
    assert three.recognizer.position.steps == 2


def test_the_gradient_is_clipped_to_its_norm(tmp_path, cuts):
    training = Training(tmp_path, cuts, [ALL], clip=0.5)
    before = training.weights()
    after = training.fit().weights()
    step = torch.cat([(before[name] - after[name]).flatten() for name in before])
    assert float(step.norm()) == pytest.approx(0.5, rel=1e-3)


def test_what_is_random_in_a_step_depends_only_on_its_place_in_the_training():
    seeds = {seed_of_batch(seed, batch) for seed in range(20) for batch in range(500)}
    assert len(seeds) == 20 * 500 and all(0 <= seed < 2**63 for seed in seeds)

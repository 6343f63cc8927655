"""Losses and gradients that are not finite, and batches that do not fit, leave no trace."""

import math

import pytest
import torch

from asr.errors import UserError
from tests.support.small_training import (
    CLOSE,
    Training,
    adam,
    assert_same,
    build_model,
    limit_backward,
    limit_forward,
    step_of,
)


def test_an_utterance_that_does_not_fit_alone_is_named(tmp_path, cuts):
    training = Training(tmp_path, cuts, [[3, 6]])
    limit_forward(training, 0)
    with pytest.raises(UserError, match=r"step 1: the utterance utterance-3 \(0.4 s\) alone does not fit into memory"):
        training.fit()


def spoil_loss(training, index):
    """Makes the loss of one utterance NaN."""
    whole = training.model.head.loss.forward
    labels = torch.tensor(training.split.labels[index])

    def spoilt(emissions, lengths, targets, target_lengths):
        found = whole(emissions, lengths, targets, target_lengths)
        rows = [target[:n].tolist() == labels.tolist() for target, n in zip(targets, target_lengths.tolist())]
        return found * torch.tensor([math.nan if row else 1.0 for row in rows])

    training.model.head.loss.forward = spoilt


def test_a_step_with_a_non_finite_loss_changes_neither_weights_nor_optimizer(tmp_path, cuts):
    spoilt, _ = step_of(
        tmp_path / "spoilt", cuts, [[0, 1], [6, 3, 2], [4, 5]], lambda training: spoil_loss(training, 3), optimizer=adam
    )
    without, _ = step_of(tmp_path / "without", cuts, [[0, 1], [4, 5]], optimizer=adam)
    assert_same(spoilt.weights(), without.weights())
    assert_same(spoilt.moments(), without.moments())
    assert len(spoilt.said) == 1
    assert spoilt.said[0].startswith(
        "step 2: the loss is nan; utterances utterance-3, utterance-6, utterance-2; learning"
    )
    assert spoilt.recognizer.position.steps == 3


def test_the_utterance_that_spoiled_a_step_is_named_first_wherever_it_was_in_the_step(tmp_path, cuts):
    def prepare(training):
        limit_forward(training, 1)
        spoil_loss(training, 1)

    training, _ = step_of(tmp_path, cuts, [[0, 1, 2], [4, 5]], prepare, accumulate=2)
    assert "utterances utterance-1, utterance-0, utterance-2, utterance-4, utterance-5;" in training.said[-1]


def test_too_many_non_finite_losses_stop_the_training_and_leave_the_weights(tmp_path, cuts):
    training = Training(tmp_path, cuts, [[3]] * 12)
    before = training.weights()
    spoil_loss(training, 3)
    with pytest.raises(UserError, match=r"step 11: the loss is nan; utterances utterance-3.*optimizer.lr"):
        training.fit()
    assert_same(training.weights(), before)
    assert len(training.said) == 10


def test_a_loss_scaler_changes_no_step_and_survives_a_skipped_one(tmp_path, cuts):
    batches = [[0, 1], [3, 2], [4, 5], [6, 7]]
    plain, _ = step_of(tmp_path / "plain", cuts, batches, lambda training: spoil_loss(training, 3), clip=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled, _ = step_of(
        tmp_path / "scaled", cuts, batches, lambda training: spoil_loss(training, 3), clip=1.0, scaler=scaler
    )
    assert_same(scaled.weights(), plain.weights(), **CLOSE)
    assert len(scaled.said) == 1 and scaler.get_scale() == 512


def test_a_loss_scale_that_is_too_high_skips_steps_silently_until_it_has_dropped(tmp_path, cuts):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    training = Training(tmp_path, cuts, [[0, 1]] * 6, scaler=scaler)
    before = training.weights()
    training.fit()
    assert training.said == [] and 1 < scaler.get_scale() < 2.0**127
    assert any(not torch.equal(before[name], weight) for name, weight in training.weights().items())


def test_a_gradient_that_is_not_finite_at_any_scale_is_reported(tmp_path, cuts):
    training = Training(tmp_path, cuts, [[0, 1]] * 6, scaler=torch.amp.GradScaler("cpu", init_scale=4.0))
    training.model.head.weight.register_hook(lambda gradient: gradient * math.inf)
    training.fit()
    assert len(training.said) == 4 and "its gradient is not finite" in training.said[0]


def test_a_largest_batch_that_does_not_fit_is_reported_before_the_first_step_and_leaves_nothing(tmp_path, cuts):
    training = Training(tmp_path, cuts, [[0], [1], [2, 3, 4]], rehearse=True)
    before = training.weights()
    limit_backward(training, 2)
    with pytest.raises(UserError, match=r"largest batch .* 3 utterances of up to 0\.5 s\. Lower data\.batch_frames"):
        training.fit()
    assert_same(training.weights(), before)
    assert all(parameter.grad is None for parameter in training.model.parameters())
    assert training.recognizer.position.steps == 0 and training.said == []


def test_a_rehearsal_changes_nothing_even_if_training_is_random(tmp_path, cuts):
    random = {"dropout": 0.2, "spec_augment": {}, "speed_perturbation": [0.9, 1.0, 1.1]}
    weights = []
    for rehearse in (False, True):
        training = Training(
            tmp_path / str(rehearse), cuts, [[0, 1, 2], [3, 4]], build_model(**random), adam, rehearse=rehearse
        )
        weights.append(training.fit().weights())
    assert_same(*weights)


def test_no_batch_is_longer_than_the_rehearsed_ones_at_any_speed(tmp_path, cuts):
    training = Training(tmp_path, cuts, [[7]] * 8, build_model(speed_perturbation=[0.8, 1.0, 1.2]), rehearse=True)
    lengths, whole = [], training.model.encoder.forward
    training.model.encoder.forward = lambda x, n: lengths.append((training.model.training, x.shape[1])) or whole(x, n)
    training.fit()
    rehearsed, *trained = [length for trains, length in lengths if trains]
    assert len(set(trained)) == 3 and rehearsed >= max(trained)

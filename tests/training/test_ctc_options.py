"""Options of CTC: consistency between two views, and intermediate losses."""

import copy
import csv

import pytest
import torch

from asr.errors import UserError
from asr.model.encoders.transformer import sinusoidal_positions
from tests.support.small_training import (
    ALL,
    BETTER,
    Training,
    assert_same,
    build_better,
    build_model,
)


@pytest.mark.parametrize("better", [{"consistency": 0.5}, {"intermediate": [1]}, BETTER], ids=str)
@pytest.mark.parametrize("checkpointed, every", [(False, 1), (True, 1), (False, 2)])
def test_a_step_with_options_of_ctc_is_that_of_two_views_and_of_inner_layers(
    tmp_path, cuts, better, checkpointed, every
):
    training = Training(tmp_path, cuts, [[0, 3, 5]], build_better(better))
    training.model.encoder.checkpoint_activations = checkpointed
    training.model.encoder.output_subsampling = every
    before, other, batch = training.weights(), copy.deepcopy(training.model), training.batch([0, 3, 5])
    waveforms, samples = (torch.cat([part] * other.head.views) for part in (batch.waveforms, batch.samples))
    features, lengths = other.features(waveforms, samples)
    hidden, lengths = other.encoder.front_end(features, lengths)
    hidden = hidden + sinusoidal_positions(hidden.shape[1], hidden.shape[2], hidden)
    states = []
    for layer in other.encoder.layers:
        hidden = layer(hidden, lengths)
        states.append(other.head.emissions(other.encoder.final_norm(hidden)[:, ::every]))
    lengths = -(-lengths // every)
    inner = states[:1] if other.head.blocks else []
    losses, _ = other.head.loss.in_training(states[-1], inner, lengths, batch.labels, batch.label_lengths)
    (losses.sum() / (2 + 1 + 4)).backward()
    after = training.fit().weights()
    gradients = {name: parameter.grad for name, parameter in other.named_parameters()}
    assert_same({name: before[name] - after[name] for name in before}, gradients, rtol=1e-3, atol=1e-5)
    assert training.recognizer.last_loss == pytest.approx(float(losses.detach().sum()) / 7, rel=1e-5)
    assert all(not layer._forward_hooks for layer in training.model.encoder.layers)
    with open(tmp_path / "metrics.csv", encoding="utf8", newline="") as file:
        step = next(csv.DictReader(file))
    logged = [name for name in ("ctc", "intermediate", "consistency") if step[f"train/{name}"]]
    assert logged == list(training.recognizer.last_parts)


def test_options_of_ctc_change_nothing_in_an_evaluation(tmp_path, cuts):
    training, plain = Training(tmp_path, cuts, [ALL], build_better(BETTER)).fit(), build_model().eval()
    plain.load_state_dict(training.model.state_dict())
    batch = training.batch(ALL)
    with torch.no_grad():
        emissions, lengths = plain(batch.waveforms, batch.samples)
        assert torch.equal(emissions, training.model.eval()(batch.waveforms, batch.samples)[0])
    dev = plain.head.loss(emissions, lengths, *batch.spoken).sum() / batch.label_lengths.sum()
    assert training.recognizer.dev_score.loss == pytest.approx(float(dev), rel=1e-4)


def test_two_views_are_masked_independently_and_more_often_at_one_speed():
    model = build_model(loss={"consistency": 0.2}, spec_augment={"time_masks": 2}, speed_perturbation=[0.9, 1.0, 1.1])
    assert (
        model.features.spec_augment.time_masks == 5 and model.description["features"]["spec_augment"]["time_masks"] == 2
    )
    assert build_model(spec_augment={"time_masks": 2}).features.spec_augment.time_masks == 2
    seen, whole = [], model.encoder.forward
    model.encoder.forward = lambda features, lengths: seen.append((features, lengths)) or whole(features, lengths)
    torch.manual_seed(1)
    model.training_losses(
        torch.randn(3, 16000), torch.tensor([16000, 12000, 9000]), torch.ones(3, 1).long(), torch.ones(3).long()
    )
    ((features, lengths),) = seen
    assert len(features) == 6 and torch.equal(lengths[:3], lengths[3:])
    kept = (features[:3] != 0) & (features[3:] != 0)
    assert torch.equal(features[:3][kept], features[3:][kept]) and not torch.equal(features[:3], features[3:])


@pytest.mark.parametrize(
    "settings, sentence",
    [
        (
            {"loss": {"intermediate": [1, 2]}},
            r"loss\.intermediate=\[1, 2\]: this encoder has 2 layers, .* Give numbers below 2\.",
        ),
        ({"loss": {"consistency": 0.2}}, "set features.spec_augment or encoder.dropout"),
    ],
)
def test_options_of_ctc_that_the_model_cannot_serve_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        build_model(**settings)

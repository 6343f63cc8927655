"""Dev: scores, moving averages, when a training ends or stops."""

import csv

import pytest
import torch

from asr.inference.decoders import Hypothesis
from asr.model.checkpoint import CARRIED, open_checkpoint, read_tensors
from asr.training.position import Position
from asr.training.validation import DevScore
from tests.support.small_training import (
    ALL,
    TEXTS,
    UNITS,
    Training,
    adam,
    assert_same,
    step_of,
)


def test_a_batch_of_dev_that_does_not_fit_is_halved(tmp_path, cuts):
    whole, _ = step_of(tmp_path / "whole", cuts, [ALL])
    parts = Training(tmp_path / "parts", cuts, [ALL])
    forward = parts.model.encode

    def limited(waveforms, samples):
        if len(samples) > 3 and not parts.model.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(waveforms, samples)

    parts.model.encode = limited
    parts.fit()
    assert parts.recognizer.dev_score.rates == whole.recognizer.dev_score.rates
    assert parts.recognizer.dev_score.loss == pytest.approx(whole.recognizer.dev_score.loss, rel=1e-5)
    assert parts.said[0].startswith("step 2: out of memory on a batch of dev of 8 utterances of up to 0.5 s")
    assert len(parts.said) == 3


def test_a_validation_computes_the_emissions_of_a_batch_once(tmp_path, cuts):
    training, asked = Training(tmp_path, cuts, [ALL]), []
    emissions = training.model.head.emissions
    training.model.head.emissions = lambda hidden: asked.append(hidden.requires_grad) or emissions(hidden)
    training.fit()
    assert asked == [True, False], "a batch of training, a batch of dev"


def test_dev_is_scored_in_words_and_characters(tmp_path, cuts):
    training = Training(tmp_path, cuts, [ALL])
    # what the model outputs: it misses the space in "a cab", and a character of "bac" is wrong
    said = iter(["ab", "acab", "bab", "c", "abba", "cc b", "a b", "bab"])
    ids = {text: [UNITS.ids[character.replace(" ", "▁")] for character in text] for text in (*TEXTS, "acab")}
    training.recognizer.scorer.scoring.decoder = lambda emissions, lengths: [
        [Hypothesis(ids[next(said)], 0.0, [])] for _ in range(len(lengths))
    ]
    training.recognizer.trainer = training.trainer
    training.recognizer.on_validation_epoch_start()
    with torch.no_grad():
        training.recognizer.validation_step(training.batch(ALL), 0)
    training.recognizer.on_validation_epoch_end()
    words, characters = sum(len(text.split()) for text in TEXTS), sum(map(len, TEXTS))
    assert training.recognizer.dev_score.rates == {"wer": 3 / words, "cer": 2 / characters}
    assert training.recognizer.dev_score.error_rate == 3 / words

    fitted = Training(tmp_path, cuts, [ALL]).fit().recognizer
    with open(tmp_path / "metrics.csv", encoding="utf8", newline="") as file:
        row = [row for row in csv.DictReader(file) if row["dev/loss"]][-1]
    assert float(row["dev/error_rate"]) == float(row["dev/word_error_rate"]) == fitted.dev_score.rates["wer"]
    assert float(row["dev/character_error_rate"]) == fitted.dev_score.rates["cer"]


def test_characters_break_ties_between_word_error_rates():
    position = Position(best=1.0, best_beside=0.5)
    for words, characters, better in ((1.0, 0.4, True), (1.0, 0.5, False), (0.9, 0.6, True), (1.1, 0.1, False)):
        assert DevScore(0.0, {"wer": words, "cer": characters}, 0.0).is_better(position) == better
    tied = DevScore(0.0, {"wer": 1.0, "cer": 0.1}, 0.0)
    assert not tied.is_better(Position(best=1.0)), "the checkpoint is from before the further rate was kept"
    assert not DevScore(0.0, {"per": 1.0}, 0.0).is_better(position) and tied.is_better(Position())


def test_the_moving_average_is_validated_and_kept_as_the_best_while_training_goes_on_from_its_own_weights(
    tmp_path, cuts
):
    batches = [[0, 1], [2, 3], [4, 5], [6, 7]]
    averaged, _ = step_of(tmp_path / "averaged", cuts, batches, optimizer=adam, average=0.9)
    plain, _ = step_of(tmp_path / "plain", cuts, batches, optimizer=adam)
    assert_same(averaged.weights(), plain.weights())
    last = read_tensors(tmp_path / "averaged/checkpoints/last.ckpt")
    best = read_tensors(tmp_path / "averaged/checkpoints/best.ckpt")
    names = [name for name, _ in averaged.recognizer.named_parameters()]
    average = dict(zip(names, last[CARRIED]["average"]["average"], strict=True))
    assert_same({name: best["state_dict"][name] for name in names}, average)
    assert_same({name.removeprefix("model."): last["state_dict"][name] for name in names}, plain.weights())
    assert not torch.equal(best["state_dict"]["model.head.weight"], last["state_dict"]["model.head.weight"])
    opened = open_checkpoint(tmp_path / "averaged/checkpoints/best.ckpt").model
    emissions = opened.eval()(*training_input(averaged))[0]
    averaged.recognizer.average.swap()
    torch.testing.assert_close(averaged.model.eval()(*training_input(averaged))[0], emissions, rtol=0, atol=0)


def training_input(training):
    batch = training.batch([1, 4])
    return batch.waveforms, batch.samples


def test_a_signal_lets_the_step_finish_writes_a_checkpoint_and_tells_how_to_resume(tmp_path, cuts):
    import os
    import signal

    from asr.errors import Stopped

    training = Training(tmp_path, cuts, [[number] for number in ALL])
    whole = training.model.encode

    def forward(waveforms, samples):
        if training.recognizer.position.batches == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(waveforms, samples)

    training.model.encode = forward
    with pytest.raises(Stopped, match=f"stopped by SIGTERM at step 4; go on with: .*resume={tmp_path}") as stopped:
        training.fit()
    assert stopped.value.exit_code == 143
    position = read_tensors(tmp_path / "checkpoints/last.ckpt")[CARRIED]["position"]
    assert (position["steps"], position["batches"]) == (4, 4)


def test_training_ends_after_enough_validations_without_a_better_error_rate(tmp_path, cuts):
    def frozen(groups):
        return torch.optim.SGD(groups, lr=0.0)

    batches = [[number % 8] for number in range(12)]
    training = Training(tmp_path, cuts, batches, optimizer=frozen, validations=12, stop_after=3).fit()
    position = training.recognizer.position
    assert (position.validations, position.steps, position.best_step) == (4, 4, 1) and position.over
    assert "3 validations brought no better error rate" in training.said[-1]
    all_of_it = Training(tmp_path / "all", cuts, batches, optimizer=frozen, validations=12).fit()
    assert all_of_it.recognizer.position.steps == 12

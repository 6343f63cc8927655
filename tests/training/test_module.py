"""A step depends only on its utterances, not on how they were batched, and failed attempts leave no trace in it."""

import copy
import csv
import math
from pathlib import Path

import lightning
import numpy as np
import pytest
import soundfile
import torch
from lhotse import MonoCut, Recording, SupervisionSegment

from asr.data.batches import TrainingPlan, Utterances, collate, evaluation_loader, halves
from asr.data.checks import check_split
from asr.data.plan import Bounds
from asr.errors import UserError
from asr.inference.decoders import Hypothesis, decoders
from asr.model.checkpoint import CARRIED, open_checkpoint, read_tensors
from asr.model.encoders.transformer import sinusoidal_positions
from asr.model.network import Model
from asr.runtime.memory import is_out_of_memory
from asr.runtime.signals import StopSignals
from asr.scoring.metric import Metric
from asr.text.units.characters import Characters
from asr.training.checkpoints import KeepCheckpoints, WholeCheckpoints
from asr.training.metrics import MetricsFile
from asr.training.module import Recognizer
from asr.training.position import Position, Stepping, seed_of_batch
from asr.training.schedules.constant import Constant
from asr.training.setup import TrainingSetup
from asr.training.trainer import quiet
from asr.training.validation import DevScore, Scoring
from asr.training.watchdogs import Watchdogs

UNITS = Characters(["<blank>", "▁", "a", "b", "c"])
TEXTS = ("ab", "a cab", "bac", "c", "abba", "cc b", "a b", "bab")


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    """Eight utterances of noise, from a quarter to half a second."""
    folder, random = tmp_path_factory.mktemp("audio"), np.random.default_rng(0)
    made = []
    for number, text in enumerate(TEXTS):
        path = folder / f"{number}.flac"
        soundfile.write(path, 0.1 * random.standard_normal(4000 + 571 * number), 16000)
        recording = Recording.from_file(path)
        name, seconds = f"utterance-{number}", recording.duration
        supervision = SupervisionSegment(name, recording.id, 0.0, seconds, text=text)
        made.append(MonoCut(name, 0.0, seconds, 0, recording=recording, supervisions=[supervision]))
    return made


class Masks(torch.nn.Module):
    """Augmentation without chance, which depends on the utterance alone: the second view of each lacks its first frames."""

    def forward(self, features, lengths):
        masked = features.clone()
        if self.training:
            masked[len(features) // 2 :, :3] = 0.0
        return masked


BETTER = {"consistency": 0.5, "intermediate": [1]}


def build_model(dropout=0.0, loss=None, **features):
    description = {
        "features": {"sample_rate": 16000, "mels": 10, **features},
        "encoder": {"name": "transformer", "layers": 2, "heads": 2, "head_dim": 4, "feed_forward": 8, "dropout": dropout,
                    "shared_qk": False},
        "attention": {"name": "full"},
        "head": {"name": "ctc", "loss": {"name": "ctc", **(loss or {})}},
        "units": len(UNITS.symbols),
    }  # fmt: skip
    torch.manual_seed(0)
    return Model(description)


def build_better(better):
    """A model whose training step depends on its utterances alone, under options of its loss."""
    if not better:
        return build_model()
    model = build_model(loss=better, spec_augment={})
    model.features.spec_augment = Masks()
    return model


class Training:
    """A recognizer and its trainer, put together as in `asr.training.fitting.fit`."""

    def __init__(self, folder: Path, cuts, batches, model=None, optimizer=None, scaler=None, **stepping):
        quiet()
        folder.mkdir(exist_ok=True)
        self.said = []
        self.model = model or build_model()
        output_lengths, required = self.model.encoder.output_lengths, self.model.head.required_frames
        self.split = check_split("train", cuts, UNITS, self.model.features.frames_of, output_lengths, required)
        assert not self.split.dropped
        plan = TrainingPlan(self.split.frames, Bounds(None, max(map(len, batches))), seed=1)
        # exactly these batches
        plan._number, plan.epoch = len(batches), lambda epoch: batches
        self.utterances = Utterances(self.split.cuts, self.split.labels)
        self.stop = StopSignals()
        self.recognizer = Recognizer(
            TrainingSetup(
                self.model, Scoring(UNITS, decoders.create({"name": "greedy"}), Metric("wer")),
                {"train": self.split, "dev": self.split}, plan,
            ),
            optimizer or (lambda groups: torch.optim.SGD(groups, lr=1.0)), Constant(),
            Stepping(**{"validations": 1, "rehearse": False, **stepping}), Watchdogs(say=self.said.append), stop=self.stop,
        )  # fmt: skip
        self.trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=1, check_val_every_n_epoch=None, val_check_interval=2**62, enable_checkpointing=False,
            callbacks=[KeepCheckpoints(folder, None, None, 1, self.stop)], logger=[MetricsFile(folder / "metrics.csv")],
            plugins=[WholeCheckpoints()], enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            log_every_n_steps=1,
        )  # fmt: skip
        # trained on noise, models learn within a few steps to be silent
        self.recognizer.watchdogs.silence = lambda *_: None
        if scaler is not None:
            self.trainer.precision_plugin.scaler = scaler

    def fit(self):
        dev = evaluation_loader(self.utterances, self.split.frames, 1000)
        with self.stop:
            self.trainer.fit(self.recognizer, self.recognizer.plan.loader(self.utterances, 0), dev)
        return self

    def batch(self, indices):
        return collate([self.utterances[index] for index in indices])

    def weights(self):
        return {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}

    def moments(self):
        state = self.trainer.optimizers[0].state_dict()["state"]
        return {(index, name): value for index, values in state.items() for name, value in values.items()}


def assert_same(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **(tolerance or {"rtol": 0, "atol": 0}), msg=str(name))


# rounding alone: the steps compared are near 1
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


def limit_forward(training, most):
    """Has the model run out of memory on more than `most` utterances; returns the batch sizes it was given."""
    whole, asked = training.model.encode, []

    def limited(waveforms, samples):
        asked.append(len(samples))
        if len(samples) > most * training.model.head.views and training.model.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return whole(waveforms, samples)

    training.model.encode = limited
    return asked


class FailsBackward(torch.autograd.Function):
    """The identity; its backward pass runs out of memory if `fails` says so."""

    @staticmethod
    def forward(context, x, fails):
        context.fails = fails
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        if context.fails(gradient):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return gradient, None


def limit_backward(training, most):
    """Has the backward pass of the first layer run out of memory, when the layers above already have their gradients."""
    layer, leaked = training.model.encoder.layers[0], []
    whole = layer.forward

    def fails(gradient):
        if len(gradient) > most * training.model.head.views:
            leaked.append(float(training.model.head.weight.grad.abs().sum()))
            return True
        return False

    layer.forward = lambda hidden, lengths: FailsBackward.apply(whole(hidden, lengths), fails)
    return leaked


def step_of(tmp_path, cuts, batches, prepare=None, **settings):
    training = Training(tmp_path, cuts, batches, **settings)
    prepared = prepare(training) if prepare else None
    training.fit()
    return training, prepared


ALL = list(range(8))


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


def test_an_utterance_that_does_not_fit_alone_is_named(tmp_path, cuts):
    training = Training(tmp_path, cuts, [[3, 6]])
    limit_forward(training, 0)
    with pytest.raises(UserError, match=r"step 1: the utterance utterance-3 \(0.4 s\) alone does not fit into memory"):
        training.fit()


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


def adam(groups):
    return torch.optim.AdamW(groups, lr=1e-2)


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


def test_the_gradient_is_clipped_to_its_norm(tmp_path, cuts):
    training = Training(tmp_path, cuts, [ALL], clip=0.5)
    before = training.weights()
    after = training.fit().weights()
    step = torch.cat([(before[name] - after[name]).flatten() for name in before])
    assert float(step.norm()) == pytest.approx(0.5, rel=1e-3)


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


def test_what_is_random_in_a_step_depends_only_on_its_place_in_the_training():
    seeds = {seed_of_batch(seed, batch) for seed in range(20) for batch in range(500)}
    assert len(seeds) == 20 * 500 and all(0 <= seed < 2**63 for seed in seeds)


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

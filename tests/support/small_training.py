"""A training of a few utterances by the recognizer itself, without a program around it."""

from pathlib import Path

import lightning
import torch

from asr.data.batches import TrainingPlan, Utterances, collate, evaluation_loader
from asr.data.checks import check_split
from asr.data.plan import Bounds
from asr.inference.decoders import decoders
from asr.model.network import Model
from asr.runtime.signals import StopSignals
from asr.scoring.metric import Metric
from asr.text.units.characters import Characters
from asr.training.checkpoints import KeepCheckpoints, WholeCheckpoints
from asr.training.metrics import MetricsFile
from asr.training.module import Recognizer
from asr.training.position import Stepping
from asr.training.schedules.constant import Constant
from asr.training.setup import TrainingSetup
from asr.training.trainer import quiet
from asr.training.validation import Scoring
from asr.training.watchdogs import Watchdogs

UNITS = Characters(["<blank>", "▁", "a", "b", "c"])


TEXTS = ("ab", "a cab", "bac", "c", "abba", "cc b", "a b", "bab")


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


def adam(groups):
    return torch.optim.AdamW(groups, lr=1e-2)

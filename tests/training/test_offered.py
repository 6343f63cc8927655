"""Every value of these settings works: it trains, scores, resumes and is usable, or it is refused with a sentence."""

import importlib.util
import math
import re
import shutil
from pathlib import Path

import pytest
import torch

from asr.config.checks import check_overrides
from asr.config.schema import schema_of
from asr.config.settings import compose, groups
from asr.errors import UserError
from asr.inference.decoders.greedy import Greedy
from asr.inference.transcription.files import Request, transcribe_files
from asr.model.checkpoint import open_checkpoint, read_tensors
from asr.runtime.precision import precision_of
from asr.training.job import train
from asr.training.stepping import StepGradients
from scripts.soak_resume import differences, logged
from tests.support.tiny_corpus import tiny_corpus

pytestmark = pytest.mark.run

SCHEMA = schema_of("train")
PRECISIONS = [str(value) for value in SCHEMA.limit("trainer.precision").choices if value is not None]
# what cannot be had here, and what the user is told
REFUSED = {
    "trainer.precision=16-true": "16-true does not learn: .* vanish in float16",
    "trainer.precision=16-mixed": None if torch.cuda.is_available() else "16-mixed needs a GPU",
    "trainer.precision=16": None if torch.cuda.is_available() else "16-mixed needs a GPU",
    "logger=wandb": None if importlib.util.find_spec("wandb") else "pip install wandb",
    "logger=mlflow": None if importlib.util.find_spec("mlflow") else "pip install mlflow",
}
TRAINED = [name for name in PRECISIONS if "-" in name and not REFUSED.get(f"trainer.precision={name}")]
# further settings that a value needs with this corpus
WITH = {"units=phonemes": ["units.alignments=false"], "units=bpe": ["units.size=20"]}
CHOICES = [
    *(f"{group}={choice}" for group in ("units", "optimizer", "schedule", "logger") for choice in groups()[group]),
    *(f"trainer.precision={value}" for value in PRECISIONS),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The settings of a training that takes a few steps."""
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")


def trained(settings, run, *typed):
    typed = [*settings, *typed, f"run={run}"]
    train(compose("train", typed), typed)
    return run


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_trains_and_is_scored_or_is_refused_before_anything_starts(corpus, tmp_path, choice):
    more = ["units=characters", "logger=none", "trainer.accelerator=auto", choice, *WITH.get(choice, [])]
    if REFUSED.get(choice) is not None:
        with pytest.raises(UserError, match=REFUSED[choice]):
            trained(corpus, tmp_path / "run", *more)
        assert list(tmp_path.iterdir()) == []
        return
    run = trained(corpus, tmp_path / "run", *more)
    steps, dev = ([float(row[name]) for row in logged(run) if row[name]] for name in ("train/loss", "dev/loss"))
    assert len(steps) >= 6 and all(map(math.isfinite, steps)) and dev[1] < dev[0]
    assert list(run.glob("evaluation/test/*/scores.json")) and (run / "model/model.safetensors").is_file()


@pytest.mark.parametrize("key", ["trainer.strategy", "init_units"])
def test_the_comment_of_a_setting_explains_each_of_its_values(key):
    for value in SCHEMA.limit(key).choices:
        assert re.search(rf"\b{value}\b", SCHEMA.comment(key)), value


@pytest.mark.parametrize("key", ["trainer.precision", "trainer.strategy", "init_units"])
def test_an_unknown_value_is_refused_and_the_known_ones_are_listed(key):
    with pytest.raises(UserError) as refused:
        check_overrides("train", [f"{key}=transformer-engine"])
    assert all(str(value) in str(refused.value) for value in SCHEMA.limit(key).choices if value is not None)


@pytest.mark.parametrize("precision", TRAINED)
def test_a_precision_survives_resuming_and_its_model_is_usable(corpus, tmp_path, precision, capsys):
    more = [
        f"trainer.precision={precision}",
        "units=characters",
        "logger=none",
        "moving_average=0.9",
        "average_checkpoints=2",
    ]
    more += ["features.normalization=global", "trainer.accumulate_grad_batches=2", "max_epochs=4"]
    run = trained(corpus, tmp_path / "run", *more)
    state = read_tensors(run / "checkpoints/last.ckpt")
    weights = precision_of(precision, "auto").weights
    assert {value.dtype for name, value in state["state_dict"].items() if "encoder" in name} == {weights}
    assert state["state_dict"]["model.features.normalization.mean"].dtype == torch.float32
    moments = [values["exp_avg_sq"] for values in state["optimizer_states"][0]["state"].values()]
    assert {moment.dtype for moment in moments} == {weights}
    # as if it had been stopped at the last validation but one
    again = tmp_path / "again"
    shutil.copytree(run, again)
    (again / "checkpoints/previous.ckpt").replace(again / "checkpoints/last.ckpt")
    typed = [f"resume={again}", f"run={again}"]
    train(compose("train", typed), typed)
    assert differences(run, again) == []
    model = open_checkpoint(run / "model").model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    capsys.readouterr()
    manifest = Path(next(item for item in corpus if item.startswith("corpus.test=")).partition("=")[2])
    audio = manifest.with_name("test-0.flac")
    assert transcribe_files(Request([str(audio)], str(run), device="cpu")) == 0
    assert audio.name in capsys.readouterr().out


@pytest.mark.parametrize("precision", TRAINED)
def test_losses_and_the_decoders_input_are_float32_or_more(corpus, tmp_path, precision, monkeypatch):
    seen = {}
    backward, decode = StepGradients.backward, Greedy.__call__

    def watched_backward(self, loss):
        seen["loss"] = loss.dtype
        return backward(self, loss)

    def watched_decode(self, emissions, lengths):
        seen["emissions"] = emissions.dtype
        return decode(self, emissions, lengths)

    monkeypatch.setattr(StepGradients, "backward", watched_backward)
    monkeypatch.setattr(Greedy, "__call__", watched_decode)
    trained(
        corpus, tmp_path / "run", "units=characters", "logger=none", f"trainer.precision={precision}", "max_epochs=1"
    )
    wide = torch.float64 if precision == "64-true" else torch.float32
    assert seen == {"loss": wide, "emissions": torch.float32}

"""Every YAML under conf/ composes, and what it describes can be built."""

import inspect

import hydra
import pytest
import torch
from omegaconf import OmegaConf

from asr.config.settings import all_knobs, compose, groups, knobs_of, plain
from asr.data.corpora import corpora
from asr.inference.decoders import decoders
from asr.model.attention import attentions
from asr.model.encoders import encoders
from asr.model.heads import heads
from asr.model.losses import losses
from asr.model.network import Model
from asr.model.topologies import topologies
from asr.text.units import units
from asr.training.schedules import schedules
from asr.training.setup import describe

GROUPS = groups()
REQUIRED = {"folder": ["corpus.path=x"], "cuts": ["corpus.train=a", "corpus.dev=b", "corpus.test=c"]}
CHOICES = [(group, choice) for group, choices in GROUPS.items() for choice in choices]


@pytest.mark.parametrize("group, choice", CHOICES, ids=lambda name: name)
def test_every_choice_composes_with_nothing_left_open(group, choice):
    config = compose("train", [f"{group}={choice}", *REQUIRED.get(choice, [])])
    assert not OmegaConf.missing_keys(config) - {"run"}


@pytest.mark.parametrize("attention", GROUPS["attention"])
@pytest.mark.parametrize("encoder", GROUPS["encoder"])
@pytest.mark.parametrize("features", GROUPS["features"])
def test_every_model_builds_and_runs(attention, encoder, features):
    config = compose(
        "train", [f"attention={attention}", f"encoder={encoder}", f"features={features}", "encoder.layers=1"]
    )
    description = describe(config)
    description["features"]["sample_rate"], description["units"] = 16000, 7
    emissions, lengths = Model(description).eval()(torch.randn(1, 8000), torch.tensor([8000]))
    assert emissions.shape == (1, int(lengths), 7)
    torch.testing.assert_close(emissions.exp().sum(-1), torch.ones(1, int(lengths)))


@pytest.mark.parametrize(
    "family, registry",
    [
        ("corpus", corpora),
        ("units", units),
        ("encoder", encoders),
        ("attention", attentions),
        ("head", heads),
        ("loss", losses),
        ("topology", topologies),
        ("decoder", decoders),
        ("schedule", schedules),
    ],
)
def test_every_part_has_a_choice_of_its_name_and_every_choice_names_a_part(family, registry):
    names = {plain(compose("train", [f"{family}={choice}"])[family])["name"] for choice in GROUPS[family]}
    assert names == set(registry.names())


@pytest.mark.parametrize("choice", GROUPS["corpus"])
def test_a_corpus_file_sets_only_what_its_corpus_takes(choice):
    settings = {**plain(compose("train", [f"corpus={choice}", *REQUIRED.get(choice, [])]).corpus)}
    assert corpora.create(settings).name == settings["name"]


@pytest.mark.parametrize("choice", GROUPS["optimizer"])
def test_every_optimizer_instantiates(choice):
    config = compose("train", [f"optimizer={choice}"]).optimizer
    assert hasattr(hydra.utils.instantiate(config, params=[torch.nn.Parameter(torch.ones(1))]), "step")


@pytest.mark.parametrize("choice", GROUPS["schedule"])
def test_every_setting_of_a_schedule_is_in_its_file(choice):
    settings = plain(compose("train", [f"schedule={choice}"]).schedule)
    assert schedules.create(settings).factor(step=0, progress=0.0) > 0
    assert settings.keys() == {"name", *inspect.signature(schedules.get(choice)).parameters}


def test_the_knobs_of_an_attention_are_what_its_file_interpolates():
    assert knobs_of("i_clustered") == ["clusters", "topk", "space", "bits", "seeds", "iterations"]
    assert knobs_of("full") == []
    assert set(all_knobs()) <= set(compose("train", []).keys())
    assert set(all_knobs()) <= set(compose("evaluate", []).keys())

"""Every YAML under conf/ composes, and what it describes can be built."""

import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path

import hydra
import pytest
import torch
from omegaconf import OmegaConf

import asr.config.settings
from asr.cli.command import flags_first, hydra_options
from asr.config.settings import all_knobs, check_overrides, compose, default_choices, groups, knobs_of, plain
from asr.data.corpora import corpora
from asr.errors import UserError
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
    assert knobs_of("i_clustered") == ["clusters", "topk", "bits", "iterations"]
    assert knobs_of("full") == []
    assert set(all_knobs()) <= set(compose("train", []).keys())
    assert set(all_knobs()) <= set(compose("evaluate", []).keys())


TAKEN = [
    "-m optimizer.lr=choice(0.1,0.2)", "-m seed=range(1,4)", "-m seed=sort(3,1,2)", "-m seed=shuffle(range(1,4))",
    "-m attention=glob(*)",
    "~optimizer.weight_decay", "hydra.job.name=x", "hydra.verbose=true", "hydra/job_logging=disabled", "hydra.run.dir=x",
    "hydra.sweep.subdir=x", "hydra/launcher=basic", "+optimizer.maximize=true", "++seed=2",
]  # fmt: skip


@pytest.mark.parametrize("typed", TAKEN)
def test_what_users_of_hydra_type_passes_the_check(typed):
    check_overrides("train", typed.split())


REFUSED = {
    "-m optimizer.lr=interval(0.1,0.2)": "an interval needs a sweeper that searches: add hydra/sweeper=optuna",
    "-m attention=glob(x*)": "no attention is called so",
    "-m seed=glob(*)": "goes over the choices of a group: attention",
    "-m optimizer.lr=choice(0.1,a)": "optimizer.lr takes a number",
    "~watch": "~watch: this setting cannot be taken out; set it to another value",
    "+experiment=x": "leave the + out: experiment=",
    "~optimizer._target_": "cannot be taken out",
    "~optimizer.weight_decy": "did you mean optimizer.weight_decay",
    "hydra.job.nam=x": "hydra.job.nam=x: ",
    "hydra/launcher=nothing": "hydra/launcher=nothing: ",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_what_cannot_be_done_is_answered_by_a_sentence(typed):
    with pytest.raises(UserError) as refused:
        check_overrides("train", typed.split())
    assert REFUSED[typed] in str(refused.value)


@pytest.mark.parametrize("plugin, extra", [("hydra/launcher=joblib", "joblib"), ("hydra/sweeper=optuna", "optuna")])
def test_a_plugin_that_is_missing_is_named_with_its_extra(plugin, extra):
    name = {"joblib": "joblib_launcher", "optuna": "optuna_sweeper"}[extra]
    if importlib.util.find_spec("hydra_plugins") and importlib.util.find_spec(f"hydra_plugins.hydra_{name}"):
        pytest.skip("it is installed")
    with pytest.raises(UserError, match=rf"{plugin}: its plugin is not installed.*'asr\[{extra}\]'"):
        check_overrides("train", ["-m", plugin])


FLAGS = {
    "--experimental-rerun x.pickle": "a pickle runs whatever code is in it",
    "-cp x": "conf/ cannot be replaced; --config-dir DIR adds",
    "--cfg job -m": "do not go together",
    "--resolve": "--resolve needs --cfg",
}


@pytest.mark.parametrize("typed", FLAGS)
def test_flags_that_cannot_be_taken_are_answered_by_a_sentence(typed):
    with pytest.raises(UserError, match=FLAGS[typed]):
        hydra_options(typed.split())


def test_flags_and_settings_may_stand_in_any_order():
    typed = ["a=1", "--config-dir", "x", "b=2", "-m", "~c", "--multirun"]
    asked = hydra_options(typed)
    assert flags_first(typed, asked.overrides) == ["-m", "--config-dir", "x", "a=1", "b=2", "~c"]


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setattr(asr.config.settings, "OWN", [tmp_path])
    files = {
        "attention/mine.yaml": "name: i_clustered\nclusters: 7\ntopk: ${topk}\nbits: 31\niterations: 5\n",
        "experiment/mine.yaml": "# @package _global_\ndefaults:\n  - override /attention: mine\nseed: 5\n",
        "mine.yaml": "defaults:\n  - train\n  - override attention: mine\n  - _self_\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)


def test_a_folder_of_ones_own_adds_choices_experiments_and_whole_configurations(own):
    for typed in (["attention=mine"], ["experiment=mine"]):
        check_overrides("train", typed)
        assert compose("train", typed).attention.clusters == 7
    assert "mine" in groups()["attention"] and knobs_of("mine") == ["topk"]
    assert default_choices("mine") == {**default_choices("train"), "attention": "mine"}
    check_overrides("mine", ["topk=3"])
    with pytest.raises(UserError, match="does not read 'clusters'"):
        check_overrides("train", ["attention=mine", "clusters=3"])


def test_a_shell_completes_groups_and_settings(tmp_path):
    train = Path(__file__).resolve().parents[2] / "train.py"
    for line, offered in (("attention=", "attention=i_clustered"), ("optimizer.", "optimizer.lr=")):
        typed = f"python train.py {line}"
        environment = {**os.environ, "COMP_LINE": typed, "COMP_POINT": str(len(typed)), "COMP_CWORD": "2"}
        command = [sys.executable, str(train), "-sc", "query=bash"]
        ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert offered in ended.stdout.split(), ended.stderr
    assert list(tmp_path.iterdir()) == []

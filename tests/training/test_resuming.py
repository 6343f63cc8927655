"""Resuming a run: with its own settings, few of which may be changed, and without running code that its folder names."""

import copy
import functools
import os
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from asr.config.overrides import as_hydra_takes
from asr.config.settings import compose
from asr.errors import UserError
from asr.training.resuming import CHANGEABLE, check_same, move, refuse_foreign_code, resumed_config, with_run


@pytest.fixture(scope="module")
def started():
    """The configuration that a run was started with."""
    return compose("train", ["attention=i_clustered", "clusters=7", "seed=5", "run=unused", "optimizer=radam"])


@pytest.fixture
def run(started, tmp_path, monkeypatch):
    """A run's folder, relative to the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs") / "mine"
    folder.mkdir(parents=True)
    write(folder, OmegaConf.to_container(started, resolve=True))
    return folder


def write(folder, content):
    (folder / "config.yaml").write_text(content if isinstance(content, str) else OmegaConf.to_yaml(content))


def saved_in(folder):
    return yaml.safe_load((folder / "config.yaml").read_text())


@functools.cache
def composed(*typed):
    return compose("train", ["run=unnamed", *typed])


def resumed(folder, *typed):
    config = copy.deepcopy(composed(*typed))
    config.resume = config.run = str(folder)
    return resumed_config(config, [*typed, f"resume={folder}", f"run={folder}"])


def test_the_cache_is_where_the_run_was_started_or_here_if_that_is_gone(tmp_path):
    (tmp_path / "there").mkdir()
    for folder, cache in (("there", str(tmp_path / "c")), ("gone", "../c")):
        saved = {"cache": "../c"}
        move(saved, "runs/x", tmp_path / folder, set())
        assert saved["cache"] == cache


def test_without_resume_the_arguments_are_left_alone(run):
    for arguments in ([], ["run=x", "seed=3"], ["resume=null"], ["resume="]):
        assert with_run(arguments) == arguments


def test_a_run_is_resumed_in_its_own_folder(run):
    assert with_run(["resume=runs/mine", "max_epochs=3"]) == ["resume=runs/mine", "max_epochs=3", "run=runs/mine"]
    assert with_run(["resume='runs/mine/'"])[-1] == "run=runs/mine"


def test_the_same_folder_may_be_named_twice_in_different_ways(run):
    # the processes of a job are started with both: one as it was typed, the other as it was resolved
    for named in ("runs/mine", "./runs/mine", str(run.resolve())):
        arguments = with_run([f"resume={named}", "run=runs/mine"])
        assert [argument for argument in arguments if argument.startswith("run=")] == [f"run={Path(named)}"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["resume=nowhere"],
            "resume=nowhere: there is no such folder. Name the folder of a run, such as runs/wsj/full.",
        ),
        (["resume=runs"], "resume=runs: this folder holds no run, as it has no config.yaml. Name the folder of a run."),
        (
            ["resume=runs/mine", "run=other"],
            "run=… is not the folder that resume=… names, where a run stays: leave run=… out.",
        ),
        (
            ["-m", "resume=runs/mine"],
            "--multirun does not work with resume=…, which resumes a single run: leave --multirun out.",
        ),
    ],
)
def test_what_cannot_be_resumed_is_refused(run, arguments, sentence):
    with pytest.raises(UserError) as refused:
        with_run(arguments)
    assert str(refused.value) == sentence


def test_a_run_resumes_with_the_settings_that_it_was_started_with(run):
    config = resumed(run)
    assert (config.attention.name, config.attention.clusters, config.seed) == ("i_clustered", 7, 5)
    assert config.optimizer._target_ == "torch.optim.RAdam"
    assert config.resume == config.run == str(run)


@pytest.mark.parametrize(
    "typed",
    [
        "max_epochs=50", "max_minutes=3.5", "cache=/elsewhere", "checkpoint_minutes=null", "checkpoint_steps=9",
        "data.workers=4", "data.allow_leaks=true", "data.evaluation_frames=99", "trainer.accelerator=cpu",
        "trainer.log_every_n_steps=3", "watch.skip_nonfinite=3",
    ],
)  # fmt: skip
def test_how_long_and_where_a_run_trains_may_be_changed_and_nothing_else_changes_with_it(run, typed):
    key, _, value = typed.partition("=")
    before, after = resumed(run), resumed(run, typed)
    assert OmegaConf.select(before, key) != OmegaConf.select(after, key) == yaml.safe_load(value)
    OmegaConf.update(after, key, OmegaConf.select(before, key))
    assert before == after


def test_another_logger_may_be_chosen_and_configured(run):
    assert resumed(run, "logger=none").logger == {}
    write(run, {**saved_in(run), "logger": {}})
    assert resumed(run).logger == {}
    assert resumed(run, "logger.tensorboard.name=other").logger.tensorboard.name == "other"


@pytest.mark.parametrize(
    "typed",
    ["seed=6", "attention=full", "attention.clusters=3", "encoder.layers=2", "optimizer.lr=1", "data.batch_frames=9",
     "trainer.devices=2", "trainer.accumulate_grad_batches=2", "data.workers_more=1", "trainer=default", "moving_average=0.9",
     "init_from=x", "max_minutes_more=1"],
)  # fmt: skip
def test_settings_that_would_change_the_training_are_refused_and_those_allowed_are_listed(run, typed):
    config = copy.deepcopy(composed())
    config.resume = str(run)
    with pytest.raises(UserError) as refused:
        resumed_config(config, [f"resume={run}", typed])
    for words in (f"{typed} cannot be changed in a run that was already started", *CHANGEABLE, f"init_from={run}"):
        assert words in str(refused.value)


@pytest.fixture
def folder_run(run, started):
    """A run whose corpus is a folder of recordings."""
    corpus = {"name": "folder", "path": "speech", "transcripts": "transcripts.tsv", "seed": 1}
    write(run, saved_in(run) | {"corpus": corpus})
    return run


@pytest.mark.parametrize("typed", [["++corpus.path=new = ü"], ["corpus=folder", "corpus.path=new = ü"]])
def test_the_corpus_may_have_moved_and_its_new_path_is_kept_absolute(folder_run, typed):
    Path("new = ü").mkdir()
    config = composed(*as_hydra_takes("train", [f"resume={folder_run}", *typed])[1:])
    corpus = resumed_config(OmegaConf.merge(config, {"resume": str(folder_run)}), typed).corpus
    assert corpus == saved_in(folder_run)["corpus"] | {"path": str(Path("new = ü").absolute())}


def test_a_path_that_looks_like_an_interpolation_is_not_interpolated(folder_run):
    typed = as_hydra_takes("train", [f"resume={folder_run}", "corpus.path=ü${seed"])[1:]
    config = OmegaConf.merge(composed(*typed), {"resume": str(folder_run)})
    assert resumed_config(config, typed).corpus.path == "ü${seed"
    write_as_it_is = saved_in(folder_run) | {"corpus": {"name": "folder", "path": "a${seed}"}}
    (folder_run / "config.yaml").write_text(yaml.safe_dump(write_as_it_is))
    assert resumed(folder_run).corpus.path == "a${seed}"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["++corpus.pth=x"], "corpus=folder, which runs/mine was trained on, has no setting 'pth': did you mean path"),
        (["corpus=spoken"], "corpus=spoken cannot be changed in a run"),
        (["corpus=folder", "corpus.path=x", "corpus.seed=2"], "corpus.seed=2 cannot be changed in a run"),
    ],
)
def test_another_corpus_than_that_of_the_run_is_refused(folder_run, typed, sentence):
    with pytest.raises(UserError) as refused:
        resumed_config(OmegaConf.merge(composed(*typed), {"resume": str(folder_run)}), typed)
    assert str(refused.value).startswith(sentence)


def test_settings_newer_than_a_run_have_their_defaults(run):
    saved = saved_in(run)
    del saved["moving_average"], saved["watch"], saved["trainer"]["find_batch"]
    write(run, saved)
    config = resumed(run)
    assert config.moving_average is None and config.watch.skip_nonfinite == 10 and config.trainer.find_batch is False


@pytest.mark.parametrize("module", ["asr.schedules", "asr.training.schedules"])
@pytest.mark.parametrize("schedule", ["Constant", "Cosine", "Plateau"])
def test_a_schedule_that_an_older_run_names_by_its_class_is_found_by_its_name(run, module, schedule):
    saved = saved_in(run)
    saved["schedule"] = {"_target_": f"{module}.{schedule}", "warmup_steps": 7}
    write(run, saved)
    assert resumed(run).schedule == {"name": schedule.lower(), "warmup_steps": 7}


@pytest.mark.parametrize("target", ["asr.schedules.Linear", "my.asr.schedules.Cosine", "asr.schedules.Cosine.factor"])
def test_any_other_class_of_a_schedule_is_refused(run, target):
    saved = saved_in(run)
    saved["schedule"] = {"_target_": target}
    write(run, saved)
    with pytest.raises(UserError, match=f"_target_ names '{target}'"):
        resumed(run)


def test_a_run_from_before_there_was_a_choice_of_metrics_is_scored_as_it_was(run):
    content = saved_in(run)
    assert content.pop("metric") == "auto" and resumed(run).metric == "auto"
    write(run, content)
    assert resumed(run).metric == "own"


@pytest.mark.parametrize("place", ["optimizer", "encoder", "logger.mine", "corpus.deep.er", "listed", ""])
@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "asr.audio.reading.read", ["os.system"], 3, None])
def test_code_that_conf_does_not_name_is_refused_wherever_it_hides(run, place, target):
    planted = {"_target_": target, "command": "touch ran"}
    saved = saved_in(run)
    if place == "listed":
        saved["corpus"]["more"] = [[1, planted]]
    elif place:
        *above, last = place.split(".")
        there = saved
        for name in above:
            there = there.setdefault(name, {})
        there[last] = planted
    else:
        saved |= planted
    write(run, saved)
    with pytest.raises(UserError, match="which conf/ does not, so it is not run: ") as refused:
        resumed(run)
    assert f"_target_ names {target!r}" in str(refused.value) and str(run / "config.yaml") in str(refused.value)


@pytest.mark.parametrize("planted", ["${oc.env:HOME}", "x${seed}", "\\${seed}", "${now:%Y}"])
def test_an_interpolation_in_a_saved_configuration_is_refused(run, planted):
    saved = saved_in(run)
    saved["corpus"]["text"] = [planted]
    (run / "config.yaml").write_text(yaml.safe_dump(saved))
    with pytest.raises(UserError, match="is an interpolation. Write the value itself.") as refused:
        resumed(run)
    assert "corpus.text" in str(refused.value)


def test_every_target_that_conf_names_is_allowed():
    for overrides in (
        [],
        ["optimizer=radam", "schedule=plateau", "logger=wandb"],
        ["logger=mlflow", "schedule=constant"],
    ):
        config = OmegaConf.to_container(compose("train", overrides), resolve=True)
        refuse_foreign_code(config, Path("config.yaml"))


@pytest.mark.parametrize(
    "text",
    ["", "- 1\n", "just words", "a: [1, 2", "a: &x [*x]\n", "a: !!python/object/apply:os.system ['touch ran']\n", "\0"]
    + ["&a0 [x]\n" + "".join(f"- &a{n + 1} [*a{n}, *a{n}]\n" for n in range(60)), "[" * 1200, "trainer: fast\n"],
    ids=["empty", "list", "words", "half", "itself", "code", "null byte", "a billion laughs", "deep", "no group"],
)  # fmt: skip
def test_a_broken_configuration_is_reported_and_runs_nothing(run, text):
    write(run, text)
    with pytest.raises(UserError, match="config.yaml"):
        resumed(run)
    assert os.listdir() == ["runs"]


PLAN = {"ranks": 2, "seed": 1, "frames": "abc", "batch_frames": 4000, "batch_utterances": None, "memory": None}


def test_the_same_plan_is_accepted():
    check_same(dict(PLAN), dict(PLAN), Path("last.ckpt"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"ranks": 1},
            "last.ckpt was written by 1 processes, and 2 are resuming it: .* Set trainer.devices and trainer.num_nodes for 1.",
        ),
        ({"frames": "other"}, "utterances or their durations have changed. Start a new run with init_from=…"),
        ({"seed": 2, "batch_frames": 3}, r"last.ckpt was written with other batches \(seed, batch_frames\)."),
        ({"memory": {"fixed": 1.0}}, r"other batches \(memory\)"),
    ],
)
def test_a_position_in_another_plan_is_refused(change, sentence):
    with pytest.raises(UserError, match=sentence):
        check_same({**PLAN, **change}, PLAN, Path("last.ckpt"))


def test_an_empty_plan_is_refused():
    with pytest.raises(UserError, match="last.ckpt"):
        check_same({}, PLAN, Path("last.ckpt"))

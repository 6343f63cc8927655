"""Hydra as its users know it: flags, sweeps, launchers, removals, shell completion, and what this program refuses of it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asr.cli.command import flags_first, hydra_options
from asr.config.checks import check_overrides
from asr.config.hydra_settings import is_multirun, search_folders
from asr.config.settings import OWN, groups, where_settings_lie
from asr.errors import UserError

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
    "-m attention=glob(x*)": "attention=glob(x*): it matches no attention. One of: auto",
    "-m seed=glob(*)": "glob(…) needs a group, not a setting. The groups: attention",
    "-m optimizer.lr=choice(0.1,a)": "optimizer.lr takes a number",
    "~watch": "~watch: this setting cannot be removed; set it to another value",
    "+experiment=x": "leave the + out: experiment=",
    "~optimizer._target_": "cannot be removed",
    "~optimizer.weight_decy": "did you mean optimizer.weight_decay",
    "hydra.job.nam=x": "hydra.job.nam=x: ",
    "hydra/launcher=nothing": "hydra/launcher=nothing: ",
    "hydra.mode=SEVERAL": "hydra.mode=SEVERAL: ",
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
def own(tmp_path):
    """A folder for settings of one's own, which are forgotten afterwards."""
    yield tmp_path
    OWN.clear()


def write(folder, **files):
    """Writes files, named like `experiment__mine`."""
    for name, text in files.items():
        file = folder / f"{name.replace('__', '/')}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_the_mode_of_hydra_makes_a_sweep_on_the_command_line_and_in_an_experiment_of_ones_own(own):
    assert is_multirun("train", ["hydra.mode=MULTIRUN", "seed=1,2"])
    assert not is_multirun("train", ["seed=1,2"]) and not is_multirun("train", ["hydra.mode=RUN"])
    experiment = (
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params: {seed: '1,2', optimizer.lrr: '1,2'}\n"
    )
    write(own, experiment__mine=experiment)
    search_folders("train", str(own), [])
    assert is_multirun("train", ["experiment=mine"])
    with pytest.raises(UserError, match="no setting called 'optimizer.lrr': did you mean optimizer.lr"):
        check_overrides("train", ["-m", "experiment=mine"])
    write(own, experiment__mine=experiment.replace("lrr", "lr"))
    assert not is_multirun("train", [*where_settings_lie()[1:], "experiment=mine"])
    jobs = check_overrides("train", ["-m", "experiment=mine"])
    assert [dict(job.values) for job in jobs] == [{"seed": s, "optimizer.lr": r} for s in (1, 2) for r in (1, 2)]


def test_the_search_path_of_hydra_adds_folders_wherever_it_is_set(own):
    write(own, first__attention__one="name: full\n", second__attention__two="name: full\n")
    typed = f"hydra.searchpath=[file://{own}/first,{own}/second]"
    search_folders("train", None, [typed])
    assert {"one", "two"} <= set(groups()["attention"])
    check_overrides("train", [typed, "attention=two"])
    # another process finds the same
    flags = where_settings_lie()
    asked = hydra_options([*flags, "attention=two"])
    search_folders("train", asked.config_dir, asked.overrides)
    assert OWN == [own / "first", own / "second"]
    write(own, mine=f"defaults:\n  - train\n  - _self_\nhydra:\n  searchpath: [{own}/second]\n")
    search_folders("mine", str(own), [])
    assert OWN == [own, own / "second"]
    check_overrides("mine", ["attention=two"])


PLACES = {
    "hydra.searchpath=[nowhere]": "hydra.searchpath=nowhere: there is no such folder",
    "hydra.searchpath=[pkg://nothing.conf]": "there is no package 'nothing'. Install it",
    "hydra.searchpath=[http://a/b]": "give a folder, file://FOLDER or pkg://PACKAGE",
    "hydra.searchpath=a": "give a list of folders",
}


@pytest.mark.parametrize("typed", PLACES)
def test_a_search_path_that_leads_nowhere_is_answered_by_a_sentence(typed, own):
    with pytest.raises(UserError) as refused:
        search_folders("train", None, [typed])
    assert PLACES[typed] in str(refused.value)


@pytest.mark.run
def test_a_shell_completes_groups_and_settings(tmp_path):
    train = Path(__file__).resolve().parents[2] / "train.py"
    for line, offered in (("attention=", "attention=i_clustered"), ("optimizer.", "optimizer.lr=")):
        typed = f"python train.py {line}"
        environment = {**os.environ, "COMP_LINE": typed, "COMP_POINT": str(len(typed)), "COMP_CWORD": "2"}
        command = [sys.executable, str(train), "-sc", "query=bash"]
        ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert offered in ended.stdout.split(), ended.stderr
    assert list(tmp_path.iterdir()) == []

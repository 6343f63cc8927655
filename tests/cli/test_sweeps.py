"""Several trainings by one command end in one table, and none is run twice."""

import copy
import csv
import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from asr.cli.sweeps import best_on_dev, keep_job, same_run, same_trainings, show_sweep, take_jobs, write_sweep
from asr.config.checks import check_overrides
from asr.config.settings import compose


@functools.cache
def composed(*overrides):
    return compose("train", ["run=unnamed", *overrides])


def configuration(folder, overrides):
    config = copy.deepcopy(composed(*overrides))
    config.run = str(folder)
    return config


def make_run(folder, *overrides, error_rate=0.1, attention="full", finished=True):
    config = configuration(folder, overrides)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    if finished:
        score(folder, attention, error_rate)


def score(folder, attention, error_rate, time=1000.0):
    place = folder / "evaluation/test" / attention
    place.mkdir(parents=True)
    scores = {
        "error_rate": error_rate, "interval": [error_rate / 2, error_rate * 2], "forward_seconds": 1.234,
        "attention": attention, "trained_with": "full",
    }  # fmt: skip
    (place / "scores.json").write_text(json.dumps(scores))
    os.utime(place / "scores.json", (time, time))


def asked(folder, *overrides):
    return same_run(folder, configuration(folder, overrides))


def test_a_run_that_differs_only_in_knobs_that_its_attention_does_not_read_is_the_same(tmp_path):
    make_run(tmp_path / "0", "attention=full", "clusters=100")
    assert asked(tmp_path / "1", "attention=full", "clusters=200") == tmp_path / "0"
    assert asked(tmp_path / "1", "attention=full", "topk=3", "logger=none") == tmp_path / "0"


@pytest.mark.parametrize(
    "different", [["attention=clustered"], ["seed=2"], ["encoder.layers=3"], ["corpus.hours=0.5"], ["units=characters"]]
)
def test_a_run_that_differs_otherwise_is_another(tmp_path, different):
    make_run(tmp_path / "0", "attention=full")
    assert asked(tmp_path / "1", *different) is None


def test_a_knob_that_is_read_makes_another_run(tmp_path):
    make_run(tmp_path / "0", "attention=i_clustered", "clusters=100")
    assert asked(tmp_path / "1", "attention=i_clustered", "clusters=200") is None
    assert asked(tmp_path / "1", "attention=i_clustered", "clusters=100", "rounds=9") == tmp_path / "0"


def test_a_run_without_scores_and_a_run_itself_are_not_taken_for_finished(tmp_path):
    make_run(tmp_path / "0", finished=False)
    make_run(tmp_path / "1")
    assert asked(tmp_path / "1") is None
    assert asked(tmp_path / "2") == tmp_path / "1"


def rows_in(folder):
    with open(folder / "sweep.csv", encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def swept(tmp_path):
    for name, error_rate in (("0", 0.3), ("1", 0.1), ("3", 0.05)):
        make_run(tmp_path / name, error_rate=error_rate)
    jobs = [
        job(tmp_path / "0", "attention=clustered", "clusters=10", "seed=1", dev=0.4),
        job(tmp_path / "1", "attention=i_clustered", "clusters=20", "seed=1", dev=0.125),
        job(tmp_path / "2", "attention=lsh", "clusters=10", "seed=1", said="no room | left"),
        job(tmp_path / "3", "attention=full", "clusters=10", "seed=1", dev=0.2),
        job(tmp_path / "3", "attention=full", "clusters=20", "seed=1", dev=0.2, said="the same as 3"),
    ]
    return tmp_path, write_sweep(tmp_path, jobs)


def job(run, *overrides, dev=None, said=""):
    return {"overrides": list(overrides), "run": str(run), "dev": dev, "said": said}


def test_the_table_is_sorted_by_the_error_rate_on_dev_and_those_that_failed_are_last_with_their_reason(swept):
    folder, rows = swept
    assert [row["dev error rate"] for row in rows] == ["12.50%", "20.00%", "20.00%", "40.00%", ""]
    # on test another one is best
    assert [row["test error rate"] for row in rows] == ["10.00%", "5.00%", "5.00%", "30.00%", ""]
    assert [row["attention"] for row in rows] == ["i_clustered", "full", "full", "clustered", "lsh"]
    assert rows[0]["test interval"] == "5.00% to 20.00%" and rows[0]["seconds"] == "1.23"
    assert rows[2]["said"] == "the same as 3" and rows[2]["folder"] == rows[1]["folder"]
    assert rows[-1]["said"] == "no room | left"
    assert rows_in(folder) == rows


def test_a_knob_that_is_not_read_is_a_dash_and_what_all_were_given_is_left_out(swept):
    _, rows = swept
    assert [row["clusters"] for row in rows] == ["20", "–", "–", "10", "–"]
    assert "seed" not in rows[0]


def test_the_markdown_holds_the_same_table(swept):
    folder, rows = swept
    head, rule, *lines = (folder / "sweep.md").read_text().splitlines()
    assert (
        head == "| attention | clusters | dev error rate | test error rate | test interval | seconds | folder | said |"
    )
    assert rule.count("---") == 8 and len(lines) == len(rows)
    assert lines[0].startswith("| i_clustered | 20 | 12.50% | 10.00% |") and lines[-1].endswith("| no room \\| left |")


def test_rates_beside_the_main_one_have_a_column_where_there_are_any(tmp_path, capsys):
    make_run(tmp_path / "0")
    (file,) = (tmp_path / "0").glob("evaluation/test/*/scores.json")
    block = {"character_error_rate": {"error_rate": 0.0321, "spaces_counted": True}}
    file.write_text(json.dumps({**json.loads(file.read_text()), "metric": "wer", **block}))
    rows = write_sweep(tmp_path, [job(tmp_path / "0", "seed=1", dev=0.1)])
    assert rows[0]["other rates"] == "CER 3.21%" and "| other rates |" in (tmp_path / "sweep.md").read_text()
    show_sweep(tmp_path, rows)
    assert "CER 3.21%" in capsys.readouterr().out


def test_a_single_training_keeps_its_settings_in_the_table(tmp_path):
    make_run(tmp_path / "0")
    overrides = ["seed=1", 'corpus.path="lang=en"', "~optimizer.weight_decay"]
    (row,) = write_sweep(tmp_path, [job(tmp_path / "0", *overrides, dev=0.2)])
    assert row["seed"] == "1" and row["corpus.path"] == "lang=en" and row["~optimizer.weight_decay"] == ""
    assert row["dev error rate"] == "20.00%" and row["test error rate"] == "10.00%"


def test_where_a_run_was_scored_with_other_attentions_too_the_table_holds_its_own_test_score(tmp_path):
    make_run(tmp_path / "0", "attention=full", error_rate=0.2)
    score(tmp_path / "0", "clustered-100", 0.9, time=2000.0)
    (row,) = write_sweep(tmp_path, [job(tmp_path / "0", "attention=full", dev=0.2)])
    assert row["test error rate"] == "20.00%"


def test_the_table_is_shown_with_one_line_for_each_training(swept, capsys):
    folder, rows = swept
    show_sweep(folder, rows)
    shown = capsys.readouterr().out
    assert "5 trainings, best on dev first" in shown and str(folder / "sweep.md") in shown
    assert shown.index("i_clustered") < shown.index("lsh")


def same(*typed):
    return same_trainings(check_overrides("train", list(typed)))


def test_jobs_that_are_the_same_training_are_announced_once_for_each_attention():
    (said,) = same("-m", "attention=full,i_clustered,lsh", "clusters=100,200,300", "seed=1,2")[:1]
    assert said.startswith(
        "attention=full does not read clusters: jobs that differ in nothing else are the same training"
    )
    knobs = ["clusters=100,200", "rounds=1,4"]
    assert [one.partition(":")[0] for one in same("-m", "attention=uniform,i_clustered,lsh", *knobs)] == [
        "attention=uniform does not read clusters and rounds",
        "attention=i_clustered does not read rounds",
        "attention=lsh does not read clusters",
    ]
    assert same("-m", "attention=i_clustered,full", "clusters=100") == same("-m", "seed=1,2") == same("seed=1") == []


def test_what_became_of_each_job_is_found_by_the_process_that_started_them(tmp_path):
    for number in (10, 2):
        keep_job(tmp_path, number, {"run": "unknown yet", "failed": True})
        keep_job(tmp_path, number, {"run": str(number), "failed": False})
    assert [job["run"] for job in take_jobs(tmp_path)] == ["2", "10"]
    assert list(tmp_path.iterdir()) == [] and take_jobs(tmp_path) == []


def test_a_training_is_chosen_by_its_best_error_rate_on_dev(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,train/loss,dev/error_rate\n1,2.0,\n2,,0.5\n3,,0.25\n4,,0.75\n")
    assert best_on_dev(tmp_path) == 0.25
    (tmp_path / "metrics.csv").write_text("step,train/loss,dev/error_rate\n1,2.0,\n")
    assert best_on_dev(tmp_path) is None


# in place of a training: its error rate is lowest at a learning rate of 0.005, and that of seed 13 fails
PROGRAM = """
import json
from pathlib import Path

from omegaconf import OmegaConf

from asr.cli.command import command
from asr.errors import UserError


@command("train")
def train(config):
    from hydra.core.hydra_config import HydraConfig

    if config.seed == 13:
        raise UserError("seed=13 brings bad luck.")
    folder = Path(HydraConfig.get().runtime.output_dir)
    rate = abs(config.optimizer.lr - 0.005)
    test = folder / "evaluation/test/full"
    test.mkdir(parents=True)
    scores = {"error_rate": 1 - rate, "interval": [0, 1], "forward_seconds": 1, "attention": "full", "trained_with": "full"}
    (test / "scores.json").write_text(json.dumps(scores))
    (folder / "metrics.csv").write_text(f"step,dev/error_rate\\n1,{rate}\\n")
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    return rate


train()
"""


def sweep(folder, *arguments, mode="-m"):
    (folder / "program.py").write_text(PROGRAM)
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run(
        [sys.executable, "program.py", mode, "hydra.sweep.dir=sweep", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended


def needs(plugin):
    there = importlib.util.find_spec("hydra_plugins") and importlib.util.find_spec(f"hydra_plugins.hydra_{plugin}")
    return pytest.mark.skipif(not there, reason=f"hydra_{plugin} is not installed")


LAUNCHERS = [
    "basic",
    pytest.param("joblib", marks=needs("joblib_launcher")),
    pytest.param("submitit_local", marks=needs("submitit_launcher")),
]


@pytest.mark.run
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_table_holds_every_job_wherever_it_ran_and_one_that_failed_is_not_lost(launcher, tmp_path):
    ended = sweep(tmp_path, f"hydra/launcher={launcher}", "seed=1,13", "optimizer.lr=0.001")
    assert ended.returncode == 1, ended.stderr
    first, second = rows_in(tmp_path / "sweep")
    assert (first["seed"], first["folder"], first["said"]) == ("1", "sweep/0", "")
    assert (first["dev error rate"], first["test error rate"]) == ("0.40%", "99.60%")
    assert (second["seed"], second["dev error rate"], second["said"]) == ("13", "", "seed=13 brings bad luck.")
    assert not (tmp_path / "sweep/1").exists() and not (tmp_path / "sweep/.jobs").exists()


@pytest.mark.run
def test_an_experiment_of_ones_own_may_be_a_sweep_and_the_same_training_runs_once(tmp_path):
    (tmp_path / "own/experiment").mkdir(parents=True)
    text = "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params: {clusters: '100,200', optimizer.lr: '0.002'}\n"
    (tmp_path / "own/experiment/mine.yaml").write_text(text)
    ended = sweep(tmp_path, "attention=full,clustered", "experiment=mine", mode="--config-dir=own")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("does not read clusters") == 1
    rows = rows_in(tmp_path / "sweep")
    assert [row["attention"] for row in rows] == ["full", "clustered", "full", "clustered"]
    assert [row["said"] for row in rows] == ["", "", "the same training as 0", ""] and rows[2]["folder"] == rows[0][
        "folder"
    ]
    assert {row["dev error rate"] for row in rows} == {"0.30%"}


@pytest.mark.run
@needs("optuna_sweeper")
def test_optuna_minimizes_what_a_training_returns(tmp_path):
    arguments = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=6", "hydra.sweeper.sampler.seed=1"]
    ended = sweep(tmp_path, *arguments, "optimizer.lr=interval(1e-4,1e-2)", "seed=choice(1,13)")
    assert ended.returncode == 1, ended.stderr
    rows = rows_in(tmp_path / "sweep")
    assert len(rows) == 6 and {"1", "13"} == {row["seed"] for row in rows}
    best = OmegaConf.load(tmp_path / "sweep/optimization_results.yaml")
    tried = [abs(float(row["optimizer.lr"]) - 0.005) for row in rows if row["dev error rate"]]
    assert best.best_value == pytest.approx(min(tried)) and best.best_params.seed == 1


@pytest.mark.run
@needs("optuna_sweeper")
def test_where_every_training_of_optuna_failed_the_table_says_why(tmp_path):
    arguments = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2"]
    ended = sweep(tmp_path, *arguments, "optimizer.lr=interval(1e-4,1e-2)", "seed=13")
    assert ended.returncode == 1, ended.stderr
    assert {row["said"] for row in rows_in(tmp_path / "sweep")} == {"seed=13 brings bad luck."}

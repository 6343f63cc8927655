"""Several processes train and score like one, and none waits for one that is gone: real processes over gloo."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asr.config.schema import schema_of
from asr.evaluation.evaluate import Request, evaluate
from asr.runtime.processes import World, current_world, free_port
from scripts.soak_resume import SMALL, logged, start, wait_for_a_validation
from tests.support import programs

pytestmark = pytest.mark.run

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = [*SMALL, "max_epochs=4", "trainer.validations=2", "trainer.log_every_n_steps=1", "data.workers=0"]


def finished(folder, *settings):
    ended = programs.run("train.py", *settings, cwd=folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with a training by two processes, and one on the same batches by a single process."""
    folder = tmp_path_factory.mktemp("work")
    # with every term that a loss can have
    settings = [*SETTINGS, "encoder.layers=2", "loss.consistency=0.2", "loss.intermediate=[1]"]
    finished(folder, *settings, "run=alone", "trainer.accumulate_grad_batches=2")
    finished(folder, *settings, "run=together", "trainer.devices=2")
    return folder


def test_two_processes_train_like_one_that_accumulates_two_batches(place):
    alone, together = logged(place / "alone"), logged(place / "together")
    assert len(alone) == len(together) > 4
    for one, two in zip(alone, together):
        assert one.keys() == two.keys() and one["step"] == two["step"]
        for name in one:
            if one[name]:
                assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-3), (one["step"], name)


def test_the_error_rate_does_not_depend_on_batches_or_processes(place, monkeypatch):
    monkeypatch.chdir(place)
    for batch_utterances in (1, 7, 32):
        evaluate(Request("alone", batch_utterances=batch_utterances, output=f"scores-{batch_utterances}", report=False))
    settings = ["report=false", "devices=2", "batch_utterances=7", "output=scores-7-together"]
    ended = programs.run("evaluate.py", "checkpoint=alone", *settings, cwd=place)
    assert ended.returncode == 0, ended.stderr
    outputs = sorted(place.glob("scores-*"))
    assert len(outputs) == 4
    results = set()
    for output in outputs:
        scores = json.loads((output / "scores.json").read_text())
        counts = [scores[name] for name in ("error_rate", "substitutions", "deletions", "insertions", "utterances")]
        results.add((*counts, *scores["interval"], (output / "hyp.trn").read_text()))
    assert len(results) == 1
    result = results.pop()
    assert result[4] == len(result[-1].splitlines()), "every hypothesis is there once"


def test_a_process_that_is_killed_ends_the_job_and_is_named(place):
    process = start(place, *SETTINGS, "run=killed", "trainer.devices=2", "max_epochs=3000", "trainer.validations=3000")
    wait_for_a_validation(process)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    environments = {int(child): Path(f"/proc/{child}/environ").read_bytes() for child in children}
    (victim,) = (child for child, environment in environments.items() if b"\0RANK=1\0" in environment)
    os.kill(victim, signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL
    assert "Process 1 of 2 was ended by SIGKILL" in said
    assert not any(Path(f"/proc/{child}").exists() for child in environments)


def test_a_signal_to_the_job_stops_all_processes_at_the_same_step(place):
    # so small a model is silent for some validations; how many come before the signal depends on the machine
    settings = [*SETTINGS, "max_epochs=3000", "trainer.validations=3000", "watch.silent_validations=3000"]
    process = start(place, *settings, "run=stopped", "trainer.devices=2")
    wait_for_a_validation(process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM
    stopped = re.search(r"stopped by SIGTERM at step (\d+); go on with: python train.py resume=stopped", said)
    steps = int(stopped[1])
    # a few steps beyond it, wherever it was: an epoch has two
    assert f"resuming after step {steps}," in finished(place, "resume=stopped", f"max_epochs={steps // 2 + 3}")
    taken = [int(row["step"]) for row in logged(place / "stopped") if row["train/loss"]]
    assert taken == list(range(1, taken[-1] + 1)) and taken[-1] > steps


MEMBER = """
import os, signal, sys, time
import asr.runtime.processes as processes
from asr.errors import UserError
processes.PATIENCE_SECONDS, processes.BEAT_SECONDS = 3.0, 0.2
with processes.joined("cpu", 2) as group:
    assert group.broadcast(group.rank) == 0
    assert group.rank_zero_first(lambda: group.rank) == group.rank
    {what}
    if group.rank == 0:
        import torch
        torch.distributed.barrier()
"""


def members(what):
    """Two processes as SLURM or torchrun would start them; (exit code, standard error) of both."""
    port = str(free_port())
    started = []
    for rank in range(2):
        environment = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", MEMBER.format(what=what)],
                env={**os.environ, **environment, "MASTER_PORT": port, "PYTHONPATH": str(ROOT)},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    ended = [process.communicate(timeout=90)[1] for process in started]
    return [(process.returncode, said) for process, said in zip(started, ended)]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("if group.rank: raise UserError('the disk is full')", "process 1 stopped: the disk is full"),
        ("if group.rank: 1 / 0", "process 1 stopped: ZeroDivisionError: division by zero"),
        ("if group.rank: os.kill(os.getpid(), signal.SIGKILL)", "process 1 has been silent for 3 s"),
    ],
)
def test_a_process_that_dies_ends_the_other_with_its_reason_whoever_started_them(what, reason):
    (code, said), _ = members(what)
    assert code != 0 and reason in said


def test_processes_that_succeed_end_silently():
    ended = members("if group.rank: import torch; torch.distributed.barrier()")
    assert [code for code, _ in ended] == [0, 0] and not any("ends because" in said for _, said in ended)


def test_processes_of_srun_are_told_apart_from_a_batch_script(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert current_world() == World(0, 1, 0)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_LOCALID", "1")
    assert current_world() == World(3, 4, 1)


def test_an_unexpected_number_of_processes_is_refused(monkeypatch):
    from asr.errors import UserError
    from asr.runtime.processes import joined

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="3 processes were started, but trainer.devices times trainer.num_nodes is 2"):
        with joined("cpu", 2):
            pass


@pytest.fixture(scope="module")
def whole(place):
    """What two processes logged with `trainer.strategy=auto` and without a moving average; and the settings."""
    settings = [*(item for item in SETTINGS if not item.startswith("moving_average")), "trainer.devices=2"]
    finished(place, *settings, "run=whole")
    return logged(place / "whole"), settings


@pytest.mark.parametrize(
    "strategy", [name for name in schema_of("train").limit("trainer.strategy").choices if name != "auto"]
)
def test_every_strategy_takes_the_same_steps_and_resumes(place, whole, strategy):
    wanted, settings = whole
    finished(place, *settings, f"run={strategy}", f"trainer.strategy={strategy}")
    # as if the end had not been reached
    checkpoints = place / strategy / "checkpoints"
    (checkpoints / "previous.ckpt").replace(checkpoints / "last.ckpt")
    assert "resuming after step" in finished(place, f"resume={strategy}")
    found = logged(place / strategy)
    assert len(wanted) == len(found)
    for one, two in zip(wanted, found):
        assert {name: float(one[name]) for name in one if one[name]} == pytest.approx(
            {name: float(two[name]) for name in two if two[name]}, rel=1e-3
        )

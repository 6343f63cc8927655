"""A training that was stopped, however, resumes as if nothing had happened: real processes, really killed."""

import csv
import re
import shutil
import signal

import pytest
import torch
import yaml

from asr.model.checkpoint import read_tensors
from scripts.soak_resume import SMALL, differences, logged, soak, start, wait_for_a_validation
from tests.support import programs

pytestmark = pytest.mark.run

SETTINGS = [
    *SMALL,
    "data.workers=2",
    "trainer.accumulate_grad_batches=2",
    "average_checkpoints=2",
    "trainer.log_every_n_steps=1",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with an undisturbed training."""
    folder = tmp_path_factory.mktemp("work")
    ended = programs.run("train.py", *SETTINGS, "run=undisturbed", cwd=folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


def resume(folder, *arguments):
    ended = programs.run("train.py", *arguments, cwd=folder)
    said = ended.stdout + ended.stderr
    assert "Traceback" not in said
    return ended.returncode, said


def test_a_training_killed_three_times_at_random_steps_ends_with_the_same_losses_and_weights(place):
    assert soak(place, kills=3, seed=5, number=signal.SIGKILL, settings=SETTINGS) == 3


def test_sigterm_writes_a_checkpoint_tells_how_to_resume_and_exits(place):
    process = start(place, *SETTINGS, "run=terminated", "checkpoint_steps=null")
    wait_for_a_validation(process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert re.search(r"stopped by SIGTERM at step \d+; go on with: python train.py resume=terminated", said)
    assert resume(place, "resume=terminated")[0] == 0
    assert differences(place / "undisturbed", place / "terminated") == []


def test_a_last_checkpoint_damaged_by_the_disk_is_named_and_the_previous_one_used(place):
    shutil.copytree(place / "undisturbed", place / "spoilt")
    last = place / "spoilt/checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    code, said = resume(place, "resume=spoilt")
    assert code == 0 and "Resuming from the checkpoint before it" in said
    assert differences(place / "undisturbed", place / "spoilt") == []


def test_a_run_that_has_ended_continues_if_it_is_given_more_epochs(place):
    shutil.copytree(place / "undisturbed", place / "longer")
    code, said = resume(place, "resume=longer", "max_epochs=13")
    assert code == 0 and "epoch 13/13" in said
    before, after = logged(place / "undisturbed"), logged(place / "longer")
    assert after[: len(before)] == before and len(after) > len(before)


def test_a_run_that_was_moved_and_extended_resumes_from_anywhere_with_its_latest_settings(place, tmp_path):
    shutil.copytree(place / "undisturbed", place / "moved")
    process = start(place, "resume=moved", "max_epochs=400")
    wait_for_a_validation(process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "go on with: python train.py resume=moved" in said
    process = start(tmp_path, f"resume={place / 'moved'}")
    wait_for_a_validation(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, "it was told to train 400 epochs"
    assert list(tmp_path.iterdir()) == [], "the corpus is found where the run was started"


def test_a_run_from_before_there_were_heads_and_named_schedules_resumes_with_the_same_losses(place):
    shutil.copytree(place / "undisturbed", place / "older")
    config = yaml.safe_load((place / "older/config.yaml").read_text())
    del config["head"], config["schedule"]["name"], config["schedule"]["smallest"]
    config["schedule"]["_target_"] = "asr.schedules.Plateau"
    (place / "older/config.yaml").write_text(yaml.safe_dump(config))
    content = read_tensors(place / "older/checkpoints/previous.ckpt")
    heads = [name for name in content["state_dict"] if name.startswith("model.head.")]
    assert heads == ["model.head.weight", "model.head.bias"], "the names of the linear layer that was there before"
    del content["asr"]["description"]["head"], content["asr"]["position"]["best_beside"]
    torch.save(content, place / "older/checkpoints/last.ckpt")
    assert "resuming after step" in resume(place, "resume=older")[1]
    assert differences(place / "undisturbed", place / "older") == []


@pytest.mark.parametrize("spoil", ["setting", "fingerprint", "code", "checkpoints", "processes"])
def test_what_cannot_be_resumed_is_refused_with_a_sentence(place, spoil):
    run = place / f"refused-{spoil}"
    shutil.copytree(place / "undisturbed", run)
    (run / "metrics.csv").write_text("untouched")
    more, sentence = [], ""
    if spoil == "setting":
        more, sentence = ["encoder.layers=2"], "encoder.layers=2 cannot be changed in a run that was already started"
    elif spoil == "fingerprint":
        text = (run / "environment.json").read_text()
        (run / "environment.json").write_text(re.sub(r'"data_fingerprint": "\w+"', '"data_fingerprint": "other"', text))
        sentence = "has changed since the run"
    elif spoil == "code":
        text = (run / "config.yaml").read_text().replace("torch.optim.AdamW", "os.system")
        (run / "config.yaml").write_text(text)
        sentence = "_target_ names 'os.system'"
    elif spoil == "checkpoints":
        for file in (run / "checkpoints").iterdir():
            file.write_bytes(b"")
        sentence = "last.ckpt is not a checkpoint"
    else:
        text = (run / "config.yaml").read_text().replace("devices: 1", "devices: 2")
        (run / "config.yaml").write_text(text)
        sentence = "was written by 1 processes, and 2 are resuming it"
    code, said = resume(place, f"resume={run.name}", *more)
    assert code == 2 and sentence in said
    assert (run / "metrics.csv").read_text() == "untouched"


def test_a_run_that_is_still_training_is_left_alone(place):
    from asr.training.run_folder import alone_in

    before = (place / "undisturbed/metrics.csv").read_bytes()
    with alone_in(place / "undisturbed"):
        code, said = resume(place, "resume=undisturbed", "max_epochs=14")
    assert code == 2 and "Another process is training in undisturbed" in said
    assert (place / "undisturbed/metrics.csv").read_bytes() == before


def test_a_position_among_ten_million_utterances_is_found_without_planning_the_epochs_before_it():
    from asr.data.batches import BatchStream

    planned = []

    def plan(epoch):
        planned.append(epoch)
        return [[epoch, place] for place in range(1000)]

    assert next(iter(BatchStream(plan, 1000, 10**6, start=123_456_789))) == [123_456, 789]
    assert planned == [123_456]


def test_the_soak_test_sees_a_difference(place):
    shutil.copytree(place / "undisturbed", place / "changed")
    metrics = place / "changed/metrics.csv"
    rows = list(csv.reader(metrics.read_text().splitlines()))
    rows[3][3] = str(float(rows[3][3]) + 1e-7)
    with open(metrics, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert differences(place / "undisturbed", place / "changed") != []

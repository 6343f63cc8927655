"""The command line: every mistake is a sentence, a non-zero exit, and leaves nothing behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import programs

pytestmark = pytest.mark.run

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments, folder):
    return subprocess.run(
        [sys.executable, str(ROOT / arguments[0]), *arguments[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


MISTAKES = {
    ("train.py", "attention=i_clusterd"): "There is no attention called 'i_clusterd': did you mean i_clustered",
    ("train.py", "corpus=spken"): "There is no corpus called 'spken': did you mean spoken",
    ("train.py", "units=phoneme"): "There is no units called 'phoneme': did you mean phonemes",
    ("train.py", "clustres=3"): "There is no setting called 'clustres': did you mean clusters",
    ("train.py", "encoder.layer=3"): "There is no setting called 'encoder.layer': did you mean encoder.layers",
    (
        "train.py",
        "attention=i_clustered",
        "clusters=0",
    ): "clusters takes a whole number of 1 or more, such as 100, not 0",
    (
        "train.py",
        "attention=i_clustered",
        "clusters=abc",
    ): "clusters takes a whole number of 1 or more, such as 100, not 'abc'",
    (
        "train.py",
        "attention=i_clustered",
        "clusters=1.5",
    ): "clusters takes a whole number of 1 or more, such as 100, not 1.5",
    ("train.py", "attention=clustered", "topk=3"): "attention=clustered does not read 'topk': it reads clusters, bits",
    ("train.py", "clusters=3"): "attention=full does not read 'clusters': it reads no knobs at all",
    (
        "train.py",
        "attention=lsh",
        "encoder.shared_qk=false",
    ): "attention=lsh needs queries and keys from one projection",
    ("train.py", "attention=full,clustered"): "several values need --multirun",
    ("train.py", "max_minutes=abc"): "max_minutes takes a number above 0, or null, not 'abc'",
    ("train.py", "max_minutes=0"): "max_minutes takes a number above 0, or null, not 0",
    ("train.py", "max_epochs=-1"): "max_epochs takes a whole number of 1 or more, or auto, not -1",
    ("train.py", "data.batch_frames=0"): "data.batch_frames takes a whole number of 1 or more",
    ("train.py", "trainer.matmul_precision=foo"): "trainer.matmul_precision is highest, high or medium, not 'foo'",
    ("train.py", "trainer.precision=foo"): "trainer.precision is 32-true, bf16-mixed",
    ("train.py", "optimizer.lr=-1"): "optimizer.lr takes a number of 0 or more, such as 0.0015, not -1",
    ("train.py", "optimizer.lrr=1"): "There is no setting called 'optimizer.lrr': did you mean optimizer.lr",
    ("train.py", "+optimizer.lrr=1"): "optimizer or trainer refuses its settings",
    ("train.py", "encoder.shared_qk=maybe"): "encoder.shared_qk is auto, true or false, not 'maybe'",
    ("train.py", "encoder.norm=Pre"): "encoder.norm is pre or post, not 'Pre'",
    ("train.py", "encoder.subsampling=7"): "encoder.subsampling is 1, 2, 3 or 4, not 7",
    ("train.py", "trainer.devices=0"): "trainer.devices takes a whole number of 1 or more, such as 1, not 0",
    ("train.py", "trainer.num_nodes=2"): "start the processes with torchrun or srun, on every machine",
    ("train.py", "resume=nowhere"): "resume=nowhere: there is no such folder",
    ("train.py", "resume=."): "this folder holds no run, as it has no config.yaml",
    ("train.py", "attention=null"): "There is no attention called 'null'",
    ("train.py", "~attention"): "~attention: this setting cannot be removed",
    ("train.py", "+x=1"): "There is no setting called 'x'",
    (
        "train.py",
        "corpus=folder",
        "corpus.path=x",
        "+corpus.pathh=1",
    ): "no setting called 'corpus.pathh': did you mean corpus.path",
    ("train.py", "++clusters=3"): "attention=full does not read 'clusters'",
    ("train.py", "attention=clustered", "clusters=${nope}"): "clusters=${nope}: ${…} leads nowhere: Interpolation key",
    ("train.py", "run=/proc/nowhere"): "run=/proc/nowhere: the folder cannot be made",
    ("train.py", "-m", "attention=clustered,full", "topk=10,20"): "does not read 'topk'",
    ("train.py", "corpus.hours=0"): "corpus.hours takes a number above 0 and of at most 10000, such as 4.0, not 0",
    ("train.py", "hello"): "'hello' is not of the form key=value",
    ("train.py", "corpus=folder"): "corpus.path=… is needed",
    ("train.py", "corpus=folder", "corpus.path=nowhere"): "nowhere",
    (
        "train.py",
        "corpus.path=~/speech",
    ): "no setting called 'corpus.path' for corpus=spoken: add corpus=common_voice or",
    ("train.py", "corpus=folder", "corpus.path=模型, it's [lang=en"): "模型, it's [lang=en (path=模型, it's [lang=en)",
    ("train.py", "run=a${b"): "the name of a run's folder cannot hold ${",
    ("train.py", "fo o=1"): "there is no setting called 'fo o'",
    ("train.py", "init_from=nowhere"): "There is no checkpoint at nowhere",
    ("evaluate.py",): "checkpoint=… is needed: a run's folder, a .ckpt file or a model folder",
    ("evaluate.py", "checkpoint=/etc/passwd"): "/etc/passwd is not a checkpoint",
    ("evaluate.py", "checkpoint="): "checkpoint is empty",
    ("evaluate.py", "checkpoint=nowhere", "bootstrap=0"): "bootstrap takes a whole number of 1 or more",
    ("evaluate.py", "checkpoint=nowhere", "device=gpu"): "device is auto, cpu or cuda, not 'gpu'",
    ("evaluate.py", "checkpoint=nowhere"): "There is no checkpoint at nowhere",
    ("evaluate.py", "checkpoint=nowhere", "attention=clusterd"): "There is no attention called 'clusterd'",
    ("transcribe.py", "checkpoint=nowhere"): "No audio file is named",
    ("transcribe.py", "checkpoint=nowhere", "a.wav"): "There is no checkpoint at nowhere",
    ("scripts/cross_evaluate.py",): "attentions=… is needed",
    ("scripts/cross_evaluate.py", "checkpoints=[a]", "attention=[clusterd-3]"): "clustered",
    ("scripts/prepare.py", "astersk"): "asterisk",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_a_mistake_is_answered_by_a_sentence_and_leaves_nothing_behind(arguments, tmp_path):
    ended = programs.run(*arguments, cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert MISTAKES[arguments] in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_help_lists_the_choices_of_each_group_and_the_knobs_in_words(tmp_path):
    ended = run("train.py", "--help", folder=tmp_path)
    assert ended.returncode == 0
    for words in ("attention=", "i_clustered", "oracle_top", "corpus=", "asterisk", "clusters=100", "max_minutes="):
        assert words in ended.stdout
    assert "Traceback" not in ended.stderr


def test_the_help_of_prepare_says_of_every_setting_what_it_is(tmp_path):
    ended = run("scripts/prepare.py", "--help", folder=tmp_path)
    assert ended.returncode == 0 and ended.stderr == ""
    lines = [line.split(maxsplit=1) for line in ended.stdout.splitlines() if line.startswith("      ") and "=" in line]
    settings = [line for line in lines if re.fullmatch(r"\w+=\S*", line[0])]
    assert len(settings) > 40 and all(len(line) == 2 for line in settings)
    only = run("scripts/prepare.py", "wsj", "--help", folder=tmp_path).stdout
    assert "wsj1=null" in only and "swb1" not in only


HEAVY = ["torch", "lightning", "lhotse", "matplotlib", "triton", "transformers"]
LIGHT = {
    # help and mistakes are answered before anything that takes seconds is imported
    "train.py --help": HEAVY,
    "train.py clustres=3": HEAVY,
    "-c import\tasr.cli.command,asr.data.corpora,asr.text.units": HEAVY,
    "-c import\tasr": [*HEAVY, "hydra", "omegaconf", "numpy", "yaml", "rich"],
}


@pytest.mark.parametrize("command", LIGHT)
def test_nothing_heavy_is_imported_before_it_is_needed(command, tmp_path):
    program, *arguments = [part.replace("\t", " ") for part in command.split(" ")]
    program = str(ROOT / program) if program.endswith(".py") else program
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", program, *arguments],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    imported = set(re.findall(r"^import time:.*\| *([\w.]+)$", ended.stderr, re.M))
    assert "asr" in imported and not imported & set(LIGHT[command])

"""CONTRIBUTING.md alone is enough: its attention, encoder and head, put into a copy of the tree, train and keep the contracts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tiny_corpus import tiny_corpus

pytestmark = pytest.mark.run

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"^`((?:asr|conf)/\S+)`\n\n```(?:python|yaml)\n(.*?)^```$", re.M | re.S)
NEW = ["attention=tempered", "encoder=attentive", "head=two_layers", "moving_average=0.5"]
# one process, as importing costs more than all the rest: train.py as typed, evaluate.py, the model folder, the contracts
PROGRAM = """
import runpy, sys
import pytest, torch

if __name__ == "__main__":
    run, *typed = sys.argv[1:]
    for program in (["train.py", *typed, f"run={run}"], ["evaluate.py", f"checkpoint={run}", "split=dev", "report=false"]):
        sys.argv = program
        runpy.run_path(program[0], run_name="__main__")

    from asr.model.checkpoint import open_checkpoint
    from asr.model.network import Model

    trained, best = open_checkpoint(f"{run}/model").model, open_checkpoint(f"{run}/checkpoints/best.ckpt").model
    assert [trained.description[part]["name"] for part in ("attention", "encoder", "head")] == [
        "tempered", "attentive", "two_layers"
    ]
    weights, saved = trained.state_dict(), best.state_dict()
    assert all(torch.equal(weights[name], saved[name]) for name in weights)
    sharpness = [weights[name] for name in sorted(trained.attention_weights())]
    assert len(sharpness) == 2 and all((one != 1).all() for one in sharpness), "the attention's weights were not trained"

    chosen = "tempered or attentive or two_layers"
    contracts = ["tests/model/attention/test_contract.py", "tests/model/test_contract.py"]
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", chosen, *contracts]))
"""


def test_the_parts_of_contributing_train_are_scored_come_back_and_keep_the_contracts(tmp_path):
    tree = tmp_path / "tree"
    for name in ("asr", "kernels", "conf", "scripts", "tests"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "evaluate.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tree)
    examples = EXAMPLE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf8"))
    assert len(examples) == 6
    for name, content in examples:
        assert not (tree / name).exists()
        (tree / name).write_text(content, encoding="utf8")
    tiny = [one for one in tiny_corpus(tmp_path / "corpus") if not one.startswith("encoder.")]
    (tree / "program.py").write_text(PROGRAM)
    typed = [*tiny, *NEW, "units=characters", "logger=none", f"cache={tmp_path / 'cache'}", "optimizer.lr=0.01"]
    ended = subprocess.run(
        [sys.executable, "program.py", str(tmp_path / "run"), *typed],
        cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "attention tempered over" in ended.stdout
    passed = re.search(r"^(\d+) passed", ended.stdout, re.M)
    assert passed and int(passed[1]) >= 40, "the contracts no longer find new parts by themselves:\n" + ended.stdout

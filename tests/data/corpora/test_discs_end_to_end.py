"""Look-alikes of the licensed discs are prepared, checked, trained on with the paper's recipes and scored, as typed."""

import json

import pytest

from asr.scoring.nist.sctk import find_sctk
from tests.support import programs
from tests.support.switchboard_tree import write_tree
from tests.support.wsj_tree import write_wsj

pytestmark = pytest.mark.run

# the recipe as it is, but for the size of the model and of the training
TINY = [
    "encoder.layers=1", "encoder.heads=2", "encoder.head_dim=16", "encoder.feed_forward=64",
    "max_epochs=2", "data.batch_utterances=4", "clusters=10", "logger=none",
]  # fmt: skip


@pytest.fixture
def run(tmp_path):
    def run(*arguments, expect=0):
        ended = programs.run(*arguments, cwd=tmp_path)
        assert ended.returncode == expect, ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stdout + ended.stderr

    return run


def scores_in(folder):
    return json.loads((folder / "scores.json").read_text())


def test_wsj_from_the_discs_to_a_scored_model(tmp_path, run):
    tree = write_wsj(tmp_path / "discs")
    discs = [f"{key}={path}" for key, path in tree.settings().items()]
    said = run("scripts/prepare.py", "wsj", *discs, expect=2)
    assert "si284" in said and "37,416" in said and not list((tmp_path / ".cache").glob("*/*"))
    said = run("scripts/prepare.py", "wsj", *discs, "--allow-missing")
    assert "16000 Hz" in said and "eval93" in said and "Lexicon: " in said
    assert "Not complete: si284: " in said and "of 37,416 utterances" in said
    # from here on the discs are not needed
    (tmp_path / "discs").rename(tmp_path / "away")
    assert "is good" in run("scripts/check_data.py", "corpus=wsj")
    said = run("train.py", "experiment=wsj/i_clustered_100", *TINY, "encoder.subsampling=3", "topk=8", "run=run")
    assert "42 phonemes" in said and "attention i_clustered-10" in said and "memory:" in said
    scores = scores_in(tmp_path / "run/evaluation/test/i_clustered-10")
    assert (scores["corpus"], scores["metric"], scores["normalizer"]) == ("wsj", "per", "wsj")
    assert sum(scores["corpus_normalization"]["rules"].values()) > 0
    run("evaluate.py", "checkpoint=run", "split=eval93", "attention=clustered", "clusters=7", "report=false")
    assert scores_in(tmp_path / "run/evaluation/eval93/clustered-7")["trained_with"] == "i_clustered-10"
    said = run("train.py", "experiment=wsj/lfmmi", *TINY, "attention=clustered", "run=lfmmi", "report=false")
    assert "phone language model: " in said and "dev PER" in said
    assert scores_in(tmp_path / "lfmmi/evaluation/test/clustered-10+phones")["decoder"]["name"] == "phones"


def test_switchboard_from_the_discs_to_eval2000(tmp_path, run):
    tree = write_tree(tmp_path / "discs")
    discs = [f"{key}={path}" for key, path in tree.settings.items()]
    said = run("scripts/prepare.py", "switchboard", *discs, expect=2)
    assert "conversations" in said and not list((tmp_path / ".cache").glob("*/prepared"))
    said = run("scripts/prepare.py", "switchboard", *discs, "--allow-missing")
    assert "8000 Hz" in said and "eval2000_callhm" in said and "Lexicon: " in said
    assert "Not complete: Switchboard: " in said
    (tmp_path / "discs").rename(tmp_path / "away")
    assert "is good" in run("scripts/check_data.py", "corpus=switchboard")
    run("scripts/make_lm.py", "corpus=switchboard", "order=2", "output=lm.arpa")
    said = run("train.py", "experiment=switchboard/clustered_100", *TINY, "run=run", "report=false")
    assert "phone language model: " in said and "dev WER" in said
    said = run("evaluate.py", "checkpoint=run", "split=eval2000", "decoder=wfst", "decoder.lm=lm.arpa")
    assert "Switchboard: " in said and "CallHome: " in said
    scores = scores_in(tmp_path / "run/evaluation/eval2000/clustered-10+wfst")
    assert (scores["metric"], scores["normalizer"]) == ("wer", "switchboard, intended")
    subsets = scores["subsets"]
    assert scores["reference_length"] == sum(subsets[name]["reference_length"] for name in ("Switchboard", "CallHome"))
    assert scores["without_hesitations"]["utterances"] == scores["utterances"]
    assert (tmp_path / "run/evaluation/eval2000/clustered-10+wfst/hyp.ctm").is_file()
    if find_sctk():
        assert scores["sclite"]["agrees"] is True and "counts the same errors" in said

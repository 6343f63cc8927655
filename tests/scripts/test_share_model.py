"""Models are shared with a card that states facts, and what comes back from a hub is the model that was pushed."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from lhotse import SupervisionSegment

from asr.config.settings import compose, plain
from asr.errors import UserError
from asr.evaluation.card.card import front_matter, update_card
from asr.evaluation.card.facts import without_paths
from asr.evaluation.evaluate import Request, evaluate
from asr.model.checkpoint import open_checkpoint
from asr.model.folder import save_model
from asr.model.network import Model
from asr.text.units import units
from asr.training.job import describe
from tests.support.hub_stand_in import TOKEN, Hub
from tests.support.tiny_corpus import TEXTS, tiny_corpus

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import share_model  # noqa: E402

REPO = "me/tiny"
PRIVATE = "/home/somebody/secret"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model folder with an evaluation, of an untrained model of a corpus of noise."""
    tmp_path = tmp_path_factory.mktemp("made")
    settings = [*tiny_corpus(tmp_path / "corpus"), "units=characters"]
    config = compose("train", settings)
    description = describe(config)
    built = units.get("characters").build([SupervisionSegment("a", "a", 0.0, 1.0, text=text) for text in TEXTS])
    description["features"]["sample_rate"], description["units"] = 16000, len(built.symbols)
    torch.manual_seed(0)
    trained_on = {
        "corpus": plain(config.corpus),
        "command": f"python train.py corpus=cuts cache={PRIVATE} init_from=runs/a",
        "init_from": f"{PRIVATE}/run",
        "language": "en-us",
    }
    save_model(tmp_path / "model", Model(description), built, trained_on)
    score(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "model"))


def score(model, **more):
    return evaluate(Request(str(model), bootstrap=20, report=False, sclite=False, **more))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # read from HF_ENDPOINT when the library is imported
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    # Xet is a protocol of its own, with a server that is not part of the hub
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.chdir(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


def refused(*arguments) -> str:
    with pytest.raises(UserError) as error:
        share_model.run([str(argument) for argument in arguments])
    return str(error.value)


def card_of(folder) -> str:
    return (folder / "README.md").read_text(encoding="utf8")


def test_the_card_states_data_scores_attention_and_licence(folder):
    card = card_of(folder)
    for heading in ("Data", "Attention and encoder", "Scores", "Use", "Licence"):
        assert f"\n## {heading}\n" in card
    scores = json.loads((folder / "evaluation/test/full/scores.json").read_text())
    front = front_matter(card)
    assert (front["library_name"], front["language"], "license" in front) == ("asr", ["en"], False)
    (result,) = front["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == pytest.approx(100 * scores["error_rate"], abs=0.01)
    assert (result["dataset"]["type"], result["dataset"]["split"]) == ("cuts", "test")
    assert PRIVATE not in card and "/pytest-of-" not in card
    assert "None is stated" in card and "synthetic" not in card


def test_the_card_says_that_synthetic_speech_is_synthetic(folder):
    description = json.loads((folder / "model.json").read_text())
    description["trained_on"]["corpus"] = {"name": "spoken", "hours": 4.0}
    (folder / "model.json").write_text(json.dumps(description))
    assert update_card(folder, folder / "evaluation") == []
    assert (
        "**The speech is synthetic**" in card_of(folder) and "synthetic-speech" in front_matter(card_of(folder))["tags"]
    )


def test_further_scores_join_the_card_and_what_its_owner_wrote_stays(folder):
    own = card_of(folder).replace("# asr:end\n", "# asr:end\nlicense: mit\n") + "\nMy own words.\n"
    (folder / "README.md").write_text(own)
    score(folder, attention={"name": "uniform"})
    card = card_of(folder)
    assert card.endswith("My own words.\n") and front_matter(card)["license"] == "mit" and "`mit`" in card
    assert len(front_matter(card)["model-index"][0]["results"]) == 2
    assert "split=test attention=uniform" in card


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda card: card.replace("## Data", "## My data"), "was edited between"),
        (lambda card: "---\na: [\n---\n" + card, "is not YAML"),
        (lambda card: "---\nlicense: mit\n---\nA card of my own.\n", "is your own"),
    ],
)
def test_a_card_that_was_edited_is_kept_and_said(folder, edit, said, capsys):
    (folder / "README.md").write_text(edit(card_of(folder)))
    before = card_of(folder)
    score(folder, attention={"name": "uniform"})
    assert said in capsys.readouterr().err
    assert before.partition("<!-- asr:begin")[2] == card_of(folder).partition("<!-- asr:begin")[2]


@pytest.mark.parametrize(
    ("data", "clean"),
    [
        ({"path": "/data/x", "table": "transcripts.tsv"}, {"path": "PATH", "table": "transcripts.tsv"}),
        ({"train": ["~/a", "runs/b"]}, {"train": ["PATH", "runs/b"]}),
        (
            {"command": "python /home/me/train.py cache='/a b' lr=1e-3"},
            {"command": "python train.py cache=PATH lr=1e-3"},
        ),
        ({"command": "python train.py corpus.train=[x,/y]"}, {"command": "python train.py corpus.train=PATH"}),
    ],
)
def test_paths_of_this_machine_stay_at_home(data, clean):
    assert without_paths(data) == clean


def test_what_is_pulled_is_what_was_pushed(folder, hub, tmp_path, capsys):
    share_model.run(["push", str(folder), REPO, "private=true", "license=apache-2.0"])
    pushed = hub.repos[f"models/{REPO}"]
    assert f"models/{REPO}" in hub.private
    assert set(pushed) == {
        ".gitattributes", "README.md", "model.json", "model.safetensors", "units.json", "evaluation/test/full/scores.json",
    }  # fmt: skip
    everything = b"".join(pushed.values())
    assert PRIVATE.encode() not in everything and b"/pytest-of-" not in everything
    assert "replaced by PATH" in capsys.readouterr().err
    assert any(call.startswith("PUT /lfs/") for call in hub.calls)

    share_model.run(["pull", REPO, "there"])
    assert sorted(path.name for path in Path("there").iterdir()) == sorted(
        ["README.md", "model.json", "model.safetensors", "units.json", "evaluation"]
    )
    assert front_matter(card_of(Path("there")))["license"] == front_matter(card_of(folder))["license"] == "apache-2.0"
    ours, theirs = (open_checkpoint(path).model.state_dict() for path in (folder, "there"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    asked = json.loads((folder / "model.json").read_text())["trained_on"]["corpus"]
    before, after = (score(path, corpus=dict(asked, name="cuts"), output=f"{tmp_path}/{n}") for n, path in
                     enumerate((folder, "there")))  # fmt: skip
    assert before["error_rate"] == after["error_rate"]
    assert Path("0/hyp.trn").read_bytes() == Path("1/hyp.trn").read_bytes()


def test_a_new_version_needs_update(folder, hub):
    share_model.run(["push", str(folder), REPO])
    assert f"{REPO} exists already" in refused("push", folder, REPO)
    score(folder, attention={"name": "uniform"})
    share_model.run(["push", str(folder), REPO, "update=true"])
    assert "evaluation/test/uniform/scores.json" in hub.repos[f"models/{REPO}"]


def test_files_that_are_no_part_of_a_model_are_named_and_left_out(folder, hub, capsys):
    share_model.run(["push", str(folder), REPO])
    hub.repos[f"models/{REPO}"] |= {
        "pytorch_model.bin": b"pickle",
        "run.py": b"code",
        "evaluation/../x/scores.json": b"",
    }
    share_model.run(["pull", REPO, "there"])
    assert (
        "left out, because they do not belong to a model folder: pytorch_model.bin, run.py" in capsys.readouterr().err
    )
    assert not Path("there/run.py").exists() and not Path("x").exists()


def test_what_somebody_wrote_into_the_card_on_the_hub_is_not_lost(folder, hub):
    share_model.run(["push", str(folder), REPO])
    card = hub.repos[f"models/{REPO}"]["README.md"].decode() + "\nWritten on the hub.\n"
    hub.repos[f"models/{REPO}"]["README.md"] = card.encode()
    assert "such as 'Written on the hub.'" in refused("push", folder, REPO, "update=true")
    (folder / "README.md").write_text(card)
    share_model.run(["push", str(folder), REPO, "update=true"])
    assert hub.repos[f"models/{REPO}"]["README.md"].decode() == card
    (folder / "README.md").unlink()
    share_model.run(["push", str(folder), REPO, "update=true", "replace_card=true"])
    assert "Written on the hub." not in hub.repos[f"models/{REPO}"]["README.md"].decode()


def break_weights(hub):
    hub.repos[f"models/{REPO}"]["model.safetensors"] = b"cut"


def lose_weights(hub):
    del hub.repos[f"models/{REPO}"]["model.safetensors"]


def make_dataset(hub):
    hub.repos["datasets/me/tiny"] = hub.repos.pop(f"models/{REPO}")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (break_weights, "was not kept: model.safetensors holds no weights"),
        (lose_weights, "is not a model of asr: it has no model.safetensors"),
        (make_dataset, "is a dataset, not a model"),
        (lambda hub: hub.repos.clear(), "is not on the hub (404)"),
    ],
)
def test_a_pull_that_fails_says_why_and_leaves_nothing(folder, hub, spoil, said):
    share_model.run(["push", str(folder), REPO])
    spoil(hub)
    before = sorted(Path().iterdir())
    assert said in refused("pull", REPO, "there")
    assert sorted(Path().iterdir()) == before


def test_a_push_that_fails_says_why_and_leaves_no_repository(folder, hub, monkeypatch):
    hub.failing = "/commit/"
    assert "the hub answered 500" in refused("push", folder, REPO)
    assert hub.repos == {}
    hub.failing = None
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "Log in with `hf auth login`" in refused("push", folder, REPO)
    hub.server_close()
    hub.shutdown()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached" in refused("push", folder, REPO)
    assert "http://127.0.0.1:9 cannot be reached" in refused("pull", REPO, "there")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["send", "a", REPO], "neither push nor pull"),
        (["push", "a"], "takes two names, not 1"),
        (["push", "a", "tiny"], "not of the form owner/name"),
        (["push", "a", REPO, "privat=true"], "did you mean private"),
        (["push", "a", REPO, "private=yes"], "private is true or false"),
        (["push", "a", REPO, "license=My License"], "license=My License is not a license identifier"),
        (["push", "nowhere", REPO], "There is no checkpoint at nowhere"),
    ],
)
def test_a_mistake_on_the_command_line_is_a_sentence(arguments, said):
    assert said in refused(*arguments)


def test_front_matter_that_is_no_yaml_is_said():
    with pytest.raises(UserError, match="not YAML"):
        front_matter("---\na: [\n---\n")
    assert yaml.safe_load("a: 1") == front_matter("---\na: 1\n---\n")

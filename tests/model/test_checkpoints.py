"""A checkpoint is data: what it names is never run, and what is wrong with it is said."""

import json
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.config.settings import compose
from asr.errors import UserError
from asr.evaluation.evaluate import Request, evaluate
from asr.model.checkpoint import CARRIED, open_checkpoint, pack_units
from asr.model.folder import FORMAT, load_model, save_model
from asr.model.network import Model
from asr.text.units import units
from asr.training.setup import describe

PLANTED = []


def leave_a_trace():
    PLANTED.append("ran")


class Bomb:
    """Unpickling this runs code: here it leaves a trace."""

    def __reduce__(self):
        return leave_a_trace, ()


@pytest.fixture
def parts():
    config = compose("train", ["encoder.layers=1", "encoder.heads=2", "encoder.head_dim=8", "encoder.feed_forward=16"])
    description = describe(config)
    kind = units.get("phonemes")
    built = kind.build([])
    description["features"]["sample_rate"], description["units"] = 16000, len(built.symbols)
    torch.manual_seed(0)
    return Model(description).eval(), built


@pytest.fixture
def folder(parts, tmp_path):
    save_model(tmp_path / "model", *parts, {"corpus": {"name": "spoken"}})
    return tmp_path / "model"


@pytest.fixture
def file(parts, tmp_path):
    return write_checkpoint(tmp_path / "best.ckpt", *parts)


def write_checkpoint(path, model, built, **more):
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    description = {"format": FORMAT, **model.description, "trained_on": {}}
    torch.save({"state_dict": state, CARRIED: {"description": description, "units": pack_units(built)}, **more}, path)
    return path


def test_a_model_folder_and_a_checkpoint_file_give_the_same_emissions(parts, folder, file):
    waveform, samples = torch.randn(1, 8000), torch.tensor([8000])
    expected = parts[0](waveform, samples)[0]
    for path in (folder, file, folder / "model.safetensors"):
        opened = open_checkpoint(path)
        assert torch.equal(opened.model(waveform, samples)[0], expected)
        assert opened.units.symbols == parts[1].symbols


def test_a_model_folder_holds_weights_json_and_text_only(folder):
    kinds = {path.suffix for path in folder.iterdir()}
    assert kinds <= {".safetensors", ".json", ".txt", ".model"}
    assert json.loads((folder / "model.json").read_text())["attention"]["name"] == "full"


def test_a_planted_pickle_in_a_checkpoint_is_refused_and_not_run(parts, tmp_path):
    with pytest.raises(UserError, match="names code"):
        open_checkpoint(write_checkpoint(tmp_path / "planted.ckpt", *parts, callbacks=Bomb()))
    (tmp_path / "bare.ckpt").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError):
        open_checkpoint(tmp_path / "bare.ckpt")
    assert PLANTED == []
    pickle.loads(pickle.dumps(Bomb()))
    assert PLANTED.pop() == "ran", "the bomb of this test does go off when it is unpickled"


def test_a_pickle_in_place_of_the_weights_or_units_is_refused_and_not_run(folder):
    for name in ("model.safetensors", "units.json", "model.json"):
        copy = folder.parent / f"planted-{name}"
        shutil.copytree(folder, copy)
        (copy / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(UserError, match=name):
            open_checkpoint(copy)
    assert PLANTED == []


@pytest.mark.parametrize("part", ["encoder", "attention", "head"])
@pytest.mark.parametrize("name", ["os.system", "../../evil", "asr.cli.command", "registry", "base", "__init__"])
def test_a_description_reaches_only_parts_that_ship_here(folder, part, name):
    content = json.loads((folder / "model.json").read_text())
    content[part]["name"] = name
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="There is no"):
        load_model(folder)


def test_a_target_in_a_description_is_refused_like_any_unknown_setting(folder):
    content = json.loads((folder / "model.json").read_text())
    content["encoder"]["_target_"] = "os.system"
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="_target_"):
        load_model(folder)


def test_units_that_would_write_outside_their_folder_are_refused(parts, tmp_path):
    model, built = parts
    content = {"../escaped.txt": torch.zeros(3, dtype=torch.uint8), **pack_units(built)}
    path = tmp_path / "escape.ckpt"
    description = {"format": FORMAT, **model.description, "trained_on": {}}
    torch.save({"state_dict": {}, CARRIED: {"description": description, "units": content}}, path)
    with pytest.raises(UserError, match="not a plain file name"):
        open_checkpoint(path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "units.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_named(folder, name, share):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match=name):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "units.json"])
def test_a_file_that_is_missing_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=name.split(".")[0]):
        open_checkpoint(folder)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_checkpoint_file_that_is_cut_short_is_named(file, share):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match="best.ckpt"):
        open_checkpoint(file)


def test_whatever_bytes_a_file_holds_it_is_a_sentence(tmp_path):
    random = np.random.default_rng(0)
    for number in range(200):
        size = int(random.integers(0, 200))
        content = random.integers(0, 256 if number % 2 else 128, size, dtype=np.uint8).tobytes()
        (tmp_path / "random.ckpt").write_bytes((b"\x80\x02" if number % 3 == 0 else b"") + content)
        with pytest.raises(UserError, match="random.ckpt"):
            open_checkpoint(tmp_path / "random.ckpt")


def test_a_corpus_that_a_stranger_names_runs_no_command(folder, tmp_path):
    trace = tmp_path / "ran"
    recording = {"id": "r", "sampling_rate": 16000, "num_samples": 16000, "duration": 1.0,
                 "sources": [{"type": "command", "channels": [0], "source": f"touch {trace}"}]}  # fmt: skip
    supervision = {"id": "s", "recording_id": "r", "start": 0.0, "duration": 1.0, "text": "yes"}
    cut = {"id": "c", "start": 0.0, "duration": 1.0, "channel": 0, "supervisions": [supervision],
           "recording": recording, "type": "MonoCut"}  # fmt: skip
    (tmp_path / "cuts.jsonl").write_text(json.dumps(cut) + "\n")
    content = json.loads((folder / "model.json").read_text())
    manifest = str(tmp_path / "cuts.jsonl")
    content["trained_on"]["corpus"] = {"name": "cuts", "train": manifest, "dev": manifest, "test": manifest}
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="type 'command'"):
        evaluate(Request(checkpoint=str(folder), output=str(tmp_path / "scores")))
    assert not trace.exists()


def test_what_is_no_checkpoint_is_said(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    (tmp_path / "empty").mkdir()
    for name in ("notes.txt", "other.ckpt", "list.ckpt", "empty", "nowhere"):
        with pytest.raises(UserError, match=name):
            open_checkpoint(tmp_path / name)


def test_weights_of_another_shape_are_said(folder):
    content = json.loads((folder / "model.json").read_text())
    content["encoder"]["feed_forward"] = 32
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="do not fit the description"):
        load_model(folder)


def test_a_safetensors_header_that_promises_too_much_is_refused(folder):
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(UserError, match="model.safetensors"):
        load_model(folder)


def test_saving_over_a_model_folder_leaves_the_old_one_if_it_fails(parts, folder, monkeypatch):
    before = (folder / "model.json").read_bytes()
    monkeypatch.setattr(type(parts[1]), "save", lambda self, folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_model(folder, *parts, {})
    assert (folder / "model.json").read_bytes() == before
    assert [path.name for path in Path(folder.parent).iterdir()] == ["model"]

"""A corpus that has moved: found in its new place, refused if its data differs."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy
import pytest
import soundfile

from asr.config.settings import groups
from asr.data.corpora import corpora, librispeech
from asr.data.fingerprint import data_facts
from asr.data.moved import absolute_places, load_own, places_of, with_places
from asr.errors import UserError
from asr.evaluation.request import Request, load_corpus
from asr.model.checkpoint import Checkpoint
from tests.support.recipe_trees import write_librispeech

FOLDER = {"name": "folder", "path": "speech", "transcripts": "transcripts.tsv", "seed": 1}


@pytest.fixture
def speech(tmp_path, monkeypatch):
    """A folder of recordings, seen from the folder above it."""
    monkeypatch.chdir(tmp_path)
    folder = Path("speech")
    folder.mkdir()
    for number in range(6):
        soundfile.write(folder / f"{number}.wav", numpy.full(1600, number / 10, "float32"), 16000)
    write_table(folder, "six")
    return folder


def write_table(folder, last):
    splits = ["train", "train", "dev", "dev", "test", "test"]
    texts = ["one", "two", "three", "four", "five", last]
    lines = [f"{number}.wav\t{texts[number]}\tann\t{split}\n" for number, split in enumerate(splits)]
    (folder / "transcripts.tsv").write_text("".join(lines))


def checkpoint(trained_on, run=None):
    return Checkpoint(model=None, units=None, trained_on=trained_on, run=run, path=Path("run"))


def load(trained_on, **asked):
    return load_corpus(checkpoint(trained_on), Request(checkpoint="run", corpus=asked or None, cache="cache"))


def trained_on_speech():
    corpus = corpora.create(FOLDER).load(Path("cache"))
    return {"corpus": FOLDER, **data_facts(corpus.splits)}


@pytest.mark.parametrize("name", groups()["corpus"])
def test_the_places_of_a_corpus_are_settings_of_text(name):
    settings = {"name": name}
    places = places_of(settings)
    fields = {field.name: str(field.type) for field in dataclasses.fields(corpora.get(name))}
    assert all(fields[place].startswith("str") for place in places)
    assert bool(places) == (name != "spoken")


def test_a_checkpoint_is_evaluated_on_its_corpus_where_that_lies_now(speech):
    trained_on = trained_on_speech()
    speech.rename("elsewhere = ü")
    corpus, own = load(trained_on, path="elsewhere = ü")
    assert own and data_facts(corpus.splits)["data_fingerprint"] == trained_on["data_fingerprint"]
    assert all("elsewhere = ü" in cut.recording.sources[0].source for cut in corpus.splits["test"])


def test_the_fingerprint_of_a_run_from_before_it_was_in_the_checkpoint_is_in_its_folder(speech):
    trained_on = trained_on_speech()
    Path("run").mkdir()
    Path("run/environment.json").write_text(json.dumps({"data_fingerprint": trained_on["data_fingerprint"]}))
    shutil.copytree(speech, "copy")
    assert load({"corpus": FOLDER}, path="copy")[1]
    write_table(Path("copy"), "seven")
    with pytest.raises(UserError, match="not the data that run was trained on: utterances, or their durations"):
        load({"corpus": FOLDER}, path="copy")
    Path("run/environment.json").unlink()
    with pytest.raises(UserError, match="environment.json does not hold the run's data_fingerprint"):
        load({"corpus": FOLDER}, path="copy")


def test_other_data_is_refused_with_what_is_other_unless_the_corpus_is_named_too(speech):
    trained_on = trained_on_speech()
    write_table(speech, "seven")
    (speech / "0.wav").unlink()
    table = (speech / "transcripts.tsv").read_text().splitlines(keepends=True)
    (speech / "transcripts.tsv").write_text("".join(table[1:]))
    speech.rename("other")
    with pytest.raises(UserError) as refused:
        load(trained_on, path="other")
    for words in ("train has 1 utterances, not 2", "test has different texts", "corpus=folder corpus.path=…"):
        assert words in str(refused.value)
    corpus, own = load(trained_on, **{**FOLDER, "path": "other"})
    assert not own and len(corpus.splits["train"]) == 1


def test_a_corpus_that_is_gone_is_said_with_the_setting_that_names_its_new_place(speech):
    trained_on = trained_on_speech()
    speech.rename("elsewhere")
    with pytest.raises(UserError, match=r"no folder .*/speech .*If it has moved, say where to: corpus.path=…$"):
        load(trained_on)
    with pytest.raises(UserError, match=r"There is no folder .*/nowhere .*say where to: corpus.path=…$"):
        load(trained_on, path="nowhere")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"pth": "x"}, "corpus=folder, which RUN was trained on, has no setting 'pth': did you mean path"),
        (
            {"seed": 2},
            "corpus.seed=2: RUN was trained on corpus=folder with seed=1, and only corpus.path and corpus.transcripts can",
        ),
    ],
)  # fmt: skip
def test_only_places_change(given, sentence):
    with pytest.raises(UserError) as refused:
        with_places(FOLDER, given, "RUN")
    assert str(refused.value).startswith(sentence)
    assert with_places(FOLDER, {"path": "new", "seed": 1}, "RUN") == {**FOLDER, "path": "new"}


def test_places_are_made_absolute_where_they_are_and_a_table_in_a_folder_stays_in_it(speech, tmp_path):
    assert absolute_places(FOLDER, tmp_path) == {**FOLDER, "path": str(tmp_path / "speech")}
    assert absolute_places(FOLDER, tmp_path / "nowhere") == FOLDER
    Path("table.tsv").write_text("")
    assert absolute_places({**FOLDER, "transcripts": "table.tsv"}, tmp_path)["transcripts"] == str(
        tmp_path / "table.tsv"
    )


def test_audio_that_is_used_where_it_lies_is_found_again_below_the_new_place(tmp_path, monkeypatch):
    parts = {"train-clean-100": 5, "dev-clean": 3, "test-clean": 3}
    monkeypatch.setattr(librispeech, "PUBLISHED", parts)
    root, cache = tmp_path / "discs/LibriSpeech", tmp_path / "cache"
    write_librispeech(root, parts)
    settings = {"name": "librispeech", "path": str(root.parent)}
    before = data_facts(corpora.create(settings).load(cache).splits)
    root.parent.rename(tmp_path / "moved")
    moved = {**settings, "path": str(tmp_path / "moved")}
    corpus = load_own(moved, cache, 2, compared=True)
    assert data_facts(corpus.splits) == before
    assert all(len(cut.load_audio()[0]) == cut.num_samples for cuts in corpus.splits.values() for cut in cuts)
    with pytest.raises(UserError, match="was moved or deleted: .* say where to: corpus.path=…"):
        load_own(settings, cache, 2, compared=True)
    next((tmp_path / "moved").glob("**/*-0001.flac")).unlink()
    with pytest.raises(UserError, match="lacks 1 audio files that were in"):
        load_own(moved, cache, 2, compared=True)


def test_a_corpus_prepared_from_elsewhere_is_refused_where_no_data_is_compared(tmp_path, monkeypatch):
    parts = {"train-clean-100": 5, "dev-clean": 3, "test-clean": 3}
    monkeypatch.setattr(librispeech, "PUBLISHED", parts)
    root, cache = tmp_path / "a", tmp_path / "cache"
    write_librispeech(root, parts)
    settings = {"name": "librispeech", "path": str(root)}
    corpora.create(settings).load(cache)
    shutil.copytree(root, tmp_path / "b")
    with pytest.raises(UserError, match="was prepared from path="):
        load_own({**settings, "path": str(tmp_path / "b")}, cache, 2, compared=False)

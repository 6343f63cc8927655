"""Starting from another run: whose units are trained, and which weights are kept."""

import pytest
import torch

from asr.config.settings import compose
from asr.errors import UserError
from asr.model.checkpoint import open_checkpoint
from asr.training.job import train
from tests.support.tiny_corpus import TEXTS, tiny_corpus

GERMAN = ("ä hund", "der größte hund", "öl und hund", "guter tag", "das tier", "tage")
PIECES = ["units=bpe", "units.size=30"]
CHARACTERS = ["units=characters"]
# changes no weight, so that a training ends with the weights that it started from
STILL = ["optimizer.lr=0", "max_epochs=1", "logger=none", "trainer.precision=32-true"]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with a run of English characters, one of English pieces, and the settings of two corpora."""
    folder = tmp_path_factory.mktemp("work")
    english, german = tiny_corpus(folder / "english"), tiny_corpus(folder / "german", GERMAN)
    for name, units in (("characters", CHARACTERS), ("bpe", PIECES), ("timit", ["units=timit"])):
        trained(english, folder / name, *units)
    return folder, english, german


def trained(settings, run, *typed):
    # random weights that differ from those of the run that it starts from
    seed = "seed=2" if any(item.startswith("init_from") for item in typed) else "seed=1"
    typed = [*settings, *STILL, seed, *typed, f"run={run}"]
    train(compose("train", typed), typed)
    return open_checkpoint(run)


def kept(run, other):
    """Whether the encoder's weights are those of another run, and whether the last layer's are."""
    same = {name: torch.equal(value, other.model.state_dict()[name]) if value.shape == other.model.state_dict()[name].shape
            else False for name, value in run.model.state_dict().items()}  # fmt: skip
    return all(same[name] for name in same if name.startswith("encoder.")), same["head.weight"]


@pytest.mark.parametrize("units", [CHARACTERS, PIECES])
def test_another_alphabet_gets_units_of_its_own_and_the_encoder_is_kept(work, tmp_path, capsys, units):
    folder, _, german = work
    start = folder / units[0].partition("=")[2]
    run = trained(german, tmp_path / "run", *units, f"init_from={start}")
    said = capsys.readouterr().out
    assert f"are not among the units of {start}: new units; its encoder is kept" in said
    assert " characters of the training text (" in said and "ö" in said and "in 10 of its 12 utterances" in said
    assert "ö" in "".join(run.units.symbols)
    assert kept(run, open_checkpoint(start)) == (True, False)


@pytest.mark.parametrize("units", [CHARACTERS, PIECES, ["units=timit"]])
def test_units_that_can_write_the_text_are_kept_with_the_layer_to_them(work, tmp_path, capsys, units):
    folder, english, _ = work
    start = folder / units[0].partition("=")[2]
    fewer = tiny_corpus(tmp_path / "corpus", TEXTS[:2])
    run, other = trained(fewer, tmp_path / "run", *units, f"init_from={start}"), open_checkpoint(start)
    assert run.units.symbols == other.units.symbols and kept(run, other) == (True, True)
    assert f"units of {start}, as they are; init_units=fresh makes new ones" in capsys.readouterr().out


def test_fresh_units_are_made_on_request_even_if_the_old_ones_would_do(work, tmp_path):
    folder, _, _ = work
    fewer = tiny_corpus(tmp_path / "corpus", TEXTS[:2])
    more = [*CHARACTERS, f"init_from={folder / 'characters'}", "init_units=fresh"]
    run, other = trained(fewer, tmp_path / "run", *more), open_checkpoint(folder / "characters")
    assert len(run.units.symbols) < len(other.units.symbols) and kept(run, other) == (True, False)


def test_units_of_another_kind_are_built_anew_and_the_same_phonemes_keep_their_layer(work, tmp_path):
    folder, english, _ = work
    phonemes = ["units=phonemes", "units.alignments=false"]
    first = trained(english, tmp_path / "first", *phonemes, f"init_from={folder / 'characters'}")
    assert kept(first, open_checkpoint(folder / "characters")) == (True, False)
    second = trained(english, tmp_path / "second", *phonemes, f"init_from={tmp_path / 'first'}")
    assert kept(second, first) == (True, True)


def test_a_few_utterances_that_the_kept_units_cannot_write_are_dropped_by_name(work, tmp_path):
    folder, _, _ = work
    mixed = tiny_corpus(tmp_path / "corpus", [*TEXTS, "größe"], train=18)
    more = [*CHARACTERS, f"init_from={folder / 'characters'}", "data.max_dropped=0.2"]
    run = trained(mixed, tmp_path / "run", *more)
    assert run.units.symbols == open_checkpoint(folder / "characters").units.symbols
    dropped = (tmp_path / "run/dropped.tsv").read_text()
    assert dropped.count("the character 'r' is not among the model's 12") == 2


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ([*CHARACTERS, "init_units=kept"], r"init_units=kept: 7 characters .* init_units=fresh makes new units"),
        (
            ["units=bpe", "init_units=kept"],
            "has units=characters, not units=bpe. Give units=characters, or init_units=fresh",
        ),
        ([*CHARACTERS, "init_units=fresh", "init_from=null"], "name that run with init_from="),
    ],
)
def test_what_cannot_be_kept_is_refused_with_a_way_out_before_anything_is_written(work, tmp_path, typed, sentence):
    folder, _, german = work
    with pytest.raises(UserError, match=sentence):
        trained(german, tmp_path / "run", f"init_from={folder / 'characters'}", *typed)
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_has_the_units_that_it_was_started_with(work, tmp_path):
    folder, _, german = work
    run = trained(german, tmp_path / "run", *CHARACTERS, f"init_from={folder / 'characters'}")
    typed = [f"resume={tmp_path / 'run'}", f"run={tmp_path / 'run'}", "max_epochs=2"]
    train(compose("train", typed), typed)
    assert open_checkpoint(tmp_path / "run").units.symbols == run.units.symbols

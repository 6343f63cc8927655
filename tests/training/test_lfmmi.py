"""loss=lfmmi from the command line's settings to scores: trained, resumed, opened again and decoded."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
import torch

from asr.config.settings import compose
from asr.data.batches import Batch, halves
from asr.errors import UserError
from asr.evaluation.evaluate import evaluate
from asr.evaluation.request import Request
from asr.model.checkpoint import open_checkpoint
from asr.model.graphs.tensors import pad_numerators
from asr.model.heads import heads
from asr.text.ngrams import estimate, write_arpa
from asr.text.phones.files import digest_of, read_phone_lm, write_phone_lm
from asr.text.phones.model import uniform
from asr.training.job import train
from scripts.soak_resume import logged
from tests.support.tiny_corpus import TEXTS, tiny_corpus
from tests.support.tiny_phones import SENTENCES, UNITS, model

pytestmark = pytest.mark.run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("lfmmi")


@pytest.fixture(scope="module")
def settings(place):
    corpus = tiny_corpus(place / "corpus")
    return [
        *corpus,
        "loss=lfmmi",
        "units.alignments=false",
        "logger=none",
        f"cache={place / 'cache'}",
        "optimizer.lr=0.01",
    ]


def run(settings, folder, *more):
    typed = [*settings, f"run={folder}", *more]
    config = compose("train", typed)
    folder.mkdir(parents=True, exist_ok=True)
    return train(config, typed)


@pytest.fixture(scope="module")
def trained(place, settings):
    # graphs are built in the processes that read data
    run(settings, place / "run", "data.workers=1")
    return place / "run"


def test_a_run_and_its_model_carry_topology_and_language_model(trained):
    opened = open_checkpoint(trained)
    assert opened.model.description["head"]["topology"]["name"] == opened.model.topology.name == "chain"
    assert opened.model.topology.outputs == 80 and opened.units.symbols[-1] == "SIL"
    lm = opened.units.phone_lm
    assert digest_of(read_phone_lm(trained / "phone_lm.txt", opened.units.symbols), opened.units.symbols) == digest_of(
        lm, opened.units.symbols
    )
    assert open_checkpoint(trained / "checkpoints" / "last.ckpt").units.phone_lm.histories == lm.histories
    assert json.loads((trained / "model" / "model.json").read_text())["head"]["loss"]["name"] == "lfmmi"


def test_a_model_folder_alone_is_scored_by_the_decoder_that_suits_it(place, trained, settings):
    pairs = (one.removeprefix("corpus.").split("=") for one in settings if one.startswith("corpus."))
    corpus = {key: value for key, value in pairs}
    folder = shutil.copytree(trained / "model", place / "alone")
    request = Request(
        checkpoint=str(folder), split="dev", cache=str(place / "cache"), corpus={"name": "cuts", **corpus}, report=False,
        output=str(place / "scores"),
    )  # fmt: skip
    scores = evaluate(request)
    assert scores["decoder"]["name"] == "phones" and 0 < scores["error_rate"] <= 2
    with pytest.raises(UserError, match="decoder=greedy needs the blank"):
        evaluate(Request(**{**vars(request), "decoder_typed": ["name"], "output": str(place / "refused")}))


def test_a_batch_in_halves_has_the_losses_and_gradients_of_the_whole():
    head, lm = heads.create({"name": "lfmmi"}, dim=6, units=UNITS), model()
    head.prepare(lm)
    lengths, one = torch.tensor([9, 7, 8, 5]), torch.ones(4, dtype=torch.int64)
    graphs = pad_numerators([head.build(slots) for slots in SENTENCES[:4]])
    batch = Batch(torch.randn(4, 9), lengths, torch.ones(4, 1, dtype=torch.int64), one, torch.arange(4), graphs)
    hidden, found = torch.randn(4, 9, 6), []
    for parts in ([batch], halves(batch)):
        losses = [head(hidden[part.indices, : int(part.samples.max())], part.samples, *part.spoken) for part in parts]
        head.zero_grad()
        torch.cat(losses).sum().backward()
        found.append((torch.cat(losses), head.weight.grad))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)


def test_it_is_loaded_and_transcribes_as_any_model_does(place, trained):
    import asr

    audio = next((place / "corpus").glob("dev-*.flac"))
    transcript = asr.load(trained / "model", device="cpu").transcribe(audio)
    assert transcript.kind == "phonemes" and "SIL" not in transcript.text
    with pytest.raises(UserError, match="decoder=greedy needs the blank"):
        asr.load(trained / "model", device="cpu", decoder="greedy").transcribe(audio)


def test_a_training_starts_from_a_model_of_ctc(place, settings, trained):
    ctc = [one for one in settings if one != "loss=lfmmi"]
    run(ctc, place / "ctc", "max_epochs=1")
    run(settings, place / "from_ctc", f"init_from={place / 'ctc'}", "max_epochs=1", "optimizer.lr=0.0")
    one, other = (open_checkpoint(place / name).model.state_dict() for name in ("ctc", "from_ctc"))
    assert all(torch.equal(weight, one[name]) for name, weight in other.items() if name.startswith("encoder."))
    assert other["head.weight"].shape[0] == 80


CTC_WITH_OPTIONS = [
    "loss=ctc", "decoder=greedy", "loss.consistency=0.2", "loss.intermediate=[1]", "encoder.layers=2", "encoder.dropout=0.1",
]  # fmt: skip


@pytest.mark.parametrize("loss", [[], CTC_WITH_OPTIONS], ids=["lfmmi", "ctc"])
def test_a_training_that_was_interrupted_ends_with_the_weights_of_one_that_was_not(place, settings, loss, request):
    half, whole = (place / f"{name}-{request.node.callspec.id}" for name in ("half", "whole"))
    run(settings, half, *loss, "max_epochs=1", "schedule=constant")
    run(settings, whole, *loss, "schedule=constant")
    train(compose("train", [f"resume={half}", f"run={half}", "max_epochs=2"]), ["max_epochs=2"])
    one, other = (open_checkpoint(folder / "checkpoints" / "last.ckpt").model.state_dict() for folder in (half, whole))
    assert all(torch.equal(one[name], other[name]) for name in one)
    terms = ("train/loss", "train/ctc", "train/intermediate", "train/consistency")
    half, whole = (
        [[row[term] for term in terms] for row in logged(folder) if row["train/loss"]] for folder in (half, whole)
    )
    assert half == whole and len(half) > 4 and all(half[-1]) == bool(loss)


def test_a_run_is_not_resumed_with_another_language_model(place, trained):
    changed = shutil.copytree(trained, place / "changed")
    symbols = open_checkpoint(changed).units.symbols
    write_phone_lm(changed / "phone_lm.txt", uniform(len(symbols)), symbols)
    with pytest.raises(UserError, match="another phone language model than that of the run's checkpoint"):
        train(compose("train", [f"resume={changed}", f"run={changed}", "max_epochs=3"]), ["max_epochs=3"])


def test_the_word_error_rate_on_dev_chooses_the_weights_where_metric_says_so(place, settings):
    pytest.importorskip("kaldi_decoder")
    write_arpa(estimate([text.split() for text in TEXTS], order=2), place / "lm.arpa")
    words = ["decoder=wfst", f"decoder.lm={place / 'lm.arpa'}", f"decoder.cache={place}", "metric=wer", "max_epochs=1"]
    run(settings, place / "words", *words)
    with open(place / "words" / "metrics.csv", encoding="utf8", newline="") as file:
        rates = [row["dev/word_error_rate"] for row in csv.DictReader(file) if row["dev/word_error_rate"]]
    decoder = {"name": "wfst", "lm": str(place / "lm.arpa"), "cache": str(place)}
    request = Request(
        checkpoint=str(place / "words"), split="dev", cache=str(place / "cache"), decoder=decoder,
        decoder_typed=["name", "lm", "cache"], report=False,
    )  # fmt: skip
    scores = evaluate(request)
    assert scores["metric"] == "wer" and min(map(float, rates)) == pytest.approx(scores["error_rate"])


def test_left_biphones_share_rare_outputs_and_come_back_from_the_checkpoint(place, settings):
    run(settings, place / "left", "topology.context=left", "topology.min_count=2", "max_epochs=1")
    opened = open_checkpoint(place / "left" / "model")
    assert opened.model.topology.by_context and opened.model.topology.outputs < 2 * 41 * 40
    assert (
        opened.units.phone_lm.topology == "chain-left"
        and opened.model.head.weight.shape[0] == opened.model.topology.outputs
    )


@pytest.mark.parametrize(
    "typed, sentence",
    [
        (["units=characters"], "Use units=phonemes"),
        (["units.silence=false"], "needs a unit SIL for pauses"),
        (["decoder=greedy"], "decoder=greedy needs the blank of CTC"),
        (["loss=ctc", "decoder=greedy", "topology=one"], "topology=one with its settings is for loss=lfmmi"),
        (["head=ctc"], "loss=lfmmi needs head=lfmmi"),
        (["loss.order=9"], "loss.order=9 must be 2, 3 or 4"),
        (["topology.context=left", "loss.keep=2", "loss.extra=0"], "set loss.keep=3"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_cannot_be_trained_is_answered_by_a_sentence_before_it_starts(place, settings, typed, sentence):
    with pytest.raises(UserError, match=sentence):
        # which units=characters do not take
        kept = [one for one in settings if one != "units.alignments=false" or "units=characters" not in typed]
        run(kept, place / "refused", *typed)
    assert not (place / "refused" / "config.yaml").exists()

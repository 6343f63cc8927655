"""tune → evaluate → align with words, and the benchmark of decoders: the programs as typed, in this process, on tones that
a model written by hand hears (tests/support/tones.py). Some letters sound like two: only a language model can tell which was
meant."""

import csv
import json
import runpy
import sys
from pathlib import Path

import numpy
import pytest
import soundfile

from asr.errors import UserError
from asr.text.ngrams import estimate, write_arpa
from tests.support.tones import GAP, LETTERS, RATE, built, tones

pytestmark = pytest.mark.run

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ["bad cafe", "bad head", "bad cafe", "a bag", "cafe bag", "head a bag", "a bad cafe", "cafe", "head", "fade"]
# what is meant, and what is heard at the same time
DEV = [
    ("bad cafe", "bag cafe"),
    ("a bag", "a bad"),
    ("bad head", "bag head"),
    ("fade", "fade"),
    ("cafe bag", "cafe bad"),
]
TEST = [("bad cafe fade", "bag cafe fade"), ("head bag", "head bad"), ("cafe", "cafe")]
MODULES = {"wfst": ("kaldifst", "kaldi_decoder"), "lexicon": ("flashlight.lib.text.decoder",)}
WORDS = pytest.mark.parametrize("decoder", MODULES)


def sound(meant, heard):
    return 0.62 * tones(meant, around=0.2) + 0.38 * tones(heard, around=0.2)


def manifest(folder, split, sentences):
    from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

    cuts = []
    for number, (meant, heard) in enumerate(sentences):
        name = f"{split}-{number}"
        soundfile.write(folder / f"{name}.wav", sound(meant, heard), RATE)
        recording = Recording.from_file(folder / f"{name}.wav", recording_id=name)
        said = SupervisionSegment(name, name, 0.0, recording.duration, text=meant, language="en")
        cuts.append(MonoCut(name, 0.0, recording.duration, 0, [said], recording=recording))
    CutSet.from_cuts(cuts).to_file(folder / f"{split}.jsonl")
    return str(folder / f"{split}.jsonl")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a corpus, a run that was trained on it, and a language model of its training text."""
    from asr.model.folder import save_model
    from asr.text.units import BLANK
    from asr.text.units.characters import SPACE, Characters

    monkeypatch.chdir(tmp_path)
    (tmp_path / "audio").mkdir()
    corpus = {"name": "cuts"}
    for split, sentences in (("train", [(text, text) for text in TRAIN]), ("dev", DEV), ("test", TEST)):
        corpus[split] = manifest(tmp_path / "audio", split, sentences)
    units = Characters([BLANK, SPACE, *LETTERS])
    save_model(tmp_path / "run/model", built(2, "full", len(units.symbols)), units, {"corpus": corpus})
    write_arpa(estimate([text.split() for text in TRAIN], order=2), tmp_path / "lm.arpa")
    return tmp_path


def run(monkeypatch, program, *arguments):
    monkeypatch.setattr(sys, "argv", [str(ROOT / program), *map(str, arguments)])
    runpy.run_path(str(ROOT / program), run_name="__main__")


def settings_of(decoder):
    """Of the graphs' place, which is the user's home unless it is said."""
    for module in MODULES[decoder]:
        pytest.importorskip(module)
    return [f"decoder={decoder}", *(["decoder.cache=graphs"] if decoder == "wfst" else [])]


def tune(monkeypatch, decoder, *more):
    grid = ["lm_weights=[0,2,4]", "word_scores=[-1,0]", "refinements=1"]
    run(
        monkeypatch, "scripts/tune_decoder.py", "checkpoint=run", *settings_of(decoder), "decoder.lm=lm.arpa", *grid, *more
    )  # fmt: skip
    return json.loads(Path(f"run/decoder/{decoder}.json").read_text())


def evaluate(monkeypatch, decoder, *more):
    run(monkeypatch, "evaluate.py", "checkpoint=run", *settings_of(decoder), "output=scores", "report=false", *more)
    return json.loads(Path("scores/scores.json").read_text())


def rows_of(said):
    """The rows of evaluate's table."""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in said.splitlines() if line.startswith("│")]
    return {row[0]: " ".join(row[1:]) for row in rows}


def forbidden(*_, **__):
    raise UserError("the model was asked")


@WORDS
def test_tuning_looks_at_dev_alone_and_leaves_the_best_weights_a_table_and_a_picture(
    place, monkeypatch, capsys, decoder
):
    import asr.evaluation.request

    for file in (place / "audio").glob("test-*.wav"):
        file.write_bytes(b"whoever reads this fails")
    check_split, checked = asr.evaluation.request.check_split, []
    monkeypatch.setattr(
        asr.evaluation.request,
        "check_split",
        lambda name, *more, **options: checked.append(name) or check_split(name, *more, **options),
    )
    found = tune(monkeypatch, decoder)
    said = capsys.readouterr().out
    assert checked == ["dev"]
    assert found["metric"] == "wer" and found["utterances"] == len(DEV) and found["corpus"] == "cuts"
    assert found["reference_length"] == sum(len(meant.split()) for meant, _ in DEV)
    assert found["errors"] == 0 and found["settings"]["lm_weight"] > 0
    assert Path(found["settings"]["lm"]) == place / "lm.arpa"
    with open(f"run/decoder/{decoder}.csv") as file:
        points = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    # without the language model nothing tells a bad from a bag
    assert min(point["errors"] for point in points if point["lm_weight"] == 0) > 0
    assert len(points) >= 6 and Path(f"run/decoder/{decoder}.png").read_bytes()[:4] == b"\x89PNG"
    assert f"lm_weight={found['settings']['lm_weight']:g}" in said and "dev WER 0.00%" in said


def test_emissions_are_computed_once_and_again_when_audio_was_replaced(place, monkeypatch, capsys):
    import asr.evaluation.emissions

    first = tune(monkeypatch, "wfst")
    kept = list((place / ".cache/emissions").iterdir())
    assert len(kept) == 1 and kept[0].name.startswith("cuts-dev-")
    computed = asr.evaluation.emissions.emissions_of
    monkeypatch.setattr(asr.evaluation.emissions, "emissions_of", forbidden)
    assert tune(monkeypatch, "wfst")["errors"] == first["errors"] == 0
    # as long as before, but something else is said
    samples, _ = soundfile.read(place / "audio/dev-3.wav")
    soundfile.write(place / "audio/dev-3.wav", sound("cafe", "cafe"), RATE)
    assert soundfile.info(place / "audio/dev-3.wav").frames == len(samples)
    with pytest.raises(SystemExit):
        tune(monkeypatch, "wfst")
    assert "the model was asked" in capsys.readouterr().err
    monkeypatch.setattr(asr.evaluation.emissions, "emissions_of", computed)
    assert tune(monkeypatch, "wfst")["errors"] == 1
    assert len(list((place / ".cache/emissions").iterdir())) == 2


def test_kept_emissions_that_are_damaged_are_computed_again(place, monkeypatch):
    tune(monkeypatch, "wfst")
    (kept,) = (place / ".cache/emissions").iterdir()
    content = kept.read_bytes()
    kept.write_bytes(content[: len(content) // 2])
    assert tune(monkeypatch, "wfst")["errors"] == 0
    assert kept.read_bytes() == content


def test_a_part_of_dev_is_tuned_on_where_that_is_asked_for(place, monkeypatch):
    seconds = sum(soundfile.info(place / f"audio/dev-{number}.wav").duration for number in range(len(DEV)))
    assert tune(monkeypatch, "wfst", f"minutes={0.6 * seconds / 60}")["utterances"] == 3


def test_units_without_a_language_model_have_nothing_to_tune(place, monkeypatch, capsys):
    pytest.importorskip("flashlight.lib.text.decoder")
    with pytest.raises(SystemExit):
        run(monkeypatch, "scripts/tune_decoder.py", "checkpoint=run", "decoder=beam")
    assert "decoder=beam has no language model to weight: add decoder.lm=FILE" in capsys.readouterr().err


@WORDS
def test_evaluation_takes_up_what_was_found_and_what_is_typed_stays(place, monkeypatch, decoder):
    found = tune(monkeypatch, decoder)["settings"]
    scores = evaluate(monkeypatch, decoder)
    assert (scores["split"], scores["metric"]) == ("test", "wer")
    assert scores["decoder"] == found
    assert (scores["error_rate"], scores["reference_length"]) == (0.0, 6)
    typed = evaluate(monkeypatch, decoder, "decoder.lm_weight=0")
    assert typed["decoder"] == {**found, "lm_weight": 0.0} and typed["error_rate"] > 0


@WORDS
def test_a_score_says_by_which_decoder_files_and_weights_it_was_made(place, monkeypatch, capsys, decoder):
    found = tune(monkeypatch, decoder)["settings"]
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "300")
    scores = evaluate(monkeypatch, decoder, "report=true")
    rows = rows_of(capsys.readouterr().out)
    assert (rows["decoder"], rows["lexicon"], rows["language model"]) == (decoder, "auto", str(place / "lm.arpa"))
    assert (rows["lm_weight"], rows["word_score"]) == (str(found["lm_weight"]), str(found["word_score"]))
    assert rows["tuned"] == f"lm_weight, word_score, by run/decoder/{decoder}.json"
    assert scores["decoding_seconds"] > 0 and rows["decoding"] == f"{scores['decoding_seconds']:.2f} s"
    assert rows["out of vocabulary"] == "0.00%"
    for file in ("scores.md", "report.html"):
        text = Path("scores", file).read_text()
        for row in ("Language model", "lm_weight", "Tuned", "Decoding", "Out of vocabulary"):
            assert row in text, (file, row)
    write_arpa(estimate([["bad"], ["cafe"], ["fade"]], order=1), place / "other.arpa")
    evaluate(monkeypatch, decoder, "decoder.lm=other.arpa", "decoder.word_score=-0.25")
    rows = rows_of(capsys.readouterr().out)
    assert (rows["language model"], rows["word_score"]) == ("other.arpa", "-0.25")
    assert rows["tuned"] == f"lm_weight, for the language model {place / 'lm.arpa'}, by run/decoder/{decoder}.json"
    evaluate(monkeypatch, decoder, "decoder.lm_weight=1", "decoder.word_score=0")
    assert rows_of(capsys.readouterr().out)["tuned"] == "no"


@WORDS
def test_words_that_the_decoder_does_not_know_are_counted_and_many_are_warned_of(place, monkeypatch, capsys, decoder):
    monkeypatch.setenv("COLUMNS", "300")
    known = [["bad", "cafe"], ["cafe"], ["bag"], ["a"]]
    write_arpa(estimate(known, order=1), place / "small.arpa")
    scores = evaluate(monkeypatch, decoder, "decoder.lm=small.arpa")
    said = capsys.readouterr().out
    # of bad cafe fade, head bag, cafe
    assert scores["out_of_vocabulary"] == {"share": 2 / 6, "words": 2, "distinct": 2, "examples": ["fade", "head"]}
    assert "33.33%: 2 words, 2 different, such as fade, head" in said
    assert "warning: 33.3% of the words in the references, such as" in said
    assert "33.33%: 2 words" in Path("scores/scores.md").read_text()


def test_the_greedy_decoder_has_its_name_in_the_table_and_no_vocabulary(place, monkeypatch, capsys):
    run(monkeypatch, "evaluate.py", "checkpoint=run", "output=scores", "report=false")
    rows = rows_of(capsys.readouterr().out)
    assert rows["decoder"] == "greedy" and not rows.keys() & {"tuned", "lexicon", "decoding", "out of vocabulary"}
    assert "out_of_vocabulary" not in json.loads(Path("scores/scores.json").read_text())


@WORDS
def test_aligning_what_is_recognized_gives_the_times_of_words(place, monkeypatch, decoder):
    from asr.scoring.nist.ctm import read_ctm

    tune(monkeypatch, decoder)
    run(
        monkeypatch, "scripts/align.py", "checkpoint=run", *settings_of(decoder), "hypotheses=true", "output=times"
    )  # fmt: skip
    for kind in ("reference", "hypothesis"):
        words = read_ctm(f"times/{kind}.ctm")
        assert [(word.file, word.text) for word in words] == [
            (f"test-{number}", word) for number, (meant, _) in enumerate(TEST) for word in meant.split()
        ]
        at = iter(words)
        for meant, _ in TEST:
            start = 0.2
            for word in meant.split():
                found, seconds = next(at), len(word) * (0.1 + GAP) - GAP
                assert found.start == pytest.approx(start, abs=0.05)
                # a word lasts until the next one begins, unless there is a pause
                assert -0.05 < found.start + found.duration - (start + seconds) < 0.2
                assert 0 < float(found.more[0]) <= 1
                start += seconds + GAP + 0.2


# the benchmark


def table_of(said):
    header, _, *rows = [line for line in said.splitlines() if line.startswith("|")]
    names = [cell.strip() for cell in header.strip("|").split("|")]
    return [dict(zip(names, (cell.strip() for cell in row.strip("|").split("|")))) for row in rows]


@pytest.fixture
def all_decoders():
    for modules in MODULES.values():
        for module in modules:
            pytest.importorskip(module)


def benchmark(monkeypatch, *arguments):
    run(monkeypatch, "scripts/benchmark_decoding.py", *arguments)


def test_the_benchmark_times_every_decoder_on_simulated_emissions(place, monkeypatch, capsys, all_decoders):
    benchmark(monkeypatch, "simulate", "problem", "--sentences", "4", "--training", "60", "--noise", "0.5")
    with numpy.load("problem/emissions.npz") as held:
        lengths, emissions = held["lengths"], held["emissions"]
    assert len(lengths) == 4 and lengths.sum() == len(emissions)
    numpy.testing.assert_allclose(numpy.exp(emissions).sum(axis=1), 1.0, atol=1e-4)
    capsys.readouterr()
    benchmark(monkeypatch, "run", "problem", "--beams", "10,50", "--rounds", "1", "--csv", "table.csv")
    said = capsys.readouterr().out
    rows = table_of(said)
    beams = [(name, beam) for name in ("beam", "lexicon", "wfst", "flashlight") for beam in ("10", "50")]
    assert [(row["decoder"], row["beam"]) for row in rows] == [("greedy", ""), *beams]
    assert all(float(row["times real time"]) > 0 for row in rows)
    rates = {(row["decoder"], row["beam"]): float(row["WER %"]) for row in rows}
    # the noise of half a standard deviation never lifts a unit over the one that was meant
    assert rates["greedy", ""] == rates["beam", "50"] == 0.0
    assert rates["lexicon", "50"] <= rates["flashlight", "50"]
    assert "4 utterances" in said and "characters" in said
    with open("table.csv") as file:
        assert [list(row.values()) for row in csv.DictReader(file)] == [list(row.values()) for row in rows]


def test_the_benchmark_takes_the_emissions_of_a_checkpoint(place, monkeypatch, capsys, all_decoders):
    benchmark(monkeypatch, "emissions", "problem", "--checkpoint", "run", "--split", "dev")
    facts = json.loads(Path("problem/problem.json").read_text())
    assert facts["references"] == [meant for meant, _ in DEV]
    settings = ["--lm", "lm.arpa", "--lm-weight", "4", "--beams", "100", "--rounds", "1"]
    benchmark(monkeypatch, "run", "problem", *settings, "--decoders", "greedy,lexicon,wfst")
    rates = {row["decoder"]: float(row["WER %"]) for row in table_of(capsys.readouterr().out)}
    assert rates["lexicon"] == rates["wfst"] == 0.0 < rates["greedy"]

"""make_lm.py: a text or a corpus becomes a language model, a model is measured, and every mistake gets a sentence."""

import gzip
import importlib.util
import sys
from pathlib import Path

import numpy
import pytest
import soundfile

from asr.text.ngrams import estimate, read_model

TEXT = "the cat sat\nthe dog sat on the cat\na dog\n\nthe cat\n" * 3


def load_script():
    path = Path(__file__).resolve().parents[3] / "scripts" / "make_lm.py"
    specification = importlib.util.spec_from_file_location("make_lm_script", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def make_lm(*arguments, code=0):
    """Runs the program in this process. Raises SystemExit if it ends early."""
    assert load_script().main([str(argument) for argument in arguments]) == code


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a text and a text to measure on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "dev.txt").write_text("the cat sat on a mat\n")
    return tmp_path


def test_a_text_becomes_a_model_and_its_perplexity_is_printed(place, capsys):
    make_lm("text=text.txt", "order=2", "output=lm.arpa.gz", "dev=dev.txt")
    sentences = [line.split() for line in TEXT.splitlines()]
    expected = estimate(sentences, 2)
    assert read_model("lm.arpa.gz").words == expected.words
    found, printed = expected.perplexity([["the", "cat", "sat", "on", "a", "mat"]]), capsys.readouterr().out
    for shown in (
        "39 words in 12 sentences", f"{found.with_unknown:.2f}", f"{found.without_unknown:.2f}", "1 (16.67%)",
        f"{found.hits[1]} ({found.hits[1] / 7:.1%})", "text.txt: blank lines left out: 3", "model     lm.arpa.gz",
    ):  # fmt: skip
        assert shown in printed
    assert sorted(file.name for file in place.iterdir()) == ["dev.txt", "lm.arpa.gz", "text.txt"]


def test_a_model_that_is_there_is_measured_and_says_the_same(place, capsys):
    make_lm("text=text.txt", "output=lm.arpa", "dev=dev.txt")
    first = capsys.readouterr().out
    make_lm("lm=lm.arpa", "dev=dev.txt")
    second = capsys.readouterr().out
    tables = [printed[printed.index("perplexity of dev.txt") :].split("model ")[0] for printed in (first, second)]
    assert tables[0] == tables[1] and "unknown words" in tables[0]


def test_cutoffs_and_pruning_leave_out_ngrams(place, capsys):
    make_lm("text=text.txt", "order=3", "output=whole.arpa")
    make_lm("text=text.txt", "order=3", "cutoffs=0,3", "output=cut.arpa")
    make_lm("text=text.txt", "order=3", "prune=1e-2", "output=pruned.arpa")
    make_lm("lm=whole.arpa", "prune=1e-2", "output=pruned_later.arpa")
    sizes = {
        name: sum(map(len, read_model(f"{name}.arpa").tables)) for name in ("whole", "cut", "pruned", "pruned_later")
    }
    assert sizes["whole"] > max(sizes["cut"], sizes["pruned"], sizes["pruned_later"])
    assert "left out" in capsys.readouterr().out


def test_several_texts_compressed_ones_and_standard_input_are_taken_together(place, monkeypatch, capsys):
    (place / "more.gz").write_bytes(gzip.compress(b"<s> one fish </s>\n"))
    (place / "input").write_text("two <unk> fish\n")
    with open("input") as file:
        monkeypatch.setattr(sys, "stdin", file)
        make_lm("text=text.txt", "text=more.gz", "text=-", "output=lm.arpa")
    assert {"cat", "one", "two", "fish"} <= set(read_model("lm.arpa").vocabulary)
    printed = capsys.readouterr().out
    assert "lines from which <s> and </s> were removed: 1" in printed and "-: <unk>, counted as a word: 1" in printed


def test_the_normalizer_holds_for_both_texts(place, capsys):
    (place / "text.txt").write_text("The CAT; sat!\n")
    (place / "dev.txt").write_text("the Cat\n")
    make_lm("text=text.txt", "normalizer=words", "dev=dev.txt", "output=lm.arpa")
    assert read_model("lm.arpa").vocabulary == ["the", "cat", "sat"]
    assert "0 (0.00%)" in capsys.readouterr().out


def test_a_short_text_says_what_it_could_not_do(place, capsys):
    (place / "text.txt").write_text("one\r\n")
    make_lm("text=text.txt", "order=5", "output=lm.arpa")
    printed = capsys.readouterr().out
    assert "of more than 3 words: the order is 3" in printed and "too small or too regular" in printed
    assert read_model("lm.arpa").vocabulary == ["one"]


def test_a_corpus_gives_its_training_texts_and_is_measured_on_dev(place, capsys):
    (place / "speech").mkdir()
    rows = []
    for number, split in enumerate(["train", "train", "dev", "test"]):
        soundfile.write(place / "speech" / f"{number}.wav", numpy.full(8000, 0.1), 16000)
        rows.append(f"{number}.wav\tWord number {number}, in {split}!\tann\t{split}\n")
    (place / "speech/transcripts.tsv").write_text("".join(rows))
    make_lm("corpus=folder", "corpus.path=speech", "cache=cache", "order=2", "output=lm.arpa")
    assert read_model("lm.arpa").vocabulary == ["word", "number", "0", "in", "train", "1"]
    printed = capsys.readouterr().out
    assert "perplexity of folder dev" in printed and "2 (40.00%)" in printed


MISTAKES = {
    "text": "not of the form setting=value",
    "text=text.txt ordr=3 output=x": "did you mean order",
    "order=3 output=x": "text=FILE is missing",
    "text=text.txt": "The model would go nowhere",
    "text=none.txt output=x": "There is no file none.txt",
    "text=text.txt dev=none.txt": "There is no file none.txt",
    "text=text.txt output=no/where/lm.arpa": "there is no folder no/where",
    "text=text.txt output=.": "output=. is not a file",
    "text=text.txt output=x order=three": "order=three is not a whole number",
    "text=text.txt output=x order=0": "order=0",
    "text=text.txt output=x cutoffs=a": "cutoffs=a is not a list of whole numbers",
    "text=text.txt output=x cutoffs=2,1": "decrease",
    "text=text.txt output=x prune=-1": "threshold=-1",
    "text=text.txt output=x normalizer=wrods": "did you mean words",
    "text=empty.txt output=x": "There is no word in empty.txt",
    "text=text.txt text=empty.txt output=x": "There is no word in empty.txt",
    "text=text.txt dev=empty.txt output=x": "There is no word in empty.txt",
    "text=latin.txt output=x": "latin.txt, line 2: 0xe9 is not UTF-8",
    "text=text.txt dev=latin.txt output=x": "latin.txt, line 2: 0xe9 is not UTF-8",
    "text=marked.txt output=x": "marked.txt, line 1: <s> is inside the line",
    "lm=text.txt dev=dev.txt": "text.txt is not an ARPA file",
    "lm=none.arpa dev=dev.txt": "none.arpa cannot be read",
    "lm=x.arpa text=text.txt dev=dev.txt": "Leave one out",
    "lm=x.arpa order=4 dev=dev.txt": "Leave one out",
    "lm=x.bin dev=dev.txt": "KenLM",
    "corpus=fodler output=x": "did you mean folder",
    "corpus=folder output=x corpus.pth=y": "did you mean path",
    "text=text.txt corpus.path=y output=x": "add corpus=NAME",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_is_a_sentence_and_leaves_nothing(place, arguments, capsys):
    (place / "empty.txt").write_text("\n  \n")
    (place / "latin.txt").write_bytes(b"one\ncaf\xe9\n")
    (place / "marked.txt").write_text("one <s> two\n")
    (place / "x.bin").write_bytes(b"mmap lm http://kheafield.com/code format\0")
    before = sorted(place.iterdir())
    with pytest.raises(SystemExit) as ended:
        make_lm(*arguments.split())
    printed = capsys.readouterr()
    assert ended.value.code == 2 and MISTAKES[arguments] in printed.err
    assert printed.err.startswith("make_lm.py: ") and "Traceback" not in printed.err
    assert sorted(place.iterdir()) == before


def test_help_names_every_setting(capsys):
    make_lm("--help")
    printed = capsys.readouterr().out
    assert all(f"    {setting}=" in printed for setting in ("text", "lm", "order", "cutoffs"))
    assert all(f"{setting}=" in printed for setting in load_script().SETTINGS)
    make_lm(code=2)

"""Lexicons for decoding: pronunciations as heard, by accents, from dictionaries; each with its probability and its source."""

import collections
from pathlib import Path

import pytest
from lhotse import SupervisionSegment
from lhotse.supervision import AlignmentItem

from asr.errors import UserError
from asr.inference.decoders.spellings import read_lexicon
from asr.text.lexicon.estimation import from_dictionaries, heard_in, lexicon_lines, likely, said_in_accents, words_of
from asr.text.ngrams.kenlm_model import BINARY_MAGIC
from tests.support import programs

ROOT = Path(__file__).resolve().parents[3]


def aligned(words, phonemes):
    """A supervision whose tiers are lists of (symbol, start, end)."""
    tiers = {
        tier: [AlignmentItem(symbol, start, end - start) for symbol, start, end in items]
        for tier, items in (("word", words), ("phoneme", phonemes))
    }
    return SupervisionSegment("u", "r", 0.0, 2.0, text="", alignment=tiers)


CAR = aligned(
    [("The", 0.1, 0.3), ("car", 0.4, 0.9)],
    [("SIL", 0.0, 0.1), ("DH", 0.1, 0.2), ("AH0", 0.2, 0.3), ("K", 0.4, 0.6), ("AA1", 0.6, 0.8), ("R", 0.8, 0.95)],
)
BRITISH_CAR = aligned([("car", 0.4, 0.9)], [("K", 0.4, 0.6), ("AA", 0.6, 0.9)])


def test_a_phoneme_belongs_to_the_word_in_whose_time_its_middle_lies():
    assert heard_in([CAR, BRITISH_CAR, CAR]) == {
        "the": {("DH", "AH"): 2},
        "car": {("K", "AA", "R"): 2, ("K", "AA"): 1},
    }


def test_speech_without_times_of_both_teaches_nothing():
    assert heard_in([SupervisionSegment("u", "r", 0.0, 1.0, text="the car")]) == {}


def test_frequent_pronunciations_are_kept_relative_to_the_most_frequent():
    heard = {"car": collections.Counter({("K", "AA", "R"): 40, ("K", "AA"): 10, ("K",): 1, ("AA",): 9})}
    assert likely(heard, 0.05, 6)["car"] == {("K", "AA", "R"): 1.0, ("K", "AA"): 0.25, ("AA",): 0.225}
    assert list(likely(heard, 0.05, 1)["car"]) == [("K", "AA", "R")]


def test_dictionaries_give_every_pronunciation_of_cmudict_and_espeaks_of_other_words():
    found, sources = from_dictionaries(["read", "TIME-DAY", "zorblax", "b52"])
    assert set(found["read"]) == {("R", "EH", "D"), ("R", "IY", "D")}
    assert len(found["zorblax"]) == len(found["TIME-DAY"]) == 1 and "b52" not in found
    assert sources == {"cmudict": ["read"], "parts": ["TIME-DAY"], "espeak": ["zorblax"], "unpronounced": ["b52"]}


def test_accents_differ_where_they_do():
    said = dict(said_in_accents(["car", "..."], ["en-us", "en"], 1))
    assert said == {"en-us": {"car": ("K", "AA", "R")}, "en": {"car": ("K", "AA")}}
    with pytest.raises(UserError, match="no English accent 'en-mars'"):
        list(said_in_accents(["car"], ["en-mars"], 1))


def test_an_accent_is_told_before_its_words_are_asked_for():
    told = []
    for accent, _ in said_in_accents(["car"], ["en-us", "en"], 1, begins=told.append):
        assert told[-1] == accent
    assert told == ["en-us", "en"]


def test_what_is_written_is_read_by_the_decoders(tmp_path):
    lexicon = {"car": collections.Counter({("K", "AA", "R"): 1.0, ("K", "AA"): 0.25}), "a": {("AH",): 1.0}}
    file = tmp_path / "lexiconp.txt"
    file.write_text(lexicon_lines(lexicon))
    assert file.read_text() == "a 1 AH\ncar 1 K AA R\ncar 0.25 K AA\n"
    assert read_lexicon(file) == {"a": {("AH",): 1.0}, "car": {("K", "AA", "R"): 1.0, ("K", "AA"): 0.25}}
    with pytest.raises(UserError, match="contains white space"):
        lexicon_lines({"two words": {("AH",): 1.0}})


def test_words_come_from_a_list_or_a_language_model(tmp_path):
    from asr.text.ngrams import estimate, write_arpa

    write_arpa(estimate([["a", "car"], ["the", "car"]], 2), tmp_path / "lm.arpa")
    (tmp_path / "words.txt").write_text("car\n\nthe\n")
    assert sorted(words_of(tmp_path / "lm.arpa")) == ["a", "car", "the"]
    assert words_of(tmp_path / "words.txt") == ["car", "the"]
    (tmp_path / "words.txt").write_text("car\nthe car\n")
    with pytest.raises(UserError, match="words.txt, line 2: expected one word per line"):
        words_of(tmp_path / "words.txt")
    (tmp_path / "lm.arpa").write_bytes(BINARY_MAGIC + b" format version 5\n\0")
    with pytest.raises(UserError, match="lm.arpa is a KenLM binary, which does not list its words: give the ARPA file"):
        words_of(tmp_path / "lm.arpa")


def run(tmp_path, *arguments):
    return programs.run("scripts/make_lexicon.py", *arguments, cwd=tmp_path)


@pytest.mark.run
def test_the_command_writes_lexicon_and_sources(tmp_path):
    (tmp_path / "words.txt").write_text("read\nzorblax\n")
    ended = run(tmp_path, "words=words.txt", "output=lexiconp.txt")
    assert ended.returncode == 0 and ended.stderr == "" and "2 words with 3 pronunciations" in ended.stdout
    assert set(read_lexicon(tmp_path / "lexiconp.txt")) == {"read", "zorblax"}
    assert (tmp_path / "lexiconp.sources.tsv").read_text() == "word\tsource\nread\tcmudict\nzorblax\tespeak\n"


@pytest.mark.run
@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["words=words.txt"], "output=FILE is missing"),
        (["output=x.txt"], "There are no words"),
        (["words=nowhere.txt", "output=x.txt"], "nowhere.txt cannot be read: No such file"),
        (["words=words.txt", "output=x.txt", "lesat=1"], "did you mean least"),
        (["words=words.txt", "output=x.txt", "least=2"], "least=2.0 must be above 0 and at most 1"),
        (
            ["words=words.txt", "output=x.txt", "accents=en-us,en"],
            "accents=en-us,en only applies to words observed in a corpus, and none is named: add corpus=NAME",
        ),
    ],
)
def test_a_mistake_is_answered_by_a_sentence(tmp_path, arguments, sentence):
    ended = run(tmp_path, *arguments)
    assert ended.returncode == 2 and sentence in ended.stderr and "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.run
def test_accents_are_announced_and_what_is_heard_in_a_corpus_is_counted_with_them(tmp_path):
    corpus = ["corpus=spoken", "corpus.hours=0.003", "corpus.shape=short", "cache=cache", "output=lexiconp.txt"]
    ended = run(tmp_path, *corpus, "accents=en-mars")
    assert ended.returncode == 2 and "no English accent 'en-mars'" in ended.stderr
    assert list(tmp_path.iterdir()) == []  # found before the corpus was made
    ended = run(tmp_path, *corpus, "accents=en-us,en")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    count = len(read_lexicon(tmp_path / "lexiconp.txt"))
    assert lines[0] == f"asking eSpeak for {count} words in 2 accents; less than a minute"
    assert lines[1:5] == ["en-us …", f"en-us: {count} words pronounced", "en …", f"en: {count} words pronounced"]

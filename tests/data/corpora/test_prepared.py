"""Corpora that are prepared once: continued work, discs that are no longer needed, the lexicon of a corpus."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
from lhotse import SupervisionSegment

from asr.data.corpora import Corpus
from asr.data.corpora.preparing.discs import prepared_place, recorded_sources
from asr.data.corpora.preparing.folders import (
    MadeMeanwhile,
    continued,
    corpus_in,
    segment_cut,
    utterance_cut,
    write_manifests,
)
from asr.data.corpora.preparing.long_recordings import read_cuts
from asr.errors import UserError
from asr.text.lexicon.dictionary import ARPABET, Lexicon, cmudict_lexicon
from asr.text.lexicon.pronouncing import pronounced, write_lexicon
from asr.text.units import build_units, load_units

ROOT = Path(__file__).resolve().parents[3]


def test_what_was_done_before_a_failure_is_there_for_the_next_run(tmp_path):
    folder = tmp_path / "cache" / "prepared"
    with pytest.raises(KeyError), continued(folder) as part:
        (part / "first").write_text("done")
        raise KeyError
    assert not folder.exists()
    with continued(folder) as part:
        assert (part / "first").read_text() == "done"
        (part / "second").write_text("done")
    assert {file.name for file in folder.iterdir()} == {"first", "second"}
    assert [file.name for file in folder.parent.iterdir()] == ["prepared"]


def test_what_was_made_from_something_else_is_begun_anew(tmp_path):
    folder = tmp_path / "prepared"
    for discs in ("a", "b"):
        with pytest.raises(KeyError), continued(folder, {"discs": discs}) as part:
            assert not (part / "audio").exists()
            (part / "audio").write_text(discs)
            raise KeyError
    with continued(folder, {"discs": "b"}) as part:
        assert (part / "audio").read_text() == "b"


def test_a_kill_or_an_error_at_the_very_end_loses_nothing(tmp_path, monkeypatch):
    for error in (KeyboardInterrupt, OSError):

        def stop(*paths, error=error):
            raise error

        with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, UserError)):
            patch.setattr("os.rename", stop)
            with continued(tmp_path / "prepared", "discs") as part:
                (part / "audio").write_text("hours of work")
        with pytest.raises(KeyError), continued(tmp_path / "prepared", "discs") as part:
            assert (part / "audio").read_text() == "hours of work"
            raise KeyError
    with continued(tmp_path / "prepared", "discs"):
        pass
    assert sorted(path.name for path in (tmp_path / "prepared").iterdir()) == ["audio"]
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]


@pytest.mark.run
def test_of_two_processes_that_prepare_the_same_folder_one_waits_for_the_other(tmp_path):
    program = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from asr.data.corpora.preparing.folders import MadeMeanwhile, continued
try:
    with continued(Path("prepared")) as part:
        print("at it", flush=True)
        sys.stdin.readline()
        (part / "audio").write_text("done")
except MadeMeanwhile:
    print("made meanwhile", (Path("prepared") / "audio").read_text())
"""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-c", program]
    first = subprocess.Popen(command, cwd=tmp_path, text=True, **pipes)
    assert first.stdout.readline() == "at it\n"
    second = subprocess.Popen(command, cwd=tmp_path, text=True, **pipes)
    assert second.stderr.readline() == "Another process is preparing prepared; waiting for it.\n"
    assert first.communicate("go on\n")[1] == "" and first.returncode == 0
    assert second.communicate() == ("made meanwhile done\n", "") and second.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]
    with pytest.raises(MadeMeanwhile), continued(tmp_path / "prepared"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]


def test_a_disk_that_is_full_is_said_and_what_is_done_is_kept(tmp_path):
    with pytest.raises(UserError, match="No space left.*is kept"), continued(tmp_path / "prepared") as part:
        (part / "one").write_text("done")
        raise OSError(28, "No space left on device")
    assert (tmp_path / ".prepared.part/one").is_file() and not (tmp_path / "prepared").exists()


def test_a_cache_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another with cache="), continued(tmp_path / "file/prepared"):
        pass


def prepare(tmp_path, sources):
    folder, there = prepared_place(tmp_path / "cache", "wsj", sources)
    assert not there
    cut = utterance_cut("u", "audio/u.flac", 16000, 16000, "THE", "011", "en-us")
    facts = {
        "sources": recorded_sources(sources), "sample_rate": 16000, "aliases": {"si284": "train"},
        "normalization": {"name": "wsj", "rules": {}}, "scoring": {"test": "scoring/test"},
    }  # fmt: skip
    with continued(folder) as part:
        write_manifests(part, {"train": [cut], "eval93": [cut]}, [("v", "no audio")], facts)
    return folder


def test_a_prepared_corpus_is_found_without_its_discs(tmp_path):
    (tmp_path / "discs").mkdir()
    folder = prepare(tmp_path, {"wsj0": str(tmp_path / "discs"), "wsj1": str(tmp_path / "discs")})
    for sources in ({"wsj0": None, "wsj1": None}, {"wsj0": str(tmp_path / "discs/../discs"), "wsj1": None}):
        assert prepared_place(tmp_path / "cache", "wsj", sources) == (folder, True)
    corpus = corpus_in(folder, "wsj")
    assert list(corpus.splits) == ["train", "eval93"] and corpus.dropped == [("v", "no audio")]
    assert corpus.split_called("si284") == "train" and corpus.split_called("eval93") == "eval93"
    assert corpus.scoring == {"test": folder / "scoring/test"} and corpus.lexicon is None
    with pytest.raises(UserError, match="no split called 'eval99': choose one of train, eval93, si284"):
        corpus.split_called("eval99")


def test_other_discs_than_it_was_prepared_from_are_refused(tmp_path):
    (tmp_path / "discs").mkdir()
    prepare(tmp_path, {"wsj0": str(tmp_path / "discs")})
    with pytest.raises(UserError, match="was prepared from wsj0=.*discs, not from wsj0=.*others: remove that folder"):
        prepared_place(tmp_path / "cache", "wsj", {"wsj0": str(tmp_path / "others")})
    (tmp_path / "cache/wsj/prepared/corpus.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        prepared_place(tmp_path / "cache", "wsj", {"wsj0": None})


@pytest.mark.parametrize(
    "read", [lambda folder: corpus_in(folder, "wsj"), lambda folder: read_cuts(folder / "cuts_train.jsonl.gz")]
)
def test_damaged_cuts_are_said(read, tmp_path):
    (tmp_path / "discs").mkdir()
    cuts = prepare(tmp_path, {"wsj0": str(tmp_path / "discs")}) / "cuts_train.jsonl.gz"
    packed = cuts.read_bytes()
    # cut short, changed, no deflated block, no gzip
    for damage in (packed[:-20], packed[:40] + bytes(20) + packed[60:], gzip.compress(b"")[:10] + b"\x07", b"x"):
        cuts.write_bytes(damage)
        with pytest.raises(UserError, match="wsj/prepared is damaged .*: remove that folder to have it prepared again"):
            read(cuts.parent)


def test_without_discs_the_command_that_prepares_is_named(tmp_path):
    with pytest.raises(UserError, match="scripts/prepare.py wsj wsj0=FOLDER wsj1=FOLDER"):
        prepared_place(tmp_path, "wsj", {"wsj0": "x", "wsj1": None})
    with pytest.raises(UserError, match="There is no folder .*nowhere"):
        prepared_place(tmp_path, "wsj", {"wsj0": str(tmp_path / "nowhere")})


def test_a_split_is_called_as_a_file_may_be(tmp_path):
    with pytest.raises(ValueError, match="not a name for a split"):
        write_manifests(tmp_path, {"../train": []}, [], {})


def test_a_segment_is_a_part_of_its_recording():
    cut = segment_cut("sw02001-A_000098-001156", "audio/sw02001-A.flac", 80000, 8000, 0.98, 10.58, "hi", "a", "en")
    assert (cut.recording.id, cut.recording.duration, cut.start, cut.end) == ("sw02001-A", 10.0, 0.98, 11.56)
    assert cut.supervisions[0].start == 0.0 and cut.supervisions[0].duration == 10.58


WORDS = ["THE", "DAY", "BEFORE", "YESTERDAY", "TIME", "ZORBLAX", "TIME-DAY", ",COMMA", "<NOISE>", "ab-", "B52", "THE"]
SPECIAL = {"<NOISE>": "NSN", "<SPOKEN_NOISE>": "SPN", ",COMMA": "K AA M AH"}


def test_the_lexicon_holds_every_word_once_and_says_where_it_comes_from(tmp_path):
    facts = write_lexicon(tmp_path, WORDS, SPECIAL)
    lexicon = Lexicon.read(tmp_path / "lexicon.txt")
    assert set(lexicon) == set(WORDS) - {"B52"} | set(SPECIAL)
    assert lexicon["TIME"] == ("T", "AY", "M") and lexicon[",COMMA"] == ("K", "AA", "M", "AH")
    known = cmudict_lexicon()
    assert lexicon["TIME-DAY"] == known["time"] + known["day"]
    assert set(lexicon["ZORBLAX"]) <= set(ARPABET) and lexicon["ab-"]
    assert facts == {
        "words": 11, "special": 3, "cmudict": 5, "parts": ["TIME-DAY"], "espeak": ["ZORBLAX", "ab-"],
        "unpronounced": ["B52"],
    }  # fmt: skip


def test_a_special_pronunciation_is_made_of_phonemes(tmp_path):
    with pytest.raises(UserError, match="'K AA M UR' of ',COMMA'"):
        write_lexicon(tmp_path, [], {",COMMA": "K AA M UR"})


def test_a_word_with_a_digit_is_not_guessed():
    assert pronounced("B52") == ((), "unpronounced")


def supervision(text):
    return SupervisionSegment("u", "r", 0.0, 1.0, text=text, language="en-us")


@pytest.fixture
def lexicon(tmp_path):
    write_lexicon(tmp_path, WORDS, SPECIAL)
    return tmp_path / "lexicon.txt"


AUTO = {"name": "phonemes", "lexicon": "auto", "normalizer": "auto"}


def test_phonemes_take_the_corpus_own_lexicon_and_its_texts_as_they_are(lexicon, tmp_path):
    built = build_units(AUTO, [supervision("THE ,COMMA <NOISE> TIME")], lexicon)
    assert built.symbols[1:] == [*ARPABET, "SIL", "SPN", "NSN"] and built.normalizer == "none"
    spoken = supervision("THE ,COMMA <NOISE> TIME")
    ids = built.encode(spoken)
    assert [built.symbols[index] for index in ids] == "DH AH K AA M AH NSN T AY M".split()
    # noises are recognized, and not scored
    assert built.reference(spoken) == built.decode(ids) == "DH AH K AA M AH T AY M".split()
    built.save(tmp_path / "model")
    loaded = load_units(tmp_path / "model")
    assert loaded.encode(spoken) == ids and loaded.reference(spoken) == built.reference(spoken)
    # words of other corpora are looked up in any case
    assert loaded.reference(supervision("Monday")) == list(cmudict_lexicon()["monday"])


def test_without_a_lexicon_of_the_corpus_auto_is_cmudict_and_plain_words():
    built = build_units(AUTO, [supervision("The time, please.")])
    assert (built.lexicon, built.normalizer) == ("cmudict", "words") and len(built.symbols) == 40


def test_characters_and_pieces_leave_noises_out_of_such_a_corpus(lexicon):
    built = build_units({"name": "characters", "normalizer": "auto"}, [supervision("THE ,COMMA <NOISE> DAY")], lexicon)
    assert built.normalizer == "speech"
    assert built.reference(supervision("[laughter] THE ,COMMA [vocalized-noise] ab- <NOISE>")) == ["the", "comma", "ab"]
    assert built.normalize(supervision("[noise] HE [noise]"))[1] == {"[noise]": 2}


def test_a_corpus_has_no_lexicon_unless_it_says_so():
    corpus = Corpus("mine", {}, 16000)
    assert corpus.lexicon is None and corpus.normalization == {} and json.dumps(corpus.pronunciations) == "{}"

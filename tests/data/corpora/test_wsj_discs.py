"""Finding WSJ's files in every layout and spelling, all sets complete, and no other corpus's files."""

import os

import pytest

from asr.data.corpora.wsj.discs import Discs, disc_name
from asr.data.corpora.wsj.sets import SETS, Index, list_sets, read_index
from asr.errors import UserError
from tests.support.wsj_tree import small_sets, write_complete_listing, write_wsj


@pytest.fixture
def small(monkeypatch):
    small_sets(monkeypatch)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return write_complete_listing(tmp_path_factory.mktemp("complete"))


def refusal(tree):
    with pytest.raises(UserError) as caught:
        Discs({"wsj0": tree.wsj0, "wsj1": tree.wsj1})
    return str(caught.value)


def listed(tree):
    return list_sets(Discs({"wsj0": tree.wsj0, "wsj1": tree.wsj1}))


def test_names_in_capitals_with_versions_and_final_dots_are_found(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    assert tree.audio["4k0c0201"].name == "4K0C0201.WV1;1"
    os.rename(tree.wsj1 / "13-16.1/WSJ1", tree.wsj1 / "13-16.1/WSJ1.")
    os.rename(tree.wsj1 / "13-1.1/wsj1", tree.wsj1 / "13-1.1/Wsj1")
    assert listed(tree).missing == {}


@pytest.mark.parametrize("name", ["11-13.1", "11_13.1", "11_13_1", "11-13.1;1", "11-13.1."])
def test_a_disc_has_several_spellings(name):
    assert disc_name(name) == "11-13.1"


def test_the_folder_may_be_the_merged_one_itself_under_any_name(tmp_path, small):
    tree = write_wsj(tmp_path / "discs", "flat")
    tree.wsj0, tree.wsj1 = tmp_path / "discs/wsj0", tmp_path / "LDC94S13A"
    os.rename(tmp_path / "discs/wsj1", tree.wsj1)
    assert listed(tree).missing == {}


def test_a_folder_is_listed_once_however_many_files_are_looked_up_in_it(tmp_path, small, monkeypatch):
    tree = write_wsj(tmp_path / "discs", "flat")
    scandir, folders = os.scandir, []
    monkeypatch.setattr(os, "scandir", lambda path: folders.append(os.fspath(path)) or scandir(path))
    assert listed(tree).missing == {}
    assert len(folders) == len(set(folders)) > 10


def test_index_lines_have_a_space_or_a_slash_or_no_suffix(tmp_path):
    path = tmp_path / "si_et_20.ndx"
    lines = [";; a comment", "", "11_14_1:wsj0/si_et_20/440/440c0201", "11_14_1: wsj0/si_et_20/440/440c0202.wv1"]
    lines += ["11_14_1:/wsj0/si_et_20/440/440C0203.WV1", "13_32_1: /wsj1/si_et_h1/4oa/4oac0201.wv1\r", "\x1a"]
    path.write_text("\n".join(lines))
    entries, wrong = read_index(str(path), Index("13-32.1", "", (("13-32.1", "13-33.1"),)))
    assert not wrong
    assert [(entry.disc, entry.path, entry.utterance) for entry in entries] == [
        ("11-14.1", "wsj0/si_et_20/440/440c0201.wv1", "440c0201"),
        ("11-14.1", "wsj0/si_et_20/440/440c0202.wv1", "440c0202"),
        ("11-14.1", "wsj0/si_et_20/440/440C0203.WV1", "440c0203"),
        ("13-33.1", "wsj1/si_et_h1/4oa/4oac0201.wv1", "4oac0201"),
    ]


def test_the_complete_sets_are_found(complete):
    listing = list_sets(Discs({"wsj0": complete, "wsj1": complete}))
    assert listing.missing == {} and listing.complaint("") is None
    assert {name: len(utterances) for name, utterances in listing.sets.items()} == {
        "si84": 7138,
        "si284": 37416,
        "dev93": 503,
        "dev93_5k": 513,
        "eval92": 333,
        "eval92_5k": 330,
        "eval93": 213,
        "eval93_5k": 213,
    }
    assert set(listing.sets["si84"]) < set(listing.sets["si284"])
    assert len(listing.left_out) == 102


def test_one_utterance_that_lacks_in_a_complete_set_is_named(complete, tmp_path):
    discs = Discs({"wsj0": complete, "wsj1": complete})
    victim = next(iter(list_sets(discs).sets["eval92"]))
    (speech,) = complete.rglob(f"{victim}.wv1")
    os.rename(speech, tmp_path / "away")
    try:
        listing = list_sets(Discs({"wsj0": complete, "wsj1": complete}))
    finally:
        os.rename(tmp_path / "away", speech)
    assert listing.complaint("here") is None and len(listing.sets["eval92"]) == 332
    ((lost, reason),) = listing.lost["eval92"]
    assert lost == victim and reason.startswith("missing audio: wsj0/eval92/") and "no speech on disc 11-13.1" in reason
    assert not listing.lost["si284"]


def test_the_indices_are_those_of_the_discs():
    # by Kaldi's egs/wsj/s5/local/wsj_data_prep.sh; the look-alikes take their paths from SETS, and cannot tell
    wsj0_train = ("11-13.1", "wsj0/doc/indices/train/tr_s_wv1.ndx", ())
    moved = (("13-32.1", "13-33.1"),)
    assert {
        name: [(index.disc, index.path, index.moved) for index in wanted.indices] for name, wanted in SETS.items()
    } == {
        "si84": [wsj0_train],
        "si284": [wsj0_train, ("13-34.1", "wsj1/doc/indices/si_tr_s.ndx", ())],
        "dev93": [("13-34.1", "wsj1/doc/indices/h1_p0.ndx", ())],
        "dev93_5k": [("13-34.1", "wsj1/doc/indices/h2_p0.ndx", ())],
        "eval92": [("11-13.1", "wsj0/doc/indices/test/nvp/si_et_20.ndx", ())],
        "eval92_5k": [("11-13.1", "wsj0/doc/indices/test/nvp/si_et_05.ndx", ())],
        "eval93": [("13-32.1", "wsj1/doc/indices/wsj1/eval/h1_p0.ndx", moved)],
        "eval93_5k": [("13-32.1", "wsj1/doc/indices/wsj1/eval/h2_p0.ndx", moved)],
    }


def test_the_5k_test_of_1993_has_either_number():
    assert SETS["eval93_5k"].counts == (213, 215)


def test_a_transcript_file_is_found_wherever_it_is(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    elsewhere = tree.wsj0 / "11-13.1/wsj0/doc/some/where"
    elsewhere.mkdir(parents=True)
    os.rename(tree.dots["440"], elsewhere / "440C0200.DOT")
    assert listed(tree).missing == {}


def test_halves_that_were_interchanged_are_recognised(tmp_path):
    tree = write_wsj(tmp_path / "discs")
    tree.wsj0, tree.wsj1 = tree.wsj1, tree.wsj0
    message = refusal(tree)
    assert "(wsj0=) holds wsj1 (13-1.1, 13-16.1, 13-2.1), not wsj0" in message
    assert "Did you swap wsj0= and wsj1=?" in message


@pytest.mark.parametrize(
    ("corpus", "file"),
    [
        ("Switchboard", "swb1_d1/data/sw02001.sph"),
        ("Switchboard", "sw02001.sph"),
        ("LibriSpeech", "LibriSpeech/train-clean-100/19/198/19-198-0000.flac"),
        ("LibriSpeech", "SPEAKERS.TXT"),
        ("TIMIT", "TIMIT/TRAIN/DR1/FCJF0/SA1.WAV"),
        ("Common Voice", "validated.tsv"),
    ],
)
def test_a_folder_of_another_corpus_is_recognised(tmp_path, corpus, file):
    tree = write_wsj(tmp_path / "discs")
    tree.wsj0 = tmp_path / "given"
    (tree.wsj0 / file).parent.mkdir(parents=True)
    (tree.wsj0 / file).touch()
    assert f"looks like {corpus} (it has {file.split('/')[0].lower()}), not like WSJ" in refusal(tree)


def test_a_folder_of_nothing_known_is_refused_with_what_was_expected(tmp_path):
    tree = write_wsj(tmp_path / "discs")
    tree.wsj1 = tmp_path / "given"
    (tree.wsj1 / "letters").mkdir(parents=True)
    message = refusal(tree)
    assert "holds nothing of WSJ" in message and "but letters" in message and "13-1.1 … 13-34.1" in message

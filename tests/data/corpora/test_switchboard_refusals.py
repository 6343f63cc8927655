"""Switchboard's discs, transcripts and references: everything refused, or left out by name, gets a sentence."""

import json
import os
import shutil

import numpy
import pytest

from asr.audio.sphere import read_sphere_header
from asr.data.corpora.switchboard import SwitchboardCorpus
from asr.data.corpora.switchboard import discs as switchboard_discs
from asr.data.corpora.switchboard.discs import Audio, check_conversations, lost_conversations
from asr.errors import UserError
from tests.support.sphere_files import write_sphere
from tests.support.switchboard_tree import DISCS, RATE, SwitchboardTree, small_discs, write_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("discs"))


@pytest.fixture
def copy(tree, tmp_path):
    """A copy of the tree that a test may damage."""
    root = tree.swb1.parent
    shutil.copytree(root, tmp_path / "discs")
    places = {key: tmp_path / "discs" / getattr(tree, key).relative_to(root) for key in tree.settings}
    audio = {name: tmp_path / "discs" / path.relative_to(root) for name, path in tree.audio.items()}
    return SwitchboardTree(**places, audio=audio)


def load(tree, tmp_path, *without, **settings):
    chosen = {key: path for key, path in tree.settings.items() if key not in without}
    return SwitchboardCorpus(**chosen, **settings).load(tmp_path / "cache", workers=1)


def refused(tree, tmp_path, *without, **settings):
    with pytest.raises(UserError) as caught:
        load(tree, tmp_path, *without, **settings)
    assert not (tmp_path / "cache/switchboard/prepared").exists()
    return str(caught.value)


def swb1_cuts(corpus):
    return {cut.id: cut for split in ("train", "dev", "held_out") for cut in corpus.splits[split]}


def transcript(tree, name):
    return next(tree.transcripts.rglob(f"{name}-ms98-a-trans.text"))


@pytest.mark.run
def test_missing_conversations_that_do_not_make_up_the_release_are_named_with_disc_and_file(
    copy, tmp_path, monkeypatch
):
    small_discs(monkeypatch)
    monkeypatch.setattr(switchboard_discs, "CONVERSATIONS", (8, 8))
    copy.audio["sw03405"].unlink()
    message = refused(copy, tmp_path)
    assert "holds 5 conversations; LDC97S62 has 8" in message
    assert "no audio of sw03405 (swb1_d3 or swb1_d4): looked for files like sw03405.sph" in message
    assert "--allow-missing" in message
    table = copy.swb1 / "docs/swb1_all.dvd.tbl"
    table.parent.mkdir()
    table.write_text("".join(f"swb1_d3 {name}.sph\n" for name in ("sw03021", "sw03405")))
    assert "sw03405 (swb1_d3):" in refused(copy, tmp_path)


@pytest.mark.parametrize(
    "folders, absent, named",
    [
        (["swb1_d4"], "swb1_d4", "sw04104 (swb1_d3 or swb1_d4)"),
        (["swb1_d1", "swb1_d2"], "swb1_d1 and swb1_d2", "sw02001 (swb1_d1 or swb1_d2 or swb1_d3), "),
    ],
)
def test_a_missing_disc_is_named_with_its_conversations(copy, tmp_path, monkeypatch, folders, absent, named):
    small_discs(monkeypatch)
    monkeypatch.setattr(switchboard_discs, "CONVERSATIONS", (6, 6))
    for folder in folders:
        shutil.rmtree(copy.swb1 / folder)
    message = refused(copy, tmp_path)
    assert f"There is no audio of {named}" in message and f"Nothing of {absent} was found." in message


def test_what_is_missing_may_be_left_out_and_is_recorded(copy, tmp_path):
    copy.audio["sw03405"].unlink()
    transcript(copy, "sw2005B").unlink()
    corpus = load(copy, tmp_path, allow_missing=True)
    assert corpus.dropped == []
    assert corpus.left_out == [
        ("sw02005-B", "audio without transcript"),
        ("sw03405-A", "transcript without audio"),
        ("sw03405-B", "transcript without audio"),
    ]
    assert {cut.supervisions[0].speaker for cut in swb1_cuts(corpus).values()} == {
        f"{name}-{side}"
        for name, *_ in DISCS
        for side in "AB"
        if name != "sw03405" and (name, side) != ("sw02005", "B")
    }
    facts = json.loads((tmp_path / "cache/switchboard/prepared/corpus.json").read_text())
    assert facts["allow_missing"] and len(facts["missing"]) == 3 and facts["counts"]["sides"] == 9


def test_a_side_without_transcript_is_refused_by_name(copy, tmp_path, monkeypatch):
    small_discs(monkeypatch)
    transcript(copy, "sw2005B").unlink()
    message = refused(copy, tmp_path)
    assert "no transcripts of both sides of sw02005 (swb1_d1): looked for files like sw2005A-ms98-a" in message


def full_discs(root, count):
    """`count` empty files named like conversations, and the names of all sides of 2,438."""
    names = [f"sw0{number}" for number in range(2001, 2001 + 2438)]
    for number, name in enumerate(names[:count]):
        file = root / f"swb1_d{1 + number // 700}/data/{name}.sph"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return Audio(root), dict.fromkeys((f"{name}-{side}" for name in names for side in "AB"), root)


@pytest.mark.parametrize("count, missing", [(2438, 0), (2435, 6)])
def test_2438_and_2435_conversations_are_whole_copies(tmp_path, count, missing):
    audio, sides = full_discs(tmp_path, count)
    assert len(check_conversations(audio, sides)) == missing


@pytest.mark.parametrize("count, lost", [(2437, 1), (2434, 4)])
def test_single_conversations_that_transcripts_tell_of_may_lack(tmp_path, count, lost):
    audio, sides = full_discs(tmp_path, count)
    assert len(check_conversations(audio, sides)) == 2 * lost == 2 * len(lost_conversations(audio, sides))


@pytest.mark.parametrize("count, told, named", [(2437, 2437, "holds 2437"), (1000, 2438, "and 1426 more")])
def test_a_disc_that_lacks_and_a_conversation_that_nothing_tells_of_are_refused(tmp_path, count, told, named):
    audio, sides = full_discs(tmp_path, count)
    with pytest.raises(UserError) as caught:
        check_conversations(audio, dict(list(sides.items())[: 2 * told]))
    assert f"holds {count} conversations; LDC97S62 has 2,438" in str(caught.value) and named in str(caught.value)


def test_2435_conversations_of_which_others_than_three_lack_are_refused(tmp_path):
    audio, sides = full_discs(tmp_path, 2435)
    with pytest.raises(UserError, match="holds 2435 conversations.* There is no audio of sw04436"):
        check_conversations(audio, sides | {"sw04439-A": tmp_path, "sw04439-B": tmp_path})


@pytest.mark.parametrize(
    "setting, files, looks",
    [
        ("swb1", ["audio/000/fe_03_00001.sph"], "Fisher"),
        ("swb1", ["11-1.1/wsj0/si_tr_s/01i/01ic0201.wv1"], "WSJ"),
        (
            "swb1",
            ["20/2001/sw2001A-ms98-a-trans.text"],
            r"Mississippi State transcripts of Switchboard \(transcripts=\)",
        ),
        ("swb1", ["english/sw_4390.sph"], "Hub5 2000 evaluation"),
        ("swb1", [], "it is empty"),
        ("transcripts", ["swb1_d1/data/sw02001.sph"], r"audio of Switchboard \(swb1=, LDC97S62\)"),
        ("transcripts", ["data/trans/000/fe_03_00001.txt"], "Fisher"),
        ("transcripts", ["TRAIN/DR1/FCJF0/SA1.TXT"], "TIMIT"),
        ("eval2000", ["swb1_d1/data/sw02001.sph"], "audio of Switchboard"),
        ("eval2000", ["reference/en20000405_hub5.glm"], r"references of the Hub5 2000 evaluation \(references="),
        ("references", ["english/en_4156.sph"], r"Hub5 2000 evaluation \(eval2000=, LDC2002S09"),
        ("references", ["readme.txt", "a.py"], "it holds 2 files such as a.py, readme.txt"),
    ],
)
def test_the_folder_of_another_corpus_is_recognized(tree, tmp_path, monkeypatch, setting, files, looks):
    small_discs(monkeypatch)
    other = tmp_path / "other"
    other.mkdir()
    for name in files:
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).touch()
    with pytest.raises(UserError, match=rf"{setting}=.*other holds no .*: .*{looks}"):
        SwitchboardCorpus(**tree.settings | {setting: str(other)}).load(tmp_path / "cache", workers=1)
    assert not (tmp_path / "cache").exists()


def test_recordings_that_are_broken_or_missing_are_dropped_by_the_name_of_every_utterance(copy, tmp_path, monkeypatch):
    small_discs(monkeypatch)
    monkeypatch.setattr(switchboard_discs, "CONVERSATIONS", (6, 6))
    spoiled = copy.audio["sw04104"]
    spoiled.write_bytes(spoiled.read_bytes()[:-100])
    copy.audio["sw03405"].unlink()
    corpus = load(copy, tmp_path)
    assert len(swb1_cuts(corpus)) == 32
    reasons = dict(corpus.dropped)
    sides = {}
    for name, reason in reasons.items():
        sides.setdefault(name.partition("_")[0], []).append(reason)
    assert {side: len(utterances) for side, utterances in sides.items()} == dict.fromkeys(
        ("sw03405-A", "sw03405-B", "sw04104-A", "sw04104-B"), 4
    )
    assert set(sides["sw03405-A"]) == {"missing audio: sw03405.sph is not there"}
    assert sides["sw04104-B"][0].startswith(f"unreadable audio: {spoiled} is cut short")
    # the splits are made of the others, in either way
    assert corpus.dropped_of(None) == corpus.dropped and corpus.dropped_of("test") == []
    kaldi = SwitchboardCorpus(split="kaldi", dev_utterances=8).load(tmp_path / "cache")
    assert kaldi.dropped_of(None) == corpus.dropped


def test_recordings_of_one_channel_or_another_rate_are_dropped_and_refused_where_none_is_left(
    copy, tmp_path, monkeypatch
):
    small_discs(monkeypatch)
    write_sphere(copy.audio["sw02001"], numpy.zeros((8000, 1), numpy.int16), RATE, "ulaw")
    write_sphere(copy.audio["sw02005"], numpy.zeros((8000, 2), numpy.int16), 16000, "ulaw")
    for name in ("sw02010", "sw03021", "sw03405", "sw04104"):
        copy.audio[name].write_bytes(b"")
    message = refused(copy, tmp_path)
    assert "48 audio files, and none of them can be used (32 × empty audio; 16 × unreadable audio)" in message
    assert f"{copy.audio['sw02001']} has 1 channel" in message


def test_a_broken_recording_of_the_evaluation_is_dropped_and_scored_as_silence(copy, tmp_path, monkeypatch):
    small_discs(monkeypatch)
    spoiled = copy.audio["sw_4390"]
    spoiled.write_bytes(spoiled.read_bytes()[:-100])
    corpus = load(copy, tmp_path)
    dropped = [name for name, _ in corpus.dropped_of("test")]
    assert len(dropped) == 8 and dropped == [name for name, _ in corpus.dropped_of("eval2000_swbd")]
    assert corpus.dropped_of("eval2000_callhm") == [] and len(corpus.splits["test"]) == 8
    assert "sw_4390" in (corpus.scoring["test"] / "reference.stm").read_text()


@pytest.mark.parametrize(
    "line, problem",
    [
        ("sw2001A-ms98-a-0099 1.0", "is not of the form"),
        ("hello there 1.0 2.0", "is not of the form"),
        ("sw2001B-ms98-a-0099 1.0 2.0 hello", "is of another side, sw2001B-ms98-a-0099"),
        ("sw2001A-ms98-a-0099 one 2.0 hello", "has times that are not numbers: one 2.0"),
        ("sw2001A-ms98-a-0099 2.0 1.0 hello", "has impossible times: 2.0 to 1.0"),
        ("sw2001A-ms98-a-0099 -1 nan hello", "has impossible times"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_with_its_file(copy, tmp_path, monkeypatch, line, problem):
    small_discs(monkeypatch)
    path = transcript(copy, "sw2001A")
    path.write_text(path.read_text() + f"\n{line}\n")
    message = refused(copy, tmp_path)
    # nine lines and an empty one before it
    assert "1 lines of the transcripts cannot be used" in message and f"{path}:11 {problem}" in message


def test_lines_that_cannot_be_used_may_be_left_out_by_name(copy, tmp_path):
    path = transcript(copy, "sw2001A")
    path.write_text(path.read_text() + "nonsense\n")
    corpus = load(copy, tmp_path, allow_missing=True)
    assert [key for key, _ in corpus.left_out] == [f"{path}:10"] and len(swb1_cuts(corpus)) == 48


def test_lines_without_words_or_too_short_are_left_out_by_name_and_silence_is_counted(copy, tmp_path, monkeypatch):
    small_discs(monkeypatch)
    path = transcript(copy, "sw2001A")
    lines = path.read_text().splitlines()
    lines[0] = "sw2001A-ms98-a-0001 0.000000 0.050000 oh"
    lines[2] = " ".join(lines[2].split()[:3])
    path.write_text("\n".join(lines))
    corpus = load(copy, tmp_path)
    reasons = dict(corpus.left_out)
    assert reasons.pop("sw02001-A_000000-000005") == "shorter than 0.1 s"
    assert list(reasons.values()) == ["no words in its line"]
    counts = json.loads((tmp_path / "cache/switchboard/prepared/corpus.json").read_text())["counts"]
    assert counts["silence"] == 58 and counts["utterances"] == 48 == len(swb1_cuts(corpus))


def test_an_utterance_is_cut_at_the_end_of_the_audio_or_left_out_where_it_ends_long_after(copy, tmp_path, monkeypatch):
    small_discs(monkeypatch)
    monkeypatch.setattr("asr.data.corpora.switchboard.preparation.MOST_BEYOND", 0.05)
    path = transcript(copy, "sw2001B")
    end = read_sphere_header(copy.audio["sw02001"]).samples / RATE
    lines = [
        f"sw2001B-ms98-a-0100 {end - 0.3:.6f} {end + 0.2:.6f} oh",
        f"sw2001B-ms98-a-0101 {end:.6f} {end + 2:.6f} no",
    ]
    path.write_text(path.read_text() + "\n".join(lines))
    corpus = load(copy, tmp_path)
    (cut,) = (cut for cut in swb1_cuts(corpus).values() if cut.supervisions[0].text == "oh")
    assert cut.load_audio().shape == (1, round(0.3 * RATE)) and cut.supervisions[0].duration == cut.duration
    assert [reason for _, reason in corpus.left_out] == [f"ends after its audio: {path}:11"] and corpus.dropped == []


def test_transcripts_of_other_recordings_are_refused(copy, tmp_path, monkeypatch):
    small_discs(monkeypatch)
    silence = numpy.zeros((RATE, 2), numpy.int16)
    for name, *_ in DISCS:
        write_sphere(copy.audio[name], silence, RATE, "ulaw")
    message = refused(copy, tmp_path)
    assert "utterances end after their audio ends" in message and "do not belong to the audio in" in message


def test_an_evaluation_that_is_off_by_a_segment_is_refused(copy, tmp_path, monkeypatch):
    small_discs(monkeypatch)
    (stm,) = copy.references.rglob("*.stm")
    lines = stm.read_text().splitlines(keepends=True)
    stm.write_text("".join(line for line in lines if "en_4156 A en_4156_A 0.50" not in line))
    message = refused(copy, tmp_path)
    assert f"{stm} has 15 segments of eval2000 to score, not 16" in message and "of eval2000_callhm" in message
    assert "eval2000_swbd" not in message
    assert len(load(copy, tmp_path, allow_missing=True).splits["test"]) == 15


def test_an_evaluation_with_more_than_it_has_is_refused(copy, tmp_path, monkeypatch):
    small_discs(monkeypatch)
    (stm,) = copy.references.rglob("*.stm")
    stm.write_text(stm.read_text().replace("OH YEAH", "OH YEAH YEAH", 1))
    assert f"{stm} has 105 words of eval2000 to score, not 104" in refused(copy, tmp_path)
    monkeypatch.setattr("asr.data.corpora.switchboard.eval2000.CONVERSATIONS", 1)
    assert "there are 2 conversations, not 1: en_4156, sw_4390" in refused(copy, tmp_path)


def test_a_channel_of_the_references_that_is_no_side_is_refused_by_its_line(copy, tmp_path, monkeypatch):
    small_discs(monkeypatch)
    (stm,) = copy.references.rglob("*.stm")
    stm.write_text(stm.read_text().replace("en_4156 B en_4156_B", "en_4156 C en_4156_B"))
    assert "has the channel 'C', which is neither A nor B" in refused(copy, tmp_path)


def test_an_evaluation_without_one_of_its_recordings_is_refused_by_name(copy, tmp_path, monkeypatch):
    small_discs(monkeypatch)
    copy.audio["sw_4390"].unlink()
    assert "sw_4390: transcript without audio" in refused(copy, tmp_path)
    corpus = load(copy, tmp_path, allow_missing=True)
    assert set(corpus.splits) == {"train", "dev", "test", "eval2000_callhm", "held_out"}
    assert "sw_4390" not in (corpus.scoring["test"] / "reference.stm").read_text()


def test_what_was_prepared_without_all_is_not_taken_for_complete_afterwards(copy, tmp_path, monkeypatch):
    small_discs(monkeypatch)
    absent = {name: copy.audio[name].rename(tmp_path / f"{name}.sph") for name in ("sw03405", "sw04104")}
    load(copy, tmp_path, allow_missing=True)
    for name, place in absent.items():
        place.rename(copy.audio[name])
    with pytest.raises(UserError) as caught:
        load(copy, tmp_path)
    assert "was prepared with --allow-missing" in str(caught.value) and "no audio of sw03405" in str(caught.value)
    assert len(swb1_cuts(load(copy, tmp_path, allow_missing=True))) == 32
    assert SwitchboardCorpus().load(tmp_path / "cache", workers=1).splits["train"]
    shutil.rmtree(tmp_path / "cache")
    load(copy, tmp_path, allow_missing=True)
    assert len(swb1_cuts(load(copy, tmp_path))) == 48


def test_a_conversation_that_is_there_twice_is_refused_by_name(copy, tmp_path, monkeypatch):
    small_discs(monkeypatch)
    (copy.eval2000 / "again").mkdir()
    shutil.copy(copy.audio["sw_4390"], copy.eval2000 / "again/SW_4390.SPH")
    assert "sw_4390 exists twice: " in refused(copy, tmp_path)


def test_audio_and_references_of_eval2000_belong_together(tree, tmp_path):
    assert "references is not given" in refused(tree, tmp_path, "references")
    assert "eval2000 is not given" in refused(tree, tmp_path, "eval2000")


def test_settings_that_cannot_be_are_refused(tmp_path):
    for settings, problem in (
        ({"words": "heard"}, "words=heard is not one of the choices.*said"),
        ({"split": "kalid"}, "did you mean kaldi"),
        ({"dev_fraction": 2}, "dev_fraction=2"),
        ({"most_copies": 0}, "most_copies=0 is not a whole number"),
        ({}, "python scripts/prepare.py switchboard swb1=FOLDER transcripts=FOLDER"),
        ({"swb1": "/nowhere", "transcripts": "/nowhere"}, "There is no folder /nowhere"),
    ):
        with pytest.raises(UserError, match=problem):
            SwitchboardCorpus(**settings).load(tmp_path)


def test_a_folder_that_cannot_be_listed_is_named(copy, tmp_path, monkeypatch):
    small_discs(monkeypatch)
    closed = copy.audio["sw02001"].parent
    scandir = os.scandir

    def refusing(path):
        # root may list everything, whatever the folder's mode
        if os.fspath(path) == os.fspath(closed):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert (
        refused(copy, tmp_path, allow_missing=True)
        == f"The folder {closed} cannot be listed: Permission denied. Make it readable."
    )

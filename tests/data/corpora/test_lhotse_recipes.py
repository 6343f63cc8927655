"""LibriSpeech and mini LibriSpeech by lhotse's recipe: the result of a complete tree, and everything refused by name."""

import json
import shutil

import numpy
import pytest
import soundfile

from asr.config.checks import check_overrides
from asr.data.corpora import corpora, librispeech
from asr.data.corpora.preparing.recipes import Findings, by_recipe, paired
from asr.errors import UserError
from tests.support.recipe_trees import RATE, noise, write_librispeech

SMALL = {"train-clean-100": 12, "train-clean-360": 6, "dev-clean": 5, "dev-other": 4, "test-clean": 5, "test-other": 4}


def load(name, tmp_path, **settings):
    return corpora.create({"name": name, **settings}).load(tmp_path / "cache", workers=1)


def ids(cuts):
    return [cut.id for cut in cuts]


def corpus_json(tmp_path, name):
    return json.loads((tmp_path / "cache" / name / "prepared/corpus.json").read_text())


@pytest.fixture
def small_librispeech(tmp_path, monkeypatch):
    """A tree of all parts but train-other-500, which counts as complete with a few utterances each."""
    for part, count in SMALL.items():
        monkeypatch.setitem(librispeech.PUBLISHED, part, count)
    return tmp_path / "LibriSpeech", write_librispeech(tmp_path / "LibriSpeech", SMALL)


# LibriSpeech


def test_librispeech_is_used_where_it_lies_and_lhotse_reads_it(small_librispeech, tmp_path):
    root, made = small_librispeech
    corpus = load("librispeech", tmp_path, path=str(root))
    assert ids(corpus.splits["train"]) == made["train-clean-100"]
    assert ids(corpus.splits["dev"]) == made["dev-clean"] and ids(corpus.splits["test"]) == made["test-clean"]
    cut = next(iter(corpus.splits["train"]))
    (supervision,) = cut.supervisions
    assert (cut.id, supervision.speaker, supervision.language) == ("84-1084-0000", "84", "en")
    assert supervision.text == "A CHAIR STOOD BY THE OPEN WINDOW 84-1084-0000"
    assert cut.recording.sources[0].source == str(root / "train-clean-100/84/1084/84-1084-0000.flac")
    assert numpy.array_equal(cut.load_audio()[0], noise(1).astype(numpy.float32) / 32768)
    assert corpus.dropped == [] and corpus.sample_rate == RATE
    assert corpus_json(tmp_path, "librispeech")["utterances"] == SMALL


def test_every_other_part_is_a_split_of_its_own_name(small_librispeech, tmp_path):
    root, made = small_librispeech
    corpus = load("librispeech", tmp_path, path=str(root.parent))  # the folder above will do
    assert list(corpus.splits) == ["train", "dev", "test", "dev-other", "test-other", "train-clean-360"]
    assert ids(corpus.splits["test-other"]) == made["test-other"]
    assert corpus.split_called("dev-clean") == "dev"


@pytest.mark.parametrize("train", ["train-clean-100,train-clean-360", ["train-clean-100", "train-clean-360"]])
def test_parts_are_chosen_when_the_corpus_is_loaded_and_the_discs_are_needed_once(small_librispeech, tmp_path, train):
    root, made = small_librispeech
    load("librispeech", tmp_path, path=str(root))
    corpus = load("librispeech", tmp_path, train=train, test="test-other")
    assert ids(corpus.splits["train"]) == made["train-clean-100"] + made["train-clean-360"]
    assert ids(corpus.splits["test"]) == made["test-other"] and ids(corpus.splits["test-clean"]) == made["test-clean"]
    with pytest.raises(UserError, match="prepared without train-other-500 .*it has .*train-clean-360"):
        load("librispeech", tmp_path, train="train-other-500")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": "train-clean-10"}, "no part 'train-clean-10'.*did you mean train-clean-100"),
        ({"dev": "test-clean"}, "part test-clean is chosen for dev and for test"),
        ({"test": []}, "test is empty"),
        ({}, "python scripts/prepare.py librispeech path=FOLDER"),
    ],
)
def test_a_wrong_choice_of_parts_gets_a_sentence_before_anything_is_read(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        load("librispeech", tmp_path, **settings)


def test_a_part_that_is_not_there_is_named_with_its_archive(small_librispeech, tmp_path):
    root, _ = small_librispeech
    shutil.rmtree(root / "test-clean")
    with pytest.raises(UserError, match=r"lacks test-clean; it has .*dev-other.*\. Unpack test-clean\.tar\.gz"):
        load("librispeech", tmp_path, path=str(root))


def test_a_part_of_several_may_be_missing_if_that_is_allowed(small_librispeech, tmp_path):
    root, made = small_librispeech
    corpus = load("librispeech", tmp_path, path=str(root), train="train-clean-100,train-other-500", allow_missing=True)
    assert ids(corpus.splits["train"]) == made["train-clean-100"]
    missing = corpus_json(tmp_path, "librispeech")["incomplete"]
    assert missing == ["train-other-500: 0 of 148,688 utterances, 148,688 missing."]


def test_utterances_without_audio_or_transcript_are_named_and_one_that_nothing_names_is_missed(
    small_librispeech, tmp_path
):
    root, made = small_librispeech
    (root / "dev-clean/89/1089/89-1089-0002.flac").unlink()
    (root / "test-clean/92/1092/92-1092-0001.flac").rename(root / "test-clean/92/1092/92-1092-0009.flac")
    corpus = load("librispeech", tmp_path, path=str(root))
    assert corpus.dropped == [
        (name, f"missing audio: {name}.flac is not there") for name in ("89-1089-0002", "92-1092-0001")
    ]
    assert [len(corpus.dropped_of(split)) for split in ("train", "dev", "test", None)] == [0, 1, 1, 0]
    assert corpus.left_out == [("92-1092-0009", "audio without transcript")]
    assert ids(corpus.splits["dev"]) == [utterance for utterance in made["dev-clean"] if utterance != "89-1089-0002"]
    assert all(cut.load_audio().shape == (1, 1600) for cuts in corpus.splits.values() for cut in cuts)
    assert corpus.incomplete == []
    # without the line, nothing names the utterance
    table = root / "dev-other/91/1091/91-1091.trans.txt"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(UserError) as caught:
        load("librispeech", tmp_path / "other", path=str(root))
    said = str(caught.value)
    assert "missing audio: 2 utterances (89-1089-0002: 89-1089-0002.flac is not there, " in said
    assert "audio without transcript: 2 utterances (91-1091-0000, 92-1092-0009)." in said
    assert "dev-other: 3 of 4 utterances, 1 missing." in said and "allow_missing=true" in said
    assert not (tmp_path / "other/cache/librispeech/prepared").exists()
    corpus = load("librispeech", tmp_path / "other", path=str(root), allow_missing=True)
    assert corpus.incomplete == ["dev-other: 3 of 4 utterances, 1 missing."] and len(corpus.dropped) == 2


def test_missing_chapters_are_named_by_the_list_of_chapters(small_librispeech, tmp_path):
    root, _ = small_librispeech
    shutil.rmtree(root / "train-clean-100/85")
    with pytest.raises(UserError, match="train-clean-100: 8 of 12 utterances, 4 missing: all of chapter 85/1085"):
        load("librispeech", tmp_path, path=str(root))


def test_an_utterance_too_many_is_noticed(small_librispeech, tmp_path):
    root, _ = small_librispeech
    folder = root / "dev-other/91/1091"
    shutil.copy(folder / "91-1091-0000.flac", folder / "91-1091-0004.flac")
    with open(folder / "91-1091.trans.txt", "a") as file:
        file.write("91-1091-0004 ONE MORE\n")
    with pytest.raises(UserError, match="dev-other: 5 of 4 utterances, 1 too many"):
        load("librispeech", tmp_path, path=str(root))


def spoilt(path, how):
    whole = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "cut short":
        path.write_bytes(whole[:-1])
    elif how == "damaged in the middle":
        path.write_bytes(whole[: len(whole) // 2] + bytes(300) + whole[len(whole) // 2 + 300 :])
    else:
        soundfile.write(path, noise(1), 8000)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("empty", "empty audio: 87-1087-0001.flac is empty"),
        ("cut short", "unreadable audio: 87-1087-0001.flac is "),
        ("damaged in the middle", "unreadable audio: 87-1087-0001.flac is damaged"),
        ("at another rate", "unreadable audio: 87-1087-0001.flac is not mono 16-bit FLAC at 16000 Hz"),
    ],
)
def test_audio_that_cannot_be_used_is_dropped_by_name(small_librispeech, tmp_path, how, reason):
    root, _ = small_librispeech
    spoilt(root / "train-clean-360/87/1087/87-1087-0001.flac", how)
    corpus = load("librispeech", tmp_path, path=str(root))
    assert [utterance for utterance, _ in corpus.dropped_of("train-clean-360")] == ["87-1087-0001"]
    assert corpus.dropped[0][1].startswith(reason) and len(corpus.splits["train-clean-360"]) == 5


def test_a_transcript_without_words_is_left_out_by_name_and_one_of_another_chapter_refused(small_librispeech, tmp_path):
    root, _ = small_librispeech
    table = root / "dev-clean/89/1089/89-1089.trans.txt"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(["89-1089-0000", *lines[1:]]) + "\n")
    corpus = load("librispeech", tmp_path, path=str(root))
    assert corpus.dropped == [("89-1089-0000", "no words in the transcript")] and len(corpus.splits["dev"]) == 4
    table.write_text("\n".join(["84-1084-0000 OF ANOTHER", *lines[1:]]) + "\n")
    with pytest.raises(UserError, match=r"89-1089.trans.txt:1: expected an utterance of 89/1089, such as 89-1089-0000"):
        load("librispeech", tmp_path / "other", path=str(root))


def test_alignments_become_words_with_times(small_librispeech, tmp_path):
    root, _ = small_librispeech
    folder = tmp_path / "aligned/dev-clean/89/1089"
    folder.mkdir(parents=True)
    (folder / "89-1089.alignment.txt").write_text('89-1089-0001 ",NOBODY,KNEW," "0.02,0.05,0.09,0.1"\n')
    corpus = load("librispeech", tmp_path, path=str(root), alignments=str(tmp_path / "aligned"))
    first, second = list(corpus.splits["dev"])[:2]
    assert first.supervisions[0].alignment is None
    words = [(item.symbol, item.start, item.duration) for item in second.supervisions[0].alignment["word"]]
    assert words == [("", 0.0, 0.02), ("NOBODY", 0.02, 0.03), ("KNEW", 0.05, 0.04), ("", 0.09, 0.01)]


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["TRAIN/DR1", "TEST", "DR1"], r"it looks like timit \(corpus=timit\)"),
        (["train-clean-5"], r"it looks like mini_librispeech"),
        (["LibriSpeech/train-clean-5"], r"it looks like mini_librispeech"),
        (["13-1.1"], r"it looks like wsj"),
        (["photographs", "letters"], "it holds letters, photographs"),
        ([], "it is empty"),
    ],
)
def test_a_directory_of_another_corpus_is_called_by_its_name(tmp_path, folders, said):
    root = tmp_path / "discs"
    root.mkdir()
    for folder in folders:
        (root / folder).mkdir(parents=True)
    with pytest.raises(UserError, match=f"is not librispeech: it has none of the parts .*; {said}"):
        load("librispeech", tmp_path, path=str(root))


def test_other_discs_than_those_prepared_from_are_refused(small_librispeech, tmp_path):
    root, _ = small_librispeech
    load("librispeech", tmp_path, path=str(root))
    (tmp_path / "copy").mkdir()
    with pytest.raises(UserError, match="was prepared from path=.*LibriSpeech, not from path=.*copy"):
        load("librispeech", tmp_path, path=str(tmp_path / "copy"))


def test_what_a_recipe_leaves_out_or_stops_at_is_told():
    findings = Findings()
    paired({"recordings": [], "supervisions": []}, {"b": "train"}, findings)
    assert findings.dropped == [("b", "left out by lhotse's recipe")] and findings.dropped_in == {"train": ["b"]}
    assert findings.settle("tree", False, "Again.") == []
    findings.compare_size("train", 1, 2)
    with pytest.raises(UserError, match=r"left out by lhotse's recipe: 1 utterance \(b\)"):
        findings.settle("tree", False, "Again.")

    def prepare_nothing(place):
        raise AssertionError("no such directory")

    with pytest.raises(UserError, match=r"prepare_nothing stopped at tree \(AssertionError: no such directory\)"):
        by_recipe(prepare_nothing, "tree")


def test_the_parts_may_be_given_on_the_command_line_as_a_name_or_a_list():
    for train in ("train-clean-360", "[train-clean-100,train-clean-360]"):
        check_overrides("train", ["corpus=librispeech", f"corpus.train={train}", "corpus.path=somewhere"])


# mini LibriSpeech


def test_mini_librispeech_has_the_published_counts_and_a_test_split_of_other_speakers(tmp_path):
    write_librispeech(tmp_path / "LibriSpeech", {"train-clean-5": 1519, "dev-clean-2": 1089}, per_chapter=40)
    corpus = load("mini_librispeech", tmp_path, path=str(tmp_path / "LibriSpeech"))
    sizes = {split: len(cuts) for split, cuts in corpus.splits.items()}
    assert sizes["train"] == 1519 and sizes["dev-clean-2"] == 1089 and sizes["dev"] + sizes["test"] == 1089
    dev, test = ({cut.supervisions[0].speaker for cut in corpus.splits[split]} for split in ("dev", "test"))
    assert len(dev) == len(test) == 14 and not dev & test
    assert sorted(ids(corpus.splits["dev"]) + ids(corpus.splits["test"])) == ids(corpus.splits["dev-clean-2"])
    assert corpus.split_called("train-clean-5") == "train" and corpus.dropped == []


def test_mini_librispeech_notices_one_utterance_less(tmp_path):
    write_librispeech(tmp_path / "LibriSpeech", {"train-clean-5": 8, "dev-clean-2": 8})
    with pytest.raises(UserError, match="train-clean-5: 8 of 1,519 utterances, 1,511 missing"):
        load("mini_librispeech", tmp_path, path=str(tmp_path / "LibriSpeech"))
    corpus = load("mini_librispeech", tmp_path, path=str(tmp_path / "LibriSpeech"), allow_missing=True)
    assert [len(corpus.splits[split]) for split in ("train", "dev", "test")] == [8, 4, 4]

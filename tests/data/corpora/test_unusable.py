"""One rule for all corpora: empty, damaged or missing audio is named and counted; few are dropped, too many refused."""

import shutil
from pathlib import Path

import numpy
import pytest
import soundfile

from asr.data.corpora import corpora, librispeech, mini_librispeech, timit
from asr.data.corpora.preparing.names import find_files
from asr.data.corpora.switchboard import discs as switchboard_discs
from asr.data.dropped import refuse_unusable
from asr.errors import UserError
from tests.data.corpora.test_asterisk import write_g722
from tests.data.corpora.test_timit import DEV, TEST, TRAIN
from tests.support import switchboard_tree
from tests.support.recipe_trees import write_common_voice, write_librispeech, write_timit
from tests.support.wsj_tree import small_sets, write_wsj

KINDS = ("empty", "damaged", "missing")


def tone(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * numpy.sin(numpy.arange(8000) * (0.05 + 0.003 * number)), 16000)
    return path


def folder(root, patch):
    files = [tone(root / f"{number}.wav", number) for number in range(24)]
    (root / "transcripts.tsv").write_text("".join(f"{file.name}\twords\tann\n" for file in files))
    return {"path": str(root)}, {file.name: file for file in files[:3]}


def cuts(root, patch):
    from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

    files, settings = {}, {}
    for split, count in (("train", 20), ("dev", 2), ("test", 2)):
        made = []
        for number in range(count):
            name = f"{split}{number}"
            files[name] = tone(root / f"{name}.wav", number)
            told = SupervisionSegment(name, name, 0.0, 0.5, text="words", speaker="ann")
            made.append(MonoCut(name, 0.0, 0.5, 0, [told], recording=Recording.from_file(files[name])))
        settings[split] = str(root / f"{split}.jsonl.gz")
        CutSet.from_cuts(made).to_file(settings[split])
    return settings, {name: files[name] for name in ("train0", "train1", "train2")}


def asterisk(root, patch):
    documents = root / "usr/share/doc/asterisk-core-sounds-en"
    documents.mkdir(parents=True)
    sounds = root / "usr/share/asterisk/sounds/en_US_f_Nobody"
    words = "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa".split()
    (documents / "core-sounds-en.txt").write_text("".join(f"{word}: {word}\n" for word in words))
    for word in words:
        write_g722(sounds / f"{word}.g722", 0.5)
    # headerless: only an empty file shows damage; and the packages list more prompts than they have
    return {"packages": str(root)}, {"alpha": sounds / "alpha.g722"}


def libri(root, patch, name, published, parts, first):
    for part, count in parts.items():
        patch.setitem(published, part, count)
    made = write_librispeech(root, parts)
    chosen = made[first][:3]
    return {"path": str(root)}, {each: next(root.rglob(f"{each}.flac")) for each in chosen}


def librispeech_tree(root, patch):
    parts = {"train-clean-100": 12, "dev-clean": 4, "test-clean": 4}
    return libri(root, patch, "librispeech", librispeech.PUBLISHED, parts, "train-clean-100")


def mini_librispeech_tree(root, patch):
    parts = {"train-clean-5": 12, "dev-clean-2": 8}
    return libri(root, patch, "mini_librispeech", mini_librispeech.PUBLISHED, parts, "train-clean-5")


def timit_tree(root, patch):
    for split, count in (("train", 24), ("dev", 8), ("test", 8)):
        patch.setitem(timit.PUBLISHED, split, count)
    write_timit(root, {"TRAIN": TRAIN, "TEST": [DEV[0], TEST[0]]})
    return {"path": str(root)}, {f"FCJF0-SX{n}": root / f"TRAIN/DR1/FCJF0/SX{n}.WAV" for n in (0, 90, 180)}


def common_voice(root, patch):
    rows = {split: [("c", f"{split}{at}.mp3", f"words {at}") for at in range(6)] for split in ("train", "dev", "test")}
    write_common_voice(root / "cy", rows)
    return {"path": str(root / "cy")}, {f"train{at}": root / f"cy/clips/train{at}.mp3" for at in range(3)}


def wsj(root, patch):
    small_sets(patch)
    tree = write_wsj(root)
    return tree.settings(), {name: tree.audio[name] for name in ("46uc0201", "46uc0202", "46uc0203")}


def switchboard(root, patch):
    switchboard_tree.small_discs(patch, phrases=1)
    patch.setattr(switchboard_discs, "CONVERSATIONS", (6, 6))
    tree = switchboard_tree.write_tree(root, phrases=1, evaluation=False)
    names = ("sw02001", "sw02005", "sw03405")
    settings = {key: tree.settings[key] for key in ("swb1", "transcripts")}
    return settings, {name: tree.audio[name] for name in names}


# the tree of each corpus: (root, monkeypatch) → (settings, files to spoil by what names them in `dropped`)
TREES = {
    "folder": folder, "cuts": cuts, "asterisk": asterisk, "librispeech": librispeech_tree,
    "mini_librispeech": mini_librispeech_tree, "timit": timit_tree, "common_voice": common_voice, "wsj": wsj,
    "switchboard": switchboard,
}  # fmt: skip


def spoil(path: Path, kind: str) -> None:
    whole = path.read_bytes()
    path.unlink()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "damaged":
        path.write_bytes(whole[: len(whole) // 2] if path.suffix != ".mp3" else b"no audio at all" * 100)


def dropped_as(corpus, settings):
    """(utterance, reason) of preparing and, as headers are looked at before training, of checking."""
    from asr.data.checks import unusable_audio

    found = dict(corpus.dropped)
    for members in corpus.splits.values():
        found |= {cut.id: reason for cut in members if (reason := unusable_audio(cut))}
    return found


def test_every_corpus_that_reads_files_is_here():
    # the spoken corpus makes its own files; kaldi and nemo have tests of their own
    assert set(TREES) >= set(corpora.names()) - {"spoken", "kaldi", "nemo"}


@pytest.mark.parametrize("name", TREES)
def test_one_empty_one_damaged_and_one_missing_file_are_dropped_by_name(name, tmp_path, monkeypatch):
    settings, files = TREES[name](tmp_path / "corpus", monkeypatch)
    kinds = dict(zip(files, KINDS))
    for each, path in files.items():
        spoil(path, kinds[each])
    corpus = corpora.create({"name": name, **settings}).load(tmp_path / "cache", workers=1)
    reasons = dropped_as(corpus, settings)
    for each, kind in kinds.items():
        # a conversation has two sides with an utterance each
        said = [reason for utterance, reason in reasons.items() if utterance.startswith(each)]
        expected = {"empty": "empty audio: ", "damaged": "unreadable audio: ", "missing": "missing audio: "}[kind]
        assert said and all(reason.startswith(expected) for reason in said), reasons
    assert len(reasons) == len(files) * (2 if name == "switchboard" else 1)
    if name == "cuts":  # what only its header tells is counted when the split is checked
        assert len(corpus.dropped_of("train")) == 1
    splits = [split for split in ("train", "dev", "test") if len(corpus.splits[split])]
    refuse_unusable(corpus, splits, 0.7, "data.max_dropped")
    with pytest.raises(UserError, match=r"cannot be used \(.*more than data.max_dropped=0.01 allows:\n  ") as caught:
        refuse_unusable(corpus, splits, 0.01, "data.max_dropped")
    assert any(f"\n  {utterance}: {reason}" in str(caught.value) for utterance, reason in corpus.dropped)


def test_what_an_earlier_version_prepared_is_read_and_counted_by_nothing(tmp_path, monkeypatch):
    settings, _ = folder(tmp_path / "corpus", monkeypatch)
    source = corpora.create({"name": "folder", **settings})
    source.load(tmp_path / "cache")
    (prepared,) = (tmp_path / "cache/folder").iterdir()
    (prepared / "left_out.tsv").unlink()
    (prepared / "dropped.tsv").write_text("utterance\treason\nx\tlonger than 600 s: 700 s\n")
    corpus = source.load(tmp_path / "cache")
    assert (corpus.dropped, corpus.left_out) == ([], [("x", "longer than 600 s: 700 s")])


def test_only_one_file_below_the_root_stands_for_a_name(tmp_path):
    def find_file(root, name):
        return find_files(root, [name])[0].path

    tone(tmp_path / "Dir/ONE.wav", 1)
    assert find_file(tmp_path, "dir\\one") == tmp_path / "Dir/ONE.wav"
    assert find_file(tmp_path, "Dir") == tmp_path / "Dir" and find_file(tmp_path, "two.wav") is None
    assert find_file(tmp_path, str(tmp_path / "dir/one.flac")) == tmp_path / "Dir/ONE.wav"
    assert find_file(tmp_path / "Dir", "../dir/ONE.wav") is None and find_file(tmp_path, "a\0b") is None
    # everything that transcribe.py takes for audio
    shutil.copy(tmp_path / "Dir/ONE.wav", tmp_path / "film.mkv")
    assert find_file(tmp_path, "film") == tmp_path / "film.mkv"
    # two names for one file: neither matches
    assert [match.path for match in find_files(tmp_path, ["Dir/one.wav", "dir/ONE.wav"])] == [None, None]
    shutil.rmtree(tmp_path / "Dir")
    assert find_file(tmp_path, "dir\\one") is None

"""WSJ from look-alike discs: everything is found in every layout, converted bit for bit, and missing files are named."""

import dataclasses
import gzip
import json
import shutil

import pytest
import soundfile

from asr.data.corpora import corpora
from asr.data.corpora.wsj import WsjCorpus
from asr.data.corpora.wsj.sets import SETS
from asr.errors import UserError
from tests.support.wsj_tree import COUNTS, small_sets, write_wsj


@pytest.fixture
def small(monkeypatch):
    small_sets(monkeypatch)


def load(tree, cache, **settings):
    return WsjCorpus(**tree.settings(), **settings).load(cache, workers=1)


def refusal(tree, cache, **settings):
    with pytest.raises(UserError) as caught:
        load(tree, cache, **settings)
    return str(caught.value)


def every_cut(corpus):
    return {cut.id: cut for cuts in corpus.splits.values() for cut in cuts}


def prepared_files(cache):
    """The state of all prepared files, which shows whether any was written again."""
    files = [path for path in sorted(cache.rglob("*")) if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}


@pytest.mark.parametrize("layout", ["discs", "one folder", "flat"])
def test_every_utterance_comes_out_bit_for_bit(tmp_path, small, layout):
    tree = write_wsj(tmp_path / "discs", layout)
    corpus = load(tree, tmp_path / "cache")
    cuts = every_cut(corpus)
    assert sorted(cuts) == sorted(tree.samples)
    for name, cut in cuts.items():
        samples, rate = soundfile.read(cut.recording.sources[0].source, dtype="int16")
        assert rate == corpus.sample_rate == 16000
        assert samples.tobytes() == tree.samples[name].tobytes(), name
        (supervision,) = cut.supervisions
        assert supervision.text == tree.texts[name]
        assert supervision.speaker == name[:3] and supervision.language == "en-us"


def test_the_chosen_sets_are_train_dev_and_test_and_the_others_keep_their_names(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    corpus = load(tree, tmp_path / "cache")
    assert list(corpus.splits)[:3] == ["train", "dev", "test"]
    assert corpus.aliases == {"si284": "train", "dev93": "dev", "eval92": "test"}
    for name in SETS.keys() - {"si84"}:
        assert sorted(cut.id for cut in corpus.splits[corpus.split_called(name)]) == tree.sets[name], name
        assert len(tree.sets[name]) == COUNTS[name]


def test_si84_is_a_part_of_si284_and_no_speech_is_kept_twice(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    load(tree, tmp_path / "cache")
    corpus = WsjCorpus(train="si84", dev="dev93_5k", test="eval93").load(tmp_path / "cache")
    assert sorted(cut.id for cut in corpus.splits["train"]) == tree.sets["si84"]
    assert "si284" not in corpus.splits  # it would have the utterances of train
    assert set(tree.sets["si84"]) < {cut.id for cut in WsjCorpus().load(tmp_path / "cache").splits["train"]}
    assert len(list((tmp_path / "cache").rglob("*.flac"))) == len(tree.samples)


def test_once_prepared_the_discs_are_not_needed_and_nothing_is_written(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    first = load(tree, tmp_path / "cache")
    before = prepared_files(tmp_path / "cache")
    load(tree, tmp_path / "cache")
    shutil.rmtree(tmp_path / "discs")
    corpus = WsjCorpus().load(tmp_path / "cache")
    assert every_cut(corpus).keys() == every_cut(first).keys()
    assert prepared_files(tmp_path / "cache") == before


def test_without_discs_and_without_preparation_the_command_is_said(tmp_path):
    with pytest.raises(UserError, match=r"python scripts/prepare.py wsj wsj0=FOLDER wsj1=FOLDER"):
        WsjCorpus().load(tmp_path / "cache")


def test_other_discs_than_those_it_was_prepared_from_are_refused(tmp_path, small):
    load(write_wsj(tmp_path / "discs"), tmp_path / "cache")
    assert "was prepared from" in refusal(write_wsj(tmp_path / "others"), tmp_path / "cache")


def test_every_word_has_a_pronunciation(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    corpus = load(tree, tmp_path / "cache")
    lexicon = dict(line.split(maxsplit=1) for line in corpus.lexicon.read_text().splitlines())
    words = {word for text in tree.texts.values() for word in text.split()}
    assert words <= lexicon.keys()
    assert {",COMMA", '"DOUBLE-QUOTE', "-DASH", "<NOISE>"} <= words
    assert lexicon["<NOISE>"] == "NSN" and lexicon["<SPOKEN_NOISE>"] == "SPN" and lexicon["<SIL>"] == "SIL"
    assert lexicon["*CLOSED*"] == lexicon["CLOSED"] == "K L OW Z D"


def test_what_the_rules_changed_is_counted(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    corpus = load(tree, tmp_path / "cache")
    assert corpus.normalization["name"] == "wsj"
    rules = corpus.normalization["rules"]
    assert rules["[noise]"] == sum(text.split().count("<NOISE>") for text in tree.texts.values()) > 0
    assert rules["--DASH"] == sum(text.split().count("-DASH") for text in tree.texts.values()) > 0
    assert rules["~"] == sum(text.split().count("~") for text in tree.transcripts.values()) > 0


def test_the_second_listing_of_speaker_401_is_left_out_by_name(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    corpus = load(tree, tmp_path / "cache")
    left_out = [what for what, why in corpus.left_out if "speaker 401" in why]
    assert left_out == [f"11-2.1/wsj0/si_tr_s/401/401c020{number}.wv1" for number in (1, 2, 3)]
    assert len(corpus.left_out) == 3 and corpus.dropped == []
    assert {"401c0201", "401c0202"} <= set(tree.sets["si84"]) <= every_cut(corpus).keys()


@pytest.mark.parametrize(
    "line", ["wsj0/si_tr_s/01i/01ic0201.wv1", "11_1_1:wsj0/01i/01ic0201.wv2", "11_1_1:wsj0/01i/short"]
)
def test_a_malformed_index_line_is_named(tmp_path, small, line):
    tree = write_wsj(tmp_path / "discs")
    tree.indices["dev93"].write_text(f"{tree.indices['dev93'].read_text()}{line}\n")
    number = len(tree.indices["dev93"].read_text().splitlines())
    message = refusal(tree, tmp_path / "cache")
    assert f"{tree.indices['dev93']}:{number}" in message and line in message


def test_an_index_that_is_one_line_short_is_refused(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    lines = tree.indices["eval93"].read_text().splitlines()
    tree.indices["eval93"].write_text("\n".join(lines[:-1]))
    message = refusal(tree, tmp_path / "cache")
    assert "eval93: 3 of 4 utterances can be used." in message
    assert "the index lists 3, and all of them are there: 13-32.1/wsj1/doc/indices/wsj1/eval/h1_p0.ndx" in message
    (missing,) = set(tree.sets["eval93"]) - {line.rpartition("/")[2].partition(".")[0] for line in lines[:-1]}
    assert f"speech beside that, which the index does not list: {missing} ({missing}.wv1)" in message
    assert not (tmp_path / "cache").exists()


def test_an_index_that_is_one_line_long_is_refused(tmp_path, small, monkeypatch):
    tree = write_wsj(tmp_path / "discs")
    monkeypatch.setitem(SETS, "dev93", dataclasses.replace(SETS["dev93"], counts=(COUNTS["dev93"] - 1,)))
    message = refusal(tree, tmp_path / "cache")
    assert "dev93: 4 of 3 utterances can be used." in message and "the index lists 4, and all of them" in message


def test_an_utterance_listed_twice_does_not_make_up_for_one_that_lacks(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    lines = tree.indices["dev93"].read_text().splitlines()
    tree.indices["dev93"].write_text("\n".join([*lines[:-1], lines[-2]]))
    message = refusal(tree, tmp_path / "cache")
    assert "dev93: 3 of 4 utterances can be used." in message
    assert "listed twice: 4k1c0201" in message


def test_a_missing_disc_is_named_with_the_places_and_utterances(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    shutil.rmtree(tree.wsj1 / "13-1.1")
    message = refusal(tree, tmp_path / "cache")
    assert "si284: 10 of 16 utterances can be used." in message
    assert (
        f"disc 13-1.1 is missing, looked for a folder 13-1.1 (or 13_1.1), or a folder wsj1 with all discs, below {tree.wsj1}"
        in message
    )
    assert "6 utterances: 46uc0201 (wsj1/si_tr_s/46u/46uc0201.wv1), " in message


def test_a_missing_index_is_named_with_its_disc(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    tree.indices["dev93"].unlink()
    assert "the index is not on its disc: 13-34.1/wsj1/doc/indices/h1_p0.ndx" in refusal(tree, tmp_path / "cache")


def test_an_utterance_without_transcript_is_named_with_the_malformed_line(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    dot = tree.dots["01i"]
    dot.write_text(dot.read_text().replace("(01ic0203)", "01ic0203"))
    message = refusal(tree, tmp_path / "cache")
    assert "si84: 7 of 8" in message and "si284: 15 of 16" in message
    assert f"no transcript in 01ic0200.dot; {dot}:3: expected `text (utterance)`" in message
    assert "01ic0203" in message and "01ic0202" not in message


def test_allow_missing_goes_on_and_records_what_lacks(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    tree.audio["4k0c0202"].unlink()
    tree.dots["442"].write_text("nothing of use")
    corpus = load(tree, tmp_path / "cache", allow_missing=True)
    assert [cut.id for cut in corpus.splits["dev"]] == ["4k0c0201", "4k1c0201", "4k1c0202"]
    assert "eval92_5k" not in corpus.splits
    # one recording that is missing is dropped, and needs no leave
    reasons = dict(corpus.left_out)
    (lost,) = corpus.dropped
    assert lost == ("4k0c0202", "missing audio: wsj1/si_dt_20/4k0/4k0c0202.wv1, no speech on disc 13-16.1")
    assert corpus.dropped_of("dev") == [lost] and corpus.dropped_of("train") == []
    assert all("missing in eval92_5k: no transcript in 442c0200.dot" in reasons[f"442c020{n}"] for n in (1, 2, 3))
    facts = json.loads((tmp_path / "cache/wsj/prepared/corpus.json").read_text())
    assert sorted(facts["missing"]) == ["eval92_5k"]
    assert facts["sets"]["dev93"] == {"utterances": 3, "found": 3, "complete": [4]}
    assert "was prepared with --allow-missing and eval92_5k are not complete" in refusal(tree, tmp_path / "cache")
    assert len(WsjCorpus().load(tmp_path / "cache").splits["dev"]) == 3  # to train on it, no word more is needed


def test_one_half_of_the_corpus_is_enough_where_missing_is_allowed(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    settings = {"wsj0": str(tree.wsj0), "train": "si84", "dev": "eval92_5k", "test": "eval92"}
    with pytest.raises(UserError, match="wsj1 is not given"):
        WsjCorpus(**settings).load(tmp_path / "cache")
    corpus = WsjCorpus(**settings, allow_missing=True).load(tmp_path / "cache", workers=1)
    assert {name: len(cuts) for name, cuts in corpus.splits.items()} == {"train": 8, "dev": 3, "test": 4}
    assert any("wsj1 was not given" in why for _, why in corpus.left_out) and corpus.dropped == []


def test_a_chosen_set_that_is_not_there_is_refused_before_the_work(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    with pytest.raises(
        UserError, match=r"dev=dev93: the discs have nothing of that set. Choose dev among si284, si84, eval92"
    ):
        WsjCorpus(wsj0=str(tree.wsj0), allow_missing=True).load(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    WsjCorpus(wsj0=str(tree.wsj0), train="si84", dev="eval92_5k", allow_missing=True).load(
        tmp_path / "cache", workers=1
    )
    with pytest.raises(UserError, match="test=eval93: the corpus in .* was prepared from discs that lack this set"):
        WsjCorpus(train="si84", dev="eval92_5k", test="eval93").load(tmp_path / "cache")


def test_a_recording_that_is_broken_or_missing_is_dropped_from_every_set_that_has_it(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    tree.audio["01ic0201"].write_bytes(tree.audio["01ic0201"].read_bytes()[:-300])
    tree.audio["440c0201"].unlink()
    corpus = load(tree, tmp_path / "cache")
    assert sorted(every_cut(corpus)) == sorted(tree.samples.keys() - {"01ic0201", "440c0201"})
    reasons = dict(corpus.dropped)
    assert reasons["01ic0201"].startswith(f"unreadable audio: {tree.audio['01ic0201']} is cut short")
    assert reasons["440c0201"] == "missing audio: wsj0/si_et_20/440/440c0201.wv1, no speech on disc 11-14.1"
    facts = json.loads((tmp_path / "cache/wsj/prepared/corpus.json").read_text())
    assert facts["missing"] == {} and corpus.incomplete == []
    # si84 is in si284
    other = WsjCorpus(train="si84", dev="dev93_5k", test="eval92").load(tmp_path / "cache")
    for each in (corpus, other):
        assert [[name for name, _ in each.dropped_of(split)] for split in ("train", "dev", "test")] == [
            ["01ic0201"], [], ["440c0201"]
        ]  # fmt: skip


def test_a_set_without_any_speech_is_missing_and_one_without_any_sound_recording_refused(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    for name in tree.sets["eval92"]:
        tree.audio[name].unlink()
    assert "eval92: 0 of 4 utterances can be used" in refusal(tree, tmp_path / "cache")
    for name in tree.sets["eval92"]:
        tree.audio[name].write_bytes(b"")
    said = refusal(tree, tmp_path / "cache")
    assert "test=eval92 has 4 audio files, and none of them can be used (4 × empty audio)" in said


def test_utterances_of_which_nothing_was_recorded_are_left_out_by_name(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    dot = tree.dots["4ac"]
    dot.write_text(dot.read_text().replace(f"{tree.transcripts['4acc0201']} (4acc0201)", "~~ (4acc0201)"))
    tree.audio["4acc0201"].write_bytes(b"")
    corpus = load(tree, tmp_path / "cache")
    assert ("4acc0201", "nothing was recorded") in corpus.left_out and corpus.dropped == []
    assert "4acc0201" not in every_cut(corpus)
    facts = json.loads((tmp_path / "cache/wsj/prepared/corpus.json").read_text())
    assert facts["missing"] == {} and facts["sets"]["si284"] == {"utterances": 15, "found": 16, "complete": [16]}


def test_a_damaged_preparation_is_refused(tmp_path, small):
    tree = write_wsj(tmp_path / "discs")
    load(tree, tmp_path / "cache")
    folder = tmp_path / "cache/wsj/prepared"
    (folder / "si84.txt").unlink()
    with pytest.raises(UserError, match="is damaged .*remove that folder"):
        WsjCorpus().load(tmp_path / "cache")
    (folder / "cuts_si284.jsonl.gz").write_bytes(gzip.compress(b'{"id": '))
    with pytest.raises(UserError, match="is damaged .*remove that folder"):
        WsjCorpus().load(tmp_path / "cache")


def test_settings_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(UserError, match="train=si85 is not a set of WSJ: did you mean si84"):
        WsjCorpus(train="si85").load(tmp_path)
    with pytest.raises(UserError, match="choose three different sets"):
        WsjCorpus(dev="eval92").load(tmp_path)
    with pytest.raises(UserError, match="choose three different sets"):
        WsjCorpus(dev="si84").load(tmp_path)
    with pytest.raises(UserError, match="There is no folder"):
        WsjCorpus(wsj0=str(tmp_path / "no"), wsj1=str(tmp_path / "no")).load(tmp_path)


def test_the_registry_builds_it_from_settings():
    assert corpora.create({"name": "wsj", "wsj0": "a"}) == WsjCorpus(wsj0="a")

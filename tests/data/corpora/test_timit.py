"""TIMIT: the sets of Kaldi's recipe from any copy of the disc, its gold times, and phonemes folded 61 → 48 → 39."""

import collections
import shutil

import numpy
import pytest
import soundfile
from lhotse import SupervisionSegment
from lhotse.recipes.timit import get_phonemes, get_speakers
from lhotse.supervision import AlignmentItem

from asr.data.corpora import corpora, timit
from asr.errors import UserError
from asr.text.units import BLANK, UnknownUnit, build_units, load_units
from asr.text.units.timit import FOLDING, TO_39, TO_48, TRANSCRIBED
from tests.support.recipe_trees import PHONEMES, write_timit

DEV, TEST = ([speaker.upper() for speaker in speakers] for speakers in get_speakers())
TRAIN = ["FCJF0", "MDAC0", "FDAW0"]


def load(tmp_path, root, **settings):
    return corpora.create({"name": "timit", "path": str(root), **settings}).load(tmp_path / "cache", workers=1)


@pytest.fixture
def three_to_train_on(monkeypatch):
    monkeypatch.setitem(timit.PUBLISHED, "train", 24)


@pytest.fixture
def few(monkeypatch):
    """Makes trees with one speaker per set count as complete."""
    for split, count in (("train", 24), ("dev", 8), ("test", 8)):
        monkeypatch.setitem(timit.PUBLISHED, split, count)


def small_tree(root, **settings):
    return write_timit(root, {"TRAIN": TRAIN, "TEST": [DEV[0], TEST[0]]}, **settings)


def test_the_published_sizes_are_eight_sentences_of_462_50_and_24_speakers():
    assert timit.PUBLISHED == {"train": 8 * 462, "dev": 8 * 50, "test": 8 * 24}
    assert (len(DEV), len(TEST)) == (50, 24) and not set(DEV) & set(TEST)


def test_dev_and_core_test_have_the_published_counts_and_the_rest_is_named(tmp_path, three_to_train_on):
    samples = write_timit(tmp_path / "TIMIT", {"TRAIN": TRAIN, "TEST": [*DEV, *TEST, "MXYZ0"]})
    corpus = load(tmp_path, tmp_path / "TIMIT")
    assert {split: len(cuts) for split, cuts in corpus.splits.items()} == {"train": 24, "dev": 400, "test": 192}
    assert {cut.supervisions[0].speaker for cut in corpus.splits["dev"]} == set(DEV)
    assert {cut.supervisions[0].speaker for cut in corpus.splits["test"]} == set(TEST)
    reasons = collections.Counter(reason for _, reason in corpus.left_out)
    assert reasons == {
        "one of the two sentences that every speaker reads": 2 * 78,
        "a test speaker in neither the development nor the core test set": 8,
    }
    cut = next(iter(corpus.splits["test"]))
    assert numpy.array_equal(cut.load_audio()[0], samples[cut.id].astype(numpy.float32) / 32768)


@pytest.mark.parametrize(
    ("case", "audio", "above"),
    [
        (str.upper, "sphere", ""),
        (str.lower, "sphere", "timit"),
        (str.upper, "riff", "data"),
        (str.upper, "both", "TIMIT"),
    ],
)
def test_every_copy_gives_the_same_samples_times_and_words(tmp_path, few, case, audio, above):
    samples = small_tree(tmp_path / "copy" / above, case=case, audio=audio)
    corpus = load(tmp_path, tmp_path / "copy")
    cuts = {cut.id: cut for members in corpus.splits.values() for cut in members}
    assert len(cuts) == 40 and set(cuts) < set(samples)
    for name, cut in cuts.items():
        assert numpy.array_equal(cut.load_audio()[0], samples[name].astype(numpy.float32) / 32768)
    cut = cuts["FCJF0-SI630"]
    (supervision,) = cut.supervisions
    assert (supervision.speaker, supervision.language, supervision.gender) == ("FCJF0", "en", "female")
    assert supervision.text == "The river rose and the bridge was closed."
    phonemes, words = supervision.alignment["phoneme"], supervision.alignment["word"]
    assert [item.symbol for item in phonemes] == PHONEMES and [item.symbol for item in words][:3] == [
        "the",
        "river",
        "rose",
    ]
    ends = numpy.linspace(0, 2400, len(PHONEMES) + 1).astype(int) / 16000
    assert [item.start for item in phonemes] == pytest.approx(ends[:-1])
    assert [item.end for item in phonemes] == pytest.approx(ends[1:])
    # prepared once: the disc is not needed again
    again = corpora.create({"name": "timit"}).load(tmp_path / "cache")
    assert [cut.id for cut in again.splits["dev"]] == [cut.id for cut in corpus.splits["dev"]]


def test_a_missing_sentence_or_speaker_is_named_and_allow_missing_records_it(tmp_path, few):
    small_tree(tmp_path / "TIMIT")
    (tmp_path / "TIMIT/TRAIN/DR1/FCJF0/SX0.PHN").unlink()
    for suffix in ("WAV", "TXT", "WRD", "PHN"):
        (tmp_path / f"TIMIT/TRAIN/DR2/MDAC0/SI631.{suffix}").unlink()
    with pytest.raises(UserError) as caught:
        load(tmp_path, tmp_path / "TIMIT")
    said = str(caught.value)
    assert "missing transcript: 1 utterance (FCJF0-SX0: no .PHN)." in said
    assert "train: 23 of 24 utterances, 1 missing: MDAC0 has 7 of 8." in said
    corpus = load(tmp_path, tmp_path / "TIMIT", allow_missing=True)
    assert [len(corpus.splits[split]) for split in ("train", "dev", "test")] == [22, 8, 8]
    assert corpus.dropped == [("FCJF0-SX0", "missing transcript: no .PHN")]


def test_missing_test_speakers_are_named_and_a_set_of_none_is_refused_in_any_case(tmp_path, monkeypatch, few):
    small_tree(tmp_path / "TIMIT")
    monkeypatch.setitem(timit.PUBLISHED, "test", 192)
    with pytest.raises(
        UserError, match=f"test: 8 of 192 utterances, 184 missing: all of {TEST[1]}, all of {TEST[2]}, "
    ):
        load(tmp_path, tmp_path / "TIMIT")
    shutil.rmtree(tmp_path / f"TIMIT/TEST/DR2/{TEST[0]}")
    with pytest.raises(UserError, match="no usable utterance of the test set, missing all of"):
        load(tmp_path, tmp_path / "TIMIT", allow_missing=True)


def test_missing_training_speakers_are_named_by_the_discs_own_list(tmp_path, few):
    small_tree(tmp_path / "TIMIT")
    shutil.rmtree(tmp_path / "TIMIT/TRAIN/DR2")
    (tmp_path / "DOC").mkdir()
    lines = ["; ID  Sex DR Use", *(f"{speaker[1:]}  {speaker[0]}   1  TRN  01/01/86" for speaker in TRAIN)]
    (tmp_path / "DOC/SPKRINFO.TXT").write_text("\n".join(lines))
    with pytest.raises(UserError, match="train: 16 of 24 utterances, 8 missing: all of MDAC0"):
        load(tmp_path, tmp_path / "TIMIT")


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        ("PHN", "0 100 h#\n100 x sh\n", r"SX0.PHN:2: expected `START END NAME`, in samples, found '100 x sh'"),
        ("PHN", "100 0 h#\n", r"SX0.PHN:1: expected `START END NAME`"),
        ("WRD", "", r"SX0.WRD is empty"),
        ("TXT", "hello\n", r"SX0.TXT: expected one line `0 SAMPLES Words"),
    ],
)
def test_a_broken_transcript_is_named_with_its_line(tmp_path, few, suffix, content, message):
    small_tree(tmp_path / "TIMIT")
    (tmp_path / f"TIMIT/TRAIN/DR1/FCJF0/SX0.{suffix}").write_text(content)
    with pytest.raises(UserError, match=message):
        load(tmp_path, tmp_path / "TIMIT")


def test_a_speaker_who_is_there_twice_is_named(tmp_path, few):
    small_tree(tmp_path / "TIMIT")
    shutil.copytree(tmp_path / "TIMIT/TRAIN/DR1", tmp_path / "TIMIT/TRAIN/DR4")
    with pytest.raises(UserError, match="holds FCJF0-SA1 twice, the second time in .*DR4/FCJF0"):
        load(tmp_path, tmp_path / "TIMIT")


def test_a_directory_of_another_corpus_gets_a_sentence(tmp_path):
    (tmp_path / "wsj/11-1.1").mkdir(parents=True)
    with pytest.raises(UserError, match=r"is not timit: there are no folders TRAIN and TEST .* looks like wsj"):
        load(tmp_path, tmp_path / "wsj")


# The units


def spoken(phonemes, id="FCJF0-SX37"):
    items = [AlignmentItem(symbol, 0.1 * at, 0.1) for at, symbol in enumerate(phonemes)]
    return SupervisionSegment(id, id, 0, 5, text="words", language="en", alignment={"phoneme": items})


@pytest.fixture
def made():
    return build_units({"name": "timit"}, [spoken(PHONEMES)])


def test_61_phonemes_fold_to_48_and_these_to_39():
    assert len(TRANSCRIBED) == 61 and len(TO_48) == 60 and len(FOLDING) == len(set(TO_48.values())) == 48
    assert set(TO_39) == set(TO_48.values()) and len(set(TO_39.values())) == 39


def test_the_tables_are_those_of_lhotse_which_are_kaldis():
    theirs_48, theirs_39 = get_phonemes(48), get_phonemes(39)
    for symbol in TO_48:
        assert TO_48[symbol] == theirs_48[symbol] and TO_39[TO_48[symbol]] == theirs_39[symbol]
    assert TRANSCRIBED == set(theirs_48) - {"sil"} and theirs_48["q"] == ""


def test_the_folds_of_lee_and_hon():
    scored = collections.defaultdict(set)
    for symbol, trained in TO_48.items():
        scored[TO_39[trained]].add(symbol)
    folds = {
        "aa": "aa ao", "ah": "ah ax ax-h", "er": "er axr", "hh": "hh hv", "ih": "ih ix", "l": "l el", "m": "m em",
        "n": "n en nx", "ng": "ng eng", "sh": "sh zh", "uw": "uw ux",
        "sil": "pcl tcl kcl bcl dcl gcl h# pau epi",
    }  # fmt: skip
    assert {name: " ".join(sorted(symbols)) for name, symbols in scored.items() if len(symbols) > 1} == {
        name: " ".join(sorted(symbols.split())) for name, symbols in folds.items()
    }


def test_training_sees_48_scoring_39_and_nothing_is_merged(made):
    utterance = spoken("h# sh ix q dcl kcl k ao el zh pau h#".split())
    ids = made.encode(utterance)
    assert [made.symbols[index] for index in ids] == "sil sh ix vcl cl k ao el zh sil sil".split()
    assert made.reference(utterance) == "sil sh ih sil sil k aa l sh sil sil".split() == made.decode(ids)
    assert made.metric == "per" and made.symbols[0] == BLANK and len(made.symbols) == 49
    assert made.text(made.decode(ids)) == "sil sh ih sil sil k aa l sh sil sil" and made.decode([]) == []


def test_saved_units_are_loaded_as_they_were_and_others_refused(made, tmp_path):
    made.save(tmp_path)
    loaded = load_units(tmp_path)
    assert type(loaded) is type(made) and loaded.symbols == made.symbols
    assert loaded.encode(spoken(PHONEMES)) == made.encode(spoken(PHONEMES))
    file = tmp_path / "units.json"
    file.write_text(file.read_text().replace('"zh"', '"zz"'))
    with pytest.raises(UserError, match="units.json: the symbols of the units timit must be the 48"):
        load_units(tmp_path)


def test_another_corpus_is_refused_with_a_sentence(made):
    words_only = SupervisionSegment("84-1-0000", "84-1-0000", 0, 5, text="WORDS")
    for other, said in (
        (words_only, "has no phonemes with times"),
        (spoken(["DH", "AH"]), "the phoneme 'DH' is not among the 61"),
    ):
        with pytest.raises(UserError, match=f"{said}.* The units timit are for corpus=timit"):
            build_units({"name": "timit"}, [spoken(PHONEMES), other])
    with pytest.raises(UserError, match="84-1-0000 has no phonemes"):
        made.reference(words_only)
    with pytest.raises(UnknownUnit, match="'DH'"):
        made.encode(spoken(["DH"]))


def test_the_corpus_and_its_units_go_together(tmp_path, few):
    small_tree(tmp_path / "TIMIT")
    corpus = load(tmp_path, tmp_path / "TIMIT")
    built = build_units({"name": "timit"}, (cut.supervisions[0] for cut in corpus.splits["train"]), corpus.lexicon)
    for cut in corpus.splits["test"]:
        assert built.reference(cut.supervisions[0])[:4] == ["sil", "sh", "iy", "hh"]
        assert "q" not in built.reference(cut.supervisions[0])
    header = soundfile.info(next(iter(corpus.splits["test"])).recording.sources[0].source)
    assert (header.format, header.samplerate) == ("FLAC", 16000)

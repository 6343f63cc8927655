"""Switchboard from its discs: look-alike trees are prepared bit for bit, and split without leaks."""

import numpy
import pytest
import soundfile

from asr.data.corpora import corpora
from asr.data.corpora.switchboard import SwitchboardCorpus
from asr.data.corpora.switchboard.eval2000 import COUNTS
from asr.data.corpora.switchboard.segments import read_side
from asr.data.corpora.switchboard.splits import conversation_of
from asr.errors import UserError
from tests.support.switchboard_tree import DISCS, RATE, small_discs, write_tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("discs"))


@pytest.fixture(scope="module")
def cache(tree, tmp_path_factory):
    """A cache with the entire look-alike, prepared once for all tests that only read it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as monkeypatch:
        small_discs(monkeypatch)
        SwitchboardCorpus(**tree.settings).load(folder, workers=1)
    return folder


def load(tree, tmp_path, *without, **settings):
    chosen = {key: path for key, path in tree.settings.items() if key not in without}
    return SwitchboardCorpus(**chosen, **settings).load(tmp_path / "cache", workers=1)


def prepared(cache, **settings):
    return SwitchboardCorpus(**settings).load(cache)


def swb1_cuts(corpus):
    return {cut.id: cut for split in ("train", "dev", "held_out") for cut in corpus.splits[split]}


def test_every_side_comes_out_bit_for_bit(tree, cache):
    # plain and compressed mu-law, capitals, no data/, and a header that counts the samples of both channels
    assert len(tree.samples) == 2 * len(tree.audio) == 16
    for side, samples in tree.samples.items():
        audio, rate = soundfile.read(cache / f"switchboard/prepared/audio/{side}.flac", dtype="int16")
        assert rate == RATE and numpy.array_equal(audio, samples), side


def test_utterances_have_kaldis_ids_and_are_the_stretches_that_were_said(tree, cache):
    cuts = swb1_cuts(prepared(cache))
    assert cuts.keys() == tree.intended.keys() and len(cuts) == 48
    for utterance, (start, end) in tree.segments.items():
        cut = cuts[utterance]
        audio = cut.load_audio()[0] * 32768
        assert numpy.array_equal(audio, tree.samples[cut.supervisions[0].speaker][start:end])


@pytest.mark.parametrize(
    "start, end, utterance",
    [("0.977625", "11.561375", "sw02001-A_000098-001156"), ("0.974999", "1.005", "sw02001-A_000097-000100")],
)
def test_times_are_rounded_as_by_kaldis_awk(tmp_path, start, end, utterance):
    path = tmp_path / "sw2001A-ms98-a-trans.text"
    path.write_text(f"sw2001A-ms98-a-0002 {start} {end} hi\n")
    (segment,), wrong = read_side(path, "sw02001-A")
    assert segment.utterance == utterance and not wrong


def test_one_preparation_serves_both_policies_and_both_splits_without_the_discs(tree, cache):
    for policy, texts in (("said", tree.said), ("intended", tree.intended)):
        for split in ("conversations", "kaldi"):
            corpus = prepared(cache, words=policy, split=split, dev_utterances=8)
            shown = ("train", "dev", "held_out") if split == "conversations" else ("train", "dev")
            cuts = [cut for name in shown for cut in corpus.splits[name]]
            assert {cut.id: cut.supervisions[0].text for cut in cuts} == texts
            assert corpus.normalization["name"] == f"switchboard, {policy}"
    assert tree.said != tree.intended


def test_the_rules_that_changed_the_words_are_counted(cache):
    said, intended = (prepared(cache, words=policy).normalization["rules"] for policy in ("said", "intended"))
    assert said["mispronounced words"] == intended["mispronounced words"] == 16
    assert said["word ends unsaid"] == 16 and intended["word ends unsaid"] == 8  # [lea[rn]-/leave]
    assert said["silence"] == 60 + 8 and said["asides"] == 16 and said["acronyms"] == 8
    assert said["references: hesitations"] == 12


def test_both_sides_of_a_conversation_are_two_speakers(cache):
    # a peer's recipe gives both channels the speaker of channel A
    speakers = {}
    for cut in swb1_cuts(prepared(cache)).values():
        assert cut.supervisions[0].speaker == cut.recording_id == cut.id.partition("_")[0]
        speakers.setdefault(conversation_of(cut), set()).add(cut.supervisions[0].speaker)
    assert speakers == {name: {f"{name}-A", f"{name}-B"} for name, *_ in DISCS}


def test_no_conversation_straddles_the_default_split(cache):
    # a peer's recipe divides the transcript files, and so the two sides of a conversation
    for seed in range(5):
        corpus = prepared(cache, seed=seed, dev_fraction=0.2, test_fraction=0.2)
        homes = {}
        for split in ("train", "dev", "held_out"):
            for cut in corpus.splits[split]:
                homes.setdefault(conversation_of(cut), set()).add(split)
        assert len(homes) == 6 and all(len(home) == 1 for home in homes.values())
        assert {home for homes in homes.values() for home in homes} == {"train", "dev", "held_out"}


def test_the_default_split_has_no_leak_that_stops_a_training(cache):
    from asr.data.health import quick_check

    assert quick_check(prepared(cache)).stopping == []


def test_the_split_of_a_conversation_is_the_same_with_and_without_eval2000(tree, cache, tmp_path, monkeypatch):
    small_discs(monkeypatch)
    alone = load(tree, tmp_path, "eval2000", "references")
    both = prepared(cache)
    assert list(alone.splits) == ["train", "dev", "test"] and not alone.aliases and not alone.scoring
    for split, name in (("train", "train"), ("dev", "dev"), ("test", "held_out")):
        assert [cut.id for cut in alone.splits[split]] == [cut.id for cut in both.splits[name]]


def test_eval2000_is_the_test_split_and_has_two_halves(tree, cache):
    corpus = prepared(cache)
    assert corpus.aliases == {"eval2000": "test"} and corpus.split_called("eval2000") == "test"
    cuts = {cut.id: cut for cut in corpus.splits["test"]}
    assert {name: cut.supervisions[0].text for name, cut in cuts.items()} == tree.evaluated
    halves = [{cut.id for cut in corpus.splits[f"eval2000_{half}"]} for half in ("swbd", "callhm")]
    assert halves == [{name for name in cuts if name.startswith(corpus)} for corpus in ("sw_", "en_")]
    cut = cuts["en_4156-B_000050-" + min(name for name in cuts if "4156-B" in name).rpartition("-")[2]]
    assert cut.supervisions[0].speaker == "en_4156-B" and cut.start == 0.5
    first = cut.load_audio()[0] * 32768
    assert numpy.array_equal(first, tree.samples["en_4156-B"][RATE // 2 : RATE // 2 + len(first)])


def test_the_counts_of_the_evaluation_are_those_that_sclite_prints_of_it():
    # of all systems in Kaldi's egs/swbd/s5c: `%WER ... | 4459 42989 | ...`; the look-alikes put their own in the place of these
    assert COUNTS == {
        "eval2000": {"segments": 4459, "words": 42989},
        "eval2000_swbd": {"segments": 1831, "words": 21395},
        "eval2000_callhm": {"segments": 2628, "words": 21594},
    }


def test_each_split_of_eval2000_can_be_scored_by_its_stm_and_glm(cache):
    from asr.scoring.nist.rules import ScoringRules

    corpus = prepared(cache)
    for split, conversations in (("test", 2), ("eval2000_swbd", 1), ("eval2000_callhm", 1)):
        folder = corpus.scoring[split]
        rules = ScoringRules.read(folder / "reference.stm", folder / "rules.glm")
        # a segment that scoring ignores is not an utterance
        assert set(rules.segments) == {cut.id for cut in corpus.splits[split]}
        assert len({segment.file for segment in rules.segments.values()}) == conversations
        scores = rules.score((cut.id, cut.supervisions[0].text.split()) for cut in corpus.splits[split])
        assert sum(score.alignment.errors for score in scores) == 0


def test_segments_that_were_not_recognized_count_as_silence(tree, cache):
    from asr.evaluation.evaluate import Request, official_scores
    from asr.scoring import score_utterance
    from asr.scoring.metric import Metric

    corpus = prepared(cache)
    segment = "en_4156-A_000050-" + min(name for name in tree.evaluated if "4156-A" in name).rpartition("-")[2]
    words = tree.evaluated[segment].split()
    recognized = [score_utterance(segment, words, words, "en_4156-A", 1.0)]
    scores, _ = official_scores(recognized, corpus, Request("", "eval2000", sclite=False), Metric("wer"), 0)
    assert {score.utterance for score in scores} == set(tree.evaluated)
    silent = [score for score in scores if score.utterance != segment]
    assert len(silent) == 15 and all(score.alignment.deletions and not score.hypothesis for score in silent)
    assert sum(score.alignment.reference_length for score in scores) == 104
    assert next(score for score in scores if score.utterance == segment).alignment.errors == 0


def test_the_lexicon_has_every_word_with_noises_and_the_dictionarys_fragments(cache):
    corpus = prepared(cache, words="said")
    lexicon = dict(line.split(maxsplit=1) for line in corpus.lexicon.read_text().splitlines())
    for cuts in corpus.splits.values():
        assert all(word in lexicon for cut in cuts for word in cut.supervisions[0].text.split())
    chosen = {word: lexicon[word] for word in ("[noise]", "[laughter]", "-y", "it'n", "b", "uh")}
    assert chosen.pop("it'n").startswith("IH T")
    assert chosen == {"[noise]": "NSN", "[laughter]": "SPN", "-y": "IY", "b": "B IY", "uh": "AH"}


def test_a_prepared_corpus_is_not_made_again(tree, cache, monkeypatch):
    monkeypatch.setattr("asr.data.corpora.switchboard.preparation.prepare", None)
    assert len(prepared(cache, **tree.settings).splits["test"]) == 16
    with pytest.raises(UserError, match="was prepared from swb1=.*remove that folder"):
        prepared(cache, swb1=str(tree.eval2000))


def test_kaldis_split_of_too_few_utterances_is_refused(cache):
    with pytest.raises(UserError, match="split=kaldi takes the first 4000 utterances for dev; there are 48"):
        prepared(cache, split="kaldi")


def test_the_configuration_sets_what_the_corpus_has(tmp_path):
    from omegaconf import OmegaConf

    settings = OmegaConf.to_container(OmegaConf.load("conf/corpus/switchboard.yaml"))
    assert corpora.create(settings) == SwitchboardCorpus()

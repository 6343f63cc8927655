"""train → evaluate → cross-evaluate → transcribe, as typed, each in a process of its own, on under a minute of speech."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import soundfile

from tests.support import programs

pytestmark = pytest.mark.run

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "corpus.hours=0.01",
    "corpus.shape=short",
    "corpus.dev_minutes=0.2",
    "corpus.test_minutes=0.3",
    "encoder.layers=1",
    "encoder.heads=2",
    "encoder.head_dim=16",
    "encoder.feed_forward=64",
    "max_epochs=2",
    "trainer.validations=2",
    "data.batch_frames=1500",
    "data.workers=1",
]
SCORES = {
    "corpus", "split", "units", "attention", "metric", "error_rate", "interval", "substitutions", "deletions",
    "insertions", "reference_length", "utterances", "audio_seconds", "forward_seconds", "peak_memory_bytes", "normalizer",
    "checkpoint", "command",
}  # fmt: skip


def run(folder, *arguments, expect=0):
    ended = programs.run(*arguments, cwd=folder)
    assert ended.returncode == expect, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with three trained runs: `full`, `i_clustered` and `lsh`."""
    folder = tmp_path_factory.mktemp("work")
    run(folder, "train.py", *TINY, "run=full", "schedule=plateau", "optimizer=radam")
    run(folder, "train.py", *TINY, "run=i_clustered", "attention=i_clustered", "clusters=20", "topk=8", "max_minutes=5")
    run(folder, "train.py", *TINY, "run=lsh", "attention=lsh", "rounds=4", "chunk=8")
    return folder


def scores_in(folder):
    return json.loads((folder / "scores.json").read_text())


@pytest.mark.smoke
def test_a_run_holds_its_configuration_command_logs_checkpoints_model_and_scores(place):
    for name in ("config.yaml", "command.txt", "environment.json", "dropped.tsv", "metrics.csv", "learning_curves.png",
                 "checkpoints/best.ckpt", "checkpoints/last.ckpt", "model/model.safetensors", "model/units.json"):  # fmt: skip
        assert (place / "full" / name).stat().st_size > 0, name
    assert list((place / "full").glob("**/events.out.tfevents*"))
    assert "train.py" in (place / "full" / "command.txt").read_text()
    scores = scores_in(place / "full/evaluation/test/full")
    assert scores.keys() >= SCORES
    assert scores["metric"] == "per" and scores["interval"][0] <= scores["error_rate"] <= scores["interval"][1]
    errors = scores["substitutions"] + scores["deletions"] + scores["insertions"]
    assert scores["error_rate"] == pytest.approx(errors / scores["reference_length"])
    assert scores["forward_seconds"] > 0 and scores["audio_seconds"] > 0


@pytest.mark.smoke
def test_the_same_weights_are_scored_under_another_attention(place):
    said = run(place, "evaluate.py", "checkpoint=full", "attention=clustered", "clusters=7").stdout
    assert "clustered-7" in said
    scores = scores_in(place / "full/evaluation/test/clustered-7")
    assert scores["attention"] == "clustered-7" and scores["trained_with"] == "full"


def test_a_knob_alone_changes_the_checkpoints_own_attention(place):
    run(place, "evaluate.py", "checkpoint=i_clustered", "clusters=5", "split=dev")
    scores = scores_in(place / "i_clustered/evaluation/dev/i_clustered-5")
    assert scores["attention_settings"]["topk"] == 8


def test_run_checkpoint_file_and_exported_model_score_alike_whatever_the_batch_size(place, tmp_path):
    shutil.copytree(place / "full/model", tmp_path / "shipped")
    hypotheses = set()
    paths = ("full", "full/checkpoints/best.ckpt", "full/model", tmp_path / "shipped")
    for path, batch_frames in (*((path, 20000) for path in paths), ("full", 1)):
        arguments = [
            f"checkpoint={path}",
            f"batch_frames={batch_frames}",
            "report=false",
            f"output={tmp_path / 'scores'}",
        ]
        run(place, "evaluate.py", *arguments)
        hypotheses.add((tmp_path / "scores/hyp.trn").read_bytes())
    assert len(hypotheses) == 1


def test_attention_that_the_weights_cannot_serve_is_refused(place):
    said = run(place, "evaluate.py", "checkpoint=full", "attention=lsh", expect=2).stderr
    assert "needs queries and keys from one projection" in said
    assert not (place / "full/evaluation/test/lsh-1").exists()
    said = run(place, "evaluate.py", "checkpoint=full", "clusters=7", expect=2).stderr
    assert "attention=full does not read 'clusters'" in said


def test_cross_evaluation_prints_the_table_and_continues_where_it_stopped(place):
    arguments = [
        "scripts/cross_evaluate.py",
        "checkpoints=[full,i_clustered,lsh]",
        "attention=[full,clustered-7,i_clustered-20,lsh-4,oracle_top]",
        "output=table",
    ]
    said = run(place, *arguments).stdout
    assert "clustered-7" in said and "–" in said
    with open(place / "table/table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    without = {(row["trained_with"], row["evaluated_with"]) for row in rows if not row["error_rate"]}
    assert without == {("full", "lsh-4"), ("i_clustered-20", "lsh-4")}
    assert all("one projection" in row["reason"] for row in rows if not row["error_rate"])
    assert (place / "table/table.png").stat().st_size > 0
    computed = list((place / "table").glob("*/*/scores.json"))
    times = {path: path.stat().st_mtime_ns for path in computed}
    assert len(times) == 13
    gone = computed[0]
    shutil.rmtree(gone.parent)
    run(place, *arguments)
    assert {path for path in times if path.stat().st_mtime_ns != times[path]} == {gone}


def test_scores_of_another_split_or_other_settings_are_not_mistaken_for_the_requested_ones(place):
    arguments = ["scripts/cross_evaluate.py", "checkpoints=full", "attention=oracle_top-3", "output=other"]
    run(place, *arguments)
    first = scores_in(place / "other/full/oracle_top-3")
    run(place, *arguments, "split=dev")
    second = scores_in(place / "other/full/oracle_top-3")
    assert (first["split"], second["split"]) == ("test", "dev")


@pytest.mark.smoke
def test_transcribing_prints_one_line_per_file_and_names_what_it_cannot_read(place, tmp_path):
    speech = sorted((place / ".cache").glob("**/*.flac"))[:2]
    (tmp_path / "broken=1.wav").write_bytes(b"RIFF")
    arguments = ["transcribe.py", "checkpoint=full", speech[0], tmp_path / "broken=1.wav", speech[1]]
    ended = run(place, *arguments, expect=1)
    lines = ended.stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(path) for path in speech]
    assert "broken=1.wav" in ended.stderr


def test_training_starts_from_other_weights(place):
    said = run(place, "train.py", *TINY, "run=tuned", "init_from=full", "max_epochs=1").stdout
    assert "weights of full" in said
    ended = run(place, "train.py", *TINY, "run=misfit", "init_from=full", "encoder.head_dim=8", expect=2)
    assert "do not fit this encoder" in ended.stderr and not (place / "misfit").exists()


@pytest.mark.parametrize("units", ["characters", "bpe"])
def test_words_are_scored_where_the_units_are_characters_or_pieces(place, units):
    more = ["units.size=60"] if units == "bpe" else []
    run(place, "train.py", *TINY, f"run={units}", f"units={units}", "corpus.hours=0.02", "max_epochs=1", *more)
    scores = scores_in(place / units / "evaluation/test/full")
    assert scores["metric"] == "wer" and scores["character_error_rate"]["spaces_counted"]


CHINESE = ["我们今天去北京", "明天天气怎么样", "他说中文很好", "请给我一杯茶"]


def test_characters_are_scored_where_the_script_has_no_spaces(tmp_path):
    speech, lines = tmp_path / "speech", []
    speech.mkdir()
    for number in range(12):
        text = CHINESE[number % len(CHINESE)]
        # a tone for each character
        tones = [numpy.sin(numpy.arange(2400) / 16000 * 2 * numpy.pi * (200 + 37 * (ord(c) % 97))) for c in text]
        soundfile.write(speech / f"{number}.wav", 0.3 * numpy.concatenate(tones), 16000)
        lines.append(f"{number}.wav\t{text}，\tspeaker{number}\t{('train', 'train', 'dev', 'test')[number // 3]}\n")
    (speech / "transcripts.tsv").write_text("".join(lines), encoding="utf8")
    settings = [setting for setting in TINY if not setting.startswith("corpus.")]
    folder = ["corpus=folder", "corpus.path=speech", "corpus.language=zh", "data.allow_leaks=true"]
    said = run(tmp_path, "train.py", *settings, *folder, "run=chinese", "units=characters").stdout
    assert re.search(r"^epoch 2/2 .* dev CER \d+\.\d\d% \(best ", said, re.M) and "WER" not in said
    # the final sentence
    assert re.search(r"^test CER .* 19 characters\), attention full$", said, re.M)
    scores = scores_in(tmp_path / "chinese/evaluation/test/full")
    assert scores["metric"] == "cer" and scores["reference_length"] == 19 and "word_error_rate" not in scores
    assert not scores["character_error_rate"]["spaces_counted"]
    with open(tmp_path / "chinese/metrics.csv", newline="") as file:
        (*_, last) = csv.DictReader(file)
    assert last["dev/error_rate"] == last["dev/character_error_rate"] and not last["dev/word_error_rate"]
    # words are counted where they are asked for
    said = run(tmp_path, "evaluate.py", "checkpoint=chinese", "metric=wer", "report=false", "output=words").stdout
    assert "3 words" in said and scores_in(tmp_path / "words")["character_error_rate"]["reference_length"] == 19
    said = run(tmp_path, "evaluate.py", "checkpoint=chinese", "metric=per", expect=2).stderr
    assert "this model recognizes words, not phonemes" in said


def test_a_run_is_never_overwritten(place):
    ended = run(place, "train.py", *TINY, "run=full", expect=2)
    assert "already holds a run" in ended.stderr


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc, where no folder can be made")
def test_a_cache_that_cannot_be_written_is_reported(place):
    ended = run(place, "train.py", *TINY, "run=elsewhere", "cache=/proc/nowhere", expect=2)
    assert "/proc/nowhere" in ended.stderr and not (place / "elsewhere").exists()


def test_audio_that_disappeared_stops_the_training_and_is_named(place, tmp_path):
    shutil.copytree(place / ".cache", tmp_path / ".cache")
    for lost in sorted(tmp_path.glob(".cache/**/*.flac")):
        lost.write_bytes(b"")
    ended = run(tmp_path, "train.py", *TINY, "run=lost", expect=2)
    assert "empty audio" in ended.stderr and not (tmp_path / "lost").exists()


def test_ctrl_c_ends_with_a_sentence_and_keeps_the_last_checkpoint(place):
    program = [
        sys.executable,
        str(ROOT / "train.py"),
        *TINY,
        "run=stopped",
        "max_epochs=1000",
        "trainer.validations=500",
    ]
    with subprocess.Popen(program, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        validations = (line for line in process.stdout if line.startswith("epoch"))
        next(validations)
        next(validations)  # the checkpoint of the first is written by now
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopped by Ctrl-C" in errors and "Traceback" not in errors
    run(place, "evaluate.py", "checkpoint=stopped", "split=dev")


@pytest.mark.parametrize("workers", [0, 1])
def test_audio_that_is_cut_short_stops_the_training_and_is_named(place, tmp_path, workers):
    shutil.copytree(place / ".cache", tmp_path / ".cache")
    for cut_short in sorted(tmp_path.glob(".cache/**/train/*.flac")):
        cut_short.write_bytes(cut_short.read_bytes()[: cut_short.stat().st_size // 2])
    ended = run(tmp_path, "train.py", *TINY, "run=short", f"data.workers={workers}", expect=2)
    assert "The audio of utterance" in ended.stderr and ".flac" in ended.stderr

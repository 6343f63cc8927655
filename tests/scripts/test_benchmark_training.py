"""scripts/benchmark_training.py: it runs, on real audio, and its ratios and tables hold what was measured. Nothing is timed."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import soundfile

from asr.errors import UserError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import benchmark_training as benchmark  # noqa: E402
import contestant  # noqa: E402

TINY = [
    "corpus=folder", "units=characters", "encoder.layers=1", "encoder.heads=2", "encoder.head_dim=8", "encoder.feed_forward=16",
    "data.batch_frames=100", "data.workers=1", "trainer.accelerator=cpu",
]  # fmt: skip


class Scripted:
    """A contestant with answers prepared: seconds for 100 s of speech, by stage and turn, the warm-up first."""

    def __init__(self, name, **seconds):
        self.name, self.seconds, self.asked = name, {stage: list(taken) for stage, taken in seconds.items()}, []

    def ask(self, stage):
        self.asked.append(stage)
        answer = {"audio": 100.0, "seconds": self.seconds[stage].pop(0)}
        return answer | ({"waiting": 0.25} if stage == "loop" else {})

    def ask_for_memory(self, stage):
        return self.ask(stage), 3 * 2**20


@pytest.fixture
def results():
    found = benchmark.Results(parameters={"asr": 7, "other": 8})
    ours = Scripted("asr", step=[9, 1, 2, 4], loop=[9, 5, 5, 5])
    other = Scripted("other", step=[9, 2, 5, 6], loop=[9, 10, 8, 9])
    benchmark.measure([ours, other], ("step", "loop"), 3, 60.0, found)
    assert ours.asked == other.asked == ["step", "loop"] * 4
    return found


def test_ratios_are_those_of_the_rounds_and_the_first_does_not_count(results):
    assert results.speeds["asr", "step"] == [100, 50, 25]
    assert results.ratios("other", "step") == [2.0, 2.5, 1.5]
    assert results.ratios("other", "loop") == [2.0, 1.6, 1.8]
    rows = {(row["contestant"], row["stage"]): row for row in results.rows()}
    assert rows["other", "step"]["asr_ratio"] == "2" and rows["other", "step"]["least_ratio"] == "1.5"
    assert rows["asr", "loop"]["audio_seconds_per_second"] == "20" and rows["asr", "loop"]["asr_ratio"] == "1"


def test_the_tables_have_every_column_and_contestant(results, tmp_path):
    results.write(tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"benchmark_training.csv", "benchmark_training.md"}
    with open(tmp_path / "new" / "benchmark_training.csv", newline="") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == benchmark.COLUMNS
        rows = list(reader)
    assert [(row["contestant"], row["stage"]) for row in rows] == [
        ("asr", "step"), ("other", "step"), ("asr", "loop"), ("other", "loop"),
    ]  # fmt: skip
    assert (rows[3]["waiting"], rows[3]["peak_memory_bytes"], rows[3]["parameters"]) == ("0.2500", str(3 * 2**20), "8")
    text = (tmp_path / "new" / "benchmark_training.md").read_text()
    assert "| other | 20 (17–50) | 11 (10–12) | 25.0% | 3 MiB | 8 |" in text
    assert "| other | 2.00 (1.50–2.50) | 1.80 (1.60–2.00) |" in text


def test_seconds_of_several_by_name_are_rows_of_their_own():
    found = benchmark.Results()
    found.add("asr", "filter bank", {"audio": 60.0, "seconds": {"asr": 1.0, "kaldi-native-fbank": 4.0}})
    assert found.contestants == ["asr", "kaldi-native-fbank"]
    assert found.ratios("kaldi-native-fbank", "filter bank") == [4.0]


def test_rounds_end_with_the_minutes_but_one_is_made():
    found = benchmark.Results()
    benchmark.measure([Scripted("asr", step=[1, 1, 1])], ("step",), 2, 0.0, found)
    assert found.speeds["asr", "step"] == [100.0] and "1 of 2 rounds" in found.notes[0]


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """Our side, in this process, on 30 files of noise."""
    import torch
    from training_in_asr import Ours

    place = tmp_path_factory.mktemp("benchmark")
    (place / "mine").mkdir()
    random, rows = numpy.random.default_rng(1), []
    for number in range(30):
        soundfile.write(place / "mine" / f"{number}.wav", 0.1 * random.standard_normal(8000 + 100 * number), 16000)
        rows.append(f"{number}.wav\tab {'cd'[number % 2]}\tspeaker{number % 15}")
    (place / "mine" / "transcripts.tsv").write_text("\n".join(rows) + "\n")
    (place / "runs").mkdir()
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield Ours([*TINY, f"corpus.path={place / 'mine'}", f"cache={place / 'cache'}"], place / "runs", 8, 2, 2, 1)
    torch.set_num_threads(before[0])
    torch.set_float32_matmul_precision(before[1])


def test_every_stage_of_ours_runs_on_real_audio(ours):
    functions = ours.functions()
    assert set(functions) == {"describe", *benchmark.STAGES}
    for stage in ("forward", "forward + backward", "step"):
        answer = functions[stage]()
        assert answer["seconds"] > 0 and answer["audio"] == pytest.approx(sum(ours.audio[:2]))
    answer = functions["filter bank"]()
    assert "asr" in answer["seconds"] and all(seconds > 0 for seconds in answer["seconds"].values())


def test_the_loop_is_a_whole_training_with_logs_and_checkpoints(ours):
    answer = ours.loop()
    run = ours.folder / "run1"
    assert (run / "checkpoints" / "last.ckpt").is_file() and list(run.glob("tensorboard/events*"))
    assert answer["audio"] == pytest.approx(sum(ours.audio[2:8])) and answer["seconds"] > 0
    assert 0 <= answer["waiting"] < 1


def test_the_job_for_speechbrain_holds_the_same_utterances_labels_and_batches(ours):
    job = json.loads(ours.write_job().read_text())
    train = ours.splits["train"]
    assert job["batches"] == list(ours.plan.epoch(0)) and len(job["batches"]) == 8
    assert [utterance["labels"] for utterance in job["utterances"]] == train.labels
    for utterance, cut in zip(job["utterances"], train.cuts):
        samples, _ = soundfile.read(
            utterance["file"], start=utterance["start"], stop=utterance["stop"], dtype="float32"
        )
        assert numpy.array_equal(samples, cut.load_audio()[0])


def test_the_clock_runs_from_the_first_logged_step_to_the_last():
    from training_in_asr import between

    rows = [
        {"step": "2", "seconds": "10", "train/loss": "1", "train/waiting": "0.5"},
        {"step": "4", "seconds": "30", "train/loss": "1", "train/waiting": "0.2"},
        {"step": "4", "seconds": "40", "train/loss": "", "train/waiting": ""},
    ]
    assert between(rows, [1, 2, 4, 8, 16]) == {"audio": 12, "seconds": 20.0, "waiting": pytest.approx(0.05)}


def test_speechbrain_has_the_same_parameters_and_takes_the_same_steps(ours, tmp_path):
    pytest.importorskip("speechbrain")
    from training_in_speechbrain import SpeechBrain

    same = SpeechBrain(ours.write_job(), "same", tmp_path)
    assert same.describe()["parameters"] == sum(parameter.numel() for parameter in ours.model.parameters())
    assert same.audio == pytest.approx(ours.audio) and same.loop()["audio"] == pytest.approx(sum(ours.audio[2:8]))


ECHO = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
from contestant import serve
from asr.errors import UserError

def twice(number):
    print("a library's own words")
    return {{"number": 2 * number}}

def refuse():
    raise UserError("There is no corpus.")

serve(lambda: {{"twice": twice, "refuse": refuse, "divide": lambda: 1 / 0, "end": lambda: sys.exit("it was tired")}})
"""


@pytest.fixture
def echo(tmp_path):
    one = contestant.Contestant("echo", [sys.executable, "-c", ECHO], tmp_path / "echo.log", 2)
    yield one
    one.close()
    assert one.process.returncode is not None


def test_a_contestant_answers_from_its_own_process(echo):
    answer, peak = echo.ask_for_memory("twice", number=4)
    assert answer == {"number": 8}
    assert peak is None or peak > 2**16
    assert echo.ask("twice", number=5) == {"number": 10}


def test_what_goes_wrong_in_a_contestant_is_a_sentence(echo):
    with pytest.raises(UserError, match="^There is no corpus.$"):
        echo.ask("refuse")
    with pytest.raises(UserError, match="ZeroDivisionError: division by zero"):
        echo.ask("divide")
    with pytest.raises(UserError, match="echo ended unexpectedly: it was tired."):
        echo.ask("end")


def test_a_python_without_speechbrain_is_named(tmp_path):
    command = [
        sys.executable,
        "-S",
        str(SCRIPTS / "training_in_speechbrain.py"),
        json.dumps(dict(job="-", way="same", folder="-")),
    ]
    one = contestant.Contestant("speechbrain, same", command, tmp_path / "log", 1)
    with pytest.raises(UserError, match="has no SpeechBrain"):
        one.ask("describe")
    one.close()


def test_options_that_make_no_sense_are_refused_in_a_sentence():
    for options, message in {
        ("--threads", "0"): "--threads takes whole numbers of 1 or more, not 0",
        ("--batches", "10", "--warm-up", "6"): "--batches 10 must be at least twice --warm-up 6",
        ("corpus=speken",): "did you mean spoken",
        ("encoder.layer=3",): "encoder.layers",
    }.items():
        with pytest.raises(UserError, match=message):
            benchmark.parse_arguments(options)
    # settings may stand behind an option that takes several values
    assert benchmark.parse_arguments(["--stages", "loop", "corpus=asterisk"]).settings == ["corpus=asterisk"]


@pytest.mark.run
def test_on_the_command_line_a_mistake_is_a_sentence():
    command = [sys.executable, str(SCRIPTS / "benchmark_training.py"), "corpus=speken"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("benchmark_training.py: There is no corpus called 'speken'")

"""Requests to transcribe: failures, pipes, channels, settings and exit codes."""

import io
import json
import os
import re
import runpy
import sys
import threading
from pathlib import Path

import numpy
import pytest
import soundfile

from asr.audio.streaming import stream_audio
from asr.errors import UserError
from asr.inference.transcription.files import Request
from tests.support import programs
from tests.support.tones import RATE, tones
from tests.support.transcribing import TEXT, record, said, transcribed

ROOT = Path(__file__).resolve().parents[3]


def test_files_that_cannot_be_read_are_named_and_the_others_go_on(place, model, capsys):
    good = record("good.wav", "abba cafe")
    Path("empty.wav").write_bytes(b"")
    Path("text.mp3").write_text("no audio at all\n" * 99)
    Path("cut.wav").write_bytes(good.read_bytes()[:9000])
    Path("nothing").mkdir()
    Path("short.wav").write_bytes(b"")
    soundfile.write("short.wav", numpy.zeros(10), RATE)
    names = ["empty.wav", "good.wav", "text.mp3", "cut.wav", "nothing", "short.wav", "gone.wav", "good.wav"]
    output, complaints, failed = transcribed(capsys, model, *names)
    assert output == "good.wav\tabba cafe\n" and failed == 6
    for words in ("empty.wav is empty", "text.mp3 cannot be read", "cut.wav is cut short", "nothing is a folder without",
                  "short.wav is shorter than one frame: 0.0006 s.", "There is no audio file gone.wav"):  # fmt: skip
        assert words in complaints
    assert "1 recording, 1.7 s of audio in" in complaints and complaints.endswith("; 6 files failed, named above\n")


def test_where_nothing_can_be_used_the_failures_are_still_counted(place, model, capsys):
    assert transcribed(capsys, model, "gone.wav")[1].endswith("\n1 file failed, named above.\n")


def test_a_recording_in_which_nothing_is_recognized_is_named_and_is_no_failure(place, model, capsys):
    soundfile.write("silence.wav", numpy.zeros(RATE), RATE)
    record("good.wav", "abba")
    for output in (None, "out"):
        _, complaints, failed = transcribed(capsys, model, "silence.wav", "good.wav", output=output)
        assert failed == 0 and "failed" not in complaints
        assert complaints.count("Nothing was recognized in") == 1
        assert "Nothing was recognized in silence.wav." in complaints
    assert Path("out/silence.txt").read_text() == "\n"


def test_recordings_of_fewer_samples_a_second_than_the_model_hears_are_told_of_once_and_counted(place, model, capsys):
    for name, rate in (("a.wav", 8000), ("b.wav", RATE), ("c.wav", 8000), ("d.wav", 11025), ("e.wav", 48000)):
        record(name, "abba", rate=rate)
    output, complaints, failed = transcribed(capsys, model, "a.wav", "b.wav", "c.wav", "d.wav", "e.wav")
    assert failed == 0 and len(output.splitlines()) == 5
    assert complaints.splitlines()[:-1] == [
        "transcribe.py: a.wav has 8000 Hz, and the model was trained at 16000 Hz: it has nothing above 4000 Hz, so expect more "
        "errors.",
        "transcribe.py: 2 more files have fewer than 16000 Hz.",
    ]
    assert "Hz" not in transcribed(capsys, model, "b.wav", "e.wav")[1]
    assert "1 more file has fewer" in transcribed(capsys, model, "a.wav", "d.wav")[1]


@pytest.mark.parametrize(("files", "settings", "says"), [
    (["x.wav"], {"output": "x.wav"}, "output=x.wav: the folder cannot be made: x.wav is not a folder"),
    (["x.wav"], {"output": "x.wav/deep/er"}, "output=x.wav/deep/er: the folder cannot be made: x.wav is not a folder"),
    (["a/x.wav", "b/x.wav"], {"format": "srt"}, "format=srt holds one recording"),
    (["x.wav"], {"format": "doc"}, "format is text, json"),
    (["x.wav"], {"one_pass": True}, "one_pass=true needs an attention of linear time"),
    (["x.wav"], {"overlap_seconds": 9.0}, "between 0 and half a window"),
    ([], {}, "No audio file is named"),
    (["nothing"], {}, None),
], ids=str)  # fmt: skip
def test_what_is_wrong_with_a_request_is_found_before_the_decoder_is_loaded(
    place, model, capsys, monkeypatch, files, settings, says
):
    from asr.inference.decoders import decoders

    for name in ("x.wav", "a/x.wav", "b/x.wav"):
        record(name, "a")
    Path("nothing").mkdir()
    loaded = []
    greedy = decoders.get("greedy")
    bind = greedy.bind
    monkeypatch.setattr(greedy, "bind", lambda self, units: loaded.append(self) or bind(self, units))
    if says is None:
        assert transcribed(capsys, model, *files, **settings)[2] == 1
    else:
        with pytest.raises(UserError, match=re.escape(says)):
            transcribed(capsys, model, *files, **settings)
    assert not loaded and not Path("out").exists()
    transcribed(capsys, model, "x.wav")
    assert loaded


def test_what_is_damaged_far_in_leaves_no_transcript(place, model, capsys):
    record("x.flac", f"{TEXT} {TEXT}")
    Path("cut.flac").write_bytes(Path("x.flac").read_bytes()[:-20000])
    output, complaints, failed = transcribed(
        capsys, model, "cut.flac", "x.flac", output="out", window_seconds=2.0, overlap_seconds=0.5
    )
    assert failed == 1 and "cut.flac is" in complaints
    assert os.listdir("out") == ["x.txt"]


def test_longer_files_are_left_out_by_name_where_that_is_asked_for(place, model, capsys):
    record("long.wav", "abba. cafe")
    record("short.wav", "abba")
    output, complaints, failed = transcribed(capsys, model, "long.wav", "short.wav", longest_seconds=1.5)
    assert output == "short.wav\tabba\n" and failed == 1 and "long.wav is longer than 1.5 s" in complaints


def test_many_short_files_share_batches_and_keep_their_order(place, model, capsys):
    texts = ["a", "abba", "cafe", "head bag", "fade", "be", "deaf", "gag", "hag ace"]
    for number, text in enumerate(texts):
        record(f"{number}.wav", text)
    for batch_seconds in (1.0, 3.0, 100.0):
        output, _, _ = transcribed(capsys, model, ".", batch_seconds=batch_seconds)
        assert [line.split("\t")[1] for line in output.splitlines()] == texts


def through_a_pipe(place, model, content, *settings):
    """Ends of transcribe.py with this on standard input."""
    return programs.run("transcribe.py", f"checkpoint={model}", *settings, "-", cwd=place, input=content, text=False)


@pytest.mark.run
def test_a_recording_comes_through_a_pipe_and_the_command_line_passes_everything_on(place, model):
    file = io.BytesIO()
    soundfile.write(file, tones(TEXT, around=0.2), RATE, format="FLAC")
    ended = through_a_pipe(
        place,
        model,
        file.getvalue(),
        "format=json",
        "whole_seconds=2",
        "window_seconds=3",
        "overlap_seconds=1",
        "segment_seconds=4",
    )
    assert ended.returncode == 0, ended.stderr
    data = json.loads(ended.stdout)
    assert (data["file"], data["text"]) == ("-", said(TEXT)) and len(data["segments"]) > 1
    assert re.search(rb"1 recording, [\d.]+ s of audio in [\d.]+ s: real-time factor", ended.stderr)


@pytest.mark.parametrize(("content", "says"), [
    (b"", "standard input is empty"), (b"no audio" * 99, "standard input cannot be read as audio"),
    ("half a recording", "standard input is cut short"),
], ids=["nothing", "text", "half a recording"])  # fmt: skip
def test_a_pipe_that_ends_early_is_named(place, model, capsys, monkeypatch, content, says):
    if isinstance(content, str):
        file = io.BytesIO()
        soundfile.write(file, tones("abba cafe"), RATE, format="WAV")
        content = file.getvalue()[:9999]
    reading, writing = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(writing, content), os.close(writing)))
    writer.start()
    with open(reading, "rb") as pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
        output, complaints, failed = transcribed(capsys, model, "-")
    writer.join()
    assert (output, failed) == ("", 1) and says in complaints
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob("asr-standard-input-*"))


def run(arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "transcribe.py"), *map(str, arguments)])
    runpy.run_path(str(ROOT / "transcribe.py"), run_name="__main__")


def test_the_exit_code_tells_that_a_file_failed(place, model, monkeypatch, capsys):
    record("x=1.wav", "abba")
    run([f"checkpoint={model}", "x=1.wav"], monkeypatch)
    with pytest.raises(SystemExit) as ended:
        run([f"checkpoint={model}", "x=1.wav", "gone.wav"], monkeypatch)
    assert ended.value.code == 1
    assert capsys.readouterr().out == "x=1.wav\tabba\n" * 2


@pytest.mark.parametrize(("settings", "says"), [
    (["format=doc"], "format is text, json, srt, vtt or ctm, not 'doc'"),
    (["overlap_seconds=15"], "does not fit window_seconds=10"),
    (["window_seconds=0"], "window_seconds takes a number of 1 or more"),
    (["output=x.wav"], "output=x.wav: the folder cannot be made"),
    (["format=srt", "y.wav"], "format=srt holds one recording, and 2 are named: add output=FOLDER"),
], ids=str)  # fmt: skip
def test_settings_that_do_not_go_together_are_answered_by_a_sentence(place, model, monkeypatch, capsys, settings, says):
    record("x.wav", "abba")
    with pytest.raises(SystemExit) as ended:
        run([f"checkpoint={model}", "x.wav", *settings], monkeypatch)
    output = capsys.readouterr()
    assert ended.value.code == 2 and says in output.err and output.out == ""


def test_one_channel_of_a_recording_is_heard_or_the_mean_of_all_which_is_said(tmp_path):
    time = numpy.arange(RATE) / RATE
    sides = numpy.stack([0.3 * numpy.sin(2 * numpy.pi * 300 * time), 0.2 * numpy.sin(2 * numpy.pi * 500 * time)], 1)
    path = tmp_path / "conversation.wav"
    soundfile.write(path, sides, RATE, subtype="FLOAT")
    told = []

    def heard(**options):
        return numpy.concatenate(list(stream_audio(path, RATE, mixed=told.append, **options)))

    for side in (0, 1):
        numpy.testing.assert_allclose(heard(channel=side + 1), sides[:, side], atol=1e-6)
    assert told == []
    numpy.testing.assert_allclose(heard(), sides.mean(1), atol=1e-6)
    assert told == [2]
    with pytest.raises(UserError, match="conversation.wav has 2 channels, but channel=3 was chosen"):
        heard(channel=3)


@pytest.mark.parametrize(("sides", "says"), [
    (lambda x, y: [x, -x], "is silent, .*channel=1 uses that one alone"),
    (lambda x, y: [0.5 * x, -0.48 * x], r"is 34 dB quieter than channel 1, .*channel=1 uses that one alone"),
    (lambda x, y: [-0.05 * x, 0.06 * x + 0.01 * y, 0 * x], r"is \d+ dB quieter than channel 2, .*channel=2 uses that one alone"),
    (lambda x, y: [x + 0.1, -x - 0.1], "is silent, "),
    (lambda x, y: [x, y], None), (lambda x, y: [x, 0 * x], None), (lambda x, y: [x, x], None),
    (lambda x, y: [0 * x, 0 * x], None), (lambda x, y: [0.05 * x + 0.6, 0.05 * x - 0.6], None), (lambda x, y: [x], None),
], ids=["opposite", "nearly opposite", "three", "opposite with an offset",
        "two speakers", "one side silent", "the same", "silence", "offsets alone", "mono"])  # fmt: skip
def test_channels_that_cancel_each_other_in_their_mean_are_named(place, model, capsys, sides, says):
    first, second = tones("abba cafe abba", around=0.2), tones("head bag. bag", around=0.2)
    length = min(len(first), len(second))
    soundfile.write("x.wav", numpy.stack(sides(first[:length], second[:length]), axis=1), RATE, subtype="FLOAT")
    _, complaints, failed = transcribed(capsys, model, "x.wav")
    assert failed == 0
    if says is None:
        assert "the mean of its channels" not in complaints
    else:
        assert re.search(f"x.wav: the mean of its channels {says}", complaints)
        assert "the mean of its channels" not in transcribed(capsys, model, "x.wav", channel=1)[1]


def test_the_sides_of_a_conversation_are_apart_in_the_ctm_and_scored_as_the_sides_of_an_stm(place, model, capsys):
    from asr.scoring.nist.ctm import read_ctm
    from asr.scoring.nist.rules import ScoringRules

    sides = [tones("abba cafe", around=0.2), tones("head", around=0.2)]
    stereo = numpy.zeros((len(sides[0]), 2))
    for channel, side in enumerate(sides):
        stereo[: len(side), channel] = side
    soundfile.write("call.wav", stereo, RATE)
    both = [transcribed(capsys, model, "call.wav", format="ctm", channel=channel)[0] for channel in (1, 2)]
    Path("call.ctm").write_text("".join(both))
    spoken = [(word.file, word.channel, word.text) for word in read_ctm("call.ctm")]
    assert spoken == [("call", "1", "abba"), ("call", "1", "cafe"), ("call", "2", "head")]
    assert transcribed(capsys, model, "call.wav", format="ctm")[0].split()[1] == "1"
    Path("reference.stm").write_text("call 1 ann 0.0 2.0 abba cafe\ncall 2 bob 0.0 2.0 head\n")
    scored = ScoringRules.read("reference.stm").score_ctm("call.ctm")
    assert [one.alignment.errors for one in scored.utterances] == [0, 0] and not scored.outside
    Path("letters.stm").write_text(Path("reference.stm").read_text().replace("call 2", "call B"))
    with pytest.raises(UserError, match="line 3: the reference has no segment of the channel call 2"):
        ScoringRules.read("letters.stm").score_ctm("call.ctm")


def test_every_setting_of_the_command_reaches_what_it_is_a_setting_of(monkeypatch):
    from omegaconf import OmegaConf

    from asr.config.settings import compose

    config = compose("transcribe", ["checkpoint=x"])
    wanted = {
        "device": "cpu", "format": "vtt", "output": "there", "channel": 2, "longest_seconds": 1.5, "whole_seconds": 2.5,
        "pause_seconds": 0.3, "skip_seconds": 0.7, "window_seconds": 3.5, "overlap_seconds": 0.5, "one_pass": True,
        "segment_seconds": 4.5, "batch_seconds": 5.5,
    }  # fmt: skip
    own = {key for key in config if key not in ("checkpoint", "files", "decoder", "attention", "hydra")}
    assert wanted.keys() == {key for key in own if key in Request.__dataclass_fields__}
    OmegaConf.set_struct(config, False)
    config.update(wanted)
    given = []
    monkeypatch.setattr("asr.inference.transcription.files.transcribe_files", given.append)
    monkeypatch.setattr("asr.cli.command.typed_in_group", lambda group: [])
    monkeypatch.setattr("asr.cli.command.typed_knobs", lambda config: {})
    runpy.run_path(str(Path(__file__).parents[3] / "transcribe.py"))["transcribe"].__wrapped__(config)
    assert {key: getattr(given[0], key) for key in wanted} == wanted

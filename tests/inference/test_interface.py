"""`asr.load` and `asr.attention` give in Python what the programs give. Letters are tones (tests/support/tones.py)."""

import json
import subprocess
import sys
import warnings

import numpy
import pytest
import soundfile
import torch

import asr
from asr.errors import UserError
from asr.inference.transcription.files import Request, transcribe_files
from asr.model.attention import attentions
from tests.support.tones import RATE, tone_model, tones

TEXT = "abba cafe. head bag. fade."


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tone_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def recognizer(model):
    return asr.load(model, device="cpu")


@pytest.fixture(scope="module")
def samples():
    """(time,) int16"""
    return (tones(TEXT, around=0.2) * 20000).astype(numpy.int16)


@pytest.fixture(scope="module")
def wav(samples, tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "x.wav"
    soundfile.write(path, samples, RATE)
    return path


def test_a_file_gives_what_transcribe_writes_as_json(recognizer, model, wav, capsys):
    transcribe_files(Request([str(wav)], str(model), device="cpu", format="json"))
    written = json.loads(capsys.readouterr().out)
    transcript = recognizer.transcribe(wav)
    assert transcript.text == written["text"] == TEXT.replace(".", "") and transcript.kind == written["kind"] == "words"
    assert transcript.name == written["file"] and round(transcript.seconds, 3) == written["seconds"]
    assert written["words"] == [
        {
            "word": word.text,
            "start": round(word.start, 3),
            "end": round(word.end, 3),
            "confidence": round(word.confidence, 4),
        }
        for word in transcript.words
    ]
    assert transcript.confidence == pytest.approx(sum(word.confidence for word in transcript.words) / 5)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: x.astype(numpy.int32) * 2**16,
        lambda x: (x / 2**15).astype(numpy.float32),
        lambda x: x / 2**15,
        lambda x: torch.from_numpy(x),
        lambda x: torch.from_numpy(x)[None] / 2**15,
        lambda x: x[:, None],
        lambda x: numpy.stack([x, x]),
        lambda x: numpy.stack([x, x], axis=1),
    ],
    ids=["int16", "int32", "float32", "float64", "tensor", "row", "column", "channels first", "channels last"],
)
def test_an_array_is_heard_as_the_file_that_holds_it(recognizer, samples, wav, change):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*2 channels")
        heard = recognizer.transcribe(change(samples), sample_rate=RATE)
    assert heard.words == recognizer.transcribe(wav).words and heard.text


def test_a_list_gives_a_list_in_its_order_and_other_rates_are_resampled(recognizer, samples, wav, tmp_path):
    first, second = recognizer.transcribe([wav, str(wav)])
    assert first == second == recognizer.transcribe(wav) and recognizer.transcribe([]) == []
    fast = tones("bag", rate=48000, around=0.2)
    soundfile.write(tmp_path / "fast.wav", fast, 48000, subtype="FLOAT")
    whole, half = recognizer.transcribe([fast, fast[: len(fast) // 2]], sample_rate=48000)
    assert [whole.name, half.name] == ["array 1", "array 2"] and whole.text.startswith(half.text)
    assert whole.text == recognizer.transcribe(tmp_path / "fast.wav").text != half.text


def test_attention_decoder_and_settings_are_those_of_the_command_line(model, recognizer, wav):
    other = asr.load(str(model), attention="i_clustered-7", decoder={"name": "beam", "beam_size": 4}, window_seconds=9)
    assert repr(other) == f"Recognizer({str(model)!r}, attention='i_clustered-7', decoder='beam')"
    assert other.model.description["attention"] == {
        "name": "i_clustered", "clusters": 7, "topk": 32, "bits": 63, "iterations": 10
    }  # fmt: skip
    assert other.sample_rate == RATE and other.transcribe(wav).text == recognizer.transcribe(wav).text


def test_two_channels_are_mixed_with_a_warning_and_channel_takes_one(model, recognizer, samples):
    stereo = numpy.stack([samples, -samples])
    with pytest.warns(UserWarning, match="the array: the mean of its channels is silent"):
        recognizer.transcribe(stereo, sample_rate=RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asr.load(model, device="cpu", channel=2).transcribe(stereo, sample_rate=RATE).text == TEXT.replace(
            ".", ""
        )


@pytest.mark.parametrize(
    "audio, rate, says",
    [
        (numpy.zeros(RATE), None, "the array has no sample rate: add sample_rate=16000"),
        (numpy.zeros(RATE), "16k", "sample_rate of the array is '16k', which is not a whole number of Hz"),
        (numpy.zeros(RATE), 0, "not a whole number of Hz"),
        (numpy.zeros(0), RATE, "the array is empty"),
        (numpy.zeros(3), RATE, "the array is shorter than one frame"),
        (numpy.zeros((8, RATE)), RATE, "give several recordings as a list of arrays"),
        (numpy.zeros((1, 2, RATE)), RATE, r"has shape \(1, 2, 16000\): give \(time,\) or \(channels, time\)"),
        (numpy.zeros(RATE, numpy.int64), RATE, "holds int64: give floats"),
        (numpy.full(RATE, numpy.nan), RATE, "the array holds samples that are not numbers"),
        (numpy.full(RATE, 9000.0), RATE, "samples of 9e.03, where full scale is 1"),
        ([numpy.zeros(RATE), 5], RATE, "array 2 is of type int: give a path, a numpy array"),
        ("nowhere.wav", None, "no audio file nowhere.wav"),
        ("nowhere.wav", RATE, "sample_rate=16000 is for arrays"),
        (b"RIFF", RATE, "is of type bytes"),
    ],
)
def test_what_is_no_recording_is_named_with_what_to_give(recognizer, audio, rate, says):
    with pytest.raises(UserError, match=says):
        recognizer.transcribe(audio, sample_rate=rate)


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"checkpoint": "nowhere"}, "There is no checkpoint at nowhere"),
        ({"attention": "i_clusterd-100"}, "did you mean i_clustered"),
        ({"attention": {"clusters": 100}}, "attention={'clusters': 100} has no name"),
        ({"attention": {"name": "clustered", "topk": 3}}, "takes no setting 'topk'"),
        ({"clusters": 0, "attention": "clustered"}, "clusters takes a whole number of 1 or more"),
        ({"device": "gpu"}, "device is auto, cpu or cuda"),
        ({"decoder": "wfts"}, "did you mean wfst"),
        ({"decoder": {"name": "beam", "beamsize": 3}}, "did you mean beam_size"),
        ({"window_second": 3}, "did you mean window_seconds"),
        ({"window_seconds": "long"}, "window_seconds takes a number"),
        ({"output": "folder"}, "There is no setting called 'output'"),
    ],
)
def test_what_cannot_be_loaded_is_a_sentence(model, settings, says):
    with pytest.raises(UserError, match=says):
        asr.load(**{"checkpoint": model, "device": "cpu", **settings})


@pytest.mark.parametrize("name", attentions.names())
def test_every_attention_is_a_module_for_anybody(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where auto keeps what it measured
    queries, keys, values = torch.randn(3, 2, 4, 50, 8, generator=torch.Generator().manual_seed(0))
    module = asr.attention(name)
    keys = queries if module.shared_qk else keys
    lengths = torch.tensor([50, 30])
    output = module(queries, keys, values.requires_grad_(), lengths)
    assert output.shape == values.shape and not output[1, :, 30:].any()
    output.sum().backward()
    assert values.grad is not None and isinstance(module, torch.nn.Module)


def test_an_attention_takes_its_knobs_and_refuses_others():
    assert asr.attention("i_clustered", clusters=7).label() == asr.attention("i_clustered-7").label() == "i_clustered-7"
    for knobs, says in (({"cluster": 3}, "did you mean clusters"), ({"clusters": 0}, "from 1 to 65536, not 0")):
        with pytest.raises(UserError, match=says):
            asr.attention("i_clustered", **knobs)


@pytest.mark.run
def test_importing_asr_is_light_and_what_it_offers_is_listed():
    code = (
        "import sys; before = set(sys.modules); import asr\n"
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before} - sys.stdlib_module_names))\n"
        "assert {'load', 'attention', 'Recognizer'} <= set(dir(asr)) and not hasattr(asr, 'nothing')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["asr"]

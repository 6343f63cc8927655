"""From a split to emissions: batches, the cache that keeps them, and decoding what was kept."""

import os
from types import SimpleNamespace

import numpy
import pytest
import soundfile
import torch

from asr.errors import UserError
from asr.evaluation.emissions import (
    Batching,
    audio_stamps,
    batches_of_emissions,
    cached_emissions,
    decode_all,
    emissions_of,
)
from asr.inference.decoders import Decoder, Hypothesis
from tests.support.splits import recorded, split_of
from tests.support.tones import RATE, built


def test_every_utterance_comes_once_without_padding_and_the_first_may_run_beforehand(tmp_path):
    from lhotse import Recording

    recordings = []
    for name, seconds in (("a", 0.4), ("b", 0.8), ("c", 0.6)):
        soundfile.write(tmp_path / f"{name}.wav", numpy.random.default_rng(1).normal(0, 0.1, int(seconds * RATE)), RATE)
        recordings.append(Recording.from_file(tmp_path / f"{name}.wav"))
    model = built(2, "full", 10)
    split = split_of(*recordings, whole=True)
    split.labels = [[], [], []]
    split.frames = [model.features.frames_of(cut.num_samples) for cut in split.cuts]
    calls = []
    model.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
    batching = Batching("cpu", utterances=2)
    batches = list(batches_of_emissions(model, split, batching, warm_up=True))
    assert calls == [1, 2, 1] and all(batch.seconds > 0 for batch in batches)
    rows = dict(row for batch in batches for row in batch.rows())
    assert sorted(rows) == [0, 1, 2]
    expected = [model.encoder.output_lengths(frames) for frames in split.frames]
    assert [rows[index].shape for index in range(3)] == [(length, 10) for length in expected]
    kept = emissions_of(model, split, batching)
    assert calls == [1, 2, 1, 2, 1]
    assert all(torch.equal(kept[index], rows[index]) and kept[index].dtype == torch.float32 for index in range(3))


class Counting(Decoder):
    """Gives the number of frames that it was told of as the only unit, and remembers the sizes of its batches."""

    name = "counting"

    def __init__(self):
        self.sizes = []

    def __call__(self, emissions, lengths):
        self.sizes.append(len(lengths))
        assert emissions.shape[1] == int(lengths.max())
        return [[Hypothesis([length], 0.0, [0])] for length in lengths.tolist()]


def test_utterances_are_decoded_with_others_of_like_length_and_come_back_in_their_order():
    decoder = Counting()
    lengths = [5, 90, 7, 3] * 20
    best = decode_all(decoder, [torch.zeros(length, 4) for length in lengths])
    assert [hypothesis.ids for hypothesis in best] == [[length] for length in lengths]
    assert decoder.sizes == [32, 32, 16]


def test_audio_that_was_replaced_is_seen_by_its_size_or_its_time_and_every_file_is_looked_at_once(tmp_path):
    from lhotse import Recording

    for name in ("a.wav", "b.wav"):
        recorded(tmp_path / name, 0.1)
    split = split_of(*(Recording.from_file(tmp_path / name) for name in ("a.wav", "b.wav")))
    before = list(audio_stamps(split))
    assert len(before) == 2 and list(audio_stamps(split)) == before
    status = os.stat(tmp_path / "a.wav")
    recorded(tmp_path / "a.wav", 0.2)
    os.utime(tmp_path / "a.wav", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert os.stat(tmp_path / "a.wav").st_size == status.st_size
    after = list(audio_stamps(split))
    assert after[0] != before[0] and after[1] == before[1]
    soundfile.write(tmp_path / "b.wav", numpy.full(1601, 0.1), 16000, subtype="PCM_16")
    assert list(audio_stamps(split))[1] != before[1]
    (tmp_path / "b.wav").unlink()
    with pytest.raises(UserError, match="b.wav, the audio of b-0, cannot be read: No such file"):
        list(audio_stamps(split))


def test_emissions_are_found_again_where_they_can_be_kept_and_computed_where_not(tmp_path, monkeypatch, caplog):
    from lhotse import Recording

    recorded(tmp_path / "a.wav", 0.1)
    split = split_of(Recording.from_file(tmp_path / "a.wav"))
    computed = []
    monkeypatch.setattr("asr.evaluation.emissions.weights_digest", lambda model: "")
    monkeypatch.setattr(
        "asr.evaluation.emissions.emissions_of", lambda *_: computed.append(1) or [torch.ones(2, 3), torch.ones(1, 3)]
    )
    model = SimpleNamespace(description={})

    def emissions(cache):
        found, file = cached_emissions(model, split, Batching("cpu", 1000), "mine", cache)
        return [tensor.shape[0] for tensor in found], file

    assert emissions(tmp_path / "cache") == emissions(tmp_path / "cache") and len(computed) == 1
    _, file = emissions(tmp_path / "cache")
    file.write_bytes(b"half of it")
    assert emissions(tmp_path / "cache") == ([2, 1], file) and len(computed) == 2
    assert "cannot be kept" not in caplog.text
    assert emissions(tmp_path / "a.wav") == ([2, 1], None) and len(computed) == 3
    assert "The emissions cannot be kept: " in caplog.text and "cache=FOLDER" in caplog.text


def test_audio_that_is_held_in_memory_is_told_apart_by_what_it_is(tmp_path):
    from lhotse import Recording

    stamps = []
    for value in (0.1, 0.2):
        recorded(tmp_path / "a.wav", value)
        recording = Recording.from_bytes((tmp_path / "a.wav").read_bytes(), "a")
        stamps.append(list(audio_stamps(split_of(recording))))
    assert [len(each) for each in stamps] == [1, 1] and stamps[0] != stamps[1]

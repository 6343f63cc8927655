"""Manifests from lhotse's recipes: checked line by line, made mono, one supervision per cut, one sample rate."""

import gzip
import json
import logging
import unicodedata

import numpy
import pytest
import soundfile
from lhotse import AudioSource, CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.supervision import AlignmentItem

from asr.audio.cuts import load_waveform
from asr.audio.reading import read_audio
from asr.data.checks import header_of, unusable_audio
from asr.data.corpora.cuts import CutsCorpus
from asr.data.health.audio import measure, recordings_of
from asr.errors import UserError
from tests.support.audio_files import by_ffmpeg, by_soundfile, with_length


def make_cut(folder, name, text="some words", seconds=1.0, sample_rate=16000, level=0.3):
    path = folder / f"{name}.wav"
    time = numpy.arange(int(seconds * sample_rate)) / sample_rate
    soundfile.write(path, level * numpy.sin(2 * numpy.pi * 300 * time), sample_rate)
    recording = Recording.from_file(path, recording_id=name)
    supervision = SupervisionSegment(name, name, 0.0, seconds, text=text, speaker="ann", language="en")
    return MonoCut(name, 0.0, seconds, 0, supervisions=[] if text is None else [supervision], recording=recording)


def make_stereo_cut(folder, name, supervisions):
    """A cut of two seconds, with the left channel twice as loud as the right. supervisions: (start, duration, channel)."""
    tone = numpy.sin(2 * numpy.pi * 300 * numpy.arange(32000) / 16000)
    soundfile.write(folder / f"{name}.wav", numpy.stack([0.4 * tone, 0.2 * tone], 1), 16000)
    cut = Recording.from_file(folder / f"{name}.wav", recording_id=name).to_cut()
    cut.supervisions = [
        SupervisionSegment(f"{name}-s{at}", name, start, duration, channel, text=f"words {at}")
        for at, (start, duration, channel) in enumerate(supervisions)
    ]
    return cut


@pytest.fixture
def manifests(tmp_path):
    """Writes the three manifests; keywords replace the cuts of a split. Returns the corpus."""

    def write(**given):
        files = {}
        for split in ("train", "dev", "test"):
            cuts = given.get(split) or [make_cut(tmp_path, f"{split}-{number}") for number in range(2)]
            files[split] = str(tmp_path / f"{split}.jsonl.gz")
            CutSet.from_cuts(cuts).to_file(files[split])
        return CutsCorpus(**files)

    return write


def load(corpus, tmp_path):
    return corpus.load(tmp_path / "cache")


def test_manifests_of_a_recipe_are_read_as_they_are(manifests, tmp_path):
    corpus = load(manifests(), tmp_path)
    assert (corpus.sample_rate, corpus.dropped) == (16000, [])
    for split in ("train", "dev", "test"):
        assert [cut.id for cut in corpus.splits[split]] == [f"{split}-0", f"{split}-1"]
        for cut in corpus.splits[split]:
            assert cut.load_audio().shape == (1, 16000)
            assert (cut.supervisions[0].text, cut.supervisions[0].speaker) == ("some words", "ann")
    assert not (tmp_path / "cache").exists()


def test_uncompressed_manifests_are_read_too(manifests, tmp_path):
    corpus = manifests()
    plain = tmp_path / "train.jsonl"
    plain.write_bytes(gzip.decompress((tmp_path / "train.jsonl.gz").read_bytes()))
    corpus.train = str(plain)
    assert len(load(corpus, tmp_path).splits["train"]) == 2


def test_mixed_sample_rates_become_the_most_common_one_of_training(manifests, tmp_path):
    train = [make_cut(tmp_path, f"t{at}", sample_rate=rate) for at, rate in enumerate((8000, 16000, 8000))]
    corpus = load(manifests(train=train), tmp_path)
    assert corpus.sample_rate == 8000
    for cuts in corpus.splits.values():
        for cut in cuts:
            assert cut.sampling_rate == 8000 and cut.load_audio().shape == (1, 8000)


def test_a_sample_rate_may_be_asked_for(manifests, tmp_path):
    corpus = manifests()
    corpus.sample_rate = 22050
    cut = next(iter(load(corpus, tmp_path).splits["dev"]))
    assert cut.load_audio().shape == (1, 22050)


def test_a_cut_with_several_supervisions_becomes_one_cut_each_and_says_so(manifests, tmp_path, caplog):
    long = make_cut(tmp_path, "long", seconds=3.0)
    tiers = {"word": [AlignmentItem("two", 1.6, 0.2)]}
    long.supervisions = [
        SupervisionSegment("s1", "long", 0.0, 1.5, text="one"),
        SupervisionSegment("s2", "long", 1.5, 1.0, text="two", alignment=tiers),
    ]
    with caplog.at_level(logging.WARNING):
        corpus = load(manifests(train=[long, make_cut(tmp_path, "short")]), tmp_path)
    cuts = list(corpus.splits["train"])
    assert [(cut.duration, cut.supervisions[0].text) for cut in cuts] == [
        (1.5, "one"),
        (1.0, "two"),
        (1.0, "some words"),
    ]
    assert len({cut.id for cut in cuts}) == 3
    assert [cut.load_audio().shape[1] for cut in cuts] == [24000, 16000, 16000]
    assert cuts[1].supervisions[0].alignment["word"][0].start == pytest.approx(0.1)
    assert cuts[0].supervisions[0].speaker == "unknown"
    assert "1 cuts have several supervisions" in caplog.text


def test_cuts_without_supervision_or_text_are_left_out_by_name(manifests, tmp_path):
    train = [make_cut(tmp_path, "a"), make_cut(tmp_path, "b", text=None), make_cut(tmp_path, "c", text=" ")]
    corpus = load(manifests(train=train), tmp_path)
    assert [cut.id for cut in corpus.splits["train"]] == ["a"]
    assert (corpus.dropped, corpus.left_out) == ([], [("b", "no supervision"), ("c", "no text")])


def test_a_split_with_nothing_to_use_is_refused(manifests, tmp_path):
    with pytest.raises(UserError, match=r"dev.jsonl.gz \(corpus.dev\) holds no cuts with a transcript"):
        load(manifests(dev=[make_cut(tmp_path, "b", text=None)]), tmp_path)


def test_of_two_channels_the_one_that_speaks_is_read(manifests, tmp_path):
    call = make_stereo_cut(tmp_path, "call", [(0.0, 1.0, 0), (1.0, 1.0, 1)])
    left, right = load(manifests(train=[call]), tmp_path).splits["train"]
    for cut, level in ((left, 0.4), (right, 0.2)):
        audio = cut.load_audio()
        assert audio.shape == (1, 16000) and cut.num_channels == 1
        assert abs(audio).max() == pytest.approx(level, abs=1e-3)
    assert (left.supervisions[0].channel, right.supervisions[0].channel) == (left.channel, right.channel) == (0, 1)


def test_a_supervision_on_two_channels_gets_their_mix(manifests, tmp_path):
    both = make_stereo_cut(tmp_path, "both", [(0.0, 2.0, [0, 1])])
    (cut,) = load(manifests(train=[both]), tmp_path).splits["train"]
    audio = cut.load_audio()
    assert audio.shape == (1, 32000) and abs(audio).max() == pytest.approx(0.3, abs=1e-3)
    assert cut.supervisions[0].text == "words 0"


def test_unreadable_channels_that_would_be_mixed_are_dropped_by_name(manifests, tmp_path):
    both = make_stereo_cut(tmp_path, "both", [(0.0, 2.0, [0, 1])])
    corpus = manifests(train=[both, make_cut(tmp_path, "sound")])
    (tmp_path / "both.wav").write_text("no audio any more")
    loaded = load(corpus, tmp_path)
    assert [cut.id for cut in loaded.splits["train"]] == ["sound"]
    ((utterance, reason),) = loaded.dropped_of("train")
    assert utterance == "both" and reason.startswith(f"unreadable audio: {tmp_path / 'both.wav'} cannot be read")


def test_a_second_channel_of_a_mono_cut_is_kept(manifests, tmp_path):
    stereo = make_stereo_cut(tmp_path, "right", [(0.0, 2.0, [0, 1])])
    supervision = SupervisionSegment("s", "right", 0.0, 2.0, channel=1, text="on the right")
    mono = MonoCut("right", 0.0, 2.0, 1, supervisions=[supervision], recording=stereo.recording)
    (cut,) = load(manifests(train=[mono]), tmp_path).splits["train"]
    assert abs(cut.load_audio()).max() == pytest.approx(0.2, abs=1e-3)


def test_missing_files_and_other_kinds_of_files_are_named(manifests, tmp_path):
    corpus = manifests()
    corpus.dev = str(tmp_path / "none.jsonl.gz")
    with pytest.raises(UserError, match=r"There is no file .*none.jsonl.gz \(corpus.dev\)"):
        load(corpus, tmp_path)
    (tmp_path / "cuts.yaml").write_text("[]")
    corpus.dev = str(tmp_path / "cuts.yaml")
    with pytest.raises(UserError, match="is not a .jsonl or .jsonl.gz file"):
        load(corpus, tmp_path)
    corpus.dev = None
    with pytest.raises(UserError, match="corpus.dev=None is not a file"):
        load(corpus, tmp_path)


def test_half_a_line_is_answered_with_its_number(manifests, tmp_path):
    corpus = manifests()
    lines = gzip.decompress((tmp_path / "train.jsonl.gz").read_bytes())
    (tmp_path / "half.jsonl").write_bytes(lines[:-40])
    corpus.train = str(tmp_path / "half.jsonl")
    with pytest.raises(UserError, match=r"half.jsonl:2: this line is not complete JSON"):
        load(corpus, tmp_path)


def test_half_a_compressed_file_is_named(manifests, tmp_path):
    corpus = manifests()
    data = (tmp_path / "train.jsonl.gz").read_bytes()
    (tmp_path / "train.jsonl.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"train.jsonl.gz is damaged or cut short after line \d+"):
        load(corpus, tmp_path)
    (tmp_path / "train.jsonl.gz").write_bytes(b"not compressed at all")
    with pytest.raises(UserError, match=r"train.jsonl.gz:1: this line is not complete JSON"):
        load(corpus, tmp_path)


def test_manifests_of_recordings_or_supervisions_are_told_from_cuts(manifests, tmp_path):
    corpus = manifests()
    cut = make_cut(tmp_path, "a")
    RecordingSet.from_recordings([cut.recording]).to_file(tmp_path / "recordings.jsonl.gz")
    SupervisionSet.from_segments(cut.supervisions).to_file(tmp_path / "supervisions.jsonl.gz")
    for kind in ("recording", "supervision"):
        corpus.test = str(tmp_path / f"{kind}s.jsonl.gz")
        with pytest.raises(UserError, match=rf"{kind}s.jsonl.gz:1: expected a MonoCut or MultiCut, found a {kind}"):
            load(corpus, tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"type": "MonoCut", "id": "x"}, "this is not a lhotse cut"),
        ({"type": "MixedCut", "id": "x", "tracks": []}, "found MixedCut"),
        ({"type": "MonoCut", "id": "x", "start": 0, "duration": 1, "channel": 0}, "'x' has no recording"),
        ([1, 2], "a JSON object"),
    ],
)
def test_a_line_that_is_no_cut_of_recorded_audio_is_answered_with_its_number(manifests, tmp_path, line, message):
    corpus = manifests()
    corpus.train = str(tmp_path / "odd.jsonl")
    (tmp_path / "odd.jsonl").write_text(f"\n{json.dumps(line)}\n")
    with pytest.raises(UserError, match=rf"odd.jsonl:2: .*{message}"):
        load(corpus, tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["duration"], None, "the duration of the cut 'a' is None; expected a duration in seconds"),
        (["channel"], {}, "the channel of the cut 'a' is {}; expected one of the recording's"),
        (["recording", "sampling_rate"], None, "the recording's sampling_rate of the cut 'a' is None; expected a positive"),
        (["recording", "channel_ids"], 0, "the recording's channel_ids of the cut 'a' is 0; expected a list of whole numbers"),
        (["recording", "sources", 0, "source"], None, "the audio of 'a' is None; expected the path of a file"),
        (["supervisions", 0, "start"], None, "the supervision's start of the cut 'a' is None; expected a time in seconds"),
        (["supervisions", 0, "speaker"], 7, "the supervision's speaker of the cut 'a' is 7; expected text"),
        (["supervisions", 0, "alignment"], {"word": [["hi", None, 0.5]]}, "an item of the alignment word of the cut 'a' is"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_field_that_is_null_or_of_another_type_is_answered_with_its_name(manifests, tmp_path, path, value, message):
    corpus = manifests()
    data = make_cut(tmp_path, "a").to_dict()
    *above, key = path
    place = data
    for step in above:
        place = place[step]
    place[key] = value
    corpus.train = str(tmp_path / "odd.jsonl")
    (tmp_path / "odd.jsonl").write_text(json.dumps(data) + "\n")
    with pytest.raises(UserError) as refused:
        load(corpus, tmp_path)
    assert str(refused.value).startswith(f"{corpus.train}:1: {message}")


def test_cuts_whose_audio_is_gone_are_dropped_by_name_and_a_split_of_them_refused(manifests, tmp_path):
    train = [make_cut(tmp_path, "a"), make_stereo_cut(tmp_path, "call", [(0.0, 1.0, 0), (1.0, 1.0, 1)])]
    corpus = manifests(train=train)
    for name in ("test-1", "call"):
        (tmp_path / f"{name}.wav").unlink()
    loaded = load(corpus, tmp_path)
    assert [name for name, _ in loaded.dropped_of("train")] == ["call-s0", "call-s1"]
    ((name, reason),) = loaded.dropped_of("test")
    assert name == "test-1" and reason.startswith(f"missing audio: {tmp_path}/test-1.wav is not there")
    (tmp_path / "test-0.wav").unlink()
    with pytest.raises(
        UserError, match=r"test.jsonl.gz \(corpus.test\) names 2 audio files, and none of them can be used"
    ):
        load(corpus, tmp_path)


def test_paths_in_another_form_of_the_same_letters_are_found(manifests, tmp_path, caplog):
    cuts = [make_cut(tmp_path, "été"), make_cut(tmp_path, "upper")]
    (tmp_path / "été.wav").rename(tmp_path / unicodedata.normalize("NFD", "été.wav"))
    (tmp_path / "upper.wav").rename(tmp_path / "upper.WAV")
    corpus = load(manifests(train=cuts), tmp_path)
    assert [cut.load_audio().shape for cut in corpus.splits["train"]] == [(1, 16000)] * 2 and corpus.dropped == []
    assert "upper.wav is upper.WAV" in caplog.text and "t.wav is" not in caplog.text


def test_paths_may_be_relative_to_the_manifest(manifests, tmp_path, monkeypatch):
    cut = make_cut(tmp_path, "here")
    cut.recording.sources[0].source = "here.wav"
    corpus = manifests(train=[cut])
    monkeypatch.chdir("/")
    (found,) = load(corpus, tmp_path).splits["train"]
    assert found.load_audio().shape == (1, 16000)


def test_an_id_that_occurs_twice_is_refused_within_and_across_splits(manifests, tmp_path):
    same = make_cut(tmp_path, "same")
    manifests()
    text = json.dumps(same.to_dict()) + "\n"
    (tmp_path / "twice.jsonl").write_text(text * 2)
    (tmp_path / "once.jsonl").write_text(text)
    twice, once, test = (str(tmp_path / name) for name in ("twice.jsonl", "once.jsonl", "test.jsonl.gz"))
    with pytest.raises(UserError, match=r"'same' occurs twice \(in train\)"):
        load(CutsCorpus(twice, once, test), tmp_path)
    with pytest.raises(UserError, match=r"'same' occurs twice \(in train and in dev\)"):
        load(CutsCorpus(once, once, test), tmp_path)


def test_a_sample_rate_that_is_none_is_refused(manifests, tmp_path):
    corpus = manifests()
    corpus.sample_rate = -1
    with pytest.raises(UserError, match="sample_rate=-1"):
        load(corpus, tmp_path)


CHANGES = {
    "speed": lambda cut: cut.perturb_speed(1.1),
    "slower": lambda cut: cut.perturb_speed(0.9),
    "volume": lambda cut: cut.perturb_volume(1.5),
    "resampled": lambda cut: cut.resample(8000).resample(16000),
    "narrow": lambda cut: cut.narrowband("mulaw"),
    "a room": lambda cut: cut.reverb_rir(cut.recording),
    "a chain": lambda cut: cut.perturb_speed(0.9).perturb_volume(0.5).resample(8000).perturb_speed(1.1).resample(16000),
    "part of it": lambda cut: cut.perturb_speed(1.1).truncate(
        offset=0.3, duration=0.4, keep_excessive_supervisions=True
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_audio_is_read_by_us_and_changed_by_lhotse(manifests, tmp_path, change):
    """The manifest describes the audio after its changes, the file the audio before them."""
    changed = CHANGES[change](make_cut(tmp_path, "x", seconds=2.0))
    corpus = load(manifests(train=[changed]), tmp_path)
    (cut,) = corpus.splits["train"]
    assert numpy.array_equal(load_waveform(cut).numpy(), cut.load_audio()[0])
    assert unusable_audio(cut) is None
    (recording,) = [each for each in recordings_of(corpus) if each.name == cut.recording.id]
    assert (recording.duration, recording.sample_rate) == (2.0, 16000)
    assert [each.fault for each in measure([recording], 1)] == [None]
    soundfile.write(tmp_path / "x.wav", numpy.full(24000, 0.1), 16000)  # a quarter is missing now
    header_of.cache_clear()
    assert "shorter than its manifest says: 1.500 s, not 2.000" in unusable_audio(cut)
    assert "x lasts 1.500 s, the manifest says 2.000 s" in measure([recording], 1)[0].fault.replace(recording.name, "x")


def test_a_change_that_lhotse_cannot_make_here_is_named_before_training(tmp_path):
    import torchaudio

    changed = make_cut(tmp_path, "x").perturb_tempo(1.1)
    if hasattr(torchaudio, "sox_effects"):
        assert unusable_audio(changed) is None
    else:
        assert unusable_audio(changed).startswith("a transform that cannot be applied: Tempo: ")


def test_the_response_of_a_room_may_not_be_a_command(manifests, tmp_path):
    room = Recording("room", [AudioSource("command", [0], "touch it-was-run")], 16000, 16000, 1.0)
    changed = make_cut(tmp_path, "x").reverb_rir(room)
    with pytest.raises(UserError, match="the audio of 'room' is of type 'command'"):
        load(manifests(train=[changed]), tmp_path)
    assert "not a file: command" in unusable_audio(changed)


@pytest.mark.parametrize(
    "kind", ["mp3 of no length", "chained ogg", "flac of no length", "gsm", "sphere", "wav of no length"]
)
def test_cuts_of_files_that_lhotse_reads_wrongly_are_read_to_their_end(manifests, tmp_path, kind):
    path, data = {
        "mp3 of no length": ("x.mp3", by_ffmpeg("mp3", "libmp3lame", 16000, streamed=True)),
        "chained ogg": ("x.ogg", by_soundfile("OGG", "VORBIS", 16000) * 2),
        "flac of no length": ("x.flac", with_length("FLAC", by_soundfile("FLAC", "PCM_16", 16000), 0)),
        "gsm": ("x.wav", by_soundfile("WAV", "GSM610", 8000)),
        "sphere": ("x.sph", by_soundfile("NIST", "ULAW", 8000)),
        "wav of no length": ("x.wav", with_length("WAV", by_soundfile("WAV", "PCM_16", 16000), 0)),
    }[kind]
    (tmp_path / path).write_bytes(data)
    whole, rate = read_audio(tmp_path / path)
    recording = Recording("x", [AudioSource("file", [0], str(tmp_path / path))], rate, len(whole), len(whole) / rate)
    cut = recording.to_cut()
    assert numpy.array_equal(load_waveform(cut).numpy(), whole) and unusable_audio(cut) is None
    part = cut.truncate(offset=0.25, duration=0.5)
    assert numpy.array_equal(load_waveform(part).numpy(), whole[rate // 4 : rate // 4 + rate // 2])
    cut.supervisions = [SupervisionSegment("x", "x", 0.0, cut.duration, text="words")]
    corpus = load(manifests(train=[cut]), tmp_path)
    assert all(each.fault is None for each in measure(recordings_of(corpus), 1))

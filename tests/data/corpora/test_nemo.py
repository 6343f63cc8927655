"""Manifests of NeMo and ESPnet: the fields of a line, where its audio is found, and hints about other files."""

import gzip
import json
from pathlib import Path

import numpy
import pytest
import soundfile
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

from asr.data.corpora import corpora
from asr.errors import UserError


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(name, seconds=2.0, rate=16000, channels=1):
    time = numpy.arange(round(seconds * rate)) / rate
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(name, numpy.stack([0.3 * numpy.sin(600 * numpy.pi * time)] * channels, 1), rate)
    return name


def line(name, text="some words", **more):
    return {"audio_filepath": name, "duration": 2.0, "text": text, **more}


def lines(count=4, **more):
    return [line(record(f"wavs/{number}.wav"), f"words {number}", **more) for number in range(count)]


def write(data, name="manifest.json"):
    """A manifest with one object per line, or with the given text."""
    text = data if isinstance(data, str) else "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in data)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf8")
    return name


def load(path="manifest.json", **settings):
    return corpora.create({"name": "nemo", "path": path, **settings}).load(Path("cache"), 1)


def all_cuts(corpus):
    return {cut.id: cut for cuts in corpus.splits.values() for cut in cuts}


def test_a_manifest_becomes_cuts_and_plain_files_are_used_where_they_lie(place):
    write([line(record(f"wavs/{n}.wav"), f"grüße {n}", speaker=n, lang="de") for n in range(4)])
    corpus = load()
    cuts = all_cuts(corpus)
    assert sorted(cuts) == [f"wavs/{number}" for number in range(4)] and (corpus.sample_rate, corpus.dropped) == (
        16000,
        [],
    )
    (supervision,) = cuts["wavs/2"].supervisions
    assert (supervision.text, supervision.speaker, supervision.language) == ("grüße 2", "2", "de")
    assert cuts["wavs/0"].supervisions[0].speaker == "0"
    assert cuts["wavs/2"].recording.sources[0].source == str(place / "wavs/2.wav")
    assert all(cut.load_audio().shape == (1, 32000) for cut in cuts.values())


def as_list(data):
    return json.dumps(data, indent=1)


def with_mark(data):
    return "\ufeff" + "\r\n".join(json.dumps(each) for each in data) + "\r\n\r\n"


@pytest.mark.parametrize(
    "written", [as_list, json.dumps, with_mark, lambda data: data], ids=["indented", "list", "windows", "lines"]
)
@pytest.mark.parametrize("compressed", [False, True])
def test_lines_lists_and_compressed_files_are_all_read(written, compressed):
    write(written(lines()))
    if compressed:
        Path("manifest.json").write_bytes(gzip.compress(Path("manifest.json").read_bytes()))
    texts = {name: cut.supervisions[0].text for name, cut in all_cuts(load()).items()}
    assert texts == {f"wavs/{number}": f"words {number}" for number in range(4)}


def test_a_line_is_the_part_of_its_file_that_offset_and_duration_say():
    one = record("long.wav", seconds=10.0)
    parts = [(0, 2.5), (2.5, 1.0), (4.0, None), (9.0, 1.3), (9.5, 2.0), (11.0, 1.0), (1.0, 0.05)]
    write([{"audio_filepath": one, "text": "words", "offset": start, "duration": seconds} for start, seconds in parts])
    corpus = load()
    times = {name: (cut.start, cut.duration) for name, cut in all_cuts(corpus).items()}
    assert times == {
        "long-00000000": (0.0, 2.5), "long-00002500": (2.5, 1.0), "long-00004000": (4.0, 6.0), "long-00009000": (9.0, 1.0),
    }  # fmt: skip
    assert all_cuts(corpus)["long-00002500"].load_audio().shape == (1, 16000)
    assert [(name, reason.split(":")[0]) for name, reason in corpus.dropped] == [
        ("long-00009500", "ends after its audio"),
        ("long-00011000", "ends after its audio"),
        ("long-00001000", "shorter than 0.1 s"),
    ]


def test_other_rates_formats_and_channels_are_converted():
    rows = lines(3)
    rows += [
        line(record("other/a.ogg", rate=8000)),
        line(record("other/b.flac", channels=2)),
        line(record("c.wav", rate=44100)),
    ]
    write(rows)
    corpus = load()
    assert corpus.sample_rate == 16000 and len(all_cuts(corpus)) == 6
    for name, cut in all_cuts(corpus).items():
        assert cut.load_audio().shape == (1, 32000)
        assert ("cache" in cut.recording.sources[0].source) == (name in ("other/a", "other/b", "c"))


def test_files_that_differ_by_folder_or_ending_only_have_names_that_differ():
    write([line(record(name)) for name in ("a/x.wav", "b/x.wav", "b/x.flac", "b/y.wav")])
    assert sorted(all_cuts(load())) == ["a/x", "b/x.flac", "b/x.wav", "b/y"]


def test_audio_is_looked_for_beside_the_manifest_then_where_one_is(place):
    record("sets/wavs/0.wav")
    write(lines(4), "sets/manifest.json")
    sources = {name: cut.recording.sources[0].source for name, cut in all_cuts(load("sets/manifest.json")).items()}
    assert sources.pop("wavs/0") == str(place / "sets/wavs/0.wav")
    assert set(sources.values()) == {str(place / f"wavs/{number}.wav") for number in (1, 2, 3)}
    with pytest.raises(UserError) as caught:
        load(write([line(f"gone{number}.wav") for number in range(3)]))
    assert "None of the 3 audio files that " in str(caught.value) and f"are looked up in {place}." in str(caught.value)


def test_lines_that_cannot_be_used_are_named():
    good = lines(3)
    odd = {
        "no text": [line("wavs/0.wav", ""), line("wavs/0.wav", " "), line("wavs/0.wav", None), {"audio_filepath": "wavs/0.wav"}],
        "text is not text: ['a']": [line("wavs/0.wav", ["a"])],
        "audio_filepath is not one file": [line(["a.wav", "b.wav"]), line(""), line(None), line("a\0b")],
        "offset is not a time in seconds": [line("x.wav", offset=-1), line("x.wav", offset="0"), line("x.wav", offset=True)],
        "duration is not a time in seconds": [line("x.wav", duration=float("nan")), line("x.wav", duration=1e300)],
        "speaker or lang is not text": [line("x.wav", speaker=["ann"])], "half of a character": [line("x.wav", "\ud800")],
        "the same audio as an earlier line: line 1": [line("wavs/0.wav", "others")],
    }  # fmt: skip
    expected, rows = [], list(good)
    for reason, each in odd.items():
        for row in each:
            rows.append(row)
            expected.append((f"manifest.json:{len(rows)}", reason))
    Path("manifest.json").write_text("\n".join(json.dumps(row) for row in rows))
    corpus = load()
    assert [reason for _, reason in corpus.left_out] == 4 * ["no text"]
    dropped = sorted(corpus.dropped + corpus.left_out, key=lambda pair: int(pair[0].split(":")[1]))
    assert [name for name, _ in dropped] == [name for name, _ in expected]
    assert all(found.startswith(reason) for (_, found), (_, reason) in zip(dropped, expected))
    assert sorted(all_cuts(load())) == ["wavs/0-00000000", "wavs/1", "wavs/2"]


def test_broken_and_missing_audio_is_left_out_by_name():
    write(lines(6) + [line("gone.wav")])
    Path("wavs/1.wav").write_bytes(b"no audio at all")
    dropped = dict(load().dropped)
    assert len(dropped) == 2
    assert "1.wav cannot be read as audio" in dropped["wavs/1"]
    assert "There is no audio file gone.wav" in dropped["gone"]


@pytest.mark.parametrize("apart", [True, False])
def test_train_dev_and_test_may_be_manifests_in_one_folder_or_in_three(apart):
    own = {}
    for split in ("train", "dev", "test"):
        files = [record(f"{split}/{number}.wav") for number in range(3)]
        rows = [line(Path(file).name if apart else file, lang="en") for file in files]
        own[split] = write(rows, f"{split}/manifest.json" if apart else f"{split}.json")
    for split, cuts in load(None, **own).splits.items():
        assert sorted(cut.id for cut in cuts) == [f"{split}/{number}" for number in range(3)]


def espnet(**inputs):
    utterances = {}
    for number in range(3):
        record(f"{number}.wav")
        utterances[f"ann-{number}"] = {
            "input": [
                {"name": "input1", "shape": [99, 83]} | {key: value.format(number) for key, value in inputs.items()}
            ],
            "output": [
                {"name": "target1", "shape": [2, 30], "text": f"words {number}", "token": "w", "tokenid": "1 2"}
            ],
            "utt2spk": "ann",
        }
    return json.dumps({"utts": utterances}, indent=4)


@pytest.mark.parametrize(
    "inputs", [{"feat": "{}.wav", "filetype": "sound"}, {"wav": "{}.wav"}, {"audio": "{}.wav", "feat": "x.ark:1"}]
)
def test_espnets_data_is_read_where_it_names_audio(inputs):
    write(espnet(**inputs))
    cuts = all_cuts(load())
    assert sorted(cuts) == ["ann-0", "ann-1", "ann-2"]
    assert (cuts["ann-1"].supervisions[0].text, cuts["ann-1"].supervisions[0].speaker) == ("words 1", "ann")


@pytest.mark.parametrize(("content", "says"), [
    (espnet, r"the input of ann-0 is features \(dump/f.ark:12\), but training reads audio: .* corpus=kaldi"),
    ('{"utts": {"a": {"input": []}}}', "a lacks an input and an output as ESPnet writes them"),
    ('{"audio_filepath": "a.wav", "text": "x"}\n{"audio', r"manifest.json:2: this line is not complete JSON"),
    ('{"type": "MonoCut", "id": "x"}', "found a MonoCut of lhotse: corpus=cuts reads those"),
    ('{"id": "x", "sources": []}', "found a recording of lhotse: `lhotse cut simple"),
    ('{"id": "x", "recording_id": "y", "text": "z"}', "found a supervision of lhotse: `lhotse cut simple"),
    ('{"wav": "x", "wrd": "y"}', "expected a line of a NeMo manifest, found an object with wav, wrd"),
    ("[1, 2, 3]", "manifest.json:1: expected a JSON object"), ("7\n8\n", r"a JSON object \(one utterance"),
    ("", "lists no utterance that can be used"), ("\xff\xfe", "manifest.json is UTF-16"),
    ("\x1f\x8b123", "manifest.json is damaged or cut short"),
    (None, "There is no file .*manifest.json: give a JSON manifest"),
    ("[" * 100000, "is not complete JSON"), ('{"audio_filepath": "a.wav"}\n', r"no utterance that can be used \(1 × no text\)"),
], ids=lambda value: getattr(value, "__name__", str(value)[:30]))  # fmt: skip
def test_what_is_no_such_manifest_is_told_in_a_sentence(content, says):
    if content is espnet:
        content = espnet(feat="dump/f.ark:12")
    if content is not None:
        Path("manifest.json").write_bytes(content.encode("latin1"))
    with pytest.raises(UserError, match=says):
        load()
    assert not Path("cache").exists()


def test_other_corpora_that_are_given_a_manifest_name_this_one():
    write(lines())
    write(lines(), "manifest.jsonl")
    says = "a line of a NeMo manifest: corpus=nemo corpus.path=FILE reads those"
    for train in ("manifest.json", "manifest.jsonl"):
        with pytest.raises(UserError, match=says):
            corpora.create({"name": "cuts", "train": train, "dev": "x", "test": "x"}).load(Path("cache"))
    with pytest.raises(UserError, match=f"There is no folder .*: it is a file, and begins with {says}"):
        corpora.create({"name": "folder", "path": "manifest.json"}).load(Path("cache"))
    recording = Recording.from_file("wavs/0.wav")
    RecordingSet.from_recordings([recording]).to_file("recordings.jsonl.gz")
    SupervisionSet.from_segments([SupervisionSegment("a", "0", 0, 1, text="x")]).to_file("supervisions.jsonl")
    for name in ("recordings.jsonl.gz", "supervisions.jsonl"):
        with pytest.raises(UserError, match=f"found a {name.split('s.')[0]} of lhotse"):
            load(name)

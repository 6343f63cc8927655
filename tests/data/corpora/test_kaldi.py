"""Kaldi's data folders: what wav.scp may contain; none of its commands is ever run, and nothing is dropped silently."""

import os
import re
import subprocess
from pathlib import Path

import numpy
import pytest
import soundfile
from lhotse import AudioSource, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.kaldi import export_to_kaldi, load_kaldi_data_dir

from asr.data.corpora import corpora
from asr.data.corpora.kaldi.pipes import NotRead, Reading, reading_of
from asr.errors import UserError


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The working directory, from which no program can be started."""

    def refuse(*arguments, **settings):
        raise AssertionError(f"{arguments} was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "system", refuse)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def record(name, seconds=2.0, rate=16000, levels=(0.3,), **options):
    """A file with a tone of a different level in each channel."""
    time = numpy.arange(round(seconds * rate)) / rate
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(
        name, numpy.stack([level * numpy.sin(600 * numpy.pi * time) for level in levels], 1), rate, **options
    )
    return name


def write(folder, **files):
    """A data folder of these files, `wav` for wav.scp; a list is its lines."""
    for name, lines in files.items():
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, name.replace("wav", "wav.scp")).write_text("".join(f"{line}\n" for line in lines), encoding="utf8")


def make(folder="data/train", speakers=1, recordings=4, prefix="r", **more):
    """A folder with one utterance per recording, and the lines of its files."""
    names = [f"{prefix}{number:02d}" for number in range(recordings)]
    files = {
        "wav": [f"{name} {record(f'wavs/{name}.wav')}" for name in names],
        "text": [f"{name} words of {name}" for name in names],
        "utt2spk": [f"{name} s{number % speakers}" for number, name in enumerate(names)],
    } | more
    write(folder, **files)
    return files


def load(path="data/train", **settings):
    if path is not None:
        settings["path"] = path
    return corpora.create({"name": "kaldi", **settings}).load(Path("cache"), 1)


def all_cuts(corpus):
    return {cut.id: cut for cuts in corpus.splits.values() for cut in cuts}


def level(cut):
    return float(abs(cut.load_audio()).max())


# what an entry of wav.scp reads


@pytest.mark.parametrize(
    ("entry", "reading"),
    [
        ("/a/b.wav", ("/a/b.wav",)),
        ("my talk.wav", ("my talk.wav",)),
        ("$(rm x).wav", ("$(rm x).wav",)),
        ("sph2pipe -f wav -p -c 1 /d/sw02001.sph |", ("/d/sw02001.sph", 0)),
        ("sph2pipe -f wav x.wv1 |", ("x.wv1",)),
        ("/k/tools/sph2pipe_v2.5/sph2pipe -p -f rif -c 2 x.sph|", ("x.sph", 1)),
        ("$KALDI_ROOT/tools/sph2pipe_v2.5/sph2pipe -f wav -p -c 2 x.sph |", ("x.sph", 1)),
        ("flac -c -d -s /l/x.flac |", ("/l/x.flac",)),
        ("flac -cds x.flac |", ("x.flac",)),
        ("/usr/bin/flac --decode --stdout --silent 'a b.flac' |", ("a b.flac",)),
        ("cat x.wav |", ("x.wav",)),
        ("sox x.mp3 -r 16000 -t wav - |", ("x.mp3", None, 16000)),
        ("sox x.wav -t wav -r 16k -c 1 -b 16 - |", ("x.wav", None, 16000)),
        ('sox "my talk.wav" -t wav - remix 2 |', ("my talk.wav", 1)),
        ("sox x.wav -t .wav - remix - rate -v 8k dither |", ("x.wav", None, 8000)),
        ("sox -G x.wav -r 16k -t wav - dither -S |", ("x.wav", None, 16000)),
        ("sox -c 1 -t wavpcm -e signed-integer x.wav -t wavpcm - |", ("x.wav",)),
        ("sox -G -V1 x.au -b 16 -t wav - channels 1 |", ("x.au",)),
        ("ffmpeg -i x.mp3 -f wav -ar 16000 -ac 1 - |", ("x.mp3", None, 16000)),
        (
            "ffmpeg -nostdin -loglevel quiet -y -i x.m4a -vn -acodec pcm_s16le -ar 8000 -f wav pipe:1 2>/dev/null |",
            ("x.m4a", None, 8000),
        ),
        ("ffmpeg -v 8 -i x.mp3 -f wav -ar 16000 -ab 16 - |", ("x.mp3", None, 16000)),
        ("ffmpeg -threads 1 -i x.ogg -ar 16000 -map_channel 0.0.1  -f wav -threads 1 pipe:1 |", ("x.ogg", 1, 16000)),
        (
            "sph2pipe x.sph -f wav -c 2 -p | ffmpeg -threads 1 -i pipe:0 -ar 16000 -f wav -threads 1 pipe:1 |",
            ("x.sph", 1, 16000),
        ),
        ("sph2pipe -f wav -p -c 1 x.sph | sox -t wav - -r 16000 -t wav - remix 1 |", ("x.sph", 0, 16000)),
        (
            "cat x.flac | flac -c -d - | sox -t wav - -t wav - remix 2 | sox -t wav - -r 8k -t wav - |",
            ("x.flac", 1, 8000),
        ),
    ],
    ids=str,
)
def test_commands_that_decode_one_file_say_which_and_how(entry, reading):
    assert reading_of(entry) == Reading(*reading)


HOSTILE = [
    ("rm -rf / |", "`rm` is not one of sph2pipe"),
    ("touch marker |", "`touch` is not one of"),
    ("bash -c 'touch marker' |", "`bash` is not one of"),
    ("sox `touch marker` -t wav - |", "command substitution"),
    ("sox $(touch marker) -t wav - |", "it uses `(`"),
    ('sox "$(touch marker)" -t wav - |', "a shell variable"),
    ("sox $HOME/x.wav -t wav - |", "a shell variable"),
    ("cat x.wav; touch marker |", "it uses `;`"),
    ("cat x.wav && touch marker |", "it uses `&&`"),
    ("cat x.wav || touch marker |", "it uses `||`"),
    ("cat x.wav & touch marker |", "it uses `&`"),
    ("cat x.wav > marker |", "it uses `>`"),
    ("cat x.wav 2>marker |", "it uses `>`"),
    ("cat < x.wav |", "it uses `<`"),
    ("cat <(touch marker) |", "it uses"),
    ("touch marker | cat - |", "`touch` is not one of"),
    ("cat x.wav | touch marker |", "`touch` is not one of"),
    ("cat x.wav | tee marker |", "`tee` is not one of"),
    ("env X=1 sox x.wav -t wav - |", "`env` is not one of"),
    ("| touch marker", "writes to a command"),
    ("sox x.wav -t wav marker |", "does not write to standard output"),
    ("ffmpeg -i x.wav -f wav marker |", "does not write to standard output"),
    ("sph2pipe -f wav x.sph marker |", "names 2 files"),
    ("sox '|touch marker' -t wav - |", None),
    ("cat 'x.wav |", "quotation marks"),
    ("|", "a command is missing"),
    ("x.wav | |", "`x.wav` is not one of"),
    ("cat x.wav | | sox -t wav - -t wav - |", "a command is missing"),
]


@pytest.mark.parametrize(("entry", "reason"), HOSTILE, ids=str)
def test_no_command_is_ever_run(entry, reason, place):
    record("x.wav")
    make(recordings=3)
    with open("data/train/wav.scp", "a") as file:
        file.write(f"x {entry}\n")
    if reason is None:  # a file named like a command, which does not exist
        assert ("x", "no line in text") in load().left_out
    else:
        with pytest.raises(UserError, match="1 of the 4 entries of .*wav.scp cannot be read") as caught:
            load()
        assert "line 4: x: " in str(caught.value) and reason in str(caught.value)
    assert not Path("marker").exists() and not Path("cache/kaldi/marker").exists()
    assert sorted(os.listdir(place)) == (["cache"] if reason is None else []) + ["data", "wavs", "x.wav"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("gunzip -c x.gz |", "`gunzip` is not one of"),
        ("wav-reverberate --duration=3 x.wav - |", "`wav-reverberate` is not one of"),
        ("data/raw.1.ark:1234", "points into an archive"),
        ("sox x.wav -t wav - speed 0.9 |", "give the folder that this one was made from"),
        ("sox -t wav x.wav -t wav - tempo 1.1 |", "the effect tempo changes the sound"),
        ("sox -v 0.5 x.wav -t wav - |", "sox: the option -v"),
        ("sox x.wav -t wav - trim 1 2 |", "the effect trim"),
        ("sox -t raw -r 8000 x -t wav - |", "-t raw is not known"),
        ("sox x.wav -t raw - |", "-t raw"),
        ("sox x.wav -c 2 -t wav - |", "-c 2 gives several channels"),
        ("sox -r 8k x.wav -t wav - |", "the option -r"),
        ("sox x.wav y.wav -t wav - |", "does not write to standard output"),
        ("sox x.wav -t wav - remix 1,2 |", "1,2 is not one channel"),
        ("sox x.wav -t wav - rate 16 |", "16 is not a sample rate"),
        ("sox x.wav -t wav - rate |", "rate has no value"),
        ("sox x.wav -e mu-law -t wav - |", "-e mu-law"),
        ("ffmpeg -ss 3 -i x.wav -f wav - |", "the option -ss"),
        ("ffmpeg -i x.wav -af volume=2 -f wav - |", "the option -af"),
        ("ffmpeg -i x.wav -f s16le - |", "-f s16le"),
        ("ffmpeg -i x.wav -i y.wav -f wav - |", "names 2 files"),
        ("ffmpeg -i x.wav -ac 2 -f wav - |", "-ac 2 gives"),
        ("sph2pipe -t 1:2 -f wav x.sph |", "the option -t"),
        ("sph2pipe -u -f wav x.sph |", "the option -u"),
        ("sph2pipe -c 0 x.sph |", "0 is not one channel"),
        ("sph2pipe -c 1 x.sph | sox -t wav - -t wav - remix 2 |", "channel 2 of mono audio"),
        ("flac -s x.flac |", "does not decode to standard output"),
        ("flac -cd --until=9 x.flac |", "the option --until=9"),
        ("cat -n x.wav |", "options"),
        ("cat x.wav y.wav |", "names 2 files"),
        ("sox - -t wav - |", "does not read a file"),
        ("cat x.wav | sox y.wav -t wav - |", "does not read what comes before it"),
    ],
    ids=str,
)
def test_what_would_change_the_sound_is_refused_by_name(entry, reason):
    with pytest.raises(NotRead) as caught:
        reading_of(entry)
    assert reason in str(caught.value)


def test_all_refused_lines_are_counted_and_the_first_are_shown():
    make(recordings=3, wav=[f"sp0.9-{name} sox -t wav {name}.wav -t wav - speed 0.9 |" for name in "abcdefg"])
    with pytest.raises(UserError) as caught:
        load()
    text = str(caught.value)
    assert "7 of the 7 entries" in text and "and 2 more" in text and text.count("speed_perturbation") == 5


# what becomes of a data folder


def test_a_folder_becomes_cuts_and_plain_files_are_used_where_they_lie(place):
    make(speakers=2, utt2lang=["r00 nl", "r01 nl"])
    corpus = load()
    cuts = all_cuts(corpus)
    assert sorted(cuts) == ["r00", "r01", "r02", "r03"] and (corpus.sample_rate, corpus.dropped) == (16000, [])
    (supervision,) = cuts["r01"].supervisions
    assert (supervision.text, supervision.speaker, supervision.language) == ("words of r01", "s1", "nl")
    assert cuts["r01"].recording.sources[0].source == str(place / "wavs/r01.wav")
    assert all(cut.load_audio().shape == (1, 32000) for cut in cuts.values())
    assert all_cuts(load(language="de"))["r01"].supervisions[0].language == "de"


def test_channels_and_rates_are_those_that_the_commands_say():
    make(recordings=4)
    record("two.wav", rate=8000, levels=(0.4, 0.2))
    record("two.sph", rate=8000, levels=(0.4, 0.2), format="NIST", subtype="PCM_16")
    record("three.flac", rate=44100, levels=(0.1, 0.2, 0.6))
    entries = {
        "left": ("sph2pipe -f wav -p -c 1 two.sph |", 0.4), "right": ("sph2pipe -f wav -p -c 2 two.sph |", 0.2),
        "mean": ("two.wav", 0.3), "third": ("sox three.flac -r 16k -t wav - remix 3 |", 0.6),
        "mixed": ("flac -cds three.flac | sox -t wav - -c 1 -t wav - |", 0.3),
        "none": ("sox wavs/r00.wav -t wav - remix 2 |", None),
    }  # fmt: skip
    write(
        "data/test",
        wav=[f"{name} {entry}" for name, (entry, _) in entries.items()],
        text=[f"{name} words" for name in entries],
    )
    corpus = load(None, train="data/train", test="data/test")
    levels = {cut.id: level(cut) for cut in corpus.splits["test"]}
    assert levels == pytest.approx({name: wanted for name, (_, wanted) in entries.items() if wanted}, abs=0.01)
    assert corpus.sample_rate == 16000
    for cut in corpus.splits["test"]:
        info = soundfile.info(cut.recording.sources[0].source)
        assert (info.samplerate, info.channels, info.frames) == (16000, 1, 32000)
    ((name, reason),) = corpus.dropped
    assert name == "none" and "r00.wav has 1 channel; expected at least 2" in reason


def test_the_rate_is_that_of_most_recordings_as_they_leave_their_commands():
    record("wavs/fast.wav", rate=44100)
    make(
        wav=[f"r{number:02d} sox wavs/fast.wav -r 8k -t wav - |" for number in range(3)] + [f"r03 {record('r03.wav')}"]
    )
    assert load().sample_rate == 8000
    assert load(sample_rate=22050).sample_rate == 22050
    with pytest.raises(UserError, match="sample_rate=16 is not a sample rate in Hz"):
        load(sample_rate=16)


SEGMENTS = """u1 r00 0.25 1.0
u2	r00  1.0 -1
u3 r00 1.5 2.4
u4 r01 1.5 2.6
u5 r01 2.0 2.1
u6 r01 1.95 2.3
u7 r01 0.5 0.5
u8 r01 0.5
u9 r01 nan 1.0
u10 r01 0 1 0 x
u11 r09 0 1
u12 r01 0 1
""".splitlines()


def test_segments_are_cut_as_kaldi_cuts_them_and_what_cannot_be_is_named():
    make(recordings=3, segments=SEGMENTS, text=[f"u{number} words" for number in range(1, 12)] + ["u13 nowhere"])
    corpus = load(dev_fraction=0.3, test_fraction=0.3)
    times = {name: (round(cut.start, 3), round(cut.end, 3)) for name, cut in all_cuts(corpus).items()}
    assert times == {"u1": (0.25, 1.0), "u2": (1.0, 2.0), "u3": (1.5, 2.0)}
    assert all_cuts(corpus)["u1"].load_audio().shape == (1, 12000)
    assert {name for name, _ in corpus.left_out} == {"u12", "r02"}
    reasons = dict(corpus.dropped + corpus.left_out)
    assert len(corpus.dropped) + 2 == len(reasons) == 11
    for name, words in {
        "u4": "ends after its audio: 2.600 s of 2.000", "u5": "ends after its audio: 2.100 s", "u6": "shorter than 0.1 s",
        "u7": "times that cannot be in segments: line 7: r01 0.5 0.5", "u8": "times that cannot be in segments: line 8",
        "u9": "times that cannot be in segments: line 9", "u10": "times that cannot be in segments: line 10",
        "u11": "no line in wav.scp: r09", "u12": "no line in text", "u13": "no line in segments",
        "r02": "recording without a line in segments",
    }.items():  # fmt: skip
        assert reasons[name].startswith(words)


def test_a_channel_in_segments_is_that_of_the_recording():
    make(
        recordings=3,
        wav=[f"r {record('two.wav', levels=(0.4, 0.2))}", "l sox two.wav -t wav - remix 1 |"],
        segments=["a r 0 1 0", "b r 0 1 1", "c r 1 2", "d l 0 1 0", "e l 0 1 1"],
        text=[f"{name} words" for name in "abcde"],
    )
    corpus = load(dev_fraction=0.3, test_fraction=0.3)
    levels = {name: level(cut) for name, cut in all_cuts(corpus).items()}
    assert levels == pytest.approx({"a": 0.4, "b": 0.2, "c": 0.3, "d": 0.4}, abs=0.01)
    assert corpus.dropped == [("e", "a channel that cannot be in segments: line 5: 1")]


def test_ids_that_only_one_file_has_or_that_stand_twice_are_named(caplog):
    files = make(recordings=8)
    write(
        "data/train",
        wav=[*files["wav"], "r05 wavs/r06.wav", "r06 wavs/r06.wav", "alone", "r08 wavs/r07.wav"],
        text=["r00", *files["text"][2:7], "r07 words", "r07 others", "r02 words of r02", "r09 nowhere"],
        utt2spk=files["utt2spk"][:3],
    )
    corpus = load(dev_fraction=0.3, test_fraction=0.3)
    assert sorted(all_cuts(corpus)) == ["r02", "r03", "r04", "r06"]
    assert dict(corpus.dropped) == {
        "r05": "two different lines in wav.scp: lines 6 and 9", "r07": "two different lines in text: lines 7 and 8",
        "r09": "no line in wav.scp", "alone": "nothing behind its id in wav.scp: line 11",
    }  # fmt: skip
    assert len(corpus.dropped) == 4
    assert dict(corpus.left_out) == {"r00": "no text", "r01": "no line in text", "r08": "no line in text"}
    assert "wav.scp repeats 1 lines, such as that of r06" in caplog.text
    assert "text repeats 1 lines, such as that of r02" in caplog.text
    assert "utt2spk names no speaker for 3 of 4 utterances, such as r03" in caplog.text
    assert {name: cut.supervisions[0].speaker for name, cut in all_cuts(corpus).items()}["r03"] == "unknown"


def test_lines_may_be_unsorted_and_texts_of_any_language():
    files = make(text=["r03 grüße\u00a0alle", "r01\t你好", "r02   two  words ", "r00 x"])
    write("data/train", wav=reversed(files["wav"]))
    texts = {name: cut.supervisions[0].text for name, cut in all_cuts(load()).items()}
    assert texts == {"r00": "x", "r01": "你好", "r02": "two  words", "r03": "grüße\u00a0alle"}


def test_broken_and_missing_audio_is_left_out_by_name():
    make(recordings=7)
    Path("wavs/r01.wav").unlink()
    Path("wavs/r02.wav").write_bytes(b"")
    Path("wavs/r03.wav").write_bytes(Path("wavs/r04.wav").read_bytes()[:9000])
    corpus = load()
    assert sorted(all_cuts(corpus)) == ["r00", "r04", "r05", "r06"]
    reasons = dict(corpus.dropped)
    for name, words in {
        "r01": "missing audio: .*wavs/r01.wav",
        "r02": "empty audio: ",
        "r03": "unreadable audio: .* cut short",
    }.items():
        assert re.match(words, reasons[name])
    assert load().dropped == corpus.dropped  # from the cache as well


def test_where_no_audio_is_found_it_is_said_where_it_was_looked_for(place):
    make()
    Path("wavs").rename("elsewhere")
    with pytest.raises(UserError) as caught:
        load()
    assert "None of the 4 audio files that " in str(caught.value) and "There is no audio file wavs/r00.wav" in str(
        caught.value
    )
    assert f"looked up in {place}, {place}/data/train, {place}/data" in str(caught.value)
    assert not Path("cache").exists()


@pytest.mark.parametrize("started_in", [".", "data", "data/train", "/"])
def test_relative_paths_are_found_from_wherever_one_starts(place, monkeypatch, started_in):
    make()
    monkeypatch.chdir(started_in)
    corpus = corpora.create({"name": "kaldi", "path": str(place / "data/train")}).load(place / "cache", 1)
    assert all_cuts(corpus)["r02"].recording.sources[0].source == str(place / "wavs/r02.wav")


# splits


def test_ten_speakers_are_held_out_whole_then_ten_recordings_then_utterances():
    make(speakers=12, recordings=36)
    speakers = [{cut.supervisions[0].speaker for cut in cuts} for cuts in load().splits.values()]
    assert all(speakers) and sum(map(len, speakers)) == len(set.union(*speakers)) == 12
    segments = [
        f"{name}-{part} {name} {part} {part + 1}" for name in [f"r{n:02d}" for n in range(12)] for part in (0, 1)
    ]
    names = [segment.split()[0] for segment in segments]
    more = {"segments": segments, "text": [f"{name} words" for name in names]}
    make(recordings=12, **more, utt2spk=[f"{name} ann" for name in names])
    recordings = [{cut.recording.id for cut in cuts} for cuts in load().splits.values()]
    assert all(recordings) and sum(map(len, recordings)) == len(set.union(*recordings)) == 12
    make("few", recordings=3)
    assert [len(cuts) for cuts in load("few").splits.values()] == [1, 1, 1]
    make("few", recordings=2)
    with pytest.raises(UserError, match="lists 2 utterances; train, dev and test each need one"):
        load("few")


def test_train_dev_and_test_may_be_folders_and_only_what_is_not_given_is_held_out():
    for split in ("train", "dev", "test"):
        make(f"data/{split}", recordings=6, prefix=split)
    own = {split: f"data/{split}" for split in ("train", "dev", "test")}
    corpus = load(None, **own)
    assert {split: {cut.id[: len(split)] for cut in cuts} for split, cuts in corpus.splits.items()} == {
        split: {split} for split in own
    }
    assert [len(cuts) for cuts in corpus.splits.values()] == [6, 6, 6]
    for settings in ({"path": "data/train"}, {"path": None, "train": "data/train"}):
        corpus = load(**settings, test="data/test", dev_fraction=0.3)
        assert [cut.id[:4] for cut in corpus.splits["test"]] == ["test"] * 6
        assert {cut.id[:5] for cut in corpus.splits["dev"]} == {"train"}
        assert len(corpus.splits["train"]) + len(corpus.splits["dev"]) == 6


def test_an_utterance_of_two_splits_is_refused():
    make()
    with pytest.raises(UserError, match="The utterance r00 is listed for train and for dev"):
        load(None, train="data/train", dev="data/train", test="data/train")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"path": None}, "needs corpus.path=…"),
        ({"train": "data/train"}, "corpus.path and corpus.train both name the training data"),
        ({"path": "none"}, "none is not there: give a data folder of Kaldi"),
        ({"path": "wavs/r00.wav"}, "r00.wav is a file"),
        ({"path": "data"}, r"data has no wav.scp and no text: there are data folders in it: train. Name one of them"),
        ({"path": "wavs"}, "wavs has no wav.scp and no text: it holds r00.wav"),
        ({"path": "mine"}, "it looks like folder .corpus=folder."),
        ({"path": "features"}, "it holds features, but training reads audio"),
        ({"dev_fraction": 2}, "dev_fraction=2"),
        ({"path": "empty"}, "empty lists no utterance that can be used"),
        ({"path": "latin"}, "text, line 1: 0xfc is not UTF-8"),
        ({"path": "silent"}, r"silent lists no utterance that can be used \(3 × no text\)"),
    ],
    ids=str,
)
def test_what_is_no_data_folder_is_told_in_a_sentence(settings, says):
    make()
    write("mine", **{"transcripts.tsv": []})
    write("features", **{"feats.scp": [], "text": []})
    write("empty", wav=[], text=[])
    write("latin", wav=["a wavs/r00.wav"], text=[])
    Path("latin/text").write_bytes("a grüße\n".encode("latin1"))
    write("silent", wav=[f"{name} wavs/r00.wav" for name in "abc"], text=["a", "b ", "c\t"])
    with pytest.raises(UserError, match=says):
        load(**{"path": "data/train"} | settings)
    assert not Path("cache").exists()


def test_another_corpus_that_is_given_a_data_folder_names_this_one():
    make()
    for settings in ({"name": "folder", "path": "data/train"}, {"name": "timit", "path": "data/train"}):
        with pytest.raises(UserError, match=r"it looks like kaldi \(corpus=kaldi\)"):
            corpora.create(settings).load(Path("cache"))
    for settings in (
        {"name": "cuts", "train": "data/train", "dev": "x", "test": "x"}, {"name": "nemo", "path": "data/train"},
    ):  # fmt: skip
        with pytest.raises(UserError, match="It looks like a data folder of Kaldi: corpus=kaldi reads it"):
            corpora.create(settings).load(Path("cache"))


# beside lhotse, and a second time


@pytest.mark.parametrize("ending", ["wav", "flac", "sph"])
def test_what_lhotse_exports_comes_back_as_it_was(ending):
    names = [f"r{number}" for number in range(3)]
    options = {"format": "NIST", "subtype": "PCM_16"} if ending == "sph" else {}
    recordings = [
        Recording(name, [AudioSource("file", [0], record(f"{name}.{ending}", **options))], 16000, 32000, 2.0)
        for name in names
    ]
    supervisions = [
        SupervisionSegment(f"{name}-{part}", name, 0.5 * part, 0.5, text=f"words {part}", speaker=name, language="en")
        for name in names for part in range(3)
    ]  # fmt: skip
    sets = RecordingSet.from_recordings(recordings), SupervisionSet.from_segments(supervisions)
    export_to_kaldi(*sets, "exported")
    corpus = load("exported")
    cuts, text = all_cuts(corpus), Path("exported/wav.scp").read_text()
    assert corpus.dropped == [] and (ending == "wav") == ("|" not in text)
    for given in supervisions:
        cut, (found,) = cuts[given.id], cuts[given.id].supervisions
        assert (found.text, found.speaker, found.language) == (given.text, given.speaker, given.language)
        assert (cut.start, cut.duration) == pytest.approx((given.start, given.duration), abs=1e-4)
        assert cut.load_audio().shape == (1, 8000)


def test_a_plain_folder_is_read_as_lhotse_reads_it():
    names = [f"u{number}" for number in range(6)]
    make(
        segments=[
            f"{name} r{number % 4:02d} {0.1 * number:.1f} {0.1 * number + 1:.1f}" for number, name in enumerate(names)
        ],
        text=[f"{name} words of {name}" for name in names],
        utt2spk=[f"{name} s{name[1:]}" for name in names],
    )
    _, theirs, _ = load_kaldi_data_dir("data/train", 16000)
    cuts = all_cuts(load())
    assert len(theirs) == len(cuts)
    for one in theirs:
        cut = cuts[one.id]
        assert (cut.recording.id, cut.supervisions[0].text, cut.supervisions[0].speaker) == (
            one.recording_id,
            one.text,
            one.speaker,
        )
        assert (cut.start, cut.duration) == pytest.approx((one.start, one.duration))


def test_an_unchanged_folder_is_prepared_once_and_a_changed_one_again(monkeypatch):
    files = make(recordings=5)
    record("wavs/r04.wav", rate=8000)
    first = load()
    with monkeypatch.context() as patch:
        patch.setattr("asr.data.corpora.preparing.listed.Audio", None)
        again = all_cuts(load())
        assert {name: cut.duration for name, cut in again.items()} == {
            name: cut.duration for name, cut in all_cuts(first).items()
        }
    record("wavs/r02.wav", seconds=1.0)
    write("data/train", text=[files["text"][0] + " more", *files["text"][1:]])
    cuts = all_cuts(load())
    assert cuts["r02"].duration == 1.0 and cuts["r00"].supervisions[0].text == "words of r00 more"
    assert sorted(path.suffix for path in Path("cache/kaldi").glob(".*")) == []


def test_a_cache_that_cannot_be_written_is_named():
    make()
    with pytest.raises(UserError, match="The cache folder .* cannot be written .*cache=FOLDER"):
        corpora.create({"name": "kaldi", "path": "data/train"}).load(Path("data/train/text"), 1)

"""A folder of your own recordings: the forms of the table, files used in place, and everything refused by name."""

import gzip
import json
import unicodedata

import numpy
import pytest
import soundfile

from asr.data.corpora import corpora
from asr.data.corpora.folder import FolderCorpus, Transcript, read_table
from asr.data.dropped import refuse_unusable
from asr.errors import UserError


def write_audio(path, seconds=0.5, sample_rate=16000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = numpy.arange(int(seconds * sample_rate)) / sample_rate
    tone = 0.3 * numpy.sin(2 * numpy.pi * 300 * time)
    soundfile.write(path, numpy.stack([tone] * channels, 1), sample_rate)


def make_folder(root, count=20, speakers=1):
    """`count` WAV files and a table with the columns file, text and speaker."""
    rows = []
    for number in range(count):
        write_audio(root / f"{number}.wav")
        rows.append(f"{number}.wav\twords of number {number}\tspeaker{number % speakers}")
    write_table(root, rows)
    return rows


def write_table(root, rows):
    root.mkdir(exist_ok=True)
    (root / "transcripts.tsv").write_text("\n".join(rows) + "\n", encoding="utf8")


def load(root, tmp_path, **settings):
    return FolderCorpus(str(root), **settings).load(tmp_path / "cache")


def home_of(corpus):
    return {cut.id: split for split, cuts in corpus.splits.items() for cut in cuts}


def all_cuts(corpus):
    return {cut.id: cut for cuts in corpus.splits.values() for cut in cuts}


def test_a_folder_becomes_cuts_whose_audio_lhotse_reads(tmp_path):
    make_folder(tmp_path / "mine")
    corpus = load(tmp_path / "mine", tmp_path, language="en-us")
    assert corpus.language == "en-us"
    cuts = all_cuts(corpus)
    assert len(cuts) == 20 and corpus.dropped == [] and corpus.sample_rate == 16000
    (supervision,) = cuts["7"].supervisions
    assert (supervision.text, supervision.speaker, supervision.language) == ("words of number 7", "speaker0", "en-us")
    assert all(cut.load_audio().shape == (1, 8000) for cut in cuts.values())
    assert cuts["7"].recording.sources[0].source == str(tmp_path / "mine/7.wav")  # used in place


def test_the_language_of_a_folder_reaches_the_units_that_are_trained(tmp_path):
    from asr.config.settings import compose
    from asr.training.starting import choose_units

    make_folder(tmp_path / "mine")
    write_table(tmp_path / "mine", [f"{number}.wav\tIĞDIR {number}" for number in range(20)])
    config = compose("train", ["units=characters"])
    for language, normalizer, letter in (("tr", "words-tr", "ı"), ("en-us", "words", "i"), (None, "words", "i")):
        units, _ = choose_units(config, load(tmp_path / "mine", tmp_path, language=language), None)
        assert units.normalizer == normalizer and letter in units.symbols


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_first_line_may_name_the_columns_in_any_order(tmp_path, bom, ending):
    table = tmp_path / "t.tsv"
    lines = ["Text\tspeaker\tFILE\tsplit", "", "grüße\tann\ta.wav\tdev", "two\t\tb.wav\ttest", ""]
    table.write_bytes((bom + ending.join(lines)).encode())
    assert read_table(table) == [
        Transcript(3, "a.wav", "grüße", "ann", "dev"),
        Transcript(4, "b.wav", "two", "unknown", "test"),
    ]


def test_a_table_in_decomposed_letters_finds_the_files_and_its_texts_are_composed(tmp_path):
    for number in range(3):
        write_audio(tmp_path / f"é{number}.wav")
    rows = unicodedata.normalize("NFD", "".join(f"é{number}.wav\tcafé {number}\n" for number in range(3)))
    (tmp_path / "transcripts.tsv").write_text(rows, encoding="utf8")
    cuts = all_cuts(load(tmp_path, tmp_path))
    assert {name: cut.supervisions[0].text for name, cut in cuts.items()} == {f"é{n}": f"café {n}" for n in range(3)}
    assert all(cut.load_audio().shape == (1, 8000) for cut in cuts.values())


def test_without_names_the_columns_are_file_text_speaker_split(tmp_path):
    (tmp_path / "t.tsv").write_text("a.wav\tone\nb.wav\ttext\n")
    assert read_table(tmp_path / "t.tsv")[1] == Transcript(2, "b.wav", "text", "unknown", "")
    (tmp_path / "t.tsv").write_text("a.wav\tone\tann\ttrain\n")
    assert read_table(tmp_path / "t.tsv") == [Transcript(1, "a.wav", "one", "ann", "train")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.wav\tone\nb.wav two\n", r"t\.tsv:2: expected 2 columns \(file<TAB>text\), found 1"),
        ("a.wav\tone\nb.wav\ttwo\tann\n", r"t\.tsv:2: expected 2 columns .* found 3"),
        ("just a line\n", r"t\.tsv:1: expected 2 columns"),
        ("a.wav\tone\n\nb.wav\t \n", r"t\.tsv:3: the column text is empty"),
        ("file\ttext\tsplit\na.wav\tone\ttrian\n", r"t\.tsv:2: there is no split 'trian': did you mean train"),
        ("file\ttext\tspeker\n", r"t\.tsv:1: there is no column 'speker': did you mean speaker"),
        ("path\ttext\na.wav\tone\n", r"t\.tsv:1: there is no column 'path'"),
        ("file\tspeaker\n", r"t\.tsv:1: the columns file and text are needed"),
        ("file\ttext\ttext\n", r"t\.tsv:1: the column text is named twice"),
        ("file\ttext\n", "holds no transcripts"),
        ("", "holds no transcripts"),
    ],
)
def test_a_malformed_table_is_answered_with_the_line_and_what_was_expected(tmp_path, text, message):
    (tmp_path / "t.tsv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "t.tsv")


def test_a_table_that_is_not_utf8_is_answered_with_the_line(tmp_path):
    (tmp_path / "t.tsv").write_bytes("a.wav\tone\nb.wav\tgrüße\n".encode("latin1"))
    with pytest.raises(UserError, match=r"t\.tsv, line 2: 0xfc is not UTF-8"):
        read_table(tmp_path / "t.tsv")


def test_other_formats_and_rates_and_stereo_are_converted_in_the_cache(tmp_path):
    root = tmp_path / "mine"
    write_audio(root / "a.ogg")
    write_audio(root / "b/c.wav", sample_rate=44100)
    write_audio(root / "d.flac", channels=2)
    write_audio(root / "e.wav")
    write_table(root, ["a.ogg\tone", "b/c.wav\ttwo", "d.flac\tthree", "e.wav\tfour"])
    cuts = all_cuts(load(root, tmp_path))
    assert sorted(cuts) == ["a", "b/c", "d", "e"]
    for name, cut in cuts.items():
        audio = cut.load_audio()
        assert audio.shape == (1, 8000) and abs(audio).max() == pytest.approx(0.3, abs=0.03)
        info = soundfile.info(cut.recording.sources[0].source)
        assert (info.samplerate, info.channels) == (16000, 1)
        assert cut.recording.sources[0].source.startswith(str(tmp_path / ("mine" if name == "e" else "cache")))


def test_the_whole_corpus_may_have_another_rate(tmp_path):
    make_folder(tmp_path / "mine", count=5)
    corpus = load(tmp_path / "mine", tmp_path, sample_rate=8000)
    assert corpus.sample_rate == 8000
    assert all(cut.load_audio().shape == (1, 4000) for cut in all_cuts(corpus).values())


def test_files_that_differ_only_in_their_ending_keep_it_in_their_ids(tmp_path):
    for name in ("a.wav", "a.flac", "b.wav"):
        write_audio(tmp_path / "mine" / name)
    write_table(tmp_path / "mine", ["a.wav\tone", "a.flac\ttwo", "b.wav\tthree"])
    assert sorted(all_cuts(load(tmp_path / "mine", tmp_path))) == ["a.flac", "a.wav", "b"]


def test_the_column_split_decides(tmp_path):
    rows = make_folder(tmp_path / "mine", count=6)
    splits = ["test", "dev", "train", "train", "dev", "test"]
    write_table(tmp_path / "mine", [f"{row}\t{split}" for row, split in zip(rows, splits)])
    assert home_of(load(tmp_path / "mine", tmp_path)) == {str(number): split for number, split in enumerate(splits)}


def test_a_column_split_that_leaves_one_empty_is_refused(tmp_path):
    rows = make_folder(tmp_path / "mine", count=4)
    write_table(tmp_path / "mine", [f"{row}\t{split}" for row, split in zip(rows, ["train", "train", "dev", "dev"])])
    with pytest.raises(UserError, match="puts nothing into test"):
        load(tmp_path / "mine", tmp_path)


def test_ten_speakers_or_more_are_held_out_whole(tmp_path):
    make_folder(tmp_path / "mine", count=60, speakers=12)
    corpus = load(tmp_path / "mine", tmp_path)
    speakers = [{cut.supervisions[0].speaker for cut in corpus.splits[split]} for split in ("train", "dev", "test")]
    assert all(speakers) and sum(map(len, speakers)) == 12 == len(set.union(*speakers))


def test_fewer_speakers_are_in_every_split(tmp_path):
    make_folder(tmp_path / "mine", count=60, speakers=2)
    corpus = load(tmp_path / "mine", tmp_path)
    for split in ("train", "test"):
        assert {cut.supervisions[0].speaker for cut in corpus.splits[split]} == {"speaker0", "speaker1"}


def test_an_utterance_keeps_its_split_when_others_come(tmp_path):
    make_folder(tmp_path / "mine", count=40)
    before = home_of(load(tmp_path / "mine", tmp_path))
    make_folder(tmp_path / "mine", count=50)
    after = home_of(load(tmp_path / "mine", tmp_path))
    assert len(after) == 50 and after.items() > before.items()


@pytest.mark.parametrize("seed", range(6))
def test_three_utterances_fill_three_splits_and_two_are_refused(tmp_path, seed):
    make_folder(tmp_path / "mine", count=3)
    assert sorted(home_of(load(tmp_path / "mine", tmp_path, seed=seed)).values()) == ["dev", "test", "train"]
    make_folder(tmp_path / "mine", count=2)
    with pytest.raises(UserError, match="has 2 utterances.*at least three"):
        load(tmp_path / "mine", tmp_path, seed=seed)


def test_audio_without_a_transcript_is_left_out_by_name(tmp_path):
    make_folder(tmp_path / "mine", count=5)
    write_audio(tmp_path / "mine/more/unheard.flac")
    write_audio(tmp_path / "mine/.hidden/ignored.wav")
    (tmp_path / "mine/notes.txt").write_text("no audio")
    corpus = load(tmp_path / "mine", tmp_path)
    assert (corpus.dropped, corpus.left_out) == ([], [("more/unheard.flac", "audio without transcript")])
    assert load(tmp_path / "mine", tmp_path).left_out == corpus.left_out  # from the cache as well


def test_transcripts_without_audio_are_dropped_by_name_with_what_may_be_meant(tmp_path):
    rows = make_folder(tmp_path / "mine", count=24)
    write_audio(tmp_path / "mine/gone.wav")
    write_table(tmp_path / "mine", rows + ["gon.wav\tword\tann", "elsewhere/x.wav\tword\tann"])
    corpus = load(tmp_path / "mine", tmp_path)
    assert corpus.dropped == [
        ("gon.wav", "missing audio: gon.wav is not there (did you mean gone.wav?)"),
        ("elsewhere/x.wav", "missing audio: elsewhere/x.wav is not there"),
    ]
    assert corpus.left_out == [("gone.wav", "audio without transcript")]
    # the splits are chosen from existing files
    assert corpus.dropped_of(None) == corpus.dropped and not corpus.dropped_of("train")


@pytest.mark.parametrize(
    ("there", "listed", "said"),
    [
        (unicodedata.normalize("NFD", "été.wav"), unicodedata.normalize("NFC", "été.wav"), None),
        (unicodedata.normalize("NFC", "été.wav"), unicodedata.normalize("NFD", "été.wav"), None),
        ("dir/x.wav", ".//dir/../dir/x.wav", None),
        ("x.WAV", "x.wav", "x.wav is x.WAV"),
        ("Dir/X.wav", "dir/x.WAV", "dir/x.WAV is Dir/X.wav"),
        ("x.flac", "x", "x is x.flac"),
        ("x.flac", "x.wav", "x.wav is x.flac"),
        ("dir/x.wav", "dir\\x.wav", r"dir\x.wav is dir/x.wav"),
        ("my x.wav", "my%20x.wav", "my%20x.wav is my x.wav"),
        ("dir/x.wav", "dir / x.wav", "dir / x.wav is dir/x.wav"),
    ],
)
def test_a_file_whose_name_is_written_otherwise_is_found_and_said(tmp_path, caplog, there, listed, said):
    rows = make_folder(tmp_path / "mine", count=3)
    write_audio(tmp_path / "mine" / there, seconds=0.75)
    write_table(tmp_path / "mine", rows + [f"{listed}\tword\tann"])
    corpus = load(tmp_path / "mine", tmp_path)
    assert (corpus.dropped, corpus.left_out) == ([], [])
    assert sorted(cut.duration for cut in all_cuts(corpus).values()) == [0.5, 0.5, 0.5, 0.75]
    assert said in caplog.text if said else not caplog.text


def test_a_name_that_two_files_may_bear_is_not_guessed(tmp_path):
    rows = make_folder(tmp_path / "mine", count=3)
    for name in ("x.WAV", "X.wav", "y.flac", "y.ogg", "zebra.wav"):
        write_audio(tmp_path / "mine" / name)
    # zebra.flac is not another name for zebra.wav, which is listed itself
    write_table(
        tmp_path / "mine", rows + [f"{name}\tword\tann" for name in ("x.wav", "y.wav", "zebra.wav", "zebra.flac")]
    )
    reasons = dict(load(tmp_path / "mine", tmp_path).dropped)
    assert reasons == {
        "x.wav": "missing audio: x.wav is not there (did you mean X.wav or x.WAV?)",
        "y.wav": "missing audio: y.wav is not there (did you mean y.flac or y.ogg?)",
        "zebra.flac": "missing audio: zebra.flac is not there",
    }


def test_a_file_is_called_as_the_table_calls_it_and_not_as_links_resolve(tmp_path):
    rows = make_folder(tmp_path / "mine", count=5)
    (tmp_path / "store").mkdir()
    for name, target in (("sound", tmp_path / "mine/1.wav"), ("empty", tmp_path / "mine/2.wav")):
        target.rename(tmp_path / "store" / name)
        target.symlink_to(tmp_path / "store" / name)
    (tmp_path / "store/empty").write_bytes(b"")
    corpus = load(tmp_path / "mine", tmp_path)
    assert len(rows) == 5 and corpus.dropped == [
        ("2.wav", "empty audio: 2.wav is empty (0 bytes): copy it again, or remove it")
    ]
    assert all_cuts(corpus)["1"].recording.sources[0].source == str(tmp_path / "mine/1.wav")


def test_a_file_listed_twice_is_refused_under_any_spelling(tmp_path):
    rows = make_folder(tmp_path / "mine", count=3)
    write_table(tmp_path / "mine", rows + ["./1.wav\tword\tann"])
    with pytest.raises(UserError, match=r"transcripts.tsv:4: the file ./1.wav is on line 2 already"):
        load(tmp_path / "mine", tmp_path)


def test_broken_files_are_dropped_by_name_and_looked_at_again_when_they_are_mended(tmp_path):
    make_folder(tmp_path / "mine", count=6)
    data = (tmp_path / "mine/1.wav").read_bytes()
    (tmp_path / "mine/1.wav").write_bytes(data[: len(data) // 2])
    (tmp_path / "mine/3.wav").write_bytes(b"")
    (tmp_path / "mine/4.wav").write_text("no audio at all")
    corpus = load(tmp_path / "mine", tmp_path)
    assert [name for name, _ in corpus.dropped] == ["1.wav", "3.wav", "4.wav"] and len(all_cuts(corpus)) == 3
    starts = (
        "unreadable audio: 1.wav is cut short",
        "empty audio: 3.wav is empty",
        "unreadable audio: 4.wav cannot be",
    )
    for (_, reason), start in zip(corpus.dropped, starts):
        assert reason.startswith(start)
    used = [name for name in corpus.splits if len(corpus.splits[name])]
    with pytest.raises(UserError, match="of the . utterances of the corpus folder cannot be used") as caught:
        refuse_unusable(corpus, used, 0.01, "data.max_dropped")
    assert "more than data.max_dropped=0.01 allows" in str(caught.value)
    assert "and remove" not in str(caught.value).splitlines()[-1]
    refuse_unusable(corpus, used, 0.5, "data.max_dropped")
    (tmp_path / "mine/1.wav").write_bytes(data)
    assert [name for name, _ in load(tmp_path / "mine", tmp_path).dropped] == ["3.wav", "4.wav"]


def test_where_the_table_says_the_split_a_broken_file_counts_there(tmp_path):
    rows = make_folder(tmp_path / "mine", count=12)
    splits = ["dev"] * 2 + ["test"] * 2 + ["train"] * 8
    write_table(tmp_path / "mine", [f"{row}\t{split}" for row, split in zip(rows, splits)])
    for number in (0, 11):
        (tmp_path / f"mine/{number}.wav").write_bytes(b"")
    corpus = load(tmp_path / "mine", tmp_path)
    assert corpus.dropped_in == {"train": ["11.wav"], "dev": ["0.wav"]}
    with pytest.raises(UserError, match="1 of the 2 utterances of the dev split cannot be used"):
        refuse_unusable(corpus, corpus.splits, 0.2, "data.max_dropped")
    (tmp_path / "mine/1.wav").unlink()
    with pytest.raises(
        UserError, match=r"2 of the 2 .* dev split .*\(1 × empty audio; 1 × missing audio\)(.*\n)+Fix them\.$"
    ):
        refuse_unusable(load(tmp_path / "mine", tmp_path), corpus.splits, 1.0, "data.max_dropped")


def test_a_folder_of_which_nothing_can_be_used_is_refused_and_nothing_is_left_behind(tmp_path):
    make_folder(tmp_path / "mine", count=7)
    for number in range(6):
        (tmp_path / f"mine/{number}.wav").write_bytes(b"")
    (tmp_path / "mine/6.wav").unlink()
    with pytest.raises(UserError) as caught:
        load(tmp_path / "mine", tmp_path)
    said = str(caught.value)
    assert "7 audio files, and none of them can be used (6 × empty audio; 1 × missing audio)" in said
    assert "  0.wav: empty audio: 0.wav is empty (0 bytes)" in said and said.endswith(
        "and 2 more\nRepair or replace them."
    )
    assert not (tmp_path / "cache").exists()


def test_a_missing_folder_or_table_is_named(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        load(tmp_path / "none", tmp_path)
    write_audio(tmp_path / "mine/a.wav")
    with pytest.raises(UserError, match=r"There is no .*transcripts.tsv: .*file<TAB>text"):
        load(tmp_path / "mine", tmp_path)


def test_a_sample_rate_or_fraction_that_cannot_be_is_refused(tmp_path):
    make_folder(tmp_path / "mine", count=3)
    for settings in ({"sample_rate": 16}, {"sample_rate": 16000.5}, {"dev_fraction": 1.5}, {"test_fraction": True}):
        with pytest.raises(UserError, match=next(iter(settings))):
            load(tmp_path / "mine", tmp_path, **settings)


def test_a_changed_recording_or_transcript_is_noticed(tmp_path):
    rows = make_folder(tmp_path / "mine", count=4)
    load(tmp_path / "mine", tmp_path)
    write_audio(tmp_path / "mine/2.wav", seconds=0.75)
    write_table(tmp_path / "mine", [rows[0].replace("words", "others"), *rows[1:]])
    cuts = all_cuts(load(tmp_path / "mine", tmp_path))
    assert cuts["2"].duration == 0.75 and cuts["0"].supervisions[0].text == "others of number 0"


def test_an_unchanged_folder_is_not_prepared_twice(tmp_path, monkeypatch):
    make_folder(tmp_path / "mine", count=4)
    first = load(tmp_path / "mine", tmp_path)
    monkeypatch.setattr("asr.data.corpora.folder.write_manifests", None)
    assert home_of(load(tmp_path / "mine", tmp_path)) == home_of(first)


def test_the_manifests_hold_one_json_line_per_cut(tmp_path):
    make_folder(tmp_path / "mine", count=10)
    corpus = load(tmp_path / "mine", tmp_path)
    (folder,) = (tmp_path / "cache/folder").iterdir()
    lines = gzip.open(folder / "cuts_train.jsonl.gz", "rt").read().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [cut.id for cut in corpus.splits["train"]]


def test_the_registry_builds_it_from_settings_and_refuses_unknown_ones(tmp_path):
    make_folder(tmp_path / "mine", count=3)
    corpus = corpora.create({"name": "folder", "path": str(tmp_path / "mine")}).load(tmp_path / "cache")
    assert corpus.name == "folder"
    with pytest.raises(UserError, match="takes no setting 'pth': did you mean path"):
        corpora.create({"name": "folder", "pth": "x"})

"""Common Voice over lhotse's recipe: clips become FLAC, tables are checked line by line, and what is missing is named."""

import pytest
import soundfile
from recipe_trees import RATE, noise, write_common_voice, write_librispeech

from asr.corpora import corpora
from asr.errors import UserError


def load(tmp_path, **settings):
    return corpora.create({"name": "common_voice", **settings}).load(tmp_path / "cache", workers=1)


def ids(cuts):
    return [cut.id for cut in cuts]


def rows_of(split, count=4, text='Mae\'r "gath" ar y mat'):
    return [
        (f"{split}-client-{at // 2}", f"common_voice_cy_{split}{at}.mp3", f"{text}, {split} {at}.")
        for at in range(count)
    ]


TABLES = {split: rows_of(split) for split in ("train", "dev", "test")}


@pytest.fixture
def welsh(tmp_path):
    root = tmp_path / "cv-corpus-17.0-2024-03-15/cy"
    write_common_voice(root, TABLES)
    return root


def test_common_voice_becomes_16_khz_flac_with_its_texts_as_they_are(welsh, tmp_path):
    (welsh / "invalidated.tsv").write_text("not read")
    (welsh / "reported.tsv").write_text(
        f"sentence\tsentence_id\tlocale\treason\n{TABLES['train'][1][2]}\tx\tcy\tgrammar-or-spelling\nother\ty\tcy\t\n"
    )
    corpus = load(tmp_path, path=str(welsh))
    assert ids(corpus.splits["train"]) == ["common_voice_cy_train0", "common_voice_cy_train2", "common_voice_cy_train3"]
    assert corpus.dropped == [("common_voice_cy_train1", "sentence reported by readers: grammar-or-spelling")]
    cut = next(iter(corpus.splits["dev"]))
    (supervision,) = cut.supervisions
    assert supervision.text == 'Mae\'r "gath" ar y mat, dev 0.'
    assert (supervision.speaker, supervision.language) == ("dev-client-0", "cy")
    audio = cut.load_audio()
    assert abs(audio.shape[1] - 8000) < 1000 and abs(audio).max() > 0.05
    info = soundfile.info(cut.recording.sources[0].source)
    assert (info.samplerate, info.channels, info.format) == (RATE, 1, "FLAC")
    # the language is found again, and what was reported may be asked for
    assert len(load(tmp_path, use_reported=True).splits["train"]) == 4
    assert len(load(tmp_path, path=str(welsh.parent), language="cy").splits["test"]) == 4
    with pytest.raises(UserError, match="not been prepared in the language de .*prepare.py common_voice path=.*/de"):
        load(tmp_path, language="de")


def test_an_old_release_without_the_columns_that_lhotse_asks_for_is_read_too(tmp_path):
    write_common_voice(tmp_path / "cy", TABLES, columns=["client_id", "path", "sentence", "accent"], durations=False)
    assert len(load(tmp_path, path=str(tmp_path / "cy")).splits["train"]) == 4


def test_missing_broken_and_short_clips_are_named_and_allow_missing_goes_on(welsh, tmp_path):
    (welsh / "clips/common_voice_cy_train0.mp3").unlink()
    with pytest.raises(UserError, match=r"no clip: 1 utterance \(common_voice_cy_train0\)"):
        load(tmp_path, path=str(welsh))
    (welsh / "clips/common_voice_cy_dev0.mp3").write_bytes(b"this is no MP3 file" * 50)
    short = welsh / "clips/common_voice_cy_test0.mp3"
    soundfile.write(short, noise(3, 0.15, 32000), 32000, format="MP3")
    corpus = load(tmp_path, path=str(welsh), allow_missing=True)
    reasons = {utterance: reason.partition(":")[0] for utterance, reason in corpus.dropped}
    assert reasons == {
        "common_voice_cy_train0": "no clip",
        "common_voice_cy_dev0": "audio that is broken",
        "common_voice_cy_test0": "a clip that is cut short by clip_durations.tsv",
    }
    assert [len(corpus.splits[split]) for split in ("train", "dev", "test")] == [3, 3, 3]


def test_a_clip_shorter_than_its_listed_duration_stops_the_preparation(welsh, tmp_path):
    soundfile.write(welsh / "clips/common_voice_cy_test0.mp3", noise(3, 0.15, 32000), 32000, format="MP3")
    with pytest.raises(
        UserError, match=r"cut short by clip_durations.tsv: 1 utterance \(common_voice_cy_test0: 0\.\d+ of 0.50"
    ):
        load(tmp_path, path=str(welsh))
    assert not (tmp_path / "cache/common_voice/cy/prepared").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("client\tclip.mp3", r"dev.tsv:2: 3 columns were expected, there are 2"),
        ("client\t../clip.mp3\ttext", r"dev.tsv:2: path='../clip.mp3' is not the name of a file"),
        ("\tclip.mp3\ttext", r"dev.tsv:2: the clip clip.mp3 has no client_id"),
        ("client\tclip.mp3\t ", r"no sentence: 1 utterance \(clip\)"),
    ],
)
def test_a_broken_line_of_a_table_is_named(welsh, tmp_path, line, message):
    (welsh / "dev.tsv").write_text(f"client_id\tpath\tsentence\n{line}\nann\tcommon_voice_cy_dev1.mp3\ttext\n")
    with pytest.raises(UserError, match=message):
        load(tmp_path, path=str(welsh))


def test_a_language_that_is_not_that_of_the_clips_is_refused(welsh, tmp_path):
    with pytest.raises(UserError, match=r"train.tsv is in the language cy \(locale of .*\), not in de"):
        load(tmp_path, path=str(welsh), language="de")
    with pytest.raises(UserError, match="language=../de is no code of a language"):
        load(tmp_path, path=str(welsh), language="../de")


def test_a_folder_of_several_languages_or_of_another_corpus_gets_a_sentence(welsh, tmp_path):
    with pytest.raises(UserError, match="holds the languages cy: choose one, path=.*/cy"):
        load(tmp_path, path=str(welsh.parent))
    (welsh / "test.tsv").unlink()
    with pytest.raises(UserError, match="There is no .*test.tsv"):
        load(tmp_path, path=str(welsh))
    write_librispeech(tmp_path / "books", {"dev-clean": 1})
    with pytest.raises(UserError, match="is not common_voice: .*it looks like librispeech"):
        load(tmp_path, path=str(tmp_path / "books"))
    with pytest.raises(UserError, match="python scripts/prepare.py common_voice path="):
        load(tmp_path / "empty")

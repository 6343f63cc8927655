"""Common Voice by lhotse's recipe: clips become FLAC, tables are checked line by line, and missing clips are named."""

import re

import pytest
import soundfile

from asr.data.corpora import corpora
from asr.errors import UserError
from tests.support.recipe_trees import RATE, noise, write_common_voice, write_librispeech


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
    assert corpus.left_out == [("common_voice_cy_train1", "sentence reported by readers: grammar-or-spelling")]
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


def test_a_clip_shorter_than_its_listed_duration_is_dropped_by_name(welsh, tmp_path):
    soundfile.write(welsh / "clips/common_voice_cy_test0.mp3", noise(3, 0.15, 32000), 32000, format="MP3")
    corpus = load(tmp_path, path=str(welsh))
    ((utterance, reason),) = corpus.dropped_of("test")
    assert utterance == "common_voice_cy_test0"
    assert re.fullmatch(r"cut short by clip_durations.tsv: 0\.\d+ of 0.50 s", reason)


def test_clips_that_were_converted_are_found_under_their_new_ending_and_said(welsh, tmp_path, caplog):
    soundfile.write(welsh / "clips/common_voice_cy_test0.wav", noise(3, 0.5, 32000), 32000)
    (welsh / "clips/common_voice_cy_test0.mp3").unlink()
    corpus = load(tmp_path, path=str(welsh))
    assert corpus.dropped == [] and len(corpus.splits["test"]) == 4
    assert "common_voice_cy_test0.mp3 is common_voice_cy_test0.wav" in caplog.text


NAMES = [
    "client_id",
    "path",
    "sentence_id",
    "sentence",
    "sentence_domain",
    "up_votes",
    "down_votes",
    "locale",
    "segment",
]
WHOLE = ["ann", "common_voice_cy_dev0.mp3", "0" * 64, "Mae'r gath ar y mat.", "", "2", "0", "cy", ""]


def row(**changes):
    cells = dict(zip(NAMES, WHOLE)) | changes
    return "\t".join(cells[name] for name in NAMES)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([row(sentence="Line one\rline two")], "Line one line two"),
        ([row(sentence="Line one\nline two")], "Line one line two"),
        ([row(sentence="One\n\ntwo \u2028 three\r")], "One two three"),
        ([row(sentence='"Quoted" to "here')], '"Quoted" to "here'),
        ([row(sentence="'Two  blanks\u00a0' kept")], "'Two  blanks\u00a0' kept"),
        # empty cells at the end of a row may be missing, or too many
        ([row().rstrip("\t")], WHOLE[3]),
        ([row() + "\t\t"], WHOLE[3]),
    ],
)
def test_a_sentence_with_line_breaks_or_quotes_is_whole(welsh, tmp_path, caplog, ending, lines, text):
    write_dev(welsh, lines, ending)
    corpus = load(tmp_path, path=str(welsh))
    assert corpus.dropped == []
    assert [cut.supervisions[0].text for cut in corpus.splits["dev"]] == [text, "more"]
    broken = text not in lines[0] and "Line" in text
    assert ("1 sentence has a line break in the middle" in caplog.text) >= broken


@pytest.mark.parametrize(
    ("line", "utterance", "reason"),
    [
        (row(sentence="The c\tat sat"), "common_voice_cy_dev0", "10 columns where 9 were expected"),
        (
            row(sentence="The c\tat sat").removesuffix("\t"),
            "common_voice_cy_dev0",
            "cells that are not in their columns",
        ),
        (row(sentence_domain="a\tb\tc"), "common_voice_cy_dev0", "11 columns where 9 were expected"),
        ("ann\tcommon_voice_cy_dev0.mp3\t0\tThe cat", "common_voice_cy_dev0", "4 columns where 9 were expected"),
        ("half a line", "dev.tsv:2", "1 columns where 9 were expected"),
        ("", "dev.tsv:2", "1 columns where 9 were expected"),
        (row(sentence="one\0two"), "common_voice_cy_dev0", "a NUL character in its line"),
        (row(path="../x.mp3", sentence="a\tb"), "dev.tsv:2", "10 columns where 9 were expected"),
    ],
)
def test_a_line_whose_sentence_is_not_known_is_dropped_by_name(welsh, tmp_path, line, utterance, reason):
    write_dev(welsh, [line])
    corpus = load(tmp_path, path=str(welsh))
    assert corpus.dropped == [(utterance, f"a line that is not whole: dev.tsv:2 has {reason}")]
    assert corpus.dropped_of("dev") == corpus.dropped and ids(corpus.splits["dev"]) == ["common_voice_cy_dev1"]


def write_dev(root, lines, ending="\n"):
    """dev.tsv of these lines, followed by an intact row."""
    last = row(path="common_voice_cy_dev1.mp3", sentence="more")
    (root / "dev.tsv").write_bytes(ending.join(["\t".join(NAMES), *lines, last, ""]).encode())


def test_an_empty_sentence_is_dropped_by_name_and_a_table_of_nothing_else_refused(welsh, tmp_path):
    write_dev(welsh, [row(sentence=" ")])
    assert load(tmp_path, path=str(welsh)).dropped == [("common_voice_cy_dev0", "no sentence")]
    (welsh / "dev.tsv").write_text("client_id\tpath\tsentence\nann\tclip.mp3\t \nann\tgone.mp3\ttext\n")
    with pytest.raises(
        UserError, match=r"the dev set has 2 .* none of them can be used \(1 × no sentence; 1 × missing audio"
    ):
        load(tmp_path / "other", path=str(welsh))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("client\t../clip.mp3\ttext", r"dev.tsv:2: path='../clip.mp3' is not the name of a file"),
        ("\tclip.mp3\ttext", r"dev.tsv:2: the clip clip.mp3 has no client_id"),
    ],
)
def test_a_row_that_names_no_clip_or_no_speaker_is_refused(welsh, tmp_path, line, message):
    (welsh / "dev.tsv").write_text(f"client_id\tpath\tsentence\n{line}\nann\tcommon_voice_cy_dev1.mp3\ttext\n")
    with pytest.raises(UserError, match=message):
        load(tmp_path, path=str(welsh))


def test_odd_lines_of_the_reported_sentences_are_said_and_passed_over(welsh, tmp_path, caplog):
    (welsh / "reported.tsv").write_text(
        f"sentence\tsentence_id\tlocale\treason\na\tb\tc\td\te\n{TABLES['train'][1][2]}\tx\tcy\tother\n"
    )
    assert [name for name, _ in load(tmp_path, path=str(welsh)).left_out] == ["common_voice_cy_train1"]
    assert "reported.tsv: 1 broken lines were skipped: line 2" in caplog.text


def test_a_language_that_is_not_that_of_the_clips_is_refused(welsh, tmp_path):
    with pytest.raises(UserError, match=r"train.tsv is in the language cy \(locale of .*\), not in de"):
        load(tmp_path, path=str(welsh), language="de")
    with pytest.raises(UserError, match="language=../de is not a language code"):
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

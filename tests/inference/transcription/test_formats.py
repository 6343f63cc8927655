"""Transcripts as text, JSON, SRT, VTT and CTM."""

import json

import pytest

from asr.inference.alignment import Timed
from asr.inference.transcription import Transcript
from asr.inference.transcription.formats import FORMATS, clock
from asr.inference.transcription.subtitles import LINE, LONGEST, subtitles


def speech(*words, start=0.0, each=0.3, confidence=0.9):
    """Words one after another; a number is a pause of so many seconds."""
    items = []
    for word in words:
        if isinstance(word, str):
            items.append(Timed(word, round(start, 3), round(start + each, 3), confidence))
            start += each
        else:
            start += word
    return items


def test_text_is_a_line_a_segment():
    transcript = Transcript("x.wav", 9.0, "words", speech("a", "b", "c", "d"), [1, 3])
    assert FORMATS["text"](transcript) == "a\nb c\nd\n"


def test_json_holds_words_with_times_and_confidences():
    data = json.loads(FORMATS["json"](Transcript("x.wav", 2.0, "words", speech("hello", 0.5, "world"))))
    assert data["words"] == [
        {"word": "hello", "start": 0.0, "end": 0.3, "confidence": 0.9},
        {"word": "world", "start": 0.8, "end": 1.1, "confidence": 0.9},
    ]
    assert (data["file"], data["seconds"], data["text"], data["kind"]) == ("x.wav", 2.0, "hello world", "words")


def test_srt_is_numbered_and_vtt_has_a_header_and_escapes():
    transcript = Transcript("x.wav", 9.0, "words", speech("R&D", "<b>", 2.0, "end", start=3661.5))
    assert FORMATS["srt"](transcript) == (
        "1\n01:01:01,500 --> 01:01:02,500\nR&D <b>\n\n2\n01:01:04,100 --> 01:01:05,100\nend\n"
    )
    assert FORMATS["vtt"](transcript) == (
        "WEBVTT\n\n01:01:01.500 --> 01:01:02.500\nR&amp;D &lt;b&gt;\n\n01:01:04.100 --> 01:01:05.100\nend\n"
    )


def test_ctm_names_the_file_by_its_stem():
    assert (
        FORMATS["ctm"](Transcript("a/my talk.wav", 1.0, "words", speech("hi"))) == "my_talk 1 0.0000 0.3000 hi 0.9000\n"
    )


@pytest.mark.parametrize("format", FORMATS)
def test_a_recording_in_which_nothing_is_said_is_written_in_every_format(format):
    content = FORMATS[format](Transcript("x.wav", 1.0, "words", []))
    assert content in ("\n", "", "WEBVTT\n") or json.loads(content)["words"] == []


def test_clocks_round_to_milliseconds_and_carry():
    assert [clock(seconds, ".") for seconds in (0, 59.9996, 3599.9999)] == [
        "00:00:00.000",
        "00:01:00.000",
        "01:00:00.000",
    ]


def test_subtitles_end_at_pauses_and_hold_two_lines_of_what_fits():
    words = [f"word{number}" for number in range(60)]
    items = speech(*words[:5], 1.0, *words[5:])
    found = subtitles(items)
    assert " ".join(" ".join(one.lines) for one in found).split() == words
    assert found[0].lines == [" ".join(words[:5])]
    for one, following in zip(found, [*found[1:], None]):
        assert 1 <= len(one.lines) <= 2 and all(len(line) <= LINE for line in one.lines)
        assert 0 < one.end - one.start <= LONGEST
        assert following is None or one.end <= following.start


def test_a_long_phrase_is_split_where_the_longest_pause_is():
    words = ["communication"] * 4
    items = speech(*words, 0.3, *words, each=0.6)
    assert [len(" ".join(one.lines).split()) for one in subtitles(items)] == [4, 4]


def test_short_subtitles_stay_for_a_second_unless_the_next_one_comes():
    items = speech("yes", 0.6, "no", 3.0, "oh", each=0.2)
    assert [(one.start, round(one.end, 2)) for one in subtitles(items)] == [(0.0, 0.8), (0.8, 1.8), (4.0, 5.0)]


def test_a_word_longer_than_a_line_stands_by_itself():
    found = subtitles(speech("a", "x" * 60, "b"))
    assert "x" * 60 in [line for one in found for line in one.lines]
    assert " ".join(" ".join(one.lines) for one in found) == f"a {'x' * 60} b"

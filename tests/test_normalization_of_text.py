"""What the text normalizers leave, and that they say what they took out."""

import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UserError
from asr.units.text import normalize


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Hello, World!", "hello world"),
        ("It’s the dogs’ “bone” — isn't it?", "it's the dogs bone isn't it"),
        ("a well-known, state–of–the–art thing", "a well known state of the art thing"),
        ("'tis rock 'n' roll o'clock", "tis rock n roll o'clock"),
        ("wait...what and/or  (none)\n\ttwice", "wait what and or none twice"),
        ("CAFE\u0301 Stra\u00dfe", "café straße"),
        ("co\u00adoperate", "cooperate"),
        ("हिन्दी, कैसे?", "हिन्दी कैसे"),
        ("snake_case", "snake case"),
        ("twenty-1", "twenty 1"),
        ("", ""),
        ("?!", ""),
    ],
)
def test_words_leaves_lower_case_words_and_inner_apostrophes(text, expected):
    assert normalize(text, "words")[0] == expected


def test_what_was_taken_out_is_counted_by_character():
    assert normalize("“Yes,” she said, 'no-one’s' home.", "words")[1] == Counter(
        {"“": 1, "”": 1, ",": 2, "'": 2, "-": 1, ".": 1}
    )
    assert normalize("nothing to remove", "words")[1] == Counter()


def test_none_leaves_the_text_as_it_is():
    assert normalize("  As, it IS. ", "none") == ("  As, it IS. ", Counter())


@given(st.text())
def test_words_is_stable_and_spaced_by_single_spaces(text):
    normalized, _ = normalize(text, "words")
    assert normalize(normalized, "words") == (normalized, Counter())
    assert normalized == " ".join(normalized.split())
    assert unicodedata.is_normalized("NFC", normalized)


def test_a_normalizer_that_does_not_exist_gets_the_nearest_name():
    with pytest.raises(UserError, match="did you mean words"):
        normalize("text", "word")

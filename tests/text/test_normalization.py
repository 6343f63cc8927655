"""What the text normalizers keep, and their report of what they removed."""

import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UserError
from asr.text.normalization import normalize, with_language


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


@pytest.mark.parametrize(
    "text, expected",
    [
        # SpecialCasing: the dot of İ is not one more character, a sigma is final before a space, a mark or nothing
        ("İstanbul ışık IĞDIR", "istanbul ışık iğdir"),
        ("Įžeidė I\u0307\u0300 ĮI\u0303", "įžeidė ì įĩ"),
        ("ΟΔΟΣ.ΑΣ, Σ'ΑΓΑΠΩ ΟΔΟΣ\u200bΑ", "οδος ας σ'αγαπω οδος α"),
        ("STRAẞE ᲛᲗᲐ Ⅳ", "straße მთა ⅳ"),
        # the zero-width space separates words; whatever else is ignorable vanishes, and what it kept apart composes
        ("ស្រី\u200bស្អាត", "ស្រី ស្អាត"),
        ("\ufeffمی\u200cخواهم \u200f\u202bשלום\u202c", "میخواهم שלום"),
        ("क्\u200dष word\u2060joiner a\u034f\u0301 ☃\ufe0f 葛\U000e0100", "क्ष wordjoiner á 葛"),
        ("ᄒ\u115fᅡ ᠠ\u180b\u3164", "하 ᠠ"),
        ("അവന്\u200d হঠাত্\u200d", "അവൻ হঠাৎ"),
        # spaces of all kinds, punctuation of all scripts, numbers of all scripts
        ("a\u00a0b\u3000c\u2028d\u0085e", "a b c d e"),
        ("你好，世界。「東京・大阪」ラーメン々", "你好 世界 東京 大阪 ラーメン々"),
        ("ไทย๒๕๖๗ฯ ٣٤ ३ ၁။ မြန်မာ", "ไทย๒๕๖๗ฯ ٣٤ ३ ၁ မြန်မာ"),
        ("བོད་སྐད། كتاب؟ ሰላም፡ለዓለም።", "བོད སྐད كتاب ሰላም ለዓለም"),
        # written inside words
        ("Ինչպե՞ս է", "ինչպես է"),
        ('צה"ל צה״ל ג׳ורג, "שלום"', "צהל צהל ג'ורג שלום"),
        # decomposed, as macOS writes file names: Vietnamese letters, Korean syllables; a mark before an apostrophe is in a word
        (unicodedata.normalize("NFD", "Tiếng Việt 한국어"), "tiếng việt 한국어"),
        ("x\u030c'a", "x\u030c'a"),
        ("ＦＵＬＬ　ｗｉｄｔｈ", "ｆｕｌｌ ｗｉｄｔｈ"),
    ],
)
def test_every_script_is_normalized_as_unicode_says(text, expected):
    assert normalize(text, "words")[0] == normalize(text, "speech")[0] == expected
    assert normalize(expected, "words") == (expected, Counter())


@pytest.mark.parametrize(
    "language, text, expected",
    [
        ("tr", "İstanbul ışık IĞDIR I\u0307ki", "istanbul ışık ığdır iki"),
        ("az", "QIZIL İpək", "qızıl ipək"),
        ("tr-TR", "DIŞ", "dış"),
        ("tr_tr", "DIŞ", "dış"),
        ("Turkish", "DIŞ", "dış"),
        ("ca", "Col·lecció · COŀLEGI l·", "col·lecció col·legi l"),
        ("en-us", "Istanbul · DIŞ", "istanbul diş"),
        ("trv", "DIŞ", "diş"),
        (None, "DIŞ", "diş"),
    ],
)
def test_a_language_lower_cases_by_its_own_rules(language, text, expected):
    name = with_language("words", language)
    assert normalize(text, name)[0] == expected
    assert normalize(expected, name) == (expected, Counter())
    assert with_language("none", language) == "none" and with_language(name, language) == name


def test_what_was_taken_out_is_counted_by_character():
    assert normalize("“Yes,” she said, 'no-one’s' home.", "words")[1] == Counter(
        {"“": 1, "”": 1, ",": 2, "'": 2, "-": 1, ".": 1}
    )
    assert normalize("nothing to remove", "words")[1] == Counter()
    assert normalize('a\u00adb\u200bc צה"ל L·l', "words")[1] == Counter({"\u00ad": 1, "\u200b": 1, '"': 1, "·": 1})


def test_none_leaves_the_text_as_it_is():
    assert normalize("  As, it IS. ", "none") == ("  As, it IS. ", Counter())


# the subjects of the rules, often next to each other
SIGNS = st.text(alphabet="IİiıσΣ'·ll\u0307\u0301\u0323\u200b\u200c\u200d\u034fന്צה\"՞ .한\u1100\u1161\u115f")


@given(st.text() | SIGNS, st.sampled_from(["words", "words-tr", "words-ca"]))
def test_words_is_stable_and_spaced_by_single_spaces(text, name):
    normalized, _ = normalize(text, name)
    assert normalize(normalized, name) == (normalized, Counter())
    assert normalized == " ".join(normalized.split())
    assert unicodedata.is_normalized("NFC", normalized)


def test_a_normalizer_that_does_not_exist_gets_the_nearest_name():
    with pytest.raises(UserError, match="did you mean words"):
        normalize("text", "word")
    with pytest.raises(UserError, match="only az, ca, crh, gag, tr have rules of their own; use 'words'"):
        normalize("text", "words-en")
    with pytest.raises(UserError, match="no text normalizer called 'none-tr'"):
        normalize("text", "none-tr")

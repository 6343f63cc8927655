"""Which words of the references count as unknown to a decoder: tests of `asr.scoring.decoding`."""

from asr.scoring.decoding import unknown_words, warning_of_unknown
from asr.scoring.nist.network import parse_markup
from asr.scoring.nist.rules import score_items
from asr.scoring.score import score_utterance


def test_words_are_compared_as_they_are_scored_with_their_case():
    scored = [score_utterance("a", ["Bad", "cafe", "bad"], ["bad", "cafe", "bad"])]
    assert unknown_words(scored, {"bad", "cafe"}) == {
        "share": 1 / 3, "words": 1, "distinct": 1, "examples": ["Bad"]
    }  # fmt: skip


def test_an_stm_takes_upper_case_for_lower_case():
    scored = [stm("yeah { i'm / i am } fine (uh) perhaps", "yeah i'm fine")]
    assert unknown_words(scored, {"YEAH", "I'M", "FINE"})["examples"] == ["perhaps"]
    assert unknown_words(scored, {"YEAH", "I'M", "FINE", "PERHAPS"})["words"] == 0


def test_examples_are_the_most_frequent_and_no_more_than_ten():
    words = [f"word{number:02}" for number in range(20)]
    unknown = unknown_words([score_utterance("a", [*words, "zebra", "zebra"], [])], {"zoo"})
    assert unknown == {"share": 1.0, "words": 22, "distinct": 21, "examples": ["zebra", *words[:9]]}


def test_a_tenth_of_the_words_is_not_warned_of_and_more_is():
    spoken = [["a"] * 9 + ["strange"], ["a"] * 8 + ["strange", "odd"]]
    few, many = (unknown_words([score_utterance("a", words, [])], {"a"}) for words in spoken)
    assert warning_of_unknown({"out_of_vocabulary": few}) is None
    assert "20.0%" in (sentence := warning_of_unknown({"out_of_vocabulary": many})) and "odd, strange" in sentence
    assert warning_of_unknown({}) is None


def stm(reference, hypothesis):
    both = [(text, parse_markup(text)) for text in (reference, hypothesis)]
    return score_items("a", *both, "", 1.0)

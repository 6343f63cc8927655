"""The form of the sentences that users see: they start with what is wrong, name it, and end with what to do.

Only what a machine can tell is asked.
"""

import pytest

from tests.support.sentences import broken, broken_rules, sentences_of


def test_a_sentence_starts_with_what_is_wrong_names_it_and_ends_with_what_to_do():
    found = [f"{sentence.file}:{sentence.line} {'; '.join(rules)}: {sentence.text}" for sentence, rules in broken()]
    assert not found, "\n".join(found)


def test_the_sentences_are_found_in_the_source():
    source = """
raise UserError(f"{path} holds no cuts: give "  f"another {1 + 1}.")
raise errors.UserError("a=" + repr(a) + " is none.") from None
raise UserError(unread_knob(name))
raise UserError(f"{error}")
try:
    load(path)
except errors.UserError as error:
    raise UserError(f"{path} was not kept: {str(error).strip()}")
except OSError as error:
    raise UserError(f"{path} was not kept: {error}")
return ValueError("not ours")
"""
    assert (
        [sentence.text for sentence in sentences_of(source, "a.py")]
        == [
            "⟨path⟩ holds no cuts: give another ⟨1 + 1⟩.",
            "a=⟨repr(a)⟩ is none.",
            "⟨path⟩ was not kept: ⟨str(OWN).strip()⟩",  # the sentence of a UserError ends with what to do, and so does this one
            "⟨path⟩ was not kept: ⟨error⟩",
        ]
    )


@pytest.mark.parametrize(
    "sentence",
    [
        "⟨path⟩ is cut short. Copy it again.",
        "device is auto, cpu or cuda, not ⟨name⟩.",
        "encoder.norm=⟨norm⟩: give pre or post.",
        "There is no attention called ⟨name⟩: ⟨nearest(name, attentions.names())⟩.",
        "⟨path⟩ is UTF-16 or UTF-32. Save it as UTF-8: iconv -f utf-16 -t utf-8 ⟨path⟩",
        "The training split is not that of ⟨run⟩. Start a new run with init_from=…",
        "⟨path⟩, line ⟨number⟩: expected one word, found ⟨line⟩.",
        "corpus.seed=⟨seed⟩ must be a whole number.",
        "The ⟨name⟩ split is empty: it needs at least one utterance.",
        "--config-path: conf/ cannot be replaced; --config-dir DIR adds a folder of your own to it.",
        "init_units=kept: ⟨said⟩. init_units=fresh makes new units and keeps the encoder.",
        "+⟨key⟩: there is such a group already; leave the + out: ⟨key⟩=…",
        "⟨path⟩ was not kept: ⟨str(OWN)⟩",
    ],
)
def test_sentences_of_good_form_pass(sentence):
    assert broken_rules(sentence) == []


@pytest.mark.parametrize(
    "sentence, rule",
    [
        ("Error: ⟨path⟩ is cut short. Copy it again.", "does not start with what is wrong"),
        ("Invalid encoder.norm=⟨norm⟩: give pre or post.", "does not start with what is wrong"),
        ("Please give a file: ⟨path⟩ is none.", "does not start with what is wrong"),
        ("could not read ⟨path⟩. Copy it again.", "does not start with what is wrong"),
        ("The file is cut short. Copy it again.", "names no file, key or value"),
        ("⟨path⟩ is cut short. Copy it again", "does not end with a full stop"),
        ("⟨path⟩ cannot be read: ⟨error⟩", "does not end with a full stop"),
        ("⟨path⟩ is cut short.", "does not end with what to do"),
        ("Copy ⟨path⟩ again. It is cut short.", "does not end with what to do"),
        ("⟨path⟩ was not kept: ⟨error⟩.", "does not end with what to do"),
        ("⟨path⟩ is not what we expected of a manifest.", "does not end with what to do"),
        ("init_units=kept: ⟨said⟩. The units make no sense.", "does not end with what to do"),
        ("⟨path⟩ is no model folder. Give another.", "says 'is no'"),
        ("logger=⟨name⟩ cannot be had. Install it.", "says 'cannot be had'"),
    ],
)
def test_each_rule_can_be_broken(sentence, rule):
    assert any(said.startswith(rule) for said in broken_rules(sentence))

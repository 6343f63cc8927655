"""What users are told when something is wrong: the form of every message, read from the source."""

import ast
import re
from pathlib import Path

import pytest

ASR = Path(__file__).resolve().parents[1] / "asr"
ROOMS = ("audio", "data", "scoring", "text")
ERRORS = {"UserError", "ArgumentError", "UnknownUnit"}
# a sentence, a value, a setting or a file, or a program
BEGIN = re.compile(r"[A-Z{`]|[a-z]\w*[._=]|(eSpeak|lhotse|sclite)\b")
# what nobody would say
TICS = re.compile(
    r"(?<!here )\b(is|are) no\b(?! longer)|\b(was|were) expected\b"
    r"|\b(goe?s? on|stands?|so many|anew|all the same)\b"
)


def text_of(node: ast.expr) -> str | None:
    """The text of a literal, with `{}` for what is filled in; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def messages(room: str) -> dict[str, str]:
    """The messages that the files of a room spell out, by file and line."""
    found = {}
    for file in sorted((ASR / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and node.args:
                text = text_of(node.args[-1])
                if text is not None:
                    found[f"{file.relative_to(ASR)}:{node.lineno}"] = text
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_message_begins_with_what_is_wrong_ends_like_a_sentence_and_is_english(room):
    found = messages(room)
    assert len(found) > 20
    begins = {place: text for place, text in found.items() if not BEGIN.match(text)}
    ends = {place: text for place, text in found.items() if not re.search(r"[.?…})]$", text)}
    tics = {place: text for place, text in found.items() if TICS.search(text)}
    assert (begins, ends, tics) == ({}, {}, {})

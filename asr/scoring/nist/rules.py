"""Scores conversations by an STM, with or without a GLM, like NIST's hubscr.pl and sclite."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from asr.errors import UserError, nearest
from asr.runtime.text_files import composed
from asr.scoring.nist.ctm import TimedItem, TimedWord, assign, read_ctm
from asr.scoring.nist.glm import SPACE, GlobalMapping, RuleSet, filter_text
from asr.scoring.nist.network import LOWER, align_networks, build_network, parse_markup
from asr.scoring.nist.stm import Segment, Stm, read_stm
from asr.scoring.score import UtteranceScore


@dataclasses.dataclass(frozen=True)
class CtmScore:
    """utterances: of every scored segment. outside: words outside all segments, which went to a neighbouring one as in sclite.
    ignored: words in segments that are not scored, which do not count."""

    utterances: list[UtteranceScore]
    outside: list[TimedWord]
    ignored: list[TimedWord]


class ScoringRules:
    """The rules for scoring the segments of an STM.

    With a GLM they do everything that `hubscr.pl -l english -h hub5` does: csrfilt.sh -dh on both sides, then sclite -F -D.
    Without one the words stay as they are, and are scored like sclite -F -D.
    """

    def __init__(self, stm: Stm, mapping: GlobalMapping | None = None):
        self.stm, self.mapping = stm, mapping
        self.segments = {segment.identity: segment for segment in stm.scored}
        self.reference_rules = mapping.rules("stm", "ref") if mapping else None
        self.hypothesis_rules = mapping.rules("ctm", "hyp") if mapping else None
        self._references = {segment.identity: self._reference(segment) for segment in stm.scored}
        self._items: dict[tuple[str, ...], tuple[list[list[str]], bool]] = {}

    @classmethod
    def read(cls, stm: Path | str, glm: Path | str | None = None) -> ScoringRules:
        """Reads both files. Raises UserError, naming file and line, for a malformed line."""
        return cls(read_stm(stm), GlobalMapping.read(glm) if glm is not None else None)

    @classmethod
    def in_folder(cls, folder: Path | str) -> ScoringRules:
        """The rules that a prepared corpus keeps for a split: `reference.stm` and, if there is one, `rules.glm`."""
        glm = Path(folder) / "rules.glm"
        return cls.read(Path(folder) / "reference.stm", glm if glm.is_file() else None)

    def _reference(self, segment: Segment) -> tuple[str, list]:
        return marked_up(segment.text, self.reference_rules, f"{self.stm.path}, line {segment.line}")

    def reference(self, segment: Segment | str) -> str:
        """A segment's reference after the GLM, with sclite's markup: `{ he is / he has } (uh) ab-`."""
        return self._references[self._identity(segment)][0]

    def _identity(self, segment: Segment | str) -> str:
        identity = segment if isinstance(segment, str) else segment.identity
        if identity not in self.segments:
            hint = nearest(identity, self.segments)
            raise UserError(f"{self.stm.path} has no scored segment called {identity!r}: {hint}.")
        return identity

    def score(self, hypotheses: Iterable[tuple[Segment | str, Sequence[str]]]) -> list[UtteranceScore]:
        """Scores pairs (segment or its identity, words); each word is filtered by itself, as in a CTM, and composed (NFC).

        Raises UserError for a segment that the STM lacks or does not score, and for one given twice.
        """
        scores: dict[str, UtteranceScore] = {}
        for segment, words in hypotheses:
            identity = self._identity(segment)
            if identity in scores:
                raise UserError(f"There are two hypotheses for the segment {identity}: give one.")
            where = self.segments[identity]
            timed = [
                TimedWord(where.file, where.channel, where.start, 0.0, word)
                for word in composed(" ".join(words)).split()
            ]
            items = [item.item for word in timed for item in self.items(word, identity)]
            scores[identity] = self._score(where, items)
        return list(scores.values())

    def score_ctm(self, path: Path | str) -> CtmScore:
        """Scores a CTM against all segments; those without words are deletions.

        Raises UserError, naming file and line, for a malformed line.
        """
        return self.score_words(read_ctm(path), str(path))

    def score_words(self, words: Sequence[TimedWord], hypothesis: str = "the hypothesis") -> CtmScore:
        items = [item for word in words for item in self.items(word, place_of(word, hypothesis))]
        assigned, outside = assign(items, self.stm.segments, hypothesis)
        scores = []
        for segment in self.stm.scored:
            scores.append(self._score(segment, [item.item for item in assigned[segment.identity]]))
        ignored = [item for segment in self.stm.segments if segment.ignored for item in assigned[segment.identity]]
        return CtmScore(scores, unique(outside), unique(ignored))

    def _score(self, segment: Segment, items: list) -> UtteranceScore:
        reference = self._references[segment.identity]
        return score_items(
            segment.identity, reference, (show_markup(items), items), segment.speaker, segment.end - segment.start
        )

    def items(self, word: TimedWord, place: str) -> list[TimedItem]:
        """What csrfilt.sh leaves of a word of a CTM for sclite: nothing, one or more words, or alternatives."""
        if self.hypothesis_rules is None:
            return [TimedItem(word, word.text, word.middle)]
        key = (word.text, *word.more)
        if key not in self._items:
            self._items[key] = filtered_word(key, self.hypothesis_rules, place)
        alternatives, as_it_was = self._items[key]
        if as_it_was:
            return [TimedItem(word, alternatives[0][0], word.middle)]
        timed = [spread(word, words) for words in alternatives]
        if len(timed) == 1:
            return timed[0]
        middle = max((item.middle for words in timed for item in words), default=word.middle)
        return [TimedItem(word, [words or ["@"] for words in alternatives], middle)]


def filtered_word(fields: Sequence[str], rules: RuleSet, place: str) -> tuple[list[list[str]], bool]:
    """(alternatives, whether the line of the CTM stays as it was) of a word and the fields after it.

    csrfilt.sh puts the filtered text in the word's place and then takes a last field of digits, points and hyphens for a
    confidence, unless there is only one field. So do we, even if that costs a word.
    """
    try:
        text = filter_text(f" {fields[0]} ", rules)
    except ValueError as error:
        raise UserError(f"{place}: {error} in {fields[0]!r}. Correct the line.") from None
    row = re.sub(r"([{}])", r" \1 ", " ".join([text, *fields[1:]])).split()
    if not row:
        return [[]], False
    if len(row) == 1:
        return [row], True
    if re.fullmatch(r"[0-9.\-]*", row[-1]):
        row.pop()
    parts = " ".join(row).split("/")
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return [re.sub("[{}]", "", part).split() for part in parts], False


def spread(word: TimedWord, texts: Sequence[str]) -> list[TimedItem]:
    """A word's time divided among the words that it became, rounded to thousandths as csrfilt.sh writes them."""
    length = word.duration / max(1, len(texts))
    rounded = round_as_printed(length)
    return [
        TimedItem(word, text, round_as_printed(word.start + length * index) + rounded / 2)
        for index, text in enumerate(texts)
    ]


def round_as_printed(seconds: float) -> float:
    return float(f"{seconds:.3f}")


def marked_up(text: str, rules: RuleSet | None, place: str) -> tuple[str, list]:
    """(a reference after the rules, its items). Raises UserError, naming the place, for unbalanced markup."""
    text = " ".join(re.split(r"[ \t]+", text.strip(SPACE)))
    after = ""
    try:
        if rules is not None:
            text = filter_text(f" {text} ", rules)
            after = f", after the GLM's rules: {text}"
        return text, parse_markup(text)
    except ValueError as error:
        raise UserError(
            f"{place}: {error}{after}. Correct the line, as recipes do for hub5e00's `((`, or score with the corrected copy in a "
            "prepared corpus (scoring/eval2000/reference.stm in its folder)."
        ) from None


def score_items(
    utterance: str, reference: tuple[str, list], hypothesis: tuple[str, list], speaker: str, duration: float
) -> UtteranceScore:
    """The score of two pairs (text in markup, items). Reference and hypothesis are the words of the texts in lower case."""
    texts = [text.translate(LOWER) for text, _ in (reference, hypothesis)]
    alignment = align_networks(build_network(reference[1]), build_network(hypothesis[1]))
    return UtteranceScore(
        utterance, texts[0].split(), texts[1].split(), alignment, speaker, float(duration), markup=(texts[0], texts[1])
    )


def show_markup(items: Sequence) -> str:
    """Items as one line in sclite's markup."""
    return " ".join(
        item if isinstance(item, str) else "{ " + " / ".join(show_markup(part) for part in item) + " }"
        for item in items
    )


def place_of(word: TimedWord, hypothesis: str) -> str:
    return f"{hypothesis}, line {word.line}" if word.line else hypothesis


def unique(items: Iterable[TimedItem]) -> list[TimedWord]:
    return list(dict.fromkeys(item.word for item in items))

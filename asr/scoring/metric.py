"""The metric: whether errors are counted in phonemes, words or characters. Decided here and nowhere else."""

from __future__ import annotations

import collections
import dataclasses
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from asr.errors import UserError
from asr.runtime.text_files import composed
from asr.scoring.alignment import align
from asr.scoring.reading import ReadEvaluation, ReadUtterance
from asr.scoring.score import Score, UtteranceScore, score_utterance, summarize

# name: (title, what is counted)
METRICS = {
    "per": ("Phoneme error rate", "phonemes"),
    "wer": ("Word error rate", "words"),
    "cer": ("Character error rate", "characters"),
}
# Scripts written without spaces between words, by the beginnings of their letters' names: Unicode's line breaking classes ID
# (ideographs and kana) and SA (South East Asia), and others that the Unicode Standard describes that way.
WITHOUT_SPACES = (
    "CJK ", "IDEOGRAPHIC ", "HIRAGANA ", "KATAKANA", "HALFWIDTH KATAKANA", "BOPOMOFO ", "YI ", "NUSHU ", "TANGUT ",
    "THAI ", "LAO ", "KHMER ", "MYANMAR ", "TAI LE ", "TAI THAM ", "TAI VIET ", "NEW TAI LUE ", "AHOM ", "TIBETAN ",
    "JAVANESE ", "BALINESE ",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Metric:
    """The unit in which errors are counted.

    name: "per", "wer" or "cer". spaces: whether the space between two words counts as a character: it does, as in jiwer and
    ESPnet, unless the script is written without spaces, where spaces say nothing about the speech.
    Characters are the code points of the text in NFC.
    """

    name: str
    spaces: bool = True

    @property
    def title(self) -> str:
        return METRICS[self.name][0]

    @property
    def tokens(self) -> str:
        return METRICS[self.name][1]

    @property
    def shown(self) -> tuple[str, ...]:
        """The names of the rates to show, this one first: for texts also characters, and words if spaces separate them."""
        if self.name == "per":
            return ("per",)
        if self.name == "wer":
            return ("wer", "cer")
        return ("cer", "wer") if self.spaces else ("cer",)

    def characters(self, words: Iterable[str]) -> list[str]:
        """The characters of some words, with the spaces between them if these count."""
        return list(composed((" " if self.spaces else "").join(words)))

    def counted(self, utterances: Sequence[UtteranceScore], name: str | None = None) -> list[UtteranceScore]:
        """Utterances that were aligned in their own tokens, scored in this metric or in `name`.

        If a reference allows several readings, characters are scored in the one that the word alignment chose; words that it
        counts as correct, such as one for a fragment, have the correct characters.
        """
        return [self.in_characters(one) for one in utterances] if (name or self.name) == "cer" else list(utterances)

    def in_characters(self, utterance: UtteranceScore) -> UtteranceScore:
        steps = utterance.alignment.operations
        reference = [step.reference for step in steps if step.reference is not None]
        hypothesis = [step.reference if step.kind == "equal" else step.hypothesis for step in steps]
        hypothesis = [token for token in hypothesis if token is not None]
        return score_utterance(
            utterance.utterance, self.characters(reference), self.characters(hypothesis), utterance.speaker,
            utterance.duration,
        )  # fmt: skip


def choose_metric(asked: str, own: str, references: Iterable[Sequence[str]]) -> Metric:
    """The metric for references whose tokens are `own`: "per" (phonemes) or "wer" (words).

    asked: "per", "wer", "cer", "auto" (characters if most letters belong to scripts without spaces, else the tokens), or "own"
    (the tokens, in any script). Raises UserError for phonemes scored as words or characters, or the other way round.
    """
    if asked not in ("auto", "own", own) and "per" in (asked, own):
        recognized, advice = (
            ("phonemes", "use metric=per, or a decoder that finds words (decoder=wfst)")
            if own == "per"
            else ("words, not phonemes", "use metric=wer or metric=cer")
        )
        raise UserError(f"metric={asked} counts {METRICS[asked][1]}, but this model recognizes {recognized}: {advice}.")
    if own == "per":
        return Metric("per")
    spaces = has_spaces(word for reference in references for word in reference)
    return Metric({"auto": "wer" if spaces else "cer", "own": own}.get(asked, asked), spaces)


def has_spaces(words: Iterable[str]) -> bool:
    """Whether most letters belong to scripts that put spaces between words."""
    counts = collections.Counter(character for word in words for character in word if character.isalpha())
    without = sum(n for letter, n in counts.items() if unicodedata.name(letter, "").startswith(WITHOUT_SPACES))
    return 2 * without <= counts.total()


def key_of(name: str) -> str:
    """The key of an additional rate in `scores.json`, and after `dev/` in `metrics.csv`, such as `word_error_rate`."""
    return METRICS[name][0].lower().replace(" ", "_")


def summarize_in(
    metric: Metric, utterances: Sequence[UtteranceScore], resamples: int = 2000
) -> tuple[Score, dict[str, dict[str, Any]]]:
    """(the summary of utterances in a metric; additional rates, by their keys in `scores.json`).

    utterances: aligned in their own tokens. Characters are among the additional rates even if they are the metric, to record
    whether spaces count.
    """
    scores = {name: summarize(metric.counted(utterances, name), resamples) for name in metric.shown}
    beside = {name for name in metric.shown if name == "cer" or name != metric.name}
    return scores[metric.name], {key_of(name): as_data(scores[name], name, metric) for name in sorted(beside)}


def as_data(score: Score, name: str, metric: Metric) -> dict[str, Any]:
    """A rate with its counts as plain data; for characters, also whether spaces count."""
    return score.as_data() | ({"spaces_counted": metric.spaces} if name == "cer" else {})


def rates_beside(scores: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The additional rates by name, from the content of `scores.json`; old ones have none."""
    others = {name: scores.get(key_of(name)) for name in METRICS if name != scores.get("metric")}
    return {name: rate for name, rate in others.items() if isinstance(rate, dict)}


def said_beside(scores: dict[str, Any]) -> str:
    """The additional rates in brief, `CER 3.21%`; "" if there are none."""
    return ", ".join(f"{name.upper()} {rate['error_rate']:.2%}" for name, rate in rates_beside(scores).items())


def spaces_note(scores: dict[str, Any], name: str) -> str:
    """A note after a rate on whether spaces count; empty unless the rate is of characters."""
    if name != "cer" or "character_error_rate" not in scores:
        return ""
    return "spaces counted" if scores["character_error_rate"]["spaces_counted"] else "spaces not counted"


def as_line(tokens: Sequence[str], name: str) -> str:
    """Tokens in one line; characters are joined to their text."""
    return ("" if name == "cer" else " ").join(tokens)


def from_line(line: str, name: str) -> list[str]:
    """The tokens that `as_line` wrote."""
    return list(line) if name == "cer" else line.split()


def recounted(evaluation: ReadEvaluation, asked: str) -> ReadEvaluation:
    """An evaluation read from its folder, scored again in words ("wer") or characters ("cer"); "auto" leaves it as it is.

    Raises UserError if the texts do not allow that: phonemes, alternatives of an STM, characters without spaces.
    """
    own = evaluation.scores.get("metric")
    if asked in ("auto", own):
        return evaluation
    if asked not in METRICS:
        raise UserError(f"metric={asked!r} is not one of auto, wer and cer.")
    reason, advice = None, "Score it with evaluate.py"
    if "per" in (own, asked):
        reason = f"it holds {METRICS[own][1]}" if own in METRICS else "it does not say what was counted"
        advice = "Leave metric=… out"
    elif evaluation.scores.get("scored_by"):
        reason = "its references have alternatives"
    elif own == "cer" and not evaluation.scores.get("character_error_rate", {}).get("spaces_counted", True):
        reason = "its texts have no spaces"
    if reason is not None:
        raise UserError(f"{evaluation.folder} cannot be scored again with metric={asked}: {reason}. {advice}.")
    metric = Metric(asked, has_spaces(one.reference for one in evaluation.utterances.values()))
    return dataclasses.replace(
        evaluation,
        scores={**evaluation.scores, "metric": asked},
        utterances={name: counted_again(one, metric) for name, one in evaluation.utterances.items()},
    )


def counted_again(utterance: ReadUtterance, metric: Metric) -> ReadUtterance:
    reference, hypothesis = utterance.reference.split(), utterance.hypothesis.split()
    if metric.name == "cer":
        reference, hypothesis = metric.characters(reference), metric.characters(hypothesis)
    counts = align(reference, hypothesis)
    return dataclasses.replace(
        utterance, reference_length=counts.reference_length, substitutions=counts.substitutions,
        deletions=counts.deletions, insertions=counts.insertions,
        reference=as_line(reference, metric.name), hypothesis=as_line(hypothesis, metric.name),
    )  # fmt: skip

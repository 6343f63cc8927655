"""What a score reports about its decoder: the settings, and the words of the references that it does not know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from asr.scoring.nist.network import LOWER
from asr.scoring.score import UtteranceScore

# a larger share of unknown words gets a warning
MANY = 0.1
EXAMPLES = 10
SETTINGS = {"lm": "Language model", "lexicon": "Lexicon", "lm_weight": "lm_weight", "word_score": "word_score"}


def unknown_words(utterances: Iterable[UtteranceScore], known: Collection[str]) -> dict[str, Any]:
    """The words of the references that a decoder cannot produce.

    The references are the scored tokens, compared as for scoring: exactly or, with an STM, with ASCII letters in lower case;
    words that were recognized by a rule of the GLM or as a fragment do not count.

    Returns plain data: `share` of all reference words (0..1), `words` (their number), `distinct`, and `examples`, the most
    frequent first.
    """
    folded: set[str] = set()
    unknown, length = Counter(), 0
    for utterance in utterances:
        if utterance.markup is not None and not folded:
            folded = {word.translate(LOWER) for word in known}
        found = known if utterance.markup is None else folded
        length += utterance.alignment.reference_length
        for kind, word, _ in utterance.alignment.operations:
            if word is not None and kind != "equal" and word not in found:
                unknown[word] += 1
    examples = sorted(unknown, key=lambda word: (-unknown[word], word))[:EXAMPLES]
    words = unknown.total()
    return {"share": words / length if length else 0.0, "words": words, "distinct": len(unknown), "examples": examples}


def decoder_rows(data: dict[str, Any]) -> dict[str, str]:
    """The rows of a table that describe the decoder; for the greedy decoder, only its name.

    data: the content of `scores.json`, in which `decoder` may be missing.
    """
    settings = data.get("decoder")
    if not settings:
        return {}
    rows = {"Decoder": settings["name"]}
    if settings["name"] == "greedy":
        return rows
    rows |= {title: str(settings[key]) for key, title in SETTINGS.items() if settings.get(key) is not None}
    tuned = data.get("decoder_tuned")
    if tuned is None:
        rows["Tuned"] = "no"
    else:
        other = f", for the language model {tuned['other_lm']}" if tuned["other_lm"] else ""
        rows["Tuned"] = f"{', '.join(tuned['settings'])}{other}, by {tuned['file']}"
    if data.get("decoding_seconds") is not None:
        rows["Decoding"] = f"{data['decoding_seconds']:.2f} s"
    unknown = data.get("out_of_vocabulary")
    if unknown is not None:
        such = f": {unknown['words']} words, {unknown['distinct']} different, such as {some(unknown)}"
        rows["Out of vocabulary"] = f"{unknown['share']:.2%}{such if unknown['words'] else ''}"
    return rows


def warning_of_unknown(data: dict[str, Any]) -> str | None:
    """A sentence if the decoder cannot produce many of the spoken words, else None."""
    unknown = data.get("out_of_vocabulary")
    if unknown is None or unknown["share"] <= MANY:
        return None
    return (
        f"{unknown['share']:.1%} of the words in the references, such as {some(unknown)}, cannot be recognized, because the "
        "decoder does not know them. Is its language model or its lexicon for another language or subject, or does it have "
        "the same words in another case?"
    )


def some(unknown: dict[str, Any]) -> str:
    return ", ".join(unknown["examples"][:5])

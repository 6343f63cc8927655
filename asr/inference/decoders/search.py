"""Shared by the decoders that search: checks of settings, preparation of emissions, and paths read as units and words."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

import numpy
from torch import Tensor

from asr.errors import UserError
from asr.inference.decoders import Hypothesis, Word, check_emissions
from asr.model.graphs.best_path import Run

Bound = TypeVar("Bound")
# ln P of the impossible: its sum over a whole recording stays finite in float32
IMPOSSIBLE = -1e5
LN10 = math.log(10)
# Longer recordings, in frames, go to flashlight in pieces: it keeps every partial sentence that it has considered, so that 40
# minutes took 3.7 GB and 59 minutes overflowed the stack.
LONGEST = 6000
# Frames over which the blank's log-probability is averaged to find where to cut.
AROUND_CUT = 15


def check_units(emissions: Tensor, symbols: int) -> None:
    """Raises ValueError unless emissions (batch, time, units) have as many units as the decoder has symbols."""
    if emissions.shape[2] != symbols:
        raise ValueError(f"the emissions have {emissions.shape[2]} units, and the decoder was bound to {symbols}")


def check_is_number(emissions: Tensor, row: int) -> None:
    """Raises ValueError for emissions (time, units) of utterance `row` of a batch that hold NaN."""
    if emissions.isnan().any():
        raise ValueError(f"the emissions of utterance {row} of the batch hold values that are not numbers (NaN)")


def decode_each(
    emissions: Tensor,
    lengths: Tensor,
    symbols: int,
    decode: Callable[[numpy.ndarray], list[Hypothesis]],
    empty: Hypothesis,
    longest: int | None = None,
    nbest: int = 1,
    add: bool = False,
) -> list[list[Hypothesis]]:
    """Applies `decode` to the emissions of each utterance, as float32 (time, units) without -inf.

    symbols: the number of units that the emissions must have. empty: the hypothesis for an utterance without frames. longest:
    utterances with more frames are decoded in pieces, and the best `nbest` distinct combinations returned. add: whether scores
    are sums over alignments, so that those of equal combinations are added.
    Raises ValueError for shapes that do not fit and for NaN.
    """
    check_emissions(emissions, lengths)
    check_units(emissions, symbols)
    result = []
    for row, length in enumerate(lengths.tolist()):
        check_is_number(emissions[row, :length], row)
        valid = emissions[row, :length].detach().float().clamp(min=IMPOSSIBLE).cpu().numpy()
        if not length:
            result.append([empty])
        elif longest is None or length <= longest:
            result.append(decode(valid))
        else:
            joined, start = [empty], 0
            for end in [*cuts(valid[:, 0], longest), length]:
                following = decode(valid[start:end])
                pairs = (joined_hypothesis(one, other, start) for one in joined for other in following)
                joined = different(pairs, add)[:nbest]
                start = end
            result.append(joined)
    return result


def cuts(blank: numpy.ndarray, longest: int) -> list[int]:
    """Where to cut so that no piece has more than `longest` frames: where there is least speech.

    blank: (time,) log-probability of the blank.
    """
    around = numpy.ones(min(AROUND_CUT, longest // 2)) / min(AROUND_CUT, longest // 2)
    places, start = [], 0
    while len(blank) - start > longest:
        half = start + longest // 2
        start = half + int(numpy.convolve(blank[half : start + longest], around, "same").argmax())
        places.append(start)
    return places


def joined_hypothesis(one: Hypothesis, other: Hypothesis, frames: int) -> Hypothesis:
    """The concatenation of two hypotheses, with the second's times moved by `frames`."""
    words = None
    if one.words is not None and other.words is not None:
        words = [*one.words, *(moved(word, frames) for word in other.words)]
    return Hypothesis(
        [*one.ids, *other.ids],
        one.score + other.score,
        [*one.frames, *(frame + frames for frame in other.frames)],
        words,
        sum_of(one.acoustic_score, other.acoustic_score),
        sum_of(one.language_model_score, other.language_model_score),
    )


def sum_of(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def moved(word: Word, frames: int) -> Word:
    return dataclasses.replace(word, start=word.start + frames, end=word.end + frames)


def different(hypotheses: Iterable[Hypothesis], add: bool) -> list[Hypothesis]:
    """One hypothesis per sequence of words (of units if there are no words), best first.

    Of equal ones the best is kept; with `add` its score becomes the sum over all, as they are different alignments.
    """
    found: dict[tuple, Hypothesis] = {}
    for hypothesis in sorted(hypotheses, key=lambda hypothesis: -hypothesis.score):
        key = tuple(hypothesis.ids if hypothesis.transcript is None else hypothesis.transcript)
        best = found.setdefault(key, hypothesis)
        if add and best is not hypothesis:
            score = float(numpy.logaddexp(best.score, hypothesis.score))
            acoustic = sum_of(best.acoustic_score, score - best.score)
            found[key] = dataclasses.replace(best, score=score, acoustic_score=acoustic)
    return sorted(found.values(), key=lambda hypothesis: -hypothesis.score)


def runs_of(path: Sequence[int] | numpy.ndarray, blank: int = 0) -> list[Run]:
    """The units of a CTC path, which has one index per frame: repeats merged, then blanks removed."""
    indices = numpy.asarray(path)
    if not len(indices):
        return []
    starts = numpy.flatnonzero(numpy.concatenate(([True], indices[1:] != indices[:-1])))
    ends = numpy.append(starts[1:], len(indices))
    return [
        Run(unit, start, end)
        for unit, start, end in zip(indices[starts].tolist(), starts.tolist(), ends.tolist())
        if unit != blank
    ]


def words_of(
    runs: Sequence[Run],
    words: Sequence[str],
    spellings: Callable[[str], Collection[tuple[int, ...]]],
    separators: Collection[int],
) -> tuple[list[Word], int]:
    """(the words with their times, how many runs they use), where each word uses as many runs as one of its spellings has
    units.

    separators: units allowed between words. If the runs end before the words do, only complete words are returned.
    """
    # depth first, because spellings of a word may share a prefix; `best` is the furthest so far
    stack: list[tuple[int, tuple[Word, ...]]] = [(0, ())]
    best: tuple[int, tuple[Word, ...]] = (0, ())
    seen = set()
    while stack:
        at, found = stack.pop()
        if (at, len(found)) in seen:
            continue
        seen.add((at, len(found)))
        if len(found) > len(best[1]):
            best = (at, found)
        if len(found) == len(words):
            rest = [run.unit for run in runs[at:]]
            if set(rest) <= set(separators):
                best = (len(runs), found)
                break
            continue
        word = words[len(found)]
        for spelling in spellings(word):
            end = at + len(spelling)
            if end <= len(runs) and all(run.unit == unit for run, unit in zip(runs[at:end], spelling)):
                stack.append((end, (*found, Word(word, runs[at].start, runs[end - 1].end))))
        if at < len(runs) and runs[at].unit in separators:
            stack.append((at + 1, found))
    return list(best[1]), best[0]


def check_numbers(settings: dict[str, Any], positive: Collection[str] = (), counts: Collection[str] = ()) -> None:
    """Raises UserError unless all settings are finite numbers, `positive` ones above 0, `counts` whole and at least 1."""
    for key, value in settings.items():
        what = None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            what = "a number"
        elif key in counts and (not isinstance(value, int) or value < 1):
            what = "a whole number, at least 1"
        elif key in positive and value <= 0:
            what = "a number above 0"
        elif key == "lm_weight" and value < 0:
            what = "a number, at least 0"
        if what:
            raise UserError(f"decoder.{key} must be {what}, not {value!r}.")


def require(module: str, package: str, decoder: str) -> Any:
    """Imports a module of the extra `decoding`. Raises UserError if it is not installed."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        if package == "flashlight-text" and sys.version_info >= (3, 13):
            advice = f"It has no wheel for Python 3.{sys.version_info.minor}: choose decoder=wfst, or Python 3.12"
        else:
            advice = f"Install it: pip install -c constraints.txt '.[decoding]' (or: pip install {package})"
        raise UserError(f"decoder={decoder} needs {package}, which is not installed ({error}). {advice}.") from None


def bound(attribute: Bound | None, decoder: str) -> Bound:
    """An attribute that `bind` sets. Raises RuntimeError if a decoder decodes before it."""
    if attribute is None:
        raise RuntimeError(f"the decoder {decoder} decodes only after bind(units)")
    return attribute

"""What the decoders that search have in common: settings, emissions as they need them, and paths read as units and words."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy
from torch import Tensor

from asr.errors import UserError
from asr.inference.decoders import Hypothesis, Word, check_emissions

if TYPE_CHECKING:
    from asr.text.units import Units

# ln P of what cannot be: a sum over a whole recording of it stays finite in float32
IMPOSSIBLE = -1e5
LN10 = math.log(10)
# Frames beyond which flashlight gets a recording in pieces: it keeps every beginning of a sentence that it has thought of, so
# that 40 minutes took 3.7 GB and 59 minutes overflowed the stack.
LONGEST = 6000
# Frames over which the blank's log-probability is averaged, to find where to cut.
AROUND_CUT = 15


class Run(NamedTuple):
    """A unit of a path, and the frames from its first one to behind its last one."""

    unit: int
    start: int
    end: int


def check_units(emissions: Tensor, symbols: int) -> None:
    """Raises ValueError unless emissions (batch, time, units) have as many units as the decoder has symbols."""
    if emissions.shape[2] != symbols:
        raise ValueError(f"the emissions have {emissions.shape[2]} units, and the decoder was bound to {symbols}")


def check_is_number(emissions: Tensor, row: int) -> None:
    """Raises ValueError for emissions (time, units) of utterance `row` of a batch that hold NaN."""
    if emissions.isnan().any():
        raise ValueError(f"the emissions of utterance {row} of the batch hold values that are no numbers (NaN)")


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
    """Applies `decode` to the emissions of one utterance after the other, as float32 (time, units) without -inf.

    symbols: how many units the emissions must have. empty: the hypothesis for an utterance without frames. longest: what has
    more frames is decoded in pieces, of which the best `nbest` different combinations are returned. add: whether scores are
    sums over alignments, so that those of equal combinations add up.
    Raises ValueError for shapes that do not fit and for emissions that are no numbers.
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
    """Where to cut what is too long, so that no piece has more than `longest` frames: where there is the least speech.

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
    """One hypothesis of both, the other's times moved by so many frames."""
    words = None
    if one.words is not None and other.words is not None:
        words = [*one.words, *(moved(word, frames) for word in other.words)]
    return Hypothesis(
        [*one.ids, *other.ids],
        one.score + other.score,
        [*one.frames, *(frame + frames for frame in other.frames)],
        words,
        one.acoustic_score + other.acoustic_score,
        one.language_model_score + other.language_model_score,
    )


def moved(word: Word, frames: int) -> Word:
    return dataclasses.replace(word, start=word.start + frames, end=word.end + frames)


def different(hypotheses: Iterable[Hypothesis], add: bool) -> list[Hypothesis]:
    """One hypothesis for each sequence of words, or of units where there are no words, the best first.

    Of equal ones the best stays; with `add` its score becomes that of all of them, as alignments that differ.
    """
    found: dict[tuple, Hypothesis] = {}
    for hypothesis in sorted(hypotheses, key=lambda hypothesis: -hypothesis.score):
        key = tuple(hypothesis.ids if hypothesis.transcript is None else hypothesis.transcript)
        best = found.setdefault(key, hypothesis)
        if add and best is not hypothesis:
            score = float(numpy.logaddexp(best.score, hypothesis.score))
            acoustic = best.acoustic_score + score - best.score
            found[key] = dataclasses.replace(best, score=score, acoustic_score=acoustic)
    return sorted(found.values(), key=lambda hypothesis: -hypothesis.score)


def runs_of(path: Sequence[int], blank: int = 0) -> list[Run]:
    """The units of a CTC path, one index for each frame: repeats merged, then blanks removed."""
    path = numpy.asarray(path)
    if not len(path):
        return []
    starts = numpy.flatnonzero(numpy.concatenate(([True], path[1:] != path[:-1])))
    ends = numpy.append(starts[1:], len(path))
    return [
        Run(unit, start, end)
        for unit, start, end in zip(path[starts].tolist(), starts.tolist(), ends.tolist())
        if unit != blank
    ]


def words_of(
    runs: Sequence[Run],
    words: Sequence[str],
    spellings: Callable[[str], Collection[tuple[int, ...]]],
    separators: Collection[int],
) -> tuple[list[Word], int]:
    """(the words with their times, how many runs they take up), where each word takes as many runs as one of its spellings
    has units.

    separators: units that may stand between words. If the runs end before the words do, as many words as are whole.
    """
    # the furthest that was got to with each number of words; a stack, because a word's spellings may begin alike
    stack: list[tuple[int, tuple]] = [(0, ())]
    seen, best = set(), (0, ())
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
    """Raises UserError unless the settings are finite numbers, those of `positive` above 0, those of `counts` whole."""
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
    """Imports a module of the extra `decoding`. Raises UserError where it is not installed."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        if package == "flashlight-text" and sys.version_info >= (3, 13):
            way = f"it has no wheel for Python 3.{sys.version_info.minor}: choose decoder=wfst, or Python 3.12"
        else:
            way = f"pip install -c constraints.txt '.[decoding]' (or: pip install {package})"
        raise UserError(f"decoder={decoder} needs {package}, which is not installed ({error}): {way}.") from None


def bound(units: Units | None, decoder: str) -> Units:
    """The units, if there are any. Raises RuntimeError for a decoder that decodes before `bind`."""
    if units is None:
        raise RuntimeError(f"the decoder {decoder} decodes only after bind(units)")
    return units

"""Tunes the weights of a decoder on the dev split: computes emissions once and decodes them under many weights."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from asr.data.checks import CheckedSplit
from asr.errors import UserError
from asr.evaluation.emissions import decode_all
from asr.evaluation.recognition import metric_of, reference_of, tokens_of
from asr.inference.decoders import Decoder
from asr.runtime.files import write_whole
from asr.scoring.alignment import count_errors
from asr.scoring.metric import Metric
from asr.text.units import Units

# suffix of the file with the previous tuning
PREVIOUS = ".previous"


@dataclasses.dataclass(frozen=True)
class Point:
    """The number of errors under one pair of weights."""

    lm_weight: float
    word_score: float
    errors: int


@dataclasses.dataclass
class DevSet:
    """Utterances with their emissions, to be decoded under any weights.

    emissions: (time, units) float32 of each utterance, on the CPU. references: its tokens, as the metric counts them.
    """

    decoder: Decoder
    units: Units
    metric: Metric
    emissions: list[Tensor]
    references: list[list[str]]

    @classmethod
    def of(cls, split: CheckedSplit, emissions: list[Tensor], decoder: Decoder, units: Units, metric: str) -> DevSet:
        """decoder: bound to the units. metric: as in `asr.scoring.metric.choose_metric`, which raises UserError."""
        dev = cls(decoder, units, metric_of(metric, split, decoder, units), emissions, [])
        dev.references = [dev.counted(reference_of(split, index, decoder, units)) for index in range(len(split.cuts))]
        return dev

    @property
    def reference_length(self) -> int:
        return sum(map(len, self.references))

    def counted(self, tokens: list[str]) -> list[str]:
        """Words or phonemes as the metric counts them: themselves, or their characters."""
        return self.metric.characters(tokens) if self.metric.name == "cer" else list(tokens)

    def errors(self, lm_weight: float, word_score: float) -> int:
        """The number of errors over all utterances under these weights."""
        best = decode_all(self.decoder.with_weights(lm_weight, word_score), self.emissions)
        return count_errors(self.references, [self.counted(tokens_of(hypothesis, self.units)) for hypothesis in best])


def search(
    errors: Callable[[float, float], int],
    lm_weights: Sequence[float],
    word_scores: Sequence[float],
    rounds: int,
    seen: Callable[[Point], None] = lambda point: None,
    words: bool = True,
) -> list[Point]:
    """All points of a grid, then `rounds` times the neighbours of the best one at half the spacing; in order of evaluation.

    errors: of (lm_weight, word_score). seen: called with each point. words: whether to search over word scores too.
    """
    points: dict[tuple[float, float], Point] = {}

    def look(weight: float, score: float) -> None:
        # a negative weight would favour unlikely sentences
        pair = (round(max(weight, 0.0), 4), round(score, 4))
        if pair not in points:
            points[pair] = Point(*pair, errors(*pair))
            seen(points[pair])

    for weight, score in itertools.product(lm_weights, word_scores):
        look(weight, score)
    steps = [spacing(lm_weights), spacing(word_scores)]
    for _ in range(rounds):
        steps = [step / 2 for step in steps]
        middle = best_of(list(points.values()))
        for across, along in itertools.product((-1, 0, 1), (-1, 0, 1) if words else (0,)):
            look(middle.lm_weight + across * steps[0], middle.word_score + along * steps[1])
    return list(points.values())


def spacing(values: Sequence[float]) -> float:
    """The smallest distance between two values; 1 for a single one."""
    ordered = sorted(set(values))
    return min((b - a for a, b in zip(ordered, ordered[1:])), default=1.0)


def best_of(points: Sequence[Point]) -> Point:
    """The point with the fewest errors; of several, the one nearest their mean, which is the safest."""
    fewest = min(point.errors for point in points)
    best = [point for point in points if point.errors == fewest]
    middle = [sum(getattr(point, axis) for point in best) / len(best) for axis in ("lm_weight", "word_score")]
    return min(best, key=lambda p: ((p.lm_weight - middle[0]) ** 2 + (p.word_score - middle[1]) ** 2, p.lm_weight))


def warnings_of_edges(points: Sequence[Point], best: Point) -> list[str]:
    """A sentence for each axis on which `best` is at the edge of the grid, so that better values may lie outside."""
    sentences = []
    for axis, setting, floor in (("lm_weight", "lm_weights", 0.0), ("word_score", "word_scores", None)):
        value, tried = getattr(best, axis), sorted({getattr(point, axis) for point in points})
        # weights below zero are never searched
        if len(tried) > 1 and value in (tried[0], tried[-1]) and value != floor:
            which = "smallest" if value == tried[0] else "largest"
            sentences.append(
                f"{axis}={value:g} is the {which} value tried, so there may be better ones: widen the search with {setting}=[…]."
            )
    return sentences


def sample(split: CheckedSplit, seconds: float) -> CheckedSplit:
    """Evenly spaced utterances of a split with about `seconds` of speech at most; at least one."""
    keep = max(1, round(len(split.cuts) * min(1.0, seconds / max(split.seconds, 1e-9))))
    chosen = [index * len(split.cuts) // keep for index in range(keep)]
    return dataclasses.replace(
        split,
        cuts=[split.cuts[index] for index in chosen],
        labels=[split.labels[index] for index in chosen],
        references=[split.references[index] for index in chosen],
        frames=[split.frames[index] for index in chosen],
    )


def write_tuned(file: Path, settings: dict[str, Any], points: Sequence[Point], facts: dict[str, Any]) -> list[Path]:
    """Writes `file` (the settings with the best weights, and `facts`) and, beside it, the search as .csv and .png.

    Keeps an earlier tuning as `<decoder>.previous.json`. Raises UserError if a file cannot be written.
    """
    best = best_of(points)
    chosen = {**settings, "lm_weight": best.lm_weight, "word_score": best.word_score}
    content = {"settings": chosen, "errors": best.errors, **facts}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("lm_weight", "word_score", "errors"))
    writer.writerows(dataclasses.astuple(point) for point in points)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_file():
            file.replace(file.with_suffix(f"{PREVIOUS}.json"))
        write_whole(file.with_suffix(".csv"), table.getvalue().encode())
        draw_surface(points, facts["reference_length"], settings["name"], file.with_suffix(".png"))
        write_whole(file, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf8"))
    except OSError as error:
        raise UserError(
            f"{file} cannot be written: {error.strerror or error}. Make its folder writable, or make room on its disk."
        ) from None
    return [file, file.with_suffix(".csv"), file.with_suffix(".png")]


def replaced(file: Path) -> str | None:
    """A line about the earlier tuning that will be replaced; None if there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf8"))
        settings, rate = content["settings"], content["error_rate"]
        said = f"dev {content['metric'].upper()} {rate:.2%} with lm={settings.get('lm')}"
    except (OSError, ValueError, LookupError, TypeError, RecursionError, AttributeError):
        return None
    return f"replaces  {file}: {said}, kept as {file.with_suffix(f'{PREVIOUS}.json').name}"


def draw_surface(points: Sequence[Point], reference_length: int, name: str, png: Path) -> None:
    """Plots the error rate over both weights, with the best pair marked."""
    from matplotlib.figure import Figure

    from asr.evaluation.report.plots import save

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    rates = [100 * point.errors / reference_length for point in points]
    weights, scores = ([getattr(point, axis) for point in points] for axis in ("lm_weight", "word_score"))
    if len(set(weights)) > 1 and len(set(scores)) > 1:
        axes.tricontour(weights, scores, rates, levels=12, colors="0.8", linewidths=0.8)
    shown = axes.scatter(weights, scores, c=rates, cmap="viridis", s=50)
    best = best_of(points)
    axes.plot(best.lm_weight, best.word_score, "o", mfc="none", mec="#D55E00", ms=14, mew=2)
    figure.colorbar(shown, label="error rate on dev in %")
    axes.set(xlabel="weight of the language model", ylabel="score of a word")
    axes.set_title(
        f"{name}: best {100 * best.errors / reference_length:.2f} % at {best.lm_weight:g}, {best.word_score:g}"
    )
    save(figure, png)

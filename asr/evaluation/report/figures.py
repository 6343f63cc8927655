"""The pictures of an evaluation's page: matplotlib figures for `asr.evaluation.report.page.figure`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from asr.evaluation.report.plots import COLOURS, finish, new_figure

WIDEST = 1500  # columns in a picture of features: more would only add bytes


class DurationBin(NamedTuple):
    """Utterances of similar duration. low, high: seconds. interval: of error_rate, both 0 to 1."""

    low: float
    high: float
    utterances: int
    reference_length: int
    error_rate: float
    interval: tuple[float, float]


def draw_error_by_duration(bins: Sequence[DurationBin], overall: float):
    """Error rates by duration: one bar per bin, as wide as its seconds, with its 95 % interval; the overall rate is dashed."""
    figure = new_figure(7.5, 3.0)
    axes = figure.subplots()
    for number, bin in enumerate(bins):
        axes.bar(
            bin.low, 100 * bin.error_rate, width=bin.high - bin.low, align="edge", color=COLOURS[5], alpha=0.55,
            edgecolor=COLOURS[0], linewidth=1, label="error rate" if number == 0 else None,
        )  # fmt: skip
        middle = (bin.low + bin.high) / 2
        axes.vlines(
            middle, *(100 * end for end in bin.interval), color="black", label="95 % interval" if number == 0 else None
        )
    axes.axhline(100 * overall, color=COLOURS[1], linestyle="--", linewidth=1.3, label="all utterances")
    finish(axes, "Duration (seconds)", "Error rate (%)")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def draw_features(features, seconds_per_frame: float, sample_rate: int):
    """Draws filter banks (frames, mels), float, over time in seconds; frequencies in Hz at the bands' centres.

    Neighbouring frames are averaged if there are more than the picture has columns.
    """
    import numpy

    values = numpy.asarray(features, dtype=numpy.float32)
    frames, mels = values.shape
    seconds = frames * seconds_per_frame
    together = math.ceil(frames / WIDEST)
    if together > 1:
        starts = numpy.arange(0, frames, together)
        values = numpy.add.reduceat(values, starts) / numpy.diff([*starts, frames])[:, None]
    low, high = numpy.quantile(values, [0.02, 0.995])
    figure = new_figure(9.6, 2.1)
    axes = figure.subplots()
    axes.imshow(
        values.T, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=max(high, low + 1e-6),
        extent=(0, seconds, -0.5, mels - 0.5), interpolation="none",
    )  # fmt: skip
    axes.set_xlabel("Seconds")
    axes.set_ylabel("Hz")
    axes.set_yticks(*frequency_ticks(mels, sample_rate))
    axes.tick_params(labelsize=8)
    return figure


def frequency_ticks(mels: int, sample_rate: int) -> tuple[list[float], list[str]]:
    """(positions of round frequencies among the filter bank's triangles, counted from 0; their labels in Hz)."""
    import torch

    from asr.model.features.filter_bank import LOWEST_FREQUENCY, mel

    lowest, highest = (mel(torch.tensor(hertz)).item() for hertz in (LOWEST_FREQUENCY, sample_rate / 2))
    step = (highest - lowest) / (mels + 1)
    places, names = [], []
    for hertz in (250, 500, 1000, 2000, 4000, 8000, 16000):
        place = (mel(torch.tensor(float(hertz))).item() - lowest) / step - 1
        if 0 <= place <= mels - 1:
            places.append(place)
            names.append(str(hertz))
    return places, names

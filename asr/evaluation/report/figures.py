"""The pictures of an evaluation's page, as matplotlib figures that `asr.evaluation.report.page.figure` puts inline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from asr.evaluation.report.plots import COLOURS, finish, new_figure

WIDEST = 1500  # columns of a picture of features: more cannot be seen, and would be bytes


class DurationBin(NamedTuple):
    """Utterances of like duration. low, high: seconds; interval: of error_rate, both 0 to 1."""

    low: float
    high: float
    utterances: int
    reference_length: int
    error_rate: float
    interval: tuple[float, float]


def draw_error_by_duration(bins: Sequence[DurationBin], overall: float):
    """Error rates over durations: each bin as wide as its seconds, with its 95 % interval; the overall rate dashed."""
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
    """Filter banks over time: (frames, mels) float, time in seconds, frequency in Hz at the bands' centres.

    Longer ones than the picture has columns are averaged over neighbouring frames.
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
    """Where round frequencies lie among the triangles of the filter bank, counted from 0, and what they are called (Hz)."""
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

"""Plots of training runs and evaluations, as PNG files."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from asr.errors import UserError
from asr.runtime.files import replacing

# Okabe and Ito (2008): eight colours distinguishable with any colour vision; yellow last, as it is weak on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vP*X"
# the columns read from metrics.csv
COLUMNS = (
    "train/loss", "dev/loss", "dev/error_rate", "dev/word_error_rate", "dev/character_error_rate", "train/learning_rate",
    "seconds",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TradeOffPoint:
    """One evaluation in a trade-off plot.

    attention: the type, shared by the points of a line. label: of this point ("i_clustered-100", shown as 100). seconds: forward
    time. error_rate, interval: 0 to 1.
    """

    attention: str
    label: str
    seconds: float
    error_rate: float
    interval: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class GrowthPanel:
    """One panel of a growth plot. quantity: label of the vertical axis. lines: name → {length: value}."""

    title: str
    quantity: str
    lines: Mapping[str, Mapping[int, float]]


def plot_learning_curves(metrics: Path | str, png: Path | str) -> Path:
    """Plots loss and error rates over optimizer steps, from the `metrics.csv` of a run.

    Reads the columns step, train/loss, dev/loss, dev/error_rate (0 to 1) or instead dev/word_error_rate and
    dev/character_error_rate, and seconds (since the start, shown as minutes on top). One curve is enough, and any field may be
    empty. Raises UserError if the file cannot be read or has no curve.
    """
    return save(draw_learning_curves(metrics), png)


def draw_learning_curves(metrics: Path | str, learning_rate: bool = False):
    """The matplotlib figure of `plot_learning_curves`. learning_rate: adds a panel for it, if the file has it."""
    curves, seconds = _read_metrics(Path(metrics))
    whole = [("dev/error_rate", "dev", COLOURS[1])]
    named = [("dev/word_error_rate", "words", COLOURS[1]), ("dev/character_error_rate", "characters", COLOURS[3])]
    panels = [
        ("Loss", 1, [("train/loss", "train", COLOURS[0]), ("dev/loss", "dev", COLOURS[1])]),
        ("Error rate on dev (%)", 100, named if any(column in curves for column, _, _ in named) else whole),
    ]
    if learning_rate:
        panels.append(("Learning rate", 1, [("train/learning_rate", "learning rate", COLOURS[2])]))
    panels = [panel for panel in panels if any(column in curves for column, _, _ in panel[2])]
    figure = new_figure((5.2 if len(panels) < 3 else 4.2) * len(panels), 3.8)
    all_axes = figure.subplots(1, len(panels), squeeze=False, sharex=True)[0]
    for axes, (title, factor, lines) in zip(all_axes, panels):
        drawn = []
        for column, label, colour in lines:
            if column in curves:
                steps, values = curves[column]
                drawn += (values := [factor * value for value in values])
                _draw_curve(axes, steps, values, label, colour)
        finish(axes, "Step", title)
        axes.set_ylim(*_readable_limits(drawn))
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend(frameon=False)
        _add_minutes(axes, seconds)
    return figure


def plot_heat_map(table: Mapping[str, Mapping[str, float | None]], png: Path | str) -> Path:
    """Plots error rates (0 to 1) as percentages on coloured cells.

    table: attention label → checkpoint label → error rate; None or missing for an impossible pair, shown as "–". Rows and columns
    keep their order. Raises UserError for a table without any number.
    """
    rows = list(table)
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    rates = [[_number(table[row].get(column)) for column in columns] for row in rows]
    known = [rate for row in rates for rate in row if rate is not None]
    if not known:
        raise UserError(f"None of the {len(rows)} rows of the heat map has an error rate. Evaluate at least one pair.")
    row_width = 0.085 * max(len(row) for row in rows)
    tilted = max(len(column) for column in columns) > 11
    figure = new_figure(1.6 + row_width + 0.95 * len(columns), 1.2 + 0.42 * len(rows) + (0.7 if tilted else 0))
    axes = figure.subplots()
    low, high = min(known), max(known)
    # logarithmic colours: 7 % and 8 % should differ, 80 % and 81 % need not
    floor = max(low, 1e-3)
    span = math.log(max(high, floor) / floor) or 1.0
    shades = [[None if r is None else math.log(max(r, floor) / floor) / span for r in row] for row in rates]
    image = [[math.nan if shade is None else shade for shade in row] for row in shades]
    colours = _colour_map()
    axes.imshow(image, cmap=colours, vmin=0, vmax=1, aspect="auto")
    for y, (row, row_shades) in enumerate(zip(rates, shades)):
        for x, (rate, shade) in enumerate(zip(row, row_shades)):
            text = "–" if rate is None else f"{100 * rate:.2f}"
            colour = "#666666" if shade is None else "white" if shade > 0.5 else "black"
            axes.text(x, y, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(columns)), columns, rotation=30 if tilted else 0, ha="right" if tilted else "center")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks([x - 0.5 for x in range(1, len(columns))], minor=True)
    axes.set_yticks([y - 0.5 for y in range(1, len(rows))], minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set(xlabel="Trained with", ylabel="Scored with", title="Error rate (%)")
    return save(figure, png)


def plot_trade_off(points: Sequence[TradeOffPoint], png: Path | str) -> Path:
    """Plots the error rate over the time of the forward pass, on a logarithmic axis, with one line per type of attention.

    Raises UserError if no point has both an error rate and a time above zero.
    """
    lines: dict[str, list[TradeOffPoint]] = {}
    for point in points:
        if _number(point.error_rate) is not None and (_number(point.seconds) or 0) > 0:
            lines.setdefault(point.attention, []).append(point)
    if not lines:
        raise UserError(
            f"None of the {len(points)} evaluations has both a forward time and an error rate to draw. Evaluate again."
        )
    figure = new_figure(6.4, 4.4)
    axes = figure.subplots()
    for number, (attention, line) in enumerate(lines.items()):
        line = sorted(line, key=lambda point: (point.seconds, point.label))
        seconds, rates = [point.seconds for point in line], [100 * point.error_rate for point in line]
        colour = COLOURS[number % len(COLOURS)]
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(seconds, rates, color=colour, marker=marker, linewidth=1.5, markersize=6, label=attention)
        for point, rate in zip(line, rates):
            if point.interval is not None:
                axes.vlines(
                    point.seconds, *(100 * end for end in point.interval), color=colour, alpha=0.5, linewidth=2.5
                )
            # the legend names the type, so points only show what distinguishes them within a line
            text = "" if point.label == attention else point.label.removeprefix(f"{attention}-")
            axes.annotate(text, (point.seconds, rate), (6, 5), textcoords="offset points", fontsize=8, color=colour)
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.12)
    _plain_seconds(axes)
    finish(axes, "Forward pass (seconds)", "Error rate (%)")
    axes.set_ylim(bottom=0)
    if len(lines) > 1:
        axes.legend(frameon=False)
    return save(figure, png)


def plot_growth(
    panels: Sequence[GrowthPanel],
    png: Path | str,
    names: Sequence[str],
    references: Sequence[str] = (),
    columns: int = 3,
) -> Path:
    """Plots quantities over sequence length on logarithmic axes, in rows of panels with one legend.

    names: of the lines, in the order of the legend; a line looks the same in every panel. references: names of baselines, drawn
    dashed and grey. Panels in a row with the same quantity share their vertical range. Raises UserError if no value is above
    zero.
    """
    drawn = [
        {name: {x: y for x, y in line.items() if (_number(y) or 0) > 0} for name, line in panel.lines.items()}
        for panel in panels
    ]
    values = [[y for line in lines.values() for y in line.values()] for lines in drawn]
    if not any(values):
        raise UserError(
            f"None of the {len(panels)} panels over the sequence length has a value above zero. Measure again."
        )
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(4.1 * min(columns, len(panels)) + 1.7, 3.5 * rows + 0.2)
    all_axes = figure.subplots(rows, min(columns, len(panels)), squeeze=False).flatten()
    styles = _growth_styles(names, references)
    handles = {}
    for number, (panel, axes) in enumerate(zip(panels, all_axes)):
        for name in names:
            points = sorted(drawn[number].get(name, {}).items())
            if points:
                (handles[name],) = axes.plot(*zip(*points), label=name, markersize=5, linewidth=1.5, **styles[name])
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        lengths = sorted({length for line in drawn[number].values() for length in line})
        axes.set_xticks(lengths, [_short_length(length) for length in lengths])
        axes.tick_params(axis="x", which="minor", length=0)
        alike = [
            other
            for other in range(number // columns * columns, min((number // columns + 1) * columns, len(panels)))
            if panels[other].quantity == panel.quantity
        ]
        together = [value for other in alike for value in values[other]]
        if together:
            axes.set_ylim(min(together) / 1.4, max(together) * 1.4)
        finish(axes, "Sequence length", panel.quantity)
        _plain_numbers(axes.yaxis, together)
        axes.set_title(panel.title, fontsize=10)
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    figure.legend(
        [handles[name] for name in names if name in handles], [name for name in names if name in handles],
        loc="outside right upper", frameon=False, handlelength=2.8,
    )  # fmt: skip
    return save(figure, png)


def _growth_styles(names: Sequence[str], references: Sequence[str]) -> dict[str, dict[str, object]]:
    """Styles by name: solid and coloured, but dashed and from black to grey for references."""
    styles: dict[str, dict[str, object]] = {}
    for name in names:
        number = sum(other in styles and (other in references) == (name in references) for other in names)
        marker = MARKERS[number % len(MARKERS)]
        if name in references:
            grey = ("#000000", "#555555", "#888888", "#AAAAAA", "#333333")[number % 5]
            styles[name] = {"color": grey, "marker": marker, "linestyle": "--", "fillstyle": "none"}
        else:
            colour = COLOURS[number % len(COLOURS)]
            colour = COLOURS[-1] if colour == "#000000" else colour
            styles[name] = {"color": colour, "marker": marker, "linestyle": "-"}
    return styles


def _short_length(length: int) -> str:
    return f"{length // 1024}k" if length >= 1024 and length % 1024 == 0 else str(length)


def _plain_numbers(axis, values: Sequence[float]) -> None:
    """Ticks 1, 10, 100 instead of powers of ten, with 2 and 5 in between for a short range."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    short = bool(values) and max(values) / min(values) < 300
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _read_metrics(path: Path) -> tuple[dict[str, tuple[list[float], list[float]]], tuple[list[float], list[float]]]:
    """(curves by name as (steps, values), without missing and non-finite values; (steps, seconds) likewise)."""
    try:
        with open(path, encoding="utf8", newline="") as lines:
            reader = csv.DictReader(lines)
            rows = list(reader)
            header = [name for name in reader.fieldnames or [] if name]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"The metrics {path} cannot be read: {error}. Give the metrics.csv of a training run."
        ) from error
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for name in COLUMNS:
        pairs = [(_number(row.get("step")), _number(row.get(name))) for row in rows]
        if "step" not in header:
            pairs = [(float(number), value) for number, (_, value) in enumerate(pairs)]
        # a resumed run may log a step twice: the later line counts
        known = [(step, value) for step, value in pairs if step is not None and value is not None]
        kept = dict(sorted(known, key=lambda pair: pair[0]))
        if kept:
            curves[name] = (list(kept), list(kept.values()))
    seconds = curves.pop("seconds", ([], []))
    if curves.keys() <= {"train/learning_rate"}:
        found = ", ".join(header) or "none"
        raise UserError(
            f"The metrics {path} have no curve: expected numbers under train/loss, dev/loss or dev/error_rate, but found the "
            f"columns {found} and {len(rows)} rows. Give the metrics.csv of a training run."
        )
    return curves, seconds


def _number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _draw_curve(axes, steps: list[float], values: list[float], name: str, colour: str) -> None:
    """Draws a short curve with its points, a long one faint below its moving average."""
    if len(steps) <= 60:
        axes.plot(steps, values, color=colour, marker="o", markersize=3.5, linewidth=1.5, label=name)
        return
    axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
    smooth = []
    for position in range(len(values)):
        # a symmetric window, so that the average does not lag; at least a few values near the ends
        reach = max(3, min(position, len(values) - 1 - position, len(values) // 40))
        window = values[max(0, position - reach) : position + reach + 1]
        smooth.append(sum(window) / len(window))
    axes.plot(steps, smooth, color=colour, linewidth=1.8, label=name)


def _readable_limits(values: list[float]) -> tuple[float, float]:
    """From zero to slightly above the highest value, ignoring outliers such as the first steps."""
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, int(0.98 * len(ordered)))]
    low = min(0.0, ordered[0])
    return low * 1.05, (high if high > 0 else 1e-3) * 1.08


def _add_minutes(axes, seconds: tuple[list[float], list[float]]) -> None:
    """Adds an axis on top with the minutes since the start, if the log has them."""
    import numpy

    steps, elapsed = (numpy.asarray(column) for column in seconds)
    if len(steps) < 2 or (numpy.diff(steps) <= 0).any() or (numpy.diff(elapsed) <= 0).any():
        return
    minutes = elapsed / 60

    def interpolate(x, known, wanted):
        # extrapolates at both ends, so that the whole axis has times
        first = (wanted[1] - wanted[0]) / (known[1] - known[0])
        last = (wanted[-1] - wanted[-2]) / (known[-1] - known[-2])
        x = numpy.asarray(x, dtype=float)
        inside = numpy.interp(x, known, wanted)
        return inside + numpy.minimum(x - known[0], 0) * first + numpy.maximum(x - known[-1], 0) * last

    top = axes.secondary_xaxis(
        "top", functions=(lambda x: interpolate(x, steps, minutes), lambda x: interpolate(x, minutes, steps))
    )
    top.set_xlabel("Minutes", color="#666666", fontsize=8)
    top.tick_params(colors="#666666", labelsize=8, length=2)
    top.spines["top"].set_visible(False)


def _plain_seconds(axes) -> None:
    """Labels times as plain numbers, at 1, 2 and 5 in each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _colour_map():
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("error rate", ["#E8F1FA", "#7FB2DC", "#1F5A94", "#0A2745"])
    return colours.with_extremes(bad="#EEEEEE")


def finish(axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#E3E3E3", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def new_figure(width: float, height: float):
    """An empty figure of this size in inches, drawn by Agg, which needs no display and changes no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure, png: Path | str) -> Path:
    """Writes the picture, completely or not at all. Raises UserError if it cannot."""
    png = Path(png)
    try:
        png.parent.mkdir(parents=True, exist_ok=True)
        with replacing(png) as temporary:
            figure.savefig(temporary, format="png", facecolor="white")
    except OSError as error:
        raise UserError(
            f"The picture {png} cannot be written: {error.strerror or error}. Choose another place."
        ) from error
    return png

"""Pictures of a training run and of evaluations, as PNG files."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from asr.errors import UserError

# The eight colours of Okabe and Ito (2008), which people with any colour vision tell apart; yellow last: weak on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vP*X"
# what is read of a metrics.csv
COLUMNS = (
    "train/loss", "dev/loss", "dev/error_rate", "dev/word_error_rate", "dev/character_error_rate", "train/learning_rate",
    "seconds",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TradeOffPoint:
    """One evaluation in a trade-off plot.

    attention: the type, which the points of one line share; label: the point's own ("i_clustered-100", shown as 100).
    seconds: forward time; error_rate and interval: 0 to 1.
    """

    attention: str
    label: str
    seconds: float
    error_rate: float
    interval: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class GrowthPanel:
    """One panel of a growth plot. quantity: what stands at the vertical axis; lines: name → {length: value}."""

    title: str
    quantity: str
    lines: Mapping[str, Mapping[int, float]]


def plot_learning_curves(metrics: Path | str, png: Path | str) -> Path:
    """Draws the loss and the error rates over the optimizer's steps from the `metrics.csv` of a run.

    Reads the columns step, train/loss, dev/loss, dev/error_rate (0 to 1), or in its place dev/word_error_rate and
    dev/character_error_rate, and seconds (since the start, shown as minutes on top). All but one curve may be missing, as may
    any field. Raises UserError when the file cannot be read or holds no curve.
    """
    return save(draw_learning_curves(metrics), png)


def draw_learning_curves(metrics: Path | str, learning_rate: bool = False):
    """The matplotlib figure of `plot_learning_curves`; with the learning rate (train/learning_rate) in a panel of its own
    where that is asked for and the file holds one.
    """
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
    """Draws error rates (0 to 1) as percentages on coloured fields.

    table: attention label → checkpoint label → error rate; a pair that cannot be is None or missing and shown as "–".
    Rows and columns keep the order in which they come. Raises UserError for a table without any number.
    """
    rows = list(table)
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    rates = [[_number(table[row].get(column)) for column in columns] for row in rows]
    known = [rate for row in rates for rate in row if rate is not None]
    if not known:
        raise UserError("There is nothing to draw in the heat map: the table holds no error rate.")
    row_width = 0.085 * max(len(row) for row in rows)
    tilted = max(len(column) for column in columns) > 11
    figure = new_figure(1.6 + row_width + 0.95 * len(columns), 1.2 + 0.42 * len(rows) + (0.7 if tilted else 0))
    axes = figure.subplots()
    low, high = min(known), max(known)
    # Colours follow the logarithm: a point between 7 % and 8 % matters, one between 80 % and 81 % does not.
    floor = max(low, 1e-3)
    span = math.log(max(high, floor) / floor) or 1.0
    shades = [[None if r is None else math.log(max(r, floor) / floor) / span for r in row] for row in rates]
    image = [[math.nan if shade is None else shade for shade in row] for row in shades]
    colours = _colour_map()
    axes.imshow(image, cmap=colours, vmin=0, vmax=1, aspect="auto")
    for y, row in enumerate(rates):
        for x, rate in enumerate(row):
            text = "–" if rate is None else f"{100 * rate:.2f}"
            colour = "#666666" if rate is None else "white" if shades[y][x] > 0.5 else "black"
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
    """Draws the error rate over the time of the forward pass, one line for each type of attention.

    Times are on a logarithmic axis. Raises UserError when there is no point with a time above zero and an error rate.
    """
    lines: dict[str, list[TradeOffPoint]] = {}
    for point in points:
        if _number(point.error_rate) is not None and (_number(point.seconds) or 0) > 0:
            lines.setdefault(point.attention, []).append(point)
    if not lines:
        raise UserError(
            "There is nothing to draw in the trade-off: no evaluation has both a forward time and an error rate."
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
            # The legend names the type, so that only what tells the points of a line apart stands beside them.
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
    """Draws quantities over the sequence length, both on logarithmic axes, in rows of panels under one legend.

    names: of the lines in the order of the legend; a line looks the same in every panel. references: those to compare with,
    drawn dashed and grey. Panels of one row with the same quantity share their vertical range. Raises UserError if no
    panel has a value above zero.
    """
    drawn = [
        {name: {x: y for x, y in line.items() if (_number(y) or 0) > 0} for name, line in panel.lines.items()}
        for panel in panels
    ]
    values = [[y for line in lines.values() for y in line.values()] for lines in drawn]
    if not any(values):
        raise UserError("There is nothing to draw over the sequence length: no value is above zero.")
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
    """What is compared in colour with full lines; what it is compared with dashed, from black to grey."""
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
    """1, 10, 100 instead of powers of ten; 2 and 5 in between where the range is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    short = bool(values) and max(values) / min(values) < 300
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _read_metrics(path: Path) -> tuple[dict[str, tuple[list[float], list[float]]], tuple[list[float], list[float]]]:
    """The curves by name as (steps, values), without missing and non-finite values, and (steps, seconds) likewise."""
    try:
        with open(path, encoding="utf8", newline="") as lines:
            reader = csv.DictReader(lines)
            rows = list(reader)
            header = [name for name in reader.fieldnames or [] if name]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"The metrics {path} cannot be read: {error}. Expected the CSV file of a training run."
        ) from error
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for name in COLUMNS:
        pairs = [(_number(row.get("step")), _number(row.get(name))) for row in rows]
        if "step" not in header:
            pairs = [(float(number), value) for number, (_, value) in enumerate(pairs)]
        # A resumed run may log a step twice: the later line holds.
        kept = dict(sorted(pair for pair in pairs if None not in pair))
        if kept:
            curves[name] = (list(kept), list(kept.values()))
    seconds = curves.pop("seconds", ([], []))
    if curves.keys() <= {"train/learning_rate"}:
        found = ", ".join(header) or "none"
        raise UserError(
            f"The metrics {path} hold no curve: expected numbers under train/loss, dev/loss or dev/error_rate, "
            f"found the columns {found} and {len(rows)} rows."
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
    """A short curve with its points; a long one faint, under its moving average."""
    if len(steps) <= 60:
        axes.plot(steps, values, color=colour, marker="o", markersize=3.5, linewidth=1.5, label=name)
        return
    axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
    smooth = []
    for position in range(len(values)):
        # As many values before as after, so that the average does not lag behind; near the ends a few at least.
        reach = max(3, min(position, len(values) - 1 - position, len(values) // 40))
        window = values[max(0, position - reach) : position + reach + 1]
        smooth.append(sum(window) / len(window))
    axes.plot(steps, smooth, color=colour, linewidth=1.8, label=name)


def _readable_limits(values: list[float]) -> tuple[float, float]:
    """From zero to a little above the highest value, without the outliers of the first steps."""
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, int(0.98 * len(ordered)))]
    low = min(0.0, ordered[0])
    return low * 1.05, (high if high > 0 else 1e-3) * 1.08


def _add_minutes(axes, seconds: tuple[list[float], list[float]]) -> None:
    """A second axis on top with the minutes since the start, where the log says them."""
    import numpy

    steps, elapsed = (numpy.asarray(column) for column in seconds)
    if len(steps) < 2 or (numpy.diff(steps) <= 0).any() or (numpy.diff(elapsed) <= 0).any():
        return
    minutes = elapsed / 60

    def interpolate(x, known, wanted):
        # Straight on beyond both ends, so that the whole axis has a time.
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
    """Times as plain numbers, not as powers of ten, at 1, 2 and 5 in each decade."""
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
    """An empty figure of this size in inches, drawn by Agg: needs no display and changes no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure, png: Path | str) -> Path:
    """Writes the picture beside its place first, so that half a picture never lies there."""
    png = Path(png)
    temporary = png.with_name(f".{png.name}.{os.getpid()}")
    try:
        png.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(temporary, format="png", facecolor="white")
        os.replace(temporary, png)
    except OSError as error:
        raise UserError(f"The picture {png} cannot be written: {error.strerror or error}.") from error
    finally:
        if temporary.exists():
            temporary.unlink()
    return png

"""The pictures: what is drawn where, seen in the pixels; and what cannot be drawn."""

import os

import pytest

from asr.errors import UserError
from asr.evaluation.report.plots import (
    COLOURS,
    TradeOffPoint,
    draw_learning_curves,
    plot_heat_map,
    plot_learning_curves,
    plot_trade_off,
)

HEADER = "epoch,step,seconds,train/loss,dev/loss,dev/error_rate\n"


def read_picture(path):
    """(height, width, 3) floats, 0 to 1."""
    from matplotlib.image import imread

    return imread(path, format="png")[..., :3]


def pixels_of(picture, colour: str) -> int:
    from matplotlib.colors import to_rgb

    return int((abs(picture - to_rgb(colour)).max(axis=-1) < 0.02).sum())


def metrics_file(folder, text: str):
    (folder / "metrics.csv").write_text(text)
    return folder / "metrics.csv"


def test_learning_curves_show_loss_and_error_rate_side_by_side(tmp_path):
    lines = [f"0,{step},{step / 5},{4 - step / 400},,\n" for step in range(0, 1000, 10)]
    lines += [f"0,{step},{step / 5},,{4 - step / 380},{1 - step / 1100}\n" for step in range(99, 1000, 100)]
    picture = read_picture(plot_learning_curves(metrics_file(tmp_path, HEADER + "".join(lines)), tmp_path / "c.png"))
    half = picture.shape[1] // 2
    assert pixels_of(picture[:, :half], COLOURS[0]) > 500
    assert pixels_of(picture[:, :half], COLOURS[1]) > 500
    assert pixels_of(picture[:, half:], COLOURS[0]) == 0
    assert pixels_of(picture[:, half:], COLOURS[1]) > 500


def test_the_error_rate_is_drawn_in_percent_and_minutes_stand_on_top(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("asr.evaluation.report.plots.save", lambda figure, png: figures.append(figure))
    text = HEADER + "0,10,60,2.0,2.5,0.5\n1,20,120,1.0,1.5,0.07\n"
    plot_learning_curves(metrics_file(tmp_path, text), tmp_path / "c.png")
    loss, rate = figures[0].axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[2.0, 1.0], [2.5, 1.5]]
    assert rate.lines[0].get_ydata().tolist() == pytest.approx([50.0, 7.0])
    assert rate.lines[0].get_xdata().tolist() == [10, 20]
    figures[0].canvas.draw()
    for axes in (loss, rate):
        (minutes,) = axes.child_axes
        steps = axes.get_xlim()
        assert minutes.get_xlim() == pytest.approx((steps[0] / 10, steps[1] / 10))


def test_rates_in_words_and_in_characters_are_drawn_side_by_side(tmp_path):
    text = "step,dev/error_rate,dev/word_error_rate,dev/character_error_rate\n5,1.0,1.0,0.8\n10,1.0,1.0,0.4\n"
    (axes,) = draw_learning_curves(metrics_file(tmp_path, text)).axes
    assert {line.get_label(): list(line.get_ydata()) for line in axes.lines} == {
        "words": [100, 100], "characters": [80, 40],
    }  # fmt: skip
    assert [entry.get_text() for entry in axes.get_legend().get_texts()] == ["words", "characters"]


def test_an_error_rate_fills_its_axis_whatever_its_size(tmp_path):
    for high in (0.9, 0.05):
        text = "step,dev/error_rate\n" + "".join(f"{n},{high * (1 - n / 20)}\n" for n in range(15))
        picture = read_picture(plot_learning_curves(metrics_file(tmp_path, text), tmp_path / "c.png"))
        upper = picture[: picture.shape[0] // 3]
        assert pixels_of(upper, COLOURS[1]) > 50


@pytest.mark.parametrize(
    "text",
    [
        "step,train/loss\n1,2.0\n2,1.5\n",
        "train/loss\n2.0\n1.5\n",
        "step,dev/error_rate\n5,0.5\n",
        "step,train/loss,seconds\n1,2.0,\n2,nan,3\n3,inf,\n,1.0,4\n4,1.0,9\n",
        "step,train/loss,seconds\n1,2.0,5\n2,1.0,5\n3,1.0,4\n",
        "step,train/loss\n1,2.0\n2,1.5\n1,9.0\n3",
        "step,train/loss\n1,0.0\n2,-3.5\n",
    ],
)
def test_learning_curves_do_with_what_is_there(tmp_path, text):
    picture = read_picture(plot_learning_curves(metrics_file(tmp_path, text), tmp_path / "c.png"))
    assert pixels_of(picture, COLOURS[0]) + pixels_of(picture, COLOURS[1]) > 20
    assert sorted(os.listdir(tmp_path)) == ["c.png", "metrics.csv"]


def test_of_a_step_that_a_resumed_run_logged_twice_the_later_line_is_drawn(tmp_path):
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("step,train/loss\n1,5.0\n2,9.0\n2,4.0\n3,3.0\n")
    (line,) = draw_learning_curves(metrics).axes[0].get_lines()
    assert list(line.get_xdata()) == [1, 2, 3] and list(line.get_ydata()) == [5.0, 4.0, 3.0]


@pytest.mark.parametrize("text", ["", "step,lr\n1,0.1\n", "step,train/loss\n1,nan\n2,\n"])
def test_metrics_without_a_curve_are_named_and_nothing_is_written(tmp_path, text):
    with pytest.raises(UserError, match="metrics.csv have no curve"):
        plot_learning_curves(metrics_file(tmp_path, text), tmp_path / "c.png")
    assert os.listdir(tmp_path) == ["metrics.csv"]


def test_metrics_that_are_not_there_or_not_text_are_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.csv"):
        plot_learning_curves(tmp_path / "nowhere.csv", tmp_path / "c.png")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="binary.csv"):
        plot_learning_curves(tmp_path / "binary.csv", tmp_path / "c.png")


def test_the_heat_map_is_darker_for_higher_rates_and_grey_for_pairs_that_cannot_be(tmp_path):
    grey, low, high = "#EEEEEE", "#E8F1FA", "#0A2745"
    table = {"full": {"a": 0.07, "b": 0.08}, "uniform": {"a": 0.9, "b": 0.4}}
    full = read_picture(plot_heat_map(table, tmp_path / "h.png"))
    assert pixels_of(full, grey) < 0.01 * full.shape[0] * full.shape[1]
    assert pixels_of(full, low) > 1000 and pixels_of(full, high) > 1000
    for impossible in ({"a": 0.9, "b": None}, {"a": 0.9}, {"a": 0.9, "b": float("nan")}):
        picture = read_picture(plot_heat_map({**table, "uniform": impossible}, tmp_path / "h.png"))
        assert pixels_of(picture, grey) > 5000


@pytest.mark.parametrize("rate", [0.0, 0.08, 1.3])
def test_a_heat_map_of_one_field_or_of_equal_rates_is_drawn(tmp_path, rate):
    assert plot_heat_map({"full": {"a": rate}}, tmp_path / "h.png").stat().st_size > 1000
    assert plot_heat_map({"full": {"a": rate}, "lsh-1": {"a": rate}}, tmp_path / "h.png").stat().st_size > 1000


@pytest.mark.parametrize("table", [{}, {"lsh": {}}, {"lsh": {"a": None}}])
def test_a_heat_map_without_a_number_is_refused(tmp_path, table):
    with pytest.raises(UserError, match="no error rate"):
        plot_heat_map(table, tmp_path / "h.png")
    assert os.listdir(tmp_path) == []


def test_the_trade_off_draws_a_line_for_each_attention(tmp_path):
    points = [
        TradeOffPoint("full", "full", 20.0, 0.07, (0.065, 0.075)),
        *(TradeOffPoint("clustered", f"clustered-{c}", c / 10, 4 / c) for c in (25, 50, 100)),
        TradeOffPoint("lsh", "lsh-1", float("nan"), 0.3),
        TradeOffPoint("lsh", "lsh-4", 0.0, 0.3),
    ]
    picture = read_picture(plot_trade_off(points, tmp_path / "t.png"))
    assert pixels_of(picture, COLOURS[0]) > 30
    assert pixels_of(picture, COLOURS[1]) > 300
    assert pixels_of(picture, COLOURS[2]) == 0
    assert plot_trade_off([TradeOffPoint("x", "x", 1.0, 0.0)], tmp_path / "one.png").exists()


def test_a_trade_off_without_a_point_is_refused(tmp_path):
    with pytest.raises(UserError, match="nothing to draw"):
        plot_trade_off([TradeOffPoint("lsh", "lsh-1", 0.0, 0.3)], tmp_path / "t.png")


def test_a_picture_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="h.png cannot be written"):
        plot_heat_map({"full": {"a": 0.1}}, tmp_path / "file" / "h.png")
    (tmp_path / "h.png").mkdir()
    with pytest.raises(UserError, match="h.png cannot be written"):
        plot_heat_map({"full": {"a": 0.1}}, tmp_path / "h.png")
    assert sorted(os.listdir(tmp_path)) == ["file", "h.png"]


@pytest.mark.run
def test_drawing_leaves_the_global_state_of_matplotlib_alone(tmp_path):
    import subprocess
    import sys

    program = (
        "import sys; from asr.evaluation.report.plots import plot_heat_map; plot_heat_map({'a': {'b': 0.1}}, sys.argv[1]);"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "h.png")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "False"

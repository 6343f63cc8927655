"""`metrics.csv`: written at once, and cut back to a checkpoint without touching earlier rows."""

import csv
import os

import pytest

from asr.training.metrics import COLUMNS, MetricsFile, cut_back


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.csv"


def rows_of(path):
    with open(path, encoding="utf8", newline="") as lines:
        return list(csv.DictReader(lines))


def log(path, *steps):
    """Training steps; validations for steps given as text."""
    metrics = MetricsFile(path)
    for step in steps:
        more = {"train/loss": 1 / 3, "train/waiting": 0.0} if isinstance(step, int) else {"dev/loss": 0.1 + 0.2}
        metrics.log_metrics({"epoch": 1, "seconds": 0.25, **more}, step=int(step))
    metrics.finalize("success")


def test_a_row_can_be_read_while_the_file_is_open_and_holds_numbers_to_the_last_digit(path):
    metrics = MetricsFile(path)
    metrics.log_metrics({"epoch": 1, "train/loss": 1 / 3, "train/gradient_norm": float("nan")}, step=20)
    (row,) = rows_of(path)
    assert (row["step"], row["epoch"], row["train/gradient_norm"], row["dev/loss"]) == ("20", "1", "nan", "")
    assert float(row["train/loss"]) == 1 / 3
    metrics.log_metrics({"dev/loss": 0.5}, step=40)
    metrics.to_disk()
    assert [row["step"] for row in rows_of(path)] == ["20", "40"]
    assert list(rows_of(path)[0]) == list(COLUMNS)


def test_a_resumed_run_appends_below_the_one_header(path):
    log(path, 1, 2)
    log(path, 3)
    assert path.read_text().count("step,") == 1 and [row["step"] for row in rows_of(path)] == ["1", "2", "3"]


def test_rows_logged_after_a_checkpoint_are_removed_and_all_others_kept_byte_for_byte(path):
    log(path, 1, 2, "2", 3)
    kept = path.read_bytes()
    log(path, 4, 5, "5", 6, 30)
    cut_back(path, 3, validated=False)
    assert path.read_bytes() == kept
    cut_back(path, 3, validated=False)
    assert path.read_bytes() == kept


def test_the_validation_at_a_checkpoint_is_removed_only_if_it_will_be_repeated(path):
    log(path, 1, "1", 2)
    before = path.read_bytes()
    log(path, "2")
    whole = path.read_bytes()
    cut_back(path, 2, validated=True)
    assert path.read_bytes() == whole
    cut_back(path, 2, validated=False)
    assert path.read_bytes() == before


def test_a_last_row_cut_short_at_any_byte_is_removed(path):
    log(path, 1, 2)
    kept = path.read_bytes()
    log(path, "2")
    whole = path.read_bytes()
    for size in range(len(kept), len(whole)):
        path.write_bytes(whole[:size])
        cut_back(path, 2, validated=True)
        assert path.read_bytes() == kept, whole[len(kept) : size]


def test_a_row_of_zeros_left_by_a_loss_of_power_is_removed(path):
    log(path, 1)
    kept = path.read_bytes()
    path.write_bytes(kept + bytes(50))
    cut_back(path, 5, validated=True)
    assert path.read_bytes() == kept


def test_a_file_that_lacks_a_newer_column_is_continued(path):
    path.write_text(
        "step,epoch,seconds,train/loss,dev/loss,dev/error_rate\n1,1,0.5,2.5,,\n1,1,0.5,,0.25,0.125\n2,1,1,2,,\n"
    )
    cut_back(path, 1, validated=True)
    MetricsFile(path).log_metrics({"dev/loss": 0.2, "dev/error_rate": 1.0, "dev/character_error_rate": 0.5}, step=3)
    rows = rows_of(path)
    assert list(rows[0]) == list(COLUMNS)
    assert [(row["step"], row["dev/error_rate"], row["dev/character_error_rate"]) for row in rows] == [
        ("1", "", ""), ("1", "0.125", ""), ("3", "1.0", "0.5"),
    ]  # fmt: skip


def test_cutting_back_to_the_beginning_leaves_the_header_and_no_other_file(path):
    log(path, 1, 2)
    cut_back(path, 0, validated=False)
    assert rows_of(path) == [] and path.read_text().startswith("step,epoch")
    assert os.listdir(path.parent) == [path.name]


def test_nothing_is_written_if_nothing_was_logged(path):
    cut_back(path, 3, validated=True)
    assert not path.exists()

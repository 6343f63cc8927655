"""The model of the kernels' time does the arithmetic that it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import kernel_model  # noqa: E402


@pytest.mark.parametrize(
    "registers, shared, warps, resident",
    [(236, 56 * 1024, 8, 8), (126, 84 * 1024, 8, 16), (164, 56 * 1024, 4, 12), (32, 0, 4, 64), (64, 200 * 1024, 4, 4)],
)
def test_warps_fit_by_registers_shared_memory_and_number(registers, shared, warps, resident):
    assert kernel_model.resident_warps(registers, shared, warps) == resident


def test_more_resident_warps_stall_less_but_never_run_faster_than_they_issue():
    before = {"issue": 100.0, "resident": 8}
    assert kernel_model.estimate(before, before, 400, 0) == 400
    assert kernel_model.estimate(before, {"issue": 110.0, "resident": 16}, 400, 0) == pytest.approx(220)
    assert kernel_model.estimate(before, {"issue": 100.0, "resident": 64}, 400, 0) == pytest.approx(125)
    assert kernel_model.estimate(before, {"issue": 100.0, "resident": 64}, 400, 300) == 300


def test_totals_are_the_reviews_without_what_was_saved():
    same = {name: dict(zip(map(str, kernel_model.LENGTHS), taken)) for name, taken in kernel_model.REVIEWED.items()}
    assert "| 2048 | 348 → 348 | 385 → 385 | 0.69 | 1.5 |" in kernel_model.totals(same)
    same["scan_kernel"]["2048"] -= 10
    assert "| 2048 | 348 → 338 | 385 → 385 | 0.71 | 1.5 |" in kernel_model.totals(same)

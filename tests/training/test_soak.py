"""Trainings that are killed twenty times at random steps end as one that nobody disturbed. Minutes each: pytest -m soak"""

import signal

import pytest

from scripts.soak_resume import soak

pytestmark = pytest.mark.soak


@pytest.mark.parametrize(
    "settings",
    [
        ["data.workers=2"],
        ["data.workers=0", "trainer.accumulate_grad_batches=2", "average_checkpoints=2"],
        ["data.workers=1", "trainer.devices=2"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_twenty_kills_change_nothing(tmp_path, settings, number):
    assert soak(tmp_path, kills=20, seed=1, number=number, settings=settings) > 10

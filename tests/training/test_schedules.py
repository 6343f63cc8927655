"""Learning-rate schedules, as factors of the base rate."""

import pytest

from asr.errors import UserError
from asr.training.schedules import schedules
from asr.training.schedules.constant import Constant
from asr.training.schedules.cosine import Cosine
from asr.training.schedules.plateau import Plateau


def test_warm_up_rises_in_even_steps_to_the_base_rate():
    schedule = Constant(warmup_steps=3)
    assert [schedule.factor(step, 0.0) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_the_cosine_is_half_way_in_the_middle_and_ends_at_its_final_share():
    schedule = Cosine(warmup_steps=0, final=0.1)
    assert schedule.factor(0, 0.0) == pytest.approx(1.0)
    assert schedule.factor(50, 0.5) == pytest.approx(0.55)
    assert schedule.factor(100, 1.0) == schedule.factor(100, 2.0) == pytest.approx(0.1)


def test_the_plateau_drops_only_after_patience_validations_without_a_new_best():
    schedule = Plateau(drop=0.5, patience=2, threshold=0.01)
    factors = []
    for loss in [3.0, 2.0, 1.995, 1.99, 1.985, 1.0, 1.0]:
        schedule.observe(loss)
        factors.append(schedule.factor(10, 0.0))
    assert factors == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5]


def test_a_plateau_resumes_from_its_state():
    first, second = Plateau(patience=1), Plateau(patience=1)
    for loss in (1.0, 1.0):
        first.observe(loss)
    second.load_state_dict(first.state_dict())
    for schedule in (first, second):
        schedule.observe(1.0)
    assert first.factor(0, 0) == second.factor(0, 0) == 0.5


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("constant", "warmup_steps", -1), ("cosine", "warmup_steps", -1), ("cosine", "final", -0.1), ("plateau", "drop", 0),
        ("plateau", "drop", 1.5), ("plateau", "patience", -1), ("plateau", "threshold", 1), ("plateau", "smallest", 2),
    ],
)  # fmt: skip
def test_a_setting_out_of_range_is_refused(name, setting, value):
    with pytest.raises(UserError, match=rf"schedule\.{setting} is {value}: give it a "):
        schedules.create({"name": name, setting: value})

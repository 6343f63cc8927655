"""What goes wrong in a training is reported, tolerated a few times, and then stops it with advice."""

import json
import math

import pytest

from asr.errors import UserError
from asr.training.watchdogs import FORGIVEN, Watchdogs


@pytest.fixture
def said():
    return []


def watch(said, **settings):
    return Watchdogs(**settings, say=said.append)


def good(watchdogs, steps, norm=1.0, first=0):
    for step in range(first, first + steps):
        assert watchdogs.finite(step, 2.0, norm, 1e-3, lambda: pytest.fail("nobody asks what was in a good batch"))


def bad(watchdogs, step=0, loss=math.nan, norm=1.0, utterances=("one",)):
    return watchdogs.finite(step, loss, norm, 1.5e-3, lambda: utterances)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_non_finite_loss_is_reported_with_step_utterances_learning_rate_and_gradient_norms(said, loss):
    watchdogs = watch(said)
    for step, norm in enumerate([9.0, 1.0, 2.0, 3.25, 4.0, 5.0]):
        good(watchdogs, 1, norm, step)
    assert not bad(watchdogs, 6, loss, utterances=["a", "b", "c", "d", "e", "f", "g"])
    (sentence,) = said
    for words in (
        "step 7:", f"the loss is {loss}", "utterances a, b, c, d, e and 2 more", "learning rate 0.0015",
        "gradient norms before: 1, 2, 3.25, 4, 5", "skipped (1 of at most 10)",
    ):  # fmt: skip
        assert words in sentence
    assert "9" not in sentence.split("before:")[1]


def test_a_finite_loss_with_a_non_finite_gradient_is_reported_as_such(said):
    watchdogs = watch(said)
    assert not bad(watchdogs, loss=3.5, norm=math.inf)
    assert "the loss is 3.5 but its gradient is not finite" in said[0] and "norms before: none yet" in said[0]


def test_a_few_bad_batches_are_skipped_then_the_training_stops_and_tells_what_to_try(said):
    watchdogs = watch(said, skip_nonfinite=3)
    for step in range(3):
        assert not bad(watchdogs, step)
    with pytest.raises(UserError) as stopped:
        bad(watchdogs, 3)
    for words in (
        "step 4", "3 such batches were skipped already", "watch.skip_nonfinite=3", "optimizer.lr",
        "schedule.warmup_steps", "gradient_clip_val", "trainer.precision=32-true", "check_data.py",
    ):  # fmt: skip
        assert words in str(stopped.value)
    assert len(said) == 3


def test_no_bad_batch_is_skipped_if_none_may_be(said):
    with pytest.raises(UserError, match="step 1"):
        bad(watch(said, skip_nonfinite=0))


def test_bad_batches_are_forgiven_after_a_thousand_good_steps_in_a_row(said):
    watchdogs = watch(said, skip_nonfinite=1)
    bad(watchdogs)
    good(watchdogs, FORGIVEN)
    assert not bad(watchdogs)
    good(watchdogs, FORGIVEN - 1)
    with pytest.raises(UserError):
        bad(watchdogs)


def test_exploding_gradients_are_reported_at_powers_of_two(said):
    watchdogs = watch(said, explosion=50.0)
    good(watchdogs, 30, 0.5)
    for step in range(9):
        good(watchdogs, 1, 100.0, 30 + step)
    assert [line.split(":")[0] for line in said] == ["step 31", "step 32", "step 34", "step 38"]
    assert "the gradient norm is 100, 200 times its median of 0.5 (4 such steps so far)" in said[2]


def test_a_large_gradient_is_not_reported_before_the_usual_size_is_known_or_if_it_is_usual(said):
    watchdogs = watch(said)
    good(watchdogs, 10, 0.1)
    good(watchdogs, 1, 1000.0)
    good(watchdogs, 30, 1000.0)
    good(watchdogs, 1, 40_000.0)
    assert said == []


def test_silence_at_the_beginning_is_normal_for_ctc(said):
    watchdogs = watch(said, silent_validations=1)
    for progress in (0.1, 0.2, 0.49):
        watchdogs.silence(10, 1.0, progress)
    assert said == []


@pytest.mark.parametrize("spoken", [True, False])
def test_a_model_that_falls_silent_is_reported_and_then_stopped(said, spoken):
    watchdogs = watch(said, silent_validations=3)
    if spoken:
        watchdogs.silence(10, 0.9, 0.1)
    watchdogs.silence(20, 1.0, 0.2 if spoken else 0.5)
    watchdogs.silence(30, 1.0, 0.6)
    with pytest.raises(UserError, match=r"empty for 3 validations.*optimizer.lr.*watch.silent_validations=3"):
        watchdogs.silence(40, 1.0, 0.7)
    assert len(said) == 2 and all("emits nothing but blanks" in line for line in said)
    assert ("It has spoken before" if spoken else "Half of the training is over") in said[0]


def test_a_single_word_ends_the_silence(said):
    watchdogs = watch(said, silent_validations=2)
    for empty in (0.5, 1.0, 0.999, 1.0, 0.0, 1.0):
        watchdogs.silence(10, empty, 0.9)
    assert len(said) == 3


def test_waiting_for_data_is_reported_once_and_only_after_enough_time(said):
    watchdogs = watch(said, waiting=0.2)
    watchdogs.waited(0.9, 5.0, 1)
    watchdogs.waited(0.1, 500.0, 1)
    assert said == []
    watchdogs.waited(0.34, 60.0, 3)
    watchdogs.waited(0.5, 60.0, 3)
    assert said == [
        "34% of the time is spent waiting for data. Raise data.workers (now 3), or put the audio on a faster disk."
    ]


def test_what_watchdogs_have_seen_survives_a_checkpoint(said):
    before = watch(said, skip_nonfinite=2)
    before.silence(5, 0.0, 0.1)
    good(before, 40, 0.5)
    good(before, 3, 1000.0)
    bad(before), bad(before)
    before.silence(20, 1.0, 0.2)
    state = json.loads(json.dumps(before.state()))
    later = []
    after = watch(later, skip_nonfinite=2)
    after.load_state(state)
    assert after.state() == before.state()
    good(after, 1, 1000.0)
    assert "4 such steps" in later[0]
    after.silence(30, 1.0, 0.3)
    assert "It has spoken before" in later[1]
    with pytest.raises(UserError, match="gradient norms before: .*1e"):
        bad(after)


def test_a_checkpoint_changes_no_setting(said):
    watchdogs = watch(said)
    watchdogs.load_state({**watchdogs.state(), "skip_nonfinite": 10**9, "say": "nothing"})
    assert watchdogs.skip_nonfinite == 10 and callable(watchdogs.say)

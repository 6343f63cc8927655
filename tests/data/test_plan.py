"""An epoch's plan is a pure function of (frames, seed, epoch, ranks), complete and bounded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.data.batches import BatchStream, TrainingPlan, Utterances, evaluation_loader
from asr.data.memory_model import MemoryModel, fit_memory
from asr.data.plan import Bounds, plan_epoch, plan_in_order, worst_batches
from asr.errors import UserError

FRAMES = st.lists(st.integers(1, 3000), min_size=1, max_size=80)


@settings(max_examples=60, deadline=None)
@given(frames=FRAMES, batch_frames=st.integers(1, 9000), seed=st.integers(0, 5), epoch=st.integers(0, 5))
def test_every_utterance_is_in_exactly_one_batch(frames, batch_frames, seed, epoch):
    batches = plan_epoch(frames, Bounds(batch_frames), seed=seed, epoch=epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(frames)))


@settings(max_examples=60, deadline=None)
@given(frames=FRAMES, batch_frames=st.integers(1, 9000), most=st.integers(1, 9))
def test_a_batch_stays_within_its_bounds_unless_one_utterance_alone_exceeds_them(frames, batch_frames, most):
    for batch in [*plan_epoch(frames, Bounds(batch_frames, most)), *plan_in_order(frames, Bounds(batch_frames, most))]:
        assert len(batch) <= most
        padded = max(frames[index] for index in batch) * len(batch)
        assert padded <= batch_frames or len(batch) == 1


@settings(max_examples=40, deadline=None)
@given(frames=FRAMES, ranks=st.integers(1, 5))
def test_every_rank_gets_as_many_batches_and_together_they_miss_nothing(frames, ranks):
    plans = [plan_epoch(frames, Bounds(4000), seed=1, epoch=2, ranks=ranks, rank=rank) for rank in range(ranks)]
    assert len({len(plan) for plan in plans}) == 1
    assert {index for plan in plans for batch in plan for index in batch} == set(range(len(frames)))


def test_the_same_seed_and_epoch_give_the_same_plan_and_another_epoch_gives_another():
    frames = np.random.default_rng(0).integers(100, 2000, 200)
    assert plan_epoch(frames, Bounds(8000), seed=3, epoch=4) == plan_epoch(frames, Bounds(8000), seed=3, epoch=4)
    assert plan_epoch(frames, Bounds(8000), seed=3, epoch=4) != plan_epoch(frames, Bounds(8000), seed=3, epoch=5)
    assert plan_epoch(frames, Bounds(8000), seed=3, epoch=4) != plan_epoch(frames, Bounds(8000), seed=4, epoch=4)


def test_bucketing_by_duration_wastes_little_on_padding():
    frames = np.random.default_rng(0).lognormal(6.5, 0.5, 2000).astype(int) + 50
    batches = plan_epoch(frames, Bounds(8000), seed=0, epoch=0)
    padded = sum(max(frames[batch]) * len(batch) for batch in map(np.array, batches))
    assert frames.sum() / padded > 0.85


def test_evaluation_starts_with_the_longest_utterance():
    assert plan_in_order([5, 9, 7], Bounds(9)) == [[1], [2], [0]]


@settings(max_examples=40, deadline=None)
@given(frames=FRAMES, ranks=st.integers(1, 3), batch_frames=st.integers(1, 9000))
def test_every_epoch_has_the_same_number_of_batches(frames, ranks, batch_frames):
    lengths = {len(plan_epoch(frames, Bounds(batch_frames), seed=1, epoch=epoch, ranks=ranks)) for epoch in range(5)}
    assert len(lengths) == 1


def test_a_training_is_one_stream_and_a_position_in_it_is_one_number():
    frames = np.random.default_rng(0).integers(100, 2000, 50)
    plan = TrainingPlan(frames, Bounds(4000), seed=1, epochs=3)
    whole = list(BatchStream(plan.epoch, plan.per_epoch, plan.epochs))
    assert whole == [batch for epoch in range(3) for batch in plan_epoch(frames, Bounds(4000), seed=1, epoch=epoch)]
    for start in (0, 1, plan.per_epoch - 1, plan.per_epoch, plan.per_epoch + 1, plan.total - 1, plan.total):
        stream = BatchStream(plan.epoch, plan.per_epoch, plan.epochs, start)
        assert list(stream) == whole[start:] and len(stream) == len(whole) - start


def test_going_to_a_position_plans_a_single_epoch():
    planned = []

    def plan(epoch):
        planned.append(epoch)
        return [[epoch]] * 10

    next(iter(BatchStream(plan, per_epoch=10, epochs=10**6, start=10 * 765432 + 3)))
    assert planned == [765432]


@settings(max_examples=40, deadline=None)
@given(frames=FRAMES, batch_frames=st.integers(1, 9000), ranks=st.integers(1, 4))
def test_ranks_score_every_utterance_once_and_none_is_idle_where_there_are_enough(frames, batch_frames, ranks):
    nothing = Utterances([None] * len(frames), [[]] * len(frames))
    loaders = [evaluation_loader(nothing, frames, batch_frames, ranks=ranks, rank=rank) for rank in range(ranks)]
    batches = [list(loader.batch_sampler) for loader in loaders]
    assert sorted(i for part in batches for batch in part for i in batch) == list(range(len(frames)))
    assert len(frames) < ranks or all(batches)


def test_a_model_of_memory_is_found_from_measurements_and_never_lies_below_them():
    true = MemoryModel(fixed=1e8, linear=3e5, quadratic=40.0, budget=8e9)
    shapes = [(1, 200), (2, 200), (1, 400), (2, 400), (1, 800), (4, 200), (2, 800)]
    measured = [float(true.bytes(*shape)) for shape in shapes]
    found = fit_memory(shapes, measured, 8e9, quadratic=True)
    assert found.bytes(8, 3000) == pytest.approx(true.bytes(8, 3000), rel=1e-6)
    noise = np.random.default_rng(0).uniform(0.9, 1.1, len(shapes))
    noisy = fit_memory(shapes, measured * noise, 8e9, quadratic=True)
    assert all(noisy.bytes(*shape) >= size * 0.999 for shape, size in zip(shapes, measured * noise))


def test_where_attention_is_quadratic_long_utterances_share_a_batch_with_fewer_others():
    linear = Bounds(None, memory=MemoryModel(0, 1.0, 0.0, 10000))
    quadratic = Bounds(None, memory=MemoryModel(0, 1.0, 0.01, 10000))
    assert linear.most(np.array([100, 1000, 20000])).tolist() == [100, 10, 1]
    assert quadratic.most(np.array([100, 1000, 20000])).tolist() == [50, 1, 1]


@settings(max_examples=40, deadline=None)
@given(frames=FRAMES, budget=st.floats(1e3, 1e7), batch_frames=st.integers(1, 9000))
def test_batches_stay_within_the_memory_that_there_is(frames, budget, batch_frames):
    memory = MemoryModel(fixed=500.0, linear=2.0, quadratic=0.003, budget=budget)
    for batch in plan_epoch(frames, Bounds(batch_frames, None, memory)):
        longest = max(frames[index] for index in batch)
        assert len(batch) == 1 or memory.bytes(len(batch), longest) <= budget


@settings(max_examples=40, deadline=None)
@given(frames=FRAMES, batch_frames=st.integers(1, 9000))
def test_no_batch_needs_more_than_the_worst_ones(frames, batch_frames):
    worst = worst_batches(frames, Bounds(batch_frames))
    most_linear = max(utterances * longest for utterances, longest in worst)
    assert any(longest == max(frames) for _, longest in worst)
    for batch in plan_epoch(frames, Bounds(batch_frames), seed=2, epoch=3):
        assert len(batch) * max(frames[index] for index in batch) <= most_linear


def test_no_utterances_is_said():
    with pytest.raises(UserError, match="no utterances"):
        plan_epoch([], Bounds(1000))


def test_the_epochs_of_a_curriculum_go_from_short_batches_to_long_ones_and_hold_every_utterance():
    frames = np.random.default_rng(0).integers(50, 900, 200)
    for ranks in (1, 3):
        plans = [TrainingPlan(frames, Bounds(4000), 1, ranks, rank, epochs=3, curriculum=2) for rank in range(ranks)]
        for epoch in range(3):
            batches = [list(plan.epoch(epoch)) for plan in plans]
            assert {index for own in batches for batch in own for index in batch} == set(range(200))
            longest = [[frames[batch].max() for batch in own] for own in batches]
            # on several ranks a few batches are repeated at the end, so that all have as many
            assert all(own[:-1] == sorted(own[:-1]) for own in longest) == (epoch < 2)
        assert plans[0].as_data()["curriculum"] == 2
    assert "curriculum" not in TrainingPlan(frames, Bounds(4000), 1).as_data()

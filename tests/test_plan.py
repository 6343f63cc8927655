"""An epoch's plan is a pure function of (frames, seed, epoch, ranks), complete and bounded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from asr.data.batches import PlannedBatches
from asr.data.plan import plan_epoch, plan_in_order
from asr.errors import UserError

FRAMES = st.lists(st.integers(1, 3000), min_size=1, max_size=80)


@settings(max_examples=60, deadline=None)
@given(frames=FRAMES, batch_frames=st.integers(1, 9000), seed=st.integers(0, 5), epoch=st.integers(0, 5))
def test_every_utterance_is_in_exactly_one_batch(frames, batch_frames, seed, epoch):
    batches = plan_epoch(frames, batch_frames, seed=seed, epoch=epoch)
    assert sorted(index for batch in batches for index in batch) == list(range(len(frames)))


@settings(max_examples=60, deadline=None)
@given(frames=FRAMES, batch_frames=st.integers(1, 9000), most=st.integers(1, 9))
def test_a_batch_stays_within_its_bounds_unless_one_utterance_alone_exceeds_them(frames, batch_frames, most):
    for batch in [*plan_epoch(frames, batch_frames, most), *plan_in_order(frames, batch_frames, most)]:
        assert len(batch) <= most
        padded = max(frames[index] for index in batch) * len(batch)
        assert padded <= batch_frames or len(batch) == 1


@settings(max_examples=40, deadline=None)
@given(frames=FRAMES, ranks=st.integers(1, 5))
def test_every_rank_gets_as_many_batches_and_together_they_miss_nothing(frames, ranks):
    plans = [plan_epoch(frames, 4000, seed=1, epoch=2, ranks=ranks, rank=rank) for rank in range(ranks)]
    assert len({len(plan) for plan in plans}) == 1
    assert {index for plan in plans for batch in plan for index in batch} == set(range(len(frames)))


def test_the_same_seed_and_epoch_give_the_same_plan_and_another_epoch_gives_another():
    frames = np.random.default_rng(0).integers(100, 2000, 200)
    assert plan_epoch(frames, 8000, seed=3, epoch=4) == plan_epoch(frames, 8000, seed=3, epoch=4)
    assert plan_epoch(frames, 8000, seed=3, epoch=4) != plan_epoch(frames, 8000, seed=3, epoch=5)
    assert plan_epoch(frames, 8000, seed=3, epoch=4) != plan_epoch(frames, 8000, seed=4, epoch=4)


def test_bucketing_by_duration_wastes_little_on_padding():
    frames = np.random.default_rng(0).lognormal(6.5, 0.5, 2000).astype(int) + 50
    batches = plan_epoch(frames, 8000, seed=0, epoch=0)
    padded = sum(max(frames[batch]) * len(batch) for batch in map(np.array, batches))
    assert frames.sum() / padded > 0.85


def test_evaluation_starts_with_the_longest_utterance():
    assert plan_in_order([5, 9, 7], 9) == [[1], [2], [0]]


@settings(max_examples=40, deadline=None)
@given(frames=FRAMES, ranks=st.integers(1, 3), batch_frames=st.integers(1, 9000))
def test_every_epoch_has_the_same_number_of_batches(frames, ranks, batch_frames):
    lengths = {len(plan_epoch(frames, batch_frames, seed=1, epoch=epoch, ranks=ranks)) for epoch in range(5)}
    assert len(lengths) == 1


def test_lightning_gives_every_epoch_its_own_plan():
    from lightning.fabric.utilities.data import _set_sampler_epoch

    frames = np.random.default_rng(0).integers(100, 2000, 50)
    sampler = PlannedBatches(lambda epoch: plan_epoch(frames, 4000, seed=1, epoch=epoch))
    loader = DataLoader(range(50), batch_sampler=sampler, collate_fn=list)
    epochs = []
    for epoch in range(3):
        _set_sampler_epoch(loader, epoch)
        epochs.append(list(loader))
    assert epochs == [plan_epoch(frames, 4000, seed=1, epoch=epoch) for epoch in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]


def test_no_utterances_is_said():
    with pytest.raises(UserError, match="no utterances"):
        plan_epoch([], 1000)

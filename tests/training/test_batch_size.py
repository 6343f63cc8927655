"""The largest batches that fit are found by measuring smaller ones, and without trying one that does not fit."""

import gc
import mmap
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.data.memory_model import MemoryModel, fit_memory
from asr.errors import UserError
from asr.training.batch_size import NUMBERS, growth, lowered_until_it_fits, measure, training_step_on_noise

CPU = torch.device("cpu")
MEBIBYTE = 2**20
needs_peak = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel keeps no peak here")


@pytest.fixture(autouse=True)
def nothing_to_collect():
    """Skips the garbage collection before each measurement, which is slow with everything imported here."""
    gc.freeze()
    yield
    gc.unfreeze()


class Step:
    """Allocates memory by a known law for every batch, and records the batches."""

    def __init__(self, fixed=0.0, linear=0.0, quadratic=0.0):
        self.law, self.taken = MemoryModel(fixed, linear, quadratic, 0.0), []

    def __call__(self, utterances, frames):
        self.taken.append((utterances, frames))
        # mapped anew and released at once, so that only what this batch needs is resident
        with mmap.mmap(-1, max(mmap.PAGESIZE, int(self.law.bytes(utterances, frames)))) as memory:
            memory[:: mmap.PAGESIZE] = bytes(len(range(0, len(memory), mmap.PAGESIZE)))


FRAMES = np.random.default_rng(0).integers(100, 1000, 300)


@needs_peak
@pytest.mark.parametrize(
    ("linear", "quadratic"), [(0.01 * MEBIBYTE, 0.0), (0.004 * MEBIBYTE, 10.0), (0.0, 20.0)], ids=["linear", "both", "square"]
)  # fmt: skip
def test_the_law_by_which_memory_grows_is_found(linear, quadratic):
    step = Step(5.0 * MEBIBYTE, linear, quadratic)
    budget = 2000.0 * MEBIBYTE
    memory = measure(step, FRAMES, budget, quadratic=quadratic > 0, device=CPU)
    for utterances, frames in [(8, 1000), (30, 500), (100, 120), (3, 900)]:
        assert memory.bytes(utterances, frames) == pytest.approx(step.law.bytes(utterances, frames), rel=0.3)
    assert memory.budget == budget
    assert {utterances for utterances, _ in step.taken} == set(NUMBERS)


@needs_peak
@pytest.mark.parametrize("room", [180, 300, 600])
def test_no_batch_is_tried_that_would_not_fit_judging_by_those_before(room):
    step = Step(4.0 * MEBIBYTE, 0.02 * MEBIBYTE, 80.0)
    memory = measure(step, FRAMES, room * MEBIBYTE, quadratic=True, device=CPU)
    assert all(step.law.bytes(*shape) < room * MEBIBYTE for shape in step.taken)
    assert step.law.bytes(8, FRAMES.max()) > 760 * MEBIBYTE, "some would not have fitted"
    lengths = np.unique(FRAMES)
    most = memory.most(lengths)
    assert (step.law.bytes(most, lengths)[most > 1] < 1.3 * room * MEBIBYTE).all() and most[0] > 1


@needs_peak
@pytest.mark.parametrize("room", [0.0, -5.0, 1.0, 30.0])
def test_it_is_reported_if_not_even_one_utterance_fits(room):
    step = Step(linear=0.2 * MEBIBYTE)
    with pytest.raises(
        UserError, match=rf"Not even one utterance of {FRAMES.max()} frames, the longest, fits into the .* MiB"
    ):
        measure(step, FRAMES, room * MEBIBYTE, quadratic=False, device=CPU)
    assert len(step.taken) <= 2


def test_running_out_of_memory_while_measuring_is_reported():
    def step(utterances, frames):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(UserError, match="Not even one utterance"):
        measure(step, FRAMES, 1e12, quadratic=True, device=CPU)


@needs_peak
def test_utterances_of_one_length_are_measured_at_two():
    step = Step(MEBIBYTE, 0.01 * MEBIBYTE)
    memory = measure(step, np.full(10, 800), 1000.0 * MEBIBYTE, quadratic=False, device=CPU)
    assert {frames for _, frames in step.taken} == {400, 800}
    assert memory.bytes(50, 800) == pytest.approx(step.law.bytes(50, 800), rel=0.3)


@pytest.mark.parametrize("quadratic", [True, False])
@pytest.mark.parametrize("shapes", [[(1, 100)], [(1, 100), (2, 100)], [(1, 100), (1, 300)]])
def test_too_few_measurements_give_an_upper_bound_on_every_law_they_allow(shapes, quadratic):
    for law in (MemoryModel(0, 7.0, 0, 0), MemoryModel(0, 0, 0.5, 0), MemoryModel(900, 2.0, 0.1, 0)):
        if law.quadratic and not quadratic:
            continue
        found = fit_memory(shapes, [float(law.bytes(*shape)) for shape in shapes], 1e6, quadratic)
        for shape in [(1, 100), (1, 300), (50, 100), (50, 300), (8, 1000)]:
            if shape[1] in {frames for _, frames in shapes} or len(shapes) == 1:
                assert found.bytes(*shape) >= 0.999 * law.bytes(*shape)
        assert 0 < found.most(np.array([100]))[0] < 1e5


def test_memory_grows_at_most_with_the_utterances_and_the_square_of_the_length():
    assert growth((1, 100), (4, 200), quadratic=True) == 16
    assert growth((1, 100), (4, 200), quadratic=False) == 8
    assert growth((4, 100), (1, 200), quadratic=False) == 2


def running_out(limit):
    """A step that runs out of memory above a total number of frames, and the batches that it was given."""
    given = []

    def step(utterances, frames):
        given.append((utterances, frames))
        if utterances * frames > limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    return step, given


def test_the_budget_is_lowered_until_the_largest_batches_run():
    frames = np.full(1000, 100)
    step, given = running_out(6000)
    memory = lowered_until_it_fits(MemoryModel(0.0, 1.0, 0.0, 10_000.0), step, frames)
    assert given[-1] == (int(memory.most(np.array([100]))[0]), 100)
    assert 0.9 * 6000 - 100 < memory.budget <= 6000 + 100
    assert [utterances for utterances, _ in given] == [100, 90, 81, 72, 65, 59]


def test_a_budget_whose_largest_batches_run_is_kept():
    step, given = running_out(10_000)
    before = MemoryModel(0.0, 1.0, 0.0, 10_000.0)
    assert lowered_until_it_fits(before, step, np.array([50] * 300 + [100] * 100 + [400])) == before
    assert sorted(given) == [(25, 400), (200, 50)]


def test_no_more_utterances_are_tried_than_there_are():
    step, given = running_out(1e9)
    lowered_until_it_fits(MemoryModel(0.0, 1.0, 0.0, 1e9), step, np.array([10, 20, 30]))
    assert all(utterances == 3 for utterances, _ in given)


def test_it_is_reported_if_no_batch_runs_and_other_errors_pass_through():
    step, given = running_out(0)
    with pytest.raises(UserError, match="found no batch that fits"):
        lowered_until_it_fits(MemoryModel(0.0, 1.0, 0.0, 1000.0), step, np.array([10, 20]))
    assert len(given) == 8

    def broken(utterances, frames):
        raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match="shapes"):
        lowered_until_it_fits(MemoryModel(0.0, 1.0, 0.0, 1000.0), broken, np.array([10, 20]))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_what_is_measured_is_a_training_step_that_leaves_no_gradient(precision):
    from tests.support.small_training import build_model

    model, seen = build_model().train(), []
    whole = model.encoder.forward
    model.encoder.forward = lambda x, n: seen.append(tuple(x.shape)) or whole(x, n)
    backward = []
    model.head.weight.register_hook(lambda gradient: backward.append(gradient))
    training_step_on_noise(model, CPU, precision)(3, 50)
    assert seen == [(3, 50, 10)] and len(backward) == 1
    assert all(parameter.grad is None for parameter in model.parameters())

"""Greedy decoding: the best path, repeats merged, blanks removed."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import UserError
from asr.inference.decoders import Decoder, decoders

greedy = decoders.create({"name": "greedy"})


def emissions_of(paths: list[list[int]], units: int = 5, peak: float = 0.9) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities in which each path is the best one; what lies behind an utterance is NaN."""
    lengths = torch.tensor([len(path) for path in paths])
    emissions = torch.full((len(paths), int(lengths.max()), units), float("nan"))
    for row, path in enumerate(paths):
        for frame, unit in enumerate(path):
            emissions[row, frame] = (1 - peak) / (units - 1)
            emissions[row, frame, unit] = peak
    return emissions.log(), lengths


def collapse_one_by_one(path: list[int]) -> tuple[list[int], list[int]]:
    ids, frames, previous = [], [], 0
    for frame, unit in enumerate(path):
        if unit != previous and unit != 0:
            ids.append(unit)
            frames.append(frame)
        previous = unit
    return ids, frames


def test_repeats_are_merged_and_a_blank_between_equal_units_keeps_both():
    emissions, lengths = emissions_of([[0, 1, 1, 0, 1, 2, 2, 3]])
    ((hypothesis,),) = greedy(emissions, lengths)
    assert hypothesis.ids == [1, 1, 2, 3]
    assert hypothesis.frames == [1, 4, 5, 7]
    assert hypothesis.score == pytest.approx(8 * torch.tensor(0.9).log().item(), rel=1e-5)


def test_the_score_of_each_utterance_is_the_log_probability_of_its_own_frames():
    emissions, lengths = emissions_of([[1, 2], [0, 0, 0, 4, 4]])
    first, second = greedy(emissions, lengths)
    assert first[0].score == pytest.approx(2 * torch.tensor(0.9).log().item(), rel=1e-5)
    assert second[0].score == pytest.approx(5 * torch.tensor(0.9).log().item(), rel=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=5))
def test_a_batch_decodes_like_a_walk_along_each_path(paths):
    decoded = greedy(*emissions_of(paths))
    assert [(best.ids, best.frames) for (best,) in decoded] == [collapse_one_by_one(path) for path in paths]


def test_an_utterance_decodes_the_same_alone_and_in_a_padded_batch():
    torch.manual_seed(1)
    emissions, lengths = torch.randn(4, 30, 7).log_softmax(-1), torch.tensor([30, 17, 1, 0])
    together = greedy(emissions, lengths)
    for row, length in enumerate(lengths.tolist()):
        assert greedy(emissions[row : row + 1, :length], lengths[row : row + 1]) == [together[row]]


def test_an_utterance_without_frames_has_one_empty_hypothesis():
    for time in (0, 3):
        ((hypothesis,),) = greedy(torch.zeros(1, time, 4), torch.tensor([0]))
        assert (hypothesis.ids, hypothesis.frames, hypothesis.score) == ([], [], 0.0)
    assert greedy(torch.zeros(0, 3, 4), torch.zeros(0, dtype=torch.int64)) == []


def test_the_blank_may_have_another_index():
    emissions, lengths = emissions_of([[4, 0, 0, 4, 0, 1]])
    assert decoders.create({"name": "greedy", "blank": 4})(emissions, lengths)[0][0].ids == [0, 0, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_decode_alike(dtype):
    emissions, lengths = emissions_of([[1, 1, 0, 2], [3]])
    assert [best.ids for (best,) in greedy(emissions.to(dtype), lengths)] == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("emissions", "lengths", "named"),
    [
        (torch.zeros(3, 4), torch.tensor([3]), "emissions"),
        (torch.zeros(1, 3, 4, dtype=torch.int64), torch.tensor([3]), "emissions"),
        (torch.zeros(2, 3, 4), torch.tensor([3]), "lengths"),
        (torch.zeros(1, 3, 4), torch.tensor([3.0]), "lengths"),
        (torch.zeros(1, 3, 4), torch.tensor([4]), "lengths"),
        (torch.zeros(1, 3, 4), torch.tensor([-1]), "lengths"),
    ],
)
def test_wrong_shapes_and_lengths_are_named(emissions, lengths, named):
    with pytest.raises(ValueError, match=named):
        greedy(emissions, lengths)


def test_every_decoder_is_a_decoder_and_an_unknown_one_is_answered_with_the_nearest_name():
    assert "greedy" in decoders.names()
    assert all(issubclass(decoders.get(name), Decoder) for name in decoders.names())
    with pytest.raises(UserError, match="greedy"):
        decoders.get("gredy")


@pytest.mark.run
def test_listing_decoders_losses_and_scoring_imports_nothing_heavy():
    program = (
        "import sys; from asr.inference.decoders import decoders; from asr.model.losses import losses;"
        "import asr.scoring, asr.evaluation.report.plots;"
        "assert decoders.names() and losses.names();"
        "print([m for m in ('torch', 'numpy', 'matplotlib', 'lhotse', 'lightning', 'jiwer', 'rapidfuzz') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr

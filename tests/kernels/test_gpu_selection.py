"""The kernels that attend from rows to all keys, and find the highest, against float64."""

from __future__ import annotations

import pytest
import torch

from asr.kernels import reference
from asr.kernels.gpu.selection import attend_rows, choose_splits, select_rows
from tests.support.gpu import device, dtypes, needs_triton, relative_error, tolerance

pytestmark = needs_triton

# dim, value dim, rows, time, topk
SHAPES = [
    (64, 64, 5, 130, 32),  # keys in several parts
    (8, 12, 5, 70, 3),
    (1, 1, 1, 1, 1),
    (20, 128, 4, 64, 16),
    (128, 20, 3, 33, 40),  # fewer keys than are selected
    (16, 16, 2, 300, 100),
    (32, 32, 2, 257, 128),
]


def draw(*shape, dtype, seed=0):
    """(batch, heads, time, dim) that lies in memory as a projection writes it, and begins amid another tensor."""
    batch, heads, time, dim = shape
    x = torch.randn(batch, time + 1, heads, dim + 3, generator=torch.Generator().manual_seed(seed))
    return x.to(device, dtype)[:, 1:, :, :dim].transpose(1, 2)


def spoil(x, lengths):
    """The same with NaN where it is padding."""
    padding = torch.arange(x.shape[2], device=x.device) >= lengths.to(x.device)[:, None]
    return x.masked_fill(padding[:, None, :, None], torch.nan)


def expected(rows, keys, values, length, topk, occupied):
    """Output, log-sum-exp, attention and which of it is selected, for the rows of one head."""
    rows, keys, values = rows.cpu().double(), keys[:length].cpu().double(), values[:length].cpu().double()
    scores = rows @ keys.T * rows.shape[1] ** -0.5
    there = torch.as_tensor(occupied).view(-1, 1) & torch.ones(len(rows), 1, dtype=torch.bool)
    attention = scores.softmax(-1)
    lse = torch.logsumexp(scores, -1) / torch.log(torch.tensor(2.0, dtype=torch.float64))
    top = reference.top_matrix(scores, topk).bool() & there
    return attention @ values * there, lse, attention, top


def check(rows, keys, values, lengths, topk, counts=None, bound=1e-5):
    starts = None if counts is None else torch.nn.functional.pad(counts.cumsum(1), (1, 0)).int()
    found = attend_rows(rows, spoil(keys, lengths), spoil(values, lengths), lengths.to(device), topk, starts)
    heads = rows.shape[1]
    output, selected, weights, mass = [], [], [], []
    for group in range(rows.shape[0] * heads):
        batch, head = divmod(group, heads)
        occupied = True if counts is None else (counts[group] > 0).cpu()
        length = int(lengths[batch])
        one = rows[batch, head], keys[batch, head], values[batch, head]
        wanted, lse, attention, top = expected(*one, length, topk, occupied)
        output.append(wanted)
        nothing = ~(torch.as_tensor(occupied) & torch.full((len(wanted),), length > 0))
        got = found.lse[group].cpu()
        assert torch.equal(got.isposinf(), nothing) and relative_error(got[~nothing], lse[~nothing]) <= bound
        selected.append(top)
        weights.append(attention * top)
        mass.append((attention * top).sum(-1))
    assert relative_error(found.output, torch.stack(output)) <= bound
    assert relative_error(found.mass, torch.stack(mass)) <= 10 * bound
    check_selected(found.selected, selected, topk)
    for got, slots, wanted in zip(found.weights.cpu(), found.selected.cpu().long(), weights):
        assert not got[slots < 0].any()
        if wanted.shape[1]:
            assert relative_error(got, torch.where(slots < 0, 0, wanted.gather(1, slots.clamp(min=0)))) <= 10 * bound
    return found


def check_selected(found, wanted, topk):
    """Exactly those keys, each once, and -1 in all other slots."""
    assert found.dtype == torch.int32 and found.shape[2] >= topk
    for slots, top in zip(found.cpu(), wanted):
        for row, keys in zip(slots.tolist(), top):
            chosen = [key for key in row if key != -1]
            assert sorted(chosen) == keys.nonzero()[:, 0].tolist()
            assert row == chosen + [-1] * (len(row) - len(chosen))


@pytest.mark.parametrize("dtype", dtypes)
@pytest.mark.parametrize("dim, value_dim, rows, time, topk", SHAPES)
def test_rows_attend_to_all_keys_and_select_the_highest(dim, value_dim, rows, time, topk, dtype):
    rows = draw(2, 1, rows, dim, dtype=dtype)
    keys, values = draw(2, 1, time, dim, dtype=dtype, seed=1), draw(2, 1, time, value_dim, dtype=dtype, seed=2)
    check(rows, keys, values, torch.tensor([time, -(-2 * time // 3)]), topk, bound=tolerance[dtype])


def test_rows_may_be_more_than_a_tile_has():
    rows, keys = (draw(1, 1, time, 8, dtype=torch.float16, seed=time) for time in (66, 20))
    check(rows, keys, keys, torch.tensor([20]), 2, bound=tolerance[torch.float16])


@pytest.mark.parametrize("topk", [1, 7, 32, 33, 64])
def test_equal_scores_go_to_the_lowest_index(topk):
    # Small whole numbers: scores are exact whatever the order of their sum, and most of them occur many times.
    numbers = torch.randint(-1, 2, (1, 2, 200, 3), generator=torch.Generator().manual_seed(0)).float().to(device)
    check(numbers[:, :, :4], numbers, numbers, torch.tensor([199]), topk)


@pytest.mark.parametrize("topk, time", [(1, 65), (32, 300), (16, 129), (128, 400)])
def test_all_keys_equal_are_all_candidates_and_the_first_are_selected(topk, time):
    rows, keys = draw(1, 1, 2, 8, dtype=torch.float32), draw(1, 1, 1, 8, dtype=torch.float32, seed=1)
    keys, values = keys.expand(1, 1, time, 8), draw(1, 1, time, 8, dtype=torch.float32, seed=2)
    found = select_rows(rows, keys, None, torch.tensor([time - 1], device=device), topk)
    for row in found.selected[0].tolist():
        assert row == [*range(topk)] + [-1] * (len(row) - topk)
    attended = attend_rows(rows, keys, values, None, topk, None)
    assert torch.equal(attended.selected, found.selected)
    assert relative_error(attended.output[0], values[0, 0].mean(0).expand(2, 8)) <= 1e-5


@pytest.mark.parametrize("raised", [0.5, torch.inf])
@pytest.mark.parametrize("topk, time", [(5, 33), (32, 200)])
def test_keys_are_selected_though_their_marks_are_missing(monkeypatch, topk, time, raised):
    """As if no product came out in `mark` as in `scan`: some of the highest keys, or all, miss the threshold."""
    from asr.kernels.gpu import selection

    def launch(kernel, *arguments, **keywords):
        if kernel is selection.mark_kernel:
            keywords["thresholds"] += raised
        launch_unchanged(kernel, *arguments, **keywords)

    launch_unchanged = selection.launch
    monkeypatch.setattr(selection, "launch", launch)
    rows, keys = draw(2, 1, 3, 16, dtype=torch.float32), draw(2, 1, time, 16, dtype=torch.float32, seed=1)
    check(rows, keys, keys, torch.tensor([time, 3]), topk)


def test_every_key_can_be_marked_whatever_its_place_in_a_word():
    everyone = torch.eye(33, device=device)[None, None]
    assert select_rows(everyone, everyone, None, None, 1).selected[0, :, 0].tolist() == [*range(33)]


@pytest.mark.parametrize("topk", [5, 40])
def test_sequences_with_fewer_keys_than_are_selected_give_what_they_have_and_without_keys_nothing(topk):
    rows, keys = draw(4, 2, 3, 8, dtype=torch.float32), draw(4, 2, 50, 8, dtype=torch.float32, seed=1)
    values = draw(4, 2, 50, 6, dtype=torch.float32, seed=2)
    found = check(rows, keys, values, torch.tensor([3, 1, 0, 50]), topk)
    assert not found.output[4:6].any() and not found.mass[4:6].any()


def test_rows_of_clusters_without_members_attend_to_nothing():
    rows, keys = draw(2, 2, 9, 8, dtype=torch.float32), draw(2, 2, 70, 8, dtype=torch.float32, seed=1)
    counts = torch.randint(0, 2, (4, 9), generator=torch.Generator().manual_seed(0), dtype=torch.int32).to(device)
    # The mean of no members is zero, and all its scores are equal.
    rows = torch.where((counts > 0).view(2, 2, 9, 1), rows, 0)
    found = check(rows, keys, keys, torch.tensor([70, 30]), 4, counts)
    empty = counts == 0
    assert empty.any() and (found.selected[empty] == -1).all() and not found.output[empty].any()


def test_without_a_selection_rows_only_attend():
    rows, keys = draw(2, 2, 9, 8, dtype=torch.float32), draw(2, 2, 70, 8, dtype=torch.float32, seed=1)
    lengths = torch.tensor([70, 0], device=device)
    found = attend_rows(rows, keys, keys, lengths, 0, None)
    assert found[2:] == (None, None, None)
    both = attend_rows(rows, keys, keys, lengths, 3, None)
    assert torch.equal(found.output, both.output) and torch.equal(found.lse, both.lse)


def test_padded_rows_select_nothing_and_the_others_weigh_their_keys_by_a_softmax_over_these():
    rows, keys = draw(3, 1, 40, 8, dtype=torch.float32), draw(3, 1, 30, 8, dtype=torch.float32, seed=1)
    lengths = torch.tensor([32, 3, 0])
    found = select_rows(spoil(rows, lengths), keys, lengths.to(device), None, 5)
    scores = rows.cpu().double() @ keys.cpu().double().transpose(2, 3) * 8**-0.5
    tops = []
    for group, of_head in enumerate(scores.flatten(0, 1)):
        there = torch.arange(40) < lengths[group]
        top = reference.top_matrix(of_head, 5).bool() & there[:, None]
        tops.append(top)
        weights = of_head.masked_fill(~top, -torch.inf)[there].softmax(-1)
        slots = found.selected[group].cpu().long()[there]
        wanted = torch.where(slots < 0, 0, weights.gather(1, slots.clamp(min=0)))
        assert relative_error(found.weights[group].cpu()[there], wanted) <= 1e-5
        assert not found.weights[group].cpu()[~there].any()
    check_selected(found.selected, tops, 5)


def test_parts_are_few_and_come_out_even():
    for programs in (1, 12, 96, 1000, 10**5):
        for tiles in (1, 7, 32, 512):
            assert 1 <= choose_splits(programs, tiles) <= min(tiles, 16)
    assert choose_splits(12, 512) == 11 and choose_splits(10**5, 512) == 1

"""Attention matrices read off each attention's own arithmetic, their distances, and the pictures of an utterance."""

import math

import pytest
import torch

from asr.errors import UserError
from asr.evaluation.evaluate import evaluate
from asr.evaluation.report.attention import (
    LayerPictures,
    coarse,
    draw_layer,
    drawn_settings,
    layer_pictures,
    utterance_called,
)
from asr.model.attention import Place, attention_at, attentions
from asr.model.attention.matrices import attention_matrix, capture_projections, distance
from tests.evaluation.report.test_report import Tags, ask, place, sound  # noqa: F401 - `place` is a fixture

TIME = 40
SMALL = {
    "clustered": {"clusters": 6}, "i_clustered": {"clusters": 6, "topk": 5}, "lsh": {"rounds": 4, "chunk": 8},
    "topk": {"topk": 5}, "oracle_top": {"topk": 5}, "auto": {"clusters": 6, "topk": 5},
}  # fmt: skip


def queries_and_keys(shared: bool = False, heads: int = 3):
    generator = torch.Generator().manual_seed(0)
    # as in speech, neighbours are alike: whole stretches share a query
    queries, keys = (
        torch.randn(1, heads, 8, 16, generator=generator).repeat_interleave(5, 2)
        + 0.3 * torch.randn(1, heads, TIME, 16, generator=generator)
        for _ in range(2)
    )
    return queries * 2, queries * 2 if shared else keys * 2


def matrix_of(name: str, **knobs):
    part = attention_at({"name": name, **SMALL.get(name, {}), **knobs}, Place(0, 1, 3, 16, 48))
    queries, keys = queries_and_keys(part.shared_qk)
    keys = queries if part.shared_qk else keys
    return attention_matrix(part, queries, keys), queries, keys


def test_values_that_are_the_identity_give_the_softmax_of_full_attention():
    matrix, queries, keys = matrix_of("full")
    expected = (queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])).softmax(dim=-1)
    torch.testing.assert_close(matrix, expected)


@pytest.mark.parametrize("name", attentions.names())
def test_the_matrix_of_every_attention_mixes_values_as_the_attention_does(name):
    matrix, queries, keys = matrix_of(name)
    part = attention_at({"name": name, **SMALL.get(name, {})}, Place(0, 1, 3, 16, 48))
    values = torch.randn(1, 3, TIME, 7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(matrix @ values, part(queries, keys, values), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", attentions.names())
def test_every_row_is_a_distribution_over_keys(name):
    matrix, _, _ = matrix_of(name)
    assert matrix.shape == (1, 3, TIME, TIME) and bool((matrix >= 0).all())
    torch.testing.assert_close(matrix.sum(-1), torch.ones(1, 3, TIME))


def test_clustered_attention_has_a_row_for_each_cluster_and_i_clustered_one_for_each_query():
    rows = {name: len(matrix_of(name)[0][0, 0].unique(dim=0)) for name in ("full", "i_clustered", "clustered")}
    assert rows["clustered"] <= 6 < rows["i_clustered"] <= rows["full"] == TIME


def test_i_clustered_is_nearer_to_full_than_clustered_and_both_reach_it():
    full = matrix_of("full")[0][0]
    near = distance(matrix_of("i_clustered")[0][0], full, 5)
    far = distance(matrix_of("clustered")[0][0], full, 5)
    assert 0 < near.l1 < far.l1 < 2
    assert far.captured < near.captured < 1
    assert near.concentration == far.concentration
    for name, knobs in (("clustered", {"clusters": TIME, "iterations": 50}), ("i_clustered", {"topk": TIME})):
        assert distance(matrix_of(name, **knobs)[0][0], full, 5).l1 < 1e-4


def test_a_distance_is_zero_for_the_same_and_two_for_nothing_in_common():
    full = torch.eye(4)[None]
    same, apart = distance(full, full, 1), distance(full.roll(1, -1), full, 1)
    assert (same.l1, same.captured, same.concentration) == (0.0, 1.0, 1.0)
    assert (apart.l1, apart.captured) == (2.0, 0.0)
    half = distance(torch.full((1, 4, 4), 0.25), full, 1)
    assert (half.l1, half.captured) == (1.5, 0.25)
    # three times too much on one key does not make up for nothing on the other
    assert distance(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, 0.5]]]), 2).captured == 0.5


def test_every_layer_gives_its_queries_and_keys_in_the_order_of_the_model(place):  # noqa: F811
    from asr.model.checkpoint import open_checkpoint

    model = open_checkpoint(place / "run").model
    waveform = torch.from_numpy(sound(1.0, 0))
    layers = capture_projections(model, lambda: model(waveform[None], torch.tensor([len(waveform)])))
    assert [layer.seed for layer in layers] == [0, 1]
    assert layers[0].queries.shape == layers[0].keys.shape and layers[0].queries.shape[:2] == (1, 2)
    for block in model.encoder.layers:
        assert not block.attention.attention._forward_pre_hooks, "nothing is left behind in the model"


def test_beside_full_stand_i_clustered_clustered_and_the_evaluated_one_with_the_asked_knobs():
    drawn = drawn_settings({"name": "full"}, {"clusters": 7, "topk": 3})
    assert drawn == [{"name": "i_clustered", "clusters": 7, "topk": 3}, {"name": "clustered", "clusters": 7}]
    own = {"name": "clustered", "clusters": 9, "bits": 31, "iterations": 2}
    assert drawn_settings(own, {"clusters": 7})[1] == {**own, "clusters": 7}
    assert drawn_settings({"name": "lsh", "rounds": 4}, {})[2] == {"name": "lsh", "rounds": 4}


def test_all_matrices_of_a_layer_come_from_the_same_queries_and_keys(place):  # noqa: F811
    from asr.model.checkpoint import open_checkpoint

    model = open_checkpoint(place / "run").model
    waveform = torch.from_numpy(sound(1.0, 0))
    (first, *_) = capture_projections(model, lambda: model(waveform[None], torch.tensor([len(waveform)])))
    pictures = layer_pictures(first, drawn_settings({"name": "full"}, {"clusters": 3, "topk": 4}))
    assert list(pictures.matrices) == ["full", "i_clustered-3", "clustered-3"]
    scores = first.queries @ first.keys.transpose(-1, -2) / math.sqrt(first.keys.shape[-1])
    torch.testing.assert_close(pictures.matrices["full"], scores.softmax(dim=-1)[0])
    assert pictures.distances["i_clustered-3"].l1 <= pictures.distances["clustered-3"].l1 + 1e-6


def test_a_long_matrix_is_drawn_by_its_largest_weights_so_that_a_thin_line_stays():
    matrix = torch.zeros(1000, 1000)
    matrix[:, 500] = 1.0
    drawn = coarse(matrix, 200)
    assert drawn.shape == (200, 200) and bool((drawn[:, 100] == 1).all()) and drawn.sum() == 200
    assert coarse(matrix[:150, :150], 200).shape == (150, 150)


def test_the_picture_has_a_row_for_each_attention_a_column_for_each_head_and_axes_in_seconds():
    matrices = {label: torch.rand(4, 30, 30) for label in ("full", "i_clustered-3", "clustered-3")}
    drawing = draw_layer(LayerPictures(matrices, {}), 2.5, 200)
    axes = [axes for axes in drawing.axes if axes.images]
    assert len(axes) == 12
    assert [a.get_ylabel() for a in axes if a.get_ylabel()] == list(matrices)
    assert all(a.images[0].get_extent() == [0, 2.5, 2.5, 0] for a in axes)
    torch.testing.assert_close(
        torch.from_numpy(axes[5].images[0].get_array().data.copy()), matrices["i_clustered-3"][1]
    )
    scales = [a.images[0].norm.vmax for a in axes]
    assert scales[0] == scales[4] == scales[8] != scales[1], "alike within a head"


def test_an_evaluation_draws_an_utterance_in_files_and_a_page(place):  # noqa: F811
    scores = evaluate(ask(place, split="test", report=False, plot_attention="07", knobs={"clusters": 4, "topk": 6}))
    assert scores["attention"] == "full", "knobs of the pictures change nothing about the evaluation"
    folder = scores["folder"]
    assert scores["attention_page"] == folder / "attention-07.html"
    assert sorted(path.name for path in folder.glob("*.png")) == [
        "attention-07-layer-1.png",
        "attention-07-layer-2.png",
    ]
    html = scores["attention_page"].read_text()
    text = Tags(html).text
    assert "i_clustered-4" in text and "clustered-4" in text and "same queries and keys" in text
    assert all(attributes["src"].startswith("data:image/png") for tag, attributes in Tags(html).tags if tag == "img")
    assert "://" not in html


def test_an_utterance_that_is_not_there_is_a_sentence_with_the_nearest_and_nothing_is_scored(place, tmp_path):  # noqa: F811
    with pytest.raises(UserError, match=r"plot_attention=070: the split has no usable utterance .* did you mean 07"):
        evaluate(ask(place, plot_attention="070", output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="does not read 'rounds'"):
        evaluate(ask(place, plot_attention="07", knobs={"rounds": 4}))


def test_of_many_utterances_some_are_named():
    class Cut:
        def __init__(self, name):
            self.id = name

    with pytest.raises(UserError, match="such as u0"):
        utterance_called("zzz", [Cut(f"u{number}") for number in range(100)])
    assert utterance_called("u7", [Cut(f"u{number}") for number in range(100)]).id == "u7"

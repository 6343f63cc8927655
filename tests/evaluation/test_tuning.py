"""A decoder's weights: a grid and its refinement; what was found is taken up again and what was typed stays."""

import json
import logging
import re
from types import SimpleNamespace

import pytest

from asr.errors import UserError
from asr.evaluation.tuning import (
    Point,
    best_of,
    replaced,
    sample,
    search,
    spacing,
    warnings_of_edges,
    write_tuned,
)
from asr.inference.tuned import tuned_file, with_tuned
from asr.model.checkpoint import Checkpoint
from tests.support.splits import recorded, split_of


def valley(lm_weight, word_score):
    """Fewest errors at 1.25 and -0.5."""
    return round(100 * ((lm_weight - 1.25) ** 2 + (word_score + 0.5) ** 2))


def test_the_grid_is_tried_and_then_the_neighbours_of_the_best_at_half_the_distance():
    points = search(valley, [0.0, 1.0, 2.0], [-1.0, 0.0, 1.0], rounds=2)
    assert [(p.lm_weight, p.word_score) for p in points[:9]] == [(w, s) for w in (0, 1, 2) for s in (-1, 0, 1)]
    assert len(points) == len({(p.lm_weight, p.word_score) for p in points}) > 9
    assert (best_of(points).lm_weight, best_of(points).word_score) == (1.25, -0.5)


def test_no_weight_of_a_language_model_is_below_zero():
    points = search(lambda weight, score: round(10 * weight), [0.0, 0.5], [0.0], rounds=3)
    assert min(point.lm_weight for point in points) == 0.0


def test_a_single_pair_is_a_grid_too():
    assert search(valley, [1.0], [0.0], rounds=0) == [Point(1.0, 0.0, valley(1.0, 0.0))]
    assert spacing([3.0]) == 1.0 and spacing([2.0, 0.5, 1.0]) == 0.5


def test_where_units_have_no_score_of_words_only_the_weight_is_searched():
    points = search(lambda weight, score: round(100 * abs(weight - 0.7)), [0, 1], [0.0], 3, words=False)
    assert {point.word_score for point in points} == {0.0} and best_of(points).lm_weight == 0.75


def test_of_equally_good_pairs_the_one_in_their_middle_is_chosen():
    flat = [Point(weight, score, 7) for weight in (0.0, 1.0, 2.0) for score in (-1.0, 0.0, 1.0)]
    assert best_of([*flat, Point(9.0, 9.0, 8)]) == Point(1.0, 0.0, 7)


@pytest.mark.parametrize(
    ("best", "said"),
    [
        (Point(2.0, 0.0, 3), ["lm_weight=2 is the largest"]),
        (Point(1.0, -1.0, 3), ["word_score=-1 is the smallest"]),
        (Point(2.0, 1.0, 3), ["lm_weight=2 is the largest", "word_score=1 is the largest"]),
        (Point(1.0, 0.0, 3), []),
        (Point(0.0, 0.0, 3), []),
    ],
    ids=["weight", "score", "both", "inside", "no weight is below zero"],
)
def test_a_best_pair_at_the_edge_of_what_was_tried_is_said(best, said):
    others = [Point(weight, score, 9) for weight in (0.0, 1.0, 2.0) for score in (-1.0, 0.0, 1.0)]
    sentences = warnings_of_edges([*others, best], best)
    assert [sentence.split(" value tried")[0] for sentence in sentences] == said


def test_a_single_pair_is_not_at_an_edge():
    assert warnings_of_edges([Point(1.0, 0.0, 3)], Point(1.0, 0.0, 3)) == []


SETTINGS = {"name": "lexicon", "lm": None, "lm_weight": 1.0, "word_score": 0.0, "beam_size": 100}


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(
        model=SimpleNamespace(topology=SimpleNamespace(has_blank=True)),
        units=None,
        trained_on={},
        run=tmp_path / "run",
        path=tmp_path / "run",
    )


def tune(checkpoint, name="lm.arpa"):
    points = search(valley, [0.0, 1.0, 2.0], [-1.0, 0.0], rounds=2)
    model = checkpoint.path.parent / name
    model.write_text("a language model")
    facts = {"reference_length": 1000, "metric": "wer", "error_rate": 0.0123}
    return write_tuned(tuned_file(checkpoint, "lexicon"), {**SETTINGS, "lm": str(model)}, points, facts)


def test_what_was_found_is_taken_up_and_what_was_typed_stays(checkpoint):
    assert with_tuned(checkpoint, SETTINGS, []) == SETTINGS
    file, table, picture = tune(checkpoint)
    assert picture.read_bytes()[:4] == b"\x89PNG" and table.read_text().startswith(
        "lm_weight,word_score,errors\n0.0,-1.0,"
    )
    found = with_tuned(checkpoint, SETTINGS, [])
    model = str(checkpoint.path.parent / "lm.arpa")
    assert found == {**SETTINGS, "lm": model, "lm_weight": 1.25, "word_score": -0.5}
    typed = with_tuned(checkpoint, {**SETTINGS, "lm_weight": 3.0}, ["name", "lm_weight"])
    assert typed["lm_weight"] == 3.0 and typed["word_score"] == -0.5
    assert with_tuned(checkpoint, {"name": "greedy"}, []) == {"name": "greedy"}


def test_what_is_taken_up_is_said_and_that_it_was_tuned_for_another_language_model(checkpoint, caplog):
    caplog.set_level(logging.INFO)
    file, *_ = tune(checkpoint)
    model = checkpoint.path.parent / "lm.arpa"
    with_tuned(checkpoint, SETTINGS, [])
    assert f"lm={model}, lm_weight=1.25, word_score=-0.5 of decoder=lexicon from {file}" in caplog.text
    with_tuned(checkpoint, {**SETTINGS, "lm": str(model)}, ["lm"])
    assert "tuned for" not in caplog.text
    with_tuned(checkpoint, {**SETTINGS, "lm": "other.arpa"}, ["lm"])
    assert f"they were tuned for lm={model}" in caplog.text


def test_a_language_model_that_is_gone_is_named_with_the_file_that_names_it(checkpoint):
    file, *_ = tune(checkpoint)
    (checkpoint.path.parent / "lm.arpa").unlink()
    with pytest.raises(UserError, match=f"lm.arpa, named by {re.escape(str(file))}, is gone: give decoder.lm=FILE"):
        with_tuned(checkpoint, SETTINGS, [])


def test_an_earlier_tuning_is_kept_and_what_it_found_is_said(checkpoint):
    file = tuned_file(checkpoint, "lexicon")
    assert replaced(file) is None
    tune(checkpoint)
    before = file.read_text()
    assert "dev WER 1.23% with lm=" in replaced(file) and "lexicon.previous.json" in replaced(file)
    tune(checkpoint, "other.arpa")
    assert file.with_name("lexicon.previous.json").read_text() == before != file.read_text()


def test_settings_that_a_decoder_does_not_have_are_not_taken_from_the_file(checkpoint):
    file = tune(checkpoint)[0]
    content = json.loads(file.read_text())
    content["settings"]["_target_"] = "os.system"
    file.write_text(json.dumps(content))
    assert "_target_" not in with_tuned(checkpoint, SETTINGS, [])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"settings": 3}', '{"settings": {"name": "wfst"}}'])
def test_a_damaged_file_is_said(checkpoint, content):
    file = tune(checkpoint)[0]
    file.write_text(content)
    with pytest.raises(UserError, match="lexicon.json is damaged .*tune again"):
        with_tuned(checkpoint, SETTINGS, [])


def test_a_sample_of_a_split_has_at_most_the_seconds_asked_for_and_spans_it_all(tmp_path):
    from lhotse import Recording

    recordings = []
    for name in "abcdef":
        recorded(tmp_path / f"{name}.wav", 0.1)
        recordings.append(Recording.from_file(tmp_path / f"{name}.wav"))
    split = split_of(*recordings)
    assert split.seconds == pytest.approx(0.6)
    half = sample(split, 0.3)
    assert half.seconds == pytest.approx(0.3) and half.labels == half.references == half.frames == [0, 2, 4, 6, 8, 10]
    assert [cut.id for cut in half.cuts] == [split.cuts[index].id for index in half.labels]
    assert sample(split, 100.0).cuts == split.cuts and len(sample(split, 1e-6).cuts) == 1

"""The attention that picks full or i_clustered, and the measurement behind it."""

from __future__ import annotations

import json
import math
import multiprocessing

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from asr.model.attention import attentions, auto
from asr.model.attention import crossover as calibration
from asr.model.attention.crossover import Crossover, find_crossover, remembered
from asr.runtime.user_cache import user_cache

CLUSTERS = {"clusters": 4, "topk": 3, "bits": 31, "iterations": 2}


@pytest.fixture(autouse=True)
def nothing_measured_yet(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(auto, "_crossovers", {})
    monkeypatch.setattr(auto, "_logged", set())


@pytest.fixture
def measured(monkeypatch):
    """Replaces the clock: i_clustered overtakes at 700 time steps. Lists what was measured."""
    asked = []

    def times(settings, groups, dim, dtype, device, padded):
        asked.append((groups, dim, dtype, padded))
        return lambda length: (length**2 / 700, float(length))

    monkeypatch.setattr(auto, "times", times)
    return asked


def create(name="auto", seed=1, **knobs):
    return attentions.create({"name": name, **(CLUSTERS if name != "full" else {}), **knobs}, seed=seed)


def inputs(time, batch=1, heads=2, dim=8, keys_time=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(time)
    shapes = [time, keys_time or time, keys_time or time]
    return [torch.randn(batch, heads, steps, dim, generator=generator).to(dtype) for steps in shapes]


def test_short_batches_get_full_attention_and_long_ones_i_clustered_of_the_same_seed(measured):
    for time, name in [(auto.SHORTEST, "full"), (690, "full"), (710, "i_clustered"), (1500, "i_clustered")]:
        queries, keys, values = inputs(time)
        assert create().choice(queries) == name
        assert torch.equal(create(seed=5)(queries, keys, values), create(name, seed=5)(queries, keys, values))


def test_nothing_is_measured_for_short_batches(measured):
    create()(*inputs(auto.SHORTEST - 1))
    assert not measured and not calibration.cache_file().exists()


def test_the_choice_is_the_same_in_training_and_evaluation_with_and_without_gradients_and_under_inference_mode(
    measured,
):
    attention = create()
    for time in (600, 800):
        queries, keys, values = inputs(time)
        expected = attention.train()(*(x.clone().requires_grad_() for x in (queries, keys, values))).detach()
        assert torch.equal(attention.eval()(queries, keys, values), expected)
        with torch.inference_mode():
            assert torch.equal(attention(queries, keys, values), expected)
    assert len(measured) == 1


def test_the_time_of_the_whole_batch_counts_and_padding_is_a_case_of_its_own(measured):
    attention = create()
    queries, keys, values = inputs(800, batch=2)
    lengths = torch.tensor([800, 30])
    output = attention(queries, keys, values, lengths)
    assert torch.equal(output, create("i_clustered")(queries, keys, values, lengths))
    alone = attention(queries[1:, :, :30], keys[1:, :, :30], values[1:, :, :30])
    torch.testing.assert_close(alone, create("full")(queries[1:, :, :30], keys[1:, :, :30], values[1:, :, :30]))
    attention(queries, keys, values)
    assert measured == [(4, 8, torch.float32, True), (4, 8, torch.float32, False)]


def test_attention_to_another_sequence_goes_by_the_harmonic_mean_of_the_two_times(measured):
    attention = create()
    for times, name in [((800, 550), "full"), ((800, 650), "i_clustered"), ((30, 100000), "full")]:
        queries, keys, values = inputs(times[0], keys_time=times[1])
        assert attention.choice(queries, keys) == name
    key_lengths = torch.tensor([600])
    queries, keys, values = inputs(800, keys_time=650)
    expected = create("i_clustered")(queries, keys, values, None, key_lengths)
    assert torch.equal(attention(queries, keys, values, None, key_lengths), expected)


def test_it_measures_once_for_every_dtype_dim_number_of_heads_and_setting(measured):
    for _ in range(2):
        create().choice(inputs(600)[0])
        create().choice(inputs(900, batch=1)[0])
        create().choice(inputs(600, batch=20)[0])
        create().choice(inputs(600, dim=4)[0])
        create().choice(inputs(600, dtype=torch.bfloat16)[0])
        create(clusters=5).choice(inputs(600)[0])
    # 40 heads count as no more than fill the processor
    assert [groups for groups, *_ in measured] == [2, max(8, 2 * torch.get_num_threads()), 2, 2, 2]
    assert len(json.loads(calibration.cache_file().read_text())) == 5


def test_layers_share_the_measurement_and_another_process_finds_it_in_the_file(measured, monkeypatch):
    queries = inputs(600)[0]
    assert create(seed=1).choice(queries) == create(seed=2).choice(queries) == "full"
    monkeypatch.setattr(auto, "_crossovers", {})
    assert create().choice(queries) == "full" and create().choice(inputs(800)[0]) == "i_clustered"
    assert len(measured) == 1


def test_the_choice_is_logged_once_for_every_doubling_of_the_length(measured, caplog):
    caplog.set_level("INFO")
    attention = create()
    for time in (20, 300, 600, 610, 900, 1000, 1100, 40):
        attention.choice(inputs(time)[0])
    said = [record.message for record in caplog.records]
    assert said.pop(1).startswith("attention=auto: i_clustered from 700 time steps. ")
    expected = [("full", 20), ("full", 600), ("i_clustered", 900), ("i_clustered", 1100)]
    assert said == [f"attention=auto: {name} at {time} time steps" for name, time in expected]


def test_without_memory_to_measure_in_it_is_full_attention_and_nothing_is_kept(monkeypatch):
    def times(*_):
        def milliseconds(length):
            raise torch.OutOfMemoryError("CUDA out of memory")

        return milliseconds

    monkeypatch.setattr(auto, "times", times)
    assert create().choice(inputs(5000)[0]) == "full"
    assert not calibration.cache_file().exists()


@pytest.mark.parametrize("home", ["/proc/nocache", None])
def test_where_nothing_can_be_kept_it_is_measured_all_the_same_and_that_is_said_once(
    measured, monkeypatch, caplog, home
):
    if home is None:
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", home)
    with caplog.at_level("WARNING"):
        assert [create().choice(inputs(time)[0]) for time in (900, 600, 900)] == ["i_clustered", "full", "i_clustered"]
    assert len(measured) == 1
    (record,) = (one for one in caplog.records if one.name == "asr.runtime.user_cache")
    assert record.message.startswith("What was measured cannot be kept: ")
    assert ("you have no home folder" if home is None else "/proc/nocache/asr/crossovers.json") in record.message


def test_a_real_measurement_leaves_random_numbers_outputs_and_checkpointing_alone(monkeypatch):
    monkeypatch.setattr(calibration, "SECONDS", 0.0)
    monkeypatch.setattr(auto, "LONGEST", auto.SHORTEST)
    queries, keys, values = (x.requires_grad_() for x in inputs(auto.SHORTEST))
    torch.manual_seed(3)
    drawn_before = torch.get_rng_state()
    attention = create()
    output = checkpoint(attention, queries, keys, values, use_reentrant=False)
    gradients = torch.autograd.grad(output.sum(), (queries, keys, values))
    assert torch.equal(torch.get_rng_state(), drawn_before)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        assert attention(queries, keys, values).dtype == torch.bfloat16
    table = json.loads(calibration.cache_file().read_text())
    # on a CPU attention stays in float32 under autocast: one crossover serves both
    assert len(table) == 1 and all(entry["length"] > 0 for entry in table.values())
    assert all(list(entry["milliseconds"]) == [str(auto.SHORTEST)] for entry in table.values())
    attention = create(attention.choice(queries))
    expected = torch.autograd.grad(attention(queries, keys, values).sum(), (queries, keys, values))
    assert all(torch.equal(got, wanted) for got, wanted in zip(gradients, expected))


@pytest.mark.parametrize("overtakes", [513, 600, 1000, 1024, 5000, 20000])
def test_a_crossover_is_found_between_the_lengths_that_are_tried(overtakes):
    tried = []

    def milliseconds(length):
        tried.append(length)
        return length**2 / overtakes, float(length)

    found = find_crossover(milliseconds, 512, 32768)
    assert found.length == pytest.approx(overtakes, rel=1e-6)
    assert sorted(found.milliseconds) == sorted(tried) and len(tried) <= 9


def test_a_crossover_below_the_shortest_length_is_the_shortest_and_beyond_the_longest_it_is_extrapolated():
    assert find_crossover(lambda length: (2.0, 1.0), 512, 32768).length == 512
    beyond = find_crossover(lambda length: (length**2 / 9000, float(length)), 512, 2048)
    assert beyond.length == pytest.approx(9000) and max(beyond.milliseconds) == 2048
    hurried = find_crossover(lambda length: (length**2 / 9000, float(length)), 512, 32768, seconds=-1)
    assert hurried.length == pytest.approx(9000) and list(hurried.milliseconds) == [512]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        "\x00\xff",
        '{"case": 5}',
        '{"case": {"length": "abc", "milliseconds": {}}}',
        '{"case": {"length": -1, "milliseconds": {}}}',
        '{"case": {"length": NaN, "milliseconds": {}}}',
        '{"case": {"length": 1000, "milliseconds": {"512": [1]}}}',
    ],
)
def test_a_broken_file_is_measured_again_and_replaced(content):
    path = calibration.cache_file()
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="latin1")
    found = Crossover(700.0, {512: (1.0, 2.0)})
    assert remembered("case", lambda: found) == found
    assert remembered("case", pytest.fail) == found


def test_other_cases_in_the_file_stay():
    first, second = Crossover(700.0, {512: (1.0, 2.0)}), Crossover(900.0, {})
    remembered("first", lambda: first)
    remembered("second", lambda: second)
    assert remembered("first", pytest.fail) == first and remembered("second", pytest.fail) == second


@pytest.mark.parametrize("given", ["", "relative", "./here"])
def test_a_relative_cache_folder_is_ignored(given, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert user_cache() == tmp_path / ".cache/asr"


def test_where_nothing_can_be_written_it_measures_all_the_same(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = Crossover(700.0, {})
    assert remembered("case", lambda: found) == found


def _measure_slowly(number, answers):
    def find():
        answers.put(("measured", number))
        return Crossover(1000.0 + number, {})

    answers.put(("answer", remembered("case", find).length))


def test_of_several_processes_one_measures_and_all_take_its_answer():
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=_measure_slowly, args=(number, answers)) for number in range(4)]
    for process in processes:
        process.start()
    said = [answers.get(timeout=60) for _ in range(5)]
    for process in processes:
        process.join()
    assert [kind for kind, _ in said].count("measured") == 1
    assert len({length for kind, length in said if kind == "answer"}) == 1


def test_heads_are_counted_as_the_nearest_power_of_two():
    assert [auto.rounded_groups(torch.empty(1, heads, 1, 1)) for heads in (1, 2, 3, 5, 6)] == [1, 2, 4, 4, 8]


def test_the_case_names_what_the_times_depend_on():
    case = create().case(inputs(9, dim=4)[0], padded=True)
    for part in ("1 threads" if torch.get_num_threads() == 1 else "threads", "float32", "dim 4", "batch x heads 2"):
        assert part in case
    for part in (torch.__version__, "by pytorch", ", padded", "clusters 4", "topk 3", "bits 31", "iterations 2"):
        assert part in case
    assert math.isclose(auto.middle_length(700, 700), 700)

"""The benchmark of attentions, on a CPU and with tiny shapes: what it measures is right, not how fast anything is."""

from __future__ import annotations

import csv
import dataclasses
import math
import struct
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import attention_contestants  # noqa: E402
import attention_roofline  # noqa: E402
import attention_tables  # noqa: E402
import benchmark_attention as benchmark  # noqa: E402

from asr.errors import UserError  # noqa: E402
from asr.evaluation.report.plots import GrowthPanel, plot_growth  # noqa: E402
from asr.model.attention import attentions  # noqa: E402

SMALL = [
    "--device",
    "cpu",
    "--lengths",
    "16",
    "24",
    "--batch-heads",
    "6",
    "--dim",
    "8",
    "--runs",
    "2",
    "--seconds",
    "0",
]
COLUMNS = (
    "implementation,device,dtype,length,batch_heads,head_dim,forward_ms,forward_backward_ms,peak_bytes_per_element,"
    "forward_speedup,forward_backward_speedup"
).split(",")


@pytest.fixture
def plugin(monkeypatch):
    """A module with implementations of a user."""
    module = types.ModuleType("plugin")
    module.called = []

    def attend(queries, keys, values):
        module.called.append((tuple(queries.shape), queries.requires_grad, torch.is_grad_enabled()))
        return torch.nn.functional.scaled_dot_product_attention(queries, keys, values)

    def forward_only(queries, keys, values):
        if torch.is_grad_enabled():
            raise NotImplementedError("there is no backward pass")
        return values

    def greedy(queries, keys, values):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    module.attend, module.forward_only, module.greedy = attend, forward_only, greedy
    module.tools = types.SimpleNamespace(attend=attend, number=5)
    monkeypatch.setitem(sys.modules, "plugin", module)
    return module


def run(*options):
    return benchmark.run(benchmark.parse_arguments([*SMALL, *options]))


def results_of(*milliseconds, length=16):
    """[(name, forward)] as results at one shape."""
    shape = benchmark.Shape(1, 6, length, 8)
    return [benchmark.Result(name, shape, {"forward": taken}) for name, taken in milliseconds]


def test_a_run_writes_every_implementation_at_every_length_in_all_three_forms(tmp_path, plugin):
    names = ["full-math", "i_clustered-5", "lsh-1", "plugin:attend"]
    text = run("--implementations", *names, "--output", str(tmp_path / "new" / "table.1"))
    written = tmp_path / "new" / "table.1"
    assert Path(f"{written}.md").read_text() == text
    assert Path(f"{written}.png").read_bytes().startswith(b"\x89PNG")
    with open(f"{written}.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == COLUMNS
    everything = ["sdpa", "sdpa-flash", "sdpa-cudnn", "sdpa-efficient", *names]
    assert [(line["implementation"], line["length"]) for line in lines] == [
        (name, length) for length in ("16", "24") for name in everything
    ]
    for line in lines:
        assert [line[key] for key in ("device", "dtype", "batch_heads", "head_dim")] == ["cpu", "float32", "6", "8"]
        if line["implementation"] in [*names, "sdpa"]:
            assert float(line["forward_ms"]) > 0 and float(line["forward_backward_ms"]) > 0
            assert float(line["forward_speedup"]) > 0 and float(line["forward_backward_speedup"]) > 0
        else:
            assert {line[key] for key in COLUMNS[6:]} == {""} or line["implementation"] == "sdpa-flash"
    for part in (f"torch {torch.__version__}", "float32, dim 8", "batch x heads = 1 x 6", "| plugin:attend |"):
        assert part in text


def test_what_cannot_run_stands_as_a_dash_with_its_reason_and_the_rest_is_measured(plugin):
    names = [
        "plugin:forward_only",
        "plugin:greedy",
        "plugin:missing",
        "nowhere:attend",
        "plugin:tools.number",
        "full-math",
    ]
    text = run("--implementations", *names, "--limit-gib", "0.00001")
    lines = text.split("What stands as –:")[1].split("\n")
    for expected in (
        "- sdpa-cudnn: this backend of PyTorch does not run here",
        "- plugin:forward_only (forward + backward): there is no backward pass",
        "- plugin:greedy: out of memory",
        "- plugin:missing: plugin has no missing. Check its name.",
        "- nowhere:attend: ModuleNotFoundError: No module named 'nowhere'",
        "- plugin:tools.number: It cannot be called: it is of type int. Name a function or a class.",
        "- full-math at 6 x 24: its scores would take 1.29e-05 GiB (--limit-gib 1e-05)",
    ):
        assert expected in lines
    forward, both, memory = (section.split("\n\n")[1] for section in text.split("**, ")[1:4])
    row = {line.split(" | ")[0]: line for line in forward.splitlines()}
    assert row["| plugin:greedy"] == "| plugin:greedy | – | – |" and "–" not in row["| plugin:forward_only"]
    assert row["| full-math"].count("–") == 1
    for section in (both, memory):
        assert "| plugin:forward_only | – | – |" in section


def test_a_users_implementation_gets_tensors_of_batch_heads_time_and_dim(plugin):
    run("--implementations", "plugin:tools.attend", "--batch-heads", "12")
    assert set(plugin.called) == {((2, 6, length, 8), True, grad) for length in (16, 24) for grad in (True, False)}


def test_inputs_are_random_smooth_in_time_and_not_all_the_same():
    shape = benchmark.Shape(2, 3, 500, 8)
    copies = benchmark.make_inputs(shape, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(0))
    assert len(copies) == 1
    queries, keys, values, outgoing = copies[0]
    assert queries.requires_grad and keys.requires_grad and values.requires_grad and not outgoing.requires_grad
    for x in copies[0]:
        assert x.shape == (2, 3, 500, 8) and x.std().item() == pytest.approx(1, abs=0.1)
        neighbours = (x[:, :, 1:] * x[:, :, :-1]).mean() / (x * x).mean()
        assert 0.7 < neighbours.item() < 0.9
    assert not torch.equal(queries, keys)


def test_attentions_with_shared_projections_get_one_tensor_and_its_gradient():
    one = benchmark.implementation("lsh-2")
    assert one.shared_qk and one.call.rounds == 2
    seen = []
    one = dataclasses.replace(one, call=lambda q, k, v: seen.append(k is q) or q * 2 + v)
    copies = benchmark.make_inputs(
        benchmark.Shape(1, 2, 9, 4), torch.float32, torch.device("cpu"), torch.Generator().manual_seed(0)
    )
    for function in benchmark.passes_of(one, copies).values():
        function()
    assert seen == [True, True]


def test_copies_of_the_inputs_take_turns():
    seen = []
    one = benchmark.Implementation("x", lambda q, k, v: seen.append(float(q[0, 0, 0, 0])) or q + k + v)
    copies = [[torch.full((1, 1, 2, 2), float(n), requires_grad=True) for _ in range(3)] + [torch.ones(1, 1, 2, 2)]
              for n in range(3)]  # fmt: skip
    passes = benchmark.passes_of(one, copies)
    for _ in range(4):
        passes["forward"]()
    assert seen == [0, 1, 2, 0]


def test_speedups_are_over_the_fastest_backend_of_the_same_shape():
    results = results_of(("sdpa", 4.0), ("sdpa-flash", 3.0), ("full-math", 1.0), ("i_clustered-100", 1.5))
    results += results_of(("sdpa", 2.0), ("i_clustered-100", 4.0), length=32)
    found = [attention_tables.speedup(result, "forward", results) for result in results]
    assert found == [0.75, 1.0, 3.0, 2.0, 1.0, 0.5]
    assert attention_tables.speedup(results[0], "forward_backward", results) is None
    assert attention_tables.speedup(results[3], "forward", results[2:4]) is None


def test_graph_columns_come_last():
    arguments = benchmark.parse_arguments([*SMALL, "--implementations", "sdpa"])
    arguments.graphs = True
    results = results_of(("sdpa", 4.0), ("clustered-100", 2.0))
    results[1].milliseconds["forward_graph"], results[0].milliseconds["forward_graph"] = 1.0, 3.0
    line = benchmark.rows(results, arguments)[1]
    assert (line["forward_graph_ms"], line["forward_graph_speedup"], line["forward_speedup"]) == ("1", "3", "2")
    assert (
        sorted(line) == sorted(attention_tables.COLUMNS + attention_tables.GRAPH_COLUMNS)
        and attention_tables.COLUMNS == COLUMNS
    )
    assert "**Forward, as a CUDA graph, batch x heads = 1 x 6**" in benchmark.markdown(results, arguments)


def test_peak_memory_is_that_of_forward_and_backward_per_element(plugin):
    def hungry(queries, keys, values):
        table = torch.ones(2**24)  # 64 MiB
        return queries + keys + values + table[0]

    plugin.hungry = hungry
    arguments = benchmark.parse_arguments([*SMALL, "--implementations", "plugin:hungry"])
    shape = benchmark.Shape(1, 6, 16, 8)
    results = benchmark.measure(["plugin:hungry"], shape, arguments, torch.Generator())
    assert 2**26 * 0.9 < results[0].peak * shape.elements < 2**26 * 1.3


def test_all_take_turns_and_the_median_counts(monkeypatch):
    order, clock = [], iter([5.0, 50.0, 1.0, 10.0, 3.0, 30.0])
    monkeypatch.setattr(benchmark, "sample", lambda function, calls, device: function() or next(clock))
    results = results_of(("a", 0.0), ("b", 0.0))
    tasks = [
        benchmark.Task(result, "forward", lambda name=result.name: order.append(name), passes_each)
        for result, passes_each in zip(results, (1, 10))
    ]
    benchmark.time_in_rounds(tasks, torch.device("cpu"), least_rounds=3, seconds=0.0)
    assert order == ["a", "b"] * 3
    assert [result.milliseconds["forward"] for result in results] == [3.0, 3.0]


def test_one_that_breaks_down_while_it_is_timed_gets_its_reason():
    results = results_of(("a", 0.0), ("b", 0.0))
    for result in results:
        result.milliseconds.clear()

    def breaks():
        raise RuntimeError("CUDA error: too hot\nmore")

    tasks = [benchmark.Task(results[0], "forward", breaks), benchmark.Task(results[1], "forward", lambda: None)]
    benchmark.time_in_rounds(tasks, torch.device("cpu"), least_rounds=2, seconds=0.0)
    assert results[0].reasons == {"forward": "CUDA error: too hot"} and not results[0].milliseconds
    assert results[1].milliseconds and not results[1].reasons


def test_a_backend_that_refuses_says_why_in_one_line():
    error = RuntimeError("No available kernel. Aborting execution.")
    warned = [
        "Memory efficient kernel not used because: (Triggered internally at /a/b.h:840.)",
        "Memory Efficient attention has been runtime disabled. (Triggered internally at /a/b.h:550.)",
        "Flash attention kernel not used because: (Triggered internally at /a/b.h:842.)",
        "Expected query, key and value to all be of dtype: {Half, BFloat16}. (Triggered internally at /a/b.h:100.)",
    ]
    assert benchmark.reason(error, warned) == (
        "this backend of PyTorch does not run here; Expected query, key and value to all be of dtype: {Half, BFloat16}."
    )
    assert len(benchmark.reason(RuntimeError("x" * 1000))) == 298
    assert benchmark.reason(RuntimeError()) == ""


def test_what_is_not_begun_in_time_stands_as_a_dash():
    text = run("--implementations", "sdpa", "--minutes", "0")
    assert "| sdpa | – | – |" in text and "- sdpa: not begun within --minutes 0" in text


def test_heads_are_six_where_that_divides_or_as_asked():
    arguments = benchmark.parse_arguments(SMALL)
    shapes = [benchmark.shape_of(groups, 16, arguments) for groups in (96, 6, 8)]
    assert [(shape.batch, shape.heads) for shape in shapes] == [(16, 6), (1, 6), (1, 8)]
    arguments = benchmark.parse_arguments([*SMALL, "--heads", "3"])
    assert benchmark.shape_of(6, 16, arguments).batch == 2


def test_options_that_make_no_sense_are_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for options, message in {
        (
            "--implementations",
            "i_clusterd-100",
        ): "There is no implementation called 'i_clusterd-100': did you mean i_clus",
        ("--implementations", "sdpa_flash"): "sdpa-flash",
        ("--implementations", "full-3"): "no number to set",
        ("--device", "cuda"): "There is no GPU here",
        ("--graphs",): "--graphs is for CUDA graphs",
        ("--lengths", "0"): "--lengths takes whole numbers of 1 or more, not 0",
        ("--batch-heads", "-6"): "--batch-heads takes whole numbers",
        ("--heads", "4"): "--batch-heads 6 cannot be split into sequences of 4 heads",
    }.items():
        with pytest.raises(UserError, match=message):
            benchmark.parse_arguments([*SMALL, *options])


@pytest.mark.run
def test_on_the_command_line_a_mistake_is_a_sentence():
    command = [sys.executable, str(SCRIPTS / "benchmark_attention.py"), *SMALL, "--implementations", "fool"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("benchmark_attention.py: There is no implementation called 'fool': did you mean full")


def test_the_roofline_adds_floors_by_stage_and_ends_with_what_they_explain(monkeypatch):
    rates = attention_roofline.Rates(1e12, 2e12, 1e11)
    monkeypatch.setattr(attention_roofline, "measured_rates", lambda *_: rates)
    text = run("--implementations", "sdpa", "i_clustered-5", "clustered-5", "--lengths", "40", "--roofline")
    section = text.split("## Floors by stage")[1]
    for label in ("i_clustered-5", "clustered-5"):
        assert f"**{label} at 6 x 40**" in section
    assert "| forward | members |" in section and "| backward | sums of members |" in section
    assert section.rstrip().splitlines()[-1].startswith("- clustered-5 at 6 x 40: ")


def test_floors_count_the_work_of_the_paper():
    """Vyas et al. 2020, table 1: k-means N C L B, attention of centroids N C D, of members N k D."""
    sizes = {"groups": 96, "length": 2048, "dim": 64, "clusters": 100, "topk": 32, "iterations": 10, "element": 2}
    passes = attention_roofline.stages(**sizes, on_gpu=True)
    forward = {stage.name: stage for stage in passes["forward"]}
    backward = {stage.name: stage for stage in passes["backward"]}
    steps = 96 * 2048
    assert forward["k-means, 10 iterations"].flops == 21 * 2 * steps * 100 * 64
    assert forward["centroid attention"].flops == 4 * steps * 100 * 64
    assert forward["members"].flops == 4 * steps * 32 * 64
    assert backward["centroid attention"].flops == 10 * steps * 100 * 64
    assert backward["members"].flops == 10 * steps * 32 * 64
    # every input is read and every result written
    assert forward["hash"].bytes == steps * (64 * 2 + 64 * 2)
    rates = attention_roofline.Rates(1e12, 2e12, 1e12)
    assert attention_roofline.floor_ms(forward["members"], rates)[1] == "arithmetic"
    milliseconds, bound = attention_roofline.floor_ms(forward["k-means, 10 iterations"], rates)
    assert milliseconds == pytest.approx(21 * 2 * steps * 100 * 64 / 2e9) and bound == "arithmetic"
    twice = attention_roofline.stages(**(sizes | {"length": 4096}), on_gpu=True)
    for name, here in passes.items():
        for before, after in zip(here, twice[name]):
            assert before.flops * 1.9 <= after.flops <= before.flops * 2 and after.bytes <= before.bytes * 2


def test_time_of_kernels_goes_to_their_stages_and_of_others_to_the_rest():
    passes = attention_roofline.stages(6, 512, 64, 100, 32, 10, 2, on_gpu=True)
    kernels_ms = {
        "forward": {"hash_kernel": 1.0, "vote_kernel": 2.0, "assign_kernel_0d1d2d": 3.0, "Memset (Device)": 0.5},
        "backward": {
            "centroid_backward_kernel": 4.0,
            "member_backward_kernel": 5.0,
            "void at::native::f<4>(int)": 0.25,
        },
    }
    times = attention_roofline.stage_times(passes, kernels_ms)
    named = dict(zip([stage.name for stage in passes["forward"]], times["forward"]))
    assert named["hash"] == 1.0 and named["k-means, 10 iterations"] == 5.0 and named["means"] is None
    assert times["forward"][-1] == 0.5 and times["backward"][-1] == 0.25
    assert times["backward"][0] == 5.0 and 4.0 in times["backward"]


@pytest.mark.parametrize("topk, seeds", [(0, None), (8, None), (8, "path"), (0, "plusplus")])
def test_the_stages_name_every_kernel_that_is_launched(topk, seeds):
    pytest.importorskip("triton")
    from asr.kernels.gpu.clustered import improved_clustered_attention
    from asr.kernels.gpu.launch import recording
    from asr.kernels.hashing import draw_planes

    leaves = [torch.zeros(1, 2, 70, 16, requires_grad=True) for _ in range(3)]
    launched = {"forward": [], "backward": []}
    space = "queries" if seeds else draw_planes(63, 16, 0, torch.device("cpu"))
    with recording(launched["forward"].append):
        output = improved_clustered_attention(*leaves, None, None, space, 10, 3, topk, seeds=seeds or "even")
    with recording(launched["backward"].append):
        torch.autograd.grad(output, leaves, torch.zeros_like(output))
    passes = attention_roofline.stages(2, 70, 16, 10, topk, 3, 4, on_gpu=True)
    for name, here in passes.items():
        known = {kernel for stage in here for kernel in stage.kernels}
        found = {launch.kernel.fn.__name__ for launch in launched[name]}
        assert found and found <= known
        assert all(found & set(stage.kernels) or stage.name == "grouping" for stage in here)


def test_iterations_are_counted_until_k_means_has_settled():
    attention = attentions.create({"name": "clustered", "clusters": 4, "iterations": 50})
    queries = torch.randn(2, 3, 60, 8, generator=torch.Generator().manual_seed(1))
    assert 1 <= attention_roofline.iterations_until_settled(attention, queries) < 50
    assert attention_roofline.iterations_until_settled(attention, queries[:, :, :1].expand(-1, -1, 60, -1)) == 1
    attention = attentions.create({"name": "clustered", "clusters": 4, "iterations": 0})
    assert attention_roofline.iterations_until_settled(attention, queries) == 0


def size_of(png):
    return struct.unpack(">II", png.read_bytes()[16:24])


def test_growth_is_drawn_in_rows_of_panels(tmp_path):
    lines = {"sdpa": {512: 1.0, 1024: 2.0}, "clustered-100": {512: 3.0, 1024: math.nan}, "lsh-1": {}}
    panels = [GrowthPanel(f"Panel {number}", "Time (ns)", lines) for number in range(4)]
    one = size_of(plot_growth(panels[:1], tmp_path / "1.png", ["sdpa", "clustered-100"], ["sdpa"]))
    row = size_of(plot_growth(panels[:3], tmp_path / "3.png", ["sdpa", "clustered-100"], ["sdpa"]))
    rows = size_of(plot_growth(panels, tmp_path / "4.png", ["sdpa", "clustered-100"], ["sdpa"]))
    assert one[0] < row[0] == rows[0] and one[1] == row[1] < rows[1]


def test_growth_without_a_value_is_refused(tmp_path):
    with pytest.raises(UserError, match="nothing to draw"):
        plot_growth([GrowthPanel("Panel", "Time", {"a": {512: 0.0}})], tmp_path / "p.png", ["a"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("length, window", [(37, 8), (16, 16), (5, 9)])
def test_sliding_chunks_are_attention_to_a_window(length, window):
    queries, keys, values = (torch.randn(2, 3, length, 4, requires_grad=True) for _ in range(3))
    steps = torch.arange(length)
    near = (steps[:, None] - steps).abs() <= window
    wanted = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=near)
    found = benchmark.implementation(f"nemo-local-{window}").call(queries, keys, values)
    torch.testing.assert_close(found, wanted)
    grads = [torch.autograd.grad(x.square().sum(), [queries, keys, values]) for x in (found, wanted)]
    for one, other in zip(*grads):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_flex_attention_is_for_a_gpu_and_a_window_has_a_width():
    x = torch.randn(1, 1, 8, 4)
    with pytest.raises(UserError, match="no backward pass on a CPU"):
        benchmark.implementation("flex-local-4").call(x, x, x)
    with pytest.raises(UserError, match="how far the window reaches"):
        attention_contestants.windowed("flex-local-wide")


def test_the_longest_recording_is_the_one_whose_memory_is_full():
    linear = benchmark.Result("clustered", benchmark.Shape(1, 4, 1000, 64), {"forward_backward": 1.0}, 976.0)
    # 8 tensors of 64 numbers of 2 bytes, and 976: 2000 bytes for each step of each of 4 heads, of 72 GB.
    assert attention_tables.longest_that_fits(linear, 80) == pytest.approx(9e6)
    square = dataclasses.replace(linear, holds_scores=True)
    steps = attention_tables.longest_that_fits(square, 80)
    assert 4 * (1024 * steps + 0.976 * steps**2) == pytest.approx(72e9)
    assert "| clustered | 4 x 1000 | 1 | 0.0039 | 9e+06 | 1.6e+07 |" in attention_tables.by_layer([linear])


def test_silence_makes_steps_equal():
    generator = torch.Generator().manual_seed(0)
    shape = benchmark.Shape(1, 2, 20, 4)
    ((queries, *_),) = benchmark.make_inputs(shape, torch.float32, torch.device("cpu"), generator, silence=0.5)
    assert (queries[:, :, :10] == queries[:, :, :1]).all() and not (queries[:, :, 10] == queries[:, :, 0]).all()


def test_estimates_stand_beside_what_was_measured_at_their_shape(tmp_path, monkeypatch):
    monkeypatch.setattr(attention_roofline, "ESTIMATES", tmp_path / "estimates.json")
    (tmp_path / "estimates.json").write_text('{"scan_kernel": {"2048": 20.0}, "hash_kernel": {"2048": 5.0}}')
    measured = {"scan_kernel_0d1d": 0.030, "mark_kernel": 0.010}
    lines = attention_roofline.model_beside("i_clustered-100", (16, 6, 2048, 64), measured)
    assert lines[3:] == ["| scan_kernel | 20 | 30 | 1.50 |"]
    assert attention_roofline.model_beside("i_clustered-100", (1, 6, 2048, 64), measured) == []
    assert attention_roofline.model_beside("clustered-100", (16, 6, 2048, 64), measured) == []

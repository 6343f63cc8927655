"""The checks of kernels without a GPU find what they are there for, with kernels made for the purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import check_kernels  # noqa: E402

from asr.kernels.gpu.compiled import Resources, compile_ahead, distinct_launches  # noqa: E402
from asr.kernels.gpu.launch import INTERPRETED, launch  # noqa: E402

compiling = pytest.mark.skipif(INTERPRETED, reason="Triton's interpreter takes the compiler's place")


@triton.jit
def scale_kernel(x, weights, amount, SIZE: tl.constexpr):
    """x * weights + x * sum(x * weights): both must be held until the sum is known."""
    places = tl.arange(0, SIZE)
    here = tl.load(x + places)
    if weights is not None:
        weight = tl.load(weights + places)
        here = here * weight + here * tl.sum(here * weight)
    tl.store(x + places, here * amount)


def scale(size=64, dtype=torch.float32, weights=None, amount=3, warps=1):
    arguments = {"x": torch.empty(size, dtype=dtype), "weights": weights, "amount": amount, "SIZE": size}
    launch(scale_kernel, (1,), warps=warps, **arguments)


@compiling
def test_launches_count_once_if_the_compiler_cannot_tell_them_apart():
    assert len(distinct_launches(lambda: [scale(), scale(), scale(amount=5)])) == 1
    different = [{}, {"size": 128}, {"dtype": torch.float16}, {"weights": torch.empty(64)}, {"warps": 2}]
    different += [{"amount": 1}, {"amount": 16}, {"amount": 2**40}, {"amount": 0.5}]
    assert len(distinct_launches(lambda: [scale(**settings) for settings in different])) == len(different)


@compiling
def test_what_fits_into_registers_has_no_stack_and_what_does_not_has_one(tmp_path, monkeypatch):
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    small, large = distinct_launches(
        lambda: [scale(), scale(size=16384, weights=torch.empty(16384))],
    )
    for capability in (80, 100):
        resources = compile_ahead(small, capability)
        assert resources.stack == 0 and 0 < resources.registers < 64 and resources.products == ()
    assert compile_ahead(large, 90).stack > 0


def compiled(stack=0, shared=0, target=90, error="", dtype="float32"):
    resources = None if error else Resources(100, stack, shared, ("wgmma",), 1.0)
    return check_kernels.Compiled("some.kernel", (("clustered-100", dtype, 64),), 4, target, resources, error)


def test_problems_name_spills_errors_and_too_much_shared_memory():
    assert check_kernels.problems([compiled(), compiled(shared=227 * 1024)], []) == []
    found = check_kernels.problems([compiled(stack=8), compiled(stack=16, target=80)], [])
    assert found == ["some.kernel (float32, dim 64) spills registers: 16 bytes on sm_80, 8 bytes on sm_90"]
    assert "164 of 163 KB on sm_80" in check_kernels.problems([compiled(shared=164 * 1024, target=80)], [])[0]
    assert "does not compile for sm_90: why" in check_kernels.problems([compiled(error="why")], [])[0]


def test_an_exemption_holds_for_its_kernel_dtype_and_targets_up_to_its_stack():
    exemption = check_kernels.Exemption("some.kernel", "float32", (90,), 16, "the reason")
    assert check_kernels.problems([compiled(stack=16)], [exemption]) == []
    for other in (compiled(stack=24), compiled(stack=8, target=80), compiled(stack=8, dtype="bfloat16")):
        assert len(check_kernels.problems([other], [exemption])) == 1
    assert "the reason" in check_kernels.table([compiled(stack=16)], [exemption])


def test_the_table_shows_the_highest_of_all_variants_by_target():
    text = check_kernels.table([compiled(stack=8, shared=2048), compiled(shared=4096), compiled(target=80)], [])
    assert "| some.kernel | clustered | float32 | 64 | 2 | 4 | 100 / 0 / 0 wgmma | 100 / **8** / 4 wgmma |" in text


def double(number):
    if number == 3:
        os._exit(1)
    return 2 * number


def test_a_crash_of_the_compiler_costs_only_what_crashed():
    assert check_kernels.in_processes(double, [1, 2, 3, 4, 5], 2, crashed="crash") == [2, 4, "crash", 8, 10]


def test_every_step_has_a_case():
    assert check_kernels.kernel_cases.steps_without_case(check_kernels.CASES) == []
    fewer = [case for case in check_kernels.CASES if not case.label.startswith("lsh")]
    assert check_kernels.kernel_cases.steps_without_case(fewer) == ["asr.kernels.lsh.lsh_attention"]


def test_smoke_takes_fewer_steps_and_gpus_and_tests_that_there_are(monkeypatch):
    commands = []
    monkeypatch.setattr(
        check_kernels.subprocess,
        "run",
        lambda command, **_: commands.append(command) or subprocess.CompletedProcess(command, 0),
    )
    every, smoke = (check_kernels.parse_arguments(options) for options in ([], ["--smoke"]))
    for arguments in (every, smoke):
        assert arguments.compile and arguments.interpret and arguments.dtypes == ["bfloat16", "float32"]
        assert check_kernels.check_in_interpreter(2, arguments.smoke) == []
    assert smoke.targets == [80, 120] and every.targets == [80, 86, 89, 90, 100, 120]
    whole, few = ([test for test in command if test.startswith("tests/")] for command in commands)
    assert {name.partition("::")[0] for name in few} < set(whole)
    for file, _, name in (test.partition("::") for test in few):
        assert f"\ndef {name}(" in (check_kernels.ROOT / file).read_text()


def test_smoke_and_full_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        check_kernels.parse_arguments(["--smoke", "--full"])
    assert "not allowed with" in capsys.readouterr().err


@compiling
def test_smoke_compiles_its_own_steps_and_the_report_says_with_which_versions(tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # so that what the check sets is taken back
    monkeypatch.setattr(check_kernels, "compile_all", lambda *given: seen.append(given) or ([compiled()], []))
    report = tmp_path / "report.md"
    options = ["--smoke", "--compile", "--output", str(report), "--cache", str(tmp_path / "cache")]
    assert check_kernels.check_compilation(check_kernels.parse_arguments(options)) == []
    ((cases, inputs, targets, _, whole),) = seen
    assert not whole
    assert cases is check_kernels.SMOKE_CASES and targets == [80, 120] and {x.dim for x in inputs} == {64}
    for text in (capsys.readouterr().out, report.read_text()):
        assert f"1 binaries by Triton {triton.__version__}, PyTorch {torch.__version__}, NumPy" in text

"""What is run on a machine with a GPU, as far as that can be told without one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.run

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import missing_wheels  # noqa: E402
import profile_attention  # noqa: E402

from asr.errors import UserError  # noqa: E402


def write_wheel(folder, name, *requirements):
    path = folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        lines = [
            "Metadata-Version: 2.1",
            f"Name: {name}",
            "Version: 1.0",
            *(f"Requires-Dist: {r}" for r in requirements),
        ]
        archive.writestr(f"{name.replace('-', '_')}-1.0.dist-info/METADATA", "\n".join(lines) + "\n")


def test_what_is_installed_is_not_missing(tmp_path):
    assert missing_wheels.find_missing(["pytest==1.0", "torch"], tmp_path) == ([], [])


def test_wheels_in_the_folder_are_told_from_those_that_lack_and_their_own_needs_are_followed(tmp_path):
    write_wheel(tmp_path, "one-thing", "pytest", "another_thing>=2", "unheard-of>1; extra == 'more'", "no-wheel<3")
    write_wheel(tmp_path, "another-thing")
    missing = missing_wheels.find_missing(["One_Thing==1.0", "third-thing==5"], tmp_path)
    assert missing.beside == ["another-thing", "one-thing"]
    assert missing.lacking == ["no-wheel<3", "third-thing==5"]


def test_what_a_missing_package_needs_is_named_before_its_wheel_is_there(tmp_path):
    missing = missing_wheels.find_missing(["soundfile>=0.12"], tmp_path, installed=lambda name: name == "pycparser")
    assert missing.lacking == ["cffi", "soundfile>=0.12"]
    write_wheel(tmp_path, "soundfile", "cffi>=1")
    missing = missing_wheels.find_missing(["soundfile>=0.12"], tmp_path, installed=lambda name: name == "pycparser")
    assert missing.beside == ["soundfile"] and missing.lacking == ["cffi>=1"]


CONSTRAINTS = """# Versions that work together.
Soundfile==0.14.0
audioop-lts==0.2.2 ; python_version >= "3.13"

numpy==2.3.5 ; python_version < "3.13"  # until Triton's interpreter takes 2.4
numpy==2.4.1 ; python_version >= "3.13"
"""


@pytest.mark.parametrize(
    "python, versions",
    [("3.12", ["soundfile==0.14.0", "numpy==2.3.5", "audioop_lts>=0.2", "unheard-of"]),
     ("3.13", ["soundfile==0.14.0", "numpy==2.4.1", "audioop-lts==0.2.2", "unheard-of"])],
)  # fmt: skip
def test_versions_are_those_of_the_constraints_for_that_python(python, versions, tmp_path):
    file = tmp_path / "constraints.txt"
    file.write_text(CONSTRAINTS)
    wanted = ["soundfile", "NumPy>=2", "audioop_lts>=0.2", "unheard-of"]
    found = missing_wheels.pinned(wanted, missing_wheels.versions_in(file, python))
    assert [one.lower() for one in found] == versions


@pytest.mark.parametrize("line", ["numpy>=2", "numpy", "numpy==2,<3", "-r others.txt", "numpy==2 ; when it rains"])
def test_a_constraint_that_is_no_exact_version_is_named_with_its_line(line, tmp_path):
    file = tmp_path / "constraints.txt"
    file.write_text(f"cffi==2.1.1\n{line}\n")
    with pytest.raises(UserError, match=f"constraints.txt, line 2: expected name==version .*{re.escape(repr(line))}"):
        missing_wheels.versions_in(file, "3.12")


def test_without_constraints_a_sentence_says_what_writes_them(tmp_path):
    with pytest.raises(UserError, match="nowhere.txt cannot be read .*Write it with scripts/lock_versions.py"):
        missing_wheels.versions_in(tmp_path / "nowhere.txt", "3.12")


def test_download_lines_name_every_lacking_wheel_and_build_what_has_none(tmp_path):
    requirements = ["antlr4-python3-runtime==4.9.3", "cffi==2", "no-wheel<3"]
    download, build = missing_wheels.download_lines(requirements, Path("wheels"), "3.12")
    assert download.startswith("pip download") and "--python-version 3.12" in download
    assert download.endswith("-d wheels cffi==2 'no-wheel<3'")
    assert build == "pip wheel --no-deps -w wheels antlr4-python3-runtime==4.9.3"


def test_wheels_are_installed_into_a_folder_of_their_own(tmp_path):
    pytest.importorskip("pip")
    wheels, target = tmp_path / "wheels", tmp_path / "target"
    wheels.mkdir()
    path = wheels / "lonely-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("lonely.py", "alone = True\n")
        archive.writestr("lonely-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: lonely\nVersion: 1.0\n")
        archive.writestr("lonely-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("lonely-1.0.dist-info/RECORD", "")
    missing_wheels.install(["lonely"], wheels, target)
    assert (target / "lonely.py").read_text() == "alone = True\n"


def on_gpu(*arguments):
    environment = os.environ | {"PYTHON": sys.executable}
    command = ["bash", str(SCRIPTS / "on_gpu.sh"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_nothing_is_measured_and_a_sentence_says_why(tmp_path):
    done = on_gpu(tmp_path / "results")
    assert done.returncode == 1 and "there is no GPU here" in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_dry_run_says_the_command_of_every_step_and_runs_none(tmp_path):
    done = on_gpu(tmp_path / "results", "--dry-run", "--quick", "--revision", "abc123")
    assert "- revision: abc123\n" in done.stdout
    for script in (
        "benchmark_attention.py",
        "profile_attention.py",
        "check_kernels.py --run",
        "train.py attention=lsh",
    ):
        assert script in done.stdout
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("arguments", [[], ["--sideways", "results"]])
def test_without_a_folder_or_with_an_unknown_option_it_says_how_it_is_called(arguments):
    done = on_gpu(*arguments)
    assert done.returncode == 2 and "scripts/on_gpu.sh results/" in done.stderr


def test_a_profile_adds_up_the_launches_of_a_kernel_and_shares_out_the_time():
    kernels = profile_attention.by_kernel([("short", 1.0), ("long", 5.0), ("short", 2.0), ("long", 4.0)], passes=2)
    assert kernels == [("long", 1.0, 4.5), ("short", 1.0, 1.5)]
    lines = profile_attention.table(kernels, elapsed=10.0)
    assert "| long | 1 | 4.5 | 75.0 % |" in lines and "| all kernels | 2 | 6.0 | 100.0 % |" in lines
    assert lines[-1].endswith("| 10.0 | |")

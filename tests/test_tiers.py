"""Every test is of exactly one tier (tests/conftest.py), and unit tests start no process, as far as their own files show."""

import ast
from pathlib import Path

from tests.conftest import TIERS

TESTS = Path(__file__).resolve().parent
STARTING = {"subprocess": {"run", "Popen", "check_output", "check_call"}, "programs": {"run"}}


def test_every_test_is_of_one_tier(request):
    assert len(request.session.items) > 0
    for item in request.session.items:
        tiers = [tier for tier in TIERS if item.get_closest_marker(tier)]
        assert len(tiers) == 1, f"{item.nodeid}: {tiers}"


def marked(node: ast.AST) -> bool:
    """Whether a decorator, or what a file calls `pytestmark`, puts tests into a tier."""
    return any(isinstance(inner, ast.Attribute) and inner.attr in ("run", "soak") for inner in ast.walk(node))


def starts(node: ast.AST) -> bool:
    """Whether code calls what starts a process."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute):
            owner = getattr(inner.func.value, "id", None)
            if inner.func.attr in STARTING.get(owner or "", ()):
                return True
    return False


def unit_tests_with_processes(source: str) -> list[str]:
    """The tests of a file that are in no tier of processes but start one, by themselves, a fixture or a function of the file."""
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "pytestmark" and marked(node.value):
            return []
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    used = {
        name: {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        | {argument.arg for argument in node.args.args}
        for name, node in functions.items()
    }
    starting = {name for name, node in functions.items() if starts(node)}
    while more := {name for name in functions if name not in starting and used[name] & starting}:
        starting |= more
    return sorted(
        name for name in starting if name.startswith("test_") and not any(map(marked, functions[name].decorator_list))
    )


def test_unit_tests_start_no_process():
    found = {
        file.relative_to(TESTS).as_posix(): names
        for file in sorted(TESTS.rglob("test_*.py"))
        if (names := unit_tests_with_processes(file.read_text(encoding="utf8")))
    }
    assert not found, f"mark them with @pytest.mark.run: {found}"


def test_a_process_is_found_behind_fixtures_and_functions():
    source = """
import subprocess
def helper(): subprocess.run(["true"])
@pytest.fixture
def place(): helper()
def test_one(place): pass
def test_two(): monkeypatch.setattr(subprocess, "run", print)
@pytest.mark.run
def test_three(): helper()
"""
    assert unit_tests_with_processes(source) == ["test_one"]
    assert unit_tests_with_processes("pytestmark = pytest.mark.run\n" + source) == []
    assert unit_tests_with_processes("pytestmark = [pytest.mark.soak]\n" + source) == []
    assert unit_tests_with_processes("pytestmark = pytest.mark.smoke\n" + source) == ["test_one"]

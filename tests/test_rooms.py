"""The rooms of the house: imports run one way, and there is no circle. Read off the import statements themselves."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# from the ground up: a room imports only from those before it
ROOMS = (
    "kernels", "errors", "registry", "runtime", "config", "audio", "scoring", "text", "cli", "model", "data", "inference",
    "evaluation", "training", "programs",
)  # fmt: skip
LOOSE = {"__init__.py", "__main__.py", "errors.py", "registry.py"}
LONGEST = 400  # lines; a longer file says "Long because …" in its docstring


def modules() -> dict[str, Path]:
    """Every module of `asr` by its dotted name; `asr.kernels` is a link to the folder `kernels`."""
    found = {}
    for top, prefix in (("asr", ""), ("kernels", "asr.")):
        for file in sorted((ROOT / top).rglob("*.py")):
            dotted = prefix + ".".join(file.relative_to(ROOT).with_suffix("").parts)
            found[dotted.removesuffix(".__init__")] = file
    return found


MODULES = modules()


def imports_of(module: str) -> set[str]:
    """The modules of ours that a module imports anywhere in its file, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: imports are written out, not relative"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found & MODULES.keys()


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "asr"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_the_rooms_below_it(room):
    above = set(ROOMS[ROOMS.index(room) + 1 :])
    upwards = [
        f"{module} imports {other}"
        for module in MODULES
        if room_of(module) == room
        for other in imports_of(module)
        if room_of(other) in above
    ]
    assert not upwards, "\n".join(upwards)


def test_every_room_has_its_place_in_the_order_and_few_files_lie_outside_of_rooms():
    assert {room_of(module) for module in MODULES} <= {*ROOMS, "asr", "__main__"}
    assert {file.name for file in (ROOT / "asr").glob("*.py")} <= LOOSE


def test_no_function_of_training_has_more_than_ten_parameters():
    for module in MODULES:
        if room_of(module) == "training":
            for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf8"))):
                if isinstance(node, ast.FunctionDef | ast.Lambda):
                    given = node.args
                    every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
                    assert len(every) <= 10, f"{module}: {getattr(node, 'name', 'lambda')} has {len(every)} parameters"


def test_no_import_comes_round_to_where_it_began():
    """Depth-first: a module that is met again while its own imports are being followed closes a circle."""
    done: set[str] = set()

    def follow(module: str, path: list[str]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        for other in sorted(imports_of(module)):
            follow(other, [*path, module])
        done.add(module)

    for module in MODULES:
        follow(module, [])


def too_long(source: str) -> bool:
    """Whether a file is longer than it may be and its docstring does not say why."""
    if len(source.splitlines()) <= LONGEST:
        return False
    return not re.search(r"\bLong because\s+\w+", ast.get_docstring(ast.parse(source)) or "")


def test_no_file_is_long_without_a_reason():
    files = [file for folder in ("asr", "kernels", "scripts") for file in (ROOT / folder).rglob("*.py")]
    files += ROOT.glob("*.py")
    long = sorted(str(file.relative_to(ROOT)) for file in files if too_long(file.read_text(encoding="utf8")))
    assert not long, f"over {LONGEST} lines, with no docstring that says 'Long because …'"
    assert too_long("\n" * (LONGEST + 1)) and not too_long("\n" * LONGEST)
    assert not too_long('"""One idea.\n\nLong because\nit is one."""' + "\n" * LONGEST)

"""What the README and the docs say holds: links lead somewhere, commands are taken, every setting is in the reference."""

import re
import shlex
import sys
from pathlib import Path
from types import CodeType

import pytest
import soundfile
import yaml

from asr.config.checks import check_overrides
from asr.config.comments import NOT_OURS
from asr.config.hydra_settings import search_folders
from asr.config.overrides import as_hydra_takes
from asr.config.settings import CONF, OWN, groups
from asr.errors import UserError
from asr.model.attention import attentions
from tests.support.tones import RATE, tone_model, tones

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import settings_reference  # noqa: E402
import site_pages  # noqa: E402

PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")])
# their commands are examples with new parts, and those of earlier revisions
LINKING = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "results/README.md"]
NAMES = {program: name for name, program in settings_reference.PROGRAMS.items()}
ALIASES = {"cross_evaluate": {"attention": "attentions"}}  # as its @command has them
# words in commands that stand for something of the reader's
PLACEHOLDERS = ("…", "...", "UTTERANCE")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands_of(page: Path) -> list[str]:
    """The command lines of a page that run Python programs of ours, in blocks and in sentences, without what precedes them."""
    text = page.read_text(encoding="utf8")
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]
    lines += [" ".join(inline.split()) for inline in re.findall(r"`((?:python|\.venv)[^`]+)`", text)]
    found = []
    for line in lines:
        for command in re.split(r"\s+#", line)[0].split(" && "):
            if match := re.match(r"(?:\.venv/bin/)?python ((?:scripts/)?\w+\.py\b.*)", command):
                found.append(match[1])
    return found


COMMANDS = [(name_of(page), command) for page in PAGES for command in commands_of(page)]


@pytest.mark.parametrize("page", LINKING, ids=name_of)
def test_every_relative_link_leads_to_a_file(page):
    generated = {ROOT / "docs" / name for name in site_pages.GENERATED}
    for _, target, _ in site_pages.LINK.findall(page.read_text(encoding="utf8")):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target) or not path:
            continue
        there = (page.parent / path).resolve()
        assert there.exists() or there in generated, f"{target} leads nowhere"
        if there.parent == ROOT / "docs" / "reference" and anchor:
            assert f"\n## {anchor}\n" in settings_reference.reference(), f"the reference has no section {anchor}"


def test_the_pages_have_commands():
    assert len(COMMANDS) > 50
    assert {command.split()[0] for _, command in COMMANDS} >= {"train.py", "evaluate.py", "transcribe.py"}


@pytest.mark.parametrize("page, command", COMMANDS, ids=lambda text: text[:60])
def test_every_command_is_one_that_the_program_takes(page, command, own_files):
    program, *arguments = shlex.split(command)
    own_files(page, arguments)
    arguments = [argument for argument in arguments if argument not in PLACEHOLDERS]
    assert (ROOT / program).is_file()
    if program in NAMES:
        check_settings(NAMES[program], arguments)
    else:
        check_words(ROOT / program, arguments)


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """Writes the YAML files that a page shows below their names, for commands with --config-dir."""

    def write(page, arguments):
        for name, text in re.findall(
            r"^`(\S+\.yaml)`\n\n```yaml\n(.*?)^```", (ROOT / page).read_text("utf8"), re.M | re.S
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf8")
        if "--config-dir" in arguments:
            monkeypatch.chdir(tmp_path)
            search_folders("train", arguments[arguments.index("--config-dir") + 1], [])

    yield write
    OWN.clear()


def check_settings(config_name: str, arguments: list[str]) -> None:
    """Asks the program's own check of settings; files to transcribe are not settings."""
    if config_name == "transcribe":
        arguments = [argument for argument in arguments if "=" in argument]
    if arguments == ["--help"]:
        return
    for typed, meant in ALIASES.get(config_name, {}).items():
        arguments = [re.sub(rf"^{typed}=", f"{meant}=", argument) for argument in arguments]
    try:
        check_overrides(config_name, as_hydra_takes(config_name, arguments))
    except UserError as error:
        if "its plugin is not installed" not in str(error):
            raise
        pytest.skip(str(error))


def check_words(script: Path, arguments: list[str]) -> None:
    """A script without Hydra says in its text which settings and flags it takes; prepare.py takes those of the corpora."""
    known = script.read_text(encoding="utf8")
    if script.name == "prepare.py":
        known += (CONF / "corpus" / f"{arguments[0]}.yaml").read_text(encoding="utf8").replace(": ", "= ")
    for argument in arguments:
        if argument.startswith("--") or "=" in argument:
            word = argument if argument.startswith("--") else argument.split("=")[0]
            assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", known), f"{script.name} does not take {word}"


def keys_in(content: dict, prefix: str = "") -> set[str]:
    """Every dotted key of a YAML file."""
    found = set()
    for key, value in content.items():
        found.add(f"{prefix}{key}")
        if isinstance(value, dict):
            found |= keys_in(value, f"{prefix}{key}.")
    return found


@pytest.mark.parametrize("path", sorted(CONF.glob("**/*.yaml")), ids=lambda path: path.relative_to(CONF).as_posix())
def test_the_reference_has_every_setting(path):
    text = settings_reference.reference()
    group, _, choice = path.relative_to(CONF).with_suffix("").as_posix().partition("/")
    content = yaml.safe_load(path.read_text(encoding="utf8"))
    if group == "experiment":
        assert f"`experiment={choice}`" in text
        return
    if choice:
        text = text.split(f"### `{group}={choice}`\n")[1].split("\n##")[0]
    elif group in settings_reference.PROGRAMS:
        text = text.split(f"## `{settings_reference.PROGRAMS[group]}`\n")[1].split("\n## ")[0]
    prefix = f"{group}." if choice and group != "attention" else ""
    own = {key: value for key, value in content.items() if key not in NOT_OURS}
    for key in keys_in(own) - ({"name"} if choice else set()):
        assert f"`{prefix}{key}`" in text


def test_the_reference_says_what_a_setting_may_be_and_what_its_file_is_about():
    assert "| `encoder.dropout` | `0.0` | >= 0 and &lt; 1 | 0.1 for long trainings" in settings_reference.reference()
    assert settings_reference.about("# @package _global_\n# What it is\nname: it\n") == "What it is"


def test_every_group_has_a_section():
    headings = set(re.findall(r"^## (\w+)$", settings_reference.reference(), re.M))
    assert headings == set(groups())


@pytest.mark.parametrize("attention", attentions.names())
def test_every_attention_has_a_section_and_but_for_auto_a_figure(attention):
    text = (ROOT / "docs/attentions.md").read_text(encoding="utf8")
    assert f"\n## {attention}\n" in text
    assert attention == "auto" or f"![](attentions/{attention}.png)" in text


def python_of(page: str) -> tuple[int, CodeType]:
    """How many blocks of Python a page has, and all of them as one program."""
    text = (ROOT / page).read_text(encoding="utf8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    return len(blocks), compile("\n".join(blocks), page, "exec")


def test_the_python_of_the_kernels_page_runs():
    blocks, program = python_of("docs/kernels.md")
    assert blocks == 2
    exec(program, {})


def test_the_python_of_the_page_on_python_runs(tmp_path, monkeypatch, capsys):
    """On the run and the recording that it names, with letters for tones (tests/support/tones.py)."""
    tone_model(tmp_path / "runs/spoken/full/DATE/model")
    soundfile.write(tmp_path / "talk.wav", tones("abba cafe", around=0.2), RATE)
    monkeypatch.chdir(tmp_path)
    blocks, program = python_of("docs/how-to/python.md")
    assert blocks == 3
    names: dict = {}
    exec(program, names)
    assert capsys.readouterr().out.startswith("abba cafe\n0.")
    assert names["mixed"].shape == (2, 4, 1000, 64) and not names["mixed"][1, :, 700:].any()


def test_arguments_in_docstrings_become_lists():
    pytest.importorskip("griffe")
    from site_docstrings import with_lists

    docstring = "What it does.\n\nqueries: (time,).\nkeys, values: (time,),\n    as those.\nReturns (time,)."
    assert with_lists(docstring).splitlines() == [
        "What it does.", "", "", "- **queries**: (time,).", "- **keys, values**: (time,),", "    as those.", "",
        "Returns (time,).",
    ]  # fmt: skip

"""The command line: Hydra's, with every mistake answered by a sentence before anything heavy is imported.

`@command("train")` makes a function of the composed configuration into a program. Before Hydra runs it, the overrides are
checked against `conf/`: groups and keys that do not exist (with the nearest names), values of the wrong kind, knobs that
the chosen attention does not read. `--help` is written from `conf/` itself, so that it never goes stale.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from asr.errors import UserError, nearest

CONF = Path(__file__).resolve().parent.parent / "conf"
MULTIRUN = ("-m", "--multirun")


def command(config_name: str, files: bool = False, aliases: dict[str, str] | None = None) -> Callable:
    """Makes `function(config)` a program configured by `conf/<config_name>.yaml`.

    files: arguments without a `=`, or that name an existing file, become `config.files`.
    aliases: keys that may be typed for others; a key that is the name of a group cannot be one of its own in Hydra.
    UserError ends the program with its sentence on standard error and exit code 2; Ctrl-C ends it with 130. A function of
    files returns how many of them failed; if any did, the exit code is 1.
    """

    def decorate(function: Callable[[Any], Any]) -> Callable[[], None]:
        @functools.wraps(function)
        def program() -> None:
            name = Path(sys.argv[0]).name
            if any(argument in ("-h", "--help") for argument in sys.argv[1:]):
                print(
                    help_text(config_name, name, inspect.cleandoc(function.__doc__ or ""), "[file …]" if files else "")
                )
                return
            with sentences(name):
                named = take_files() if files else []
                for key, meant in (aliases or {}).items():
                    sys.argv[1:] = [re.sub(rf"^{key}=", f"{meant}=", argument) for argument in sys.argv[1:]]
                check_overrides(config_name, sys.argv[1:])
                run_with_hydra(config_name, functools.partial(with_files, function, named) if files else function, name)

        return program

    return decorate


def take_files() -> list[str]:
    """Takes the file names out of the arguments: a file name may hold signs that Hydra would read as its own."""
    is_file = {
        argument: not argument.startswith("-") and ("=" not in argument or Path(argument).is_file())
        for argument in sys.argv[1:]
    }
    named = [argument for argument in sys.argv[1:] if is_file[argument]]
    sys.argv[1:] = [argument for argument in sys.argv[1:] if not is_file[argument]]
    return named


def with_files(function: Callable[[Any], int], named: list[str], config) -> None:
    config.files = [*config.files, *named]
    if function(config):
        raise SystemExit(1)


def typed_knobs(config) -> dict[str, int]:
    """The knobs that were given on the command line, with their values."""
    from hydra.core.hydra_config import HydraConfig

    typed = {override.split("=")[0] for override in HydraConfig.get().overrides.task}
    return {knob: config[knob] for knob in all_knobs() if knob in typed}


def run_with_hydra(config_name: str, function: Callable[[Any], Any], name: str) -> None:
    import hydra

    def guarded(config) -> Any:
        from hydra.core.hydra_config import HydraConfig

        with sentences(name):
            try:
                return function(config)
            except BaseException:
                remove_if_empty(Path(HydraConfig.get().runtime.output_dir))
                raise

    hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(guarded)()


def remove_if_empty(folder: Path) -> None:
    """Removes `folder` and the empty folders above it, up to the working directory."""
    folder, here = folder.resolve(), Path.cwd().resolve()
    while folder != here and here in folder.parents and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


class sentences:  # noqa: N801 - reads as a verb phrase at its use: `with sentences(name):`
    """Ends the program with a sentence and an exit code instead of a traceback for a user's mistake."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, traceback) -> bool:
        if isinstance(error, UserError):
            # a data loader's process hands the message over below its own traceback
            message = str(error).rsplit("UserError: ", 1)[-1].strip()
            print(f"{self.name}: {message}", file=sys.stderr)
            raise SystemExit(2) from None
        if isinstance(error, KeyboardInterrupt):
            print(f"{self.name}: stopped by Ctrl-C.", file=sys.stderr)
            raise SystemExit(130) from None
        return False


def groups() -> dict[str, list[str]]:
    """The choices of every configuration group: {"attention": ["clustered", "full", …], …}."""
    found: dict[str, list[str]] = {}
    for path in sorted(CONF.glob("*/**/*.yaml")):
        group, _, _ = path.relative_to(CONF).as_posix().partition("/")
        found.setdefault(group, []).append(path.relative_to(CONF / group).with_suffix("").as_posix())
    return found


def knobs_of(attention: str) -> list[str]:
    """The top-level knobs that `conf/attention/<attention>.yaml` reads, in its order."""
    text = (CONF / "attention" / f"{attention}.yaml").read_text(encoding="utf8")
    return re.findall(r"\$\{(\w+)\}", text)


def all_knobs() -> list[str]:
    """Every top-level knob that some attention reads."""
    return sorted({knob for path in (CONF / "attention").glob("*.yaml") for knob in knobs_of(path.stem)})


def check_overrides(config_name: str, arguments: list[str]) -> None:
    """Raises UserError for the first thing in `arguments` that `conf/<config_name>.yaml` cannot make sense of."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    overrides = [argument for argument in arguments if not argument.startswith("-")]
    for argument in overrides:
        if "=" not in argument and not argument.startswith("~"):
            raise UserError(f"{argument!r} is not of the form key=value. --help lists the keys.")
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise UserError(f"The options cannot be read: {str(error).splitlines()[0]}") from None
    multirun = any(argument in MULTIRUN for argument in arguments)
    for override in parsed:
        if override.is_sweep_override() and not multirun:
            raise UserError(f"{override.input_line}: several values need --multirun; a list is written [a,b].")
    for combination in combinations(parsed):
        check_combination(config_name, combination)


def combinations(overrides: list) -> Iterator[list[tuple[str, Any, str]]]:
    """Every run that the overrides ask for, as lists of (key, value, the override as typed)."""
    choices = []
    for override in overrides:
        key = override.get_key_element().lstrip("+~")
        if override.is_delete():
            values = [None]
        elif override.is_choice_sweep():
            values = [element for element in override.sweep_string_iterator()]
        else:
            values = [override.value()]
        prefix = override.input_line[: len(override.input_line) - len(override.input_line.lstrip("+~"))]
        choices.append([(key, value, prefix) for value in values])
    return itertools.product(*choices)


def check_combination(config_name: str, overrides) -> None:
    available = groups()
    chosen, values = [], []
    for key, value, prefix in overrides:
        if key.split(".")[0] in ("hydra",) or prefix:
            continue
        if key in available and f"{key}:" in group_lines(config_name):
            name = "null" if value is None else str(value)
            if isinstance(value, (list, dict)) or (name != "null" and name not in available[key]):
                raise UserError(f"There is no {key} called {name!r}: {nearest(name, available[key])}.")
            chosen.append(f"{key}={name}")
        else:
            values.append((key, value))
    default = compose(config_name, chosen)
    for key, value in values:
        check_value(config_name, default, key, value)
    check_knobs(default, chosen, [key for key, _ in values])
    given = {key for key, _ in values}
    for key in missing_keys(default):
        if key not in given and key.rpartition(".")[0] not in given:
            raise UserError(f"{key}=… is needed: {comment_of(config_name, key)}")


def missing_keys(config) -> list[str]:
    """The dotted keys that are `???` in a configuration."""
    from omegaconf import OmegaConf

    return sorted(OmegaConf.missing_keys(config))


def comment_of(config_name: str, key: str) -> str:
    """What the comment beside a key in `conf/` says of it."""
    *groups_above, name = key.split(".")
    for path in CONF.glob("/".join([*groups_above, "*.yaml"]) if groups_above else f"{config_name}.yaml"):
        found = re.search(rf"^{name}:[^#\n]*# (.+)$", path.read_text(encoding="utf8"), re.M)
        if found:
            return found[1] + "."
    return "it has no default."


def check_value(config_name: str, default, key: str, value: Any) -> None:
    from omegaconf import OmegaConf

    known = list(keys_of(default))
    if key not in known and not inside_free_form(default, key):
        offered = known + [group for group in groups() if f"{group}:" in group_lines(config_name)]
        raise UserError(f"There is no setting called {key!r}: {nearest(key, offered)}.")
    if OmegaConf.is_missing(default, key) or (isinstance(value, str) and "${" in value):
        return
    before = OmegaConf.select(default, key, throw_on_missing=False)
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a name"}
    if before is None or before == "auto" or value is None or type(before) not in kinds:
        return
    if isinstance(before, bool) != isinstance(value, bool):
        fits = False
    elif isinstance(before, float):
        fits = isinstance(value, (int, float))
    elif isinstance(before, str):
        fits = isinstance(value, (str, int, float))
    else:
        fits = isinstance(value, type(before))
    if not fits:
        raise UserError(f"{key} takes {kinds[type(before)]}, such as {before!r}, not {value!r}.")
    if key in all_knobs() and value < 1:
        raise UserError(f"{key} takes a whole number of 1 or more, not {value!r}.")


def check_knobs(config, chosen: list[str], keys: list[str]) -> None:
    attention = config.get("attention")
    name = attention.get("name") if hasattr(attention, "get") else None
    if name is None:
        return
    for key in keys:
        if key in all_knobs() and key not in knobs_of(name):
            raise UserError(unread_knob(name, key))


def unread_knob(attention: str, knob: str) -> str:
    """The sentence for a knob that an attention does not read."""
    reads = knobs_of(attention)
    return f"attention={attention} does not read {knob!r}: it reads {', '.join(reads) if reads else 'no knobs at all'}."


def compose(config_name: str, overrides: list[str]):
    """The configuration of `conf/<config_name>.yaml` with `overrides`, as Hydra composes it."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return hydra.compose(config_name, overrides=overrides)
        except HydraException as error:
            raise UserError(f"The configuration does not compose: {error}") from None
        finally:
            GlobalHydra.instance().clear()


def keys_of(config, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a configuration, parents before children."""
    from omegaconf import DictConfig

    for key in config:
        yield prefix + str(key)
        if (
            not config._is_missing()
            and isinstance(config._get_node(key), DictConfig)
            and not config._get_node(key)._is_none()
        ):
            yield from keys_of(config._get_node(key), prefix + str(key) + ".")


def inside_free_form(config, key: str) -> bool:
    """Whether `key` lies in a group whose keys go on to a library as they are (it has a `_target_`)."""
    from omegaconf import OmegaConf

    parent, _, _ = key.rpartition(".")
    node = OmegaConf.select(config, parent, throw_on_missing=False) if parent else None
    return hasattr(node, "get") and "_target_" in node


def group_lines(config_name: str) -> str:
    """The defaults list of `conf/<config_name>.yaml`, as text."""
    text = (CONF / f"{config_name}.yaml").read_text(encoding="utf8")
    return text.split("defaults:")[1].split("\n\n")[0]


def help_text(config_name: str, program: str, about: str, arguments: str) -> str:
    """What `--help` prints: the choices of each group and the settings, in the words of `conf/`'s own comments."""
    top = (CONF / f"{config_name}.yaml").read_text(encoding="utf8")
    lines = [f"usage: python {program} [group=choice …] [key=value …] {arguments}".rstrip(), "", about, ""]
    defaults = dict(re.findall(r"^  - (?:optional |override )?(\w+): (\S+)", group_lines(config_name), re.M))
    for group, choices in groups().items():
        if group not in defaults:
            continue
        default = "" if defaults[group] == "null" else f" (default {defaults[group]})"
        lines.append(f"{group}={default}")
        width = max(len(choice) for choice in choices) + 2
        for choice in choices:
            first = (CONF / group / f"{choice}.yaml").read_text(encoding="utf8").splitlines()
            about_choice = next(
                (line.lstrip("# ") for line in first if line.startswith("# ") and "@package" not in line), ""
            )
            lines.append(f"    {choice:<{width}}{about_choice}")
        lines.append("")
    lines.append("settings")
    texts = [top]
    if "- knobs" in top:
        texts.insert(0, (CONF / "knobs.yaml").read_text(encoding="utf8"))
    for text in texts:
        for key, value, comment in re.findall(r"^(\w+): *([^#\n]*?) *# (.+)$", text, re.M):
            lines.append(f"    {key + '=' + value.strip():<26}{comment}")
        for comment, key, value in re.findall(r"^# ([a-z].+)\n(\w+): *(\S+)$", text, re.M):
            lines.append(f"    {key}={value}\n    {'':<26}{comment}")
    lines += ["", f"Every other key of conf/ can be set too: python {program} --cfg job prints them all."]
    return "\n".join(lines)

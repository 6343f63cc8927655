"""What `conf/` holds: its groups and their choices, the settings of each file, and what Hydra composes of them.

Nothing heavy is imported here, so that a mistake is answered at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr.config.comments import package_of
from asr.errors import UserError

# in a checkout a link to the folder beside `asr`, in a wheel the folder itself
CONF = (Path(__file__).resolve().parents[1] / "conf").resolve()
# the folders that this command adds: that of --config-dir, then those of hydra.searchpath
OWN: list[Path] = []


def plain(config: Any) -> Any:
    """A part of the configuration as plain data."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(config, resolve=True)


def searched() -> list[Path]:
    """The folders with settings, in the order in which Hydra searches them."""
    return [CONF, *OWN]


def groups() -> dict[str, list[str]]:
    """The choices of every group: {"attention": ["clustered", "full", …], …}."""
    found: dict[str, set[str]] = {}
    for folder in searched():
        for path in folder.glob("*/**/*.yaml"):
            group, _, choice = path.relative_to(folder).with_suffix("").as_posix().partition("/")
            found.setdefault(group, set()).add(choice)
    return {group: sorted(found[group]) for group in sorted(found)}


def where_settings_lie() -> list[str]:
    """The arguments by which another process of this program finds the same settings."""
    from hydra.core.hydra_config import HydraConfig

    named = [f"--config-name={HydraConfig.get().job.config_name}"] if HydraConfig.initialized() else []
    # Hydra takes one folder by its flag; the others are searched behind it
    first, others = [f"--config-dir={folder}" for folder in OWN[:1]], [f'"file://{folder}"' for folder in OWN[1:]]
    searching = [f"hydra.searchpath=[{','.join(others)}]"] if others else []
    # an experiment there may be a sweep, but the other process works on one job
    return [*first, *named, *searching, *(["hydra.mode=RUN"] if OWN else [])]


def file_of(name: str) -> Path:
    """The file of "train" or "attention/full": the first one that exists, or where it would lie in `conf/`."""
    files = [folder / f"{name}.yaml" for folder in searched()]
    return next((file for file in files if file.is_file()), files[0])


def text_of(name: str) -> str:
    """What the file of "train" or "attention/full" holds; nothing if there is no such file."""
    file = file_of(name)
    try:
        return file.read_text(encoding="utf8") if file.is_file() else ""
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8. Save it as UTF-8.") from None


def knobs_of(attention: str) -> list[str]:
    """The top-level knobs that `conf/attention/<attention>.yaml` reads, in its order."""
    return re.findall(r"\$\{(\w+)\}", text_of(f"attention/{attention}"))


def all_knobs() -> list[str]:
    """Every top-level knob that some attention reads."""
    return sorted({knob for attention in groups()["attention"] for knob in knobs_of(attention)})


def unread_knob(attention: str, knob: str) -> str:
    """The sentence for a knob that an attention does not read."""
    reads = knobs_of(attention)
    return f"attention={attention} does not read {knob!r}: it reads {', '.join(reads) if reads else 'no knobs at all'}."


def defaults_list(name: str) -> list[Any]:
    """The `defaults` of a YAML file. Raises UserError if the file is not YAML."""
    import yaml

    try:
        content = yaml.load(text_of(name), yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{file_of(name)} is not valid YAML: {' '.join(str(error).split())}. Mend it.") from None
    return (content.get("defaults") or []) if isinstance(content, dict) else []


def inherited(name: str) -> list[str]:
    """The files that a file includes by its defaults list, then the file itself, each after those that it includes."""
    group, found = name.rpartition("/")[0], []
    for item in defaults_list(name):
        if isinstance(item, str) and item != "_self_":
            other = item.lstrip("/") if item.startswith("/") or not group else f"{group}/{item}"
            if file_of(other).is_file() and other != name:
                found += inherited(other)
    return [*found, name]


def package_of_file(name: str) -> str:
    """The dotted key below which Hydra puts the settings of a file; "" for the top."""
    group = name.rpartition("/")[0].replace("/", ".")
    package = package_of(text_of(name))
    return {None: group, "_group_": group, "_global_": ""}.get(package, package or "")


def default_choices(config_name: str) -> dict[str, str]:
    """The groups in the defaults list of `conf/<config_name>.yaml` with their default choices; `null` for none."""
    found: dict[str, str] = {}
    for item in defaults_list(config_name):
        if isinstance(item, str) and item != "_self_" and file_of(item).is_file():
            found |= default_choices(item)
        elif isinstance(item, dict):
            ((key, choice),) = item.items()
            key = key.removeprefix("optional ").removeprefix("override ").lstrip("/")
            if "/" not in key:
                found[key] = "null" if choice is None else str(choice)
    return found


def first_choices(config_name: str, typed: dict[str, str]) -> list[str]:
    """The `group=choice` settings among those typed (values by key); the first choice of a sweep."""
    defaults, chosen = default_choices(config_name), []
    for group, choices in groups().items():
        first = typed.get(group, "").split(",")[0]
        if group in defaults and (first in choices or first == "null" == defaults[group]):
            chosen.append(f"{group}={first}")
    return chosen


def compose(config_name: str, overrides: list[str], with_hydra: bool = False) -> Any:
    """The configuration of `conf/<config_name>.yaml` with `overrides`, as Hydra composes it; with_hydra: with Hydra's own.

    Raises UserError if it does not compose.
    """
    import hydra
    import yaml
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            search_own_conf()
            return hydra.compose(config_name, overrides=overrides, return_hydra_config=with_hydra)
        except HydraException as error:
            reason = str(error).rstrip(".")
            raise UserError(
                f"The configuration does not compose: {reason}. Mend the setting or the file it names."
            ) from None
        except yaml.YAMLError as error:
            raise UserError(f"A configuration is not valid YAML: {' '.join(str(error).split())}. Mend it.") from None
        except UnicodeDecodeError:
            raise UserError(
                f"A configuration in {' or '.join(map(str, searched()[1:]))} is not UTF-8. Save it so."
            ) from None
        finally:
            GlobalHydra.instance().clear()


def search_own_conf() -> None:
    """Adds the folders of `OWN` to the search path of an initialized Hydra, where its command line adds them."""
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra

    if not OWN:
        return
    search_path = create_config_search_path(str(CONF))
    for folder in OWN:
        anchor = SearchPathQuery(provider="schema")
        search_path.prepend("command-line", f"file://{folder}", anchor)
    GlobalHydra.instance().clear()
    Hydra.create_main_hydra2("app", search_path)


def keys_of(config: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a configuration, parents before children."""
    from omegaconf import DictConfig

    for key in config:
        yield prefix + str(key)
        if config._is_missing():
            continue
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none():
            yield from keys_of(node, prefix + str(key) + ".")


def default_of(config: Any, key: str) -> Any:
    """The value of a setting in a configuration; None if it is missing there."""
    from omegaconf import OmegaConf

    return OmegaConf.select(config, key, throw_on_missing=False)


def choices_with(key: str) -> list[str]:
    """The choices of a group whose files have a setting: "folder" and others for "corpus.path"."""
    group, _, name = key.partition(".")
    choices = [choice for choice in groups().get(group, ()) if "/" not in choice]
    return [one for one in choices if re.search(rf"^{re.escape(name)}:", text_of(f"{group}/{one}"), re.M)]

"""What may be set on the command line, read off `conf/`, and the sentences for what may not.

Nothing heavy is imported here, so that a mistake is answered at once.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from asr.errors import UserError, nearest
from asr.runtime.files import make_folder

# in a checkout a link to the folder beside `asr`, in a wheel the folder itself
CONF = (Path(__file__).resolve().parents[1] / "conf").resolve()
# what --config-dir of this command names
OWN: list[Path] = []


def plain(config) -> Any:
    """A part of the configuration as plain data."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(config, resolve=True)


def groups() -> dict[str, list[str]]:
    """The choices of every configuration group: {"attention": ["clustered", "full", …], …}."""
    found: dict[str, set[str]] = {}
    for folder in searched():
        for path in folder.glob("*/**/*.yaml"):
            group, _, choice = path.relative_to(folder).with_suffix("").as_posix().partition("/")
            found.setdefault(group, set()).add(choice)
    return {group: sorted(found[group]) for group in sorted(found)}


def searched() -> list[Path]:
    """The folders that settings are looked for in: conf/, and the one of --config-dir behind it."""
    return [CONF, *OWN]


def where_settings_lie() -> list[str]:
    """The flags by which another process of this program finds the same settings."""
    from hydra.core.hydra_config import HydraConfig

    named = [f"--config-name={HydraConfig.get().job.config_name}"] if HydraConfig.initialized() else []
    return [*(f"--config-dir={folder}" for folder in OWN), *named]


def file_of(name: str) -> Path:
    """The file of a configuration such as "train" or "attention/full", the first that there is."""
    files = [folder / f"{name}.yaml" for folder in searched()]
    return next((file for file in files if file.is_file()), files[0])


def knobs_of(attention: str) -> list[str]:
    """The top-level knobs that `conf/attention/<attention>.yaml` reads, in its order."""
    text = file_of(f"attention/{attention}").read_text(encoding="utf8")
    return re.findall(r"\$\{(\w+)\}", text)


def all_knobs() -> list[str]:
    """Every top-level knob that some attention reads."""
    return sorted({knob for attention in groups()["attention"] for knob in knobs_of(attention)})


def first_choices(config_name: str, typed: dict[str, str | None]) -> list[str]:
    """The `group=choice` settings among those typed; of several choices the first. typed: values by key."""
    defaults, chosen = default_choices(config_name), []
    for group, choices in groups().items():
        first = (typed.get(group) or "").split(",")[0]
        if group in defaults and (first in choices or first == "null" == defaults[group]):
            chosen.append(f"{group}={first}")
    return chosen


def check_overrides(config_name: str, arguments: list[str]) -> None:
    """Raises UserError for the first thing in `arguments` that `conf/<config_name>.yaml` cannot make sense of."""
    from hydra._internal.utils import get_args_parser
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parsed_arguments = get_args_parser().parse_args(arguments)
    for argument in parsed_arguments.overrides:
        if "=" not in argument and not argument.startswith("~"):
            raise UserError(f"{argument!r} is not of the form key=value. --help lists the keys.")
    try:
        overrides = OverridesParser.create().parse_overrides(parsed_arguments.overrides)
    except HydraException as error:
        raise UserError(f"The options cannot be read: {str(error).splitlines()[0]}") from None
    check_hydra(config_name, overrides)
    sweeper = next((str(one.value()) for one in overrides if one.key_or_group == "hydra/sweeper"), "basic")
    for override in overrides:
        if override.is_sweep_override() and not parsed_arguments.multirun:
            raise UserError(f"{override.input_line}: several values need --multirun; a list is written [a,b].")
        check_sweep(override, sweeper)
    combinations = list(itertools.product(*map(values_of, overrides)))
    # in a sweep over attentions a knob need not be read by all of them
    read = [knobs_of(str(value)) for pairs in combinations for key, value in pairs if known_attention(key, value)]
    for combination in combinations:
        check_combination(config_name, combination, {knob for knobs in read for knob in knobs})


def is_glob(override) -> bool:
    from hydra.core.override_parser.types import Glob

    return isinstance(override._value, Glob)


def values_of(override) -> list[tuple[str, Any]]:
    """Every (key, value) that an override asks for: one, unless it is a sweep. A key that is to be added keeps its `+`."""
    key = override.get_key_element().removeprefix("++")
    if is_glob(override):
        return [(key, value) for value in override.value().filter(groups()[key])]
    if override.is_choice_sweep():
        return [(key, getattr(value, "text", value)) for value in override.value().list]
    if override.is_range_sweep():
        return [(key, value) for value in override.value().range()]
    if override.is_interval_sweep():
        return [(key, override.value().start), (key, override.value().end)]
    return [(key, override.value())]


def known_attention(key: str, value: Any) -> bool:
    return key == "attention" and str(value) in groups()["attention"]


def check_combination(config_name: str, overrides: Iterable[tuple[str, Any]], read: Iterable[str] = ()) -> None:
    """read: knobs that an attention of the same sweep reads."""
    available, defaults = groups(), default_choices(config_name)
    chosen, values, added, removed = [], [], [], []
    for key, value in overrides:
        if re.split(r"[./]", key)[0] == "hydra":
            continue
        if key.startswith("~"):
            removed.append(key[1:])
            continue
        if key.startswith("+"):
            added.append(key[1:])
            continue
        if key in available and key in defaults:
            allowed = available[key] + (["null"] if defaults[key] == "null" else [])
            name = "null" if value is None else str(value)
            if name not in allowed:
                raise UserError(f"There is no {key} called {name!r}: {nearest(name, available[key])}.")
            chosen.append(f"{key}={name}")
        else:
            values.append((key, value))
    default = compose(config_name, chosen)
    for key in added:
        check_addition(default, key)
    for key in removed:
        check_removal(default, key)
    typed = {key.lstrip("+") for key, _ in overrides}
    for key, value in values:
        if not of_own_corpus(config_name, key, typed):
            check_value(config_name, default, key, value)
    attentions = [pair.partition("=")[2] for pair in chosen if pair.startswith("attention=")]
    check_knobs(default, [key for key, _ in values if key not in read], *attentions)
    given = {key for key, _ in values}
    for key in missing_keys(default):
        if key not in given and key.rpartition(".")[0] not in given:
            raise UserError(f"{key}=… is needed: {comment_of(config_name, default, key)}")
    check_whole(config_name, default, values)


def check_whole(config_name: str, config, values: list[tuple[str, Any]]) -> None:
    """Raises UserError if an interpolation leads nowhere or the run's folder cannot be made."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    config = OmegaConf.create(OmegaConf.to_container(config))
    OmegaConf.set_struct(config, False)
    for key, value in values:
        OmegaConf.update(config, key, value)
    try:
        OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        reason = f"{str(error).splitlines()[0]}."
        typed = [f"{key}={value}" for key, value in values if isinstance(value, str) and "${" in value]
        if not typed:
            raise UserError(f"The configuration does not resolve: {reason}") from None
        raise UserError(
            f"{', '.join(typed)}: ${{…}} leads nowhere: {reason} Where a name holds these very signs, type \\${{ for ${{."
        ) from None
    if "run" in config:
        if "${" in str(config.run):
            raise UserError(f"run={config.run}: the name of a run's folder cannot hold ${{.")
        check_folder(Path(str(config.run)).absolute())


def check_folder(folder: Path) -> None:
    """Raises UserError if `folder` cannot be made; leaves no trace, and does not touch what other processes make meanwhile."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    made = False
    try:
        made = make_folder(folder)
    except OSError as error:
        reason = "there is a file of that name" if folder.is_file() else error.strerror
        raise UserError(f"run={folder}: the folder cannot be made: {reason}.") from None
    finally:
        with contextlib.suppress(OSError):
            for parent in [folder] * made + missing:
                parent.rmdir()


def missing_keys(config) -> list[str]:
    """The dotted keys that are `???` in a configuration."""
    from omegaconf import OmegaConf

    return sorted(OmegaConf.missing_keys(config))


def comment_of(config_name: str, config, key: str) -> str:
    """The comment beside or above a key in `conf/`, in the file that was chosen."""
    *groups_above, name = key.split(".")
    chosen = default_of(config, f"{groups_above[0]}.name") if groups_above else config_name
    pattern = "/".join([*groups_above, f"{chosen or '*'}.yaml"])
    for path in (path for folder in searched() for path in folder.glob(pattern)):
        text = path.read_text(encoding="utf8")
        for comment in (rf"^{name}:[^#\n]*# (.+)$", rf"^# (.+)\n{name}:"):
            if found := re.search(comment, text, re.M):
                return found[1] + "."
    return "give it a value."


KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a name"}
# the least that a setting may be, beside knobs that are numbers: those are whole and 1 or more
LEAST = {
    "max_epochs": 1,
    "stop_after": 1,
    "bootstrap": 1,
    "batch_frames": 1,
    "data.batch_frames": 1,
    "data.evaluation_frames": 1,
    "data.batch_utterances": 1,
    "data.workers": 0,
    "data.max_dropped": 0,
    "max_dropped": 0,
    "workers": 1,
    "trainer.validations": 1,
    "trainer.accumulate_grad_batches": 1,
    "trainer.log_every_n_steps": 1,
    "trainer.devices": 1,
    "devices": 1,
    "batch_utterances": 1,
    "trainer.num_nodes": 1,
    "checkpoint_steps": 1,
    "checkpoint_minutes": 0,
    "average_checkpoints": 1,
    "channel": 1,
    "refinements": 0,
    "trainer.memory_limit": 0,
    "watch.skip_nonfinite": 0,
    "watch.silent_validations": 1,
    "whole_seconds": 0,
    "window_seconds": 1,
    "overlap_seconds": 0,
    "pause_seconds": 0,
    "skip_seconds": 0,
    "segment_seconds": 1,
    "batch_seconds": 1,
}
# settings that are null unless they are given
NULLABLE = {
    "max_minutes": float,
    "stop_after": int,
    "resume": str,
    "checkpoint_minutes": float,
    "checkpoint_steps": int,
    "moving_average": float,
    "trainer.gradient_clip_val": float,
    "trainer.memory_limit": float,
    "trainer.precision": str,
    "data.batch_utterances": int,
    "batch_utterances": int,
    "init_from": str,
    "output": str,
    "plot_attention": str,
    "longest_seconds": float,
    "pause_seconds": float,
    "skip_seconds": float,
    "channel": int,
    "corpus.sample_rate": int,
    "corpus.dev_minutes": float,
    "corpus.test_minutes": float,
    "decoder.beam_size_token": int,
    "decoder.unknown_score": float,
}
# settings that are chosen for the user unless they are given
AUTOMATIC = {"max_epochs": int, "data.workers": int, "workers": int}
# lists of text whose defaults do not show it
LISTS = ("checkpoints", "attentions")
ONE_OF = {
    "device": ("auto", "cpu", "cuda"),
    "format": ("text", "json", "srt", "vtt", "ctm"),
    "encoder.shared_qk": ("auto", True, False),
    "metric": ("auto", "per", "wer", "cer"),
    "trainer.matmul_precision": ("highest", "high", "medium"),
    "trainer.precision": ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", 64, 32, 16, "bf16"),
    "trainer.strategy": ("auto", "ddp", "fsdp"),
    "init_units": ("auto", "fresh", "kept"),
    "space": ("hash", "queries", "scores"),
    "seeds": ("even", "path", "plusplus"),
}


def check_addition(default, key: str) -> None:
    """Raises UserError unless `key` goes on to a library as it is: in a group with a `_target_` there may be new keys."""
    from omegaconf import OmegaConf

    if key in groups():
        raise UserError(f"+{key}: there is such a group already; leave the + out: {key}=…")
    parent = OmegaConf.select(default, key.rpartition(".")[0], throw_on_missing=False) if "." in key else None
    if not hasattr(parent, "get") or "_target_" not in parent:
        raise UserError(f"There is no setting called {key!r}: {nearest(key, keys_of(default))}.")


def check_removal(default, key: str) -> None:
    """Raises UserError unless `key` is an argument of a library, which has a default of its own: `~optimizer.weight_decay`."""
    parent, _, name = key.rpartition(".")
    group = default_of(default, parent) if parent else None
    if key not in keys_of(default):
        raise UserError(f"~{key}: there is no setting called {key!r}: {nearest(key, keys_of(default))}.")
    if not hasattr(group, "get") or "_target_" not in group or name in ("_target_", "name"):
        raise UserError(
            f"~{key}: this setting cannot be taken out; set it to another value. Only what goes to a library that has a default "
            "of its own can be left out, such as ~optimizer.weight_decay."
        )


# Hydra's plugins, by the extra that installs each
PLUGINS = {
    "hydra/launcher=joblib": "joblib",
    "hydra/launcher=submitit_local": "slurm",
    "hydra/launcher=submitit_slurm": "slurm",
    "hydra/sweeper=optuna": "optuna",
}


def check_hydra(config_name: str, overrides) -> None:
    """Raises UserError if Hydra does not know one of its own settings, such as a launcher whose plugin is not installed."""
    own = [
        one for one in overrides if re.split(r"[./]", one.key_or_group)[0] == "hydra" and not one.is_sweep_override()
    ]
    if not own:
        return
    try:
        compose(config_name, [one.input_line for one in own], with_hydra=True)
    except UserError as error:
        for one in own:
            if "Could not find" not in str(error):
                break
            if extra := PLUGINS.get(one.input_line):
                raise UserError(
                    f"{one.input_line}: its plugin is not installed. Install it: pip install 'asr[{extra}]'"
                ) from None
        raise UserError(f"{' '.join(one.input_line for one in own)}: {' '.join(str(error).split())}") from None


def check_sweep(override, sweeper: str) -> None:
    """Raises UserError for a sweep that the sweeper cannot run."""
    if override.is_interval_sweep() and sweeper == "basic":
        raise UserError(f"{override.input_line}: an interval needs a sweeper that searches: add hydra/sweeper=optuna.")
    if is_glob(override):
        if sweeper != "basic":
            raise UserError(f"{override.input_line}: hydra/sweeper={sweeper} takes no glob; write choice(a,b).")
        if override.key_or_group not in groups():
            raise UserError(f"{override.input_line}: glob(…) goes over the choices of a group: {', '.join(groups())}.")
        if not override.value().filter(groups()[override.key_or_group]):
            raise UserError(f"{override.input_line}: no {override.key_or_group} is called so.")


def check_value(config_name: str, default, key: str, value: Any) -> None:
    """Raises UserError if `key` is no setting, or if `value` is not of its kind or out of its range."""
    known = list(keys_of(default))
    if key not in known:
        group = key.partition(".")[0]
        chosen, having = default_of(default, f"{group}.name"), choices_with(key)
        if chosen and having:
            raise UserError(
                f"There is no setting called {key!r} for {group}={chosen}: "
                f"add {' or '.join(f'{group}={choice}' for choice in having)}."
            )
        raise UserError(f"There is no setting called {key!r}: {nearest(key, [*known, *default_choices(config_name)])}.")
    if isinstance(value, str) and "${" in value:
        return
    before, kind = default_of(default, key), kind_of(default, key)
    if value is None and key in NULLABLE or value == "auto" == before:
        return
    if kind in KINDS and key not in ONE_OF and not fits(value, kind):
        example = f", such as {before!r}," if before is not None and key not in AUTOMATIC else ","
        raise UserError(f"{key} takes {KINDS[kind]}{example} not {value!r}.")
    if key in all_knobs() and key not in ONE_OF and value < 1:
        raise UserError(f"{key} takes a whole number of 1 or more, not {value!r}.")
    if key in LEAST and value < LEAST[key]:
        raise UserError(f"{key} takes {KINDS[kind]} of {LEAST[key]} or more, not {value!r}.")
    if key == "max_minutes" and not value > 0:
        raise UserError(f"max_minutes takes a number above 0, or null for no limit, not {value!r}.")
    if key in ONE_OF and value not in ONE_OF[key]:
        choices = [str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in ONE_OF[key]]
        raise UserError(f"{key} is {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}.")
    if value in ("", "???") or value == []:
        raise UserError(f"{key} is empty: {comment_of(config_name, default, key)}")


def choices_with(key: str) -> list[str]:
    """The choices of a group whose files have a setting: "folder" and others for "corpus.path"."""
    group, _, name = key.partition(".")
    files = {choice: file_of(f"{group}/{choice}") for choice in groups().get(group, ()) if "/" not in choice}
    return [one for one, file in files.items() if re.search(rf"^{re.escape(name)}:", file.read_text("utf8"), re.M)]


def default_of(config, key: str) -> Any:
    """The value of a setting in a configuration; None if it is missing there."""
    from omegaconf import OmegaConf

    return OmegaConf.select(config, key, throw_on_missing=False)


def kind_of(config, key: str) -> type:
    """The type of a setting; NoneType for text whose default is null."""
    return AUTOMATIC.get(key) or NULLABLE.get(key) or type(default_of(config, key))


def is_text(config, key: str) -> bool:
    """Whether a setting takes free text such as a path: no number, no list and no choice."""
    if key in LISTS or key in ONE_OF or key not in keys_of(config):
        return False
    return kind_of(config, key) in (str, type(None))


def may_be_null(config, key: str) -> bool:
    """Whether a setting may be null."""
    from omegaconf import OmegaConf

    if key in NULLABLE:
        return True
    return key in keys_of(config) and key not in OmegaConf.missing_keys(config) and default_of(config, key) is None


def of_own_corpus(config_name: str, key: str, typed: Iterable[str]) -> bool:
    """Whether a setting is one of the corpus that a run or a checkpoint was trained on. typed: all keys that are given."""
    by_default = default_choices(config_name).get("corpus")
    own = "resume" in typed and by_default is not None or by_default == "null"
    return key.startswith("corpus.") and own and "corpus" not in typed


def fits(value: Any, kind: type) -> bool:
    """Whether a value that was typed is of a kind: whole numbers are numbers too, and names may be made of digits."""
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, {float: (int, float), str: (str, int, float)}.get(kind, kind))


def check_knobs(config, keys: list[str], chosen: str | None = None) -> None:
    """chosen: the file of the attention where one was typed, which need not be called as the attention that it describes."""
    attention = config.get("attention")
    name = attention.get("name") if hasattr(attention, "get") else None
    if name is not None and chosen is not None:
        name = chosen
    if name is None:
        return
    for key in keys:
        if key in all_knobs() and key not in knobs_of(name):
            raise UserError(unread_knob(name, key))


def unread_knob(attention: str, knob: str) -> str:
    """The sentence for a knob that an attention does not read."""
    reads = knobs_of(attention)
    return f"attention={attention} does not read {knob!r}: it reads {', '.join(reads) if reads else 'no knobs at all'}."


def compose(config_name: str, overrides: list[str], with_hydra: bool = False):
    """The configuration of `conf/<config_name>.yaml` with `overrides`, as Hydra composes it; with_hydra: with Hydra's own."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            search_own_conf()
            return hydra.compose(config_name, overrides=overrides, return_hydra_config=with_hydra)
        except HydraException as error:
            raise UserError(f"The configuration does not compose: {error}") from None
        finally:
            GlobalHydra.instance().clear()


def search_own_conf() -> None:
    """Has Hydra, once initialized, look into the folder of --config-dir too, where its command line puts it."""
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra

    if not OWN:
        return
    search_path = create_config_search_path(str(CONF))
    for folder in OWN:
        search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    Hydra.create_main_hydra2("app", search_path)


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


def default_choices(config_name: str) -> dict[str, str]:
    """The groups in the defaults list of `conf/<config_name>.yaml`, with what is chosen by default; `null` is nothing."""
    import yaml

    found: dict[str, str] = {}
    for item in yaml.load(file_of(config_name).read_text(encoding="utf8"), yaml.CSafeLoader).get("defaults", []):
        if isinstance(item, str) and item != "_self_" and file_of(item).is_file():
            found |= default_choices(item)
        elif isinstance(item, dict):
            ((key, choice),) = item.items()
            key = key.removeprefix("optional ").removeprefix("override ").lstrip("/")
            if "/" not in key:
                found[key] = "null" if choice is None else str(choice)
    return found

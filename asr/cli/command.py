"""The command line: Hydra's, with every mistake answered by a sentence before anything heavy is imported.

`@command("train")` makes a function of the composed configuration into a program. Before Hydra runs it, the overrides are
checked against `conf/` (`asr.config.settings`).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from asr.config.help import help_text
from asr.config.overrides import as_hydra_takes, escaped, is_sweep, key_of, parsed, quoted, split_setting
from asr.config.settings import CONF, all_knobs, check_overrides, compose
from asr.errors import Stopped, UserError
from asr.runtime.libraries import check_libraries, sentence_for
from asr.runtime.processors import settle
from asr.training.run_folder import folder_of_its_own, remove_if_empty


def command(
    config_name: str,
    files: bool = False,
    aliases: dict[str, str] | None = None,
    arguments: Callable[[list[str]], list[str]] | None = None,
) -> Callable:
    """Makes `function(config)` a program configured by `conf/<config_name>.yaml`.

    files: arguments without a `=`, or that name an existing file or folder, and `-` become `config.files`.
    aliases: keys that may be typed for others; a key that is the name of a group cannot be one of its own in Hydra.
    arguments: changes what was typed before anything else looks at it.
    UserError ends the program with its sentence on standard error and exit code 2; Ctrl-C ends it with 130. A function of
    files returns how many of them failed; if any did, the exit code is 1.
    """

    def decorate(function: Callable[[Any], Any]) -> Callable[[], None]:
        @functools.wraps(function)
        def program() -> None:
            settle()
            name = Path(sys.argv[0]).name
            if any(argument in ("-h", "--help") for argument in sys.argv[1:]):
                about = inspect.cleandoc(function.__doc__ or "")
                with mistakes_as_sentences(name):
                    print(help_text(config_name, name, about, "[file …]" if files else ""), flush=True)
                return
            with mistakes_as_sentences(name):
                named = take_files() if files else []
                for key, meant in (aliases or {}).items():
                    sys.argv[1:] = [re.sub(rf"^{key}=", f"{meant}=", argument) for argument in sys.argv[1:]]
                flags = [argument for argument in sys.argv[1:] if argument in ("-m", "--multirun")]
                # Hydra knows them only before or behind all settings
                sys.argv[1:] = [*flags[:1], *(argument for argument in sys.argv[1:] if argument not in flags)]
                if arguments is not None:
                    sys.argv[1:] = arguments(sys.argv[1:])
                taken = as_hydra_takes(config_name, sys.argv[1:])
                check_overrides(config_name, taken)
                check_libraries()
                whole = functools.partial(with_files, function, named) if files else function
                with own_folder(config_name, taken) as folder:
                    run_with_hydra(config_name, whole, name, [*taken, *folder])

        return program

    return decorate


def take_files() -> list[str]:
    """Takes the file names out of the arguments: a file name may hold signs that Hydra would read as its own."""
    is_file = {
        argument: argument == "-" or not argument.startswith("-") and ("=" not in argument or os.path.exists(argument))
        for argument in sys.argv[1:]
    }
    named = [argument for argument in sys.argv[1:] if is_file[argument]]
    sys.argv[1:] = [argument for argument in sys.argv[1:] if not is_file[argument]]
    return named


def with_files(function: Callable[[Any], int], named: list[str], config) -> None:
    before = [config.files] if isinstance(config.files, str) else config.files
    config.files = [*before, *map(escaped, named)]
    if function(config):
        raise SystemExit(1)


def typed_settings() -> list[str]:
    """The settings that were given on the command line, as Hydra takes them: another process may be given the same."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    # not resolved: `\\${` would lose its backslash
    return OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)


def typed_knobs(config) -> dict[str, int]:
    """The knobs that were given on the command line, with their values."""
    typed = {key_of(setting) for setting in typed_settings()}
    return {knob: config[knob] for knob in all_knobs() if knob in typed}


def asked_of_checkpoint(config) -> dict[str, Any]:
    """What every program that opens a checkpoint is told of it, by the names that their requests have."""
    from asr.config.settings import plain

    return {
        "checkpoint": str(config.checkpoint),
        "attention": plain(config.attention) if config.get("attention") else None,
        "knobs": typed_knobs(config),
        "decoder": plain(config.decoder),
        "decoder_typed": typed_in_group("decoder"),
        "device": config.device,
        "longest_seconds": config.longest_seconds,
    }


def typed_in_group(group: str) -> list[str]:
    """The settings of a group that were given on the command line: "lm" of `decoder.lm=…`, and "name" of `decoder=…`."""
    typed = [key_of(setting) for setting in typed_settings()]
    return ["name" if key == group else key[len(group) + 1 :] for key in typed if f"{key}.".startswith(f"{group}.")]


@contextlib.contextmanager
def own_folder(config_name: str, arguments: list[str]) -> Iterator[list[str]]:
    """Makes the folder of a run, or of a sweep, where the user has named none, and gives the setting that names it to Hydra.

    Runs that are started in the same second get folders of their own. One that stays empty is removed.
    """
    from hydra._internal.utils import get_args_parser

    asked = get_args_parser().parse_args(arguments)
    key = "hydra.sweep.dir" if asked.multirun else "run"
    named = {key_of(setting) for setting in asked.overrides} & {key, "hydra.run.dir"}
    if named or "\nrun:" not in (CONF / f"{config_name}.yaml").read_text(encoding="utf8") or asked.cfg or asked.info:
        yield []
        return
    single = [setting for setting in asked.overrides if not is_sweep(parsed(*split_setting(setting)))]
    config = compose(config_name, single, with_hydra=True)
    folder = folder_of_its_own(Path(config.hydra.sweep.dir if asked.multirun else config.run))
    try:
        yield [f"{key}={quoted(key, str(folder))}"]
    finally:
        remove_if_empty(folder)


def run_with_hydra(config_name: str, function: Callable[[Any], Any], name: str, arguments: list[str]) -> None:
    """Has Hydra compose the configuration and call `function` with it. arguments: the command line as Hydra takes it."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    jobs: list[dict[str, Any]] = []
    sweep: list[Path] = []
    typed = sys.argv

    def guarded(config) -> Any:
        # what a run says of its command is what was typed
        sys.argv = typed
        folder = Path(HydraConfig.get().runtime.output_dir)
        if HydraConfig.get().mode == RunMode.MULTIRUN and "run" in config:
            sweep[:] = [folder.parent]
            with mistakes_as_sentences(name):
                return one_of_several(function, config, folder, jobs, name)
        with mistakes_as_sentences(name):
            try:
                return function(config)
            except BaseException:
                remove_if_empty(folder)
                raise

    sys.argv = [typed[0], *arguments]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(guarded)()
    finally:
        sys.argv = typed
        if jobs:
            from asr.cli.sweeps import show_sweep, write_sweep

            show_sweep(sweep[0], write_sweep(sweep[0], jobs))
    if any(job["failed"] for job in jobs):
        raise SystemExit(1)


def one_of_several(function: Callable[[Any], Any], config, folder: Path, jobs: list[dict[str, Any]], name: str) -> Any:
    """Runs one job of a multirun: a mistake in it is said and does not keep the others from running."""
    from asr.cli.sweeps import same_run

    overrides = typed_settings()
    print(f"\n[{len(jobs) + 1}] {' '.join(overrides)}", flush=True)
    job = {"overrides": overrides, "run": os.path.relpath(folder), "said": "stopped", "failed": True}
    jobs.append(job)
    same = same_run(folder, config)
    if same is not None:
        job |= {"run": os.path.relpath(same), "said": f"the same training as {same.name}", "failed": False}
        print(f"the same training as {job['run']}: its attention does not read what differs; not run again")
        remove_if_empty(folder)
        return None
    try:
        result = function(config)
        job |= {"said": "", "failed": False}
        return result
    except Stopped as error:
        job["said"] = str(error)
        raise
    except UserError as error:
        job["said"] = str(error)
        print(f"{name}: {error}", file=sys.stderr)
        return None
    except SystemExit as error:
        # processes of its own have said why they failed; a signal ends the whole sweep
        if not isinstance(error.code, int) or error.code >= 128:
            raise
        job["said"] = f"its processes ended with exit code {error.code}"
        return None
    finally:
        remove_if_empty(folder)


class mistakes_as_sentences:  # noqa: N801 - reads as a phrase where it is used: `with mistakes_as_sentences(name):`
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
        if isinstance(error, Stopped):
            print(f"{self.name}: {error}", file=sys.stderr)
            raise SystemExit(error.exit_code) from None
        if isinstance(error, BrokenPipeError):
            # who read what is printed has seen enough: `… | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None
        if isinstance(error, KeyboardInterrupt):
            # a second one has nothing left to stop
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            print(f"{self.name}: stopped by Ctrl-C.", file=sys.stderr)
            raise SystemExit(130) from None
        if isinstance(error, Exception) and (sentence := sentence_for(error)):
            print(f"{self.name}: {sentence}", file=sys.stderr)
            raise SystemExit(2) from None
        return False

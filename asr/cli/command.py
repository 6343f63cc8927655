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
from asr.config.settings import CONF, OWN, all_knobs, check_overrides, compose, file_of
from asr.errors import Stopped, UserError
from asr.runtime.called import as_called
from asr.runtime.files import folder_of_its_own, remove_if_empty
from asr.runtime.libraries import check_libraries, sentence_for
from asr.runtime.processors import settle


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

    default_name = config_name

    def decorate(function: Callable[[Any], Any]) -> Callable[[], None]:
        @functools.wraps(function)
        def program() -> None:
            config_name = default_name
            settle()
            name = Path(sys.argv[0]).name
            if any(argument in ("-h", "--help") for argument in sys.argv[1:]):
                about = inspect.cleandoc(function.__doc__ or "")
                with mistakes_as_sentences(name):
                    print(as_called(help_text(config_name, about, "[file …]" if files else "")), flush=True)
                return
            with mistakes_as_sentences(name):
                named = take_files() if files else []
                for key, meant in (aliases or {}).items():
                    sys.argv[1:] = [re.sub(rf"^{key}=", f"{meant}=", argument) for argument in sys.argv[1:]]
                asked = hydra_options(sys.argv[1:])
                if asked.shell_completion:
                    run_with_hydra(config_name, function, name, sys.argv[1:])
                    return
                sys.argv[1:] = flags_first(sys.argv[1:], asked.overrides)
                config_name = asked.config_name or default_name
                OWN[:] = [own_conf(asked.config_dir)] if asked.config_dir else []
                if not file_of(config_name).is_file():
                    raise UserError(f"--config-name {config_name}: there is no {file_of(config_name)}.")
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


def hydra_options(arguments: list[str]) -> Any:
    """The command line in Hydra's own parts (`overrides`, `multirun`, `config_dir`, …), flags and settings in any order.

    Raises UserError for flags that do not go together, and for those that this program does not take.
    """
    from hydra._internal.utils import get_args_parser

    asked = get_args_parser().parse_intermixed_args(arguments)
    if asked.experimental_rerun is not None:
        raise UserError(
            "--experimental-rerun: a pickle runs whatever code is in it, so none is read. "
            "A run's command.txt holds the command that repeats it."
        )
    if asked.config_path is not None:
        raise UserError("--config-path: conf/ cannot be replaced; --config-dir DIR adds a folder of your own to it.")
    doing = [asked.run, asked.multirun, asked.cfg is not None, asked.info is not None, asked.shell_completion]
    if sum(map(bool, doing)) > 1:
        raise UserError("--run, --multirun, --cfg, --info and --shell-completion do not go together: give one of them.")
    if asked.resolve and asked.cfg is None:
        raise UserError("--resolve needs --cfg: type --cfg job --resolve.")
    return asked


def flags_first(arguments: list[str], settings: list[str]) -> list[str]:
    """The arguments with all flags before all settings, where Hydra knows them; --multirun only once."""
    flags = list(arguments)
    for setting in reversed(settings):
        del flags[len(flags) - 1 - flags[::-1].index(setting)]
    several = [flag for flag in flags if flag in ("-m", "--multirun")]
    return [*several[:1], *(flag for flag in flags if flag not in several), *settings]


def own_conf(folder: str) -> Path:
    """The folder of --config-dir, made absolute; raises UserError if there is none."""
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise UserError(f"--config-dir {folder}: there is no such folder.")
    return path


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


def typed_knobs(config) -> dict[str, Any]:
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
    asked = hydra_options(arguments)
    key = "hydra.sweep.dir" if asked.multirun else "run"
    named = {key_of(setting) for setting in asked.overrides} & ({key} if asked.multirun else {key, "hydra.run.dir"})
    if (
        named
        and not asked.multirun
        or "\nrun:" not in file_of(config_name).read_text(encoding="utf8")
        or asked.cfg
        or asked.info
        or asked.hydra_help
    ):
        yield []
        return
    single = [setting for setting in asked.overrides if not is_sweep(parsed(*split_setting(setting)))]
    config = compose(config_name, single, with_hydra=True)
    if named:
        # the time in its name is read only once
        yield [f"{key}={quoted(key, str(config.hydra.sweep.dir))}"]
        return
    folder = folder_of_its_own(Path(config.hydra.sweep.dir if asked.multirun else config.run))
    try:
        yield [f"{key}={quoted(key, str(folder))}"]
    finally:
        remove_if_empty(folder)


def run_with_hydra(config_name: str, function: Callable[[Any], Any], name: str, arguments: list[str]) -> None:
    """Has Hydra compose the configuration and call `function` with it. arguments: the command line as Hydra takes it."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode

    sweep = Path(arguments_folder) if (arguments_folder := sweep_folder(arguments)) else None
    typed, own = sys.argv, list(OWN)

    def guarded(config) -> Any:
        # what a run says of its command is what was typed; a launcher may have moved the job to another process
        sys.argv, OWN[:] = typed, own
        folder = Path(HydraConfig.get().runtime.output_dir)
        if HydraConfig.get().mode == RunMode.MULTIRUN and "run" in config:
            with mistakes_as_sentences(name):
                return one_of_several(function, config, folder, name)
        with mistakes_as_sentences(name):
            try:
                return function(config)
            except BaseException:
                remove_if_empty(folder)
                raise

    sys.argv = [typed[0], *arguments]
    # Hydra hands errors on instead of printing them
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(guarded)()
    except HydraException as error:
        raise UserError(f"The configuration does not compose: {' '.join(str(error).split())}") from None
    except ValueError as error:
        # Optuna's, where every training failed; each has said why
        if str(error) != "No trials are completed yet.":
            raise
    finally:
        sys.argv = typed
        jobs = []
        if sweep is not None:
            from asr.cli.sweeps import show_sweep, take_jobs, write_sweep

            if jobs := take_jobs(sweep):
                show_sweep(sweep, write_sweep(sweep, jobs))
    if any(job["failed"] for job in jobs):
        raise SystemExit(1)


def sweep_folder(arguments: list[str]) -> str | None:
    """The folder of a multirun, as its arguments name it; None for a single run."""
    asked = hydra_options(arguments)
    named = [parsed(*split_setting(one)) for one in asked.overrides if key_of(one) == "hydra.sweep.dir"]
    return str(getattr(named[-1], "text", named[-1])) if asked.multirun and named else None


def one_of_several(function: Callable[[Any], Any], config, folder: Path, name: str) -> Any:
    """Runs one job of a multirun: a mistake in it is said and does not keep the others from running.

    What became of it is kept in the sweep's folder: a launcher may run the jobs in other processes, on other machines. Returns
    what `function` does, None if it failed; of a training that was run before, what that one reached.
    """
    from hydra.core.hydra_config import HydraConfig

    from asr.cli.sweeps import best_on_dev, keep_job, same_run

    overrides, number = typed_settings(), HydraConfig.get().job.num
    # where the command was typed: with hydra.job.chdir=true the job is elsewhere
    here = Path(HydraConfig.get().runtime.cwd)
    sweep = here / HydraConfig.get().sweep.dir
    print(f"\n[{number + 1}] {' '.join(overrides)}", flush=True)
    job = {"overrides": overrides, "run": os.path.relpath(folder, here), "said": "stopped", "failed": True}
    keep_job(sweep, number, job)
    same = same_run(folder, config)
    if same is not None:
        job |= {"run": os.path.relpath(same, here), "said": f"the same training as {same.name}", "failed": False}
        keep_job(sweep, number, job)
        print(f"the same training as {job['run']}: its attention does not read what differs; not run again")
        remove_if_empty(folder)
        return best_on_dev(same)
    try:
        result = function(config)
        job |= {"said": "", "failed": False}
        return result
    except Stopped as error:
        job["said"] = str(error)
        raise
    except UserError as error:
        job["said"] = str(error)
        print(as_called(f"{name}: {error}"), file=sys.stderr)
        return None
    except SystemExit as error:
        # processes of its own have said why they failed; a signal ends the whole sweep
        if not isinstance(error.code, int) or error.code >= 128:
            raise
        job["said"] = f"its processes ended with exit code {error.code}"
        return None
    except Exception as error:
        job["said"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        keep_job(sweep, number, job)
        remove_if_empty(folder)


class mistakes_as_sentences:  # noqa: N801 - reads as a phrase where it is used: `with mistakes_as_sentences(name):`
    """Ends the program with a sentence and an exit code instead of a traceback for a user's mistake."""

    def __init__(self, name: str):
        self.name = name

    def say(self, sentence: str) -> None:
        print(as_called(f"{self.name}: {sentence}"), file=sys.stderr)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, traceback) -> bool:
        if isinstance(error, UserError):
            # a data loader's process hands the message over below its own traceback
            message = str(error).rsplit("UserError: ", 1)[-1].strip()
            self.say(message)
            raise SystemExit(2) from None
        if isinstance(error, Stopped):
            self.say(str(error))
            raise SystemExit(error.exit_code) from None
        if isinstance(error, BrokenPipeError):
            # who read what is printed has seen enough: `… | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None
        if isinstance(error, KeyboardInterrupt):
            # a second one has nothing left to stop
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self.say("stopped by Ctrl-C.")
            raise SystemExit(130) from None
        if isinstance(error, Exception) and (sentence := sentence_for(error)):
            self.say(sentence)
            raise SystemExit(2) from None
        return False

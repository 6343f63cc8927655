"""The command line: Hydra's, with a sentence for every mistake before anything heavy is imported.

`@command("train")` makes a function of the composed configuration into a program. Before Hydra runs it, what was typed is
checked against `conf/` (`asr.config.checks`).
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.cli.sweeps import (
    best_on_dev,
    keep_job,
    same_run,
    same_trainings,
    show_sweep,
    take_jobs,
    write_sweep,
)
from asr.config.checks import check_overrides
from asr.config.help import help_text
from asr.config.hydra_settings import is_multirun, search_folders
from asr.config.overrides import as_hydra_takes, escaped, halves, is_sweep, key_of, parsed, quoted
from asr.config.settings import CONF, OWN, all_knobs, compose, file_of, inherited, plain, text_of
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
    """Makes `function(config)` a program that `conf/<config_name>.yaml` configures.

    files: arguments without a `=`, names of existing files or folders, and `-` become `config.files`.
    aliases: keys that may be typed for others; Hydra takes the name of a group for nothing else.
    arguments: changes what was typed before anything else reads it.
    UserError ends the program with its sentence on standard error and exit code 2, Ctrl-C with 130. A function of files returns
    how many of them failed; the exit code is 1 if any did.
    """

    def decorate(function: Callable[[Any], Any]) -> Callable[[], None]:
        asked = Program(config_name, function, files, aliases or {}, arguments or (lambda typed: typed))

        @functools.wraps(function)
        def program() -> None:
            settle()
            with mistakes_as_sentences(Path(sys.argv[0]).name):
                asked.run()

        return program

    return decorate


@dataclass(frozen=True)
class Program:
    """A function of a configuration, and how its command line is read. The fields are the arguments of `command`."""

    config_name: str
    function: Callable[[Any], Any]
    files: bool
    aliases: dict[str, str]
    arguments: Callable[[list[str]], list[str]]

    def run(self) -> None:
        """Reads and checks the command line, then has Hydra run it. Raises UserError for a mistake in it."""
        named = take_files() if self.files else []
        for key, meant in self.aliases.items():
            sys.argv[1:] = [re.sub(rf"^{key}=", f"{meant}=", argument) for argument in sys.argv[1:]]
        asked = hydra_options(sys.argv[1:])
        if asked.shell_completion:
            return self.run_with_hydra(self.config_name, named, sys.argv[1:])
        config_name = asked.config_name or self.config_name
        search_folders(config_name, asked.config_dir, asked.overrides)
        if asked.help:
            return self.show_help()
        if not file_of(config_name).is_file():
            raise UserError(
                f"--config-name {config_name}: there is no {file_of(config_name)}. Name a file of conf/, or give its folder with "
                "--config-dir DIR."
            )
        if not asked.multirun and is_multirun(config_name, asked.overrides):
            sys.argv.append("--multirun")
        sys.argv[1:] = self.arguments(flags_first(sys.argv[1:], asked.overrides))
        taken = as_hydra_takes(config_name, sys.argv[1:])
        jobs = check_overrides(config_name, taken)
        check_libraries()
        for sentence in same_trainings(jobs):
            print(sentence, flush=True)
        with own_folder(config_name, taken) as folder:
            self.run_with_hydra(config_name, named, [*taken, *folder])

    def run_with_hydra(self, config_name: str, named: list[str], arguments: list[str]) -> None:
        function = functools.partial(with_files, self.function, named) if self.files else self.function
        run_with_hydra(config_name, function, Path(sys.argv[0]).name, arguments)

    def show_help(self) -> None:
        about = inspect.cleandoc(self.function.__doc__ or "")
        print(as_called(help_text(self.config_name, about, "[file …]" if self.files else "")), flush=True)


def hydra_options(arguments: list[str]) -> Any:
    """The command line in the parts that Hydra gives it (`overrides`, `multirun`, `config_dir`, …), in any order.

    Raises UserError for flags that contradict each other and for those that this program does not take.
    """
    from hydra._internal.utils import get_args_parser

    asked = get_args_parser().parse_intermixed_args(arguments)
    if asked.experimental_rerun is not None:
        raise UserError(
            "--experimental-rerun: a pickle runs whatever code is in it, so none is read. "
            "Run the command in the run's command.txt instead."
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
    """The arguments with all flags before all settings, where Hydra finds them; --multirun only once."""
    flags = list(arguments)
    for setting in reversed(settings):
        del flags[len(flags) - 1 - flags[::-1].index(setting)]
    several = [flag for flag in flags if flag in ("-m", "--multirun")]
    return [*several[:1], *(flag for flag in flags if flag not in several), *settings]


def take_files() -> list[str]:
    """Takes the file names out of the arguments, as they may hold characters that mean something to Hydra."""
    is_file = {
        argument: argument == "-" or not argument.startswith("-") and ("=" not in argument or os.path.exists(argument))
        for argument in sys.argv[1:]
    }
    named = [argument for argument in sys.argv[1:] if is_file[argument]]
    sys.argv[1:] = [argument for argument in sys.argv[1:] if not is_file[argument]]
    return named


def with_files(function: Callable[[Any], int], named: list[str], config: Any) -> None:
    """Calls a function of files with those named on the command line; ends the program with 1 if some failed."""
    before = [config.files] if isinstance(config.files, str) else config.files
    config.files = [*before, *map(escaped, named)]
    if function(config):
        raise SystemExit(1)


def typed_settings() -> list[str]:
    """The settings typed on the command line, in Hydra's form, in which another process may be given them."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    # not resolved: `\\${` would lose its backslash
    typed = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return list(map(str, typed or ()))


def typed_knobs(config: Any) -> dict[str, int]:
    """The knobs typed on the command line, with their values."""
    typed = {key_of(setting) for setting in typed_settings()}
    return {knob: config[knob] for knob in all_knobs() if knob in typed}


def asked_of_checkpoint(config: Any) -> dict[str, Any]:
    """The arguments that the requests of all programs with a checkpoint share."""
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
    """The settings of a group typed on the command line: "lm" for `decoder.lm=…`, and "name" for `decoder=…`."""
    typed = [key_of(setting) for setting in typed_settings()]
    return ["name" if key == group else key[len(group) + 1 :] for key in typed if f"{key}.".startswith(f"{group}.")]


@contextlib.contextmanager
def own_folder(config_name: str, arguments: list[str]) -> Iterator[list[str]]:
    """Makes the folder of a run or a sweep if the user named none; yields the setting that tells Hydra its name.

    Runs that start in the same second get folders of their own. A folder that stays empty is removed.
    """
    asked = hydra_options(arguments)
    key = "hydra.sweep.dir" if asked.multirun else "run"
    named = {key_of(setting) for setting in asked.overrides} & ({key} if asked.multirun else {key, "hydra.run.dir"})
    if (
        named
        and not asked.multirun
        or not any("\nrun:" in text_of(name) for name in inherited(config_name))
        or asked.cfg
        or asked.info
        or asked.hydra_help
    ):
        yield []
        return
    single = [setting for setting in asked.overrides if not is_sweep(parsed(*halves(setting)))]
    config = compose(config_name, single, with_hydra=True)
    if named:
        # its name may hold the time, to be read only once
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

    def guarded(config: Any) -> Any:
        # the command that a run records is what was typed; a launcher may have moved the job to another process
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
    # so that Hydra raises errors instead of printing them
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(guarded)()
    except HydraException as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"The configuration does not compose: {reason}. Mend the setting or the file it names."
        ) from None
    except ValueError as error:
        # Optuna's, if every training failed; each has said why
        if str(error) != "No trials are completed yet.":
            raise
    finally:
        sys.argv = typed
        jobs = take_jobs(sweep) if sweep is not None else []
        if sweep is not None and jobs:
            show_sweep(sweep, write_sweep(sweep, jobs))
    if any(job["failed"] for job in jobs):
        raise SystemExit(1)


def sweep_folder(arguments: list[str]) -> str | None:
    """The folder of a multirun, as its arguments name it; None for a single run."""
    asked = hydra_options(arguments)
    named = [parsed(*halves(one)) for one in asked.overrides if key_of(one) == "hydra.sweep.dir"]
    return str(getattr(named[-1], "text", named[-1])) if asked.multirun and named else None


def one_of_several(function: Callable[[Any], Any], config: Any, folder: Path, name: str) -> Any:
    """Runs one job of a multirun. A mistake in it is reported and does not keep the others from running.

    Its outcome is kept in the folder of the sweep, as a launcher may run jobs in other processes or on other machines. Returns
    what `function` returns, or None if it fails; for a training that has run before, what that one reached.
    """
    from hydra.core.hydra_config import HydraConfig

    overrides, number = typed_settings(), HydraConfig.get().job.num
    # where the command was typed: with hydra.job.chdir=true the job is elsewhere
    here = Path(HydraConfig.get().runtime.cwd)
    sweep = here / HydraConfig.get().sweep.dir
    print(f"\n[{number + 1}] {' '.join(overrides)}", flush=True)
    job: dict[str, Any] = {
        "overrides": overrides,
        "run": os.path.relpath(folder, here),
        "dev": None,
        "said": "stopped",
        "failed": True,
    }
    keep_job(sweep, number, job)
    same = same_run(folder, config)
    if same is not None:
        dev = best_on_dev(same)
        said = f"the same training as {same.name}"
        job |= {"run": os.path.relpath(same, here), "dev": dev, "said": said, "failed": False}
        keep_job(sweep, number, job)
        print(f"the same training as {job['run']}: not run again")
        remove_if_empty(folder)
        return dev
    try:
        result = function(config)
        job |= {"dev": result, "said": "", "failed": False}
        return result
    except Stopped as error:
        job["said"] = str(error)
        raise
    except UserError as error:
        job["said"] = str(error)
        print(as_called(f"{name}: {error}"), file=sys.stderr)
        return None
    except SystemExit as error:
        # its own processes have said why they failed; a signal ends the whole sweep
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
    """Ends the program with a sentence and an exit code, rather than a traceback, for a user's mistake. name: the program's."""

    def __init__(self, name: str):
        self.name = name

    def say(self, sentence: str) -> None:
        print(as_called(f"{self.name}: {sentence}"), file=sys.stderr)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, UserError):
            # the process of a data loader puts its traceback before the message
            message = str(error).rsplit("UserError: ", 1)[-1].strip()
            self.say(message)
            raise SystemExit(2) from None
        if isinstance(error, Stopped):
            self.say(str(error))
            raise SystemExit(error.exit_code) from None
        if isinstance(error, BrokenPipeError):
            # the reader of the output has seen enough: `… | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(141) from None
        if isinstance(error, KeyboardInterrupt):
            # a second Ctrl-C has nothing left to stop
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self.say("stopped by Ctrl-C.")
            raise SystemExit(130) from None
        if isinstance(error, Exception) and (sentence := sentence_for(error)):
            self.say(sentence)
            raise SystemExit(2) from None

"""The story of a run: a configuration → a trained, saved and scored recognizer."""

from __future__ import annotations

import contextlib
from pathlib import Path

from rich.console import Console

from asr.cli.sweeps import best_on_dev
from asr.config.settings import where_settings_lie
from asr.data.health import quick_check, refuse_leaks
from asr.errors import UserError
from asr.evaluation.card.card import update_card
from asr.model.checkpoint import open_checkpoint
from asr.model.folder import save_model
from asr.runtime.files import remove_if_empty
from asr.runtime.processes import ProcessGroup, current_world, joined, launch
from asr.training.fitting import fit
from asr.training.phones import keep_phone_lm
from asr.training.resuming import last_checkpoint, resumed_config
from asr.training.run_folder import alone_in, keep_config, start_run
from asr.training.setup import describe, load_corpus, set_up
from asr.training.summary import announce, dropped_rows, report
from asr.training.trainer import check_run_settings, make_loggers


def train(config, typed: list[str] | None = None) -> float:
    """Trains what `conf/train.yaml` describes and returns the best error rate on dev, 0 to 1: what a sweeper minimizes.

    The test split is scored as well, but nothing should be chosen by it.

    typed: the settings (key=value) given on the command line: further processes are started with them, and a resumed run takes
    only those. With trainer.devices above 1 it launches that many processes, unless torchrun or SLURM did.
    Raises UserError for everything that a user can put right, before any training.
    """
    typed = typed or []
    own_folder = Path(config.run)
    if config.resume is not None:
        config = resumed_config(config, typed)
    wanted = config.trainer.devices * config.trainer.num_nodes
    if wanted > 1 and current_world().size == 1:
        return train_in_processes(config, typed)
    with joined(config.trainer.accelerator, wanted) as group:
        # the folder's name holds the time, which every process read for itself
        config.run = group.broadcast(str(config.run))
        if Path(config.run) != own_folder:
            remove_if_empty(own_folder)
        with alone_in(Path(config.run)) if group.rank == 0 else contextlib.nullcontext():
            return train_here(config, group)


def train_in_processes(config, typed: list[str]) -> float:
    """`train` in `trainer.devices` new processes on this machine."""
    if config.trainer.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={config.trainer.num_nodes}: start the processes with torchrun or srun, on every machine."
        )
    kept = [item for item in typed if not item.startswith("run=")]
    launch(config.trainer.devices, [*where_settings_lie(), *kept, f"run={config.run}"])
    return best_error_rate(Path(config.run))


def train_here(config, group: ProcessGroup) -> float:
    """`train` in one process of the job."""
    lead = group.rank == 0
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, quiet=not lead)
    run = Path(config.run)
    resume = last_checkpoint(run) if config.resume is not None else None
    start_from = None if config.init_from is None or resume else open_checkpoint(config.init_from)
    description = describe(config)
    check_run_settings(config)
    corpus = load_corpus(config, group, resume)
    leaks = quick_check(corpus)
    if not config.data.allow_leaks:
        refuse_leaks(leaks)
    setup = set_up(config, corpus, description, start_from, group, resume, console)
    loggers = make_loggers(config, run, resume.position.steps + 1 if resume else None)
    if lead and resume:
        keep_config(run, config)
    elif lead:
        start_run(run, config, corpus.splits, dropped_rows(corpus, setup.splits.values()))
    if lead:
        keep_phone_lm(run, setup.scoring.units, resumed=resume is not None)
    announce(console, config, corpus, setup)
    for leak in leaks.leaks if lead else ():
        console.print(leak.sentence)

    best = fit(config, run, setup, loggers, console)
    if lead:
        save_model(run / "model", open_checkpoint(best).model, setup.scoring.units, setup.trained_on)
        update_card(run / "model", run / "evaluation")
    group.broadcast(None)  # the others wait until the model is saved
    report(console, config, run, group)
    return best_error_rate(run)


def best_error_rate(run: Path) -> float:
    """The best error rate on dev of a run that has ended, 0 to 1."""
    rate = best_on_dev(run)
    assert rate is not None, "every training ends with a validation"
    return rate

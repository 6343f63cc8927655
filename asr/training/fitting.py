"""Fitting: from the first step to the best checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from asr.config.settings import plain
from asr.data.batches import Utterances, evaluation_loader
from asr.errors import UserError
from asr.runtime.signals import StopSignals
from asr.training.position import Position, Stepping
from asr.training.resuming import ResumePoint
from asr.training.schedules import schedules
from asr.training.setup import TrainingSetup
from asr.training.trainer import data_workers, make_trainer

if TYPE_CHECKING:
    from asr.training.checkpoints import KeepCheckpoints
    from asr.training.module import Recognizer


def fit(config, run: Path, setup: TrainingSetup, loggers: list, console: Console) -> Path:
    """Trains, and returns the path of the best checkpoint. Raises UserError for settings that the trainer refuses."""
    import lightning

    from asr.training.checkpoints import BEST, KeepCheckpoints
    from asr.training.metrics import cut_back
    from asr.training.progress import ShowProgress

    lightning.seed_everything(config.seed, workers=True, verbose=False)
    position = setup.resume.position if setup.resume else Position()
    finished = not position.validation_due and stepping_of(config).is_over(position, setup.plan.total)
    if finished and position.best is None:
        raise UserError(
            f"{run} ended at step {position.steps} without a validation; resume it with a larger max_epochs=…"
        )
    loader, dev_loader = make_loaders(config, setup, position)
    if setup.resume and setup.group.rank == 0:
        cut_back(run / "metrics.csv", position.steps, position.validated == position.steps)
    setup.model.encoder.checkpoint_activations = config.trainer.activation_checkpointing
    if config.trainer.compile:
        setup.model.encoder.compile(dynamic=True)
    progress = ShowProgress(setup.scoring.metric.name)
    with StopSignals() as stop:
        recognizer = make_recognizer(config, setup, progress.say, stop)
        keep = KeepCheckpoints(
            run, config.checkpoint_steps, config.checkpoint_minutes, config.average_checkpoints, stop
        )
        trainer = make_trainer(config, run, recognizer, dev_loader, [progress, keep], loggers)
        if finished:
            console.print(
                f"nothing is left to train: {position.batches // setup.plan.per_epoch} of {setup.plan.epochs} epochs are over, "
                f"with {position.unimproved} validations since the best one"
            )
        else:
            run_trainer(trainer, recognizer, loader, dev_loader, setup.resume, keep)
        average_candidates(trainer, recognizer, keep, dev_loader, setup.resume, console)
        # nothing listens for signals after the last step; a resumed run does what is left, which is scoring
        if setup.group.broadcast(stop.received is not None):
            raise keep.stopped(recognizer.position.steps)
    return run / "checkpoints" / BEST


def stepping_of(config) -> Stepping:
    """How the configuration takes steps, validates and ends."""
    return Stepping(
        accumulate=config.trainer.accumulate_grad_batches,
        clip=config.trainer.gradient_clip_val,
        validations=config.trainer.validations,
        max_minutes=config.max_minutes,
        stop_after=config.stop_after,
        average=config.moving_average,
        rehearse=config.trainer.rehearse,
    )


def make_loaders(config, setup: TrainingSetup, position: Position):
    """(the training batches from `position` on, this process's share of dev). Raises UserError if dev is too small to share."""
    train, dev, group = setup.train, setup.dev, setup.group
    loader = setup.plan.loader(
        Utterances(train.cuts, train.labels, setup.readings), data_workers(config), position.batches
    )
    dev_loader = evaluation_loader(
        Utterances(dev.cuts, dev.labels, setup.readings), dev.frames, config.data.evaluation_frames,
        ranks=group.size, rank=group.rank,
    )  # fmt: skip
    if len(dev.cuts) < group.size:
        raise UserError(
            f"The dev split has {len(dev.cuts)} utterances, fewer than there are processes ({group.size}): lower "
            "trainer.devices or trainer.num_nodes."
        )
    return loader, dev_loader


def make_recognizer(config, setup: TrainingSetup, say: Callable[[str], None], stop: StopSignals) -> Recognizer:
    """say: shows the user a line."""
    import hydra

    from asr.training.module import Recognizer
    from asr.training.watchdogs import Watchdogs

    optimizer = hydra.utils.instantiate(config.optimizer, _partial_=True)
    watchdogs = Watchdogs(**plain(config.watch), say=say)
    return Recognizer(setup, optimizer, schedules.create(plain(config.schedule)), stepping_of(config), watchdogs, stop)


def run_trainer(
    trainer, recognizer: Recognizer, loader, dev_loader, resume: ResumePoint | None, keep: KeepCheckpoints
) -> None:
    """Runs Lightning's `fit`, and translates how it ended: raises UserError, Stopped or KeyboardInterrupt."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    try:
        trainer.fit(recognizer, loader, dev_loader, ckpt_path=str(resume.file) if resume else None, weights_only=True)
    except SIGTERMException:
        raise keep.stopped_early() from None
    except MisconfigurationException as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"The trainer refuses its settings: {reason}. Change trainer.…; --help lists them.") from None
    except SystemExit:
        # Lightning turns Ctrl-C into exit code 1; the command line reports what happened
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise


def average_candidates(
    trainer, recognizer: Recognizer, keep: KeepCheckpoints, dev_loader, resume: ResumePoint | None, console: Console
) -> None:
    """Averages the weights of the best validations; the average becomes `best.ckpt` if it is better on dev."""
    from asr.training.averaging import average_of_files
    from asr.training.checkpoints import BEST

    if resume and recognizer.position.steps == 0:
        recognizer.position = resume.position
    position = recognizer.position
    files = [keep.candidate(step) for _, step in position.candidates if keep.candidate(step).is_file()]
    if len(files) < 2 or position.best is None:
        return
    recognizer.load_state_dict(average_of_files(files))
    trainer.validate(recognizer, dev_loader, verbose=False)
    assert recognizer.dev_score is not None  # the validation just made
    averaged, metric = recognizer.dev_score.error_rate, recognizer.scorer.scoring.metric
    console.print(
        f"average of the {len(files)} best: dev {metric.name.upper()} {averaged:.2%}, the best of them {position.best:.2%}"
    )
    if averaged < position.best:
        trainer.save_checkpoint(keep.folder / BEST, weights_only=True)

"""Fitting a recognizer: from the first step to the best checkpoint."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from asr.config.settings import plain
from asr.data.batches import TrainingPlan, Utterances, evaluation_loader
from asr.errors import UserError
from asr.training.position import Position
from asr.training.resuming import ResumePoint
from asr.training.setup import TrainingSetup
from asr.training.trainer import data_workers, make_trainer


def fit(config, run: Path, setup: TrainingSetup, loggers: list, console: Console) -> Path:
    """Trains, and returns the path of the best checkpoint. Raises UserError for settings that the trainer refuses."""
    import lightning

    from asr.runtime.signals import StopSignals
    from asr.training.checkpoints import BEST, KeepCheckpoints
    from asr.training.metrics import cut_back
    from asr.training.progress import ShowProgress

    lightning.seed_everything(config.seed, workers=True, verbose=False)
    rank, ranks, _ = setup.together.place
    position = setup.resume.position if setup.resume else Position()
    finished = nothing_left(config, position, setup.plan)
    if finished and position.best is None:
        raise UserError(f"{run} is at step {position.steps} and was never validated; give it more epochs than that.")
    train, dev = setup.train, setup.dev
    loader = setup.plan.loader(Utterances(train.cuts, train.labels), data_workers(config), position.batches)
    dev_loader = evaluation_loader(
        Utterances(dev.cuts, dev.labels), dev.frames, config.data.evaluation_frames, ranks=ranks, rank=rank
    )
    if len(dev.cuts) < ranks:
        raise UserError(
            f"The dev split has {len(dev.cuts)} utterances, fewer than there are processes ({ranks}): use fewer."
        )
    if setup.resume and rank == 0:
        cut_back(run / "metrics.csv", position.steps, position.validated == position.steps)
    setup.model.encoder.checkpoint_activations = config.trainer.activation_checkpointing
    if config.trainer.compile:
        setup.model.encoder.compile(dynamic=True)
    progress = ShowProgress(setup.metric.name)
    with StopSignals() as stop:
        recognizer = make_recognizer(config, setup, progress.say, stop)
        keep = KeepCheckpoints(
            run, config.checkpoint_steps, config.checkpoint_minutes, config.average_checkpoints, stop
        )
        trainer = make_trainer(config, run, recognizer, dev_loader, [progress, keep], loggers)
        if finished:
            console.print(
                f"nothing is left to train: {position.batches // setup.plan.per_epoch} of {setup.plan.epochs} epochs are over, "
                f"and {position.unimproved} validations have passed since the best one"
            )
        else:
            run_trainer(trainer, recognizer, loader, dev_loader, setup.resume, keep)
        average_candidates(trainer, recognizer, keep, dev_loader, setup.resume, console)
        # nothing listens for signals after the last step: resuming does what is left, which is scoring
        if setup.together.share(stop.received is not None):
            raise keep.stopped(recognizer.position.steps)
    return run / "checkpoints" / BEST


def nothing_left(config, position: Position, plan: TrainingPlan) -> bool:
    """Whether a run has ended. One that had ended continues if it may now take longer."""
    if position.validation_due:
        return False
    late = bool(config.max_minutes) and position.seconds >= 60 * config.max_minutes
    converged = config.stop_after is not None and position.unimproved >= config.stop_after
    return position.batches >= plan.total or late or converged


def make_recognizer(config, setup: TrainingSetup, say, stop):
    import hydra

    from asr.training.module import Recognizer
    from asr.training.position import Stepping
    from asr.training.watchdogs import Watchdogs

    stepping = Stepping(
        accumulate=config.trainer.accumulate_grad_batches,
        clip=config.trainer.gradient_clip_val,
        validations=config.trainer.validations,
        max_minutes=config.max_minutes,
        stop_after=config.stop_after,
        average=config.moving_average,
        rehearse=config.trainer.rehearse,
    )
    optimizer, schedule = (
        hydra.utils.instantiate(config.optimizer, _partial_=True),
        hydra.utils.instantiate(config.schedule),
    )
    return Recognizer(setup, optimizer, schedule, stepping, Watchdogs(**plain(config.watch), say=say), stop)


def run_trainer(trainer, recognizer, loader, dev_loader, resume: ResumePoint | None, keep) -> None:
    """Runs Lightning's `fit`, and says in our words how it ended."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    try:
        trainer.fit(recognizer, loader, dev_loader, ckpt_path=str(resume.file) if resume else None, weights_only=True)
    except SIGTERMException:
        raise keep.stopped_early() from None
    except MisconfigurationException as error:
        raise UserError(f"The trainer refuses its settings: {' '.join(str(error).split())}") from None
    except SystemExit:
        # Lightning turns Ctrl-C into exit code 1; the command line says what happened
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise


def average_candidates(trainer, recognizer, keep, dev_loader, resume, console: Console) -> None:
    """Averages the weights of the best validations; the average becomes `best.ckpt` if it is better on dev."""
    from asr.training.averaging import average_of_files
    from asr.training.checkpoints import BEST

    if resume and recognizer.position.steps == 0:
        recognizer.position = resume.position
    position = recognizer.position
    files = [keep.candidate(step) for _, step in position.candidates if keep.candidate(step).is_file()]
    if len(files) < 2:
        return
    recognizer.load_state_dict(average_of_files(files))
    trainer.validate(recognizer, dev_loader, verbose=False)
    console.print(
        f"average of the {len(files)} best: dev {recognizer.units.metric.upper()} {recognizer.error_rate:.2%}, "
        f"the best of them {position.best:.2%}"
    )
    if recognizer.error_rate < position.best:
        trainer.save_checkpoint(keep.folder / BEST, weights_only=True)

"""The fitting of a recognizer: what Lightning's trainer is given, and what comes after its last step."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from asr.config.settings import plain
from asr.data.batches import TrainingPlan, Utterances, evaluation_loader
from asr.data.checks import CheckedSplit
from asr.errors import UserError
from asr.model.checkpoint import CARRIED
from asr.runtime.devices import on_gpu
from asr.runtime.precision import precision_of
from asr.runtime.processes import Alone, Together
from asr.runtime.processors import reading_workers
from asr.scoring.metric import Metric

# our name for Lightning's strategy of sharding by FSDP2
FSDP = "fsdp"
# packages of loggers that are not installed with asr
OPTIONAL = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}
# settings of conf/trainer that are ours, not Lightning's
OWN_SETTINGS = (
    "matmul_precision", "validations", "find_batch", "compile", "activation_checkpointing", "gradient_clip_val",
    "accumulate_grad_batches", "rehearse", "memory_share", "memory_limit",
)  # fmt: skip


def check_run_settings(config) -> None:
    """Builds optimizer, schedule and trainer once for nothing; raises UserError for a setting that one of them refuses."""
    import hydra
    import lightning  # noqa: F401 - sets its loggers' levels, which `quiet` changes

    quiet()
    precision_of(config.trainer.precision, config.trainer.accelerator)
    refuse_unshardable(config)
    refuse_missing_packages(config)
    if not 0 < config.trainer.memory_share <= 1:
        raise UserError(f"trainer.memory_share takes a share above 0 and up to 1, not {config.trainer.memory_share}.")
    if config.moving_average is not None and not 0 < config.moving_average < 1:
        raise UserError(f"moving_average takes a decay between 0 and 1, such as 0.999, not {config.moving_average}.")
    try:
        hydra.utils.instantiate(config.optimizer, params=[torch.nn.Parameter(torch.zeros(1))])
        hydra.utils.instantiate(config.schedule)
        alone = {**trainer_settings(config), "devices": 1, "num_nodes": 1, "strategy": "auto"}
        hydra.utils.instantiate(alone, logger=False, enable_checkpointing=False)
    except Exception as error:
        reason = error.__cause__ or error
        raise UserError(
            f"The optimizer, schedule or trainer refuses its settings: {' '.join(str(reason).split())}"
        ) from None


def trainer_settings(config) -> dict[str, Any]:
    """What Lightning's trainer is made of: `conf/trainer` without our own settings."""
    settings = plain(config.trainer)
    for own in OWN_SETTINGS:
        settings.pop(own)
    settings["precision"] = precision_of(settings["precision"], settings["accelerator"]).of_lightning
    return {
        **settings,
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "check_val_every_n_epoch": None,
    }


def fit(
    config, run: Path, model, units, decoder, splits: dict[str, CheckedSplit], trained_on, plan: TrainingPlan,
    together: Alone | Together, saved, loggers: list, console: Console, metric: Metric,
) -> Path:  # fmt: skip
    """Trains, and returns the path of the best checkpoint.

    saved: (file, content, …) of the checkpoint to go on from. metric: what dev is scored in.
    """
    import hydra
    import lightning
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from asr.runtime.signals import StopSignals
    from asr.training.checkpoints import BEST, KeepCheckpoints, WholeCheckpoints
    from asr.training.metrics import MetricsFile, cut_back
    from asr.training.module import Recognizer
    from asr.training.position import Stepping
    from asr.training.progress import ShowProgress
    from asr.training.watchdogs import Watchdogs

    lightning.seed_everything(config.seed, workers=True, verbose=False)
    rank, ranks, _ = together.place
    train_split, dev, data = splits["train"], splits["dev"], config.data
    position = saved[1][CARRIED]["position"] if saved else {"batches": 0, "steps": 0, "seconds": 0.0}
    start = position["batches"]
    # a run that had ended goes on if it may now take longer
    over = start >= plan.total or bool(config.max_minutes) and position["seconds"] >= 60 * config.max_minutes
    over = over or config.stop_after is not None and position.get("unimproved", 0) >= config.stop_after
    over = over and not position.get("validation_due")
    if over and position["best"] is None:
        raise UserError(f"{run} is at step {position['steps']} and was never validated; give it more epochs than that.")
    loader = plan.loader(Utterances(train_split.cuts, train_split.labels), data_workers(config), start)
    dev_loader = evaluation_loader(
        Utterances(dev.cuts, dev.labels), dev.frames, data.evaluation_frames, ranks=ranks, rank=rank
    )
    if len(dev.cuts) < ranks:
        raise UserError(
            f"The dev split has {len(dev.cuts)} utterances, fewer than there are processes ({ranks}): use fewer."
        )
    if saved and rank == 0:
        cut_back(run / "metrics.csv", position["steps"], position["validated"] == position["steps"])
    model.encoder.checkpoint_activations = config.trainer.activation_checkpointing
    if config.trainer.compile:
        model.encoder.compile(dynamic=True)
    progress = ShowProgress(metric.name)
    with StopSignals() as stop:
        recognizer = Recognizer(
            model, units, decoder,
            hydra.utils.instantiate(config.optimizer, _partial_=True),
            hydra.utils.instantiate(config.schedule),
            plan, train_split, dev, trained_on,
            Stepping(
                accumulate=config.trainer.accumulate_grad_batches,
                clip=config.trainer.gradient_clip_val,
                validations=config.trainer.validations,
                max_minutes=config.max_minutes,
                stop_after=config.stop_after,
                average=config.moving_average,
                rehearse=config.trainer.rehearse,
            ),
            Watchdogs(**plain(config.watch), say=progress.say),
            together, stop, metric,
        )  # fmt: skip
        keep = KeepCheckpoints(
            run, config.checkpoint_steps, config.checkpoint_minutes, config.average_checkpoints, stop
        )
        settings = trainer_settings(config)
        if settings["strategy"] == FSDP:
            settings["strategy"] = sharding(recognizer, dev_loader, ranks)
        elif ranks > 1:
            from lightning.pytorch.strategies import DDPStrategy

            # buffers never change while training; gradients are summed in one message by the recognizer
            settings["strategy"] = DDPStrategy(broadcast_buffers=False)
        else:
            settings["strategy"] = "auto"
        trainer = hydra.utils.instantiate(settings, _partial_=True)(
            max_epochs=1,
            callbacks=[progress, keep],
            logger=[
                MetricsFile(run / "metrics.csv"),
                *loggers,
            ],
            enable_checkpointing=False,
            plugins=[WholeCheckpoints()],
            val_check_interval=2**62,
        )
        if over:
            console.print(
                f"nothing is left to train: {start // plan.per_epoch} of {plan.epochs} epochs are over, and "
                f"{position.get('unimproved', 0)} validations have passed since the best one"
            )
        else:
            try:
                trainer.fit(
                    recognizer, loader, dev_loader, ckpt_path=str(saved[0]) if saved else None, weights_only=True
                )
            except SIGTERMException:
                raise keep.stopped_early() from None
            except MisconfigurationException as error:
                raise UserError(f"The trainer refuses its settings: {' '.join(str(error).split())}") from None
            except SystemExit:
                # Lightning turns Ctrl-C into exit code 1; the command line says what happened
                if trainer.interrupted:
                    raise KeyboardInterrupt from None
                raise
        best = run / "checkpoints" / BEST
        average_candidates(trainer, recognizer, keep, dev_loader, saved, together, console)
        # after the last step nothing else listens: what is left, scoring, is done by going on
        if together.share(stop.received is not None):
            raise keep.stopped(recognizer.position.steps)
    return best


def data_workers(config) -> int:
    """How many processes read audio for this trainer."""
    asked = config.data.workers
    return reading_workers(on_gpu(config.trainer.accelerator)) if asked == "auto" else asked


def refuse_unshardable(config) -> None:
    """Raises UserError for what does not go together with trainer.strategy=fsdp."""
    if config.trainer.strategy != FSDP:
        return
    reasons = {
        "moving_average; leave it out": config.moving_average,
        "average_checkpoints; leave it out": config.average_checkpoints > 1,
        "a single process; set trainer.devices": config.trainer.devices * config.trainer.num_nodes < 2,
        "float16; use trainer.precision=bf16-mixed": str(config.trainer.precision).startswith("16"),
    }
    for reason, holds in reasons.items():
        if holds:
            raise UserError(f"trainer.strategy={FSDP} does not go together with {reason}.")


def sharding(recognizer, dev_loader, ranks: int):
    """The strategy of trainer.strategy=fsdp: weights, gradients and moments spread over the processes (FSDP2).

    Raises UserError if the dev split does not give every process as many batches as the others.
    """
    from lightning.pytorch.strategies import ModelParallelStrategy

    if recognizer.together.share(len(dev_loader)) != len(dev_loader):
        raise UserError(
            f"The dev split has too few utterances to be divided evenly among {ranks} processes: use fewer."
        )
    recognizer.sharded = True
    return ModelParallelStrategy(data_parallel_size=ranks, tensor_parallel_size=1, save_distributed_checkpoint=False)


def refuse_missing_packages(config) -> None:
    """Raises UserError for a logger whose package is not installed."""
    for name, settings in (plain(config.logger) or {}).items():
        package = OPTIONAL.get(settings["_target_"].rpartition(".")[2])
        if package and importlib.util.find_spec(package) is None:
            raise UserError(
                f"logger={name} needs the package {package}: pip install {package}. logger=none does without; metrics.csv is "
                "always written."
            )


def make_loggers(config, run: Path, purge_step: int | None) -> list:
    """The loggers of `conf/logger`, beside the file of metrics. purge_step: the first step that will be logged again."""
    import hydra

    made = []
    for name, settings in (plain(config.logger) or {}).items():
        try:
            if settings["_target_"].endswith("TensorBoardLogger"):
                settings["purge_step"] = purge_step
            if settings["_target_"].endswith("WandbLogger"):
                # a run that is resumed goes on in its own page
                settings |= {"id": hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:12], "resume": "allow"}
            made.append(hydra.utils.instantiate(settings))
        except Exception as error:
            # hydra's error stands before the library's own
            reason = " ".join(str(error.__cause__ or error).split())
            raise UserError(f"logger={name} cannot be had: {reason}") from None
    return made


def average_candidates(trainer, recognizer, keep, dev_loader, saved, together, console: Console) -> None:
    """Averages the weights of the best validations; the average becomes `best.ckpt` if it is better on dev."""
    from asr.training.averaging import average_of_files
    from asr.training.checkpoints import BEST
    from asr.training.position import Position

    if saved and recognizer.position.steps == 0:
        recognizer.position = Position(**saved[1][CARRIED]["position"])
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


def quiet() -> None:
    """Leaves out what Lightning says to its developers."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*(pytree|LeafSpec|num_workers|does not have many workers).*")

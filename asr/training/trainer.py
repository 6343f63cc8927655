"""Lightning's trainer: its settings, loggers and strategies."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from asr.config.settings import plain
from asr.errors import UserError
from asr.runtime.devices import on_gpu
from asr.runtime.precision import precision_of
from asr.runtime.processors import reading_workers
from asr.training.schedules import schedules

# our name for Lightning's strategy of sharding by FSDP2
FSDP = "fsdp"
# packages of loggers that asr does not install
OPTIONAL = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}
# settings of conf/trainer that are ours rather than Lightning's
OWN_SETTINGS = (
    "matmul_precision", "validations", "find_batch", "compile", "activation_checkpointing", "gradient_clip_val",
    "accumulate_grad_batches", "rehearse", "memory_share", "memory_limit",
)  # fmt: skip


def check_run_settings(config) -> None:
    """Builds optimizer, schedule and trainer on trial. Raises UserError for a setting that one of them refuses."""
    import hydra
    import lightning  # noqa: F401 - sets the levels of its loggers, which `quiet` then lowers

    quiet()
    precision_of(config.trainer.precision, config.trainer.accelerator)
    refuse_unshardable(config)
    refuse_missing_packages(config)
    if not 0 < config.trainer.memory_share <= 1:
        raise UserError(f"trainer.memory_share takes a share above 0 and up to 1, not {config.trainer.memory_share}.")
    if config.moving_average is not None and not 0 < config.moving_average < 1:
        raise UserError(f"moving_average takes a decay between 0 and 1, such as 0.999, not {config.moving_average}.")
    schedules.create(plain(config.schedule))
    try:
        hydra.utils.instantiate(config.optimizer, params=[torch.nn.Parameter(torch.zeros(1))])
        alone = {**trainer_settings(config), "devices": 1, "num_nodes": 1, "strategy": "auto"}
        hydra.utils.instantiate(alone, logger=False, enable_checkpointing=False)
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
        raise UserError(
            f"The optimizer or trainer refuses its settings: {reason}. Change optimizer.… or trainer.…; --help lists them."
        ) from None


def trainer_settings(config) -> dict[str, Any]:
    """The arguments of Lightning's trainer: `conf/trainer` without our own settings."""
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


def make_trainer(config, run: Path, recognizer, dev_loader, callbacks: list, loggers: list):
    """The trainer of a run. Raises UserError if dev cannot be divided among processes that shard weights (FSDP)."""
    import hydra

    from asr.training.checkpoints import WholeCheckpoints
    from asr.training.lightning_loop import ONE_LONG_EPOCH
    from asr.training.metrics import MetricsFile

    settings = trainer_settings(config)
    settings["strategy"] = strategy_of(settings["strategy"], recognizer, dev_loader)
    return hydra.utils.instantiate(settings, _partial_=True)(
        **ONE_LONG_EPOCH,
        callbacks=callbacks,
        logger=[MetricsFile(run / "metrics.csv"), *loggers],
        enable_checkpointing=False,
        plugins=[WholeCheckpoints()],
    )


def strategy_of(name: str, recognizer, dev_loader):
    """How Lightning distributes the training: the name of one of its strategies, or the strategy itself."""
    ranks = recognizer.group.size
    if name == FSDP:
        return sharding(recognizer, dev_loader, ranks)
    if ranks == 1:
        return "auto"
    from lightning.pytorch.strategies import DDPStrategy

    # buffers never change while training; `StepGradients` sums gradients in one message
    return DDPStrategy(broadcast_buffers=False)


def data_workers(config) -> int:
    """Number of processes that read audio for this trainer."""
    asked = config.data.workers
    return reading_workers(on_gpu(config.trainer.accelerator)) if asked == "auto" else asked


def refuse_unshardable(config) -> None:
    """Raises UserError for settings that trainer.strategy=fsdp does not support."""
    if config.trainer.strategy != FSDP:
        return
    reasons = {
        ("moving_average", "Leave that out."): config.moving_average,
        ("average_checkpoints", "Leave that out."): config.average_checkpoints > 1,
        ("a single process", "Set trainer.devices."): config.trainer.devices * config.trainer.num_nodes < 2,
        ("float16", "Use trainer.precision=bf16-mixed."): str(config.trainer.precision).startswith("16"),
    }
    for (reason, advice), holds in reasons.items():
        if holds:
            raise UserError(f"trainer.strategy={FSDP} does not work with {reason}. {advice}")


def sharding(recognizer, dev_loader, ranks: int):
    """The strategy of trainer.strategy=fsdp: weights, gradients and moments are sharded over the processes (FSDP2).

    Raises UserError if dev does not give every process the same number of batches.
    """
    from lightning.pytorch.strategies import ModelParallelStrategy

    if recognizer.group.broadcast(len(dev_loader)) != len(dev_loader):
        raise UserError(
            f"The dev split has too few utterances to be divided evenly among {ranks} processes: lower "
            "trainer.devices or trainer.num_nodes."
        )
    recognizer.sharded = True
    return ModelParallelStrategy(data_parallel_size=ranks, tensor_parallel_size=1, save_distributed_checkpoint=False)


def refuse_missing_packages(config) -> None:
    """Raises UserError for a logger whose package is not installed."""
    for name, settings in (plain(config.logger) or {}).items():
        package = OPTIONAL.get(settings["_target_"].rpartition(".")[2])
        if package and importlib.util.find_spec(package) is None:
            raise UserError(
                f"logger={name} needs the package {package}: pip install {package}. Or use logger=none: metrics.csv is "
                "always written."
            )


def make_loggers(config, run: Path, purge_step: int | None) -> list:
    """The loggers of `conf/logger`, beside `metrics.csv`. purge_step: first step that a resumed run logs again, else None.

    Raises UserError if one cannot be created.
    """
    import hydra

    made = []
    for name, settings in (plain(config.logger) or {}).items():
        try:
            if settings["_target_"].endswith("TensorBoardLogger"):
                settings["purge_step"] = purge_step
            if settings["_target_"].endswith("WandbLogger"):
                # a resumed run continues on its own page
                settings |= {"id": hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:12], "resume": "allow"}
            made.append(hydra.utils.instantiate(settings))
        except Exception as error:
            # Hydra's error wraps the library's
            reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
            raise UserError(
                f"logger={name} cannot be created: {reason}. Use logger=none to train without it."
            ) from None
    return made


def quiet() -> None:
    """Silences what Lightning tells its developers."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*(pytree|LeafSpec|num_workers|does not have many workers).*")

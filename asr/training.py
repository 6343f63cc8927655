"""The main job: a configuration → a trained, saved and scored recognizer."""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from asr.checkpoint import Checkpoint, open_checkpoint
from asr.corpora import Corpus, corpora
from asr.data.batches import Utterances, evaluation_loader, training_loader
from asr.data.checks import CheckedSplit, check_split, refuse_if_many
from asr.decoders import decoders
from asr.errors import UserError
from asr.losses import losses
from asr.model import Model, refuse_unshared
from asr.model_folder import save_model
from asr.run_folder import command_line, start_run
from asr.units import Units, build_units

# optimizer steps in which the default encoder learns the built-in corpus
ENOUGH_STEPS = 1750


def plain(config) -> Any:
    """A part of the configuration as plain data."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(config, resolve=True)


def train(config) -> float:
    """Trains what `conf/train.yaml` describes and returns the error rate on the test split, 0 to 1.

    Raises UserError for everything that a user can put right, before any training.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    run = Path(config.run)
    start_from = None if config.init_from is None else open_checkpoint(config.init_from)
    description = describe(config)
    check_run_settings(config)
    corpus = corpora.create(plain(config.corpus)).load(Path(config.cache), workers=os.cpu_count() or 1)
    description["features"]["sample_rate"] = corpus.sample_rate
    torch.set_float32_matmul_precision(config.trainer.matmul_precision)
    torch.manual_seed(config.seed)
    units = choose_units(config, corpus, start_from)
    description["units"] = len(units.symbols)
    model = Model(description)
    said = initialize(model, units, start_from)
    loss, decoder = losses.create(plain(config.loss)), decoders.create(plain(config.decoder))
    splits = check_splits(corpus, units, model, loss, config.data.max_dropped)
    trained_on = {
        "corpus": plain(config.corpus),
        "units": plain(config.units),
        "command": command_line(),
        "init_from": config.init_from,
    }
    gather_statistics(model, splits["train"], config.data.evaluation_frames)
    start_run(run, config, corpus.splits, dropped_rows(corpus, splits.values()))
    announce(console, config, corpus, splits, model, units, said)

    best = fit(config, run, model, units, loss, decoder, splits, trained_on)
    trained = open_checkpoint(best)
    save_model(run / "model", trained.model, units, trained_on)
    return report(console, config, run, units)


def describe(config) -> dict[str, Any]:
    """The plain description of the model that a configuration asks for; `features.sample_rate` and `units` come later."""
    from asr.attention import attentions

    description = {part: plain(config[part]) for part in ("features", "encoder", "attention")}
    needed = attentions.get(description["attention"]["name"]).shared_qk
    if description["encoder"]["shared_qk"] == "auto":
        description["encoder"]["shared_qk"] = needed
    refuse_unshared(description["attention"], description["encoder"]["shared_qk"])
    try:
        # what cannot be built is said now, not after minutes of preparing a corpus
        Model({**description, "features": {**description["features"], "sample_rate": 16000}, "units": 2})
    except UserError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"This model cannot be built: {error}") from None
    return description


def check_run_settings(config) -> None:
    """Builds optimizer, schedule and trainer once for nothing; raises UserError for a setting that one of them refuses."""
    import hydra
    import lightning  # noqa: F401 - sets its loggers' levels, which `quiet` changes

    quiet()
    if config.trainer.devices != 1:
        raise UserError(
            f"trainer.devices={config.trainer.devices}: training on several devices is not there yet; use 1."
        )
    try:
        hydra.utils.instantiate(config.optimizer, params=[torch.nn.Parameter(torch.zeros(1))])
        hydra.utils.instantiate(config.schedule)
        hydra.utils.instantiate(trainer_settings(config), logger=False, enable_checkpointing=False)
    except Exception as error:
        reason = error.__cause__ or error
        raise UserError(
            f"The optimizer, schedule or trainer refuses its settings: {' '.join(str(reason).split())}"
        ) from None


def trainer_settings(config) -> dict[str, Any]:
    """What Lightning's trainer is made of: `conf/trainer` without our own settings."""
    settings = plain(config.trainer)
    for own in ("matmul_precision", "validations"):
        settings.pop(own)
    settings["precision"] = settings["precision"] or default_precision(settings["accelerator"])
    return {
        **settings,
        "use_distributed_sampler": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "check_val_every_n_epoch": None,
    }


def choose_units(config, corpus: Corpus, start_from: Checkpoint | None) -> Units:
    """The units of the training split; pieces and characters are those of the checkpoint that training starts from."""
    settings = plain(config.units)
    if start_from is not None and start_from.units.name == settings["name"] != "phonemes":
        return start_from.units
    return build_units(settings, (cut.supervisions[0] for cut in corpus.splits["train"]))


def initialize(model: Model, units: Units, other: Checkpoint | None) -> str | None:
    """Copies the weights of another checkpoint; returns what to tell the user about it."""
    if other is None:
        return None
    weights, own = other.model.state_dict(), model.state_dict()
    fresh = [name for name in own if name not in weights or weights[name].shape != own[name].shape]
    if other.units.symbols != units.symbols:
        fresh = sorted({*fresh, *(name for name in own if name.startswith("head."))})
    if any(not name.startswith("head.") for name in fresh):
        names = ", ".join(name for name in fresh if not name.startswith("head."))
        raise UserError(
            f"The weights of {other.path} do not fit this encoder: {names}. Use the encoder it was trained with."
        )
    model.load_state_dict({**own, **{name: weights[name] for name in own if name not in fresh}})
    return f"weights of {other.path}" + (", with a new layer to other units" if fresh else "")


def check_splits(corpus: Corpus, units: Units, model: Model, loss, max_dropped: float) -> dict[str, CheckedSplit]:
    """Checks every utterance before training; raises UserError if too many cannot be used."""
    splits = {}
    for name in ("train", "dev", "test"):
        splits[name] = check_split(
            name,
            corpus.splits[name],
            units,
            model.features.frames_of,
            model.encoder.output_lengths,
            # the test split is only scored, so that an utterance without a finite loss still counts there
            loss.required_frames if name != "test" else None,
            fewest_frames_of=model.features.fewest_frames_of if name == "train" else None,
        )
        refuse_if_many(splits[name], max_dropped, "data.max_dropped")
    return splits


def gather_statistics(model: Model, split: CheckedSplit, batch_frames: int) -> None:
    """Takes the statistics of global normalization from the training split, if the features want any."""
    if model.features.wants_statistics:
        loader = evaluation_loader(Utterances(split.cuts, split.labels), split.frames, batch_frames)
        model.features.gather_statistics((batch.waveforms, batch.samples) for batch in loader)


def dropped_rows(corpus: Corpus, splits) -> list[tuple[str, str, str]]:
    rows = [("preparation", utterance, reason) for utterance, reason in corpus.dropped]
    return rows + [(split.name, utterance, reason) for split in splits for utterance, reason in split.dropped]


def announce(console: Console, config, corpus: Corpus, splits, model: Model, units: Units, said: str | None) -> None:
    for split in splits.values():
        line = f"{split.name:>5}: {len(split.cuts)} utterances, {split.seconds / 3600:.2f} h"
        if split.dropped:
            reasons = ", ".join(f"{count} × {reason}" for reason, count in split.reasons().most_common())
            line += f"; {len(split.dropped)} dropped ({reasons}), listed in {config.run}/dropped.tsv"
        console.print(line)
    if corpus.dropped:
        reasons = Counter(reason.split(":")[0] for _, reason in corpus.dropped).most_common()
        listed = ", ".join(f"{count} × {reason}" for reason, count in reasons)
        console.print(
            f"left out when the corpus was prepared: {len(corpus.dropped)} ({listed}), in {config.run}/dropped.tsv"
        )
    frames = splits["train"].frames
    outputs = model.encoder.output_lengths(sum(frames) // len(frames))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    console.print(
        f"corpus {corpus.name}, {len(units.symbols) - 1} {units.name}; attention {model.attention_label()} over {outputs} "
        f"frames on average, {model.encoder.output_lengths(max(frames))} at most; {parameters / 1e6:.2f} M parameters"
    )
    if said:
        console.print(said)


def fit(config, run: Path, model, units, loss, decoder, splits: dict[str, CheckedSplit], trained_on) -> Path:
    """Trains, and returns the path of the best checkpoint."""
    import hydra
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    from asr.progress import ShowProgress
    from asr.recognizer import Recognizer

    lightning.seed_everything(config.seed, workers=True, verbose=False)
    train_split, dev = splits["train"], splits["dev"]
    data = config.data
    loader = training_loader(Utterances(train_split.cuts, train_split.labels), train_split.frames, data, config.seed)
    dev_loader = evaluation_loader(Utterances(dev.cuts, dev.labels), dev.frames, data.evaluation_frames)
    recognizer = Recognizer(
        model,
        units,
        loss,
        decoder,
        hydra.utils.instantiate(config.optimizer, _partial_=True),
        hydra.utils.instantiate(config.schedule),
        dev.references,
        trained_on,
        config.max_minutes,
    )
    keep = ModelCheckpoint(
        run / "checkpoints", filename="best", monitor="dev/error_rate", mode="min", save_last=True,
        enable_version_counter=False,
    )  # fmt: skip
    callbacks = [keep, ShowProgress(units.metric)]
    epochs = epochs_for(config.max_epochs, len(loader))
    trainer = hydra.utils.instantiate(trainer_settings(config), _partial_=True)(
        max_epochs=epochs,
        max_time={"seconds": round(config.max_minutes * 60)} if config.max_minutes else None,
        callbacks=callbacks,
        logger=[CSVLogger(run, name="", version=""), TensorBoardLogger(run, name="", version="tensorboard")],
        val_check_interval=validation_interval(len(loader) * epochs, config),
    )
    try:
        trainer.fit(recognizer, loader, dev_loader)
    except SystemExit:
        # Lightning turns Ctrl-C into exit code 1; the command line says what happened
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise
    if recognizer.validated_step != trainer.global_step:
        # the last steps came after the last validation
        trainer.validate(recognizer, dev_loader, verbose=False)
        error_rate = trainer.callback_metrics["dev/error_rate"]
        if keep.best_model_score is None or error_rate < keep.best_model_score:
            trainer.save_checkpoint(run / "checkpoints" / "best.ckpt")
        trainer.save_checkpoint(run / "checkpoints" / "last.ckpt")
    return run / "checkpoints" / "best.ckpt"


def epochs_for(max_epochs: int | str, batches: int) -> int:
    """The passes over the training split: as asked for, or at least 4 and so many that a small corpus is learned too."""
    return max(4, round(ENOUGH_STEPS / batches)) if max_epochs == "auto" else max_epochs


def validation_interval(batches: int, config) -> int | dict[str, float]:
    """What lies between two validations: batches, or seconds where training is bounded by minutes."""
    validations = max(1, config.trainer.validations)
    if config.max_minutes:
        return {"seconds": max(1, round(60 * config.max_minutes / validations))}
    return -(-batches // min(validations, batches))


def default_precision(accelerator: str) -> str:
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported() else "32-true"


def quiet() -> None:
    """Leaves out what Lightning says to its developers."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*(pytree|LeafSpec|num_workers|does not have many workers).*")


def report(console: Console, config, run: Path, units: Units) -> float:
    """Scores the test split, draws the learning curves, and says where everything lies."""
    from asr.evaluation import Request, evaluate
    from asr.plots import plot_learning_curves

    request = Request(
        checkpoint=str(run), split="test", cache=str(config.cache), decoder=plain(config.decoder),
        batch_frames=config.data.evaluation_frames, max_dropped=config.data.max_dropped,
    )  # fmt: skip
    scores = evaluate(request)
    plot_learning_curves(run / "metrics.csv", run / "learning_curves.png")
    low, high = scores["interval"]
    console.print(
        f"\ntest {scores['metric'].upper()} {scores['error_rate']:.2%} (95 % interval {low:.2%} to {high:.2%}; "
        f"{scores['utterances']} utterances, {scores['reference_length']} {scores['tokens']}), "
        f"attention {scores['attention']}\n"
        f"model      {run / 'model'}\n"
        f"tables     {scores['folder']}\n"
        f"curves     {run / 'learning_curves.png'}\n"
        f"score it   python evaluate.py checkpoint={run}\n"
        f"repeat it  {command_line()}"
    )
    return scores["error_rate"]

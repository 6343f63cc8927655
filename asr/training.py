"""The main job: a configuration → a trained, saved and scored recognizer."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from asr.checkpoint import CARRIED, Checkpoint, open_checkpoint, pack_units, unpack_units
from asr.command import remove_if_empty
from asr.corpora import Corpus, corpora
from asr.data.batches import TrainingPlan, Utterances, evaluation_loader
from asr.data.checks import CheckedSplit, check_split, refuse_if_many
from asr.data.health import quick_check, refuse_leaks
from asr.data.memory_model import MemoryModel
from asr.data.plan import Bounds
from asr.decoders import decoders
from asr.errors import UserError
from asr.losses import losses
from asr.model import Model, refuse_unshared
from asr.model_folder import save_model
from asr.processes import Alone, Together, joined, launch, place
from asr.resuming import check_same, last_checkpoint, resumed_config
from asr.run_folder import alone_in, fingerprint, first_command, keep_config, start_run
from asr.units import Units, build_units

# optimizer steps in which the default encoder learns the built-in corpus
ENOUGH_STEPS = 1750
# steps of an epoch below which batches are large for their corpus
FEW_STEPS = 20
# our name for Lightning's strategy of sharding by FSDP2
FSDP = "fsdp"
# settings of conf/trainer that are ours, not Lightning's
OWN_SETTINGS = (
    "matmul_precision", "validations", "find_batch", "compile", "activation_checkpointing", "gradient_clip_val",
    "accumulate_grad_batches", "rehearse", "memory_share",
)  # fmt: skip


def plain(config) -> Any:
    """A part of the configuration as plain data."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(config, resolve=True)


def train(config, typed: list[str] | None = None) -> float:
    """Trains what `conf/train.yaml` describes and returns the error rate on the test split, 0 to 1.

    typed: the settings (key=value) that were given on the command line: another process is started with them, and a run that
    is resumed takes only those. With trainer.devices above 1 it starts as many processes, unless torchrun or SLURM did.
    Raises UserError for everything that a user can put right, before any training.
    """
    typed = typed or []
    own_folder = Path(config.run)
    if config.resume is not None:
        config = resumed_config(config, typed)
    wanted = config.trainer.devices * config.trainer.num_nodes
    if wanted > 1 and place().ranks == 1:
        return train_in_processes(config, typed)
    with joined(config.trainer.accelerator, wanted) as together:
        # the folder's name holds the time, which each process read for itself
        config.run = together.share(str(config.run))
        if Path(config.run) != own_folder:
            remove_if_empty(own_folder)
        with alone_in(Path(config.run)) if together.place.rank == 0 else contextlib.nullcontext():
            return train_here(config, together)


def train_in_processes(config, typed: list[str]) -> float:
    if config.trainer.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={config.trainer.num_nodes}: start the processes with torchrun or srun, on every machine."
        )
    kept = [item for item in typed if not item.startswith("run=")]
    launch(config.trainer.devices, [*kept, f"run={config.run}"])
    # every attention has a folder of its own; the one that was just written is this model's
    scores = max(Path(config.run).glob("evaluation/test/*/scores.json"), key=os.path.getmtime)
    return json.loads(scores.read_text(encoding="utf8"))["error_rate"]


def train_here(config, together: Alone | Together) -> float:
    """`train` in a process of a job."""
    lead = together.place.rank == 0
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, quiet=not lead)
    run = Path(config.run)
    saved = last_checkpoint(run) if config.resume is not None else None
    start_from = None if config.init_from is None or saved else open_checkpoint(config.init_from)
    description = describe(config)
    check_run_settings(config)
    loading = corpora.create(plain(config.corpus))
    corpus = together.first(lambda: loading.load(Path(config.cache), workers=os.cpu_count() or 1))
    leaks = quick_check(corpus)
    if not config.data.allow_leaks:
        refuse_leaks(leaks)
    description["features"]["sample_rate"] = corpus.sample_rate
    torch.set_float32_matmul_precision(config.trainer.matmul_precision)
    torch.manual_seed(config.seed)
    if saved:
        check_corpus_is_the_same(run, corpus)
        units = unpack_units(saved[1][CARRIED]["units"], str(saved[0]))
    else:
        units = choose_units(config, corpus, start_from)
        units = (
            units if not isinstance(together, Together) else unpack_units(together.share(pack_units(units)), "rank 0")
        )
    description["units"] = len(units.symbols)
    model = Model(description)
    said = go_on(model, saved) if saved else initialize(model, units, start_from)
    loss, decoder = losses.create(plain(config.loss)), decoders.create(plain(config.decoder))
    splits = check_splits(corpus, units, model, loss, config.data.max_dropped, config.data.longest_seconds)
    trained_on = {
        "corpus": plain(config.corpus),
        "units": plain(config.units),
        "command": first_command(run),
        "init_from": config.init_from,
    }
    gather_statistics(model, splits["train"], config.data.evaluation_frames)
    plan = plan_training(config, model, loss, splits["train"], together, saved, console)
    if saved:
        check_same(saved[1][CARRIED]["plan"], plan.as_data(), saved[0])
    loggers = make_loggers(config, run, saved[1][CARRIED]["position"]["steps"] + 1 if saved else None)
    if lead and saved:
        keep_config(run, config)
    elif lead:
        start_run(run, config, corpus.splits, dropped_rows(corpus, splits.values()))
    announce(console, config, corpus, splits, model, units, said)
    for leak in leaks.leaks if lead else ():
        console.print(leak.sentence)

    best = fit(config, run, model, units, loss, decoder, splits, trained_on, plan, together, saved, loggers, console)
    if lead:
        trained = open_checkpoint(best)
        save_model(run / "model", trained.model, units, trained_on)
    together.share(None)
    return report(console, config, run, together)


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
    refuse_unshardable(config)
    if not 0 < config.trainer.memory_share <= 1:
        raise UserError(f"trainer.memory_share takes a share above 0 and up to 1, not {config.trainer.memory_share}.")
    if config.moving_average is not None and not 0 < config.moving_average < 1:
        raise UserError(f"moving_average takes a decay between 0 and 1, such as 0.999, not {config.moving_average}.")
    try:
        hydra.utils.instantiate(config.optimizer, params=[torch.nn.Parameter(torch.zeros(1))])
        hydra.utils.instantiate(config.schedule)
        alone = {**trainer_settings(config), "devices": 1, "num_nodes": 1}
        if alone["strategy"] == FSDP:
            alone["strategy"] = "auto"
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


def go_on(model: Model, saved: tuple[Path, dict[str, Any], list[str]]) -> str:
    """Takes the weights that a run goes on with; returns what to tell the user about it."""
    file, content, said = saved
    then = open_checkpoint(file).model
    if then.description != model.description:
        changed = ", ".join(part for part in model.description if then.description[part] != model.description[part])
        raise UserError(
            f"{file} holds another model than the run's config.yaml describes: {changed}. The file was changed."
        )
    model.load_state_dict(then.state_dict())
    position = content[CARRIED]["position"]
    return "\n".join([*said, f"going on after step {position['steps']}, from {file}"])


def check_corpus_is_the_same(run: Path, corpus: Corpus) -> None:
    """Raises UserError if the corpus is not the one that a run was started with."""
    file = run / "environment.json"
    try:
        then = json.loads(file.read_text(encoding="utf8"))["data_fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{file} does not hold the run's data_fingerprint: it is missing, cut short or changed."
        ) from None
    if then != fingerprint(corpus.splits):
        raise UserError(
            f"The corpus {corpus.name} has changed since the run {run} was started ({file}). Start a new run with init_from={run}"
        )


def check_splits(
    corpus: Corpus, units: Units, model: Model, loss, max_dropped: float, longest_seconds: float | None = None
) -> dict[str, CheckedSplit]:
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
            longest_seconds=longest_seconds,
        )
        refuse_if_many(splits[name], max_dropped, "data.max_dropped")
    return splits


def gather_statistics(model: Model, split: CheckedSplit, batch_frames: int) -> None:
    """Takes the statistics of global normalization from the training split, if the features want any."""
    if model.features.wants_statistics:
        loader = evaluation_loader(Utterances(split.cuts, split.labels), split.frames, batch_frames)
        model.features.gather_statistics((batch.waveforms, batch.samples) for batch in loader)


def plan_training(config, model, loss, split: CheckedSplit, together, saved, console: Console) -> TrainingPlan:
    """The batches of the training, bounded by frames, or by memory with trainer.find_batch=true."""
    bounds = Bounds(config.data.batch_frames, config.data.batch_utterances)
    if config.trainer.find_batch:
        if saved:
            measured = saved[1][CARRIED]["plan"]["memory"]
            memory = MemoryModel(**measured) if measured else None
        else:
            from asr.batch_size import measure_memory

            memory = together.share(measure_memory(config, model, loss, split, together, console))
        bounds = Bounds(None, config.data.batch_utterances, memory)
    rank, ranks, _ = together.place
    plan = TrainingPlan(split.frames, bounds, config.seed, ranks, rank)
    plan.epochs = epochs_for(config.max_epochs, plan.per_epoch)
    if config.trainer.find_batch and plan.per_epoch < FEW_STEPS:
        console.print(
            f"trainer.find_batch: the largest batches that fit make only {plan.per_epoch} steps an epoch, which may be too few "
            "to learn from; data.batch_utterances bounds them (data.batch_frames does not while find_batch is on)"
        )
    return plan


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


def fit(
    config, run: Path, model, units, loss, decoder, splits: dict[str, CheckedSplit], trained_on, plan: TrainingPlan,
    together: Alone | Together, saved, loggers: list, console: Console,
) -> Path:  # fmt: skip
    """Trains, and returns the path of the best checkpoint. saved: (file, content, …) of the checkpoint to go on from."""
    import hydra
    import lightning
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from asr.metrics import MetricsFile, cut_back
    from asr.position import Stepping
    from asr.progress import ShowProgress
    from asr.recognizer import Recognizer
    from asr.saving import BEST, KeepCheckpoints, WholeCheckpoints
    from asr.stopping import StopSignals
    from asr.watchdogs import Watchdogs

    lightning.seed_everything(config.seed, workers=True, verbose=False)
    rank, ranks, _ = together.place
    train_split, dev, data = splits["train"], splits["dev"], config.data
    position = saved[1][CARRIED]["position"] if saved else {"batches": 0, "steps": 0, "seconds": 0.0}
    start = position["batches"]
    # a run that had ended goes on if it may now take longer
    over = start >= plan.total or bool(config.max_minutes) and position["seconds"] >= 60 * config.max_minutes
    over = over and not position.get("validation_due")
    if over and position["best"] is None:
        raise UserError(f"{run} is at step {position['steps']} and was never validated; give it more epochs than that.")
    loader = plan.loader(Utterances(train_split.cuts, train_split.labels), data.workers, start)
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
    progress = ShowProgress(units.metric)
    with StopSignals() as stop:
        recognizer = Recognizer(
            model, units, loss, decoder,
            hydra.utils.instantiate(config.optimizer, _partial_=True),
            hydra.utils.instantiate(config.schedule),
            plan, train_split, dev, trained_on,
            Stepping(
                accumulate=config.trainer.accumulate_grad_batches,
                clip=config.trainer.gradient_clip_val,
                validations=config.trainer.validations,
                max_minutes=config.max_minutes,
                average=config.moving_average,
                rehearse=config.trainer.rehearse,
            ),
            Watchdogs(**plain(config.watch), say=progress.say),
            together, stop,
        )  # fmt: skip
        keep = KeepCheckpoints(
            run, config.checkpoint_steps, config.checkpoint_minutes, config.average_checkpoints, stop
        )
        settings = trainer_settings(config)
        if settings["strategy"] == FSDP:
            settings["strategy"] = sharding(recognizer, dev_loader, ranks)
        elif ranks > 1 and settings["strategy"] == "auto":
            from lightning.pytorch.strategies import DDPStrategy

            # buffers never change while training; gradients are summed in one message by the recognizer
            settings["strategy"] = DDPStrategy(broadcast_buffers=False)
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
            console.print(f"nothing is left to train: {start // plan.per_epoch} of {plan.epochs} epochs are over")
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
    from asr.averaging import average_of_files
    from asr.position import Position
    from asr.saving import BEST

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


def epochs_for(max_epochs: int | str, batches: int) -> int:
    """The passes over the training split: as asked for, or at least 4 and so many that a small corpus is learned too."""
    return max(4, round(ENOUGH_STEPS / batches)) if max_epochs == "auto" else max_epochs


def default_precision(accelerator: str) -> str:
    """bfloat16 for products of matrices where the machine has units for it: a GPU's, or a CPU's AMX."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if torch.cpu.get_capabilities().get("amx_bf16") else "32-true"


def quiet() -> None:
    """Leaves out what Lightning says to its developers."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*(pytree|LeafSpec|num_workers|does not have many workers).*")


def report(console: Console, config, run: Path, together: Alone | Together) -> float:
    """Scores the test split, draws the learning curves, and says where everything lies."""
    from asr.evaluation import Request, evaluate
    from asr.plots import plot_learning_curves

    request = Request(
        checkpoint=str(run), split="test", cache=str(config.cache), decoder=plain(config.decoder),
        batch_frames=config.data.evaluation_frames, max_dropped=config.data.max_dropped,
        longest_seconds=config.data.longest_seconds, report=config.report,
    )  # fmt: skip
    scores = evaluate(request, together)
    if together.place.rank == 0:
        plot_learning_curves(run / "metrics.csv", run / "learning_curves.png")
        low, high = scores["interval"]
        page = f"page       {scores['report']}\n" if scores["report"] else ""
        console.print(
            f"\ntest {scores['metric'].upper()} {scores['error_rate']:.2%} (95 % interval {low:.2%} to {high:.2%}; "
            f"{scores['utterances']} utterances, {scores['reference_length']} {scores['tokens']}), "
            f"attention {scores['attention']}\n"
            f"model      {run / 'model'}\n"
            f"tables     {scores['folder']}\n{page}"
            f"curves     {run / 'learning_curves.png'}\n"
            f"score it   python evaluate.py checkpoint={run}\n"
            f"repeat it  {first_command(run)}"
        )
    return scores["error_rate"]

"""The main job: a configuration → a trained, saved and scored recognizer."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from asr.cli.sweeps import best_on_dev
from asr.config.settings import plain, where_settings_lie
from asr.data.batches import TrainingPlan, Utterances, evaluation_loader
from asr.data.checks import CheckedSplit, check_split, refuse_if_many
from asr.data.corpora import Corpus, corpora
from asr.data.corpora.preparing.folders import SPLITS
from asr.data.corpora.preparing.unusable import reasons_of
from asr.data.dropped import refuse_unusable
from asr.data.fingerprint import data_facts
from asr.data.health import quick_check, refuse_leaks
from asr.data.memory_model import MemoryModel
from asr.data.moved import facts_of_run, load_own, refuse_other_data
from asr.data.plan import Bounds
from asr.errors import UserError
from asr.evaluation.card.card import update_card
from asr.evaluation.card.facts import card_facts
from asr.inference.decoders import decoders
from asr.model.checkpoint import CARRIED, open_checkpoint, pack_units, unpack_units
from asr.model.encoders import encoders
from asr.model.folder import save_model
from asr.model.network import Model
from asr.runtime.called import as_called
from asr.runtime.files import remove_if_empty
from asr.runtime.precision import precision_of
from asr.runtime.processes import Alone, Together, joined, launch, place
from asr.runtime.processors import processors
from asr.scoring.metric import Metric, choose_metric, said_beside
from asr.text.units import Units
from asr.training.fitting import check_run_settings, fit, make_loggers
from asr.training.resuming import check_same, last_checkpoint, resumed_config
from asr.training.run_folder import alone_in, first_command, keep_config, start_run
from asr.training.starting import choose_units, initialize

# optimizer steps in which the default encoder learns the built-in corpus
ENOUGH_STEPS = 1750
# steps of an epoch below which batches are large for their corpus
FEW_STEPS = 20


def train(config, typed: list[str] | None = None) -> float:
    """Trains what `conf/train.yaml` describes and returns the best error rate on dev, 0 to 1: what a sweeper minimizes.

    The test split is scored too, but nothing is to be chosen by it.

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
    launch(config.trainer.devices, [*where_settings_lie(), *kept, f"run={config.run}"])
    return best_on_dev(Path(config.run))


def train_here(config, together: Alone | Together) -> float:
    """`train` in a process of a job."""
    lead = together.place.rank == 0
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, quiet=not lead)
    run = Path(config.run)
    saved = last_checkpoint(run) if config.resume is not None else None
    start_from = None if config.init_from is None or saved else open_checkpoint(config.init_from)
    description = describe(config)
    check_run_settings(config)
    settings, cache, workers = plain(config.corpus), Path(config.cache), processors()
    loading = corpora.create(settings)
    corpus = together.first(
        lambda: load_own(settings, cache, workers, compared=True) if saved else loading.load(cache, workers=workers)
    )
    refuse_unusable(corpus, SPLITS, config.data.max_dropped, "data.max_dropped")
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
        units, about_units = choose_units(config, corpus, start_from)
        units = (
            units if not isinstance(together, Together) else unpack_units(together.share(pack_units(units)), "rank 0")
        )
    description["units"] = len(units.symbols)
    model = Model(description).to(precision_of(config.trainer.precision, config.trainer.accelerator).weights)
    if saved:
        said = go_on(model, saved)
    else:
        said = "\n".join(filter(None, [about_units, initialize(model, units, start_from)]))
    decoder = validation_decoder(config, units)
    splits = check_splits(corpus, units, model, config.data.max_dropped, config.data.longest_seconds)
    metric = validation_metric(config, units, splits["dev"])
    trained_on = {
        "corpus": plain(config.corpus),
        "units": plain(config.units),
        "command": first_command(run),
        "init_from": config.init_from,
        **data_facts(corpus.splits),
        **card_facts(corpus, splits),
    }
    gather_statistics(model, splits["train"], config.data.evaluation_frames)
    plan = plan_training(config, model, splits["train"], together, saved, console)
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

    best = fit(
        config, run, model, units, decoder, splits, trained_on, plan, together, saved, loggers, console, metric
    )  # fmt: skip
    if lead:
        trained = open_checkpoint(best)
        save_model(run / "model", trained.model, units, trained_on)
        update_card(run / "model", run / "evaluation")
    together.share(None)
    report(console, config, run, together)
    return best_on_dev(run)


def validation_decoder(config, units: Units):
    """The decoder that dev is scored with while training: the one that was chosen, unless it searches for words: that is slow."""
    decoder = decoders.create(plain(config.decoder)).bind(units)
    return decoders.create({"name": "greedy"}) if decoder.gives_words else decoder


def validation_metric(config, units: Units, dev: CheckedSplit) -> Metric:
    """What dev is scored in while training, and the best weights are chosen by. Raises UserError if it cannot be.

    Where the decoder finds words from phonemes, metric=… is meant for these, and dev is scored in phonemes.
    """
    finds_words = decoders.get(config.decoder.name).gives_words and units.metric == "per"
    return choose_metric("auto" if finds_words else config.metric, units.metric, dev.references)


def describe(config) -> dict[str, Any]:
    """The plain description of the model that a configuration asks for; `features.sample_rate` and `units` come later."""
    from asr.model.attention import attentions

    description = {part: plain(config[part]) for part in ("features", "encoder", "attention", "head")}
    needed = attentions.get(description["attention"]["name"]).shared_qk
    description["encoder"] = encoders.get(description["encoder"]["name"]).settled(description["encoder"], needed)
    try:
        # what cannot be built is said now, not after minutes of preparing a corpus
        model = Model({**description, "features": {**description["features"], "sample_rate": 16000}, "units": 2})
        with torch.no_grad():
            model.head.emissions(torch.zeros(1, 1, model.encoder.output_dim))  # which dev is decoded from
    except UserError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"This model cannot be built: {error}") from None
    return description


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
    changed = f"The corpus {corpus.name} has changed since the run {run} was started ({run / 'environment.json'})"
    refuse_other_data(facts_of_run(run), corpus, changed, f"Start a new run with init_from={run}")


def check_splits(
    corpus: Corpus, units: Units, model: Model, max_dropped: float, longest_seconds: float | None = None
) -> dict[str, CheckedSplit]:
    """Checks every utterance before training; raises UserError if too many cannot be used."""
    splits = {}
    for name in SPLITS:
        splits[name] = check_split(
            name,
            corpus.splits[name],
            units,
            model.features.frames_of,
            model.encoder.output_lengths,
            # the test split is only scored, so that an utterance without a finite loss still counts there
            model.head.required_frames if name != "test" else None,
            fewest_frames_of=model.features.fewest_frames_of if name == "train" else None,
            longest_seconds=longest_seconds,
            dropped=corpus.dropped_of(name),
        )
        refuse_if_many(splits[name], max_dropped, "data.max_dropped")
    return splits


def gather_statistics(model: Model, split: CheckedSplit, batch_frames: int) -> None:
    """Takes the statistics of global normalization from the training split, if the features want any."""
    if model.features.wants_statistics:
        loader = evaluation_loader(Utterances(split.cuts, split.labels), split.frames, batch_frames)
        model.features.gather_statistics((batch.waveforms, batch.samples) for batch in loader)


def plan_training(config, model, split: CheckedSplit, together, saved, console: Console) -> TrainingPlan:
    """The batches of the training, bounded by frames, or by memory with trainer.find_batch=true."""
    bounds = Bounds(config.data.batch_frames, config.data.batch_utterances)
    if config.trainer.find_batch:
        if saved:
            measured = saved[1][CARRIED]["plan"]["memory"]
            memory = MemoryModel(**measured) if measured else None
        else:
            from asr.training.batch_size import measure_memory

            memory = together.share(measure_memory(config, model, split, together, console))
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
    """(split, utterance, reason) of everything unused; the split is "preparation" if it is none of the three."""
    rows = [("preparation", utterance, reason) for utterance, reason in [*corpus.dropped, *corpus.left_out]]
    checked = [(split.name, utterance, reason) for split in splits for utterance, reason in split.dropped]
    named = {utterance for _, utterance, _ in checked}
    return [row for row in rows if row[1] not in named] + checked


def announce(console: Console, config, corpus: Corpus, splits, model: Model, units: Units, said: str | None) -> None:
    for split in splits.values():
        line = f"{split.name:>5}: {len(split.cuts)} utterances, {split.seconds / 3600:.2f} h"
        if split.dropped:
            reasons = ", ".join(f"{count} × {reason}" for reason, count in split.reasons().most_common())
            line += f"; {len(split.dropped)} dropped ({reasons}), listed in {config.run}/dropped.tsv"
        console.print(line)
    for sentence in corpus.incomplete:
        console.print(f"the corpus is not complete: {sentence}")
    if unplaced := corpus.dropped_of(None):
        console.print(
            f"dropped from the corpus: {len(unplaced)} ({reasons_of(unplaced)}), listed in {config.run}/dropped.tsv"
        )
    if corpus.left_out:
        reasons = reasons_of(corpus.left_out)
        console.print(f"left out on purpose: {len(corpus.left_out)} ({reasons}), listed in {config.run}/dropped.tsv")
    frames = splits["train"].frames
    outputs = model.encoder.output_lengths(sum(frames) // len(frames))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    console.print(
        f"corpus {corpus.name}, {len(units.symbols) - 1} {units.name}; attention {model.attention_label()} over {outputs} "
        f"frames on average, {model.encoder.output_lengths(max(frames))} at most; {parameters / 1e6:.2f} M parameters"
    )
    if said:
        console.print(said)


def epochs_for(max_epochs: int | str, batches: int) -> int:
    """The passes over the training split: as asked for, or at least 4 and so many that a small corpus is learned too."""
    return max(4, round(ENOUGH_STEPS / batches)) if max_epochs == "auto" else max_epochs


def report(console: Console, config, run: Path, together: Alone | Together) -> None:
    """Scores the test split, draws the learning curves, and says where everything lies."""
    from asr.evaluation.evaluate import Request, evaluate
    from asr.evaluation.report.plots import plot_learning_curves

    request = Request(
        checkpoint=str(run), split="test", cache=str(config.cache), decoder=plain(config.decoder),
        batch_frames=config.data.evaluation_frames, max_dropped=config.data.max_dropped,
        longest_seconds=config.data.longest_seconds, report=config.report, metric=config.metric,
    )  # fmt: skip
    scores = evaluate(request, together)
    if together.place.rank == 0:
        plot_learning_curves(run / "metrics.csv", run / "learning_curves.png")
        low, high = scores["interval"]
        settings = [f"checkpoint={run}"] + [f"cache={config.cache}"] * (str(config.cache) != ".cache")
        page = f"page       {scores['report']}\n" if scores["report"] else ""
        beside = said_beside(scores)
        console.print(
            f"\ntest {scores['metric'].upper()} {scores['error_rate']:.2%} (95 % interval {low:.2%} to {high:.2%}; "
            f"{scores['utterances']} utterances, {scores['reference_length']} {scores['tokens']}), "
            f"{beside and f'{beside}, '}attention {scores['attention']}\n"
            f"model      {run / 'model'}\n"
            f"tables     {scores['folder']}\n{page}"
            f"curves     {run / 'learning_curves.png'}\n"
            f"score it   {as_called('python evaluate.py')} {shlex.join(settings)}\n"
            f"repeat it  {first_command(run)}"
        )

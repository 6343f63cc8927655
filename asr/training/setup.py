"""What a training needs: model, units, decoder, splits and plan, made and checked before the first step."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from asr.config.settings import plain
from asr.data.batches import TrainingPlan, Utterances, evaluation_loader
from asr.data.checks import CheckedSplit, check_split, refuse_if_many
from asr.data.corpora import Corpus, corpora
from asr.data.corpora.preparing.folders import SPLITS
from asr.data.dropped import refuse_unusable
from asr.data.fingerprint import data_facts
from asr.data.memory_model import MemoryModel
from asr.data.moved import facts_of_run, load_own, refuse_other_data
from asr.data.plan import Bounds
from asr.errors import UserError
from asr.evaluation.card.facts import card_facts
from asr.inference.decoders import decoders
from asr.model.checkpoint import open_checkpoint, pack_units, unpack_units
from asr.model.encoders import encoders
from asr.model.network import Model
from asr.runtime.precision import precision_of
from asr.runtime.processes import Alone, Together
from asr.runtime.processors import processors
from asr.scoring.metric import Metric, choose_metric
from asr.text.units import Units
from asr.training.resuming import ResumePoint, check_same
from asr.training.run_folder import first_command
from asr.training.starting import choose_units, initialize

# optimizer steps in which the default encoder learns the built-in corpus
ENOUGH_STEPS = 1750
# steps of an epoch below which batches are large for their corpus
FEW_STEPS = 20


@dataclasses.dataclass
class TrainingSetup:
    """What is trained, on what, and with which processes.

    splits: train, dev and, in a run of its own, test. trained_on: plain data for the checkpoint. metric: what chooses the best
    weights on dev, None for the units' own. resume: the checkpoint that the run resumes from. remarks: what to tell the user
    about units and weights.
    """

    model: Model
    units: Units
    decoder: Any
    splits: dict[str, CheckedSplit]
    plan: TrainingPlan
    trained_on: dict[str, Any] = dataclasses.field(default_factory=dict)
    metric: Metric | None = None
    together: Alone | Together = dataclasses.field(default_factory=Alone)
    resume: ResumePoint | None = None
    remarks: str = ""

    def __post_init__(self):
        self.metric = self.metric or choose_metric("auto", self.units.metric, self.dev.references)

    @property
    def train(self) -> CheckedSplit:
        return self.splits["train"]

    @property
    def dev(self) -> CheckedSplit:
        return self.splits["dev"]


def load_corpus(config, together, resume: ResumePoint | None) -> Corpus:
    """The prepared corpus. Raises UserError where too much of it cannot be used."""
    settings, cache, workers = plain(config.corpus), Path(config.cache), processors()
    loading = corpora.create(settings)
    corpus = together.first(
        lambda: load_own(settings, cache, workers, compared=True) if resume else loading.load(cache, workers=workers)
    )
    refuse_unusable(corpus, SPLITS, config.data.max_dropped, "data.max_dropped")
    return corpus


def set_up(config, corpus: Corpus, description, start_from, together, resume, console: Console) -> TrainingSetup:
    """Builds and checks all that is trained. description: of the model; start_from: the checkpoint of init_from.

    Raises UserError for everything that a user can put right.
    """
    run = Path(config.run)
    description["features"]["sample_rate"] = corpus.sample_rate
    torch.set_float32_matmul_precision(config.trainer.matmul_precision)
    torch.manual_seed(config.seed)
    if resume:
        check_corpus_is_the_same(run, corpus)
        units = unpack_units(resume.units, str(resume.file))
    else:
        units, about_units = choose_units(config, corpus, start_from)
        if isinstance(together, Together):
            units = unpack_units(together.share(pack_units(units)), "rank 0")
    description["units"] = len(units.symbols)
    model = Model(description).to(precision_of(config.trainer.precision, config.trainer.accelerator).weights)
    if resume:
        remarks = restore_weights(model, resume)
    else:
        remarks = "\n".join(filter(None, [about_units, initialize(model, units, start_from)]))
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
    plan = plan_training(config, model, splits["train"], together, resume, console)
    if resume:
        check_same(resume.plan, plan.as_data(), resume.file)
    return TrainingSetup(model, units, decoder, splits, plan, trained_on, metric, together, resume, remarks)


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


def restore_weights(model: Model, resume: ResumePoint) -> str:
    """Takes the weights that a run resumes with; returns what to tell the user about it."""
    file = resume.file
    then = open_checkpoint(file).model
    if then.description != model.description:
        changed = ", ".join(part for part in model.description if then.description[part] != model.description[part])
        raise UserError(
            f"{file} holds another model than the run's config.yaml describes: {changed}. The file was changed."
        )
    model.load_state_dict(then.state_dict())
    return "\n".join([*resume.remarks, f"going on after step {resume.position.steps}, from {file}"])


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


def plan_training(config, model, split: CheckedSplit, together, resume, console: Console) -> TrainingPlan:
    """The batches of the training, bounded by frames, or by memory with trainer.find_batch=true."""
    bounds = Bounds(config.data.batch_frames, config.data.batch_utterances)
    if config.trainer.find_batch:
        if resume:
            measured = resume.plan["memory"]
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


def epochs_for(max_epochs: int | str, batches: int) -> int:
    """The passes over the training split: as asked for, or at least 4 and so many that a small corpus is learned too."""
    return max(4, round(ENOUGH_STEPS / batches)) if max_epochs == "auto" else max_epochs

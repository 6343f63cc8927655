"""What a training needs: model, units, decoder, splits and plan, built and checked before the first step."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy
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
from asr.data.readings import Readings
from asr.errors import UserError
from asr.evaluation.card.facts import card_facts
from asr.evaluation.recognition import metric_of
from asr.inference.decoders import Decoder, decoders
from asr.model.checkpoint import Checkpoint, open_checkpoint, pack_units, unpack_units
from asr.model.encoders import encoders
from asr.model.network import Model
from asr.runtime.precision import precision_of
from asr.runtime.processes import ProcessGroup, SingleProcess
from asr.runtime.processors import processors
from asr.text.units import Units
from asr.training.phones import (
    estimate_phone_lm,
    readings_of,
    refuse_unread_topology,
    settle_topology,
    wants_phone_lm,
)
from asr.training.resuming import ResumePoint, check_same
from asr.training.run_folder import first_command
from asr.training.starting import choose_units, initialize
from asr.training.validation import Scoring

# optimizer steps in which the default encoder learns the built-in corpus
ENOUGH_STEPS = 1750
# with fewer steps an epoch, batches are too large for their corpus
FEW_STEPS = 20


@dataclasses.dataclass
class TrainingSetup:
    """What is trained, on what, and by which processes.

    scoring: how dev is scored. splits: train, dev and, in a run, test. trained_on: where the weights come from, plain data for
    checkpoint and model folder. resume: the checkpoint that the run resumes from. remarks: to tell the user about units and
    weights. readings: what may have been said in an utterance, for heads that learn from graphs.
    """

    model: Model
    scoring: Scoring
    splits: dict[str, CheckedSplit]
    plan: TrainingPlan
    trained_on: dict[str, Any] = dataclasses.field(default_factory=dict)
    group: ProcessGroup = dataclasses.field(default_factory=SingleProcess)
    resume: ResumePoint | None = None
    remarks: str = ""
    readings: Readings | None = None

    @property
    def train(self) -> CheckedSplit:
        return self.splits["train"]

    @property
    def dev(self) -> CheckedSplit:
        return self.splits["dev"]


def load_corpus(config, group: ProcessGroup, resume: ResumePoint | None) -> Corpus:
    """The prepared corpus. Raises UserError if too much of it cannot be used."""
    settings, cache, workers = plain(config.corpus), Path(config.cache), processors()
    loading = corpora.create(settings)
    corpus = group.rank_zero_first(
        lambda: load_own(settings, cache, workers, compared=True) if resume else loading.load(cache, workers=workers)
    )
    refuse_unusable(corpus, SPLITS, config.data.max_dropped, "data.max_dropped")
    return corpus


def set_up(
    config, corpus: Corpus, description: dict[str, Any], start_from: Checkpoint | None, group: ProcessGroup,
    resume: ResumePoint | None, console: Console,
) -> TrainingSetup:  # fmt: skip
    """Builds and checks everything that is trained. description: of the model; start_from: the checkpoint of init_from.

    Raises UserError for everything that a user can put right.
    """
    description["features"]["sample_rate"] = corpus.sample_rate
    torch.set_float32_matmul_precision(config.trainer.matmul_precision)
    torch.manual_seed(config.seed)
    units, about_units = units_to_train(config, corpus, description["head"], start_from, group, resume)
    description["units"] = len(units.symbols)
    if units.phone_lm is not None:
        settle_topology(description["head"], units.phone_lm)
    model = Model(description).to(precision_of(config.trainer.precision, config.trainer.accelerator).weights)
    about_weights = restore_weights(model, resume) if resume else initialize(model, units, start_from)
    decoder = validation_decoder(config, units, model)
    splits = check_splits(corpus, units, model, config.data.max_dropped, config.data.longest_seconds)
    scoring = Scoring(units, decoder, metric_of(config.metric, splits["dev"], decoder, units))
    trained_on = origin(config, corpus, splits)
    gather_statistics(model, splits["train"], config.data.evaluation_frames)
    readings = readings_of(model, units)  # before the model's memory is measured
    plan = plan_training(config, model, splits["train"], group, resume, console)
    if resume:
        check_same(resume.plan, plan.as_data(), resume.file)
    remarks = "\n".join(filter(None, [about_units, about_weights]))
    return TrainingSetup(model, scoring, splits, plan, trained_on, group, resume, remarks, readings)


def units_to_train(
    config, corpus: Corpus, head: dict[str, Any], start_from: Checkpoint | None, group: ProcessGroup,
    resume: ResumePoint | None,
) -> tuple[Units, str | None]:  # fmt: skip
    """The units, and what to tell the user about them: those of the run that resumes, or else chosen, by rank 0 for all.

    head: its description; one with a topology gets a phone language model over the units.
    """
    if resume:
        check_corpus_is_the_same(Path(config.run), corpus)
        return unpack_units(resume.units, str(resume.file)), None
    units, about = choose_units(config, corpus, start_from)
    units.phone_lm = estimate_phone_lm(head, units, corpus) if wants_phone_lm(head) else None
    return (units if group.size == 1 else unpack_units(group.broadcast(pack_units(units)), "rank 0")), about


def origin(config, corpus: Corpus, splits: dict[str, CheckedSplit]) -> dict[str, Any]:
    """Where the weights come from, as plain data: corpus, units, command and fingerprints of the data."""
    return {
        "corpus": plain(config.corpus),
        "units": plain(config.units),
        "command": first_command(Path(config.run)),
        "init_from": config.init_from,
        **data_facts(corpus.splits),
        **card_facts(corpus, splits),
    }


def validation_decoder(config, units: Units, model: Model) -> Decoder:
    """The decoder that scores dev during training: the chosen one, or a faster one for units if that one searches for words.

    The words of phonemes have to be searched for if metric=wer or cer is to choose the weights.
    """
    decoder = decoders.create(plain(config.decoder)).bind_to(units, model.topology)
    if not decoder.gives_words or (units.metric == "per" and config.metric in ("wer", "cer")):
        return decoder
    return decoders.create({"name": "greedy" if model.topology.has_blank else "phones"}).bind_to(units, model.topology)


def describe(config) -> dict[str, Any]:
    """The plain description of the configured model; `features.sample_rate` and `units` are filled in later.

    Raises UserError if it cannot be built.
    """
    from asr.model.attention import attentions

    description = {part: plain(config[part]) for part in ("features", "encoder", "attention", "head")}
    refuse_unread_topology(config, description["head"])
    needed = attentions.get(description["attention"]["name"]).shared_qk
    description["encoder"] = encoders.get(description["encoder"]["name"]).settled(description["encoder"], needed)
    try:
        # now, not after minutes of preparing a corpus
        model = Model({**description, "features": {**description["features"], "sample_rate": 16000}, "units": 2})
        with torch.no_grad():
            model.head.emissions(torch.zeros(1, 1, model.encoder.output_dim))  # dev is decoded from these
    except UserError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"This model cannot be built ({error}). Change the settings of its encoder, attention or head."
        ) from None
    return description


def restore_weights(model: Model, resume: ResumePoint) -> str:
    """Loads the weights that a run resumes with; returns what to tell the user about it."""
    file = resume.file
    then = open_checkpoint(file).model
    if then.description != model.description:
        changed = ", ".join(part for part in model.description if then.description[part] != model.description[part])
        raise UserError(
            f"{file} holds another model than the run's config.yaml describes: {changed}. One of the two was changed: put it "
            "back, or start a new run with init_from=…"
        )
    model.load_state_dict(then.state_dict())
    return "\n".join([*resume.remarks, f"resuming after step {resume.position.steps}, from {file}"])


def check_corpus_is_the_same(run: Path, corpus: Corpus) -> None:
    """Raises UserError if the corpus is no longer the one that the run was started with."""
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
            # test is only scored: there an utterance needs no finite loss
            model.head.required_frames if name != "test" else None,
            fewest_frames_of=model.features.fewest_frames_of if name == "train" else None,
            longest_seconds=longest_seconds,
            dropped=corpus.dropped_of(name),
        )
        refuse_if_many(splits[name], max_dropped, "data.max_dropped")
    return splits


def gather_statistics(model: Model, split: CheckedSplit, batch_frames: int) -> None:
    """Computes the statistics of global normalization from the training split, if the features need them."""
    if model.features.wants_statistics:
        loader = evaluation_loader(Utterances(split.cuts, split.labels), split.frames, batch_frames)
        model.features.gather_statistics((batch.waveforms, batch.samples) for batch in loader)


def plan_training(
    config, model: Model, split: CheckedSplit, group: ProcessGroup, resume: ResumePoint | None, console: Console
) -> TrainingPlan:
    """The batches of the training, limited by frames, or by memory with trainer.find_batch=true."""
    bounds = Bounds(config.data.batch_frames, config.data.batch_utterances)
    if config.trainer.find_batch:
        if resume:
            measured = resume.plan["memory"]
            memory = MemoryModel(**measured) if measured else None
        else:
            from asr.training.batch_size import measure_memory

            memory = group.broadcast(measure_memory(config, model, split, group, console))
        bounds = Bounds(None, config.data.batch_utterances, memory)
    plan = TrainingPlan(numpy.asarray(split.frames), bounds, config.seed, group.size, group.rank)
    plan.curriculum = config.data.curriculum_epochs
    plan.epochs = epochs_for(config.max_epochs, plan.per_epoch)
    if config.trainer.find_batch and plan.per_epoch < FEW_STEPS:
        console.print(
            f"trainer.find_batch: the largest batches that fit make only {plan.per_epoch} steps an epoch, which may be too few "
            "to learn from; limit them with data.batch_utterances (data.batch_frames is not used with find_batch)"
        )
    return plan


def epochs_for(max_epochs: int | str, batches: int) -> int:
    """Passes over the training split: as configured, or for `auto` at least 4 and enough to learn a small corpus.

    batches: of one epoch.
    """
    return max(4, round(ENOUGH_STEPS / batches)) if max_epochs == "auto" else int(max_epochs)

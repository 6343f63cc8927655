"""The phone language model of a training with loss=lfmmi: estimated from the training split, or that of the run that resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from asr.config.settings import plain
from asr.data.checks import CheckedSplit
from asr.data.corpora import Corpus
from asr.data.readings import Readings
from asr.errors import UserError
from asr.model.losses import losses
from asr.model.network import Model
from asr.model.topologies import topologies
from asr.text.phones.counts import expected_counts
from asr.text.phones.estimation import estimate
from asr.text.phones.files import FILE, digest_of, read_phone_lm, write_phone_lm
from asr.text.phones.model import PhoneLm
from asr.text.phones.slots import Slot
from asr.text.units import Saying, Units, UnknownUnit

# what conf/train.yaml chooses
DEFAULT = {"name": "chain", "context": "none", "min_count": 0}


def wants_phone_lm(head: dict[str, Any]) -> bool:
    """head: the description of a head."""
    return "topology" in head


def refuse_unread_topology(config, head: dict[str, Any]) -> None:
    """Raises UserError for a topology that was chosen though the head, which has none, does not read it."""
    chosen = plain(config.topology)
    if not wants_phone_lm(head) and chosen != DEFAULT:
        raise UserError(
            f"topology={chosen['name']} with its settings is for loss=lfmmi, and head={head['name']} does not read it: give "
            "loss=lfmmi, or leave topology out."
        )


def estimate_phone_lm(head: dict[str, Any], units: Units, corpus: Corpus) -> PhoneLm:
    """Estimates the model, and which pairs of phones have outputs of their own, from the training split.

    Raises UserError for units without silence or pronunciations, and for shapes of the model that cannot be.
    """
    loss = losses.create(head["loss"])
    topology, kind = (
        topologies.create(head["topology"], units=len(units.symbols)),
        topologies.get(head["topology"]["name"]),
    )
    sentences = (slots_of(units, cut.supervisions[0], loss.saying) for cut in corpus.splits["train"])
    counts = expected_counts(sentences, len(units.symbols), loss.shape.order)
    contexts = kind.contexts_of(head["topology"], counts.pairs()) if topology.by_context else None
    return estimate(counts, loss.shape, topology.label, contexts)


def slots_of(units: Units, supervision, saying: Saying) -> list[Slot]:
    """Nothing for what the units cannot write: such utterances are dropped, or refused if they are many."""
    try:
        return units.slots(supervision, saying)
    except UnknownUnit:
        return []


def settle_topology(head: dict[str, Any], lm: PhoneLm) -> None:
    """Writes into a head's description which pairs of phones have outputs of their own, which its size depends on."""
    if lm.contexts is not None:
        head["topology"] = {**head["topology"], "contexts": list(lm.contexts)}


def readings_of(model: Model, units: Units) -> Readings | None:
    """What the processes that read data build, for a head that learns from graphs; gives the head its language model."""
    if units.phone_lm is None or not hasattr(model.head, "prepare"):
        return None
    model.head.prepare(units.phone_lm)
    return Readings(units, model.head.loss.saying, model.head.build)


def keep_phone_lm(run: Path, units: Units, resumed: bool) -> None:
    """Writes the model into the run's folder; a run that resumes must find its own there. Raises UserError otherwise."""
    lm, file = units.phone_lm, run / FILE
    if lm is None:
        return
    if resumed and file.is_file():
        if digest_of(read_phone_lm(file, units.symbols), units.symbols) != digest_of(lm, units.symbols):
            raise UserError(
                f"{file} is another phone language model than that of the run's checkpoint, which the run was trained with. "
                "Remove the file, or start a new run."
            )
        return
    try:
        write_phone_lm(file, lm, units.symbols)
    except OSError as error:
        raise UserError(
            f"The run's folder {run} cannot be written: {error.strerror}. Name another with run=…"
        ) from None


def about_phones(console: Console, readings: Readings, dev: CheckedSplit) -> None:
    """Prints how large the model is, and for how many utterances of dev it has no path."""
    lm = readings.build.lm
    unseen = sum(readings.unseen(cut.supervisions[0]) for cut in dev.cuts)
    console.print(
        f"phone language model: {len(lm.histories):,} histories of up to {lm.order - 1} phones, {len(lm.phones):,} n-grams"
        + (
            f"; it has no path for {unseen} of {len(dev.cuts)} utterances of dev, whose loss is smoothed"
            if unseen
            else ""
        )
    )

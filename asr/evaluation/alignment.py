"""Aligns a split: words and units of references or hypotheses, as CTM and TextGrid files, scored against gold times if the
corpus has them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from asr.data.checks import CheckedSplit
from asr.errors import UserError
from asr.evaluation.confidences import confidence_scores, rated
from asr.evaluation.emissions import batches_of_emissions
from asr.evaluation.recognition import reference_of, without_marks
from asr.evaluation.request import Request, load_split
from asr.evaluation.times import gold_items, paired, scores
from asr.inference.alignment import Timed
from asr.inference.alignment.by_topology import align_units
from asr.inference.alignment.ctm import ctm
from asr.inference.alignment.hypothesis import read_hypothesis
from asr.inference.alignment.textgrid import textgrid
from asr.inference.alignment.timing import Timing, timed
from asr.inference.alignment.words import group, reference
from asr.inference.decoders import Decoder, Hypothesis, decoders
from asr.inference.tuned import with_tuned
from asr.model.checkpoint import Checkpoint, choose_attention, open_checkpoint
from asr.model.topologies.base import Topology
from asr.runtime.files import write_whole
from asr.runtime.provenance import command_line
from asr.text.units import Units, UnknownUnit
from asr.text.units.phonemes import SILENCE


class CannotAlign(UserError):
    """Why a reference cannot be aligned, as not_aligned.tsv says it: "too short for its units: …"."""


@dataclasses.dataclass
class Tiers:
    """One utterance with its times. units: phonemes, characters or pieces. words: None if nothing defines them."""

    units: list[Timed]
    words: list[Timed] | None


@dataclasses.dataclass
class Aligned:
    """The result for an utterance. reference, hypothesis: None if not requested, or for the reason in `problem`.

    rated: the confidence of each word of the hypothesis, and whether it is right; None if it has no words.
    """

    cut: Any
    reference: Tiers | None = None
    hypothesis: Tiers | None = None
    problem: str | None = None
    rated: list[tuple[float, bool]] | None = None


def align_split(request: Request, hypotheses: bool, gold: bool, textgrids: bool) -> dict[str, Any]:
    """Aligns a split, writes the files, and returns the content of `times.json` with its `folder`.

    hypotheses: whether to align hypotheses too. gold: whether to align the corpus's gold phonemes, if the model was trained on
    them, instead of the words' pronunciations. textgrids: whether to write a TextGrid for each utterance.

    For hypotheses with words, `confidence` holds `confidence_scores` and the kind of confidence: `posterior` from a decoder that
    finds words, else `acoustic`.

    Writes `reference.ctm` and `reference_units.ctm` (and `hypothesis…`), `textgrid/<utterance>.TextGrid`, `not_aligned.tsv` and
    `times.json` into request.output; by default `alignments/<split>` in the run's folder, or beside the model. Raises UserError
    as `asr.evaluation.request.load_split` does, and if no utterance at all can be aligned.
    """
    checkpoint = open_checkpoint(request.checkpoint)
    attention = choose_attention(checkpoint.model, request.attention, request.knobs)
    if attention is not None:
        checkpoint.model = checkpoint.model.with_attention(attention)
    decoder = None
    if hypotheses:
        settings = with_tuned(checkpoint, request.decoder, request.decoder_typed)
        decoder = decoders.create(settings).bind_to(checkpoint.units, checkpoint.model.topology).with_confidences()
    split, corpus, own = load_split(checkpoint, request)
    place = request.split if own else f"{corpus.name}-{request.split}"
    folder = Path(request.output) if request.output else checkpoint.home / "alignments" / place
    aligned = list(align_utterances(checkpoint, split, decoder, gold, request))
    if all(one.reference is None for one in aligned):
        raise UserError(
            f"No utterance of the {request.split} split can be aligned. The first, {aligned[0].cut.id}, is {aligned[0].problem}. "
            "Choose a checkpoint that fits this corpus."
        )
    kinds = ["reference", *(["hypothesis"] if hypotheses else [])]
    result = {
        "corpus": corpus.name,
        "split": request.split,
        "checkpoint": str(request.checkpoint),
        "attention": checkpoint.model.attention_label(),
        "units": checkpoint.units.name,
        "gold_phonemes": gold,
        "utterances": len(aligned),
        "not_aligned": sum(one.problem is not None for one in aligned),
        "dropped": [list(row) for row in split.dropped],
        "command": command_line(),
        **{kind: score(aligned, kind) for kind in kinds},
    }
    if decoder is not None and any(one.rated is not None for one in aligned):
        every = [each for one in aligned for each in one.rated or []]
        result["confidence"] = {"kind": "posterior" if decoder.gives_words else "acoustic", **confidence_scores(every)}
    try:
        write(folder, aligned, kinds, textgrids, result)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written: {error.strerror or error}. Choose another output=FOLDER."
        ) from None
    return {**result, "folder": folder}


def align_utterances(
    checkpoint: Checkpoint, split: CheckedSplit, decoder: Decoder | None, gold: bool, request: Request
) -> Iterator[Aligned]:
    """The aligned utterances of a split, longest first."""
    model, units, timing = checkpoint.model, checkpoint.units, Timing.of(checkpoint.model)
    for batch in batches_of_emissions(model, split, request.batching):
        decoded = [] if decoder is None else decoder(batch.emissions, batch.lengths)
        for row, (index, emissions) in enumerate(batch.rows()):
            one = Aligned(split.cuts[index])
            try:
                one.reference = align_reference(emissions, one.cut, units, model.topology, timing, gold)
            except UserError as error:
                one.problem = str(error)
            if decoder is not None:
                one.hypothesis = align_hypothesis(decoded[row][0], emissions, one.cut, units, model.topology, timing)
                if one.hypothesis.words is not None:
                    # noises do not count as words
                    spoken = [word for word in one.hypothesis.words if without_marks([word.text])]
                    one.rated = rated(spoken, reference_of(split, index, decoder, units))
            yield one


def align_hypothesis(
    best: Hypothesis, emissions: torch.Tensor, cut, units: Units, topology: Topology, timing: Timing
) -> Tiers:
    spans, words = read_hypothesis(best, emissions, units, topology)
    found = timed(spans, timing, units.symbols, cut.duration)
    return Tiers(found, None if words is None else group(words, found))


def align_reference(
    emissions: torch.Tensor, cut, units: Units, topology: Topology, timing: Timing, gold: bool
) -> Tiers:
    """Raises CannotAlign for an utterance whose reference cannot be aligned."""
    try:
        ids, words = reference(units, cut.supervisions[0], gold)
    except UnknownUnit as error:
        raise CannotAlign(f"outside the units: {error}") from None
    if len(emissions) < topology.required_frames(ids):
        raise CannotAlign(f"too short for its units: {len(emissions)} emissions for {len(ids)} units")
    begins = {0} if words is None else {word.first for word in words}
    spans = align_units(emissions, ids, topology, units.ids.get(SILENCE), begins)
    found = timed(spans, timing, units.symbols, cut.duration)
    return Tiers(found, None if words is None else group(words, found))


def score(aligned: list[Aligned], kind: str) -> dict[str, Any]:
    """Errors of the times of words and units that have gold times."""
    result = {}
    for name, tier in (("words", "word"), ("units", "phoneme")):
        pairs, of = [], 0
        for one in aligned:
            tiers = getattr(one, kind)
            items = getattr(tiers, name) if tiers is not None else None
            gold = gold_items(one.cut.supervisions[0], tier)
            of += len(gold)
            pairs += paired(items or [], gold)
        if of and pairs:
            result[name] = scores(pairs, of)
    return result


def write(folder: Path, aligned: list[Aligned], kinds: list[str], textgrids: bool, result: dict[str, Any]) -> None:
    aligned = sorted(aligned, key=lambda one: one.cut.id)
    folder.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        for name, ending in (("words", ""), ("units", "_units")):
            tiers = [(one.cut.id, getattr(one, kind)) for one in aligned]
            lines = [ctm(identity, getattr(tier, name) or []) for identity, tier in tiers if tier is not None]
            if any(lines):
                write_whole(folder / f"{kind}{ending}.ctm", "".join(lines).encode())
    if textgrids:
        (folder / "textgrid").mkdir(exist_ok=True)
        for one in aligned:
            tiers = {
                f"{kind} {name}": getattr(getattr(one, kind), name)
                for kind in kinds
                for name in ("words", "units")
                if getattr(one, kind) is not None and getattr(getattr(one, kind), name) is not None
            }
            if tiers:
                name = "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in one.cut.id)
                write_whole(folder / "textgrid" / f"{name}.TextGrid", textgrid(tiers, one.cut.duration).encode())
    problems = "".join(f"{one.cut.id}\t{one.problem}\n" for one in aligned if one.problem)
    write_whole(folder / "not_aligned.tsv", problems.encode())
    write_whole(folder / "times.json", (json.dumps(result, indent=2, ensure_ascii=False) + "\n").encode())

"""Scores a trained recognizer on a split, with its own attention or another one."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from asr.config.settings import knobs_of
from asr.data.checks import CheckedSplit
from asr.data.corpora import Corpus
from asr.evaluation.card.card import update_card
from asr.evaluation.recognition import Recognition, metric_of, recognize, without_marks
from asr.evaluation.report.attention import knobs_of_pictures, utterance_called, write_attention_pictures
from asr.evaluation.report.evaluation import NAME as REPORT
from asr.evaluation.report.evaluation import write_report
from asr.evaluation.request import Data, Request, load_split
from asr.inference.decoders import decoders
from asr.inference.tuned import tuned_weights, with_tuned
from asr.model.checkpoint import Checkpoint, choose_attention, open_checkpoint
from asr.model.folder import WEIGHTS
from asr.runtime.processes import ProcessGroup, SingleProcess
from asr.runtime.provenance import command_line
from asr.scoring import EvaluationFacts, UtteranceScore, write_evaluation
from asr.scoring.decoding import unknown_words
from asr.scoring.files import scores_as_data
from asr.scoring.metric import Metric, summarize_in
from asr.scoring.nist.ctm import write_ctm
from asr.scoring.nist.rules import ScoringRules
from asr.scoring.subsets import subsets_as_data, totals
from asr.text.units import Units

# what Kaldi's Switchboard recipes remove from a hypothesis before scoring (local/score_sclite.sh)
HESITATIONS = frozenset("UH UM EH MM HM AH HUH HA ER OOF HEE ACH EEE EW".split())


def evaluate(request: Request, group: ProcessGroup | None = None) -> dict[str, Any]:
    """Scores a checkpoint, writes the tables, and returns the content of `scores.json`, plus `folder`, `tokens` and `report` (its
    path or None), and `attention_page` if matrices were drawn.

    group: the processes that share the work, if there are several; only rank 0 writes.

    Raises UserError, before anything is written, if the checkpoint or the corpus cannot be loaded, or the attention does not fit.
    """
    group = group or SingleProcess()
    checkpoint = open_checkpoint(request.checkpoint)
    own_knobs = request.knobs
    if request.plot_attention is not None:
        read = knobs_of((request.attention or checkpoint.model.description["attention"])["name"])
        own_knobs = {k: v for k, v in request.knobs.items() if k in read or k not in knobs_of_pictures()}
    request.attention = choose_attention(checkpoint.model, request.attention, own_knobs)
    if request.attention is not None:
        checkpoint.model.refuse_attention(request.attention)
    data = group.rank_zero_first(lambda: load_split(checkpoint, request))
    drawn = None if request.plot_attention is None else utterance_called(request.plot_attention, data.split.cuts)
    scores = score_checkpoint(request, checkpoint, data, group)
    if drawn is not None and group.rank == 0:
        evaluated = scores["attention_settings"]
        scores["attention_page"] = write_attention_pictures(
            scores["folder"], drawn, checkpoint.model, evaluated, request.knobs, scores["command"]
        )
    return scores


class Evaluation:
    """A checkpoint with the attention, the decoder and the data that a request asks for."""

    def __init__(self, request: Request, checkpoint: Checkpoint, data: Data):
        self.request, self.checkpoint, self.data, self.units = request, checkpoint, data, checkpoint.units
        self.model = checkpoint.model
        if request.attention is not None:
            self.model = self.model.with_attention(request.attention)
        self.settings = with_tuned(checkpoint, request.decoder, request.decoder_typed)
        self.tuned = tuned_weights(checkpoint, request.decoder, request.decoder_typed)
        self.decoder = decoders.create(self.settings).bind_to(self.units, self.model.topology)
        self.metric = metric_of(request.metric, data.split, self.decoder, self.units)

    @property
    def folder(self) -> Path:
        """The folder for the tables."""
        if self.request.output:
            return Path(self.request.output)
        corpus, split, label = self.data.corpus.name, self.request.split, self.model.attention_label()
        scored = split if self.data.own else f"{corpus}-{split}"
        by = label if self.decoder.name == "greedy" else f"{label}+{self.decoder.name}"
        return output_folder(self.checkpoint) / scored / by

    def facts(
        self, recognition: Recognition, utterances: list[UtteranceScore], more: dict[str, Any]
    ) -> EvaluationFacts:
        """What `scores.json` holds besides the errors. more: further keys."""
        (split, corpus, _), known = self.data, getattr(self.decoder, "spellings", None)
        return EvaluationFacts(
            corpus=corpus.name,
            split=self.request.split,
            units=self.units.name,
            attention=self.model.attention_label(),
            metric=self.metric.name,
            audio_seconds=split.seconds,
            forward_seconds=recognition.forward_seconds,
            peak_memory_bytes=recognition.peak_memory_bytes,
            normalizer=normalizer_name(corpus, self.units),
            checkpoint=str(self.request.checkpoint),
            command=command_line(),
            more={
                "attention_settings": self.model.description["attention"],
                "trained_with": self.checkpoint.model.attention_label(),
                "normalizer_removed": removed_by_normalizer(split, self.units),
                "corpus_normalization": corpus.normalization,
                "incomplete": corpus.incomplete,
                "dropped": [list(row) for row in split.dropped],
                "decoder": self.settings,
                "decoder_facts": self.decoder.facts,
                "decoder_tuned": self.tuned,
                "decoding_seconds": recognition.decoding_seconds,
                **({} if known is None else {"out_of_vocabulary": unknown_words(utterances, known.words)}),
                **more,
            },
        )


def score_checkpoint(
    request: Request, checkpoint: Checkpoint, data: Data, group: ProcessGroup | None = None
) -> dict[str, Any]:
    """`evaluate` for an open checkpoint and loaded data."""
    group = group or SingleProcess()
    evaluation = Evaluation(request, checkpoint, data)
    model, metric, rank = evaluation.model, evaluation.metric, group.rank
    recognition = recognize(model, evaluation.units, evaluation.decoder, data.split, request.batching, group)
    utterances, official = official_scores(recognition.utterances, data.corpus, request, metric, rank)
    score, beside = summarize_in(metric, utterances, request.bootstrap)
    facts, folder = evaluation.facts(recognition, utterances, {**beside, **official}), evaluation.folder
    scores = {**scores_as_data(score, facts), "folder": folder, "tokens": metric.tokens, "report": None}
    if rank > 0:
        return scores
    write_evaluation(folder, score, facts)
    if "scored_by" in official:
        rules = ScoringRules.in_folder(official["scored_by"])
        spoken = {one.utterance: without_marks(one.hypothesis) for one in recognition.utterances}
        write_ctm(folder / "hyp.ctm", rules.stm.scored, spoken)
    if request.report:
        cuts = data.split.cuts
        scores["report"] = write_report(folder, score, scores_as_data(score, facts), cuts, model, checkpoint.run)
    else:
        # one that an earlier evaluation left here would show other scores
        (folder / REPORT).unlink(missing_ok=True)
    if not request.output and (home := model_folder_of(checkpoint)):
        for sentence in update_card(home, output_folder(checkpoint)):
            print(sentence, file=sys.stderr)
    return scores


def official_scores(
    utterances: list[UtteranceScore], corpus: Corpus, request: Request, metric: Metric, rank: int
) -> tuple[list[UtteranceScore], dict[str, Any]]:
    """(the utterances scored by their corpus's rules, in their own tokens; further keys for `scores.json`, in the metric).

    Words of a split with an STM are scored by it and its GLM; its unusable segments count as silence. If NIST's sclite is
    installed, its counts are added to ours.
    """
    from asr.scoring.nist.cross_check import cross_check, cross_check_segments

    folder = corpus.scoring.get(corpus.split_called(request.split)) if metric.name != "per" else None
    check = request.sclite and rank == 0
    if folder is None:
        return utterances, {"sclite": cross_check(metric.counted(utterances))} if check else {}
    rules = ScoringRules.in_folder(folder)
    # also of what the preparation left out
    words: dict[str, list[str]] = {segment: [] for segment in rules.segments}
    words |= {utterance.utterance: without_marks(utterance.hypothesis) for utterance in utterances}
    scored = rules.score(list(words.items()))
    filtered = rules.score([(segment, without_hesitations(spoken)) for segment, spoken in words.items()])
    more = {
        "scored_by": str(folder),
        "subsets": subsets_as_data(rules, metric.counted(scored)),
        "without_hesitations": totals(metric.counted(filtered)),
    }
    if check and metric.name == "wer":
        more["sclite"] = cross_check_segments(rules, scored, words)
    elif check:
        more["sclite"] = cross_check(metric.counted(scored))
    return scored, more


def without_hesitations(words: list[str]) -> list[str]:
    """A hypothesis without hesitations and broken-off words, filtered as in Kaldi's Switchboard recipes (egs/swbd/s5c,
    local/score_sclite.sh): published error rates compare with the result.
    """
    return [word for word in words if word.upper() not in HESITATIONS and not word.endswith("-")]


def normalizer_name(corpus: Corpus, units: Units) -> str:
    """The normalizations of a corpus's texts: its own, if any, and the units'."""
    names = [corpus.normalization["name"]] if corpus.normalization else []
    return " + ".join(names + [units.normalizer] * (not names or units.normalizer != "none"))


def removed_by_normalizer(split: CheckedSplit, units: Units) -> dict[str, int]:
    """Characters that the text normalizer removed from the references of a split, with counts."""
    removed: Counter = Counter()
    for cut in split.cuts:
        removed.update(units.normalize(cut.supervisions[0])[1])
    return dict(removed)


def model_folder_of(checkpoint: Checkpoint) -> Path | None:
    """The model folder whose card lists the evaluations of a checkpoint; None for a checkpoint outside of one."""
    folders = [checkpoint.run / "model"] if checkpoint.run is not None else [checkpoint.path]
    return next((folder for folder in folders if (folder / WEIGHTS).is_file()), None)


def output_folder(checkpoint: Checkpoint) -> Path:
    """The folder for evaluations of a checkpoint."""
    return checkpoint.home / "evaluation"

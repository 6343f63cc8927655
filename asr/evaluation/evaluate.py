"""Scoring a trained recognizer on a split, with its own attention or with another."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from asr.config.settings import knobs_of, unread_knob
from asr.data.batches import Utterances, evaluation_loader
from asr.data.checks import CheckedSplit, check_split, refuse_if_many
from asr.data.corpora import Corpus, corpora
from asr.data.dropped import refuse_unusable
from asr.data.moved import facts_of_run, load_own, refuse_other_data, with_places
from asr.errors import UserError
from asr.evaluation.report.attention import knobs_of_pictures, utterance_called, write_attention_pictures
from asr.evaluation.report.evaluation import NAME as REPORT
from asr.evaluation.report.evaluation import write_report
from asr.evaluation.tuning import tuned_weights, with_tuned
from asr.inference.decoders import Decoder, Hypothesis, decoders
from asr.model.attention import attentions
from asr.model.checkpoint import Checkpoint, open_checkpoint
from asr.model.network import Model
from asr.runtime.memory import PeakMemory
from asr.runtime.processes import Alone, Together
from asr.runtime.processors import processors
from asr.scoring import EvaluationFacts, UtteranceScore, score_utterance, write_evaluation
from asr.scoring.decoding import unknown_words
from asr.scoring.files import scores_as_data
from asr.scoring.metric import Metric, choose_metric, summarize_in
from asr.scoring.nist.ctm import write_ctm
from asr.scoring.nist.rules import ScoringRules
from asr.scoring.subsets import subsets_as_data, totals
from asr.text.normalization import MARK
from asr.text.units import Units
from asr.training.run_folder import command_line

# What Kaldi's recipes for Switchboard take out of a hypothesis before it is scored (local/score_sclite.sh).
HESITATIONS = frozenset("UH UM EH MM HM AH HUH HA ER OOF HEE ACH EEE EW".split())


@dataclasses.dataclass
class Request:
    """What to evaluate.

    attention: settings of another attention than the checkpoint's own; knobs: settings to change in it.
    corpus: settings of another corpus than the one it was trained on; without a `name`, new places of that one.
    max_dropped: share of utterances that may be unusable before nothing is scored. output: folder for the tables; by default
    `evaluation/<split>/<attention>` beside the model. report: whether `report.html` is written beside the tables.
    plot_attention: the id of an utterance whose attention matrices are drawn; knobs that only these read are allowed then.
    decoder_typed: settings of the decoder that the user gave; the others are those found by `scripts/tune_decoder.py`, if any.
    sclite: whether NIST's sclite counts the errors too, where it is installed. metric: as in `asr.scoring.metric.choose_metric`.
    """

    checkpoint: str
    split: str = "test"
    attention: dict[str, Any] | None = None
    knobs: dict[str, int] = dataclasses.field(default_factory=dict)
    corpus: dict[str, Any] | None = None
    decoder: dict[str, Any] = dataclasses.field(default_factory=lambda: {"name": "greedy"})
    decoder_typed: list[str] = dataclasses.field(default_factory=list)
    device: str = "auto"
    batch_frames: int = 16000
    batch_utterances: int | None = None
    bootstrap: int = 2000
    longest_seconds: float | None = None
    max_dropped: float = 0.01
    cache: str = ".cache"
    output: str | None = None
    report: bool = True
    plot_attention: str | None = None
    sclite: bool = True
    metric: str = "auto"


@dataclasses.dataclass
class Recognition:
    """What came out of a split: scored utterances, seconds spent in the model and in the decoder by all processes together, and
    the most memory that one of them needed, in bytes.
    """

    utterances: list[UtteranceScore]
    forward_seconds: float
    decoding_seconds: float
    peak_memory_bytes: int | None


def evaluate(request: Request, together: Alone | Together | None = None) -> dict[str, Any]:
    """Scores a checkpoint, writes the tables, and returns the content of `scores.json` with `folder`, `tokens` and `report` (its
    path or None) beside it, and `attention_page` where matrices were drawn.

    together: the processes that share the work, if there are several; only rank 0 writes.

    Raises UserError if the checkpoint, the attention or the corpus cannot be had; nothing is written then.
    """
    together = together or Alone()
    checkpoint = open_checkpoint(request.checkpoint)
    own_knobs = request.knobs
    if request.plot_attention is not None:
        read = knobs_of((request.attention or checkpoint.model.description["attention"])["name"])
        own_knobs = {k: v for k, v in request.knobs.items() if k in read or k not in knobs_of_pictures()}
    request.attention = choose_attention(checkpoint.model, request.attention, own_knobs)
    if request.attention is not None:
        checkpoint.model.refuse_attention(request.attention)
    split, corpus, own = together.first(lambda: load_split(checkpoint, request))
    drawn = None if request.plot_attention is None else utterance_called(request.plot_attention, split.cuts)
    scores = score_checkpoint(request, checkpoint, split, corpus, own, together)
    if drawn is not None and together.place.rank == 0:
        evaluated = scores["attention_settings"]
        scores["attention_page"] = write_attention_pictures(
            scores["folder"], drawn, checkpoint.model, evaluated, request.knobs, scores["command"]
        )
    return scores


def score_checkpoint(
    request: Request,
    checkpoint: Checkpoint,
    split: CheckedSplit,
    corpus: Corpus,
    own: bool,
    together: Alone | Together | None = None,
) -> dict[str, Any]:
    """`evaluate` for a checkpoint that is open and a split that is read. own: whether it was trained on that corpus."""
    together = together or Alone()
    model, units = checkpoint.model, checkpoint.units
    if request.attention is not None:
        model = model.with_attention(request.attention)
    settings = with_tuned(checkpoint, request.decoder, request.decoder_typed)
    tuned = tuned_weights(checkpoint, request.decoder, request.decoder_typed)
    decoder = decoders.create(settings).bind(units)
    metric = metric_of(request.metric, split, decoder, units)
    recognition = recognize(
        model, units, decoder, split, request.device, request.batch_frames, together, request.batch_utterances
    )
    utterances, official = official_scores(recognition.utterances, corpus, request, metric, together.place.rank)
    score, beside = summarize_in(metric, utterances, request.bootstrap)
    label = model.attention_label()
    known = getattr(decoder, "spellings", None)
    facts = EvaluationFacts(
        corpus=corpus.name,
        split=request.split,
        units=units.name,
        attention=label,
        metric=metric.name,
        audio_seconds=split.seconds,
        forward_seconds=recognition.forward_seconds,
        peak_memory_bytes=recognition.peak_memory_bytes,
        normalizer=normalizer_name(corpus, units),
        checkpoint=str(request.checkpoint),
        command=command_line(),
        more={
            "attention_settings": model.description["attention"],
            "trained_with": checkpoint.model.attention_label(),
            "normalizer_removed": removed_by_normalizer(split, units),
            "corpus_normalization": corpus.normalization,
            "incomplete": corpus.incomplete,
            "dropped": [list(row) for row in split.dropped],
            "decoder": settings,
            "decoder_facts": decoder.facts,
            "decoder_tuned": tuned,
            "decoding_seconds": recognition.decoding_seconds,
            **({} if known is None else {"out_of_vocabulary": unknown_words(utterances, known.words)}),
            **beside,
            **official,
        },
    )
    place = request.split if own else f"{corpus.name}-{request.split}"
    named = label if decoder.name == "greedy" else f"{label}+{decoder.name}"
    folder = Path(request.output) if request.output else output_folder(checkpoint) / place / named
    scores = {**scores_as_data(score, facts), "folder": folder, "tokens": metric.tokens, "report": None}
    if together.place.rank > 0:
        return scores
    write_evaluation(folder, score, facts)
    if "scored_by" in official:
        rules = ScoringRules.in_folder(official["scored_by"])
        spoken = {one.utterance: without_marks(one.hypothesis) for one in recognition.utterances}
        write_ctm(folder / "hyp.ctm", rules.stm.scored, spoken)
    if request.report:
        scores["report"] = write_report(folder, score, scores_as_data(score, facts), split.cuts, model, checkpoint.run)
    else:
        # one that an earlier evaluation left here would show other scores
        (folder / REPORT).unlink(missing_ok=True)
    return scores


def official_scores(
    utterances: list[UtteranceScore], corpus: Corpus, request: Request, metric: Metric, rank: int
) -> tuple[list[UtteranceScore], dict[str, Any]]:
    """(the utterances scored as their corpus wants it, in their own tokens, further keys for `scores.json`, in the metric).

    Words of a split that comes with an STM are scored by it and its GLM; its segments that could not be recognized count as
    silence. Where NIST's sclite is installed, its count of the same stands beside ours.
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


def choose_attention(model: Model, attention: dict[str, Any] | None, knobs: dict[str, int]) -> dict[str, Any] | None:
    """The settings of the attention to evaluate with, or None for the model's own.

    Raises UserError if a knob is not read by the attention, or if the weights cannot serve it.
    """
    if attention is None and not knobs:
        return None
    chosen = dict(attention or model.description["attention"])
    for knob, value in knobs.items():
        if knob not in knobs_of(chosen["name"]):
            raise UserError(unread_knob(chosen["name"], knob))
        chosen[knob] = value
    attentions.get(chosen["name"])
    return chosen


def load_split(checkpoint: Checkpoint, request: Request) -> tuple[CheckedSplit, Corpus, bool]:
    """(the split, its corpus, whether it is the corpus that the model was trained on).

    A corpus that is asked for without a name is the one that the model was trained on, at new places.
    """
    corpus, own = load_corpus(checkpoint, request)
    name = corpus.split_called(request.split)
    model = checkpoint.model
    wanted = model.description["features"]["sample_rate"]
    cuts = corpus.splits[name]
    if corpus.sample_rate != wanted:
        cuts = cuts.resample(wanted)
    split = check_split(
        request.split,
        cuts,
        checkpoint.units,
        model.features.frames_of,
        model.encoder.output_lengths,
        None,
        longest_seconds=request.longest_seconds,
        dropped=corpus.dropped_of(name),
    )
    refuse_unusable(corpus, [name], request.max_dropped, "max_dropped")
    refuse_if_many(split, request.max_dropped, "max_dropped")
    return split, corpus, own


def load_corpus(checkpoint: Checkpoint, request: Request) -> tuple[Corpus, bool]:
    """(the corpus to evaluate on, whether it is the one that the model was trained on)."""
    trained_on, asked = checkpoint.trained_on.get("corpus"), request.corpus or {}
    cache, workers = Path(request.cache), processors()
    asked = {} if asked == trained_on else asked
    if "name" in asked:
        return corpora.create(asked).load(cache, workers=workers), False
    if not isinstance(trained_on, dict) or not isinstance(trained_on.get("name"), str):
        raise UserError(f"{request.checkpoint} does not say what it was trained on: name a corpus with corpus=…")
    settings = with_places(trained_on, asked, request.checkpoint)
    moved = settings != trained_on
    corpus = load_own(settings, cache, workers, compared=moved)
    if moved:
        known = "data_fingerprint" in checkpoint.trained_on
        then = checkpoint.trained_on if known else facts_of_run(checkpoint.run or checkpoint.path)
        named = " ".join([f"corpus={settings['name']}", *(f"corpus.{key}=…" for key in asked)])
        changed = f"This is not the data that {request.checkpoint} was trained on"
        refuse_other_data(then, corpus, changed, f"To evaluate on other data, name the corpus too: {named}")
    return corpus, True


def recognize(
    model: Model,
    units: Units,
    decoder: Decoder,
    split: CheckedSplit,
    device: str,
    batch_frames: int,
    together: Alone | Together | None = None,
    batch_utterances: int | None = None,
) -> Recognition:
    """Recognizes every utterance of a split; several processes take turns at its batches and exchange what they recognized.

    The hypotheses do not depend on the batches, except with attention=auto, which looks at the padded time of a batch.
    """
    place = choose_device(device)
    model = model.to(place).eval()
    rank, ranks, _ = (together or Alone()).place
    loader = evaluation_loader(
        Utterances(split.cuts, split.labels),
        split.frames,
        batch_frames,
        ranks=ranks,
        rank=rank,
        batch_utterances=batch_utterances,
    )
    utterances, seconds, decoding = [], 0.0, 0.0
    with torch.inference_mode(), PeakMemory(place) as memory:
        for step, batch in enumerate(loader):
            waveforms, samples = batch.waveforms.to(place), batch.samples.to(place)
            if step == 0:
                # first calls choose algorithms and fill caches; they are not what a forward pass costs
                model(waveforms[:1], samples[:1])
            synchronize(place)
            started = time.perf_counter()
            emissions, lengths = model(waveforms, samples)
            synchronize(place)
            seconds += time.perf_counter() - started
            started = time.perf_counter()
            decoded = decoder(emissions, lengths)
            decoding += time.perf_counter() - started
            for index, hypotheses in zip(batch.indices.tolist(), decoded):
                cut = split.cuts[index]
                utterances.append(
                    score_utterance(
                        cut.id,
                        reference_of(split, index, decoder, units),
                        tokens_of(hypotheses[0], units),
                        cut.supervisions[0].speaker or "",
                        cut.duration,
                    )
                )
    if ranks == 1:
        return Recognition(utterances, seconds, decoding, memory.bytes)
    parts: list = [None] * ranks
    torch.distributed.all_gather_object(parts, (utterances, seconds, decoding, memory.bytes))
    everything, times, decodings, peaks = zip(*parts)
    known = [peak for peak in peaks if peak is not None]
    recognized = [one for part in everything for one in part]
    return Recognition(recognized, sum(times), sum(decodings), max(known) if known else None)


def metric_of(asked: str, split: CheckedSplit, decoder: Decoder, units: Units) -> Metric:
    """What errors are counted in, as `choose_metric` decides for the words of the decoder, or else the units' tokens."""
    references = (reference_of(split, index, decoder, units) for index in range(len(split.cuts)))
    return choose_metric(asked, "wer" if decoder.gives_words else units.metric, references)


def reference_of(split: CheckedSplit, index: int, decoder: Decoder, units: Units) -> list[str]:
    """What an utterance's hypothesis is scored against: its words where the decoder gives words, else the units' tokens."""
    if not decoder.gives_words:
        return split.references[index]
    return without_marks(units.words(split.cuts[index].supervisions[0]))


def tokens_of(hypothesis: Hypothesis, units: Units) -> list[str]:
    """A hypothesis's words, if it has any, else the tokens that its units stand for."""
    return units.decode(hypothesis.ids) if hypothesis.words is None else without_marks(hypothesis.transcript)


def without_hesitations(words: list[str]) -> list[str]:
    """A hypothesis without hesitations and words broken off, as Kaldi's recipes for Switchboard filter it before they score.

    Its published error rates are to be compared with these (egs/swbd/s5c, local/score_sclite.sh).
    """
    return [word for word in words if word.upper() not in HESITATIONS and not word.endswith("-")]


def without_marks(words: list[str]) -> list[str]:
    """Words without noises such as <NOISE> and [laughter], and without <unk>."""
    return [word for word in words if not MARK.fullmatch(word)]


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` is a GPU if there is one. Raises UserError if it is not to be had."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise UserError(f"device is auto, cpu or cuda, not {name!r}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda was asked for, but PyTorch sees no GPU here. Use device=cpu.")
    return torch.device(name)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def output_folder(checkpoint: Checkpoint) -> Path:
    """Where the evaluations of a checkpoint are kept."""
    if checkpoint.run is not None:
        return checkpoint.run / "evaluation"
    return (checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent) / "evaluation"


def normalizer_name(corpus: Corpus, units: Units) -> str:
    """What the texts of a corpus went through: its own normalization, if it has one, and that of the units."""
    names = [corpus.normalization["name"]] if corpus.normalization else []
    return " + ".join(names + [units.normalizer] * (not names or units.normalizer != "none"))


def removed_by_normalizer(split: CheckedSplit, units: Units) -> dict[str, int]:
    """What the text normalizer removed from the references of a split, with counts."""
    removed: Counter = Counter()
    for cut in split.cuts:
        removed.update(units.normalize(cut.supervisions[0])[1])
    return dict(removed)

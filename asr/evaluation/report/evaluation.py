"""The page of one evaluation, `report.html` beside `scores.json`: what is behind the numbers, to see and to hear."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from asr.errors import UserError
from asr.evaluation.report import alignment
from asr.evaluation.report.figures import DurationBin, draw_error_by_duration, draw_features
from asr.evaluation.report.page import (
    Html,
    bullets,
    code,
    details,
    element,
    figure,
    notice,
    page,
    paragraph,
    table,
)
from asr.evaluation.report.players import AudioBudget
from asr.runtime.files import write_together
from asr.scoring.alignment import Alignment
from asr.scoring.decoding import decoder_rows, warning_of_unknown
from asr.scoring.metric import METRICS, rates_beside
from asr.scoring.score import Score, UtteranceScore, bootstrap_interval
from asr.scoring.text import counted_tokens, percent, rate_and_interval, visible

log = logging.getLogger(__name__)

NAME = "report.html"
WORST_UTTERANCES = 10
MOST_SPEAKERS = 40
MOST_UNITS = 12
MOST_DROPPED = 50
NO_BREAK = "\N{NO-BREAK SPACE}"
RESAMPLES = 1000  # for the intervals of speakers and durations

STYLE = (
    alignment.STYLE
    + """
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 0 1.5rem; align-items: start; }
.bar { display: block; height: .8em; margin-top: .25em; background: #56b4e9; border-radius: 2px; min-width: 1px;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
td:has(> .bar) { width: 35%; min-width: 6rem; }
audio { display: block; width: 100%; max-width: 34rem; margin: .4rem 0; }
@media screen and (max-width: 45rem) { figure svg { max-width: none; width: 40rem; } }
@media print { audio { display: none; } article, figure, tr { break-inside: avoid; } }
"""
)


def write_report(
    folder: Path, score: Score, data: dict[str, Any], cuts: Sequence, model, run: Path | None
) -> Path | None:
    """Writes `report.html` into an evaluation's folder, completely or not at all, and returns its path.

    data: the content of `scores.json`. cuts: the split's lhotse cuts; the audio of the worst utterances is read again.
    model: an `asr.model.network.Model`, to draw features. run: the run folder with its `metrics.csv`, if any.

    Never fails the evaluation: a part that cannot be made is replaced by the reason, and a page that cannot be written causes a
    warning and returns None.
    """
    path = Path(folder) / NAME
    try:
        write_together({path: report_page(score, data, cuts, model, run)})
    except UserError as error:
        log.warning("report.html was not written: %s", error)
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    return path


def report_page(score: Score, data: dict[str, Any], cuts: Sequence, model, run: Path | None) -> str:
    """The page as text; see `write_report` for the arguments."""
    what, tokens = METRICS[data["metric"]]
    title = f"{what}: {data['corpus']}, {data['split']}, {data['attention']}"
    low, high = (percent(end) for end in score.interval)
    verdict = notice(
        "plain",
        f"{data['metric'].upper()} {percent(score.error_rate)}",
        f"{100 * score.confidence:g} % interval {low} to {high}: {kinds_of(score)} in {counted_tokens(score, data)}, of "
        f"{counted(len(score.utterances), 'utterance')}.",
        *(f"{name.upper()} {rate_and_interval(data, name)}." for name in rates_beside(data)),
    )
    sections = [
        ("What was scored", lambda: facts(score, data)),
        ("Learning curves", lambda: learning_curves(run)),
        ("Error rate by duration", lambda: by_duration(score)),
        ("Error rate by speaker", lambda: by_speaker(score)),
        (f"Most confused {tokens}", lambda: confused(score, tokens)),
        ("Worst utterances", lambda: worst(score, cuts, model)),
    ]
    return page(title, [(heading, guarded(heading, make)) for heading, make in sections], verdict, STYLE)


def guarded(what: str, make: Callable[[], Any]) -> Any:
    """The result of `make` or, if it fails, a notice with the reason, so that the rest of the page can still be read."""
    try:
        return make()
    except Exception as error:
        if not isinstance(error, UserError):
            log.debug("%s could not be shown", what, exc_info=True)
        reason = str(error) or type(error).__name__
        return [notice("bad", "This could not be shown.", reason)]


def facts(score: Score, data: dict[str, Any]) -> list[Html]:
    settings = ", ".join(f"{key}={value}" for key, value in data.get("attention_settings", {}).items() if key != "name")
    removed = data.get("normalizer_removed", {})
    rules = data.get("corpus_normalization", {}).get("rules", {})
    applied = ", ".join(f"{rule} × {count}" for rule, count in rules.items() if count)
    taken_out = ", ".join(f"{sign!r} × {count}" for sign, count in sorted(removed.items(), key=lambda pair: -pair[1]))
    memory, forward = data["peak_memory_bytes"], data["forward_seconds"]
    rows = [
        ["Command", code(data["command"])],
        ["Checkpoint", code(data["checkpoint"])],
        ["Attention", f"{data['attention']} ({settings})" if settings else data["attention"]],
        ["Trained with", data.get("trained_with", "–")],
        ["Corpus, split", f"{data['corpus']}, {data['split']}"],
        ["Units", data["units"]],
        ["Normalizer", f"{data['normalizer']}; removed from the references: {taken_out or 'nothing'}"],
        ["Rules of the corpus", applied or "none"],
        ["Utterances, audio", f"{len(score.utterances)}, {data['audio_seconds']:.1f} s"],
        ["Forward pass", "–" if forward is None else f"{forward:.2f} s"],
        ["Peak memory", "–" if memory is None else f"{memory / 2**20:.0f} MiB"],
        *decoder_rows(data).items(),
    ]
    parts = [table(["What", "Value"], rows)]
    if (warning := warning_of_unknown(data)) is not None:
        parts.append(notice("bad", "The decoder does not know many of the words.", warning))
    parts += [notice("bad", "The corpus is not complete.", sentence) for sentence in data.get("incomplete", [])]
    dropped = data.get("dropped", [])
    if not dropped:
        return [*parts, paragraph("No utterance of the split was left out.")]
    shown = bullets(f"{utterance}: {reason}" for utterance, reason in dropped[:MOST_DROPPED])
    more = [f"{len(dropped) - MOST_DROPPED} more: scores.json lists them."] if len(dropped) > MOST_DROPPED else []
    return [*parts, details(f"{counted(len(dropped), 'utterance')} could not be scored", shown, *more)]


def learning_curves(run: Path | None) -> list[Any]:
    from asr.evaluation.report.plots import draw_learning_curves

    if run is None:
        return [paragraph("The checkpoint is not in a run's folder, so there are no learning curves.")]
    metrics = Path(run) / "metrics.csv"
    if not metrics.is_file():
        return [paragraph(f"There is no {metrics}, which training writes.")]
    return [figure(draw_learning_curves(metrics, learning_rate=True), f"From {metrics}.")]


def by_duration(score: Score) -> list[Html]:
    bins = duration_bins(score.utterances)
    rows = [
        [
            f"{bin.low:g} to {bin.high:g} s".replace(" ", NO_BREAK),
            bin.utterances,
            bin.reference_length,
            percent(bin.error_rate),
            between(bin.interval),
        ]
        for bin in bins
    ]
    return [
        figure(draw_error_by_duration(bins, score.error_rate)),
        table(["Duration", "Utterances", "Reference length", "Error rate", "95 % interval"], rows),
    ]


def duration_bins(utterances: Sequence[UtteranceScore], most: int = 6, fewest: int = 8) -> list[DurationBin]:
    """Sorts utterances by duration into at most `most` bins of about equal counts, with at least about `fewest` in each.

    Edges are whole tenths of a second, so that utterances of the same duration share a bin. A bin whose references are all empty
    has no error rate and is left out.
    """
    import numpy

    durations = numpy.array([utterance.duration for utterance in utterances])
    number = max(1, min(most, len(durations) // fewest))
    inner = numpy.quantile(durations, numpy.arange(1, number) / number)
    low, high = numpy.floor(durations.min() * 10) / 10, numpy.floor(durations.max() * 10) / 10 + 0.1
    edges = sorted({round(float(edge), 1) for edge in (low, *inner, high)})
    bins = []
    for low, high in zip(edges, edges[1:]):
        inside = [u for u in utterances if low <= u.duration < high or (high == edges[-1] and u.duration == high)]
        errors = [utterance.alignment.errors for utterance in inside]
        lengths = [utterance.alignment.reference_length for utterance in inside]
        if sum(lengths):
            interval = bootstrap_interval(errors, lengths, RESAMPLES)
            bins.append(DurationBin(low, high, len(inside), sum(lengths), sum(errors) / sum(lengths), interval))
    return bins


def by_speaker(score: Score) -> list[Html]:
    groups: dict[str, list[UtteranceScore]] = {}
    for utterance in score.utterances:
        groups.setdefault(utterance.speaker, []).append(utterance)
    # a speaker without any reference token has no rate
    rated = [(speaker.error_rate, speaker) for speaker in score.speakers if speaker.error_rate is not None]
    rated.sort(key=lambda pair: (-pair[0], pair[1].speaker))
    rows = []
    for rate, speaker in rated[:MOST_SPEAKERS]:
        alignments = [utterance.alignment for utterance in groups[speaker.speaker]]
        interval = bootstrap_interval(
            [alignment.errors for alignment in alignments],
            [alignment.reference_length for alignment in alignments],
            RESAMPLES,
        )
        rows.append(
            [
                shorten(speaker.speaker) or "unknown",
                speaker.utterances,
                speaker.reference_length,
                f"{speaker.substitutions}, {speaker.deletions}, {speaker.insertions}",
                percent(rate),
                between(interval) if speaker.utterances > 1 else "–",
                bar(rate / (rated[0][0] or 1)),
            ]
        )
    headers = ["Speaker", "Utterances", "Reference length", "Sub, del, ins", "Error rate", "95 % interval", ""]
    parts = [table(headers, rows)]
    if len(score.speakers) > len(rows):
        parts.append(paragraph(f"{len(score.speakers) - len(rows)} more speakers: scores.md lists all.", quiet=True))
    return parts


def confused(score: Score, tokens: str) -> list[Html]:
    if not score.confusions:
        return [paragraph("There are no errors.")]
    # from the alignments: where a reference allows several readings, they have the chosen one
    steps = (step for utterance in score.utterances for step in utterance.alignment.operations)
    spoken = Counter(step.reference for step in steps if step.reference is not None)
    kinds: dict[str, list] = {"Substitutions": [], "Deletions": [], "Insertions": []}
    for (reference, hypothesis), count in score.confusions:
        if reference is None:
            kinds["Insertions"].append([shorten(visible(hypothesis or "")), count])
        elif hypothesis is None:
            kinds["Deletions"].append([shorten(visible(reference)), count, percent(count / spoken[reference])])
        else:
            pair = f"{shorten(visible(reference))} → {shorten(visible(hypothesis))}"
            kinds["Substitutions"].append([pair, count, percent(count / spoken[reference])])
    tables = []
    for kind, rows in kinds.items():
        headers = ["Said → heard" if kind == "Substitutions" else "Said" if kind == "Deletions" else "Heard", "Count"]
        headers += ["Of all said"] if kind != "Insertions" else []
        more = f", {MOST_UNITS} of {len(rows)} kinds" if len(rows) > MOST_UNITS else ""
        tables.append(table(headers, rows[:MOST_UNITS], f"{kind}{more}") if rows else paragraph(f"{kind}: none"))
    shares = paragraph(f"Shares are of all occurrences of these {tokens} in the references.", quiet=True)
    return [element("div", *tables, class_="columns"), shares]


def worst(score: Score, cuts: Sequence, model) -> list[Html]:
    chosen = worst_utterances(score, WORST_UTTERANCES)
    if not chosen:
        return [paragraph("There are no errors.")]
    by_id = {cut.id: cut for cut in cuts}
    budget = AudioBudget()
    articles = [
        element("article", *utterance_parts(utterance, by_id.get(utterance.utterance), model, budget))
        for utterance in chosen
    ]
    introduction = paragraph(
        f"The {len(chosen)} utterances with the most errors above those expected at their length from the overall rate of "
        f"{percent(score.error_rate)}, so that neither single words nor merely long utterances fill the list. Filter banks are "
        "drawn as the model sees them. hypotheses.tsv has all utterances."
    )
    notes = [bullets(budget.left_out)] if budget.left_out else []
    return [introduction, alignment.legend(), *articles, *notes]


def worst_utterances(score: Score, most: int) -> list[UtteranceScore]:
    """The utterances with the largest `errors - overall rate * reference length`, without those that have no error."""

    def excess(utterance: UtteranceScore) -> float:
        return utterance.alignment.errors - score.error_rate * utterance.alignment.reference_length

    wrong = [utterance for utterance in score.utterances if utterance.alignment.errors]
    return sorted(wrong, key=lambda utterance: (-excess(utterance), utterance.utterance))[:most]


def utterance_parts(utterance: UtteranceScore, cut, model, budget: AudioBudget) -> list[Any]:
    """Heading, alignment, picture and player of one utterance; a part that cannot be made is replaced by the reason."""
    a = utterance.alignment
    rate = f" ({percent(a.errors / a.reference_length)})" if a.reference_length else ""
    parts = [
        element("h3", f"{utterance.utterance}: {counted(a.errors, 'error')} in {a.reference_length}{rate}"),
        paragraph(f"{utterance.speaker or 'unknown speaker'}, {utterance.duration:.2f} s; {kinds_of(a)}.", quiet=True),
        alignment.alignment_block(a),
    ]
    text = cut.supervisions[0].text if cut is not None and cut.supervisions else None
    if text:
        parts.append(paragraph(f"Transcript: {shorten(text, 2000)}", quiet=True))

    def from_audio() -> list[Any]:
        if cut is None:
            raise UserError(f"The utterance {utterance.utterance} is not among the split's cuts. Evaluate again.")
        return picture_and_player(utterance.utterance, cut, model, budget)

    return [*parts, *guarded(utterance.utterance, from_audio)]


def picture_and_player(name: str, cut, model, budget: AudioBudget) -> list[Any]:
    import torch

    from asr.audio.cuts import load_waveform

    waveform = load_waveform(cut)
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    with torch.inference_mode():
        samples = torch.tensor([len(waveform)], device=device)
        features, frames = model.features(waveform[None].to(device), samples)
    model.train(training)
    rate = model.features.sample_rate
    drawing = draw_features(features[0, : int(frames[0])].cpu(), model.features.frame_shift, rate)
    return [figure(drawing), budget.player(name, waveform, rate)]


def between(interval: tuple[float, float]) -> str:
    # never broken over lines
    return f"{percent(interval[0])} to {percent(interval[1])}".replace(" ", NO_BREAK)


def counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def kinds_of(score: Score | Alignment) -> str:
    kinds = (score.substitutions, "substitution"), (score.deletions, "deletion"), (score.insertions, "insertion")
    return ", ".join(counted(count, kind) for count, kind in kinds)


def bar(share: float) -> Html:
    return element("span", class_="bar", style=f"width: {100 * share:.1f}%")


def shorten(text: str | None, most: int = 60) -> str:
    text = text or ""
    return text if len(text) <= most else text[: most - 1] + "…"

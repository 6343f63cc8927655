"""What a run tells the user: before its first step, and at its end."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console

from asr.config.settings import plain
from asr.data.corpora import Corpus
from asr.data.corpora.preparing.unusable import reasons_of
from asr.runtime.called import as_called
from asr.runtime.processes import ProcessGroup
from asr.scoring.metric import said_beside
from asr.training.phones import about_phones
from asr.training.run_folder import first_command
from asr.training.setup import TrainingSetup


def dropped_rows(corpus: Corpus, splits) -> list[tuple[str, str, str]]:
    """(split, utterance, reason) of every utterance not used; the split is "preparation" where it belongs to none."""
    rows = [("preparation", utterance, reason) for utterance, reason in [*corpus.dropped, *corpus.left_out]]
    checked = [(split.name, utterance, reason) for split in splits for utterance, reason in split.dropped]
    named = {utterance for _, utterance, _ in checked}
    return [row for row in rows if row[1] not in named] + checked


def announce(console: Console, config, corpus: Corpus, setup: TrainingSetup) -> None:
    """Prints what will be trained, and on what."""
    splits, model, units = setup.splits, setup.model, setup.scoring.units
    for split in splits.values():
        line = f"{split.name:>5}: {len(split.cuts)} utterances, {split.seconds / 3600:.2f} h"
        if split.dropped:
            reasons = ", ".join(f"{count} × {reason}" for reason, count in split.reasons().most_common())
            line += f"; {len(split.dropped)} dropped ({reasons}), listed in {config.run}/dropped.tsv"
        console.print(line)
    for sentence in corpus.incomplete:
        console.print(f"the corpus is incomplete: {sentence}")
    if unplaced := corpus.dropped_of(None):
        console.print(
            f"dropped from the corpus: {len(unplaced)} ({reasons_of(unplaced)}), listed in {config.run}/dropped.tsv"
        )
    if corpus.left_out:
        reasons = reasons_of(corpus.left_out)
        console.print(f"left out on purpose: {len(corpus.left_out)} ({reasons}), listed in {config.run}/dropped.tsv")
    frames = splits["train"].frames
    states = model.encoder.state_lengths(sum(frames) // len(frames))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    console.print(
        f"corpus {corpus.name}, {len(units.symbols) - 1} {units.name}; attention {model.attention_label()} over {states} "
        f"frames on average, {model.encoder.state_lengths(max(frames))} at most; {parameters / 1e6:.2f} M parameters"
    )
    if setup.readings is not None:
        about_phones(console, setup.readings, setup.dev)
    if setup.remarks:
        console.print(setup.remarks)


def report(console: Console, config, run: Path, group: ProcessGroup) -> None:
    """Scores the test split, draws the learning curves, and prints where everything lies."""
    from asr.evaluation.evaluate import Request, evaluate
    from asr.evaluation.report.plots import plot_learning_curves

    request = Request(
        checkpoint=str(run), split="test", cache=str(config.cache), decoder=plain(config.decoder),
        batch_frames=config.data.evaluation_frames, max_dropped=config.data.max_dropped,
        longest_seconds=config.data.longest_seconds, report=config.report, metric=config.metric,
    )  # fmt: skip
    scores = evaluate(request, group)
    if group.rank == 0:
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

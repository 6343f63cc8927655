"""Prints scores on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from asr.scoring.decoding import decoder_rows, warning_of_unknown
from asr.scoring.metric import rates_beside, spaces_note
from asr.scoring.subsets import named
from asr.scoring.text import rate_and_interval


def by_weights(checked: dict[str, Any]) -> str:
    """A note if sclite's weights (4 for a substitution, 3 for the others) give another number of errors than unit costs."""
    main, theirs = checked.get("main"), checked["theirs"]
    if main is None:
        return ""
    errors = [sum(counts[kind] for kind in ("substitutions", "deletions", "insertions")) for counts in (main, theirs)]
    if errors[0] == errors[1]:
        return ""
    return f" with its weights, which give {errors[1]} errors; with unit costs there are {errors[0]}"


def show_scores(scores: dict[str, Any]) -> None:
    """Prints the content of `scores.json` as a table, with `folder` below it."""
    low, high = scores["interval"]
    table = Table(title=f"{scores['corpus']} {scores['split']}, attention {scores['attention']}", show_header=False)
    note = spaces_note(scores, scores["metric"])
    rows = {
        scores["metric"].upper(): f"{scores['error_rate']:.2%}",
        "95 % interval": f"{low:.2%} to {high:.2%}",
        "substitutions": scores["substitutions"],
        "deletions": scores["deletions"],
        "insertions": scores["insertions"],
        "reference length": f"{scores['reference_length']} {scores['tokens']}{note and f', {note}'}",
        **{name.upper(): rate_and_interval(scores, name) for name in rates_beside(scores)},
        "utterances": scores["utterances"],
        "audio": f"{scores['audio_seconds']:.1f} s",
        "forward": f"{scores['forward_seconds']:.2f} s",
        "peak memory": "–" if scores["peak_memory_bytes"] is None else f"{scores['peak_memory_bytes'] / 2**20:.0f} MiB",
        "normalizer": scores["normalizer"],
        **{title.lower(): value for title, value in decoder_rows(scores).items()},
    }
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, str(value))
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    # a narrow terminal shows long paths in full, over several lines
    console.print(table, soft_wrap=False)
    if (warning := warning_of_unknown(scores)) is not None:
        console.print(f"warning: {warning}")
    for key, subset in scores.get("subsets", {}).items():
        if subset["error_rate"] is not None:
            console.print(
                f"{named(key, subset)}: {subset['error_rate']:.2%} of {subset['reference_length']} {scores['tokens']}"
            )
    filtered = scores.get("without_hesitations")
    if filtered and filtered["error_rate"] is not None:
        console.print(f"{filtered['error_rate']:.2%} without hesitations in the hypotheses, as Kaldi's recipes score")
    checked = scores.get("sclite", {})
    if checked.get("warning"):
        console.print(checked["warning"])
    elif checked.get("agrees"):
        console.print(f"{checked['tool']} counts the same errors{by_weights(checked)}.")
    for sentence in scores.get("incomplete", []):
        console.print(f"The corpus is not complete: {sentence.rstrip('.')}.")
    if scores["dropped"]:
        console.print(f"{len(scores['dropped'])} utterances could not be scored; scores.json names them.")
    console.print(f"tables in {scores['folder']}")
    for name in (scores.get("report"), scores.get("attention_page")):
        if name is not None:
            console.print(f"page      {name}")

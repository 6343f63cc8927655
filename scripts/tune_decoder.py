"""Tunes a decoder's weights on dev: python scripts/tune_decoder.py checkpoint=RUN decoder.lm=lm.arpa"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # a file of the checkout, which need not be installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.cli.command import command  # noqa: E402
from asr.errors import UserError  # noqa: E402


@command("tune_decoder")
def tune_decoder(config) -> None:
    """Tunes the weight of the language model and the score of a word on dev, and saves the best in the run's folder.

    python scripts/tune_decoder.py checkpoint=RUN decoder.lm=lm.arpa      # for the decoder wfst
    python evaluate.py checkpoint=RUN decoder=wfst           # uses the saved language model and weights

    Emissions are computed once and cached. The test split is never used.
    """
    from asr.evaluation.emissions import Batching, cached_emissions
    from asr.evaluation.request import load_split
    from asr.evaluation.tuning import DevSet, replaced, sample, write_tuned
    from asr.inference.tuned import tuned_file
    from asr.model.checkpoint import open_checkpoint
    from asr.runtime.provenance import command_line

    grid = {key: numbers(config, key) for key in ("lm_weights", "word_scores")}
    checkpoint, settings = open_checkpoint(str(config.checkpoint)), decoder_settings(config)
    decoder = tunable(settings, checkpoint.units, checkpoint.model.topology)
    if not decoder.gives_words:
        # units have no score to tune
        grid["word_scores"] = [0.0]
    model = model_to_tune(config, checkpoint)
    split, corpus, _ = load_split(checkpoint, dev_of(config))
    split = sample(split, 60 * config.minutes)
    batching = Batching(config.device, config.batch_frames)
    emissions, kept = cached_emissions(model, split, batching, corpus.name, Path(config.cache))
    dev = DevSet.of(split, emissions, decoder, checkpoint.units, config.metric)
    if dev.reference_length == 0:
        raise UserError(
            f"The dev split of {corpus.name} has no words to tune on: choose another corpus with corpus=NAME."
        )
    where = f"; emissions in {kept}" if kept else ""
    print(f"{len(split.cuts)} utterances of dev, {split.seconds / 60:.1f} minutes{where}", flush=True)
    points, seconds = searched(dev, grid, config.refinements)
    facts = {
        **scores_of(dev, points),
        "utterances": len(split.cuts),
        "corpus": corpus.name,
        "attention": model.attention_label(),
        "decoder_facts": decoder.facts,
        "times_real_time": len(points) * split.seconds / seconds,
        "command": command_line(),
    }
    file = tuned_file(checkpoint, settings["name"])
    earlier = replaced(file)
    written = write_tuned(file, settings, points, facts)
    show(dev, points, facts)
    show_files(
        written, earlier, ["python", "evaluate.py", f"checkpoint={config.checkpoint}", f"decoder={settings['name']}"]
    )


def decoder_settings(config) -> dict:
    """The settings of the decoder, with absolute paths, so that they are valid wherever evaluate.py runs."""
    from asr.config.settings import plain
    from asr.inference.tuned import FILES

    settings = plain(config.decoder)
    for key in FILES:
        if isinstance(settings.get(key), str) and Path(settings[key]).expanduser().exists():
            settings[key] = str(Path(settings[key]).expanduser().resolve())
    return settings


def tunable(settings: dict, units, topology):
    """The decoder, bound to the units. Raises UserError if it has no weights."""
    from asr.inference.decoders import decoders

    decoder = decoders.create(settings).bind_to(units, topology)
    decoder.with_weights(1.0, 0.0)  # raises UserError if it has none
    if settings.get("lm") is None and not decoder.gives_words:
        raise UserError(f"decoder={settings['name']} has no language model to weight: add decoder.lm=FILE.")
    return decoder


def model_to_tune(config, checkpoint):
    """The checkpoint's model, with the requested attention."""
    from asr.cli.command import typed_knobs
    from asr.config.settings import plain
    from asr.model.checkpoint import choose_attention

    asked = plain(config.attention) if config.get("attention") else None
    attention = choose_attention(checkpoint.model, asked, typed_knobs(config))
    return checkpoint.model if attention is None else checkpoint.model.with_attention(attention)


def dev_of(config):
    """The request for the dev split."""
    from asr.config.settings import plain
    from asr.evaluation.request import Request

    return Request(
        checkpoint=str(config.checkpoint),
        split="dev",
        corpus=plain(config.corpus) if config.get("corpus") else None,
        longest_seconds=config.longest_seconds,
        max_dropped=config.max_dropped,
        cache=str(config.cache),
    )


def searched(dev, grid: dict[str, list[float]], refinements: int) -> tuple[list, float]:
    """(the points tried, seconds taken), with a progress bar."""
    import time

    from rich.console import Console
    from rich.progress import Progress

    from asr.evaluation.tuning import search

    console, started = Console(stderr=True), time.perf_counter()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        # a refinement tries at most eight new neighbours of the best pair
        most = len(grid["lm_weights"]) * len(grid["word_scores"]) + 8 * refinements
        task = progress.add_task("decoding dev", total=most)
        points = search(
            dev.errors,
            grid["lm_weights"],
            grid["word_scores"],
            refinements,
            lambda _: progress.advance(task),
            dev.decoder.gives_words,
        )
    return points, time.perf_counter() - started


def scores_of(dev, points: list) -> dict:
    from asr.evaluation.tuning import best_of

    return {
        "metric": dev.metric.name,
        "error_rate": best_of(points).errors / dev.reference_length,
        "reference_length": dev.reference_length,
    }


def show(dev, points: list, facts: dict) -> None:
    from asr.evaluation.tuning import best_of, warnings_of_edges

    best = best_of(points)
    print(
        f"best of {len(points)}: lm_weight={best.lm_weight:g} word_score={best.word_score:g}, "
        f"dev {dev.metric.name.upper()} {facts['error_rate']:.2%} of {dev.reference_length} {dev.metric.tokens}; "
        f"decoded {facts['times_real_time']:.0f} times as fast as real time"
    )
    for sentence in warnings_of_edges(points, best):
        print(sentence)


def show_files(written: list[Path], earlier: str | None, evaluation: list[str]) -> None:
    """earlier: a line about an earlier tuning, if any. evaluation: the command that uses the weights."""
    import shlex

    from asr.runtime.called import as_called

    if earlier:
        print(earlier)
    print("\n".join(f"written   {path}" for path in written))
    print(as_called(f"score it  {shlex.join(evaluation)}"))


def numbers(config, key: str) -> list[float]:
    """A list of numbers from the configuration. Raises UserError for anything else."""
    values = config[key]
    values = [values] if isinstance(values, (int, float)) else values
    if (
        isinstance(values, str)
        or not list(values)
        or not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    ):
        raise UserError(f"{key}={values} is not a list of numbers: write one, such as {key}=[0,1,2].")
    return [float(value) for value in values]


if __name__ == "__main__":
    tune_decoder()

"""Finds a decoder's weights on dev: python scripts/tune_decoder.py checkpoint=RUN decoder.lm=lm.arpa"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.cli.command import command  # noqa: E402
from asr.errors import UserError  # noqa: E402


@command("tune_decoder")
def tune_decoder(config) -> None:
    """Searches the language model's weight and the score of a word on dev, and keeps the best in the run's folder.

    python scripts/tune_decoder.py checkpoint=RUN decoder.lm=lm.arpa      # of the decoder wfst
    python evaluate.py checkpoint=RUN decoder=wfst           # finds language model and weights there

    Emissions are computed once and kept in the cache. The test split is never looked at.
    """
    import shlex
    import time

    from rich.console import Console
    from rich.progress import Progress

    from asr.cli.command import typed_knobs
    from asr.config.settings import plain
    from asr.evaluation.evaluate import Request, choose_attention, load_split, metric_of, reference_of, tokens_of
    from asr.evaluation.tuning import (
        best_of,
        beyond,
        cached_emissions,
        decode_all,
        replaced,
        search,
        thinned,
        tuned_file,
        write_tuned,
    )
    from asr.inference.decoders import decoders
    from asr.model.checkpoint import open_checkpoint
    from asr.scoring.alignment import count_errors
    from asr.training.run_folder import command_line

    grid = {key: numbers(config, key) for key in ("lm_weights", "word_scores")}
    settings = plain(config.decoder)
    for key in ("lm", "lexicon"):
        # the file is found again from wherever evaluate.py is started
        if isinstance(settings.get(key), str) and Path(settings[key]).expanduser().exists():
            settings[key] = str(Path(settings[key]).expanduser().resolve())
    checkpoint = open_checkpoint(str(config.checkpoint))
    decoder = decoders.create(settings).bind(checkpoint.units)
    decoder.with_weights(1.0, 0.0)  # says at once if it has none
    if settings.get("lm") is None and not decoder.gives_words:
        raise UserError(f"decoder={settings['name']} has no language model to weigh: add decoder.lm=FILE.")
    if not decoder.gives_words:
        # units have no score of their own
        grid["word_scores"] = [0.0]
    attention = choose_attention(
        checkpoint.model, plain(config.attention) if config.get("attention") else None, typed_knobs(config)
    )
    request = Request(
        checkpoint=str(config.checkpoint),
        split="dev",
        corpus=plain(config.corpus) if config.get("corpus") else None,
        longest_seconds=config.longest_seconds,
        max_dropped=config.max_dropped,
        cache=str(config.cache),
    )
    split, corpus, _ = load_split(checkpoint, request)
    split = thinned(split, 60 * config.minutes)
    model = checkpoint.model if attention is None else checkpoint.model.with_attention(attention)
    emissions, file = cached_emissions(
        model, split, corpus.name, config.device, config.batch_frames, Path(config.cache)
    )
    references = [reference_of(split, index, decoder, checkpoint.units) for index in range(len(split.cuts))]
    chosen = metric_of(config.metric, split, decoder, checkpoint.units)
    tokens = chosen.characters if chosen.name == "cer" else list
    references = [tokens(reference) for reference in references]
    length = sum(map(len, references))
    if length == 0:
        raise UserError(f"The dev split of {corpus.name} has no words to tune on.")
    metric = chosen.name.upper()
    kept = f"; emissions in {file}" if file else ""
    print(f"{len(split.cuts)} utterances of dev, {split.seconds / 60:.1f} minutes{kept}", flush=True)
    started = time.perf_counter()

    def errors(lm_weight: float, word_score: float) -> int:
        best = decode_all(decoder.with_weights(lm_weight, word_score), emissions)
        return count_errors(references, [tokens(tokens_of(hypothesis, checkpoint.units)) for hypothesis in best])

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        # the neighbours of the best pair are at most eight new ones
        most = len(grid["lm_weights"]) * len(grid["word_scores"]) + 8 * config.refinements
        task = progress.add_task("decoding dev", total=most)
        points = search(
            errors,
            grid["lm_weights"],
            grid["word_scores"],
            config.refinements,
            lambda _: progress.advance(task),
            decoder.gives_words,
        )
    best, seconds = best_of(points), time.perf_counter() - started
    facts = {
        "metric": metric.lower(),
        "error_rate": best.errors / length,
        "reference_length": length,
        "utterances": len(split.cuts),
        "corpus": corpus.name,
        "attention": model.attention_label(),
        "decoder_facts": decoder.facts,
        "times_real_time": len(points) * split.seconds / seconds,
        "command": command_line(),
    }
    earlier = replaced(tuned_file(checkpoint, settings["name"]))
    written = write_tuned(tuned_file(checkpoint, settings["name"]), settings, points, facts)
    print(
        f"best of {len(points)}: lm_weight={best.lm_weight:g} word_score={best.word_score:g}, dev {metric} "
        f"{best.errors / length:.2%} of {length} {chosen.tokens}; "
        f"decoded {facts['times_real_time']:.0f} times as fast as real time"
    )
    for sentence in [*beyond(points, best), *([earlier] if earlier else [])]:
        print(sentence)
    print("\n".join(f"written   {path}" for path in written))
    again = ["python", "evaluate.py", f"checkpoint={config.checkpoint}", f"decoder={settings['name']}"]
    print(f"score it  {shlex.join(again)}")


def numbers(config, key: str) -> list[float]:
    """A list of numbers in the configuration. Raises UserError for anything else."""
    values = config[key]
    values = [values] if isinstance(values, (int, float)) else values
    if (
        isinstance(values, str)
        or not list(values)
        or not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    ):
        raise UserError(f"{key}={values} is no list of numbers, such as {key}=[0,1,2].")
    return [float(value) for value in values]


if __name__ == "__main__":
    tune_decoder()

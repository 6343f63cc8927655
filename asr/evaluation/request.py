"""The settings of an evaluation, and loading of its data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from asr.data.checks import CheckedSplit, check_split, refuse_if_many
from asr.data.corpora import Corpus, corpora
from asr.data.dropped import refuse_unusable
from asr.data.moved import facts_of_run, load_own, refuse_other_data, with_places
from asr.errors import UserError
from asr.evaluation.emissions import Batching
from asr.model.checkpoint import Checkpoint
from asr.runtime.processors import processors


@dataclasses.dataclass
class Request:
    """The settings of an evaluation.

    attention: settings of an attention to use instead of the checkpoint's own. knobs: settings to change in it.
    corpus: settings of a corpus other than the one it was trained on; without a `name`, new paths of that one.
    longest_seconds: longer utterances are left out. max_dropped: the highest share of unusable utterances that is accepted.
    output: folder for the tables; by default `evaluation/<split>/<attention>` beside the model. report: whether to write
    `report.html` too.
    plot_attention: the id of an utterance whose attention matrices to draw, which allows the knobs of all drawn attentions.
    decoder_typed: decoder settings given by the user; the others default to what `scripts/tune_decoder.py` found, if anything.
    sclite: whether NIST's sclite counts errors too, if it is installed. metric: as in `asr.scoring.metric.choose_metric`.
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

    @property
    def batching(self) -> Batching:
        return Batching(self.device, self.batch_frames, self.batch_utterances)


class Data(NamedTuple):
    """A split to evaluate on. own: whether the model was trained on its corpus."""

    split: CheckedSplit
    corpus: Corpus
    own: bool


def load_split(checkpoint: Checkpoint, request: Request) -> Data:
    """Loads the split of a request and checks its utterances.

    Raises UserError if the corpus cannot be loaded, has no such split, or has too many unusable utterances.
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
    return Data(split, corpus, own)


def load_corpus(checkpoint: Checkpoint, request: Request) -> tuple[Corpus, bool]:
    """(the corpus to evaluate on, whether the model was trained on it)."""
    trained_on, asked = checkpoint.trained_on.get("corpus"), request.corpus or {}
    cache, workers = Path(request.cache), processors()
    asked = {} if asked == trained_on else asked
    if "name" in asked:
        return corpora.create(asked).load(cache, workers=workers), False
    if not isinstance(trained_on, dict) or not isinstance(trained_on.get("name"), str):
        raise UserError(f"{request.checkpoint} does not say what it was trained on: name a corpus with corpus=NAME.")
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

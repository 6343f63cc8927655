"""A corpus of noise that trains in a second: lhotse cuts with words, TIMIT's phonemes, and a text of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

TEXTS = ("a cat", "the dog", "a dog and a cat", "good day", "the cat and the dog", "the day", "dogs", "cats")
PHONEMES = "h# dh ax kcl k ae tcl t h#".split()
SMALL = [
    "encoder.layers=1", "encoder.heads=2", "encoder.head_dim=16", "encoder.feed_forward=64", "max_epochs=2",
    "trainer.validations=2", "trainer.log_every_n_steps=1", "data.batch_utterances=4", "data.workers=0", "data.allow_leaks=true",
    "schedule.warmup_steps=2", "report=false", "corpus=cuts",
]  # fmt: skip


def tiny_corpus(folder: Path, texts=TEXTS, train: int = 12) -> list[str]:
    """Writes the corpus into the folder, which is made; returns the settings that train on it."""
    folder.mkdir(parents=True, exist_ok=True)
    random, splits = numpy.random.default_rng(0), {"train": train, "dev": 4, "test": 2}
    for split, utterances in splits.items():
        cuts = [
            utterance(folder, f"{split}-{number}", texts[number % len(texts)], random) for number in range(utterances)
        ]
        CutSet.from_cuts(cuts).to_file(folder / f"{split}.jsonl")
    return [*SMALL, *(f"corpus.{split}={folder / split}.jsonl" for split in splits)]


def utterance(folder: Path, name: str, text: str, random) -> MonoCut:
    file = folder / f"{name}.flac"
    soundfile.write(file, 0.1 * random.standard_normal(random.integers(16000, 24000)), 16000)
    recording = Recording.from_file(file)
    step = recording.duration / len(PHONEMES)
    spoken = [AlignmentItem(symbol, step * place, step) for place, symbol in enumerate(PHONEMES)]
    said = SupervisionSegment(name, recording.id, 0.0, recording.duration, text=text, alignment={"phoneme": spoken})
    return MonoCut(name, 0.0, recording.duration, 0, recording=recording, supervisions=[said])

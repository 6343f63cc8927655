"""Mini LibriSpeech: five hours of LibriSpeech for experiments (https://www.openslr.org/31), FLAC used in place."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from asr.data.corpora import Corpus, CorpusSource
from asr.data.corpora.librispeech import FORMAT, prepare
from asr.data.corpora.preparing.discs import prepared_place
from asr.data.corpora.preparing.folders import MadeMeanwhile, corpus_in
from asr.errors import UserError

PUBLISHED = {"train-clean-5": 1519, "dev-clean-2": 1089}
TRAIN, HELD_OUT = PUBLISHED


@dataclasses.dataclass
class MiniLibriSpeechCorpus(CorpusSource):
    """path: the folder LibriSpeech with train-clean-5 and dev-clean-2 in it; None once the corpus has been prepared.
    allow_missing: continues if a part is smaller than published, and records it.

    There is no test part. The speakers of dev-clean-2, in the order of their numbers, go to dev and test in turn, so that
    the two share none; all of it, which other toolkits score, is the split dev-clean-2.
    """

    name = "mini_librispeech"

    path: str | None = None
    allow_missing: bool = False

    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """As LibriSpeechCorpus.load does."""
        from lhotse import CutSet

        folder, prepared = prepared_place(cache, self.name, {"path": self.path}, FORMAT)
        if not prepared and self.path is not None:
            with contextlib.suppress(MadeMeanwhile):
                prepare(self.name, self.path, folder, PUBLISHED, [TRAIN, HELD_OUT], None, self.allow_missing, workers)
        corpus = corpus_in(folder, self.name)
        lacking = [part for part in PUBLISHED if part not in corpus.splits]
        held_out, dropped = corpus.splits.get(HELD_OUT, []), corpus.dropped_in.get(HELD_OUT, [])
        speakers = sorted({speaker_of(utterance) for utterance in [*(cut.id for cut in held_out), *dropped]}, key=int)
        if lacking or len(speakers) < 2:
            raise UserError(
                f"{folder} has {', '.join(corpus.splits)}, with {len(speakers)} speakers in {HELD_OUT}, but training and "
                f"testing need {TRAIN} and two speakers. Remove that folder and prepare it from the whole corpus."
            )
        splits = {"train": corpus.splits[TRAIN]}
        dropped_in = {"train": corpus.dropped_in.get(TRAIN, []), HELD_OUT: dropped}
        for split, chosen in (("dev", set(speakers[::2])), ("test", set(speakers[1::2]))):
            splits[split] = CutSet.from_cuts(cut for cut in held_out if speaker_of(cut.id) in chosen)
            dropped_in[split] = [utterance for utterance in dropped if speaker_of(utterance) in chosen]
        splits[HELD_OUT] = held_out
        return dataclasses.replace(corpus, splits=splits, aliases={TRAIN: "train"}, dropped_in=dropped_in)


def speaker_of(utterance: str) -> str:
    """ "84" of 84-121123-0003."""
    return utterance.partition("-")[0]

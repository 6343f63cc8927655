"""Switchboard: telephone conversations between strangers at 8 kHz (LDC97S62, ms98 transcripts), and eval2000 to test on."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from asr.data.corpora import Corpus, CorpusSource
from asr.data.corpora.preparing.discs import prepared_place, recorded_sources
from asr.data.corpora.preparing.folders import MadeMeanwhile, check_fractions, read_facts, with_dropped
from asr.data.corpora.switchboard.text import POLICIES
from asr.errors import UserError, nearest

# The ways to divide it.
WAYS = ("conversations", "kaldi")


@dataclasses.dataclass
class SwitchboardCorpus(CorpusSource):
    """swb1: the folder with the discs of LDC97S62. transcripts: with the Mississippi State transcripts.
    eval2000: with LDC2002S09; references: with the STM and GLM files of LDC2002T43. The two come together, or not at all.
    words: of a mispronounced word, what was `said` ("it'n") or what was `intended` ("isn't").
    split: `conversations` holds out whole conversations, by a stable hash of (seed, conversation); `kaldi` is that of Kaldi's
        recipe: the first utterances by their ids are dev, and train has at most so many copies of a text. Its border falls within
        a conversation: a leak, which a training on it has to allow (data.allow_leaks=true).
    dev_fraction, test_fraction, seed: of the conversations, for split=conversations.
    dev_utterances, most_copies: for split=kaldi.
    allow_missing: prepares what is there of discs and transcripts that lack parts, and records what is not. Single recordings
        that are missing or broken are in `Corpus.dropped` in any case.

    With eval2000, the split `test` is eval2000 (its other name), of which `eval2000_swbd` and `eval2000_callhm` are the
    halves; the conversations held out for testing are `held_out` then, so that train is the same with and without it.
    Without it they are `test`, and for split=kaldi as many utterances as dev, those after it.
    One preparation serves all words and splits, and is loaded without the discs.
    """

    name = "switchboard"
    places = ("swb1", "transcripts", "eval2000", "references")

    swb1: str | None = None
    transcripts: str | None = None
    eval2000: str | None = None
    references: str | None = None
    words: str = "intended"
    split: str = "conversations"
    dev_fraction: float = 0.01
    test_fraction: float = 0.01
    seed: int = 1
    dev_utterances: int = 4000
    most_copies: int = 300
    allow_missing: bool = False

    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """Prepares the corpus below `cache` once and returns it, from then on within seconds and without the discs.

        Raises UserError for a wrong setting, for discs that are missing, incomplete, damaged or another corpus's, for lines
        of transcripts that cannot be used, and where the cache cannot be written. What was converted until then is kept.
        """
        self._check()
        sources = {"swb1": self.swb1, "transcripts": self.transcripts}
        if self.eval2000 is not None:
            sources |= {"eval2000": self.eval2000, "references": self.references}
        from asr.data.corpora.switchboard.preparation import FORMAT, prepare

        folder, is_there = prepared_place(cache, self.name, sources, FORMAT)
        if not is_there:
            with contextlib.suppress(MadeMeanwhile):
                prepare(folder, recorded_sources(sources), self.allow_missing, workers)
        elif any(sources.values()) and not self.allow_missing:
            self._check_complete(folder)
        return self._load(folder)

    def _check(self) -> None:
        for field, choices in (("words", POLICIES), ("split", WAYS)):
            value = getattr(self, field)
            if value not in choices:
                raise UserError(f"{field}={value} is not one of the choices: {nearest(value, choices)}.")
        check_fractions(self.dev_fraction, self.test_fraction)
        for field in ("dev_utterances", "most_copies"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"{field}={value} is not a whole number of 1 or more.")
        if (self.eval2000 is None) != (self.references is None):
            lacking = "references" if self.references is None else "eval2000"
            raise UserError(
                f"eval2000 (LDC2002S09, the audio) and references (LDC2002T43) belong together: {lacking}=FOLDER is not given."
            )

    def _check_complete(self, folder: Path) -> None:
        allowed = read_facts(folder).get("allowed")
        if allowed:
            raise UserError(
                f"{folder} was prepared with --allow-missing, and not all was there: {allowed[0]}\nRemove that folder to "
                "prepare the corpus again, or add allow_missing=true."
            )

    def _load(self, folder: Path) -> Corpus:
        from lhotse import CutSet

        from asr.data.corpora.preparing.long_recordings import read_cuts
        from asr.data.corpora.switchboard.eval2000 import part_of, parts
        from asr.data.corpora.switchboard.splits import as_kaldi, by_conversations

        facts = read_facts(folder)
        cuts = read_cuts(folder / "cuts_swb1.jsonl.gz")
        supervisions = [cut.supervisions[0] for cut in cuts]
        said = [supervision.custom["said"] if supervision.custom else supervision.text for supervision in supervisions]
        for supervision, text in zip(supervisions, said):
            supervision.text = text if self.words == "said" else supervision.text
            supervision.custom = None
        evaluated = "eval2000" in facts
        prepared = with_dropped(Corpus(self.name, {}, facts["sample_rate"]), folder)
        if self.split == "kaldi":
            splits = as_kaldi(cuts, said, self.dev_utterances, self.most_copies, test=not evaluated)
        else:
            splits = by_conversations(cuts, self.dev_fraction, self.test_fraction, self.seed)
        # of swb1, what is dropped is of no split: these are made of what can be used
        dropped_in: dict[str, list[str]] = {}
        rules = dict(facts["rules"][self.words])
        if evaluated:
            held_out = splits.pop("test", None)
            splits |= parts(read_cuts(folder / "cuts_eval2000.jsonl.gz"))
            splits |= {"held_out": held_out} if held_out else {}
            dropped_in["test"] = prepared.dropped_in.get("eval2000", [])
            for utterance in dropped_in["test"]:
                dropped_in.setdefault(part_of(utterance), []).append(utterance)
            rules |= {f"references: {rule}": count for rule, count in facts["rules"]["references"].items()}
        return dataclasses.replace(
            prepared,
            splits={split: CutSet.from_cuts(chosen) for split, chosen in splits.items()},
            incomplete=facts.get("incomplete", []),
            dropped_in=dropped_in,
            aliases={"eval2000": "test"} if evaluated else {},
            lexicon=folder / "lexicon.txt",
            pronunciations=facts["lexicon"],
            normalization={"name": f"{self.name}, {self.words}", "rules": rules},
            scoring={split: folder / place for split, place in facts.get("scoring", {}).items()},
        )

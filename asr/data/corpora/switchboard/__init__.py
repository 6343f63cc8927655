"""Switchboard: telephone conversations between strangers at 8 kHz (LDC97S62, ms98 transcripts), with eval2000 as a test set."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from asr.data.corpora import Corpus, CorpusSource
from asr.data.corpora.preparing.discs import prepared_place, recorded_sources
from asr.data.corpora.preparing.folders import MadeMeanwhile, check_fractions, read_facts, with_dropped
from asr.data.corpora.switchboard.text import POLICIES
from asr.errors import UserError, nearest

# The ways to divide it into splits.
WAYS = ("conversations", "kaldi")


@dataclasses.dataclass
class SwitchboardCorpus(CorpusSource):
    """swb1: the folder with the discs of LDC97S62. transcripts: the folder with the Mississippi State transcripts.
    eval2000: the folder with LDC2002S09. references: the folder with the STM and GLM files of LDC2002T43; give both or neither.
    words: how to write a mispronounced word: as `said` ("it'n") or as `intended` ("isn't").
    split: `conversations` holds out entire conversations, by a stable hash of (seed, conversation). `kaldi` follows Kaldi's
        recipe: the first utterances by id are dev, and train has at most `most_copies` of a text. The border falls within a
        conversation, a leak that training has to allow (data.allow_leaks=true).
    dev_fraction, test_fraction, seed: of the conversations, for split=conversations.
    dev_utterances, most_copies: for split=kaldi.
    allow_missing: prepares incomplete discs and transcripts, and records what is missing. Single missing or broken recordings
        go to `Corpus.dropped` in any case.

    With eval2000, the split `test` is eval2000 (also its alias), and `eval2000_swbd` and `eval2000_callhm` are its halves. The
    conversations held out for testing are then `held_out`, so that train is the same with and without eval2000; otherwise they
    are `test`, or, for split=kaldi, the utterances after dev, as many as dev has.
    One preparation serves all words and splits, and loads without the discs.
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

        Raises UserError for a wrong setting, for discs that are missing, incomplete, damaged or another corpus's, for unusable
        lines of transcripts, and if the cache cannot be written. Finished conversions are kept.
        """
        self._check()
        sources = {"swb1": self.swb1, "transcripts": self.transcripts}
        if self.eval2000 is not None:
            sources |= {"eval2000": self.eval2000, "references": self.references}
        from asr.data.corpora.switchboard.preparation import FORMAT, prepare

        folder, is_there = prepared_place(cache, self.name, sources, FORMAT)
        if not is_there:
            places = {key: path for key, path in recorded_sources(sources).items() if path is not None}
            with contextlib.suppress(MadeMeanwhile):
                prepare(folder, places, self.allow_missing, workers)
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
                raise UserError(f"{field}={value} is not a count: give a whole number of 1 or more.")
        if (self.eval2000 is None) != (self.references is None):
            lacking = "references" if self.references is None else "eval2000"
            raise UserError(
                f"{lacking} is not given, but eval2000 (LDC2002S09, the audio) and references (LDC2002T43) belong together: "
                f"add {lacking}=FOLDER."
            )

    def _check_complete(self, folder: Path) -> None:
        allowed = read_facts(folder).get("allowed")
        if allowed:
            raise UserError(
                f"{folder} was prepared with --allow-missing and is incomplete: {allowed[0]}\nRemove that folder to "
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
        # the splits of swb1 hold usable utterances only, so dropped ones belong to none
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

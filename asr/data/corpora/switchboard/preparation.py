"""From the discs of Switchboard to a prepared folder: one FLAC file per side, cuts of its utterances, lexicon, references."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.data.corpora.preparing.folders import continued, segment_cut, write_manifests
from asr.data.corpora.preparing.recordings import Conversion, convert_sound_recordings
from asr.data.corpora.preparing.unusable import nothing_usable, unusable_audio
from asr.data.corpora.switchboard.dictionary import Dictionary
from asr.data.corpora.switchboard.discs import (
    CONVERSATIONS,
    Audio,
    check_conversations,
    find_transcripts,
    lost_conversations,
    missing_parts,
    refused_or_noted,
)
from asr.data.corpora.switchboard.eval2000 import Eval2000
from asr.data.corpora.switchboard.segments import BEYOND, Segment, overlapping, read_side, refuse, unusable
from asr.data.corpora.switchboard.text import NOISES, POLICIES, SwitchboardText
from asr.errors import UserError
from asr.text.lexicon.pronouncing import write_lexicon

if TYPE_CHECKING:
    from lhotse import MonoCut

SAMPLE_RATE = 8000  # Hz
LANGUAGE = "en-us"
# Raised whenever the same discs would be prepared differently.
FORMAT = 1
# If a larger share of the segments ends after the audio, the transcripts do not belong to it.
MOST_BEYOND = 0.01


def prepare(folder: Path, sources: Mapping[str, str], allow_missing: bool, workers: int) -> None:
    """Makes `folder` from the sources (absolute paths of swb1, transcripts and, if given, eval2000 and references).

    Everything is checked before the audio is converted. Raises UserError as SwitchboardCorpus.load does; the next run
    continues from the finished conversions.
    """
    conversations = Conversations(sources["swb1"], sources["transcripts"], allow_missing)
    evaluation = None
    if "eval2000" in sources:
        evaluation = Eval2000(sources["eval2000"], sources["references"], allow_missing)
    conversions = conversations.conversions + (evaluation.conversions if evaluation else [])
    problems = conversations.problems + (evaluation.problems if evaluation else [])
    with continued(folder, [FORMAT, sources]) as part:
        samples, broken = convert_sound_recordings(
            conversions,
            part,
            SAMPLE_RATE,
            workers,
            f"{len(conversions)} sides of conversations",
            may_be_broken=lambda _: True,
        )
        conversations.drop(broken)
        sets = {"swb1": conversations.cuts(samples)}
        dropped, left_out = list(conversations.dropped), conversations.left_out
        dropped_in = {}
        facts: dict[str, Any] = {
            "sources": sources,
            "sample_rate": SAMPLE_RATE,
            "format": FORMAT,
            "allow_missing": allow_missing,
            "allowed": problems,
            **conversations.facts,
        }
        if evaluation:
            sets["eval2000"], changed = evaluation.cuts(samples, broken, SAMPLE_RATE, LANGUAGE, left_out)
            dropped += evaluation.dropped
            dropped_in["eval2000"] = [utterance for utterance, _ in evaluation.dropped]
            facts["rules"]["references"] = changed
            facts["eval2000"] = evaluation.facts
            facts["scoring"] = evaluation.write(part)
            facts["incomplete"] += evaluation.incomplete
        texts = {text for cuts in sets.values() for cut in cuts for text in texts_of(cut)}
        words = {word for text in texts for word in text.split()}
        pronounced = conversations.dictionary.pronunciations(words, SwitchboardText("said"))
        facts["lexicon"] = write_lexicon(part, words, NOISES | pronounced) | {"dictionary": sorted(pronounced)}
        write_manifests(part, sets, sorted(dropped), facts, sorted(left_out), dropped_in)


def texts_of(cut: MonoCut) -> list[str]:
    """The intended words, and what was said if that differs."""
    return [cut.supervisions[0].text, *(cut.supervisions[0].custom or {}).values()]


class Conversations:
    """The discs and transcripts in two folders: found and checked by the constructor, then made into cuts.

    dropped: (utterance, reason) of utterances without audio; `drop` adds those whose audio is broken. left_out: (side,
    utterance or line, reason) of what is not part of the corpus; `cuts` adds to it.
    Raises UserError if something is missing or unusable; with allow_missing, only if nothing is there.
    """

    def __init__(self, swb1: str, transcripts: str, allow_missing: bool):
        self.audio = Audio(swb1)
        paths, dictionary = find_transcripts(transcripts)
        # why all this would be refused without allow_missing
        self.problems: list[str] = []
        self.missing = missing_parts(self.audio.paths, paths)
        with refused_or_noted(allow_missing, self.problems):
            check_conversations(self.audio, paths)
        self.folder = transcripts
        lost = set(lost_conversations(self.audio, paths))
        self.missing = [(side, reason) for side, reason in self.missing if side[:-2] not in lost]
        sides = sorted(paths.keys() - {side for side, _ in self.missing})
        self.segments: dict[str, list[Segment]] = {}
        wrong: list[tuple[str, str]] = []
        for side in sides:
            self.segments[side], of_side = read_side(paths[side], side)
            wrong += of_side
        with refused_or_noted(allow_missing, self.problems):
            refuse(wrong)
        if not any(self.segments.values()):
            raise UserError(
                f"No transcript in transcripts={transcripts} belongs to a conversation in swb1={swb1}: give matching folders."
            )
        self.left_out = self.missing + wrong
        self.dropped: list[tuple[str, str]] = []
        for side in sorted(side for side in self.segments if side[:-2] in lost):
            self._drop(side, unusable_audio(None, "", f"{side[:-2]}.sph is not there"))
        self.dictionary = Dictionary.read(dictionary) if dictionary else Dictionary()
        self.texts = {policy: SwitchboardText(policy, self.dictionary.spells) for policy in POLICIES}
        self.counts: collections.Counter[str] = collections.Counter()

    @property
    def conversions(self) -> list[Conversion]:
        """Every side, each a file of its own: audio/sw02001-A.flac, from the first channel."""
        return [
            Conversion(self.audio.paths[side[:-2]], "AB".index(side[-1]), f"audio/{side}.flac")
            for side in self.segments
        ]

    def drop(self, broken: dict[str, str]) -> None:
        """Drops the sides whose files, as in `conversions`, could not be made. broken: the reasons by file."""
        for side in [side for side in self.segments if f"audio/{side}.flac" in broken]:
            path = self.audio.paths[side[:-2]]
            self._drop(side, unusable_audio(path, str(path), broken[f"audio/{side}.flac"]))

    def _drop(self, side: str, reason: str) -> None:
        """Drops all utterances of a side: its segments with words."""
        words = SwitchboardText("said")  # a separate one: these texts are not used, so its rules must not be counted
        spoken = [segment.utterance for segment in self.segments.pop(side) if words(segment.transcript)]
        self.dropped += [(utterance, reason) for utterance in dict.fromkeys(spoken)]

    def cuts(self, samples: dict[str, int]) -> list[MonoCut]:
        """The cut of every utterance, sorted by id. samples: of each file of `conversions`.

        Raises UserError if so many segments end after their audio that the transcripts must belong to other audio.
        """
        cuts = []
        for side, segments in self.segments.items():
            for segment in segments:
                cut = self._cut(segment, samples[f"audio/{side}.flac"])
                if cut is not None:
                    cuts.append(cut)
        beyond = self.counts[BEYOND]
        if beyond > MOST_BEYOND * (len(cuts) + beyond):
            first = next(name for name, reason in self.left_out if reason.startswith(BEYOND))
            raise UserError(
                f"{beyond} of {len(cuts) + beyond} utterances end after their audio ends, such as {first}: the transcripts in "
                f"{self.folder} do not belong to the audio in {self.audio.folder}. Give matching folders."
            )
        if not cuts and self.dropped:
            raise UserError(nothing_usable(f"The transcripts in {self.folder} name", self.dropped))
        if not cuts:
            raise UserError(f"The transcripts in {self.folder} hold no words: copy them again.")
        return sorted(cuts, key=lambda cut: cut.id)

    def _cut(self, segment: Segment, total: int) -> MonoCut | None:
        """The cut of a segment of a recording of `total` samples; None if it is left out.

        Its text is the intended words; what was said is kept beside it if it differs.
        """
        self.counts["segments"] += 1
        said, intended = (self.texts[policy](segment.transcript) for policy in POLICIES)
        if segment.transcript and not said:
            self.counts["silence"] += 1
            return None
        problem = unusable(segment, total / SAMPLE_RATE) if said else "no words in its line"
        if problem:
            self.counts[problem] += 1
            self.left_out.append((segment.utterance, f"{problem}: {segment.place}" if problem == BEYOND else problem))
            return None
        first, last = round(segment.start * SAMPLE_RATE), round(segment.end * SAMPLE_RATE)
        self.counts["utterances"] += 1
        self.counts["words"] += len(intended.split())
        self.counts["cut at the end of the audio"] += last > total
        last = min(last, total)
        cut = segment_cut(
            segment.utterance,
            f"audio/{segment.side}.flac",
            total,
            SAMPLE_RATE,
            first / SAMPLE_RATE,
            (last - first) / SAMPLE_RATE,
            intended,
            segment.side,
            LANGUAGE,
        )
        if said != intended:
            cut.supervisions[0].custom = {"said": said}
        return cut

    @property
    def incomplete(self) -> list[str]:
        """A sentence if fewer or more conversations than published have speech and transcripts of both sides."""
        whole = {side[:-2] for side in self.segments if side.endswith("A")} & {
            side[:-2] for side in self.segments if side.endswith("B")
        }
        if len(whole) in CONVERSATIONS:
            return []
        return [f"Switchboard: {len(whole):,} of {' or '.join(f'{count:,}' for count in CONVERSATIONS)} conversations"]

    @property
    def facts(self) -> dict[str, Any]:
        """For corpus.json: counts, what is missing, and the number of tokens that each rule changed."""
        return {
            "counts": {
                "conversations": len({side[:-2] for side in self.segments}),
                "sides": len(self.segments),
                **self.counts,
            },
            "missing": self.missing,
            "incomplete": self.incomplete,
            "overlapping": [place for segments in self.segments.values() for place in overlapping(segments)],
            "rules": {policy: dict(text.changed) for policy, text in self.texts.items()},
            "dictionary_entries": len(self.dictionary.entries),
        }

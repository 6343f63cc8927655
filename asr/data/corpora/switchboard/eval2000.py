"""The Hub5 2000 evaluation (eval2000): the audio of LDC2002S09, scored with the STM and GLM files of LDC2002T43.

It has 40 telephone conversations, 20 of CallHome (en_4156.sph) and 20 of Switchboard (sw_4390.sph): 8 kHz, one channel per side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.data.corpora.preparing.folders import segment_cut
from asr.data.corpora.preparing.recordings import Conversion
from asr.data.corpora.preparing.unusable import nothing_usable, unusable_audio
from asr.data.corpora.switchboard.discs import add_once, files_below, looks_like, refused_or_noted
from asr.data.corpora.switchboard.eval2000_references import ReferenceText, copy_references, count_words
from asr.errors import UserError
from asr.scoring.nist.stm import Segment, read_stm

if TYPE_CHECKING:
    from lhotse import MonoCut

CONVERSATIONS = 40
# sclite's counts: scored segments, and their words after the GLM's rules (Kaldi's egs/swbd/s5c/RESULTS).
COUNTS = {
    "eval2000": {"segments": 4459, "words": 42989},
    "eval2000_swbd": {"segments": 1831, "words": 21395},
    "eval2000_callhm": {"segments": 2628, "words": 21594},
}
STM_NAME = re.compile(r"hub5e_?00.*\.stm", re.IGNORECASE)
GLM_NAME = re.compile(r"en20000405_hub5\.glm", re.IGNORECASE)
_AUDIO = re.compile(r"((?:en|sw)_\d{4})\.sph", re.IGNORECASE)


def find_eval2000(folder: str | Path) -> dict[str, Path]:
    """The SPHERE files of the evaluation below `folder`, by conversation ("en_4156"). Raises UserError if there are none."""
    folder = Path(folder).expanduser()
    files = list(files_below(folder))
    paths: dict[str, Path] = {}
    for file in files:
        if found := _AUDIO.fullmatch(file.name):
            add_once(paths, found[1].lower(), file)
    if not paths:
        raise UserError(
            f"eval2000={folder} holds no conversations of the Hub5 2000 evaluation (files like english/en_4156.sph): "
            f"{looks_like(files)}. Give the folder of LDC2002S09."
        )
    return paths


def find_references(folder: str | Path) -> tuple[Path, Path]:
    """(the STM file, the GLM file) below `folder`. Raises UserError if one is missing, or if there are several."""
    folder = Path(folder).expanduser()
    files = list(files_below(folder))
    found = []
    for pattern, name in ((STM_NAME, "hub5e00.english.000405.stm"), (GLM_NAME, "en20000405_hub5.glm")):
        matching = [file for file in files if pattern.fullmatch(file.name)]
        exact = [file for file in matching if file.name.lower() == name]
        matching = exact or matching
        if not matching:
            raise UserError(f"references={folder} holds no {name}: {looks_like(files)}. Give the folder of LDC2002T43.")
        if len({file.read_bytes() for file in matching}) > 1:
            raise UserError(f"references={folder} holds several: {', '.join(map(str, matching))}. Keep one of them.")
        found.append(matching[0])
    return found[0], found[1]


def part_of(conversation: str) -> str:
    """The half of the evaluation that a conversation belongs to, as the name of a split."""
    return "eval2000_swbd" if conversation.startswith("sw") else "eval2000_callhm"


class Eval2000:
    """The evaluation in two folders: found and checked by the constructor, then made into cuts.

    Raises UserError unless it is complete; with allow_missing, only if nothing is there.
    """

    def __init__(self, audio: str | Path, references: str | Path, allow_missing: bool):
        self.audio = find_eval2000(audio)
        self.stm, self.glm = find_references(references)
        scored = read_stm(self.stm).scored
        told = {conversation_of(segment) for segment in scored}
        heard = told & self.audio.keys()
        if not heard:
            raise UserError(f"None of the conversations in eval2000={audio} is in {self.stm}: give matching folders.")
        # conversations that count as single missing files; if all of a half is missing, the half is
        halves = {part_of(conversation) for conversation in heard}
        lost = {conversation for conversation in told - heard if part_of(conversation) in halves}
        self.missing = missing_conversations(self.audio, told - lost)
        self.dropped: list[tuple[str, str]] = []
        used = sorted(heard | lost)
        # by split: all of it, and the existing halves
        self.used = {"eval2000": used}
        for conversation in used:
            self.used.setdefault(part_of(conversation), []).append(conversation)
        self.segments = [segment for segment in scored if conversation_of(segment) in set(used)]
        self.counts = {split: self._count(conversations) for split, conversations in self.used.items()}
        self.problems: list[str] = []
        with refused_or_noted(allow_missing, self.problems):
            self._check()

    def _count(self, conversations: list[str]) -> dict[str, int]:
        """Segments and words as sclite counts them."""
        segments = sum(conversation_of(segment) in conversations for segment in self.segments)
        return {"segments": segments, "words": count_words(self.stm, self.glm, conversations)}

    def _check(self) -> None:
        problems = [f"{conversation}: {reason}" for conversation, reason in self.missing]
        if len(self.used["eval2000"]) != CONVERSATIONS:
            names = ", ".join(self.used["eval2000"])
            problems.append(f"there are {len(self.used['eval2000'])} conversations, not {CONVERSATIONS}: {names}")
        for split, expected in COUNTS.items():
            counts = self.counts.get(split, dict.fromkeys(expected, 0))
            for what, count in expected.items():
                if counts[what] != count:
                    problems.append(f"{self.stm} has {counts[what]} {what} of {split} to score, not {count}")
        if problems:
            raise UserError(
                "\n  ".join(["The Hub5 2000 evaluation is not complete:", *problems])
                + "\nCopy what is missing; --allow-missing continues without it and records it."
            )

    @property
    def conversions(self) -> list[Conversion]:
        """Every side that has references, each a file of its own: audio/en_4156-A.flac."""
        return [
            Conversion(self.audio[side[:-2]], "AB".index(side[-1]), f"audio/{side}.flac")
            for side in sorted({side_of(segment) for segment in self.segments})
            if side[:-2] in self.audio
        ]

    def cuts(
        self,
        samples: dict[str, int],
        broken: dict[str, str],
        sample_rate: int,
        language: str,
        left_out: list[tuple[str, str]],
    ) -> tuple[list[MonoCut], dict[str, int]]:
        """(a cut of every segment, named as in asr.scoring.nist.stm and sorted; how often each rule changed the words).

        samples, broken: for each file of `conversions`, its length, or why it could not be made. Segments without audio go to
        `dropped` and are scored as silence; one that begins after its audio goes to `left_out`. Raises UserError if no
        segment has audio.
        """
        words, cuts = ReferenceText(), []
        for segment in self.segments:
            audio = f"audio/{side_of(segment)}.flac"
            if audio not in samples:
                path = self.audio.get(conversation_of(segment))
                detail = broken.get(audio, f"{conversation_of(segment)}.sph is not there")
                self.dropped.append((segment.identity, unusable_audio(path, str(path), detail)))
                continue
            total = samples[audio]
            first = round(segment.start * sample_rate)
            last = min(round(segment.end * sample_rate), total)
            if first >= last:
                left_out.append((segment.identity, f"begins after its audio: {self.stm}:{segment.line}"))
                continue
            cuts.append(
                segment_cut(
                    segment.identity,
                    audio,
                    total,
                    sample_rate,
                    first / sample_rate,
                    (last - first) / sample_rate,
                    words(segment.text),
                    side_of(segment),
                    language,
                )
            )
        if not cuts and self.dropped:
            raise UserError(nothing_usable(f"{self.stm} names", self.dropped))
        return sorted(cuts, key=lambda cut: cut.id), dict(words.changed)

    def write(self, folder: Path) -> dict[str, str]:
        """Writes the references and rules of each split below `folder`; returns the folders by split, for Corpus.scoring."""
        places = {}
        for split, conversations in self.used.items():
            places["test" if split == "eval2000" else split] = f"scoring/{split}"
            copy_references(self.stm, self.glm, folder / "scoring" / split, set(conversations))
        return places

    @property
    def incomplete(self) -> list[str]:
        """A sentence about each part with fewer or more segments or words than the evaluation."""
        return [
            f"{split}: {there[what]:,} of {count:,} {what}"
            for split, expected in COUNTS.items()
            for there in [self.counts.get(split, dict.fromkeys(expected, 0))]
            for what, count in expected.items()
            if there[what] != count
        ]

    @property
    def facts(self) -> dict[str, Any]:
        """For corpus.json: what there is, and what was expected."""
        return {
            "counts": self.counts,
            "expected": COUNTS,
            "missing": self.missing,
            "stm": str(self.stm),
            "glm": str(self.glm),
        }


def conversation_of(segment: Segment) -> str:
    """ "en_4156", whatever its case in the STM file."""
    return segment.file.lower()


def side_of(segment: Segment) -> str:
    """ "en_4156-A": the speaker. Raises UserError for a channel that is neither A nor B (or 1 nor 2)."""
    channel = {"a": "A", "b": "B", "1": "A", "2": "B"}.get(segment.channel.lower())
    if channel is None:
        raise UserError(
            f"Line {segment.line} of the references has the channel {segment.channel!r}, which is neither A nor B: correct it."
        )
    return f"{conversation_of(segment)}-{channel}"


def missing_conversations(audio: Iterable[str], told: Iterable[str]) -> list[tuple[str, str]]:
    """Conversations with audio but no references, or the other way round, as (conversation, reason)."""
    heard, told = set(audio), set(told)
    missing = [(name, "transcript without audio") for name in told - heard]
    return sorted(missing + [(name, "audio without transcript") for name in heard - told])


def parts(cuts: list[MonoCut]) -> dict[str, list[MonoCut]]:
    """The splits of the evaluation: `test`, which is all of it, and the existing halves."""
    splits: dict[str, list[MonoCut]] = {"test": cuts}
    for cut in cuts:
        splits.setdefault(part_of(cut.supervisions[0].speaker), []).append(cut)
    return splits

"""Finds leaks between splits from the manifests alone: held-out speech that training hears.

Some leaks stop training, because no corpus has them on purpose: the same utterance in two splits (by id, by stretch of a
recording, or as a copied file), and a few familiar speakers in a held-out split of otherwise new ones. What a corpus may
well have on purpose is only reported: all speakers in all splits (one voice, or utterances held out instead of speakers),
prompts that many people read, one long recording divided among the splits.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations

from asr.data.corpora import Corpus
from asr.errors import UserError
from asr.text.normalization import normalize, with_language

# two utterances of this many words or more hardly have the same text by chance
LONG_TEXT = 8
# with this share of long texts that were trained on, the scores of a held-out split are not to be trusted
MANY_LONG_TEXTS = 0.01
# with this share of texts of any length that were trained on, a reader should know
MANY_TEXTS = 0.5
# with fewer speakers in a held-out split, nobody can tell how it was chosen
SPEAKERS_TO_JUDGE_BY = 5
# two cuts of one recording are the same utterance if they share this much of the shorter one
SAME_STRETCH = 0.5
# at most this many files of equal size, length and text are compared byte by byte; the full check compares all samples
COMPARED_FILES = 2000
NO_SPEAKER = {"", "unknown", "none"}


@dataclasses.dataclass(frozen=True)
class Leak:
    """What two splits have in common.

    kind: "utterance ids", "recordings", "copied files", "audio", "speakers", "texts" or "parts of recordings".
    splits: the two. count: utterances (for speakers: speakers) of the second that are in the first too, out of `of`.
    stops: whether it stops training. refused: whether it makes the corpus "not good".
    examples: all of them, one line each.
    """

    kind: str
    splits: tuple[str, str]
    count: int
    of: int
    stops: bool
    refused: bool
    sentence: str
    examples: list[str]


@dataclasses.dataclass
class QuickFindings:
    """What the manifests show.

    utterances, seconds, speakers (known ones): by split. common: by pair of splits, what they share: "texts",
    "long_texts" (utterances of the second split) and "speakers". pairs: utterances that are the same, as (id, id).
    not_compared: possible copies that were not compared, because there are too many.
    """

    corpus: str
    utterances: dict[str, int]
    seconds: dict[str, float]
    speakers: dict[str, int]
    common: dict[tuple[str, str], dict[str, int]]
    leaks: list[Leak]
    pairs: set[tuple[str, str]]
    not_compared: int = 0

    @property
    def stopping(self) -> list[Leak]:
        """The leaks that stop training."""
        return [leak for leak in self.leaks if leak.stops]


@dataclasses.dataclass(frozen=True, slots=True)
class Utterance:
    """A cut as this check sees it. file: the identity of its recording. path: the name of it that messages show.

    start, duration: in the file, in seconds. heard: seconds of the cut itself, which may run at another speed.
    """

    split: str
    id: str
    text: str
    speaker: str
    file: tuple
    path: str
    size: int
    channel: int
    start: float
    duration: float
    heard: float
    whole: bool


def quick_check(corpus: Corpus) -> QuickFindings:
    """Compares the splits by their manifests, without decoding audio. Takes about 0.1 ms per utterance.

    Files are identified by device and inode, so a link counts as its target. Where text, length and size agree, files are
    compared byte by byte; copies in another format, or with other silence around, need the full check.
    """
    utterances = list(read_utterances(corpus))
    of = Counter(utterance.split for utterance in utterances)
    seconds: dict[str, float] = defaultdict(float)
    voices: dict[str, Counter] = defaultdict(Counter)
    for utterance in utterances:
        seconds[utterance.split] += utterance.heard
        if utterance.speaker:
            voices[utterance.split][utterance.speaker] += 1
    findings = QuickFindings(
        corpus.name,
        {split: of[split] for split in corpus.splits},
        {split: seconds[split] for split in corpus.splits},
        {split: len(voices[split]) for split in corpus.splits},
        {},
        [],
        set(),
    )
    same_ids = list(ids_in_two_splits(utterances))
    stretches = list(same_stretches(utterances))
    copies, findings.not_compared = copied_files(utterances)
    shared_files = recordings_in_two_splits(utterances)
    for pair in compared(corpus.splits):
        first, second = pair
        for kind, matches, (one, several, what) in (
            ("utterance ids", same_ids, ("has", "have", "the id of one of")),
            ("recordings", stretches, ("is", "are", "the same stretch of the same recording as one of")),
            ("copied files", copies, ("has", "have", "the text and, byte for byte, the file of one of")),
        ):
            found = [(a, b) for a, b in matches if (a.split, b.split) == pair]
            if found:
                count = len({held_out.id for _, held_out in found})
                verb = agree(count, one, several)
                sentence = f"{count} of the {of[second]} utterances of {second} {verb} {what} {first}."
                examples = [f"{a.id} in {first} = {b.id} in {second} ({b.path})" for a, b in found]
                findings.leaks.append(Leak(kind, pair, count, of[second], True, True, sentence, examples))
                findings.pairs.update((a.id, b.id) for a, b in found)
        findings.leaks += compare_recordings(pair, shared_files, of[second], findings.pairs)
        findings.leaks += compare_speakers(pair, voices[first], voices[second])
        texts, common = compare_texts(pair, utterances)
        findings.leaks += texts
        findings.common[pair] = {**common, "speakers": len(voices[first].keys() & voices[second].keys())}
    return findings


def compared(splits: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The pairs of splits that must have nothing in common: train with every other one, and dev with test.

    Further test sets may well share speakers, or be parts of each other.
    """
    return (pair for pair in combinations(splits, 2) if "train" in pair or set(pair) <= {"train", "dev", "test"})


def refuse_leaks(findings: QuickFindings, setting: str = "data.allow_leaks") -> None:
    """Raises UserError if the splits leak into each other. setting: the key that makes training continue anyway."""
    if findings.stopping:
        said = " ".join(f"{leak.sentence} (such as {leak.examples[0]})" for leak in findings.stopping)
        raise UserError(
            f"The splits of the corpus {findings.corpus} leak into each other, so its scores would flatter. {said} "
            "Remove them from one split (python scripts/check_data.py with the same corpus=… lists all of them), or set "
            f"{setting}=true to train anyway."
        )


def read_utterances(corpus: Corpus) -> Iterator[Utterance]:
    from asr.audio.cuts import stored_stretch

    known: dict[str, tuple[tuple, int]] = {}
    for split, cuts in corpus.splits.items():
        for cut in cuts:
            supervision = cut.supervisions[0]
            speaker = (supervision.speaker or "").strip()
            file, path, size, whole = ("none", cut.id), "no recording", 0, False
            start, duration = cut.start, cut.duration
            if cut.has_recording and cut.recording.sources:
                source = cut.recording.sources[0]
                path = source.source if isinstance(source.source, str) else f"{cut.recording.id}, in memory"
                key = path if isinstance(source.source, str) else f"{cut.recording.id} {id(source)}"
                if key not in known:
                    known[key] = identify(source)
                file, size = known[key]
                whole = cut.start == 0 and abs(cut.recording.duration - cut.duration) < 1e-3
                start, duration = stored_stretch(cut.recording, start, duration)
            yield Utterance(
                split,
                cut.id,
                normalize(supervision.text or "", with_language("words", supervision.language))[0],
                "" if speaker.casefold() in NO_SPEAKER else speaker,
                file,
                path,
                size,
                cut.channel if isinstance(cut.channel, int) else -1,
                start,
                duration,
                cut.duration,
                whole,
            )


def identify(source) -> tuple[tuple, int]:
    """(identity of a source of audio, its size in bytes)."""
    if source.type == "memory":
        return ("memory", hashlib.blake2b(source.source, digest_size=16).digest()), len(source.source)
    try:
        status = os.stat(source.source)
    except (OSError, TypeError, ValueError):
        return (source.type, source.source), 0
    return (status.st_dev, status.st_ino), status.st_size


def ids_in_two_splits(utterances: list[Utterance]) -> Iterator[tuple[Utterance, Utterance]]:
    first: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        for other in first[utterance.id]:
            if other.split != utterance.split:
                yield other, utterance
        if all(other.split != utterance.split for other in first[utterance.id]):
            first[utterance.id].append(utterance)


def recordings_in_two_splits(utterances: list[Utterance]) -> list[list[Utterance]]:
    """The utterances of every recording that more than one split uses, by channel."""
    groups: dict[tuple, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        groups[utterance.file, utterance.channel].append(utterance)
    return [group for group in groups.values() if len({utterance.split for utterance in group}) > 1]


def same_stretches(utterances: list[Utterance]) -> Iterator[tuple[Utterance, Utterance]]:
    """Utterances of two splits that share most of the shorter one's time in a recording, in the order of the splits."""
    order = {split: index for index, split in enumerate(dict.fromkeys(utterance.split for utterance in utterances))}
    for group in recordings_in_two_splits(utterances):
        active: list[Utterance] = []
        for utterance in sorted(group, key=lambda utterance: utterance.start):
            active = [other for other in active if other.start + other.duration > utterance.start]
            for other in active:
                common = min(other.start + other.duration, utterance.start + utterance.duration) - utterance.start
                if other.split != utterance.split and common >= SAME_STRETCH * min(other.duration, utterance.duration):
                    first, second = sorted((other, utterance), key=lambda each: order[each.split])
                    yield first, second
            active.append(utterance)


def copied_files(utterances: list[Utterance]) -> tuple[list[tuple[Utterance, Utterance]], int]:
    """Pairs of files in two splits with the same text and the same bytes, and the number of candidates left unread."""
    groups: dict[tuple, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        if utterance.whole and utterance.size and utterance.file[0] != "memory":
            groups[utterance.text, utterance.size, round(utterance.duration, 3)].append(utterance)
    candidates = [
        utterance
        for group in groups.values()
        if len({utterance.split for utterance in group}) > 1 and len({utterance.file for utterance in group}) > 1
        for utterance in group
    ]
    same: dict[tuple, list[Utterance]] = defaultdict(list)
    pairs = []
    for utterance in candidates[:COMPARED_FILES]:
        try:
            with open(utterance.path, "rb") as file:
                key = utterance.text, hashlib.file_digest(file, "sha256").digest()
        except OSError:
            continue
        for other in same[key]:
            if other.split != utterance.split and other.file != utterance.file:
                pairs.append((other, utterance))
        same[key].append(utterance)
    return pairs, max(0, len(candidates) - COMPARED_FILES)


def compare_recordings(
    pair: tuple[str, str], groups: list[list[Utterance]], of: int, known: set[tuple[str, str]]
) -> list[Leak]:
    """Recordings divided between two splits: one session, hence one speaker, one room, one subject."""
    first, second = pair
    same = {held_out for _, held_out in known}
    members = [
        utterance
        for group in groups
        if any(other.split == first for other in group)
        for utterance in group
        if utterance.split == second and utterance.id not in same
    ]
    if not members:
        return []
    verb = agree(len(members), "is another part", "are other parts")
    sentence = f"{len(members)} of the {of} utterances of {second} {verb} of recordings that {first} has too."
    examples = [f"{member.id} at {member.start:.2f} s of {member.path}" for member in members]
    return [Leak("parts of recordings", pair, len(members), of, False, False, sentence, examples)]


def compare_speakers(pair: tuple[str, str], first: Counter, second: Counter) -> list[Leak]:
    """first, second: utterances by speaker, known speakers only.

    A split of mostly new speakers was meant to have new ones only: the others slipped in, and training stops. If most or
    all are shared, or there are too few to tell, utterances were held out rather than speakers, and nothing stops.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared or len(first.keys() | second.keys()) < 2:
        return []
    judged = len(second) >= SPEAKERS_TO_JUDGE_BY and len(shared) < len(second) / 2
    slipped = judged and pair[0] == "train"
    verb = agree(len(shared), "speaks", "speak")
    sentence = f"{len(shared)} of the {len(second)} speakers of {pair[1]} {verb} in {pair[0]} too" + (
        ", while the others are new to it." if judged else "."
    )
    examples = [
        f"{name}: {first[name]} utterances in {pair[0]}, {second[name]} in {pair[1]}"
        for name in sorted(shared, key=lambda name: -second[name])
    ]
    return [Leak("speakers", pair, len(shared), len(second), slipped, slipped, sentence, examples)]


def compare_texts(pair: tuple[str, str], utterances: list[Utterance]) -> tuple[list[Leak], dict[str, int]]:
    """Texts of the second split that are in the first too, after normalization; short ones repeat in any language."""
    known: dict[str, str] = {}
    for utterance in utterances:
        if utterance.split == pair[0] and utterance.text:
            known.setdefault(utterance.text, utterance.id)
    of = [utterance for utterance in utterances if utterance.split == pair[1]]
    shared = [utterance for utterance in of if utterance.text in known]
    long = [utterance for utterance in shared if utterance.text.count(" ") >= LONG_TEXT - 1]
    common = {"texts": len(shared), "long_texts": len(long)}
    many = len(shared) >= MANY_TEXTS * max(1, len(of))
    if not long and not many:
        return [], common
    refused = pair[0] == "train" and len(long) >= max(1, MANY_LONG_TEXTS * len(of))
    verb = agree(len(shared), "has", "have")
    sentence = f"{len(shared)} of the {len(of)} utterances of {pair[1]} {verb} a text that {pair[0]} has too" + (
        f", {len(long)} of them of {LONG_TEXT} words or more." if long else ", all of them short."
    )
    named = sorted(shared, key=lambda utterance: -len(utterance.text))
    examples = [f"{known[each.text]} in {pair[0]}, {each.id} in {pair[1]}: {each.text}" for each in named]
    return [Leak("texts", pair, len(shared), len(of), False, refused, sentence, examples)], common


def agree(count: int, one: str, several: str) -> str:
    """The verb that goes with a count."""
    return one if count == 1 else several

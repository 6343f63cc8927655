"""All checks of a corpus put together: the facts of every split, what was found, and whether the corpus is good."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from asr.data.corpora import Corpus
from asr.data.corpora.preparing.unusable import kind_of, kinds_of, reasons_of
from asr.data.health.audio import Measured, measure, recordings_of
from asr.data.health.leaks import QuickFindings, agree, compared, quick_check
from asr.data.health.text import (
    Lengths,
    SplitText,
    histogram,
    outliers,
    quantiles,
    read_split,
    shared_edges,
    units_of,
)
from asr.errors import listed
from asr.text.units import Units
from asr.training.run_folder import fingerprint

PROBLEM, REMARK = "problem", "remark"
# share of an utterance's samples at full scale from which on it is named
CLIPPED = 0.001
# dB relative to full scale below which an utterance is hardly there
QUIET = -60.0
# a mean this far from zero, of -1 to 1
OFFSET = 0.02
# dB of the energy in the upper half of the band, below which nothing was recorded there
EMPTY_BAND = -65.0
# Hz: below this rate there is no upper half worth having
WIDE_BAND = 16000


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was found. severity: "problem" (the corpus is not good) or "remark".

    splits: where; count: how many of `of` utterances (or what the sentence names); examples: one line each, all of them.
    """

    kind: str
    severity: str
    splits: tuple[str, ...]
    count: int
    of: int
    sentence: str
    examples: list[str]


@dataclasses.dataclass
class Health:
    """What `check_corpus` found.

    splits: facts by split (plain data; counts, seconds, rates a second, dB). histograms: quantity → {"edges": [...],
    split: counts}. common: what two splits share, by "train and test". fingerprints: "manifests" and, after a full check,
    "audio". units: what they are called and how many, or why there are none.
    """

    corpus: str
    sample_rate: int
    quick: bool
    units: dict[str, Any]
    splits: dict[str, dict[str, Any]]
    common: dict[str, dict[str, int]]
    histograms: dict[str, dict[str, list]]
    findings: list[Finding]
    fingerprints: dict[str, str]

    @property
    def problems(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == PROBLEM]

    @property
    def verdict(self) -> str:
        """ "good" or "not good"."""
        return "not good" if self.problems else "good"

    def sentence(self) -> str:
        """The verdict in a sentence."""
        remarks = len(self.findings) - len(self.problems)
        noted = f" {remarks} remark{'s' * (remarks > 1)} below." if remarks else ""
        if not self.problems:
            left = " Its audio was not decoded (quick=true)." if self.quick else ""
            return f"The corpus {self.corpus} is good.{left}{noted}"
        leaking = [finding for finding in self.problems if finding.kind.startswith("leak")]
        why = "its splits leak into each other" if leaking else "it has faults that training would meet"
        if leaking and len(leaking) < len(self.problems):
            why += ", and it has other faults"
        return f"The corpus {self.corpus} is not good: {why}. {self.problems[0].sentence}{noted}"

    def plain(self) -> dict[str, Any]:
        """Everything as plain data, for JSON."""
        return {"verdict": self.verdict, "sentence": self.sentence(), **dataclasses.asdict(self)}


def check_corpus(
    corpus: Corpus, units: dict[str, Any], lengths: Lengths, max_dropped: float, quick: bool = False, workers: int = 2
) -> Health:
    """Checks a corpus, in the order of its splits.

    units: settings as in `conf/units`; lengths: what features, encoder and loss make of an utterance; max_dropped: share of
    a split that may be unusable, above which training refuses. quick: leave the audio undecoded; else `workers` processes
    decode it. Raises UserError where one of these is wrong.
    """
    leaks = quick_check(corpus)
    built, why_not = units_of(units, corpus)
    splits = [read_split(name, cuts, built, lengths, corpus.dropped_of(name)) for name, cuts in corpus.splits.items()]
    health = Health(
        corpus.name,
        corpus.sample_rate,
        quick,
        {"name": units["name"], "symbols": len(built.symbols) - 1 if built else 0},
        {split.name: facts_of(split, leaks) for split in splits},
        {f"{first} and {second}": shared for (first, second), shared in leaks.common.items()},
        {},
        [],
        {"manifests": fingerprint(corpus.splits)},
    )
    add_leaks(health, leaks)
    if why_not:
        health.findings.append(Finding("units", PROBLEM, ("train",), 1, 1, f"The units cannot be built: {why_not}", []))
    for split in splits:
        health.findings += text_findings(split, splits[0], max_dropped)
    health.findings += vocabulary_findings(splits, built, corpus)
    add_histogram(health, "seconds", {split.name: split.durations for split in splits})
    add_histogram(health, "words a second", {split.name: split.rates("words").values() for split in splits})
    add_histogram(health, "units a second", {split.name: split.rates("labels").values() for split in splits})
    if corpus.incomplete:
        sentence = f"The corpus is not complete: {'; '.join(corpus.incomplete)}."
        found = Finding(
            "incomplete", REMARK, (), len(corpus.incomplete), len(corpus.incomplete), sentence, corpus.incomplete
        )
        health.findings.append(found)
    if unplaced := corpus.dropped_of(None):
        of = len({each for split in splits for each in split.ids}) + len(unplaced)
        health.findings += unusable_findings(unplaced, of, "the corpus", (), max_dropped)
    if corpus.left_out:
        sentence = (
            f"{len(corpus.left_out)} left out on purpose when the corpus was prepared: {reasons_of(corpus.left_out)}."
        )
        examples = [f"{name}: {reason}" for name, reason in corpus.left_out]
        health.findings.append(Finding("left out", REMARK, (), len(examples), len(examples), sentence, examples))
    if not quick:
        add_audio(health, measure(recordings_of(corpus), workers), leaks, splits, max_dropped)
    health.findings.sort(key=lambda finding: finding.severity != PROBLEM)
    return health


def facts_of(split: SplitText, leaks: QuickFindings) -> dict[str, Any]:
    return {
        "utterances": len(split.ids),
        "hours": sum(split.durations) / 3600,
        "speakers": leaks.speakers[split.name],
        "words": sum(split.words),
        "units": sum(labels or 0 for labels in split.labels),
        "distinct texts": len(set(split.texts)),
        "unusable": dict(kinds_of(split.dropped)),
        "seconds": quantiles(split.durations),
        "words a second": quantiles(split.rates("words").values()),
        "units a second": quantiles(split.rates("labels").values()),
    }


def add_histogram(health: Health, quantity: str, values: dict[str, Iterable[float]]) -> None:
    values = {split: list(group) for split, group in values.items()}
    edges = shared_edges(values.values())
    if edges:
        health.histograms[quantity] = {
            "edges": edges,
            **{split: histogram(group, edges) for split, group in values.items()},
        }


def add_leaks(health: Health, leaks: QuickFindings) -> None:
    for leak in leaks.leaks:
        kind = f"leak of {leak.kind}" if leak.refused else f"shared {leak.kind}"
        severity = PROBLEM if leak.refused else REMARK
        health.findings.append(Finding(kind, severity, leak.splits, leak.count, leak.of, leak.sentence, leak.examples))
    if leaks.not_compared and health.quick:
        sentence = (
            f"{leaks.not_compared} files that may be copies of each other were too many to compare: quick=false does."
        )
        health.findings.append(
            Finding("copies not looked for", REMARK, (), leaks.not_compared, leaks.not_compared, sentence, [])
        )


def text_findings(split: SplitText, train: SplitText, max_dropped: float) -> list[Finding]:
    """What is odd about a split's texts and durations. train: what is usual."""
    name, of = split.name, len(split.ids)
    found = unusable_findings(split.dropped, split.size, name, (name,), max_dropped)
    if split.size == 0:
        return [Finding("empty split", PROBLEM, (name,), 0, 0, f"The split {name} has no utterances.", [])]
    if split.twice:
        verb = agree(len(split.twice), "id stands", "ids stand")
        sentence = f"{len(split.twice)} utterance {verb} more than once in {name}."
        found.append(Finding("repeated ids", PROBLEM, (name,), len(split.twice), of, sentence, split.twice))
    if split.unknown:
        holders = sorted({each for utterances in split.unknown.values() for each in utterances})
        most = sorted(split.unknown, key=lambda unit: (-len(split.unknown[unit]), unit))
        verb = agree(len(holders), "holds", "hold")
        sentence = f"{len(holders)} of the {of} utterances of {name} {verb} what the units cannot write: " + listed(
            [repr(unit) for unit in most]
        )
        examples = [f"{unit!r} in {len(split.unknown[unit])}: {listed(split.unknown[unit])}" for unit in most]
        found.append(Finding("unknown units", REMARK, (name,), len(holders), of, f"{sentence}.", examples))
    texts = dict(zip(split.ids, split.texts))
    per = "labels" if any(split.labels) else "words"
    far = outliers(split.rates(per), train.rates(per).values())
    if far:
        noun = "units" if per == "labels" else "words"
        verb = agree(len(far), "is", "are")
        sentence = f"{len(far)} of the {of} utterances of {name} {verb} spoken far faster or slower than most."
        examples = [f"{each}: {rate:.1f} {noun} a second: {texts[each]}" for each, rate in far.items()]
        found.append(Finding("odd speech rate", REMARK, (name,), len(far), of, sentence, examples))
    return found


def unusable_findings(
    dropped: list[tuple[str, str]], of: int, where: str, splits: tuple[str, ...], max_dropped: float
) -> list[Finding]:
    """What cannot be used: a remark for each reason, or one problem where it is so much that training refuses."""
    reasons = kinds_of(dropped)
    if len(dropped) > max_dropped * of:
        sentence = (
            f"{len(dropped)} of the {of} utterances of {where} cannot be used ({reasons_of(dropped)}), more than "
            f"max_dropped={max_dropped:g} allows, so that training refuses."
        )
        examples = [f"{each}: {why}" for each, why in dropped]
        return [Finding("too many unusable", PROBLEM, splits, len(dropped), of, sentence, examples)]
    found = []
    for reason, count in reasons.items():
        examples = [f"{each}: {why}" for each, why in dropped if kind_of(why) == reason]
        sentence = f"{count} of the {of} utterances of {where} cannot be used: {reason}."
        found.append(Finding(reason, REMARK, splits, count, of, sentence, examples))
    return found


def vocabulary_findings(splits: list[SplitText], built: Units | None, corpus: Corpus) -> list[Finding]:
    """Words that a lexicon lacks, and words of a held-out split that are never trained on."""
    found = []
    guessed = corpus.pronunciations.get("espeak") or getattr(built, "added", [])
    if guessed:
        sentence = f"{len(guessed)} words are outside the lexicon and were pronounced by eSpeak: {listed(guessed)}."
        found.append(Finding("out of vocabulary", REMARK, (), len(guessed), len(guessed), sentence, list(guessed)))
    train, *others = splits
    known = {word for text in train.texts for word in text.split()}
    for split in others:
        words = [word for text in split.texts for word in text.split()]
        new = Counter(word for word in words if word not in known)
        if new and known:
            sentence = (
                f"{new.total()} of the {len(words)} words of {split.name} ({new.total() / len(words):.1%}) do not occur in "
                f"{train.name}."
            )
            examples = [f"{word}: {count}" for word, count in new.most_common()]
            finding = Finding("new words", REMARK, (split.name,), new.total(), len(words), sentence, examples)
            found.append(finding)
    return found


def add_audio(
    health: Health, measured: list[Measured], leaks: QuickFindings, splits: list[SplitText], max_dropped: float
) -> None:
    """Adds what decoding showed: facts of every split, findings, and the fingerprint of all samples."""
    text_of = {split.name: split for split in splits}
    by_split: dict[str, list[Measured]] = {name: [] for name in health.splits}
    for each in measured:
        by_split[each.split].append(each)
    for name, group in by_split.items():
        sound = [each for each in group if each.fault is None]
        health.splits[name]["audio"] = {
            "sample rates": {str(rate): count for rate, count in Counter(each.sample_rate for each in sound).items()},
            "channels": {str(number): count for number, count in Counter(each.channels for each in sound).items()},
            "level": quantiles(each.level for each in sound),
            "peak": quantiles(each.peak for each in sound),
            "clipped samples": sum(each.clipped for each in sound) / max(1, len(sound)),
            "zero samples": sum(each.zeros for each in sound) / max(1, len(sound)),
            "largest offset": max((abs(each.offset) for each in sound), default=0.0),
        }
        health.findings += audio_findings(name, group, unusable_severity(group, text_of[name], max_dropped))
    health.findings += mixture_findings(by_split)
    health.findings += same_audio(measured, leaks)
    sound = {name: [each.level for each in group if each.fault is None] for name, group in by_split.items()}
    add_histogram(health, "level in dB", sound)
    digest = hashlib.sha256()
    for each in sorted(measured, key=lambda each: (each.split, each.utterance)):
        digest.update(f"{each.split}\n{each.utterance}\n{each.digest}\n".encode())
    health.fingerprints["audio"] = digest.hexdigest()[:16]


def unusable_severity(group: list[Measured], split: SplitText, max_dropped: float) -> str:
    """How bad it is that audio cannot be used: a remark where training drops all of it by itself, and may."""
    faulty = {each.utterance for each in group if each.fault is not None}
    dropped = {utterance for utterance, _ in split.dropped}
    return REMARK if faulty <= dropped and len(dropped) <= max_dropped * split.size else PROBLEM


def audio_findings(name: str, group: list[Measured], unusable: str) -> list[Finding]:
    """unusable: the severity of audio that cannot be used."""
    sound = [each for each in group if each.fault is None]
    audible = [each for each in sound if each.peak > 0]
    tests = [
        ("unusable audio", unusable, [(each, each.fault) for each in group if each.fault is not None],
         ("has", "have", "audio that cannot be used")),
        ("clipping", REMARK, [(each, f"{each.clipped:.2%} of its samples") for each in
                              sorted(sound, key=lambda each: -each.clipped) if each.clipped > CLIPPED],
         ("is", "are", f"clipped: more than {CLIPPED:.1%} of the samples are at full scale")),
        ("digital silence", PROBLEM, [(each, "all samples are zero") for each in sound if each.peak == 0],
         ("is", "are", "nothing but zeros, with a transcript of something said")),
        ("near silence", REMARK, [(each, f"{each.level:.0f} dB") for each in
                                  sorted(audible, key=lambda each: each.level) if each.level < QUIET],
         ("is", "are", f"hardly to be heard: below {QUIET:.0f} dB of full scale on average")),
        ("offset", REMARK, [(each, f"{each.offset:+.3f}") for each in
                            sorted(sound, key=lambda each: -abs(each.offset)) if abs(each.offset) > OFFSET],
         ("is", "are", f"shifted: the mean of the samples is more than {OFFSET:g} from zero")),
    ]  # fmt: skip
    return [
        Finding(
            kind,
            severity,
            (name,),
            len(hits),
            len(group),
            f"{len(hits)} of the {len(group)} utterances of {name} {agree(len(hits), one, several)} {what}.",
            [f"{each.utterance}: {why}" for each, why in hits],
        )
        for kind, severity, hits, (one, several, what) in tests
        if hits
    ]


def mixture_findings(by_split: dict[str, list[Measured]]) -> list[Finding]:
    """Recordings at several rates, with several numbers of channels, or some of them without their upper band."""
    found = []
    sound = [each for group in by_split.values() for each in group if each.fault is None]
    for kind, unit, value in (
        ("sample rates", "Hz", lambda each: each.sample_rate),
        ("numbers of channels", "", lambda each: each.channels),
    ):
        counts = Counter(map(value, sound))
        if len(counts) > 1:
            parts = ", ".join(f"{number} {unit}".strip() + f" ({count})" for number, count in counts.most_common())
            usual = counts.most_common(1)[0][0]
            examples = [f"{each.utterance}: {value(each)} {unit}".strip() for each in sound if value(each) != usual]
            sentence = f"The recordings on disk have several {kind} (with utterances): {parts}."
            splits = tuple(name for name, group in by_split.items() if group)
            found.append(Finding(f"several {kind}", REMARK, splits, len(examples), len(sound), sentence, examples))
    wide = [each for each in sound if each.sample_rate >= WIDE_BAND and each.level > QUIET]
    empty = [each for each in wide if each.half_band < EMPTY_BAND]
    if empty and len(empty) < len(wide):
        examples = [f"{each.utterance}: {each.sample_rate} Hz, {each.half_band:.0f} dB" for each in empty]
        sentence = (
            f"{len(empty)} of the {len(wide)} utterances at {WIDE_BAND} Hz or more {agree(len(empty), 'has', 'have')} nothing in "
            "the upper half of the band, as if recorded at half the rate and converted; the others do."
        )
        splits = tuple(name for name, group in by_split.items() if any(each.split == name for each in empty))
        found.append(Finding("narrow band", REMARK, splits, len(empty), len(wide), sentence, examples))
    return found


def same_audio(measured: list[Measured], leaks: QuickFindings) -> list[Finding]:
    """Utterances with the same samples, zeros around them left aside: in two splits a leak, in one a remark."""
    groups: dict[str, list[Measured]] = defaultdict(list)
    for each in measured:
        if each.trimmed:
            groups[each.trimmed].append(each)
    repeated = [group for group in groups.values() if len(group) > 1]
    of = Counter(each.split for each in measured)
    found = []
    for first, second in compared(leaks.utterances):
        pairs = [
            (one.utterance, other.utterance)
            for group in repeated
            for other in group
            if other.split == second
            for one in [each for each in group if each.split == first][:1]
            if not any((each.utterance, other.utterance) in leaks.pairs for each in group)
        ]
        if pairs:
            verb = agree(len(pairs), "has", "have")
            sentence = (
                f"{len(pairs)} of the {of[second]} utterances of {second} {verb} the same samples as one of {first}."
            )
            examples = [f"{one} in {first} = {other} in {second}" for one, other in pairs]
            found.append(Finding("leak of audio", PROBLEM, (first, second), len(pairs), of[second], sentence, examples))
    for split in leaks.utterances:
        # at another speed, say, they are others
        inside: dict[tuple[str, str], list[str]] = defaultdict(list)
        for each in itertools.chain.from_iterable(repeated):
            if each.split == split:
                inside[each.trimmed, each.changes].append(each.utterance)
        inside = [names for names in inside.values() if len(names) > 1]
        if inside:
            count = sum(map(len, inside))
            sentence = f"{count} of the {of[split]} utterances of {split} have the same samples as another one of it."
            examples = [" = ".join(names) for names in inside]
            found.append(Finding("repeated audio", REMARK, (split,), count, of[split], sentence, examples))
    return found

"""All checks of a corpus together: the facts of every split, the findings, and whether the corpus is good."""

from __future__ import annotations

from collections import Counter
from typing import Any

from asr.data.corpora import Corpus
from asr.data.corpora.preparing.unusable import kind_of, kinds_of, reasons_of
from asr.data.fingerprint import fingerprint
from asr.data.health.audio import measure, recordings_of
from asr.data.health.findings import PROBLEM, REMARK, Finding, Health, add_histogram
from asr.data.health.leaks import QuickFindings, agree, quick_check
from asr.data.health.sound import add_audio
from asr.data.health.text import Lengths, SplitText, outliers, quantiles, read_split, units_of
from asr.errors import listed
from asr.text.units import Units


def check_corpus(
    corpus: Corpus, units: dict[str, Any], lengths: Lengths, max_dropped: float, quick: bool = False, workers: int = 2
) -> Health:
    """Checks a corpus, in the order of its splits.

    units: settings as in `conf/units`. lengths: of utterances in features, encoder and loss. max_dropped: the share of a
    split that may be unusable; training refuses a corpus with more. quick: do not decode the audio; otherwise `workers`
    processes do. Raises UserError for wrong units or settings.
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


def add_leaks(health: Health, leaks: QuickFindings) -> None:
    for leak in leaks.leaks:
        kind = f"leak of {leak.kind}" if leak.refused else f"shared {leak.kind}"
        severity = PROBLEM if leak.refused else REMARK
        health.findings.append(Finding(kind, severity, leak.splits, leak.count, leak.of, leak.sentence, leak.examples))
    if leaks.not_compared and health.quick:
        sentence = (
            f"{leaks.not_compared} possible copies of files are too many to compare quickly: quick=false compares all."
        )
        health.findings.append(
            Finding("copies not looked for", REMARK, (), leaks.not_compared, leaks.not_compared, sentence, [])
        )


def text_findings(split: SplitText, train: SplitText, max_dropped: float) -> list[Finding]:
    """What is odd about a split's texts and durations. train: the split that shows what is usual."""
    name, of = split.name, len(split.ids)
    found = unusable_findings(split.dropped, split.size, name, (name,), max_dropped)
    if split.size == 0:
        return [Finding("empty split", PROBLEM, (name,), 0, 0, f"The split {name} has no utterances.", [])]
    if split.twice:
        verb = agree(len(split.twice), "id occurs", "ids occur")
        sentence = f"{len(split.twice)} utterance {verb} more than once in {name}."
        found.append(Finding("repeated ids", PROBLEM, (name,), len(split.twice), of, sentence, split.twice))
    if split.unknown:
        holders = sorted({each for utterances in split.unknown.values() for each in utterances})
        most = sorted(split.unknown, key=lambda unit: (-len(split.unknown[unit]), unit))
        verb = agree(len(holders), "contains", "contain")
        sentence = f"{len(holders)} of the {of} utterances of {name} {verb} what the units cannot spell: " + listed(
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
    """Unusable utterances: a remark for each reason, or one problem if there are so many that training refuses."""
    reasons = kinds_of(dropped)
    if len(dropped) > max_dropped * of:
        sentence = (
            f"{len(dropped)} of the {of} utterances of {where} cannot be used ({reasons_of(dropped)}), more than "
            f"max_dropped={max_dropped:g} allows: training refuses the corpus."
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
    """Words that the lexicon lacks, and words of held-out splits that are never trained on."""
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

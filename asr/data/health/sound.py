"""What decoding the audio of a corpus shows: unusable, clipped or silent utterances, mixtures of formats, copies."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict

from asr.data.health.audio import Measured
from asr.data.health.findings import PROBLEM, REMARK, Finding, Health, add_histogram
from asr.data.health.leaks import QuickFindings, agree, compared
from asr.data.health.text import SplitText, quantiles

# utterances with a larger share of samples at full scale are reported
CLIPPED = 0.001
# dB relative to full scale below which an utterance is hardly audible
QUIET = -60.0
# utterances whose mean sample (-1 to 1) is further from zero are reported
OFFSET = 0.02
# dB: with less energy in the upper half of the band, nothing was recorded there
EMPTY_BAND = -65.0
# Hz: at lower rates an empty upper half of the band would mean nothing
WIDE_BAND = 16000


def add_audio(
    health: Health, measured: list[Measured], leaks: QuickFindings, splits: list[SplitText], max_dropped: float
) -> None:
    """Adds what decoding shows: facts of every split, findings, and the fingerprint of all samples."""
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
    """The severity of unusable audio: a remark if training drops all of it on its own and stays within `max_dropped`."""
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
         ("is", "are", "nothing but zeros, despite a transcript")),
        ("near silence", REMARK, [(each, f"{each.level:.0f} dB") for each in
                                  sorted(audible, key=lambda each: each.level) if each.level < QUIET],
         ("is", "are", f"hardly audible: below {QUIET:.0f} dB of full scale on average")),
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
    """Mixtures: several sample rates, several numbers of channels, or an upper band that only some recordings have."""
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
            sentence = f"The recordings on disk have several {kind} (utterances in parentheses): {parts}."
            splits = tuple(name for name, group in by_split.items() if group)
            found.append(Finding(f"several {kind}", REMARK, splits, len(examples), len(sound), sentence, examples))
    wide = [each for each in sound if each.sample_rate >= WIDE_BAND and each.level > QUIET]
    empty = [each for each in wide if each.half_band < EMPTY_BAND]
    if empty and len(empty) < len(wide):
        examples = [f"{each.utterance}: {each.sample_rate} Hz, {each.half_band:.0f} dB" for each in empty]
        sentence = (
            f"{len(empty)} of the {len(wide)} utterances at {WIDE_BAND} Hz or more {agree(len(empty), 'has', 'have')} nothing in "
            "the upper half of the band, as if recorded at half the rate and upsampled; the others have sound there."
        )
        splits = tuple(name for name, group in by_split.items() if any(each.split == name for each in empty))
        found.append(Finding("narrow band", REMARK, splits, len(empty), len(wide), sentence, examples))
    return found


def same_audio(measured: list[Measured], leaks: QuickFindings) -> list[Finding]:
    """Utterances with the same samples, ignoring zeros at either end: a leak across splits, a remark within one."""
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
        # changed differently, for example in speed, the same samples are different utterances
        alike: dict[tuple[str, str], list[str]] = defaultdict(list)
        for each in itertools.chain.from_iterable(repeated):
            if each.split == split:
                alike[each.trimmed, each.changes].append(each.utterance)
        inside = [names for names in alike.values() if len(names) > 1]
        if inside:
            count = sum(map(len, inside))
            sentence = f"{count} of the {of[split]} utterances of {split} have the same samples as another one in it."
            examples = [" = ".join(names) for names in inside]
            found.append(Finding("repeated audio", REMARK, (split,), count, of[split], sentence, examples))
    return found

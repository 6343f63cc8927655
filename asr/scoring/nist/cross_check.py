"""Compares our counts with those of NIST's sclite, word for word."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.errors import UserError
from asr.runtime.text_files import composed, read_lines
from asr.scoring.alignment import Alignment
from asr.scoring.nist.ctm import TimedWord, ctm_text, spread_words
from asr.scoring.nist.glm import OTHERWISE
from asr.scoring.nist.network import START, Network, Word, align_networks
from asr.scoring.nist.rules import ScoringRules
from asr.scoring.nist.sctk import Counts, Sctk, find_sctk, run_hubscr, run_sclite, segment_names
from asr.scoring.nist.stm import Segment
from asr.scoring.score import UtteranceScore

NAMED = 10  # utterances named in a disagreement
ABSENT = "NIST SCTK is not installed, so sclite was not run (on Debian and Ubuntu: apt install sctk)."


def counts_of(alignment: Alignment) -> Counts:
    return Counts(alignment.hits, alignment.substitutions, alignment.deletions, alignment.insertions)


def total(counts: Iterable[Counts]) -> Counts:
    rows = [(c.hits, c.substitutions, c.deletions, c.insertions) for c in counts]
    return Counts(*(sum(column) for column in zip(*rows))) if rows else Counts(0, 0, 0, 0)


def compare_counts(ours: Mapping[str, Counts], theirs: Mapping[str, Counts], tool: str) -> dict[str, Any]:
    """Plain data for `scores.json`: tool, agrees, ours, theirs, utterances that differ, and a warning if there are any."""
    names = [*ours, *(name for name in theirs if name not in ours)]
    differing = [name for name in names if ours.get(name) != theirs.get(name)]
    data = {
        "tool": tool,
        "agrees": not differing,
        "utterances": len(ours),
        "ours": total(ours.values()).as_data(),
        "theirs": total(theirs.values()).as_data(),
        "differing_utterances": len(differing),
        "differing": [
            {"utterance": name, "ours": as_list(ours.get(name)), "theirs": as_list(theirs.get(name))}
            for name in differing[:NAMED]
        ],
    }
    if differing:
        data["warning"] = (
            f"{tool} counts errors differently from us in {len(differing)} of {len(names)} utterances, the first: "
            f"{', '.join(differing[:3])}. scores.json has both counts; please report this."
        )
    return data


def as_list(counts: Counts | None) -> list[int] | None:
    """Hits, substitutions, deletions, insertions."""
    return None if counts is None else [counts.hits, counts.substitutions, counts.deletions, counts.insertions]


def not_checked(reason: str, sctk: Sctk | None) -> dict[str, Any]:
    data = {"tool": f"sclite {sctk.version}" if sctk else None, "agrees": None, "reason": reason}
    return data | ({"warning": f"The cross-check with sclite failed: {reason}"} if sctk else {})


def cross_check(utterances: Sequence[UtteranceScore], sctk: Sctk | None = None) -> dict[str, Any]:
    """For plain evaluations (tokens compared exactly): our alignment with sclite's weights beside sclite's own.

    "ours" and "theirs" use sclite's weights (4 for a substitution, 3 for a deletion or an insertion); "main" is what the
    evaluation reports, with unit costs. sclite gets tokens as codes, so any token will do. If the program fails, nothing is
    raised: "agrees" is None, and "reason" (with SCTK installed, also "warning") says why.
    """
    sctk = sctk or find_sctk()
    if sctk is None:
        return not_checked(ABSENT, None)
    codes: dict[str, str] = {}
    ours: dict[str, Counts] = {}
    lines: dict[str, list[str]] = {"ref.trn": [], "hyp.trn": []}
    for number, utterance in enumerate(utterances):
        sides = [
            [codes.setdefault(t, f"t{len(codes)}") for t in s] for s in (utterance.reference, utterance.hypothesis)
        ]
        ours[utterance.utterance] = counts_of(align_networks(*(chain(side) for side in sides)))
        for name, side in zip(lines, sides):
            lines[name].append(" ".join([*side, f"(s-{number})"]) + "\n")
    try:
        with tempfile.TemporaryDirectory(prefix="asr-sctk-") as folder:
            for name, content in lines.items():
                Path(folder, name).write_text("".join(content), encoding="utf8")
            theirs = run_sclite(Path(folder, "ref.trn"), Path(folder, "hyp.trn"), markup=False, sctk=sctk)
    except (UserError, OSError) as error:
        return not_checked(str(error), sctk)
    renamed = {f"s-{number}": utterance.utterance for number, utterance in enumerate(utterances)}
    data = compare_counts(
        ours, {renamed.get(name, name): counts for name, counts in theirs.items()}, f"sclite {sctk.version}"
    )
    return data | {"main": total(counts_of(utterance.alignment) for utterance in utterances).as_data()}


def chain(tokens: Sequence[str]) -> Network:
    """A network of consecutive tokens, without any markup."""
    words = [START, *(Word(token, token) for token in tokens)]
    return Network(words, [[], *([index] for index in range(len(tokens)))], [len(tokens)])


def cross_check_segments(
    rules: ScoringRules,
    utterances: Sequence[UtteranceScore],
    hypotheses: Mapping[str, Sequence[str]],
    sctk: Sctk | None = None,
) -> dict[str, Any]:
    """Compares scores by an STM with those of hubscr.pl (with a GLM) or sclite on the same words.

    utterances: the result of `rules.score`. hypotheses: words by the identity of their segment; they get times inside of it.
    Segments that were not scored here are left out of the STM for sclite. Like `cross_check`, raises nothing if the program
    fails.
    """
    sctk = sctk or find_sctk()
    if sctk is None:
        return not_checked(ABSENT, None)
    scored = {utterance.utterance for utterance in utterances}
    chosen = [segment for segment in rules.stm.segments if segment.identity in scored]
    try:
        words = spread_words(chosen, hypotheses)
        theirs = run_on_words(rules, chosen, words, sctk)
    except (UserError, OSError) as error:
        return not_checked(str(error), sctk)
    return compare_counts({u.utterance: counts_of(u.alignment) for u in utterances}, theirs, named(rules, sctk))


def cross_check_words(
    rules: ScoringRules, utterances: Sequence[UtteranceScore], words: Sequence[TimedWord], sctk: Sctk | None = None
) -> dict[str, Any]:
    """Compares the result of `rules.score_words` with hubscr.pl or sclite on the same timed words."""
    sctk = sctk or find_sctk()
    if sctk is None:
        return not_checked(ABSENT, None)
    try:
        theirs = run_on_words(rules, rules.stm.segments, complete(words, rules), sctk)
    except (UserError, OSError) as error:
        return not_checked(str(error), sctk)
    return compare_counts({u.utterance: counts_of(u.alignment) for u in utterances}, theirs, named(rules, sctk))


def cross_check_transcripts(
    utterances: Sequence[UtteranceScore],
    reference: Path | str,
    hypothesis: Path | str,
    glm: Path | str | None = None,
    empty: Iterable[str] = (),
    sctk: Sctk | None = None,
) -> dict[str, Any]:
    """Compares the result of `asr.scoring.nist.trn.score_trn` with sclite -F -D on the same text, after csrfilt.sh with a GLM.

    sclite compares bytes, so it gets the files as we read them: plain UTF-8, composed. empty: utterances that the hypothesis
    lacks and that count as deletions; sclite would skip them, so it gets a line without words for each.
    """
    sctk = sctk or find_sctk()
    if sctk is None:
        return not_checked(ABSENT, None)
    try:
        with tempfile.TemporaryDirectory(prefix="asr-sctk-") as folder:
            files = {"ref.trn": reference, "hyp.trn": hypothesis} | ({"rules.glm": glm} if glm is not None else {})
            copies = [Path(folder, name) for name in files]
            for copy, file in zip(copies, files.values()):
                lines = read_lines(file, OTHERWISE)
                lines += [f"({name})" for name in empty if copy.name == "hyp.trn"]
                copy.write_text("".join(f"{line}\n" for line in lines), encoding="utf8", newline="\n")
            filters = copies[2] if glm is not None else None
            theirs = run_sclite(copies[0], copies[1], glm=filters, sctk=sctk)
    except (UserError, OSError) as error:
        return not_checked(str(error), sctk)
    ours = {utterance.utterance: counts_of(utterance.alignment) for utterance in utterances}
    return compare_counts(ours, theirs, f"sclite {sctk.version}")


def complete(words: Sequence[TimedWord], rules: ScoringRules) -> list[TimedWord]:
    """The words with an `@`, which counts as nothing, on sides with fewer than two: sclite refuses a CTM without them."""
    spoken = {}
    for word in words:
        spoken[word.side] = spoken.get(word.side, 0) + 1
    last = {segment.side: segment for segment in rules.stm.segments}
    ends = {}
    for segment in rules.stm.segments:
        ends[segment.side] = max(ends.get(segment.side, 0.0), segment.end)
    for word in words:
        ends[word.side] = max(ends.get(word.side, 0.0), word.start)
    fillers = [
        TimedWord(segment.file, segment.channel, ends[side], 0.0, "@")
        for side, segment in last.items()
        for _ in range(2 - spoken.get(side, 0))
    ]
    return sorted([*words, *fillers], key=lambda word: (word.file, word.channel, word.start))


def named(rules: ScoringRules, sctk: Sctk) -> str:
    return f"hubscr.pl with sclite {sctk.version}" if rules.mapping else f"sclite {sctk.version}"


def run_on_words(rules: ScoringRules, segments: Sequence, words: Sequence[TimedWord], sctk: Sctk) -> dict[str, Counts]:
    with tempfile.TemporaryDirectory(prefix="asr-sctk-") as folder:
        stm, ctm, glm = (Path(folder, name) for name in ("ref.stm", "hyp.ctm", "rules.glm"))
        stm.write_text("".join(map(stm_line, segments)), encoding="utf8", newline="\n")
        ctm.write_text(composed(ctm_text(words)), encoding="utf8", newline="\n")
        if rules.mapping:
            glm.write_text("".join(f"{line}\n" for line in rules.mapping.lines), encoding="utf8", newline="\n")
        theirs = run_hubscr(stm, ctm, glm if rules.mapping else None, sctk)
    identities = {name: identity for identity, name in segment_names([s for s in segments if not s.ignored]).items()}
    return {identities.get(name, name): counts for name, counts in theirs.items()}


def stm_line(segment: Segment) -> str:
    """A line without labels, which do not change counts and which sclite wants defined."""
    times = (f"{segment.start:.9f}", f"{segment.end:.9f}")
    text = f"<-> {segment.text}" if segment.text.startswith("<") else segment.text
    return " ".join([segment.file, segment.channel, segment.speaker, *times, text]) + "\n"

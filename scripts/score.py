"""Scores a hypothesis against a reference as NIST does: python scripts/score.py reference=FILE hypothesis=FILE [glm=FILE]

The reference is an STM and the hypothesis a CTM, or both are transcripts (trn) with one utterance per line, in which
{ a / b } are alternatives, (uh) is optional and ab- is a fragment. Prints the word error rate overall, by subset of the STM
(such as Switchboard and CallHome) and by speaker. If NIST SCTK is installed (Debian: apt install sctk), its hubscr.pl or
sclite scores the same text, and the last line says whether both agree to the word.

Text is UTF-8, with or without a byte order mark, or else Latin-1. Decomposed letters are composed (Unicode NFC) on both sides,
and a note says so.

    reference=     ref.stm or ref.trn, plain or compressed (.gz, .bz2, .xz)
    hypothesis=    hyp.ctm or hyp.trn
    glm=           a global mapping file, applied to both as csrfilt.sh does; by default none
    metric=        wer (words) or cer (characters of these words); by default cer for scripts without spaces
    missing=       how to treat parts of the reference without a hypothesis: utterances missing from a trn, sides (file and
                   channel) without a word in a CTM. deletions (the default) counts all their words as deletions, skip
                   leaves them out of the score, error refuses. sclite itself skips in trn, and counts deletions in CTM.
    output=        a folder for tables and alignments; by default nothing is written

The exit code is 0 if both agree or SCTK is not installed, 1 if they disagree, and 2 for invalid input.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # a file of the checkout, which need not be installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from asr.cli.command import mistakes_as_sentences  # noqa: E402
from asr.config.overrides import parted  # noqa: E402
from asr.errors import UserError, nearest  # noqa: E402
from asr.runtime.called import as_called  # noqa: E402
from asr.runtime.text_files import count_decomposed, without_compression  # noqa: E402
from asr.scoring.missing import check_choice, note_on_missing, refuse_missing  # noqa: E402
from asr.scoring.nist.glm import OTHERWISE  # noqa: E402

COUNTED = ("auto", "wer", "cer")
FORMS = {".stm": ".ctm", ".trn": ".trn"}  # reference: hypothesis
MOST_SPEAKERS = 40  # rows of a table that people still read


@dataclasses.dataclass
class Settings:
    """What is typed, see above."""

    reference: str
    hypothesis: str
    glm: str | None = None
    missing: str = "deletions"
    metric: str = "auto"
    output: str | None = None

    @property
    def files(self) -> tuple[str, str, str | None]:
        return self.reference, self.hypothesis, self.glm


SETTINGS = [field.name for field in dataclasses.fields(Settings)]


def parse_arguments(arguments: list[str]) -> Settings:
    """Raises UserError for settings that are unknown, missing, or do not fit together."""
    typed: dict[str, str] = {}
    for argument in arguments:
        key, equals, text = parted(argument)
        if not equals:
            raise UserError(f"{argument!r} is not of the form setting=value: {nearest(key, SETTINGS)}.")
        if key not in SETTINGS:
            raise UserError(f"There is no setting {key!r}: {nearest(key, SETTINGS)}.")
        if text:
            typed[key] = text
        else:
            typed.pop(key, None)
    check_choice(typed.get("missing", Settings.missing))
    for key in ("reference", "hypothesis"):
        if key not in typed:
            raise UserError(f"{key}=FILE is missing: python scripts/score.py reference=ref.stm hypothesis=hyp.ctm")
    settings = Settings(**typed)
    if settings.metric not in COUNTED:
        raise UserError(f"metric is auto, wer or cer, not {settings.metric!r}.")
    if FORMS.get(form_of(settings.reference)) != form_of(settings.hypothesis):
        raise UserError(
            f"reference={settings.reference} and hypothesis={settings.hypothesis} do not fit together: give .stm with .ctm, "
            "or .trn with .trn."
        )
    return settings


def form_of(path: str) -> str:
    return without_compression(path).suffix.lower()


def run(arguments: list[str]) -> int:
    from asr.scoring.metric import choose_metric, summarize_in

    settings = parse_arguments(arguments)
    conversations = form_of(settings.reference) == ".stm"
    utterances, more = (score_conversations if conversations else score_transcripts)(settings)
    more["notes"] += [note for path in settings.files if (note := note_on_composing(path))]
    metric = choose_metric(settings.metric, "wer", (utterance.reference for utterance in utterances))
    score, beside = summarize_in(metric, utterances)
    more = {**beside, **more, "subsets": more["subsets"](metric)}
    show(score, metric, beside, more["subsets"], more["notes"])
    verdict(check := more["sclite"])
    if settings.output:
        write(Path(settings.output), settings, score, metric.name, more)
    return 1 if check["agrees"] is False else 0


def note_on_composing(path: str | None) -> str | None:
    count = count_decomposed(path, OTHERWISE) if path else 0
    lines = f"{count} line{'s' * (count != 1)}"
    return f"{path}: decomposed letters in {lines} were composed (Unicode NFC)." if count else None


def score_conversations(settings: Settings) -> tuple[list, dict[str, Any]]:
    """(segments scored by words, further results; `subsets` is a function of the metric)."""
    from asr.scoring.nist.cross_check import cross_check_words
    from asr.scoring.nist.ctm import read_ctm
    from asr.scoring.nist.glm import GlobalMapping
    from asr.scoring.nist.rules import ScoringRules
    from asr.scoring.nist.stm import read_stm
    from asr.scoring.subsets import subsets_as_data

    stm, words, missing = read_stm(settings.reference), read_ctm(settings.hypothesis), settings.missing
    silent = {segment.side for segment in stm.scored} - {word.side for word in words}
    sides = [" ".join(side) for side in sorted(silent)]
    refuse_missing(missing, sides, "side", settings.hypothesis)
    if missing == "skip":
        stm = dataclasses.replace(stm, segments=[segment for segment in stm.segments if segment.side not in silent])
        if not stm.scored:
            raise UserError(
                f"{settings.hypothesis} has no word for any side of the reference, so there is nothing to score: check that file "
                "and channel names are the same in both."
            )
    rules = ScoringRules(stm, GlobalMapping.read(settings.glm) if settings.glm else None)
    scored = rules.score_words(words, settings.hypothesis)
    notes = []
    if scored.outside:
        first = ", ".join(f"{word.text} (line {word.line})" for word in scored.outside[:5])
        notes.append(
            f"{len(scored.outside)} words are outside of all segments and were assigned to a neighbour, as in sclite: {first}."
        )
    if scored.ignored:
        first = ", ".join(f"{word.text} (line {word.line})" for word in scored.ignored[:5])
        notes.append(f"{len(scored.ignored)} words are in segments that are not scored, and were ignored: {first}.")
    if sides:
        lost = [score for score in scored.utterances if rules.segments[score.utterance].side in silent]
        notes.append(note_on_missing(missing, sides, "side", deletions(lost)))
    return scored.utterances, {
        "subsets": lambda metric: subsets_as_data(rules, metric.counted(scored.utterances)),
        "notes": notes,
        "missing": {"treated_as": missing, "names": sides},
        "sclite": cross_check_words(rules, scored.utterances, words),
    }


def deletions(utterances: list) -> int:
    return sum(utterance.alignment.deletions for utterance in utterances)


def score_transcripts(settings: Settings) -> tuple[list, dict[str, Any]]:
    """Like `score_conversations`, but without subsets."""
    from asr.scoring.nist.cross_check import cross_check_transcripts
    from asr.scoring.nist.trn import score_trn

    paths, missing = settings.files, settings.missing
    utterances, without = score_trn(*paths, missing)
    lost = [utterance for utterance in utterances if utterance.utterance in set(without)]
    return utterances, {
        "subsets": lambda _: {},
        "notes": [note_on_missing(missing, without, "utterance", deletions(lost))] if without else [],
        "missing": {"treated_as": missing, "names": without},
        "sclite": cross_check_transcripts(utterances, *paths, without if missing == "deletions" else ()),
    }


def show(score, metric, beside: dict[str, Any], subsets: dict[str, Any], notes: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from asr.scoring.metric import METRICS, rates_beside
    from asr.scoring.text import counted_tokens, percent, rate_and_interval

    def row(name: str, part: dict[str, Any]) -> list[str]:
        rate = "–" if part["error_rate"] is None else percent(part["error_rate"])
        keys = ("utterances", "reference_length", "substitutions", "deletions", "insertions")
        return [name, *(str(part[key]) for key in keys), rate]

    def table(title: str, first: str) -> Table:
        made = Table(title=title)
        for name in (first, "utterances", metric.tokens, "sub", "del", "ins", metric.name.upper()):
            made.add_column(name, justify="left" if name == first else "right")
        return made

    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    parts = table(f"{metric.tokens.removesuffix('s')} errors", "")
    whole = {key: getattr(score, key) for key in ("reference_length", "substitutions", "deletions", "insertions")}
    parts.add_row(*row("all", whole | {"utterances": len(score.utterances), "error_rate": score.error_rate}))
    for key, part in subsets.items():
        parts.add_row(*row(key if part["title"] == key else f"{key}: {part['title']}", part))
    console.print(parts)
    speakers = table("speakers, worst first", "speaker")
    for speaker in sorted(score.speakers, key=lambda one: -(one.error_rate or 0))[:MOST_SPEAKERS]:
        speakers.add_row(*row(speaker.speaker or "unknown", vars(speaker)))
    console.print(speakers)
    if len(score.speakers) > MOST_SPEAKERS:
        console.print(f"{len(score.speakers) - MOST_SPEAKERS} more speakers have lower error rates.")
    low, high = score.interval
    data = {"metric": metric.name, **beside}
    counted = counted_tokens(score, data)
    console.print(
        f"{metric.title.lower()} {percent(score.error_rate)}, 95 % interval {percent(low)} to {percent(high)}, {counted}"
    )
    for name in rates_beside(data):
        console.print(f"{METRICS[name][0].lower()} {rate_and_interval(data, name)}")
    for note in notes:
        console.print(note)


def verdict(check: dict[str, Any]) -> None:
    """Prints on standard output that both agree, or on standard error how they differ or why that is unknown."""
    if check["agrees"]:
        theirs = check["theirs"]
        counts = ", ".join(f"{theirs[key]} {key}" for key in ("substitutions", "deletions", "insertions"))
        print(
            f"{check['tool']} agrees in all {check['utterances']} utterances: {counts} in {theirs['reference_length']} words."
        )
        return
    print(check.get("warning") or check["reason"], file=sys.stderr)
    for one in check.get("differing", []):
        print(
            f"  {one['utterance']}: {one['ours']} here, {one['theirs']} by {check['tool']} (C S D I)", file=sys.stderr
        )


def write(folder: Path, settings: Settings, score, metric: str, more: dict[str, Any]) -> None:
    from asr.runtime.provenance import command_line
    from asr.scoring import EvaluationFacts, write_evaluation

    facts = EvaluationFacts(
        corpus=Path(settings.reference).name,
        split=Path(settings.hypothesis).name,
        units="words",
        attention="unknown",
        metric=metric,
        audio_seconds=score.seconds,
        forward_seconds=None,
        peak_memory_bytes=None,
        normalizer=Path(settings.glm).name if settings.glm else "none",
        checkpoint="unknown",
        command=command_line(),
        more=more,
    )
    for path in write_evaluation(folder, score, facts).values():
        print(path)


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(as_called(__doc__.strip()))
        return 0 if arguments else 2
    code = 2
    with mistakes_as_sentences("score.py"):
        code = run(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

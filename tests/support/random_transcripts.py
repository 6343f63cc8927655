"""Random references and hypotheses in NIST's markup, with a GLM in the real syntax: what scorers must agree on."""

from __future__ import annotations

import random
from pathlib import Path

GLM = """\
;; Rules of our own in the syntax of NIST's global mapping files.
* name "test.glm"
* desc 'contractions, hesitations and spellings for tests'
* format = 'NIST1'
* max_nrules = '100'
* copy_no_hit = 'T'
* case_sensitive = 'F'

;; hesitations and backchannels
[UH]      => [%HESITATION] / [ ] __ [ ]
[UM]      => [%HESITATION] / [ ] __ [ ]
%AH       => %HESITATION   / [ ] __ [ ] ;; with a mark
UH-HUH    => %BCACK        / [ ] __ [ ]
MHM       => %BCACK / [ ] __ [ ]
;; spellings, some of more than one word, some that match anywhere
GONNA     => GOING TO
OK        => O. K. / [ ] __ [ ]
OKAY      => O. K. / [ ] __ [ ]
EVERYDAY  => EVERY DAY / [ ] __ [ ]
GOOD BY   => GOOD BYE / [ ] __ [ ]
CANCELLED => CANCELED ;; inside of words too
[NEW YORK] => [NEWYORK] / [ ] __ [ ]
KNOW      => [(KNOW)] / [YOU ] __ [ ]
LAUGH     => / [ ] __ [ ]
DOUNLIKELY => "DO"
;; either is right
[WALKWAY] => [{ WALK WAY / WALKWAY }] / [ ] __ [ ]
THEATRE   => {THEATRE / THEATER / @} / [ ] __ [ ]

;; INPUT_DEPENDENT_APPLICATION = "ctm"
;; contractions of the hypothesis may mean either
[HE'S]    => [{HE IS / HE HAS}] / [ ] __ [ ]
[IT'S]    => [{IT'S / IT IS / IT HAS}] / [ ] __ [ ]
[CAN'T]   => [{CAN NOT / CANNOT}] / [ ] __ [ ]
[DON'T]   => [DO NOT] / [ ] __ [ ]
;; INPUT_DEPENDENT_APPLICATION = "ref"
Y'ALL     => YOU ALL / [ ] __ [ ]
"""
WORDS = (
    "the day before yesterday time i am he is has it not do can cannot you know good bye by new york every day walk way "
    "uh um %ah uh-huh mhm gonna going to ok okay everyday cancelled canceled laugh walkway theatre theater he's it's "
    "can't don't y'all o. k. x-ray twenty-one ab abc abd a b c known unknown hour"
).split()
FRAGMENTS = ("ab-", "-bc", "y-", "-day", "th-", "(ab-)", "-", "be-")


def word(chooser: random.Random) -> str:
    """A word in one of the cases that people write."""
    chosen = chooser.choice(WORDS)
    return chooser.choice((chosen, chosen, chosen.upper(), chosen.capitalize()))


def reference(chooser: random.Random, depth: int = 0) -> list[str]:
    """Tokens with alternations (in each other too), optionally deletable words, fragments and hyphens."""
    tokens: list[str] = []
    for _ in range(chooser.randrange(0 if depth == 0 else 1, 9 if depth == 0 else 3)):
        kind = chooser.random()
        if kind < 0.08:
            # a rule that puts an alternation into parentheses leaves a mess to sclite, and is refused by ours
            tokens.append(
                f"({chooser.choice(('uh', 'Um', 'you', 'know', 'ok', 'gonna', 'ab', 'DAY', 'x-ray', 'mhm'))})"
            )
        elif kind < 0.14:
            tokens.append(chooser.choice(FRAGMENTS))
        elif kind < 0.17:
            tokens.append("@")
        elif kind < 0.27 and depth < 2:
            alternatives = [reference(chooser, depth + 1) or ["@"] for _ in range(chooser.randrange(1, 4))]
            # `{ laugh }` would lose its only word to a rule, which sclite does not survive
            alternatives = [
                [other if other.lower() != "laugh" else "hour" for other in words] for words in alternatives
            ]
            tokens += ["{", *" / ".join(" ".join(words) for words in alternatives).split(), "}"]
        elif kind < 0.29:
            tokens += ["(" + chooser.choice(("you", "ab", "Gonna")), chooser.choice(("know", "DAY", "uh")) + ")"]
        else:
            tokens.append(word(chooser))
    return tokens


def hypothesis(chooser: random.Random, said: list[str]) -> list[str]:
    """Words near to a reference: some left out, some other, some more, one of its alternatives or a bit of each."""
    tokens = []
    for token in said:
        token = token.strip("()")
        kind = chooser.random()
        if token in ("{", "}", "/", "@", "") or kind < 0.15:
            continue
        tokens.append(word(chooser) if kind < 0.3 else token)
        if kind > 0.88:
            tokens.append(chooser.choice((word(chooser), word(chooser), "(uh)", "@", "ab-", "-y", "(know)")))
    return tokens


def segments(seed: int, count: int) -> list[tuple[str, str, str, float, float, str, list[str], list[str]]]:
    """(file, channel, speaker, start, end, labels, reference tokens, hypothesis words) of conversations."""
    chooser = random.Random(seed)
    found = []
    for number in range(count):
        conversation, place = divmod(number, 50)
        name = f"{'sw' if conversation % 2 else 'en'}_{4000 + conversation}"
        channel, turn = "AB"[place // 25], place % 25
        said = reference(chooser)
        start = 3.0 * turn + chooser.choice((0.0, 0.25))
        labels = f"<O,{name[:2]},{'FM'[conversation % 3 == 0]},{name[:2]}-{'FM'[conversation % 3 == 0]}>"
        end = start + chooser.choice((2.0, 2.75))
        found.append((name, channel, f"{name}_{channel}", start, end, labels, said, hypothesis(chooser, said)))
    return found


def write_stm(path: Path, rows) -> Path:
    lines = [
        ';; CATEGORY "0" "" ""\n', ';; LABEL "O" "Overall" "All segments"\n', ';; LABEL "sw" "Switchboard" ""\n',
        ';; LABEL "en" "CallHome" ""\n', ';; LABEL "F" "Female" ""\n', ';; LABEL "M" "Male" ""\n',
    ]  # fmt: skip
    for file, channel, speaker, start, end, labels, said, _ in rows:
        lines.append(f"{file} {channel} {speaker} {start:.2f} {end:.2f} {labels} {' '.join(said)}\n")
    path.write_text("".join(lines), encoding="utf8")
    return path


def timed_words(seed: int, rows) -> list[str]:
    """Lines of a CTM in no order: words that run over the ends of their segments, some with a confidence."""
    chooser = random.Random(seed)
    lines = []
    for file, channel, _, start, _, _, _, heard in rows:
        time = start - chooser.random() / 2
        for text in heard:
            duration = chooser.choice((0.1, 0.31, 0.257))
            confidence = chooser.choice(("", f" {chooser.random():.3f}"))
            lines.append(f"{file} {channel} {max(0.0, time):.2f} {duration} {text}{confidence}\n")
            time += duration * chooser.choice((0.5, 1, 1.5))
    chooser.shuffle(lines)
    return lines


def write_fixture(folder: Path, count: int = 150, seed: int = 20000405) -> None:
    """Writes reference.stm, hypothesis.ctm, rules.glm and, by hubscr.pl of an installed SCTK, what sclite counts."""
    from asr.scoring.nist.cross_check import complete, run_on_words
    from asr.scoring.nist.ctm import read_ctm
    from asr.scoring.nist.rules import ScoringRules
    from asr.scoring.nist.sctk import needed

    folder.mkdir(exist_ok=True)
    rows = segments(seed, count)
    rows = [
        (*row[:6], ["ignore_time_segment_in_scoring"], row[7]) if n % 25 == 7 else row for n, row in enumerate(rows)
    ]
    (folder / "rules.glm").write_text(GLM, encoding="utf8")
    (folder / "hypothesis.ctm").write_text("".join(timed_words(seed, rows)), encoding="utf8")
    rules = ScoringRules.read(write_stm(folder / "reference.stm", rows), folder / "rules.glm")
    sctk = needed(None)
    words = complete(read_ctm(folder / "hypothesis.ctm"), rules)
    counts = run_on_words(rules, rules.stm.segments, words, sctk)
    lines = [
        f"# What hubscr.pl (SCTK, sclite {sctk.version}) counts in reference.stm for hypothesis.ctm with rules.glm.\n"
        "# Written by: PYTHONPATH=. python tests/support/random_transcripts.py tests/sclite_counts\n",
        "segment\tcorrect\tsubstitutions\tdeletions\tinsertions\n",
    ]
    for name, found in counts.items():
        row = (name, found.hits, found.substitutions, found.deletions, found.insertions)
        lines.append("\t".join(map(str, row)) + "\n")
    (folder / "counts.tsv").write_text("".join(lines), encoding="utf8")


if __name__ == "__main__":
    import sys

    write_fixture(Path(sys.argv[1]))

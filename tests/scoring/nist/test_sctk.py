"""Our scores beside those of NIST's sclite and hubscr.pl: equal to the word, with SCTK installed and by committed counts."""

import dataclasses
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.scoring import score_utterance, summarize, write_evaluation
from asr.scoring.files import EvaluationFacts
from asr.scoring.nist.cross_check import (
    compare_counts,
    counts_of,
    cross_check,
    cross_check_segments,
    cross_check_transcripts,
    cross_check_words,
    total,
)
from asr.scoring.nist.ctm import read_ctm, write_ctm
from asr.scoring.nist.rules import ScoringRules
from asr.scoring.nist.sctk import Counts, Sctk, find_sctk, run_program, run_sclite
from asr.scoring.nist.trn import score_trn
from asr.scoring.reading import read_evaluation
from asr.scoring.subsets import subsets_as_data
from tests.support.random_transcripts import GLM, hypothesis, reference, segments, timed_words, write_stm

installed = pytest.mark.skipif(find_sctk() is None, reason="NIST SCTK is not installed (Debian: apt install sctk)")
COMMITTED = Path(__file__).parent / "sclite_counts"
SCRIPT = Path(__file__).parents[3] / "scripts" / "score.py"


@pytest.fixture(scope="module")
def conversations(tmp_path_factory):
    """(rules, words by segment, rows) of 1,000 random segments with a GLM."""
    folder = tmp_path_factory.mktemp("random words")  # with a space in its name
    rows = segments(seed=5, count=1000)
    (folder / "rules.glm").write_text(GLM, encoding="utf8")
    rules = ScoringRules.read(write_stm(folder / "ref.stm", rows), folder / "rules.glm")
    rows = sorted(rows, key=lambda row: (row[0], row[1], row[3]))
    hypotheses = {segment.identity: row[7] for segment, row in zip(rules.stm.segments, rows)}
    return rules, hypotheses, rows


def some_counts(utterances) -> Counts:
    return total(counts_of(utterance.alignment) for utterance in utterances)


@installed
def test_a_thousand_random_segments_with_a_glm_are_counted_as_by_hubscr_to_the_word(conversations):
    rules, hypotheses, _ = conversations
    utterances = rules.score(hypotheses.items())
    check = cross_check_segments(rules, utterances, hypotheses)
    assert check["agrees"], check
    assert check["utterances"] == 1000 and check["tool"].startswith("hubscr.pl with sclite ")
    assert check["ours"] == check["theirs"] == some_counts(utterances).as_data()
    assert min(check["ours"][kind] for kind in ("hits", "substitutions", "deletions", "insertions")) > 300


@installed
def test_without_a_glm_they_are_counted_as_by_sclite(conversations):
    rules, hypotheses, _ = conversations
    plain = ScoringRules(rules.stm)
    utterances = plain.score(hypotheses.items())
    check = cross_check_segments(plain, utterances, hypotheses)
    assert check["agrees"], check
    assert some_counts(utterances) != some_counts(rules.score(hypotheses.items()))


@installed
def test_some_of_the_segments_are_checked_by_themselves(conversations):
    rules, hypotheses, _ = conversations
    some = dict(list(hypotheses.items())[100:170:2])
    check = cross_check_segments(rules, rules.score(some.items()), some)
    assert check["agrees"] and check["utterances"] == 35, check


@installed
@pytest.mark.parametrize("with_glm", [True, False])
def test_words_with_times_of_their_own_go_to_the_same_segments_as_in_sclite(conversations, tmp_path, with_glm):
    rules, _, rows = conversations
    rules = rules if with_glm else ScoringRules(rules.stm)
    ctm = tmp_path / "hyp.ctm"
    ctm.write_text("".join(timed_words(6, rows)), encoding="utf8")
    words = read_ctm(ctm)
    scored = rules.score_words(words)
    check = cross_check_words(rules, scored.utterances, words)
    assert check["agrees"], check
    assert len(scored.outside) > 50


@installed
@pytest.mark.parametrize(
    ("with_glm", "identity", "speakers"),
    [(True, "Speaker{0}-{1:04d}", 9), (False, "Speaker{0}-{1:04d}", 9), (False, "Utt{1:04d}", 1000)],
)
def test_transcripts_with_markup_on_both_sides_are_counted_as_by_sclite(tmp_path, with_glm, identity, speakers):
    chooser = random.Random(7)
    lines = {"ref.trn": [], "hyp.trn": []}
    for number in range(1000):
        said = reference(chooser)
        heard = hypothesis(chooser, said) if number % 3 else reference(chooser)
        for name, words in zip(lines, (said, heard)):
            lines[name].append(f"{' '.join(words)} ({identity.format(number % 9, number)})\n")
    paths = []
    for name, content in lines.items():
        paths.append(tmp_path / name)
        paths[-1].write_text("".join(content), encoding="utf8")
    if with_glm:
        paths.append(tmp_path / "rules.glm")
        paths[-1].write_text(GLM, encoding="utf8")
    utterances, missing = score_trn(*paths)
    check = cross_check_transcripts(utterances, *paths)
    assert check["agrees"] and not missing, check
    assert len({utterance.speaker for utterance in utterances}) == speakers


@installed
def test_long_transcripts_with_many_nothings_are_counted_as_by_sclite_whose_sums_are_of_single_precision(tmp_path):
    chooser = random.Random(9)
    parts = ("a", "b", "c", "@", "{ a / @ }", "{ b c / d / @ }", "(a)", "{ { a / @ } b / @ }", "{ (a) / @ c }")
    paths = tmp_path / "ref.trn", tmp_path / "hyp.trn"
    for path in paths:
        lines = (f"{' '.join(chooser.choices(parts, k=chooser.randrange(20, 60)))} (s-{n})\n" for n in range(40))
        path.write_text("".join(lines), encoding="utf8")
    check = cross_check_transcripts(score_trn(*paths)[0], *paths)
    assert check["agrees"], check


def test_the_committed_counts_of_hubscr_are_ours():
    """They were made by hubscr.pl (counts.tsv says how), so the test works without SCTK."""
    rules = ScoringRules.read(COMMITTED / "reference.stm", COMMITTED / "rules.glm")
    scored = rules.score_ctm(COMMITTED / "hypothesis.ctm")
    lines = (COMMITTED / "counts.tsv").read_text(encoding="utf8").splitlines()[3:]
    theirs = {name: Counts(*map(int, numbers)) for name, *numbers in (line.split("\t") for line in lines)}
    ours = {utterance.utterance: counts_of(utterance.alignment) for utterance in scored.utterances}
    assert ours == theirs and len(ours) == 144
    assert scored.ignored and scored.outside


def test_switchboard_and_callhome_add_up_and_so_do_the_labels(conversations):
    rules, hypotheses, _ = conversations
    utterances = rules.score(hypotheses.items())
    subsets, whole = subsets_as_data(rules, utterances), some_counts(utterances)
    assert subsets["o"]["title"] == "Overall" and subsets["o"]["reference_length"] == whole.words
    for one, other in (("Switchboard", "CallHome"), ("sw", "en"), ("f", "m")):
        for key in ("reference_length", "substitutions", "deletions", "insertions"):
            assert subsets[one][key] + subsets[other][key] == subsets["o"][key]
    assert subsets["Switchboard"] == subsets["sw"] | {"title": "Switchboard"}


def test_the_tables_of_an_evaluation_hold_what_was_scored(conversations, tmp_path):
    rules, hypotheses, _ = conversations
    score = summarize(rules.score(hypotheses.items()), resamples=10)
    facts = EvaluationFacts("c", "test", "words", "full", "wer", 1.0, None, None, "none", "c", "c")
    write_evaluation(tmp_path / "evaluation", score, facts)
    read = read_evaluation(tmp_path / "evaluation")
    counted = some_counts(score.utterances)
    assert sum(utterance.reference_length for utterance in read.utterances.values()) == counted.words
    if find_sctk() is not None:
        theirs = run_sclite(tmp_path / "evaluation" / "ref.trn", tmp_path / "evaluation" / "hyp.trn")
        assert total(theirs.values()) == counted


def plain_utterances(count: int = 300):
    chooser = random.Random(8)
    tokens = ["a", "b", "c", "A", "(x)", "{", "@", "d-", "e;f", "ü", "w" * 200]
    sides = [[[chooser.choice(tokens) for _ in range(chooser.randrange(30))] for _ in range(2)] for _ in range(count)]
    return [score_utterance(f"u {number}", *pair, f"speaker {number % 3}") for number, pair in enumerate(sides)]


@installed
def test_plain_evaluations_are_aligned_again_with_sclites_weights_whatever_their_tokens_are():
    utterances = plain_utterances()
    check = cross_check(utterances)
    assert check["agrees"], check
    assert check["main"] == some_counts(utterances).as_data()
    # unit costs never count more errors than sclite's weights, and here fewer
    assert check["main"]["error_rate"] < check["ours"]["error_rate"] == check["theirs"]["error_rate"]
    json.dumps(check, allow_nan=False)


@installed
def test_a_disagreement_is_a_warning_that_names_the_utterances():
    utterances = plain_utterances(20)
    wrong = dataclasses.replace(utterances[3].alignment, hits=99)
    ours = {u.utterance: counts_of(u.alignment) for u in utterances} | {"u 3": counts_of(wrong)}
    theirs = {u.utterance: counts_of(u.alignment) for u in utterances[:-1]}
    check = compare_counts(ours, theirs, "sclite 2.10")
    assert check["agrees"] is False and check["differing_utterances"] == 2
    assert "2 of 20 utterances, the first: u 3, u 19." in check["warning"]
    assert [row["utterance"] for row in check["differing"]] == ["u 3", "u 19"] and check["differing"][1][
        "theirs"
    ] is None


def program(folder: Path, name: str, lines: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path


def test_a_program_that_fails_is_a_warning_with_what_it_said(tmp_path):
    broken = Sctk(tmp_path, program(tmp_path, "sclite", "echo out of cheese >&2; exit 3"), None, "0")
    check = cross_check(plain_utterances(3), broken)
    assert check["agrees"] is None and "sclite failed (exit code 3): out of cheese" in check["warning"]


def test_a_program_without_an_answer_is_ended_with_all_that_it_started(tmp_path):
    slow = program(tmp_path, "sclite", f"(sleep 60; touch {tmp_path}/late) & echo $! > {tmp_path}/child; wait")
    with pytest.raises(UserError, match="sclite took longer than 0.5 s and was stopped"):
        run_program([str(slow)], tmp_path, Sctk(tmp_path, slow, None, "0"), seconds=0.5)
    child = int((tmp_path / "child").read_text())
    status = Path(f"/proc/{child}/status")
    assert not status.exists() or "zombie" in status.read_text()


def test_without_sctk_the_check_says_how_to_get_it(monkeypatch, conversations):
    monkeypatch.setattr("asr.scoring.nist.cross_check.find_sctk", lambda: None)
    rules, hypotheses, _ = conversations
    for check in (cross_check(plain_utterances(3)), cross_check_segments(rules, [], hypotheses)):
        assert check["agrees"] is None and check["tool"] is None and "apt install sctk" in check["reason"]
        assert "warning" not in check


@installed
def test_a_written_ctm_scores_as_the_words_did(conversations, tmp_path):
    rules, hypotheses, _ = conversations
    write_ctm(tmp_path / "hyp.ctm", rules.stm.segments, hypotheses)
    scored = rules.score_ctm(tmp_path / "hyp.ctm")
    assert some_counts(scored.utterances) == some_counts(rules.score(hypotheses.items())) and not scored.outside


def score_script(*arguments: str, capsys) -> tuple[int, str, str]:
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        import score
    finally:
        sys.path.remove(str(SCRIPT.parent))
    try:
        code = score.main(list(arguments))
    except SystemExit as left:
        code = left.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_script_prints_tables_and_writes_an_evaluation(tmp_path, capsys):
    paths = [
        f"reference={COMMITTED}/reference.stm",
        f"hypothesis={COMMITTED}/hypothesis.ctm",
        f"glm={COMMITTED}/rules.glm",
    ]
    code, out, err = score_script(*paths, f"output={tmp_path}/scored here", capsys=capsys)
    assert code == 0 and "CallHome" in out and "words are outside of all segments" in out
    scores = read_evaluation(tmp_path / "scored here").scores
    assert scores["utterances"] == 144 and scores["subsets"]["Switchboard"]["utterances"] > 0
    if find_sctk() is None:
        assert scores["sclite"]["agrees"] is None and "apt install sctk" in err
    else:
        assert scores["sclite"]["agrees"] is True and "agrees in all 144 utterances" in out and err == ""


def test_the_script_counts_characters_where_it_is_asked_to_or_the_script_has_no_spaces(tmp_path, capsys):
    paths = [f"{key}={COMMITTED}/{name}" for key, name in
             (("reference", "reference.stm"), ("hypothesis", "hypothesis.ctm"), ("glm", "rules.glm"))]  # fmt: skip
    _, words, _ = score_script(*paths, capsys=capsys)
    code, out, _ = score_script(*paths, "metric=cer", f"output={tmp_path}/scored", capsys=capsys)
    rates = [re.search(r"^(character|word) error rate .*$", text, re.M)[0] for text in (words, out)]
    assert code == 0 and rates[0].startswith("word") and rates[1].startswith("character")
    # each is said beside the other
    assert "\ncharacter error rate" in words and "\nword error rate" in out and "spaces counted" in rates[1]
    scores = read_evaluation(tmp_path / "scored").scores
    assert scores["metric"] == "cer" and scores["word_error_rate"]["error_rate"] > scores["error_rate"] > 0
    parts = [scores["subsets"][name]["reference_length"] for name in ("Switchboard", "CallHome")]
    assert sum(parts) == scores["reference_length"] > scores["word_error_rate"]["reference_length"]

    for name, text in (("a", "今天 天气 好 (s-1)\n"), ("b", "今天天 汽 好 (s-1)\n")):
        (tmp_path / f"{name}.trn").write_text(text, encoding="utf8")
    _, out, _ = score_script(f"reference={tmp_path}/a.trn", f"hypothesis={tmp_path}/b.trn", capsys=capsys)
    assert "character error rate 20.0 %" in out and "5 characters, spaces not counted" in out and "WER" not in out


# one side, g 1, and one utterance, s-2, without a hypothesis; café is composed on one side only
PARTIAL = {
    "ref.stm": "f 1 s 0 1 <O>\tcafe\u0301 a\nf 1 s 1 2 b c\ng 1 t 0 1 d e\n", "hyp.ctm": "f 1 0.1 0.1 caf\xe9\nf 1 0.3 0.1 a\n",
    "ref.trn": "caf\xe9 (s-1)\nd e f (s-2)\n", "hyp.trn": "cafe\u0301 (s-1)\n",
}  # fmt: skip


@pytest.mark.parametrize(
    ("names", "missing", "errors"),
    [
        (("ref.stm", "hyp.ctm"), "deletions", 4), (("ref.stm", "hyp.ctm"), "skip", 2), (("ref.stm", "hyp.ctm"), "error", None),
        (("ref.trn", "hyp.trn"), "deletions", 3), (("ref.trn", "hyp.trn"), "skip", 0), (("ref.trn", "hyp.trn"), "error", None),
    ],
)  # fmt: skip
def test_what_has_no_hypothesis_is_named_and_sclite_agrees_whatever_becomes_of_it(
    tmp_path, capsys, names, missing, errors
):
    for name in names:
        (tmp_path / name).write_text(PARTIAL[name], encoding="utf8")
    paths = [f"{key}={tmp_path / name}" for key, name in zip(("reference", "hypothesis"), names)]
    code, out, err = score_script(*paths, f"missing={missing}", f"output={tmp_path}/scored", capsys=capsys)
    named = "1 side of the reference (g 1)" if names[0].endswith("stm") else "1 utterance of the reference (s-2)"
    assert named in out + err
    if missing == "error":
        assert code == 2 and "missing=deletions" in err
        return
    scores = read_evaluation(tmp_path / "scored").scores
    assert code == 0 and [scores[kind] for kind in ("substitutions", "deletions", "insertions")] == [0, errors, 0]
    assert scores["missing"] == {"treated_as": missing, "names": [named[named.index("(") + 1 : -1]]}
    assert "decomposed letters in 1 line were composed" in out
    assert scores["sclite"]["agrees"] is (True if find_sctk() else None)


def test_the_script_exits_with_1_when_both_disagree(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "asr.scoring.nist.cross_check.cross_check_transcripts",
        lambda utterances, *paths: compare_counts(
            {"s-1": Counts(1, 0, 0, 0)}, {"s-1": Counts(0, 1, 0, 0)}, "sclite 2.10"
        ),
    )
    (tmp_path / "a.trn").write_text("yes (s-1)\n")
    code, _, err = score_script(f"reference={tmp_path}/a.trn", f"hypothesis={tmp_path}/a.trn", capsys=capsys)
    assert code == 1 and "s-1: [1, 0, 0, 0] here, [0, 1, 0, 0] by sclite 2.10" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reference=a.stm"], "hypothesis=FILE is missing"),
        (["reference=a.stm", "hypothesis=b.ctm", "metric=per"], "metric is auto, wer or cer, not 'per'"),
        (["reference=a.stm", "hypothesis=b.trn"], "do not fit together"),
        (["referenc=a.stm", "hypothesis=b.ctm"], "no setting 'referenc': did you mean reference"),
        (["reference=absent.stm", "hypothesis=b.ctm"], "absent.stm cannot be read"),
        (["reference=a.stm", "hypothesis=b.ctm", "missing=skipped"], "did you mean skip"),
        (["a.stm"], "not of the form setting=value"),
    ],
)
def test_a_users_mistake_is_a_sentence_and_exit_code_2(arguments, said, capsys):
    code, _, err = score_script(*arguments, capsys=capsys)
    assert code == 2 and said in err


@pytest.mark.run
def test_the_script_needs_no_torch_and_runs_as_a_process(tmp_path):
    (tmp_path / "ref file.trn").write_text("a { b / c } (uh) (s-1)\n")
    (tmp_path / "hyp file.trn").write_text("a c (s-1)\n")
    command = [sys.executable, "-X", "importtime", str(SCRIPT), "reference=ref file.trn", "hypothesis=hyp file.trn"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "0.00 %" in ran.stdout and "torch" not in ran.stderr and "lhotse" not in ran.stderr

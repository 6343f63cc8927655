"""Alignments, error rates, intervals, and the files of an evaluation."""

import csv
import dataclasses
import functools
import itertools
import json
import os
import random
import re
import shutil
import stat
import subprocess
from pathlib import Path

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from asr.errors import UserError
from asr.scoring import EvaluationFacts, align, score_utterance, summarize, write_evaluation
from asr.scoring.alignment import count_errors, equal_runs
from asr.scoring.metric import Metric, choose_metric, summarize_in
from asr.scoring.nist.rules import ScoringRules
from asr.scoring.score import bootstrap_interval
from asr.scoring.text import WIDTH, columns_of, trn_names, trn_token
from tests.support import random_transcripts

# Debian's package sctk keeps it beside the path.
SCLITE = shutil.which("sclite") or shutil.which("sclite", path="/usr/lib/sctk/bin")
needs_sclite = pytest.mark.skipif(SCLITE is None, reason="sclite is not installed (Debian package sctk)")

FACTS = EvaluationFacts(
    corpus="spoken",
    split="test",
    units="phonemes",
    attention="i_clustered-100",
    metric="per",
    audio_seconds=12.5,
    forward_seconds=0.75,
    peak_memory_bytes=123456789,
    normalizer="words",
    checkpoint="runs/a | b",
    command="python evaluate.py checkpoint=runs/a",
)
KEYS = (
    "corpus split units attention metric error_rate interval substitutions deletions insertions reference_length "
    "utterances audio_seconds forward_seconds peak_memory_bytes normalizer checkpoint command"
).split()

tokens = st.lists(st.sampled_from(["AA", "B", "a b", "***", "", "(", "é", "\n"]), max_size=7)


def edit_distance(reference: tuple[str, ...], hypothesis: tuple[str, ...]) -> int:
    """By the recursion itself: every way of ending an alignment."""

    @functools.cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        same = reference[i - 1] == hypothesis[j - 1]
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (not same))

    return distance(len(reference), len(hypothesis))


def random_utterances(count: int, seed: int = 0, vocabulary: str = "AA B CH D EH F G HH"):
    """Utterances of three speakers whose hypotheses are the references with random errors."""
    chance, words = random.Random(seed), vocabulary.split()
    utterances = []
    for number in range(count):
        reference = chance.choices(words, k=chance.randint(1, 30))
        hypothesis = []
        for token in reference:
            what = chance.random()
            hypothesis += [token] if what < 0.8 else [] if what < 0.87 else [chance.choice(words)]
            hypothesis += [chance.choice(words)] if what > 0.95 else []
        utterances.append(score_utterance(f"utt-{number:03d}", reference, hypothesis, f"voice{number % 3}", 1.5))
    return utterances


@settings(max_examples=300, deadline=None)
@given(tokens, tokens)
def test_an_alignment_has_the_fewest_errors_and_spells_out_both_sides(reference, hypothesis):
    alignment = align(reference, hypothesis)
    assert alignment.errors == edit_distance(tuple(reference), tuple(hypothesis))
    assert [o.reference for o in alignment.operations if o.reference is not None] == reference
    assert [o.hypothesis for o in alignment.operations if o.hypothesis is not None] == hypothesis
    assert alignment.reference_length == len(reference)
    counted = [sum(o.kind == kind for o in alignment.operations) for kind in ("substitute", "delete", "insert")]
    assert counted == [alignment.substitutions, alignment.deletions, alignment.insertions]
    for kind, wanted, got in alignment.operations:
        expected = (
            "insert" if wanted is None else "delete" if got is None else "equal" if wanted == got else "substitute"
        )
        assert kind == expected


def by_rapidfuzz(reference: list[str], hypothesis: list[str]) -> list[tuple[str, str | None, str | None]]:
    """The steps as `align` took them from rapidfuzz itself: which of several best alignments is taken decides the counts."""
    steps = []
    for block in Levenshtein.opcodes(reference, hypothesis):
        wanted, got = reference[block.src_start : block.src_end], hypothesis[block.dest_start : block.dest_end]
        kind = "substitute" if block.tag == "replace" else block.tag
        steps += [(kind, *pair) for pair in itertools.zip_longest(wanted, got)]
    return steps


def test_alignments_counts_and_equal_runs_by_jiwer_are_those_of_before_to_the_digit():
    chooser = random.Random(11)
    pairs = [([], []), ([], ["a b"]), (["a b", ""], []), (["a", "b"], ["a b"]), (["\x1f", " "], ["", "\x1f"])]
    for number in range(2000):
        said = random_transcripts.reference(chooser)
        heard = random_transcripts.hypothesis(chooser, said) if number % 3 else random_transcripts.reference(chooser)
        # some tokens with spaces, as phrases have them
        pairs.append(tuple([token.replace("-", " ") for token in tokens] for tokens in (said, heard)))
    expected = [by_rapidfuzz(*pair) for pair in pairs]
    assert [[tuple(step) for step in align(*pair).operations] for pair in pairs] == expected
    assert count_errors(*zip(*pairs)) == sum(kind != "equal" for steps in expected for kind, *_ in steps)
    for (said, heard), runs, steps in zip(pairs, equal_runs(*zip(*pairs)), expected):
        assert all(said[a : a + length] == heard[b : b + length] for a, b, length in runs)
        assert sum(length for _, _, length in runs) == sum(kind == "equal" for kind, *_ in steps)


def test_the_error_rate_is_all_errors_over_the_reference_length():
    score = summarize(
        [
            score_utterance("b", "the cat sat down".split(), "the bat sat".split(), "s1", 2.0),
            score_utterance("a", [], ["uh"], "s2", 1.0),
            score_utterance("c", ["yes"], ["oh", "yes"], "s1", 0.5),
        ]
    )
    assert (score.substitutions, score.deletions, score.insertions, score.reference_length) == (1, 1, 2, 5)
    assert score.error_rate == pytest.approx(4 / 5)
    assert score.seconds == 3.5
    assert [(s.speaker, s.utterances, s.reference_length, s.error_rate) for s in score.speakers] == [
        ("s1", 2, 5, 3 / 5),
        ("s2", 1, 0, None),
    ]
    assert dict(score.confusions) == {("cat", "bat"): 1, ("down", None): 1, (None, "uh"): 1, (None, "oh"): 1}


def test_empty_references_alone_have_no_rate_and_say_so():
    with pytest.raises(UserError, match="references of all 2 utterances are empty"):
        summarize([score_utterance("a", [], ["x"]), score_utterance("b", [], [])])
    with pytest.raises(UserError, match="empty"):
        summarize([])


# Characters


@pytest.mark.parametrize(
    "asked, own, reference, expected",
    [
        ("auto", "per", "DH AH", ("per", True)),
        ("own", "per", "DH AH", ("per", True)),
        ("per", "per", "DH AH", ("per", True)),
        ("auto", "wer", "de kat zit", ("wer", True)),
        ("cer", "wer", "de kat zit", ("cer", True)),
        ("auto", "wer", "한국어 문장 Tiếng Việt हिन्दी العربية עברית 12", ("wer", True)),
        ("auto", "wer", "他说 python 很好用 而且很容易学", ("cer", False)),
        ("wer", "wer", "他说中文", ("wer", False)),
        # an old run, from before there was a choice
        ("own", "wer", "他说中文", ("wer", False)),
        *(("auto", "wer", text, ("cer", False)) for text in ("東京タワーへ", "ひらがな", "ｶﾀｶﾅ", "ㄅㄆㄇ", "สวัสดีครับ",
          "ສະບາຍດີ", "សួស្តី ស្រី", "မင်္ဂလာပါ", "བོད སྐད")),
        # most letters decide
        ("auto", "wer", "meeting 会议", ("wer", True)),
    ],
)  # fmt: skip
def test_the_metric_is_what_was_asked_for_or_what_the_script_of_the_references_wants(asked, own, reference, expected):
    metric = choose_metric(asked, own, [reference.split(), []])
    assert (metric.name, metric.spaces) == expected


@pytest.mark.parametrize("asked, own", [("cer", "per"), ("wer", "per"), ("per", "wer")])
def test_phonemes_are_not_counted_as_text_nor_text_as_phonemes(asked, own):
    with pytest.raises(UserError, match=f"metric={asked} counts"):
        choose_metric(asked, own, [["a"]])


@pytest.mark.parametrize("spaces", [True, False])
def test_characters_are_counted_as_jiwer_counts_them(spaces):
    source, metric = random.Random(0), Metric("cer", spaces)
    pairs = [[["".join(source.choices("abé한", k=source.randint(1, 4))) for _ in range(source.randint(1, 6))]
              for _ in range(2)] for _ in range(60)]  # fmt: skip
    score, beside = summarize_in(metric, [score_utterance(f"{n}", *pair, "s", 1.0) for n, pair in enumerate(pairs)], 50)
    lines = [[(" " if spaces else "").join(pair[side]) for pair in pairs] for side in (0, 1)]
    theirs = jiwer.process_characters(*lines)
    errors = theirs.substitutions + theirs.deletions + theirs.insertions
    assert score.error_rate == pytest.approx(theirs.cer) and score.reference_length == sum(map(len, lines[0]))
    assert score.substitutions + score.deletions + score.insertions == errors
    block = beside["character_error_rate"]
    assert (block["error_rate"], block["interval"]) == (score.error_rate, list(score.interval))
    assert block["spaces_counted"] == spaces and ("word_error_rate" in beside) == spaces
    if spaces:
        assert beside["word_error_rate"]["error_rate"] == pytest.approx(jiwer.wer(*lines))


def test_characters_are_those_in_nfc_of_the_reading_that_the_words_were_aligned_with(tmp_path):
    decomposed = score_utterance("a", ["cafe\u0301", "au"], ["café", "du"], "s", 2.0)
    (counted,) = Metric("cer").counted([decomposed])
    assert counted.reference == list("café au") and (counted.alignment.errors, counted.speaker) == (1, "s")
    stm = tmp_path / "reference.stm"
    stm.write_text("sw_1 A spk 0.0 1.0 he { is / has } not (uh) com- here\n")
    rules = ScoringRules.read(stm)
    for said, errors in (("he has not coming here", 0), ("he is not uh coming hear", 2)):
        (counted,) = Metric("cer").counted(rules.score([(name, said.split()) for name in rules.segments]))
        assert counted.alignment.errors == errors, counted


def test_two_utterances_of_one_name_are_refused():
    with pytest.raises(UserError, match="'twice'"):
        summarize([score_utterance("twice", ["x"], ["x"]), score_utterance("twice", ["y"], ["y"])])


def test_a_score_does_not_depend_on_the_order_of_the_utterances():
    utterances = random_utterances(60)
    shuffled = random.Random(1).sample(utterances, len(utterances))
    assert summarize(utterances) == summarize(shuffled)
    assert summarize(utterances).interval != summarize(utterances, seed=1).interval


def test_the_interval_holds_the_rate_and_narrows_with_more_utterances():
    few, many = summarize(random_utterances(20)), summarize(random_utterances(500))
    for score in (few, many):
        assert score.interval[0] < score.error_rate < score.interval[1]
    assert (many.interval[1] - many.interval[0]) < 0.5 * (few.interval[1] - few.interval[0])


def test_the_interval_covers_the_true_rate_about_as_often_as_it_says():
    chance, covered = random.Random(5), 0
    for trial in range(200):
        lengths = [chance.randint(10, 40) for _ in range(60)]
        errors = [sum(chance.random() < 0.1 for _ in range(length)) for length in lengths]
        low, high = bootstrap_interval(errors, lengths, resamples=500, seed=trial)
        covered += low <= 0.1 <= high
    # 95 % of 200 are 190 with a standard deviation of 3; bootstraps of 60 utterances are known to be a little short.
    assert 180 <= covered <= 199


def test_the_interval_agrees_with_the_normal_approximation():
    lengths, errors = [20] * 400, [2, 0, 4, 2] * 100
    low, high = bootstrap_interval(errors, lengths, resamples=4000)
    half = 1.96 * 2**0.5 / 400**0.5 / 20
    assert low == pytest.approx(0.1 - half, abs=0.001)
    assert high == pytest.approx(0.1 + half, abs=0.001)


def test_the_interval_of_one_utterance_is_its_rate_and_empty_draws_are_left_out():
    assert bootstrap_interval([1], [4]) == (0.25, 0.25)
    assert bootstrap_interval([1, 0], [4, 0]) == (0.25, 0.25)


def test_many_resamples_are_drawn_in_parts_that_fit_in_memory():
    low, high = bootstrap_interval([1, 3] * 20_000, [10] * 40_000, resamples=300)
    assert 0.195 < low < 0.2 < high < 0.205


@pytest.mark.parametrize("arguments", [([1], [0]), ([], []), ([1, 2], [3]), ([1], [3], 0), ([1], [3], 9, 0, 1.0)])
def test_an_interval_of_nothing_is_refused(arguments):
    with pytest.raises(ValueError):
        bootstrap_interval(*arguments)


def test_scores_json_has_the_promised_keys_and_is_strict(tmp_path):
    score = summarize(random_utterances(12))
    facts = dataclasses.replace(FACTS, more={"attention_settings": {"clusters": 100}}, peak_memory_bytes=None)
    paths = write_evaluation(tmp_path / "evaluation" / "test", score, facts)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    data = json.loads(paths["scores.json"].read_text(encoding="utf8"), parse_constant=refuse)
    assert list(data) == [*KEYS, "attention_settings"]
    assert data["error_rate"] == score.error_rate and data["interval"] == list(score.interval)
    assert data["utterances"] == 12 and data["peak_memory_bytes"] is None
    assert sorted(path.name for path in paths.values()) == sorted(os.listdir(tmp_path / "evaluation" / "test"))


@pytest.mark.parametrize(
    "facts",
    [
        dataclasses.replace(FACTS, forward_seconds=float("nan")),
        dataclasses.replace(FACTS, more={"loss": float("inf")}),
        dataclasses.replace(FACTS, more={"error_rate": 0.0}),
        dataclasses.replace(FACTS, more={"device": object()}),
    ],
)
def test_facts_that_json_cannot_hold_leave_nothing_behind(tmp_path, facts):
    with pytest.raises((ValueError, TypeError)):
        write_evaluation(tmp_path / "evaluation", summarize(random_utterances(3)), facts)
    assert os.listdir(tmp_path) == []


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="ter"):
        dataclasses.replace(FACTS, metric="ter")


def test_writing_again_replaces_the_own_files_only(tmp_path):
    folder = tmp_path / "evaluation"
    write_evaluation(folder, summarize(random_utterances(5, seed=1)), FACTS)
    (folder / "notes.txt").write_text("mine")
    second = summarize(random_utterances(5, seed=2))
    write_evaluation(folder, second, FACTS)
    assert json.loads((folder / "scores.json").read_text())["error_rate"] == second.error_rate
    assert (folder / "notes.txt").read_text() == "mine"
    assert os.listdir(tmp_path) == ["evaluation"]


def test_a_write_that_fails_leaves_an_older_evaluation_as_it_was_and_nothing_beside_it(tmp_path, monkeypatch):
    folder = tmp_path / "evaluation"
    write_evaluation(folder, summarize(random_utterances(5, seed=1)), FACTS)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_text = Path.write_text

    def full_disk(path, *arguments, **options):
        if path.name == "scores.md":
            raise OSError(28, "No space left on device")
        return write_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(UserError, match="No space left on device"):
        write_evaluation(folder, summarize(random_utterances(5, seed=2)), FACTS)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert os.listdir(tmp_path) == ["evaluation"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "file" / "evaluation"))):
        write_evaluation(tmp_path / "file" / "evaluation", summarize(random_utterances(2)), FACTS)


def test_a_new_folder_has_the_permissions_of_any_other(tmp_path):
    write_evaluation(tmp_path / "evaluation", summarize(random_utterances(2)), FACTS)
    (tmp_path / "other").mkdir()
    assert stat.S_IMODE((tmp_path / "evaluation").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def parse_trn(path) -> dict[str, list[str]]:
    utterances = {}
    for line in path.read_text(encoding="utf8").splitlines():
        words, name = re.fullmatch(r"(.*?) ?\(([^()\s]+-[^()\s]+)\)", line).groups()
        assert name not in utterances
        utterances[name] = words.split()
    return utterances


def test_the_trn_files_read_back_as_the_utterances(tmp_path):
    utterances = [*random_utterances(9), score_utterance("empty", ["x"], [], "voice1")]
    score = summarize(utterances)
    paths, names = write_evaluation(tmp_path / "e", score, FACTS), trn_names(score.utterances)
    assert parse_trn(paths["ref.trn"]) == {names[u.utterance]: u.reference for u in utterances}
    assert parse_trn(paths["hyp.trn"]) == {names[u.utterance]: u.hypothesis for u in utterances}
    assert names["utt-000"] == "voice0-utt-000"


def test_names_and_tokens_in_trn_are_safe_and_names_stay_apart():
    odd = ["a b", "a_b", "A_B", "(x)", "x\ny", "", "ü"]
    names = trn_names([score_utterance(name, ["x"], ["x"], speaker="en-us (m1)_2") for name in odd])
    assert len({name.lower() for name in names.values()}) == len(odd)
    assert all(re.fullmatch(r"en\.us\.m1\.2-[^\s(){}]+", name) for name in names.values())
    assert trn_names([score_utterance("u", [], [])]) == {"u": "unknown-u"}
    assert [trn_token(token) for token in ("a b", "(x)", "{", "", ";;x", "@", "x@;", "don't")] == [
        *("a_b", "[x]", "[", "_", "::x", "[@]", "x@;", "don't")
    ]


def sclite_counts(folder) -> dict[str, tuple[int, int, int, int]]:
    """Runs sclite on ref.trn and hyp.trn: (correct, substitutions, deletions, insertions) by lower-case name."""
    command = [SCLITE, "-r", "ref.trn", "trn", "-h", "hyp.trn", "trn", "-i", "spu_id", "-s", "-e", "utf-8"]
    done = subprocess.run([*command, "-o", "pralign", "stdout"], cwd=folder, capture_output=True, text=True, timeout=60)
    found = re.findall(r"^id: \((.*)\)\nScores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", done.stdout, re.MULTILINE)
    return {name: tuple(map(int, counts)) for name, *counts in found}


@pytest.mark.run
@needs_sclite
def test_sclite_reads_the_trn_files_and_counts_the_same_errors(tmp_path):
    score = summarize(random_utterances(40, vocabulary=" ".join(f"word{n}" for n in range(300))))
    write_evaluation(tmp_path / "e", score, FACTS)
    counts, names = sclite_counts(tmp_path / "e"), trn_names(score.utterances)
    assert len(counts) == 40
    for utterance in score.utterances:
        correct, substitutions, deletions, insertions = counts[names[utterance.utterance].lower()]
        assert correct + substitutions + deletions == len(utterance.reference)
        assert substitutions + deletions + insertions >= utterance.alignment.errors
    assert sum(sum(c[1:]) for c in counts.values()) == sum(u.alignment.errors for u in score.utterances)


@pytest.mark.run
@needs_sclite
def test_sclite_takes_every_odd_token_and_name_for_one_word_of_one_utterance(tmp_path):
    odd = [*"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "", "a b", "(u-1)", ";;", "{a / b}", "{x", "é", "<x>", "x{", "--"]
    utterances = [score_utterance(f"u_{n} ({t})", [t, "x"], [t], f"a-b_{n % 2}") for n, t in enumerate(odd)]
    write_evaluation(tmp_path / "e", summarize(utterances), FACTS)
    assert list(sclite_counts(tmp_path / "e").values()) == [(1, 0, 1, 0)] * len(odd)


def test_alignments_stand_in_columns_and_long_ones_go_on_in_blocks(tmp_path):
    utterances = [
        score_utterance("u1", "the cat sat 東京 now".split(), "the bat sat 東 right now ok".split(), "s"),
        score_utterance("u2", [], [], "s"),
        random_utterances(1)[0],
        score_utterance("u3", [f"token{n}" for n in range(60)], [f"token{n}" for n in range(0, 60, 2)], "s"),
    ]
    text = write_evaluation(tmp_path / "e", summarize(utterances), FACTS)["alignments.txt"].read_text(encoding="utf8")
    assert "id: (s-u1)\nScores: (#C #S #D #I) 3 2 0 2\n" in text
    assert "id: (s-u2)\nScores: (#C #S #D #I) 0 0 0 0\nREF:\nHYP:\nEVAL:\n" in text
    assert (columns_of("東京"), columns_of("e\u0301"), columns_of("ab")) == (4, 1, 2)
    blocks = re.findall(r"^(REF: ?.*)\n(HYP: ?.*)\n(EVAL:.*)$", text, re.MULTILINE)
    assert len(blocks) > 6
    for block in blocks:
        assert max(map(columns_of, block)) <= WIDTH
        reference, hypothesis, marks = (starts_of(line) for line in block)
        assert list(reference) == list(hypothesis)
        for column, (wanted, got) in enumerate(zip(reference.values(), hypothesis.values())):
            start = list(reference)[column]
            expected = "I" if set(wanted) == {"*"} else "D" if set(got) == {"*"} else "S" if wanted != got else None
            assert marks.get(start) == expected


def starts_of(line: str) -> dict[int, str]:
    """The words behind a line's title by the terminal column in which they start."""
    return {columns_of(line[: word.start()]): word[0] for word in list(re.finditer(r"\S+", line))[1:]}


def test_the_tables_hold_every_utterance_and_every_error(tmp_path):
    score = summarize(
        [*random_utterances(15), score_utterance("tab\tname", ["a\tb", "c\\d"], ["a\nb"], "line\nbreak", 0.25)]
    )
    paths = write_evaluation(tmp_path / "e", score, FACTS)
    rows = read_tabbed(paths["hypotheses.tsv"])
    assert len(rows) == 16
    by_name = {row["utterance"]: row for row in rows}
    assert by_name["tab\\tname"]["reference"] == "a\\tb c\\\\d" and by_name["tab\\tname"]["duration"] == "0.250"
    assert sum(int(row["deletions"]) for row in rows) == score.deletions
    confusions = read_tabbed(paths["confusions.tsv"])
    by_kind = {
        kind: sum(int(row["count"]) for row in confusions if row["kind"] == kind)
        for kind in ("substitution", "deletion", "insertion")
    }
    assert list(by_kind.values()) == [score.substitutions, score.deletions, score.insertions]
    counts = [int(row["count"]) for row in confusions]
    assert counts == sorted(counts, reverse=True)


def read_tabbed(path) -> list[dict[str, str]]:
    with open(path, encoding="utf8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True))


def test_the_markdown_says_the_rate_the_interval_and_each_speaker(tmp_path):
    score = summarize(
        [score_utterance("a", ["x"] * 8, ["x"] * 7 + ["y"], "s|1"), score_utterance("b", [], ["y"], "s2")]
    )
    facts = dataclasses.replace(FACTS, forward_seconds=None)
    text = write_evaluation(tmp_path / "e", score, facts)["scores.md"].read_text(encoding="utf8")
    assert "| Phoneme error rate | **25.0 %** |" in text
    assert "| Forward pass | – |" in text
    assert "| s\\|1 | 1 | 8 | 1 | 0 | 0 | 12.5 % |" in text
    assert "| s2 | 1 | 0 | 0 | 0 | 1 | – |" in text
    assert "| Checkpoint | runs/a \\| b |" in text
    assert "| insertion | – | y | 1 |" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1

"""Comparing two evaluations: one with itself, a real difference, a chance difference, and refusals."""

import csv
import html as html_module
import importlib.util
import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from asr.errors import UserError
from asr.evaluation.report.comparison import html, markdown, verdict, write_comparison
from asr.scoring import EvaluationFacts, score_utterance, summarize, write_evaluation
from asr.scoring.comparison import bootstrap_differences, compare
from asr.scoring.metric import Metric, recounted, summarize_in
from asr.scoring.reading import find_evaluation, read_evaluation

LENGTH = 20


def load_script(name="compare"):
    path = Path(__file__).resolve().parents[2] / "scripts" / f"{name}.py"
    specification = importlib.util.spec_from_file_location(f"{name}_script", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def write(folder, errors, metric="per", speakers=12, split="test", trained_with="full", words="reference", more=()):
    """An evaluation with this many substitutions in each utterance of 20 tokens, with speakers taking turns."""
    utterances = [
        score_utterance(
            f"utterance {number:03}", [f"{words}{token}" for token in range(LENGTH)],
            [f"wrong{token}" if token < count else f"{words}{token}" for token in range(LENGTH)],
            f"speaker {number % speakers}" if speakers else "", 2.5,
        )
        for number, count in enumerate(errors)
    ]  # fmt: skip
    facts = EvaluationFacts(
        corpus="c", split=split, units="phonemes", attention="full", metric=metric, audio_seconds=1.0, forward_seconds=1.0,
        peak_memory_bytes=None, normalizer="words", checkpoint="x", command="y", more={"trained_with": trained_with},
    )  # fmt: skip
    write_evaluation(folder, summarize([*utterances, *more], resamples=20), facts)
    return read_evaluation(folder)


def errors_of(mean: float, seed: int, number: int = 120):
    return np.random.default_rng(seed).binomial(LENGTH, mean, number).tolist()


def test_an_evaluation_compared_with_itself_is_no_different(tmp_path):
    a = write(tmp_path / "a", errors_of(0.1, 0))
    for unit in ("speakers", "utterances"):
        same = compare(a, a, unit)
        assert (same.difference, same.interval, same.p_value, same.improvement) == (0.0, (0.0, 0.0), 1.0, 0.5)
        assert (same.wins, same.losses, same.ties, same.changes) == (0, 0, 120, [])
        assert not same.significant and "No difference beyond chance" in verdict(same)


def test_a_difference_that_is_there_is_found_in_its_direction(tmp_path):
    errors = errors_of(0.2, 0)
    a = write(tmp_path / "a", errors)
    b = write(tmp_path / "b", [max(0, count - 1) for count in errors])
    better, worse = compare(a, b), compare(b, a)
    assert better.difference == pytest.approx(-sum(count > 0 for count in errors) / (LENGTH * 120))
    assert worse.difference == -better.difference
    assert better.significant and better.p_value < 0.001 and better.improvement > 0.999 and worse.improvement < 0.001
    assert better.interval[0] < better.difference < better.interval[1] < 0
    assert "b makes fewer errors" in verdict(better) and "b makes more errors" in verdict(worse)
    assert (better.wins, better.losses) == (worse.losses, worse.wins) == (sum(count > 0 for count in errors), 0)


def test_pairing_finds_what_two_separate_intervals_would_not(tmp_path):
    errors = [0, 12] * 60
    a = write(tmp_path / "a", errors)
    b = write(tmp_path / "b", [count + 1 for count in errors])
    low, high = summarize([score_utterance(f"{n}", ["x"] * LENGTH, ["y"] * c + ["x"] * (LENGTH - c)) for n, c in
                           enumerate(errors)], 500).interval  # fmt: skip
    assert low < compare(a, b).rate_b < high
    assert compare(a, b).significant and compare(a, b).interval == pytest.approx((0.05, 0.05))


def test_without_a_difference_the_interval_covers_zero_about_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        counts = np.stack([*generator.binomial(LENGTH, 0.15, (2, 80)), np.full(80, LENGTH)], axis=1)
        low, high = np.quantile(bootstrap_differences(counts, 500, seed), [0.025, 0.975])
        covered += low <= 0 <= high
    assert 180 <= covered <= 200


def test_speakers_are_drawn_whole_where_there_are_enough_of_them(tmp_path):
    # b is worse for one of twelve speakers only: chance by speakers, but not by utterances
    worse = [3 if number % 12 == 0 else 0 for number in range(240)]
    a, b = write(tmp_path / "a", [0] * 240), write(tmp_path / "b", worse)
    chosen = compare(a, b)
    assert (chosen.unit, chosen.units) == ("speakers", 12) and not chosen.significant
    asked = compare(a, b, "utterances")
    assert (asked.unit, asked.units) == ("utterances", 240) and asked.significant


@pytest.mark.parametrize("speakers", [0, 3])
def test_utterances_are_drawn_where_speakers_are_few_or_unknown(tmp_path, speakers):
    a = write(tmp_path / "a", errors_of(0.1, 0), speakers=speakers)
    chosen = compare(a, a)
    assert chosen.unit == "utterances" and ("too few" in chosen.reason or "no speaker" in chosen.reason)
    if not speakers:
        with pytest.raises(UserError, match="unit=utterances"):
            compare(a, a, "speakers")


def test_other_utterances_other_references_and_other_measures_are_refused(tmp_path):
    a = write(tmp_path / "a", [1] * 20)
    with pytest.raises(UserError, match=r"3 of the 20 utterances .* the first: utterance 017"):
        compare(a, write(tmp_path / "fewer", [1] * 17))
    with pytest.raises(UserError, match=r"1 of the 21 utterances .* utterance 020"):
        compare(a, write(tmp_path / "more", [1] * 21))
    with pytest.raises(UserError, match=r"references of 20 of the 20 utterances differ .* the first: utterance 000"):
        compare(a, write(tmp_path / "other", [1] * 20, words="other"))
    with pytest.raises(UserError, match="per and .* wer"):
        compare(a, write(tmp_path / "words", [1] * 20, metric="wer"))


def texts(folder, pairs, metric="wer", spaces=True):
    """An evaluation of (reference, hypothesis) texts, scored in words or characters."""
    chosen = Metric(metric, spaces)
    utterances = [score_utterance(f"{n}", a.split(), b.split(), "s", 1.0) for n, (a, b) in enumerate(pairs)]
    score, beside = summarize_in(chosen, utterances, 20)
    facts = EvaluationFacts("c", "test", "characters", "full", metric, 1.0, 1.0, None, "words", "x", "y", beside)
    write_evaluation(folder, score, facts)
    return read_evaluation(folder)


PAIRS = [("a cat sat", "a bat sad"), ("the end", "the and"), ("so be it", "so be it")]
WORSE = [("a cat sat", "a dog sat"), ("the end", "the end"), ("so be it", "be it")]


def test_texts_are_counted_again_in_characters_or_words(tmp_path):
    words, worse = texts(tmp_path / "words", PAIRS), texts(tmp_path / "worse", WORSE)
    characters = texts(tmp_path / "characters", PAIRS, "cer")
    assert (words.utterances["0"].errors, characters.utterances["0"].errors) == (2, 2)
    assert (words.utterances["0"].reference_length, characters.utterances["0"].reference_length) == (3, 9)
    assert recounted(words, "cer").utterances == characters.utterances
    assert recounted(characters, "wer").utterances == words.utterances
    assert recounted(words, "auto") is words and recounted(words, "wer") is words
    # fewer words are wrong in b, and more characters
    assert compare(words, worse).difference < 0
    assert compare(*(recounted(one, "cer") for one in (words, worse))).difference == pytest.approx((6 - 3) / 24)
    result = compare(characters, characters)
    page = html(result, characters, recounted(worse, "cer"), "x", 5)
    assert "WER of a, of b" not in page and "CER of a" in page
    assert "<td>CER of a, of b</td><td>12.5 %, 25.0 %</td>" in html(compare(words, worse), words, worse, "x", 5)


@pytest.mark.parametrize("spaces", [True, False])
def test_characters_written_to_a_table_are_read_again_and_aligned_in_the_page(tmp_path, spaces):
    a = texts(tmp_path / "a", [("我 喜欢 你", "我 喜 你"), ("好 天", "好 天")], "cer", spaces)
    assert a.utterances["0"].reference == ("我 喜欢 你" if spaces else "我喜欢你") and a.utterances["0"].errors == 1
    b = texts(tmp_path / "b", [("我 喜欢 你", "我 喜欢 你"), ("好 天", "好 天")], "cer", spaces)
    page = html(compare(a, b, "utterances"), a, b, "x", 5)
    assert '<span class="D"><s>欢</s>' in page
    if not spaces:
        with pytest.raises(UserError, match="cannot be scored again with metric=wer: its texts have no spaces"):
            recounted(a, "wer")


def test_the_table_of_a_cross_evaluation_holds_characters_beside_words(tmp_path):
    scores = texts(tmp_path / "a", PAIRS).scores | {"trained_with": "full"}
    old = {key: value for key, value in scores.items() if key != "character_error_rate"}
    table = load_script("cross_evaluate").Table({"a": "full", "b": "lsh"}, tmp_path / "table")
    table.put("full", "full", scores), table.put("full", "lsh", old)
    table.write()
    assert "WER in percent (CER, forward time, peak memory)" in table.markdown()
    assert "| full | **37.50** (CER 12.50, 1.0 s) | **37.50** (1.0 s) |" in table.markdown()
    rows = list(csv.DictReader((tmp_path / "table/table.csv").read_text().splitlines()))
    assert [row["cer"] for row in rows] == ["0.125", ""] and [row["error_rate"] for row in rows] == ["0.375"] * 2


def test_what_cannot_be_counted_again_is_refused(tmp_path):
    phonemes, words = write(tmp_path / "phonemes", [1] * 3), texts(tmp_path / "words", PAIRS)
    with pytest.raises(UserError, match="metric=cer: it holds phonemes"):
        recounted(phonemes, "cer")
    with pytest.raises(UserError, match="metric=per: it holds words"):
        recounted(words, "per")
    with pytest.raises(UserError, match="metric='ter' is not one of auto, wer and cer"):
        recounted(words, "ter")
    words.scores["scored_by"] = "rules"
    with pytest.raises(UserError, match="have alternatives"):
        recounted(words, "cer")


def test_an_evaluation_from_before_there_were_characters_is_compared(tmp_path):
    old, new = texts(tmp_path / "old", PAIRS), texts(tmp_path / "new", WORSE)
    del old.scores["character_error_rate"]
    assert "CER" not in html(compare(old, new), old, new, "x", 5)
    assert compare(recounted(old, "cer"), recounted(new, "cer")).rate_a == 3 / 24


def test_an_evaluation_is_read_as_it_was_written_odd_signs_and_empty_sides_too(tmp_path):
    odd = score_utterance("a\tb\\n", ["tab\tand\nline", "x"], [], "who\\t", 1.5)
    empty = score_utterance("nothing said", [], ["x"], "", 0.25)
    read = write(tmp_path / "a", [2, 0], more=[odd, empty]).utterances
    assert read["a\tb\\n"].reference == "tab\tand\nline x" and read["a\tb\\n"].speaker == "who\\t"
    assert (read["a\tb\\n"].errors, read["nothing said"].errors) == (2, 1)
    assert (read["nothing said"].duration, read["utterance 000"].errors) == (0.25, 2)


def test_evaluations_whose_letters_are_composed_and_decomposed_have_the_same_references(tmp_path):
    evaluations = [write(tmp_path / name, [1, 0], words="é") for name in "ab"]
    table = tmp_path / "b" / "hypotheses.tsv"
    decomposed = unicodedata.normalize("NFD", table.read_text(encoding="utf8"))
    assert decomposed != table.read_text(encoding="utf8")
    table.write_bytes(b"\xef\xbb\xbf" + decomposed.encode())
    evaluations[1] = read_evaluation(tmp_path / "b")
    assert compare(*evaluations).difference == 0


def damage(text: str, how: str) -> str:
    lines = text.split("\n")
    return {
        "cut short": text[: len(text) // 2],
        "a line missing": "\n".join(lines[:1] + lines[2:]),
        "a line twice": "\n".join(lines[:2] + lines[1:]),
        "no number": text.replace("\t20\t", "\tmany\t", 1),
        "below zero": text.replace("\t2\t", "\t-2\t", 1),
        "another table": "file\ttext\na\tb\n",
        "empty": "",
    }[how]


@pytest.mark.parametrize(
    "how", ["cut short", "a line missing", "a line twice", "no number", "below zero", "another table", "empty"]
)
def test_a_damaged_table_is_named(tmp_path, how):
    write(tmp_path / "a", [2] * 6)
    table = tmp_path / "a" / "hypotheses.tsv"
    table.write_text(damage(table.read_text(), how))
    with pytest.raises(UserError, match="hypotheses.tsv"):
        read_evaluation(tmp_path / "a")


def test_a_run_stands_for_its_own_attention_on_the_test_split(tmp_path):
    write(tmp_path / "run/evaluation/test/full", [1] * 4)
    write(tmp_path / "run/evaluation/dev/full", [1] * 4, split="dev")
    write(tmp_path / "run/evaluation/test/clustered-100", [1] * 4, trained_with="other")
    assert find_evaluation(tmp_path / "run") == tmp_path / "run/evaluation/test/full"
    assert find_evaluation(tmp_path / "run", "dev") == tmp_path / "run/evaluation/dev/full"
    named = tmp_path / "run/evaluation/test/clustered-100"
    assert find_evaluation(named) == named
    with pytest.raises(UserError, match=r"no evaluation of the train split .*dev/full"):
        find_evaluation(tmp_path / "run", "train")
    with pytest.raises(UserError, match="There is no folder"):
        find_evaluation(tmp_path / "nowhere")
    with pytest.raises(UserError, match="neither an evaluation's folder nor a run"):
        find_evaluation(tmp_path)


def test_the_tables_name_both_what_was_drawn_and_what_changed_and_escape_it(tmp_path):
    a = write(tmp_path / "a", errors_of(0.2, 0), words="<b>|")
    b = write(tmp_path / "b", errors_of(0.1, 1), words="<b>|")
    result = compare(a, b)
    markdown_file, html_file = write_comparison(tmp_path / "new" / "out", result, a, b, "python & co", 5)
    text, page = markdown_file.read_text(), html_file.read_text()
    for expected in (
        str(a.folder),
        str(b.folder),
        "12 speakers, 10000 times",
        "Probability of improvement",
        "python & co",
    ):
        assert expected in text and expected in html_module.unescape(page)
    assert text.count("| utterance ") == 5 and page.count("<h3>") == 5
    assert "<b>|0" not in page and "&lt;b&gt;|0" in page
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == ["comparison.html", "comparison.md"]
    assert markdown(result, a, b, "x", 0).count("##") == 0 and "None changed." in html(result, a, b, "x", 0)


def test_the_program_prints_writes_only_when_asked_and_refuses_in_a_sentence(tmp_path, capsys, monkeypatch):
    script = load_script()
    for name, seed in (("a", 0), ("b", 1)):
        write(tmp_path / name, errors_of(0.1, seed))
    monkeypatch.chdir(tmp_path)
    assert script.main(["a", "b", "unit=utterances", "resamples=200", "changed=2"]) == 0
    assert "120 utterances, 200 times" in capsys.readouterr().out
    texts(tmp_path / "a/texts", PAIRS), texts(tmp_path / "b/texts", WORSE)
    assert script.main(["a/texts", "b/texts", "metric=cer"]) == 0
    assert "CER of b" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert script.main(["a", "b", "output=out"]) == 0
    assert (tmp_path / "out" / "comparison.html").is_file()
    for arguments, said in (
        (["a"], "Two folders"), (["a", "b", "c"], "Two folders"), (["a", "b", "units=speakers"], "did you mean unit"),
        (["a", "b", "unit=files"], "unit='files' is not"), (["a", "b", "resamples=1"], "resamples takes"),
        (["a", "x"], "no folder x"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            script.main(arguments)
        assert ended.value.code == 2 and said in capsys.readouterr().err
    scores = json.loads((tmp_path / "b" / "scores.json").read_text())
    (tmp_path / "b" / "scores.json").write_text(json.dumps({**scores, "insertions": 7}))
    with pytest.raises(SystemExit):
        script.main(["a", "b"])
    assert "do not belong together" in capsys.readouterr().err


@pytest.mark.run
def test_the_program_needs_no_torch(monkeypatch, tmp_path):
    import subprocess

    path = Path(__file__).resolve().parents[2] / "scripts" / "compare.py"
    write(tmp_path / "a", errors_of(0.1, 0))
    check = (
        f"import sys, runpy; sys.argv[1:] = ['a', 'a', 'output=out']\ntry: runpy.run_path({str(path)!r}, run_name='__main__')\n"
        "except SystemExit: pass\nassert not {'torch', 'lhotse', 'matplotlib'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", check], cwd=tmp_path, check=True, capture_output=True)

"""N-gram models: estimated like Chen and Goodman and KenLM, pruned, written, read from anybody's ARPA, queried."""

import collections
import gzip
import importlib.util
import math
import random
import shutil
import subprocess

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import ArgumentError, UserError
from asr.text.ngrams import TextFile, estimate, prune, read_arpa, read_model, write_arpa
from asr.text.ngrams.discounts import Discounts
from asr.text.ngrams.kenlm_model import BINARY_MAGIC, KenlmModel

kenlm_is_there = pytest.mark.skipif(
    importlib.util.find_spec("kenlm") is None, reason="the module kenlm is not installed (pip install kenlm)"
)
lmplz_is_there = pytest.mark.skipif(shutil.which("lmplz") is None, reason="KenLM's lmplz is not on the path")
TEXTS = st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=7), min_size=1, max_size=25)


def made_up_text(sentences=400):
    """A text with the counts of counts of a real language. KenLM's numbers below are for this text."""
    rng, out = random.Random(6), []
    weights = [1 / (number + 1) for number in range(900)]
    for _ in range(sentences):
        at, sentence = rng.choices(range(900), weights)[0], []
        for _ in range(1 + int(rng.random() * 9)):
            sentence.append(f"w{at}")
            at = (at * 7 + 3) % 900 if rng.random() < 0.4 else rng.choices(range(900), weights)[0]
        out.append(sentence)
    return out


def total(model, context):
    """The sum of the probabilities of all words but `<s>`."""
    return float((10 ** numpy.delete(model.distribution(context), model.begin)).sum())


def ngrams_of(model):
    """{words: (log10, back-off weight)} of the whole model."""
    return {
        tuple(model.words[number] for number in numbers): (log10, backoff)
        for order in range(1, model.order + 1)
        for block in model.ngrams(order)
        for numbers, log10, backoff in zip(block[0], block[1].tolist(), block[2].tolist())
    }


def backed_off(ngrams, words):
    """log10 P(words[-1] | words[:-1]) by the definition of a back-off model, from {words: (log10, back-off weight)}."""
    words = tuple(words)
    if words in ngrams:
        return ngrams[words][0]
    return ngrams.get(words[:-1], (0, 0.0))[1] + backed_off(ngrams, words[1:])


class PlainKneserNey:
    """Chen and Goodman's formulas one word at a time, with KenLM's rules for what they leave open."""

    def __init__(self, sentences, order, cutoffs):
        self.order = order
        self.raw = [collections.Counter() for _ in range(order)]
        for sentence in sentences:
            marked = ["<s>", *sentence, "</s>"]
            for length in range(1, order + 1):
                for end in range(length, len(marked) + 1):
                    self.raw[length - 1][tuple(marked[end - length : end])] += 1
        del self.raw[0]["<s>",]
        self.counts = [collections.Counter() for _ in range(order)]
        for at in range(order):
            for ngram, count in self.raw[at].items():
                if at == order - 1 or ngram[0] == "<s>":
                    self.counts[at][ngram] = count
                else:
                    self.counts[at][ngram] = len({longer[0] for longer in self.raw[at + 1] if longer[1:] == ngram})
        self.discounts = [self.discount(counts) for counts in self.counts]
        kept_words = {w for (w,), count in self.raw[0].items() if count > cutoffs[0]} | {"</s>", "<unk>"}
        self.vocabulary, self.cutoffs = sorted(kept_words), cutoffs

    @staticmethod
    def discount(counts):
        n1, n2, n3, n4 = (sum(count == value for count in counts.values()) for value in (1, 2, 3, 4))
        if n1 and n2 and n3:
            y = n1 / (n1 + 2 * n2)
            found = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            if all(0 < each <= most for each, most in zip(found, (1, 2, 3))):
                return [0, *found]
        return [0, 0.5, 1.0, 1.5]

    def probability(self, ngram):
        at = len(ngram) - 1
        if at < 0:
            return 1 / len(self.vocabulary)
        counts, discount = self.counts[at], self.discounts[at]
        siblings = {other: count for other, count in counts.items() if other[:-1] == ngram[:-1]}
        everything = sum(siblings.values())
        if not everything:
            return self.probability(ngram[1:])
        own, freed = 0.0, 0.0
        for other, count in siblings.items():
            kept = self.raw[at][other] > self.cutoffs[at] or other == ("</s>",)
            taken = discount[min(count, 3)] if kept else count
            freed += taken
            own += (count - taken) * (other == ngram)
        return own / everything + freed / everything * self.probability(ngram[1:])


# ----- estimating


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 4), st.sampled_from([(0,), (0, 1), (1,)]))
def test_every_probability_is_that_of_the_plain_formulas(sentences, order, cutoffs):
    model = estimate(sentences, order, cutoffs[:order])
    # up to the order that the text has
    all_cutoffs = [*cutoffs, *[cutoffs[-1]] * 4]
    plain = PlainKneserNey(sentences, min(order, max(map(len, sentences)) + 2), all_cutoffs)
    rng = random.Random(0)
    for _ in range(15):
        context = [rng.choice([*model.vocabulary, "<unk>"]) for _ in range(rng.randrange(3))]
        context = ["<s>", *context] if rng.random() < 0.4 else context
        word = rng.choice([*model.vocabulary, "</s>", "<unk>"])
        expected = plain.probability(tuple([*context, word][-plain.order :]))
        assert 10 ** model.log10_probability(word, context) == pytest.approx(expected, rel=2e-6)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 5), st.sampled_from([(0,), (0, 0, 1), (1, 2)]), st.sampled_from([0, 1e-4, 1e-2, 0.5]))
def test_the_probabilities_after_any_history_sum_to_one(sentences, order, cutoffs, threshold):
    model = estimate(sentences, order, cutoffs[:order], threshold)
    rng = random.Random(1)
    for _ in range(10):
        history = [rng.choice([*model.words, "nowhere"]) for _ in range(rng.randrange(order + 2))]
        assert total(model, history) == pytest.approx(1, abs=1e-5)


def test_the_probabilities_after_the_histories_of_a_larger_text_sum_to_one():
    text = made_up_text()
    for model in (
        estimate(text, 4),
        estimate(text, 3, (0, 1)),
        estimate(text, 4, (), 1e-5),
        prune(estimate(text), 1e-5),
    ):
        for sentence in text[::20]:
            for end in range(len(sentence)):
                assert total(model, ["<s>", *sentence[:end]]) == pytest.approx(1, abs=1e-5)


# What lmplz of KenLM 0.3.0 (-o 3, and with --prune 0 1 2) and its `query` say about the made-up text.
KENLM_DISCOUNTS = [(0.539543, 1.43163, 2.39008), (0.850883, 1.17151, 2.08013), (0.91088, 1.18376, 2.52476)]
KENLM = {
    (): (
        [543, 1501, 1696],
        11.894578,
        {
            "w0": (-1.2333031, -0.38958624), "w5": (-1.8013438, -0.27515867), "</s>": (-0.88921577, 0), "<unk>": (-3.1326914, 0),
            "<s> w0": (-0.8065567, -0.4275181), "w0 w3": (-0.5792554, -0.43600628), "w3 w24": (-0.7934058, -0.2360774),
            "w0 </s>": (-0.6699897, 0), "<s> w0 w3": (-0.1967333, 0), "w0 w3 w24": (-0.457446, 0),
        },
    ),
    (0, 1, 2): (
        [543, 245, 45],
        55.260427,
        {
            "w0": (-1.2333031, -0.33998045), "w5": (-1.8013438, -0.23627537), "<s> w0": (-0.7988677, -0.3431695),
            "w0 w3": (-0.5779183, -0.36318988), "w3 w24": (-0.792979, -0.18933395), "w0 </s>": (-0.65724385, 0),
            "<s> w0 w3": (-0.18230614, 0), "w0 w3 w24": (-0.44416353, 0),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("cutoffs", KENLM)
def test_the_model_is_the_one_that_kenlm_makes(cutoffs):
    text = made_up_text()
    model = estimate(text, 3, cutoffs)
    sizes, perplexity, expected = KENLM[cutoffs]
    assert [len(table) for table in model.tables] == sizes and model.counted == (543, 1501, 1696)
    for discounts, theirs in zip(model.discounts, KENLM_DISCOUNTS):
        assert discounts.estimated and discounts.amounts == pytest.approx(theirs, rel=1e-5)
    ours = ngrams_of(model)
    for words, (log10, backoff) in expected.items():
        assert ours[tuple(words.split())] == pytest.approx((log10, backoff), abs=2e-6)
    found = model.perplexity(text[::7])
    assert (found.tokens, found.unknown) == (337, 0)
    assert found.with_unknown == found.without_unknown == pytest.approx(perplexity, rel=1e-6)


@pytest.mark.run
@lmplz_is_there
@pytest.mark.parametrize("order, cutoffs", [(1, (0,)), (2, (0, 1)), (4, (0, 0, 1))])
def test_every_ngram_is_the_one_that_the_installed_lmplz_makes(tmp_path, order, cutoffs):
    text = made_up_text()
    (tmp_path / "text").write_text("".join(" ".join(sentence) + "\n" for sentence in text))
    command = [
        "lmplz",
        "-o",
        order,
        "-S",
        "100M",
        "-T",
        tmp_path,
        "--text",
        tmp_path / "text",
        "--arpa",
        tmp_path / "lm.arpa",
    ]
    command += ["--discount_fallback", "--prune", *cutoffs]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    theirs, ours = ngrams_of(read_model(tmp_path / "lm.arpa")), ngrams_of(estimate(text, order, cutoffs))
    # KenLM writes 0 for the probability of <s>, which is never used
    theirs["<s>",] = (-99.0, theirs["<s>",][1])
    assert theirs.keys() == ours.keys()
    assert all(ours[ngram] == pytest.approx(theirs[ngram], abs=2e-6) for ngram in theirs)


@kenlm_is_there
@pytest.mark.parametrize("order, threshold", [(2, 0.0), (3, 0.0), (4, 1e-5)])
def test_kenlm_reads_our_file_and_scores_every_sentence_the_same(tmp_path, order, threshold):
    import kenlm

    text = made_up_text()
    model = estimate(text[:200], order, (), threshold)
    write_arpa(model, tmp_path / "lm.arpa")
    theirs, read_by_them = kenlm.Model(str(tmp_path / "lm.arpa")), KenlmModel(tmp_path / "lm.arpa")
    for sentence in [*text[180:260], ["never", "w0", "heard"], ["<unk>"]]:
        expected = theirs.score(" ".join(sentence), bos=True, eos=True)
        assert model.log10_probability([*sentence, "</s>"], ["<s>"]) == pytest.approx(expected, abs=1e-4)
        assert read_by_them.log10_probability([*sentence, "</s>"], ["<s>"]) == pytest.approx(expected, abs=1e-4)
        assert read_by_them.log10_probability(sentence[-1], sentence[:-1]) == pytest.approx(
            model.log10_probability(sentence[-1], sentence[:-1]), abs=1e-4
        )
    ours, others = model.perplexity(text), read_by_them.perplexity(text)
    assert (ours.sentences, ours.words, ours.unknown, ours.hits) == (
        others.sentences,
        others.words,
        others.unknown,
        others.hits,
    )
    assert ours.with_unknown == pytest.approx(others.with_unknown, rel=1e-4)
    assert ours.without_unknown == pytest.approx(others.without_unknown, rel=1e-4)
    assert read_by_them.order == order and "w0" in read_by_them and "never" not in read_by_them


def test_counts_that_allow_no_estimate_get_fixed_discounts():
    model = estimate([["a"]], 3)
    assert [discounts.amounts for discounts in model.discounts] == [(0.5, 1.0, 1.5)] * 3
    assert not any(discounts.estimated for discounts in model.discounts)
    # all discounts exist, but that of 2 would be below zero: 2 - 3·(4/(4+2·1))·10/1
    assert not Discounts.of(numpy.array([1] * 4 + [2] + [3] * 10)).estimated
    assert Discounts.of(numpy.array([1] * 40 + [2] * 10 + [3] * 5 + [4] * 3)).estimated


def test_an_order_above_the_longest_sentence_becomes_what_there_is():
    model = estimate([["a", "b"], ["b"]], 7)
    assert model.order == 4 and ("<s>", "a", "b", "</s>") in ngrams_of(model)
    assert total(model, ["<s>", "a", "b"]) == pytest.approx(1, abs=1e-6)


def test_empty_sentences_are_left_out_and_a_text_without_words_is_refused():
    assert ngrams_of(estimate([[], ["a"], []], 2)) == ngrams_of(estimate([["a"]], 2))
    for nothing in ([], [[], []]):
        with pytest.raises(ArgumentError, match="no word in the text"):
            estimate(nothing)


def test_unk_in_the_text_is_counted_like_a_word():
    model = estimate([["a", "<unk>", "b"], ["<unk>", "b"], ["a", "b"]], 2)
    assert ("<unk>", "b") in ngrams_of(model) and model.vocabulary == ["a", "b"]
    assert model.log10_probability("b", ["<unk>"]) == model.log10_probability("b", ["never heard"])
    assert total(model, ["<unk>"]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "sentence, sentence_said",
    [(["a", "<s>"], "contains <s>"), (["</s>"], "contains </s>"), (["a b"], "white space"), ("ab", "list")],
)  # fmt: skip
def test_what_is_no_word_of_a_sentence_is_refused(sentence, sentence_said):
    with pytest.raises(UserError, match=sentence_said):
        estimate([["good"], sentence])


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"order": 0}, "order=0"), ({"order": True}, "order=True"), ({"order": 2.0}, "order=2.0"),
        ({"order": 99}, "from 1 to 20"),
        ({"cutoffs": (1, 0)}, "decrease"), ({"cutoffs": (0, -1)}, "0 or more"), ({"cutoffs": (0, 0, 0, 0)}, "has order 3"),
        ({"threshold": -1e-8}, "threshold=-1e-08"), ({"threshold": 2.0}, "threshold=2"),
        ({"threshold": math.nan}, "threshold=nan"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong, said):
    with pytest.raises(ArgumentError, match=said):
        estimate([["a", "b"]], **wrong)


# ----- pruning


def test_without_a_threshold_nothing_is_pruned_and_more_is_pruned_with_a_higher_one():
    model = estimate(made_up_text(), 3)
    assert ngrams_of(prune(model, 0)) == ngrams_of(model)
    sizes = [sum(len(table) for table in prune(model, threshold).tables) for threshold in (0, 1e-6, 1e-5, 1e-4, 1e-3)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 5


def test_what_stays_keeps_its_probability_and_has_all_its_parts():
    model = estimate(made_up_text(), 4)
    before, after = ngrams_of(model), ngrams_of(prune(model, 1e-5))
    assert len(after) < len(before)
    for ngram, (log10, _) in after.items():
        assert log10 == before[ngram][0]
        assert len(ngram) == 1 or {ngram[1:], ngram[:-1]} <= after.keys()


def test_an_ngram_is_pruned_if_the_relative_entropy_of_doing_so_says_it():
    """Stolcke's distance, summed over the whole vocabulary, for every n-gram by itself."""
    model, threshold = estimate(made_up_text(80), 2), 1e-4
    after = ngrams_of(prune(model, threshold))
    rows = ngrams_of(model)
    words = [word for word in model.words if word != "<s>"]
    lower = {word: 10 ** rows[word,][0] for word in words}
    pruned = 0
    for history, word in [ngram for ngram in rows if len(ngram) == 2]:
        before = {other: 10 ** model.log10_probability(other, [history]) for other in words}
        listed = {other for other in words if (history, other) in rows} - {word}
        weight = (1 - sum(before[other] for other in listed)) / (1 - sum(lower[other] for other in listed))
        after_it = {other: before[other] if other in listed else weight * lower[other] for other in words}
        distance = sum(before[other] * math.log(before[other] / after_it[other]) for other in words)
        how_often = 10 ** rows["</s>" if history == "<s>" else history,][0]
        growth = math.expm1(how_often * distance)
        if abs(growth / threshold - 1) > 1e-3:
            assert ((history, word) in after) == (growth >= threshold)
            pruned += growth < threshold
    assert 20 < pruned < len(model.tables[1]) - 20


def test_pruning_everything_leaves_unigrams():
    model = prune(estimate([["a", "b"], ["a", "c"]], 3), 0.999)
    assert model.order == 1 and total(model, []) == pytest.approx(1, abs=1e-6)


# ----- writing and reading


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_a_model_is_read_as_it_was_written(tmp_path, name):
    model = estimate([*made_up_text(60), ["naïve", "日本", "\N{GRINNING FACE}"]], 3, (0, 0, 1))
    write_arpa(model, tmp_path / name)
    again = read_arpa(tmp_path / name)
    assert again.words == model.words and again.added == 0 and again.order == 3
    for ours, read in zip(model.tables, again.tables):
        for field in ("context", "word", "suffix", "log10", "backoff"):
            assert numpy.array_equal(getattr(ours, field), getattr(read, field))
    write_arpa(again, tmp_path / f"again_{name}")
    if name.endswith(".gz"):
        assert (tmp_path / name).read_bytes()[4:8] == bytes(4)  # no time, so that equal models are equal files
    assert (tmp_path / name).read_bytes()[:2] == (b"\x1f\x8b" if name.endswith(".gz") else b"\\d")
    assert (tmp_path / name).read_bytes() == (tmp_path / f"again_{name}").read_bytes()


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    model = estimate([["a"]], 2)
    with pytest.raises(UserError, match="cannot be written"):
        write_arpa(model, tmp_path / "no folder" / "lm.arpa")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("asr.text.ngrams.arpa_writing._write", full)
    (tmp_path / "lm.arpa").write_text("what was there")
    with pytest.raises(UserError, match="No space left"):
        write_arpa(model, tmp_path / "lm.arpa")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("lm.arpa", "what was there")]


PLAIN = """\\data\\
ngram 1=5
ngram 2=4
ngram 3=1

\\1-grams:
-99\t<s>\t-0.25
-0.75\t</s>
-1.5\t<unk>
-0.5\ta\t-0.125
-0.875\tb\t-0.5

\\2-grams:
-0.25\t<s> a\t-0.375
-0.5\ta b
-0.625\tb a
-0.125\tb </s>

\\3-grams:
-0.0625\t<s> a b

\\end\\
"""
EXPECTED = {
    ("<s>",): (-99, -0.25), ("</s>",): (-0.75, 0), ("<unk>",): (-1.5, 0), ("a",): (-0.5, -0.125), ("b",): (-0.875, -0.5),
    ("<s>", "a"): (-0.25, -0.375), ("a", "b"): (-0.5, 0), ("b", "a"): (-0.625, 0), ("b", "</s>"): (-0.125, 0),
    ("<s>", "a", "b"): (-0.0625, 0),
}  # fmt: skip
LDC = """#############################
## Copyright, and what it is
Beginning of data mark: \\data\\
ngram 1=nr            # number of 1-grams
\\1-grams:
p_1     wd_1 bo_wt_1
\\end\\

"""
VARIANTS = {
    "as it is": PLAIN,
    "spaces": PLAIN.replace("\t", " "),
    "CRLF": PLAIN.replace("\n", "\r\n"),
    "other spellings": PLAIN.replace("<unk>", "<UNK>").replace("<s>", "<S>").replace("</s>", "</S>"),
    "a banner that quotes the format": LDC + PLAIN,
    "spaces in the counts and behind lines": PLAIN.replace("ngram 1=5", "ngram  1 =   5").replace("\n", "  \n"),
    "minus infinity for what cannot be": PLAIN.replace("-99", "-inf"),
    "no blank lines": PLAIN.replace("\n\n", "\n"),
    "more blank lines": PLAIN.replace("\n-0.5", "\n\n-0.5").replace("\n\n", "\n\n\n"),
    "weights in the highest order that are 0": PLAIN.replace("<s> a b", "<s> a b\t0.0"),
    "an order without n-grams": PLAIN.replace("ngram 3=1\n", "ngram 3=1\nngram 4=0\n").replace(
        "\\end", "\\4-grams:\n\n\\end"
    ),
    "another sequence": PLAIN.replace("-0.25\t<s> a\t-0.375\n", "").replace(
        "\n\n\\3-", "\n-0.25\t<s> a\t-0.375\n\n\\3-"
    ),
    "no line end at the end": PLAIN.rstrip("\n"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_arpa_is_read_however_it_is_written(tmp_path, variant):
    (tmp_path / "lm.arpa").write_bytes(VARIANTS[variant].encode())
    model = read_model(tmp_path / "lm.arpa")
    assert ngrams_of(model) == EXPECTED and model.order == 3
    (tmp_path / "lm").write_bytes(gzip.compress(VARIANTS[variant].encode()))
    assert ngrams_of(read_model(str(tmp_path / "lm"))) == EXPECTED


def test_a_long_file_is_read_in_pieces(tmp_path, monkeypatch):
    (tmp_path / "lm.arpa").write_text(VARIANTS["more blank lines"])
    monkeypatch.setattr("asr.text.ngrams.arpa.LINES_AT_ONCE", 2)
    assert ngrams_of(read_model(tmp_path / "lm.arpa")) == EXPECTED


@pytest.mark.parametrize("lines", [1, 2, 3, 50_000])
def test_a_word_listed_twice_is_seen_wherever_a_piece_of_the_file_ends(tmp_path, monkeypatch, lines):
    content = UNIGRAMS.replace("-0.5\ta\n", "-0.5\ta\n-0.25\ta\n").replace("ngram 1=5", "ngram 1=6")
    (tmp_path / "lm.arpa").write_text(content)
    monkeypatch.setattr("asr.text.ngrams.arpa.LINES_AT_ONCE", lines)
    with pytest.raises(UserError, match="line 9: the word 'a' is listed twice"):
        read_model(tmp_path / "lm.arpa")


def test_ngrams_without_their_parts_say_the_same_when_the_parts_are_added(tmp_path):
    """As in models that SRILM pruned: `a b` and `b c` are not listed, but `a b c` is."""
    ngrams = {
        ("<s>",): (-99, -0.1), ("</s>",): (-0.7, 0), ("a",): (-0.5, -0.2), ("b",): (-0.6, -0.3), ("c",): (-0.8, -0.4),
        ("<s>", "a"): (-0.3, -0.15), ("c", "a"): (-0.2, -0.45), ("a", "b", "c"): (-0.05, 0), ("c", "a", "c"): (-0.35, 0),
        ("b", "c", "b"): (-0.25, 0),
    }  # fmt: skip
    parts = ["\\data\\", *(f"ngram {n}={sum(len(each) == n for each in ngrams)}" for n in (1, 2, 3))]
    for n in (1, 2, 3):
        parts += ["", f"\\{n}-grams:"]
        parts += [f"{p} {' '.join(w)} {b if n < 3 else ''}" for w, (p, b) in ngrams.items() if len(w) == n]
    (tmp_path / "lm.arpa").write_text("\n".join([*parts, "", "\\end\\", ""]))
    model = read_model(tmp_path / "lm.arpa")
    assert model.added == 4 and {("a", "b"), ("b", "c"), ("a", "c"), ("c", "b")} <= ngrams_of(model).keys()
    for context in [(x, y) for x in ("<s>", "a", "b", "c") for y in "abc"]:
        for word in ("a", "b", "c", "</s>"):
            assert model.log10_probability(word, context) == pytest.approx(
                backed_off(ngrams, (*context, word)), abs=1e-6
            )
        assert model.distribution(context)[model.ids["c"]] == pytest.approx(
            backed_off(ngrams, (*context, "c")), abs=1e-6
        )


# two adjacent lines of one word leave fewer words than lines, and each later line would be taken for the word behind it
UNIGRAMS = """\\data\\
ngram 1=5

\\1-grams:
-0.5\t<unk>
-99\t<s>
-0.5\t</s>
-0.5\ta
-0.75\tb

\\end\\
"""
HOSTILE = {
    "": "has no line",
    "no ARPA at all\n": "has no line",
    PLAIN[:150]: r"line 1\d: the file ends .*cut short",
    PLAIN.replace("\\end\\", ""): r"line \d+: the file ends where .end. should follow: it is cut short",
    PLAIN.split("-0.5\ta")[0]: "the file ends after 3 of 5 1-grams",
    PLAIN.replace("ngram 2=4", "ngram 2=5"): r"line 19: '.3-grams:' comes after 4 2-grams, but .data. says 5",
    PLAIN.replace("ngram 2=4", "ngram 2=3"): r"line 17: there are more 2-grams than the 3",
    PLAIN.replace("ngram 2=4", "ngram 2=99999999999999"): "but .data. says 99999999999999",
    PLAIN.replace("ngram 2=4\n", ""): "line 3: expected the number of 2-grams",
    PLAIN.replace("ngram 1=5", "ngram 1=five"): "line 2: expected ngram 1=... with the number",
    PLAIN.replace("ngram 1=5", "ngram 1=0"): "with the number of unigrams",
    PLAIN.replace("\\2-grams:", "\\two-grams:"): "line 13: expected .2-grams:, found '.two-grams:'",
    PLAIN.replace("-0.5\ta b", "-0.5\ta"): "line 15: 2 fields; a 2-gram has a log probability, 2 words",
    PLAIN.replace("-0.5\ta b", "-0.5\ta b c d"): "line 15: 5 fields",
    PLAIN.replace("-0.5\ta b", "-0.5\ta c"): "line 15: the word 'c' is not among the unigrams",
    PLAIN.replace("-0.5\ta b", "0.5\ta b"): "line 15: the log probability '0.5' is not a number up to 0",
    PLAIN.replace("-0.5\ta b", "nan\ta b"): "line 15: the log probability 'nan'",
    PLAIN.replace("-0.5\ta b", "minus\ta b"): "line 15: 'minus' is not a log probability",
    PLAIN.replace("-0.5\ta b", "-0.5\ta b\tnan"): "line 15: the back-off weight 'nan' is not finite",
    PLAIN.replace("-0.5\ta b", "-0.5\ta b\tc"): "line 15: 'c' is not a back-off weight",
    PLAIN.replace("<s> a b", "<s> a b\t-1"): "line 20: the back-off weight '-1' is in the highest order",
    PLAIN.replace("-0.625\tb a", "-0.625\ta b"): "line 16: 'a b' is listed on line 15 already",
    PLAIN.replace("\ta\t-0.125", "\t</s>\t-0.125"): "line 10: the word '</s>' is listed twice",
    PLAIN.replace("\ta\t-0.125", "\t<unk>\t-0.125"): "line 10: the word '<unk>' is listed twice",
    PLAIN.replace("ngram 1=5", "ngram 1=6").replace(
        "-0.875\tb", "-0.5\ta\n-0.875\tb"
    ): "line 11: the word 'a' is listed twice",
    PLAIN.replace("-0.125\tb </s>", "-0.125\t<s> a"): "line 17: '<s> a' is listed on line 14 already",
    PLAIN.replace("ngram 3=1", "ngram 3=2").replace(
        "<s> a b", "<s> a b\n-0.25\t<s> a b"
    ): "line 21: '<s> a b' is listed on line 20",
    UNIGRAMS.replace("\t<s>", "\t<unk>", 1): "line 6: the word '<unk>' is listed twice",
    PLAIN.replace("</s>", "c"): "does not list </s>",
    PLAIN + "\\data\\\n": "there is more after .end.",
    PLAIN.replace("a", "\0", 1): "zero byte|has no line",
    "\0" + PLAIN: "zero byte",
}


@pytest.mark.parametrize("content", HOSTILE)
def test_a_damaged_arpa_is_refused_with_file_and_line(tmp_path, content):
    (tmp_path / "lm.arpa").write_text(content)
    with pytest.raises(UserError, match=HOSTILE[content]) as caught:
        read_model(tmp_path / "lm.arpa")
    assert str(tmp_path / "lm.arpa") in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_arpa_cut_or_changed_anywhere_is_refused_with_a_sentence_or_read(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("arpa") / "lm.arpa"
    content = bytearray(PLAIN.encode())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        # what follows \end\ may be missing
        path.write_bytes(content[: min(at, len(content) - 2)])
        with pytest.raises(UserError):
            read_model(path)
        return
    content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        model = read_model(path)
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert numpy.isfinite(model.distribution(["<s>", "a"])).all()


def test_compressed_files_that_are_damaged_and_files_that_are_none_are_named(tmp_path):
    whole = gzip.compress(PLAIN.encode())
    for content, said in (
        (whole[:-20], "damaged or cut short"), (whole[:30] + b"\0" * 40 + whole[70:], "damaged|zero byte|has no line"),
        (b"\x1f\x9d" + whole, "gunzip -c"), (PLAIN.replace("b", "\xe4").encode("latin1"), "line 11: .*is not UTF-8"),
    ):  # fmt: skip
        (tmp_path / "lm.arpa").write_bytes(content)
        with pytest.raises(UserError, match=said):
            read_model(tmp_path / "lm.arpa")
    for path, said in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "no regular file"),
        ("/dev/zero", "no regular file"),
    ):
        with pytest.raises(UserError, match=said):
            read_model(path)


def test_a_kenlm_binary_without_the_module_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "kenlm", None)
    (tmp_path / "lm.bin").write_bytes(BINARY_MAGIC + b" format version 5\n\0")
    with pytest.raises(UserError, match="pip install kenlm"):
        read_model(tmp_path / "lm.bin")


@kenlm_is_there
def test_a_kenlm_binary_that_is_damaged_is_a_sentence(tmp_path):
    (tmp_path / "lm.bin").write_bytes(BINARY_MAGIC + b" format version 5\n\0")
    with pytest.raises(UserError, match="KenLM cannot read .*lm.bin"):
        read_model(tmp_path / "lm.bin")


# ----- asking


def test_perplexity_is_that_of_the_definition(tmp_path):
    (tmp_path / "lm.arpa").write_text(PLAIN)
    model = read_model(tmp_path / "lm.arpa")
    text = [["a", "b"], [], ["b", "never", "a", "b"], ["a"]]
    log10, known, tokens, unknown = 0.0, 0.0, 0, 0
    for sentence in filter(None, text):
        marked = ["<s>", *(word if word in "ab" else "<unk>" for word in sentence), "</s>"]
        for end in range(2, len(marked) + 1):
            value = backed_off(EXPECTED, marked[max(0, end - 3) : end])
            log10, tokens, unknown = log10 + value, tokens + 1, unknown + (marked[end - 1] == "<unk>")
            known += value if marked[end - 1] != "<unk>" else 0
    found = model.perplexity(text)
    assert (found.sentences, found.words, found.tokens, found.unknown) == (3, 7, tokens, unknown) == (3, 7, 10, 1)
    assert found.log10_probability == pytest.approx(log10) and found.log10_probability_known == pytest.approx(known)
    assert found.with_unknown == pytest.approx(10 ** (-log10 / 10)) and found.without_unknown == pytest.approx(
        10 ** (-known / 9)
    )
    # a b </s> | b <unk> a b </s> | a </s>: one trigram, six bigrams
    assert found.hits == (4, 5, 1) and sum(found.hits) == tokens


def test_a_sentence_is_not_foretold_by_the_one_before_it(tmp_path):
    """Some models come from texts without lines and list what follows `</s>`."""
    content = PLAIN.replace("ngram 2=4", "ngram 2=5").replace("ngram 3=1", "ngram 3=2")
    content = content.replace("-0.125\tb </s>", "-0.125\tb </s>\n-0.01\t</s> <s>").replace(
        "a b\n\n", "a b\n-0.01\t</s> <s> a\n\n"
    )
    (tmp_path / "lm.arpa").write_text(content)
    model = read_model(tmp_path / "lm.arpa")
    once, twice = model.perplexity([["a", "b"]]), model.perplexity([["a", "b"]] * 2)
    assert len(model.tables[2]) == 2 and twice.log10_probability == pytest.approx(2 * once.log10_probability)


def test_text_in_batches_has_the_same_perplexity(monkeypatch):
    text = made_up_text(90)
    model = estimate(text[:60], 3)
    whole = model.perplexity(text)
    monkeypatch.setattr("asr.text.ngrams.model.SENTENCES_AT_ONCE", 7)
    parts = model.perplexity(iter(text))
    assert parts.hits == whole.hits and parts.log10_probability == pytest.approx(whole.log10_probability)


def test_every_way_to_ask_says_the_same():
    text = made_up_text(120)
    model = estimate(text, 3)
    rows = ngrams_of(model)
    for sentence in text[:30]:
        marked = ["<s>", *sentence, "</s>"]
        steps = [backed_off(rows, marked[max(0, end - 3) : end]) for end in range(2, len(marked) + 1)]
        assert model.log10_probability(marked[1:], ["<s>"]) == pytest.approx(sum(steps), abs=1e-5)
        assert model.perplexity([sentence]).log10_probability == pytest.approx(sum(steps), abs=1e-5)
        for end, step in enumerate(steps, start=1):
            assert model.distribution(marked[:end])[model.ids[marked[end]]] == pytest.approx(step, abs=1e-6)
            assert model.log10_probability(marked[end], marked[:end]) == pytest.approx(step, abs=1e-6)


def test_a_model_without_unk_finds_unknown_words_impossible(tmp_path):
    (tmp_path / "lm.arpa").write_text(PLAIN.replace("<unk>", "c"))
    model = read_model(tmp_path / "lm.arpa")
    found = model.perplexity([["a", "never", "b"]])
    assert found.unknown == 1 and found.with_unknown == math.inf and found.without_unknown < 100
    assert model.log10_probability("never") == -math.inf and "never" not in model and "a" in model
    # an unseen word is not a context
    assert model.log10_probability("b", ["never"]) == model.log10_probability("b")


def test_a_probability_too_small_for_a_number_gives_an_infinite_perplexity(tmp_path):
    (tmp_path / "lm.arpa").write_text(PLAIN.replace("-0.0625", "-1e30").replace("-99", "-1e300"))
    model = read_model(tmp_path / "lm.arpa")
    assert model.perplexity([["a", "b"]]).with_unknown == math.inf
    assert model.log10_probability("<s>") == -99


def test_nothing_has_no_perplexity():
    with pytest.raises(ArgumentError, match="no sentence"):
        estimate([["a"]]).perplexity([[]])


# ----- text


def test_a_text_is_one_sentence_per_line(tmp_path):
    (tmp_path / "text").write_bytes(
        "\ufeffone two\r\n\n  <s> three   four </s>  \nfive\u00a0six\u2028seven <unk>\nlast".encode()
    )
    text = TextFile(tmp_path / "text")
    for _ in range(2):
        assert list(text) == [["one", "two"], ["three", "four"], ["five", "six", "seven", "<unk>"], ["last"]]
        assert (text.sentences, text.words, text.blank, text.marked, text.unknown) == (4, 9, 1, 1, 1)


def test_a_text_may_be_compressed_and_normalized(tmp_path):
    (tmp_path / "text.gz").write_bytes(gzip.compress(b"Don't, [laughter] STOP!\n...\n"))
    text = TextFile(tmp_path / "text.gz", "speech")
    assert list(text) == [["don't", "stop"]] and text.blank == 1


@pytest.mark.parametrize(
    "content, said",
    [
        (b"good\nna\xefve\n", r"line 2: 0xef is not UTF-8.*iconv"), (b"a\nb <s> c\n", "line 2: <s> is inside the line"),
        (b"a </s> b\n", "line 1: </s> is inside"), (b"a\n\0\0\n", "line 2: a zero byte"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused_with_its_line(tmp_path, content, said):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        list(TextFile(tmp_path / "text"))
    assert str(tmp_path / "text") in str(caught.value)


def test_further_words_share_what_was_never_seen_and_nothing_else_changes_but_the_lowest_order():
    text = [sentence.split() for sentence in ("the cat sat", "the dog sat", "a cat ran", "the cat ran far")]
    further = ["zebra", "cat", "yak"]
    plain, wider = estimate(text, 2), estimate(text, 2, vocabulary=further)
    assert set(wider.vocabulary) == set(plain.vocabulary) | {"zebra", "yak"}
    foretold = {*wider.vocabulary, "</s>", "<unk>"} - {"<s>"}
    probability = {word: 10 ** wider.log10_probability([word]) for word in foretold}
    assert sum(probability.values()) == pytest.approx(1.0)
    assert probability["zebra"] == pytest.approx(probability["yak"]) == pytest.approx(probability["<unk>"])
    for context in (("the",), ("cat",), ("zebra",)):
        row = [10 ** wider.log10_probability([word], context) for word in foretold]
        assert sum(row) == pytest.approx(1.0)


@pytest.mark.parametrize("word", ["", "two words", "tab\there"])
def test_a_further_word_is_a_word(word):
    with pytest.raises(UserError, match="which is not a word"):
        estimate([["a", "b"]], 2, vocabulary=[word])

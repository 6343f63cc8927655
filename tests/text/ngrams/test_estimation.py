"""N-gram models are estimated as Chen and Goodman and KenLM do."""

import collections
import math
import random
import shutil
import subprocess

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import ArgumentError, UserError
from asr.text.ngrams import estimate, prune, read_model, write_arpa
from asr.text.ngrams.discounts import Discounts
from asr.text.ngrams.kenlm_model import KenlmModel
from tests.support.ngrams import kenlm_is_there, made_up_text, ngrams_of, total

lmplz_is_there = pytest.mark.skipif(shutil.which("lmplz") is None, reason="KenLM's lmplz is not on the path")


TEXTS = st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=7), min_size=1, max_size=25)


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

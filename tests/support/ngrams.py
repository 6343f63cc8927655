"""Texts and models for the tests of n-grams."""

import importlib.util
import random

import numpy
import pytest

kenlm_is_there = pytest.mark.skipif(
    importlib.util.find_spec("kenlm") is None, reason="the module kenlm is not installed (pip install kenlm)"
)


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

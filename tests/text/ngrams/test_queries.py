"""What a model says about a text: probabilities, perplexity, unknown words."""

import gzip
import math

import pytest

from asr.errors import ArgumentError, UserError
from asr.text.ngrams import TextFile, estimate, read_model
from tests.support.ngrams import EXPECTED, PLAIN, backed_off, made_up_text, ngrams_of


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

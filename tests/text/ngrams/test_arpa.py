"""ARPA files: written, and read from anybody's, damaged or not."""

import gzip

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import UserError
from asr.text.ngrams import estimate, read_arpa, read_model, write_arpa
from asr.text.ngrams.kenlm_model import BINARY_MAGIC
from tests.support.ngrams import EXPECTED, PLAIN, VARIANTS, backed_off, kenlm_is_there, made_up_text, ngrams_of


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
        (tmp_path, "not a regular file"),
        ("/dev/zero", "not a regular file"),
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

"""Every reader of users' text: a file reads the same whichever editor or system wrote it."""

import bz2
import gzip
import json
import lzma
import subprocess
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest

from asr.data.corpora import folder, librispeech, timit
from asr.data.corpora.asterisk.packages import Prompts
from asr.data.corpora.common_voice.tables import read_rows
from asr.data.corpora.cuts import read_cuts
from asr.data.corpora.preparing.recipes import Findings
from asr.data.corpora.switchboard import eval2000_references
from asr.data.corpora.switchboard.dictionary import Dictionary
from asr.data.corpora.switchboard.segments import read_side
from asr.data.corpora.wsj import sets as wsj_sets
from asr.data.corpora.wsj import text as wsj_text
from asr.errors import UserError
from asr.inference.decoders.kenlm import load_kenlm, model_words
from asr.runtime import text_files
from asr.scoring.nist.cross_check import cross_check_transcripts
from asr.scoring.nist.ctm import read_ctm
from asr.scoring.nist.glm import GlobalMapping
from asr.scoring.nist.sctk import find_sctk
from asr.scoring.nist.stm import read_stm
from asr.scoring.nist.trn import read_trn, score_trn
from asr.text.lexicon.dictionary import Lexicon
from asr.text.lexicon.estimation import words_of
from asr.text.lexicon.files import read_lexicon
from asr.text.ngrams import TextFile, read_model

ARPA = """\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-1.0\t<s>\t-0.3
-1.0\t</s>
-0.5\tcafé\t-0.2
-0.7\tñandú\t-0.1

\\2-grams:
-0.2\t<s> café
-0.3\tcafé ñandú

\\end\\
"""


def model_of(path: Path) -> dict:
    model = read_model(path)
    return {word: model.log10_probability(word, ["café"]) for word in model.vocabulary}


def kenlm_scores(path: Path) -> list[float]:
    """The scores that flashlight's KenLM gives to the words of a sentence, looked up by their spelling."""
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    words = model_words(path)
    assert sorted(words) == ["café", "ñandú"]
    model, _ = load_kenlm(path, words, "lexicon")
    state, scores = model.start(False), []
    for word in ("café", "ñandú"):
        state, score = model.score(state, words.index(word))
        scores.append(round(score, 5))
    return scores


def librispeech_texts(path: Path) -> dict[str, str]:
    found = librispeech.Part()
    librispeech.read_transcripts(path, Path("84", "121123"), "test-clean", found, Findings())
    return found.texts


def timit_text(path: Path) -> str:
    utterance = timit.Utterance("TRAIN", "DR1", "FCJF0", "SI1027", dict.fromkeys(timit.TRANSCRIPTS, path))
    timit.link(utterance, path, path.parent / "layout")
    (written,) = (path.parent / "layout").rglob("SI1027.TXT")
    return written.read_bytes().decode("utf8")


def eval2000_copy(path: Path) -> bytes:
    eval2000_references.copy_references(path, path, path.parent / "copy", {"en_4156"})
    return (path.parent / "copy" / "reference.stm").read_bytes()


def cut_line(name: str, text: str) -> str:
    source = {"type": "file", "channels": [0], "source": f"{name}.wav"}
    recording = {"id": name, "sources": [source], "sampling_rate": 8000, "num_samples": 8000, "duration": 1.0}
    items = [{"symbol": text, "start": 0.0, "duration": 1.0}]
    said = {"id": name, "recording_id": name, "start": 0.0, "duration": 1.0, "channel": 0, "text": text}
    cut = {
        "id": name,
        "start": 0,
        "duration": 1.0,
        "channel": 0,
        "supervisions": [said | {"alignment": {"word": items}}],
    }
    return json.dumps(cut | {"recording": recording, "type": "MonoCut"}, ensure_ascii=False) + "\n"


def texts_of_cuts(path: Path) -> list:
    supervisions = [cut.supervisions[0] for cut in read_cuts(path, "train")]
    return [(said.text, said.alignment["word"][0].symbol) for said in supervisions]


def lines(*texts: str) -> str:
    return "".join(f"{text}\n" for text in texts)


# name: (name of the file, its plain content, what is read of it)
READERS = {
    "stm": ("x.stm", lines("é 1 s 0 1 <O> café ñandú", "é 1 s 1 2 <O>\tà"), lambda path: read_stm(path).segments),
    "ctm": ("x.ctm", lines("é 1 0.1 0.2 café 0.9", "é 1 0.4 0.2 ñandú"), read_ctm),
    "trn": ("x.trn", lines("café ñandú (é-1)", "à (é2)"), lambda path: {k: text for k, (text, _) in read_trn(path).items()}),
    "glm": ("x.glm", lines(";; rules", "CAFÉ => COFFEE / [ ] __ [ ]"), lambda path: GlobalMapping.read(path).lines),
    "arpa": ("x.arpa", ARPA, model_of),
    "arpa for KenLM": ("x.arpa", ARPA, kenlm_scores),
    "words of an arpa": ("x.lm", ARPA, lambda path: sorted(words_of(path))),
    "word list": ("x.txt", lines("café", "ñandú"), words_of),
    "sentences": ("x.txt", lines("café ñandú", "<s> à </s>"), lambda path: list(TextFile(path))),
    "lexicon": ("x.txt", lines("café K AE F EY", "ñandú õ N"), lambda path: Lexicon.read(path).pronunciations),
    "decoder's lexicon": ("x.txt", lines("café 0.5 K EY", "ñandú 1.0 õ"), read_lexicon),
    "decoder's lexicon, decomposed model": (
        "x.txt", lines("café K EY", "ñandú õ1_B"), lambda path: read_lexicon(path, ["K", "EY", "o\u0303"])
    ),
    "transcripts.tsv": ("x.tsv", lines("file\ttext\tspeaker", "é.wav\tcafé ñandú\tann", "b.wav\tà\tzoë"), folder.read_table),
    "cuts": ("x.jsonl", cut_line("a", "café") + cut_line("b", "ñandú à"), texts_of_cuts),
    "Common Voice": (
        "x.tsv", lines("path\tsentence", "a.mp3\tUn « café »"), lambda path: list(read_rows(path, ["path"]))
    ),
    "LibriSpeech": ("x.trans.txt", lines("84-121123-0000 CAFÉ", "84-121123-0001 ÑANDÚ À"), librispeech_texts),
    "TIMIT": ("x.TXT", lines("0 400 A café."), timit_text),
    "WSJ's transcripts": ("x.dot", lines("The café (01ic0201)", "à (01ic0202)", "\x1a"), wsj_text.read_transcripts),
    "WSJ's index": (
        "x.ndx", lines(";; café", "11_1_1:wsj0/si_tr_s/01i/01ic0201.wv1"),
        lambda path: wsj_sets.read_index(str(path), wsj_sets.Index("11-1.1", "x")),
    ),
    "Switchboard's segments": (
        "x.text", lines("sw2001A-ms98-a-0001 0.0 0.9 café", "sw2001A-ms98-a-0002 0.9 2.0 à"),
        lambda path: [(said.start, said.end, said.transcript) for said in read_side(path, "sw02001-A")[0]],
    ),
    "Switchboard's dictionary": ("x.text", lines("café k ae f ey", "à aa"), lambda path: Dictionary.read(path).entries),
    "eval2000's references": ("x.stm", lines(";; é", "en_4156 A s 0 1 <O> café ((à)"), eval2000_copy),
    "Asterisk's transcripts": (
        "x.txt", lines("a: café", "b: ñandú"), lambda path: Prompts.lines(SimpleNamespace(transcripts=path))
    ),
}  # fmt: skip

# how else the same text may lie on a disk
WRITTEN = {
    "with a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "with two byte order marks": lambda data: 2 * b"\xef\xbb\xbf" + data,
    "with CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "with CR": lambda data: data.replace(b"\n", b"\r"),
    "decomposed": lambda data: unicodedata.normalize("NFD", data.decode()).encode(),
    "by gzip": gzip.compress,
    "by bzip2": bz2.compress,
    "by xz": lzma.compress,
}
WRITTEN["in every way at once"] = lambda data: gzip.compress(
    WRITTEN["with a byte order mark"](WRITTEN["with CRLF"](WRITTEN["decomposed"](data)))
)
FOR_LDC = {"stm", "ctm", "trn", "glm", "eval2000's references"} | {
    name for name in READERS if name[:3] in ("WSJ", "Swi")
}


def read(name: str, data: bytes, folder: Path):
    file, _, reader = READERS[name]
    folder.mkdir()
    (folder / file).write_bytes(data)
    return reader(folder / file)


@pytest.mark.parametrize("name", READERS)
def test_a_file_reads_like_the_plain_one_however_it_was_written(name, tmp_path):
    plain = READERS[name][1].encode()
    expected = read(name, plain, tmp_path / "plain")
    assert expected
    for way, write in WRITTEN.items():
        assert read(name, write(plain), tmp_path / way) == expected, way


@pytest.mark.parametrize("name", READERS)
def test_text_that_is_not_utf8_is_refused_with_file_and_line_unless_it_is_the_ldcs_latin1(name, tmp_path):
    file, plain, _ = READERS[name]
    expected = read(name, plain.encode(), tmp_path / "plain")
    with pytest.raises(UserError, match=rf"{file} is UTF-16 or UTF-32\. Save it as UTF-8"):
        read(name, plain.encode("utf-16"), tmp_path / "UTF-16")
    with pytest.raises(UserError, match=rf"{file} is damaged or cut short after line \d"):
        read(name, gzip.compress(plain.encode())[:-12], tmp_path / "half")
    if name in FOR_LDC:
        assert read(name, plain.encode("latin1"), tmp_path / "Latin-1") == expected
        return
    with pytest.raises(UserError, match=rf"{file}(, line \d|: the word).* is not UTF-8"):
        read(name, plain.encode("latin1"), tmp_path / "Latin-1")


def test_an_arpa_that_lists_a_word_in_both_forms_keeps_both(tmp_path):
    both = ARPA.replace("ñandú", "cafe\u0301")
    (tmp_path / "x.arpa").write_text(both, encoding="utf8")
    assert {"café", "cafe\u0301"} <= set(read_model(tmp_path / "x.arpa").vocabulary)
    assert model_words(tmp_path / "x.arpa") == ["café", "cafe\u0301"]


def test_byte_order_marks_inside_concatenated_files_vanish_and_a_lone_cr_within_a_line_stays(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\rthree\n\nfour")
    assert text_files.read_lines(tmp_path / "x.txt") == ["one", "two\rthree", "", "four"]


@pytest.mark.run
@pytest.mark.parametrize("way", ["by gzip", "in every way at once"])
def test_standard_input_is_read_like_a_file(way):
    program = "from asr.text.ngrams import TextFile; print(list(TextFile('-')))"
    data = WRITTEN[way](lines("café ñandú", "à").encode())
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", program], input=data, capture_output=True)
    assert done.stdout.decode().strip() == "[['café', 'ñandú'], ['à']]", done.stderr.decode()


def test_compressed_transcripts_are_scored_and_sclite_gets_the_same_text(tmp_path):
    ways = list(WRITTEN.values())
    plain = lines("café ñandú (é-1)", "à la carte (b2)").encode()
    counts = set()
    for number, (first, second) in enumerate(zip(ways, ways[1:])):
        paths = tmp_path / f"ref{number}.trn.gz", tmp_path / f"hyp{number}.trn.gz"
        for path, write in zip(paths, (first, second)):
            path.write_bytes(write(plain))
        scores, missing = score_trn(*paths)
        counts.add((sum(score.alignment.errors for score in scores), len(scores), len(missing)))
        check = cross_check_transcripts(scores, *paths)
        assert check["agrees"] is (True if find_sctk() else None), check
    assert counts == {(0, 2, 0)}

"""The Asterisk prompts: which count as speech, their words, their splits, and the reasons for leaving out the rest."""

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import av
import numpy
import pytest
import soundfile

from asr.data.corpora import corpora
from asr.data.corpora.asterisk import AsteriskCorpus
from asr.data.corpora.asterisk.packages import unpack, unpack_with_python
from asr.data.corpora.asterisk.text import LANGUAGES, number_in_words, read_transcripts, spoken_words
from asr.errors import UserError
from tests.support import programs

REPOSITORY = Path(__file__).resolve().parents[3]
WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa".split()


def write_g722(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    time = numpy.arange(int(seconds * 16000)) / 16000
    samples = (8000 * numpy.sin(2 * numpy.pi * 300 * time)).astype(numpy.int16)
    with av.open(str(path), "w", format="g722") as file:
        stream = file.add_stream("g722", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = 16000
        for piece in (frame, None):
            file.mux(stream.encode(piece))


@pytest.fixture
def tree(tmp_path):
    """What the two packages unpack to, with every kind of prompt."""
    tree = tmp_path / "packages"
    documents = tree / "usr/share/doc/asterisk-core-sounds-en"
    documents.mkdir(parents=True)
    lines = ["; Core sounds", ""] + [f"phonetic/{word[0]}_p: {word.capitalize()}." for word in WORDS]
    lines += [
        "vm-Cust1: folder 5",
        "again: Folder five!",
        "beep: [this is a simple beep tone]",
        "long: a very long prompt",
        "absent: nobody recorded this",
        "empty:",
        "twice: one thing",
        "twice: another thing",
        "no transcript here",
    ]
    (documents / "core-sounds-en.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    sounds = tree / "usr/share/asterisk/sounds/en_US_f_Nobody"
    for word in WORDS:
        write_g722(sounds / f"phonetic/{word[0]}_p.g722", 0.5)
    for key in ("vm-Cust1", "again", "beep", "empty", "twice", "unwritten"):
        write_g722(sounds / f"{key}.g722", 0.5)
    write_g722(sounds / "long.g722", 31.0)
    return tree


def ar_member(name, content):
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
    return header + content + b"\n" * (len(content) % 2)


def build_deb(tree, deb, folder, pack="xz"):
    """A Debian package with one folder of the tree, as ar and tar make it."""
    tar = subprocess.run(["tar", "-C", tree, f"--{pack}", "-c", f"./{folder}"], capture_output=True, check=True).stdout
    control = subprocess.run(["tar", "-c", "--gzip", "-T", "/dev/null"], capture_output=True, check=True).stdout
    members = ar_member("debian-binary", b"2.0\n") + ar_member("control.tar.gz", control)
    deb.write_bytes(b"!<arch>\n" + members + ar_member(f"data.tar.{'xz' if pack == 'xz' else 'gz'}", tar))


@pytest.fixture
def debs(tree, tmp_path):
    folder = tmp_path / "debs"
    folder.mkdir()
    build_deb(tree, folder / "asterisk-core-sounds-en_1.0_all.deb", "usr/share/doc")
    build_deb(tree, folder / "asterisk-core-sounds-en-g722_1.0_all.deb", "usr/share/asterisk", "gzip")
    return folder


@pytest.mark.parametrize(
    ("transcript", "words"),
    [
        ("Hello world.", "hello world"),
        ("I'm sorry, that's not valid -- don't!", "i'm sorry that's not valid don't"),
        ("press * to toggle pause, press # to exit", "press star to toggle pause press pound to exit"),
        ('IAX (note: does not say "2")', "eeks"),
        ("letters/at: at [@]".split(": ")[1], "at"),
        ("Press 1, 4 or 6; dial 500", "press one four or six dial five hundred"),
        ("10 % off & $5 + 1 = @", "ten percent off and dollar five plus one equals at"),
        ("A.M.", "a m"),
        ("visit www.asterisk.org.", "visit w w w dot asterisk dot org"),
        ("PBX and USB Radio over SIP", "p b x and u s b radio over sip"),
        ("3D audio", "three d audio"),
        ("Re-enter, non-administrator", "reenter non administrator"),
        ("...to lock, or unlock...", "to lock or unlock"),
        ("Weasels’ party’s", "weasels party's"),
    ],
)
def test_an_english_prompt_becomes_the_words_that_are_heard(transcript, words):
    assert spoken_words(transcript, "en") == (words, None)


@pytest.mark.parametrize("transcript", ["[ascending tones]", "(10 seconds of silence)", "<beep ascending>", "  [x] y"])
def test_what_is_no_speech_is_left_out_in_every_language(transcript):
    assert all(spoken_words(transcript, language) == ("", "not speech") for language in LANGUAGES)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("0", "zero"),
        ("19", "nineteen"),
        ("40", "forty"),
        ("42", "forty two"),
        ("300", "three hundred"),
        ("323", "three twenty three"),
        ("505", "five oh five"),
        ("1234", "one two three four"),
        ("007", "zero zero seven"),
        ("28.8", "twenty eight point eight"),
    ],
)
def test_numbers_are_read_as_at_a_telephone(number, words):
    assert number_in_words(number) == words


def test_other_languages_get_single_digits_and_refuse_what_needs_grammar():
    assert spoken_words("Marque 1, u 8 para salir.", "es") == ("marque uno u ocho para salir", None)
    assert spoken_words("appuyez sur 0 à l'écoute", "fr") == ("appuyez sur zéro à l'écoute", None)
    assert spoken_words("premere 3 (in inglese)", "it") == ("premere tre", None)
    assert spoken_words("Нажмите 7, «важно»", "ru") == ("нажмите семь важно", None)
    assert spoken_words("marque 500", "es") == ("", "a number not written in words")
    assert spoken_words("28,8 килобит", "ru") == ("", "a number not written in words")
    assert spoken_words("appuyez sur *", "fr") == ("", "the sign * has no word")


def test_transcripts_are_read_by_key_and_odd_lines_are_named():
    lines = ["\ufeff; comment", "digits/1: one", "b: b: text: more", "c:", "d: x", "d: x", "e: x", "e: y", "nonsense"]
    texts, dropped = read_transcripts(lines, "t.txt")
    assert texts == {"digits/1": "one", "b": "text: more", "d": "x"}
    assert dict(dropped) == {
        "c": "empty transcript",
        "e": "two different transcripts",
        "t.txt:9": "not a line of the form key: text",
    }


def test_a_corpus_is_prepared_whole_with_everything_dropped_named(tree, tmp_path):
    corpus = AsteriskCorpus(packages=str(tree)).load(tmp_path / "cache")
    assert corpus.dropped == []
    assert dict(corpus.left_out) == {
        "beep": "not speech",
        "long": "longer than 30 s",
        "absent": "transcript without audio",
        "unwritten": "audio without transcript",
        "empty": "empty transcript",
        "twice": "two different transcripts",
        "core-sounds-en.txt.gz:27": "not a line of the form key: text",
    }
    cuts = {cut.id: cut for split in ("train", "dev", "test") for cut in corpus.splits[split]}
    assert len(cuts) == sum(len(split) for split in corpus.splits.values()) == len(WORDS) + 2
    assert all(len(split) > 0 for split in corpus.splits.values())
    for cut in cuts.values():
        (supervision,) = cut.supervisions
        assert (supervision.speaker, supervision.language) == ("en_US_f_Nobody", "en")
        audio = cut.load_audio()
        assert audio.shape == (1, cut.num_samples) and cut.sampling_rate == corpus.sample_rate == 16000
        assert cut.duration == pytest.approx(0.5, abs=0.01) and 0.2 < abs(audio).max() < 0.3
        assert soundfile.info(cut.recording.sources[0].source).format == "FLAC"
    assert cuts["phonetic/a_p"].supervisions[0].text == "alpha"
    (folder,) = (tmp_path / "cache/asterisk").iterdir()
    table = (folder / "left_out.tsv").read_text().splitlines()
    assert table[0] == "utterance\treason" and "beep\tnot speech" in table and len(table) == 8


def test_prompts_with_the_same_words_share_a_split_under_every_seed(tree, tmp_path):
    splits = set()
    for seed in range(8):
        corpus = AsteriskCorpus(packages=str(tree), seed=seed).load(tmp_path / "cache")
        home = {cut.id: split for split, cuts in corpus.splits.items() for cut in cuts}
        assert home["vm-Cust1"] == home["again"]
        splits.add(home["again"])
    assert len(splits) > 1


def test_keys_keep_their_split_when_prompts_are_added(tree, tmp_path):
    before = AsteriskCorpus(packages=str(tree), seed=3).load(tmp_path / "before")
    write_g722(tree / "usr/share/asterisk/sounds/en_US_f_Nobody/absent.g722", 0.5)
    after = AsteriskCorpus(packages=str(tree), seed=3).load(tmp_path / "after")

    def home(corpus):
        return {cut.id: split for split, cuts in corpus.splits.items() for cut in cuts}

    assert home(after).items() > home(before).items() and "absent" in home(after)


@pytest.mark.run
def test_packages_and_what_they_unpack_to_give_the_same_corpus(tree, debs, tmp_path):
    packed = AsteriskCorpus(packages=str(debs)).load(tmp_path / "a")
    unpacked = AsteriskCorpus(packages=str(tree.parent / "packages")).load(tmp_path / "b")
    for split in ("train", "dev", "test"):
        for one, two in zip(packed.splits[split], unpacked.splits[split], strict=True):
            assert one.id == two.id and one.supervisions == two.supervisions
            assert (one.load_audio() == two.load_audio()).all()
    assert packed.dropped == unpacked.dropped


@pytest.mark.run
def test_dpkg_and_python_unpack_the_same_files(debs, tmp_path):
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not installed here")
    for deb in debs.iterdir():
        unpack(deb, tmp_path / "dpkg")
        unpack_with_python(deb, tmp_path / "python")
    files = {
        maker: {path.relative_to(tmp_path / maker): path.read_bytes() for path in (tmp_path / maker).rglob("*.g*")}
        for maker in ("dpkg", "python")
    }
    assert files["dpkg"] == files["python"] and len(files["python"]) > 20


def test_a_prepared_corpus_needs_its_packages_no_more_and_may_be_moved(tree, tmp_path):
    AsteriskCorpus(packages=str(tree)).load(tmp_path / "cache")
    shutil.rmtree(tree)
    os.rename(tmp_path / "cache", tmp_path / "moved")
    corpus = AsteriskCorpus().load(tmp_path / "moved")
    assert next(iter(corpus.splits["train"])).load_audio().shape[0] == 1


def test_other_packages_than_the_prepared_ones_are_refused(tree, tmp_path):
    AsteriskCorpus(packages=str(tree)).load(tmp_path / "cache")
    AsteriskCorpus(packages=str(tree)).load(tmp_path / "cache")
    write_g722(tree / "usr/share/asterisk/sounds/en_US_f_Nobody/again.g722", 0.7)
    with pytest.raises(UserError, match="prepared from other packages"):
        AsteriskCorpus(packages=str(tree)).load(tmp_path / "cache")


def test_a_damaged_recording_is_dropped_by_name(tree, tmp_path):
    (tree / "usr/share/asterisk/sounds/en_US_f_Nobody/again.g722").write_bytes(b"")
    corpus = AsteriskCorpus(packages=str(tree)).load(tmp_path / "cache")
    assert corpus.dropped == [("again", "empty audio: again.g722 is empty (0 bytes): copy it again, or remove it")]
    assert corpus.dropped_of(None) == corpus.dropped


def test_an_interruption_leaves_nothing_behind(tree, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("asr.data.corpora.asterisk.write_manifests", interrupted)
    with pytest.raises(KeyboardInterrupt):
        AsteriskCorpus(packages=str(tree)).load(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.run
def test_packages_that_are_not_there_are_asked_for_in_a_sentence(tree, debs, tmp_path):
    (debs / "asterisk-core-sounds-en-g722_1.0_all.deb").unlink()
    (tmp_path / "empty").mkdir()
    for folder, message in {
        tmp_path / "none": "There is no folder",
        tmp_path / "empty": "holds no Asterisk prompts in 'en'",
        debs: "lacks the package asterisk-core-sounds-en-g722_",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            AsteriskCorpus(packages=str(folder)).load(tmp_path / "cache")
        assert "apt-get download asterisk-core-sounds-en asterisk-core-sounds-en-g722" in str(caught.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.run
def test_a_package_cut_short_is_named_by_both_ways_of_unpacking(debs, tmp_path):
    deb = debs / "asterisk-core-sounds-en_1.0_all.deb"
    deb.write_bytes(deb.read_bytes()[:-200])
    for way in (unpack, unpack_with_python):
        with pytest.raises(UserError, match="asterisk-core-sounds-en_1.0_all.deb is not a complete Debian package"):
            way(deb, tmp_path / "tree")
    with pytest.raises(UserError, match="not a complete Debian package"):
        AsteriskCorpus(packages=str(debs)).load(tmp_path / "cache")


@pytest.mark.parametrize("apt", [None, "#!/bin/sh\necho 'E: Failed to fetch: no network' >&2\nexit 100\n"])
def test_without_apt_or_network_one_is_told_how_to_get_the_packages(tmp_path, monkeypatch, apt):
    if apt:
        (tmp_path / "apt-get").write_text(apt)
        (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no network" if apt else "There is no apt-get") as caught:
        AsteriskCorpus(language="ru").load(tmp_path / "cache")
    assert "apt-get download asterisk-core-sounds-ru" in str(caught.value) and "packages=FOLDER" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"language": "de"}, "no Asterisk prompts in 'de'.*en, es, fr, it, ru"),
        ({"dev_fraction": 0}, "dev_fraction=0"),
        ({"dev_fraction": 0.5, "test_fraction": 0.5}, "nothing to train on"),
        ({"max_seconds": -1}, "max_seconds=-1"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        AsteriskCorpus(**settings).load(tmp_path)


def prepare(*arguments):
    return programs.run("scripts/prepare.py", *arguments, cwd=REPOSITORY)


@pytest.mark.run
def test_the_command_prepares_and_tells_what_was_dropped_and_where_things_lie(tree, tmp_path):
    done = prepare("asterisk", f"packages={tree}", f"cache={tmp_path / 'cache'}", "max_seconds=40")
    assert done.returncode == 0, done.stderr
    for words in ("utterances", "minutes", "not speech", "audio without transcript", "beep"):
        assert words in done.stdout
    (folder,) = (tmp_path / "cache/asterisk").iterdir()
    assert str(folder / "audio") in done.stdout
    assert len(list((folder / "audio").rglob("*.flac"))) == len(WORDS) + 3


@pytest.mark.run
def test_the_command_answers_mistakes_with_a_sentence_and_status_two(tmp_path):
    for arguments, message in {
        ("asterix",): "no corpus called 'asterix': did you mean asterisk",
        ("asterisk", "langage=en"): "takes no setting 'langage': did you mean language",
        ("asterisk", "seed=one"): "seed=one is not a whole number",
        ("asterisk", "seed"): "not of the form setting=value",
        ("folder",): "needs the setting path",
        ("language=en",): "The first argument is language=en, not a corpus",
    }.items():
        done = prepare(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.run
def test_the_command_lists_every_corpus_and_setting():
    done = prepare("--help")
    assert done.returncode == 0
    for name in corpora.names():
        assert f"\n  {name}\n" in done.stdout
    for setting in ("max_seconds=30.0", "transcripts=transcripts.tsv", "path=(needed)", "cache="):
        assert setting in done.stdout


def test_a_cache_that_cannot_be_written_is_named(tree, tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(UserError, match=r"cache folder .*cache/asterisk cannot be written"):
        AsteriskCorpus(packages=str(tree)).load(tmp_path / "cache")


def test_a_damaged_cache_is_named(tree, tmp_path):
    AsteriskCorpus(packages=str(tree)).load(tmp_path / "cache")
    (folder,) = (tmp_path / "cache/asterisk").iterdir()
    manifest = folder / "cuts_dev.jsonl.gz"
    manifest.write_bytes(manifest.read_bytes()[:40])
    with pytest.raises(UserError, match="is damaged"):
        AsteriskCorpus().load(tmp_path / "cache")

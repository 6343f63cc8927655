"""Look-alikes of the WSJ discs, with speech by eSpeak NG: the discs themselves are licensed and cannot be in a test.

The folders, names, index files and transcripts are as on the discs, and so are their oddities: names in capitals with a
version, indices with comments, spaces, slashes and without suffixes, one that names the wrong disc, speaker 401 listed a
second time, a second microphone's files beside the first's, recordings in every coding.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import random
import tempfile
from pathlib import Path

import numpy

from asr.audio.reading import resample
from asr.data.corpora.wsj.sets import SETS
from asr.data.corpora.wsj.text import normalize
from asr.text.espeak import synthesize
from tests.support.sphere_files import write_sphere

# (set, disc, folder of the speech, speakers, utterances of each speaker, the kind of transcript's place)
SPEECH = (
    ("si84", "11-1.1", "wsj0/si_tr_s", ("011", "01i"), 3, "11-4.1/wsj0/transcrp/dots/si_tr_s"),
    ("si84", "11-3.1", "wsj0/si_tr_s", ("401",), 2, "11-10.1/wsj0/transcrp/dots/si_tr_s"),
    ("si284", "13-1.1", "wsj1/si_tr_s", ("46u", "4ac"), 3, "13-34.1/wsj1/trans/wsj1/si_tr_s"),
    ("si284", "13-2.1", "wsj1/si_tr_s", ("47h",), 2, "13-34.1/wsj1/trans/wsj1/si_tr_s"),
    ("dev93", "13-16.1", "wsj1/si_dt_20", ("4k0", "4k1"), 2, "13-34.1/wsj1/trans/wsj1/si_dt_20"),
    ("dev93_5k", "13-16.1", "wsj1/si_dt_05", ("4k2",), 3, "13-34.1/wsj1/trans/wsj1/si_dt_05"),
    ("eval92", "11-14.1", "wsj0/si_et_20", ("440", "441"), 2, "beside"),
    ("eval92_5k", "11-14.1", "wsj0/si_et_05", ("442",), 3, "beside"),
    ("eval93", "13-33.1", "wsj1/si_et_h1/wsj64k", ("4oa", "4ob"), 2, "beside"),
    ("eval93_5k", "13-33.1", "wsj1/si_et_h2/wsj5k", ("4oc",), 3, "beside"),
)
# How many utterances each set has here.
COUNTS = {
    "si84": 8, "si284": 16, "dev93": 4, "dev93_5k": 3, "eval92": 4, "eval92_5k": 3, "eval93": 4, "eval93_5k": 3,
}  # fmt: skip
CAPITALS = ("13-16.1", "11-14.1")
CODINGS = (
    ("pcm,embedded-shorten-v1.09", "01"),
    ("pcm,embedded-shorten-v2.00", "10"),
    ("pcm", "01"),
    ("pcm", "10"),
)
RATE = 16000

# Marks of the discs' transcripts around four phrases: {0} said what, {1} did, {2} to it, {3} when.
MARKED = (
    "The {0} {1} the {2} {3} ,COMMA <he> said .PERIOD",
    "[loud_breath] the {0} {1} . the {2} [<door_slam] {3}",
    "the {0} {1} ~",
    '\\"DOUBLE-QUOTE the {0} {1} the {2} \\"DOUBLE-QUOTE --DASH {3}',
    "[tongue_click/] the {0} [/tongue_click] {1} two .POINT five \\%PERCENT [phone_ring>] {3}",
    "the {0} *{1}* !the {2} :COLON {3} ?QUESTION-MARK",
    "the {0} {1} \\(LEFT-PAREN the {2} \\)RIGHT-PAREN {3} Mr. Smith [cough]",
)
WORDS = (
    ("company", "bank", "senator", "market", "union", "airline", "minister", "dealer"),
    ("sold", "closed", "changed", "opened", "wanted", "watched", "bought"),
    ("plan", "paper", "office", "contract", "building", "fund", "bond", "oil"),
    ("today", "in June", "again", "last week", "before noon", "at night"),
)


@dataclasses.dataclass
class WsjTree:
    """wsj0, wsj1: what is given as these settings. audio, samples (int16), transcripts (as they stand) and texts (as they are
    to be) by utterance; sets: their utterances, sorted; indices: the index file that lists a set, of si284 wsj1's part."""

    wsj0: Path
    wsj1: Path
    audio: dict[str, Path] = dataclasses.field(default_factory=dict)
    dots: dict[str, Path] = dataclasses.field(default_factory=dict)
    samples: dict[str, numpy.ndarray] = dataclasses.field(default_factory=dict)
    transcripts: dict[str, str] = dataclasses.field(default_factory=dict)
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    sets: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    indices: dict[str, Path] = dataclasses.field(default_factory=dict)

    def settings(self) -> dict[str, str]:
        return {"wsj0": str(self.wsj0), "wsj1": str(self.wsj1)}


def small_sets(monkeypatch) -> None:
    """Makes the sets as large as they are here, for as long as a test takes: complete look-alikes are complete."""
    for name, count in COUNTS.items():
        monkeypatch.setitem(SETS, name, dataclasses.replace(SETS[name], counts=(count,)))


def write_wsj(folder: Path, layout: str = "discs", seed: int = 1) -> WsjTree:
    """Writes a tree below `folder`. layout: "discs", "flat" (one folder with wsj0 and wsj1), or "one folder" (of all discs)."""
    if layout == "discs":
        tree = WsjTree(folder / "LDC93S6A" / "csr_1", folder / "LDC94S13A")
    else:
        tree = WsjTree(folder, folder)
    place = functools.partial(_place, tree, layout)
    lines: dict[str, list[str]] = {name: [] for name in SETS}
    phrases = _phrases(seed)
    codings = itertools.cycle(CODINGS)
    for name, disc, speech, speakers, count, trans in SPEECH:
        for speaker in speakers:
            dot = []
            for number in range(1, count + 1):
                utterance = f"{speaker}c02{number:02d}"
                transcript = next(phrases)
                samples = _spoken(transcript, speaker, seed)
                tree.audio[utterance] = place(disc, f"{speech}/{speaker}/{utterance}.wv1")
                tree.audio[utterance].write_bytes(_sphere(transcript, speaker, seed, *next(codings)))
                place(disc, f"{speech}/{speaker}/{utterance}.wv2").write_bytes(b"the second microphone")
                tree.samples[utterance], tree.transcripts[utterance] = samples, transcript
                tree.texts[utterance] = normalize(transcript)
                dot.append(f"{transcript} ({utterance.upper() if number == 2 else utterance})\n")
                lines[name].append(f"{disc}:{speech}/{speaker}/{utterance}.wv1")
            target = f"{disc}/{speech}" if trans == "beside" else trans
            at_disc, _, below = target.partition("/")
            tree.dots[speaker] = place(at_disc, f"{below}/{speaker}/{speaker}c0200.dot")
            tree.dots[speaker].write_text("".join(dot))
    # The second listing of speaker 401 is of nothing.
    lines["si84"] += [f"11-2.1:wsj0/si_tr_s/401/401c02{number:02d}.wv1" for number in range(1, 4)]
    _write_indices(tree, lines, place)
    for name, texts in lines.items():
        ids = {line.rpartition("/")[2].partition(".")[0] for line in texts if not line.startswith("11-2.1")}
        tree.sets[name] = sorted(ids)
    tree.sets["si284"] = sorted(tree.sets["si84"] + tree.sets["si284"])
    return tree


def _write_indices(tree: WsjTree, lines: dict[str, list[str]], place) -> None:
    for name, wanted in SETS.items():
        index = wanted.indices[-1]
        back = {to: at for at, to in index.moved}
        written = [f";; {name}, a look-alike\n", ";;\n"]
        for number, line in enumerate(lines[name]):
            disc, _, path = line.partition(":")
            disc = back.get(disc, disc).replace("-", "_").replace(".", "_")
            if name.startswith("eval92"):
                path = path.removesuffix(".wv1")
            written.append(f"{disc}:{('', ' ', '/', ' /')[number % 4]}{path}\n")
        tree.indices[name] = place(index.disc, index.path)
        ending = "\r\n" if name == "dev93" else "\n"
        tree.indices[name].write_text("".join(written), newline=ending)


def _place(tree: WsjTree, layout: str, disc: str, path: str) -> Path:
    """Where a disc's file is in the layout; makes its folder."""
    top = tree.wsj0 if disc.startswith("11") else tree.wsj1
    if layout != "flat":
        capitals = disc in CAPITALS
        # Systems that showed capitals showed the version of a file, or a final dot, too.
        path = f"{path.upper()};1" if capitals else path
        top = top / (disc.replace("-", "_") if disc == "13-34.1" else disc)
    file = top / path
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _phrases(seed: int):
    """Transcripts that differ in their words, one after another; every second one has marks."""
    combinations = list(itertools.product(*WORDS))
    random.Random(seed).shuffle(combinations)
    marked = itertools.cycle(MARKED)
    for number, words in enumerate(combinations):
        yield (next(marked) if number % 2 == 0 else "the {0} {1} the {2} {3}").format(*words)


@functools.cache
def _spoken(transcript: str, speaker: str, seed: int) -> numpy.ndarray:
    """int16 samples at 16 kHz."""
    words = [word.strip('"%.,:;?!()-*').replace("-", " ").lower() for word in normalize(transcript).split()]
    voice = f"en-us+{('m1', 'm3', 'f2', 'f4', 'm7')[sum(map(ord, speaker)) % 5]}"
    said = synthesize(" ".join(word for word in words if word != "<noise>"), voice, rate=260, seed=seed)
    waveform = resample(said.samples.astype(numpy.float32) / 32768, said.sample_rate, RATE)
    return numpy.clip(numpy.rint(waveform * 32768), -32768, 32767).astype(numpy.int16)


@functools.cache
def _sphere(transcript: str, speaker: str, seed: int, coding: str, byte_format: str) -> bytes:
    """The file of it: encoding takes long, and tests write many trees."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_sphere(Path(folder) / "speech", _spoken(transcript, speaker, seed), RATE, coding, byte_format)
        return path.read_bytes()


def write_complete_listing(folder: Path) -> Path:
    """A flat tree with all 39,521 utterances of the complete discs, every recording a link to one file. Gives `folder`.

    The names are made up; the index files have as many lines as the real ones, those left out for speaker 401 included.
    """
    speech = write_sphere(folder / "speech.sph", numpy.zeros(1600, numpy.int16), RATE)
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    numbers = ["".join(pair) for pair in itertools.product(digits, repeat=2)][1:]  # 00 is the transcript's
    for at, (name, wanted) in enumerate(SETS.items()):
        count = wanted.counts[0] - (SETS["si84"].counts[0] if name == "si284" else 0)
        index = wanted.indices[-1]
        half = "wsj0" if index.disc.startswith("11") else "wsj1"
        disc = index.disc.replace("-", "_").replace(".", "_")
        lines = [f"; {name}\n"]
        original = folder / f"{name}.sph"
        original.write_bytes(speech.read_bytes())  # a file has 65,000 links at most
        for number in range(0, count, len(numbers)):
            speaker = f"{digits[at]}{numbers[number // len(numbers)]}"
            below = f"{half}/{name}/{speaker}"
            (folder / below).mkdir(parents=True)
            utterances = [f"{speaker}c02{each}" for each in numbers[: count - number]]
            for utterance in utterances:
                os.link(original, folder / below / f"{utterance}.wv1")
            (folder / below / f"{speaker}c0200.dot").write_text("".join(f"A WORD ({each})\n" for each in utterances))
            lines += [f"{disc}:{below}/{utterance}.wv1\n" for utterance in utterances]
        if name == "si84":
            lines += [f"11_2_1:wsj0/si_tr_s/401/401c02{each}.wv1\n" for each in numbers[:102]]
        path = folder / index.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))
    return folder

"""Look-alikes of the Switchboard discs, of the ms98 transcripts and of the Hub5 2000 evaluation, with speech by eSpeak NG: the
discs themselves are licensed and cannot be in a test.

The folders, names and markup are as on the discs, and so are their oddities: a disc in capitals, one without `data/`, sample
counts of all channels as in first releases, compressed audio, lines of nothing but silence, lines without words.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy

from asr.audio.reading import resample
from asr.data.corpora.switchboard import discs as switchboard_discs
from asr.data.corpora.switchboard import eval2000
from asr.text.espeak import synthesize
from tests.support.sphere_files import first_release, g711, write_sphere

RATE = 8000
# A voice and a topic for each of the sixteen sides, so that no two utterances are the same.
VOICES = [
    f"{accent}+{variant}" for accent in ("en-us", "en") for pair in range(1, 5) for variant in (f"m{pair}", f"f{pair}")
]
TOPICS = "fish money snow cars music horses bread paper golf trains camping houses cooking dogs books rain".split()
PAUSE = 0.4  # seconds of silence between two phrases

# (as it is transcribed, the words that were said, the words that were intended, what eSpeak says); * is the topic
PHRASES = (
    (
        "hi um yeah i'd like to tell a [laughter-story] about * [laughter]",
        "hi um yeah i'd like to tell a story about * [laughter]",
        "hi um yeah i'd like to tell a story about * [laughter]",
        "hi um yeah i'd like to tell a story about *",
    ),
    (
        "[noise] well [it'n/isn't] that -[an]y ab[solute]- trouble with *",
        "[noise] well it'n that -y ab- trouble with *",
        "[noise] well isn't that -y ab- trouble with *",
        "well isn't that knee ab trouble with *",
    ),
    ("uh-huh", "uh-huh", "uh-huh", "uh-huh"),
    (
        "<b_aside> the day before yesterday <e_aside> i saw * at IBM",
        "the day before yesterday i saw * at i b m",
        "the day before yesterday i saw * at i b m",
        "the day before yesterday i saw * at i b m",
    ),
    (
        "that {yuppiedom} is for * and them_1 [vocalized-noise]",
        "that yuppiedom is for * and them [vocalized-noise]",
        "that yuppiedom is for * and them [vocalized-noise]",
        "that yuppiedom is for * and them",
    ),
    (
        "it was about time for * [silence] to [lea[rn]-/leave]",
        "it was about time for * to lea-",
        "it was about time for * to leave",
        "it was about time for * to leave",
    ),
)
# (conversation, where its file lies, how it is coded, whether its header counts the samples of both channels)
DISCS = (
    ("sw02001", "swb1_d1/data/sw02001.sph", "ulaw", False),
    ("sw02005", "swb1_d1/data/sw02005.sph", "ulaw", False),
    ("sw02010", "swb1_d2/data/sw02010.sph", "ulaw,embedded-shorten-v2.00", False),
    ("sw03021", "SWB1_D3/DATA/SW03021.SPH", "ulaw", True),
    ("sw03405", "swb1_d3/sw03405.sph", "ulaw", False),
    ("sw04104", "swb1_d4/data/sw04104.sph", "ulaw", False),
)

# (as it stands in the STM file, the words, what eSpeak says; None: ignored in scoring)
REFERENCES = (
    ("OH YEAH (%HESITATION) I KNOW *", "oh yeah uh i know *", "oh yeah uh i know *"),
    (
        "((%HESITATION) <B_ASIDE> THE DAY BEFORE YESTERDAY <E_ASIDE> (WE-) WE LEFT * (%HESITATION)",
        "uh the day before yesterday we- we left * uh",
        "uh the day before yesterday we we left * uh",
    ),
    ("IT IS {OKAY / OK} FOR * AT THAT TIME", "it is okay for * at that time", "it is okay for * at that time"),
    ("UH-HUH", "uh-huh", "uh-huh"),
)
IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"
EVALUATED = (("en_4156", "EN", "M"), ("sw_4390", "SW", "F"))

STM_HEADER = """;; Reference file for english
;; CATEGORY "0" "" ""
;; LABEL "O" "Overall" "The Complete Test Set"
;; CATEGORY "1" "Corpus" ""
;; LABEL "EN" "Callhome" "Callhome conversations"
;; LABEL "SW" "Switchboard" "Switchboard conversations"
;; CATEGORY "2" "Sex" ""
;; LABEL "F" "Female" "Female Caller"
;; LABEL "M" "Male" "Male Caller"
"""
# Rules in the syntax of the real file: words, words by their neighbours, contractions with several readings.
GLM = """;; global mapping of words before scoring
* name "en20000405_hub5.glm"
* desc "a look-alike of the rules of the Hub5 2000 evaluation"
* format = 'NIST1'
* max_nrules = '2000'
* copy_no_hit = 'T'
* case_sensitive = 'F'
;; hesitations
[UH]  => [%HESITATION]  / [ ] __ [ ]   ;; as all of them
[UM]  => [%HESITATION]  / [ ] __ [ ]
;; spellings
[OKAY] => [OK]  / [ ] __ [ ]
[MM-HM] => [UH-HUH]  / [ ] __ [ ]
[YUPPIEDOM] => [YUPPIE DOM] / [ ] __ [ ]
;; CONTRACTIONIZER
[ISN'T] => [IS NOT] / [ ] __ [ ]
[I'D] => [{I WOULD / I HAD}] / [ ] __ [ ]
[IT'S] => [{IT IS / IT HAS}] / [ ] __ [ ]
"""


def small_discs(monkeypatch, phrases: int = 4) -> None:
    """Makes the counts of the discs those of `write_tree`, for as long as a test takes: complete look-alikes are complete."""
    monkeypatch.setattr(switchboard_discs, "CONVERSATIONS", (len(DISCS), len(DISCS) - 1))
    monkeypatch.setattr(eval2000, "CONVERSATIONS", len(EVALUATED))
    words = {"oh": 6, "((": 10, "it": 8, "uh": 2}  # after the rules: UH-HUH is two
    of_side = sum(words[REFERENCES[phrase % 4][0][:2].lower()] for phrase in range(phrases))
    counts = {"segments": 2 * phrases, "words": 2 * of_side}
    whole = {key: 2 * count for key, count in counts.items()}
    expected = {"eval2000": whole, "eval2000_swbd": counts, "eval2000_callhm": counts}
    monkeypatch.setattr(eval2000, "COUNTS", expected)


@dataclasses.dataclass
class SwitchboardTree:
    """swb1, transcripts, eval2000, references: what is given as these settings.

    audio: the SPHERE file of each conversation. samples: (samples,) int16 of each side ("sw02001-A"), as they come back from
    mu-law. said, intended: the words by Kaldi's utterance id. segments: (start, end) of each, in samples; evaluated: the words
    of each segment of the evaluation that is scored.
    """

    swb1: Path
    transcripts: Path
    eval2000: Path
    references: Path
    audio: dict[str, Path] = dataclasses.field(default_factory=dict)
    samples: dict[str, numpy.ndarray] = dataclasses.field(default_factory=dict)
    said: dict[str, str] = dataclasses.field(default_factory=dict)
    intended: dict[str, str] = dataclasses.field(default_factory=dict)
    segments: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    evaluated: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        """The four settings, as the command line takes them."""
        return {key: str(getattr(self, key)) for key in ("swb1", "transcripts", "eval2000", "references")}


@functools.cache
def speech(text: str, voice: str) -> numpy.ndarray:
    """`text` by eSpeak, (samples,) int16 at 8 kHz."""
    spoken = synthesize(text, voice)
    waveform = resample(spoken.samples.astype(numpy.float32) / 32768, spoken.sample_rate, RATE)
    return numpy.clip(numpy.rint(waveform * 32768), -32768, 32767).astype(numpy.int16)


def ids(side: str, start: int, end: int) -> str:
    """Kaldi's id of an utterance from sample to sample, by whole numbers: half a hundredth of a second is rounded up."""
    hundredth = RATE // 100
    return f"{side}_{(start + hundredth // 2) // hundredth:06d}-{(end + hundredth // 2) // hundredth:06d}"


def write_tree(root: Path, phrases: int = 4, evaluation: bool = True) -> SwitchboardTree:
    """Six conversations of so many phrases a side, on four discs, with transcripts; and one of CallHome and one of Switchboard
    to evaluate on."""
    tree = SwitchboardTree(root / "LDC97S62", root / "swb_ms98_transcriptions", root / "hub5e_00", root / "LDC2002T43")
    for number, (conversation, place, coding, counts_all) in enumerate(DISCS):
        sides = [_side(tree, f"{conversation}-{side}", 2 * number + (side == "B"), phrases) for side in "AB"]
        both = _both(sides)
        more = first_release(both) if counts_all else {}
        tree.audio[conversation] = write_sphere(tree.swb1 / place, both, RATE, coding, **more)
        for side, samples in zip("AB", g711(both, "ulaw").T):
            tree.samples[f"{conversation}-{side}"] = samples
    dictionary = tree.transcripts / "sw-ms98-dict.text"
    dictionary.write_text("# words of the ms98 transcripts\n\nIBM ay b iy eh m\n-[an]y iy\nyeah y ae\n")
    if evaluation:
        _write_evaluation(tree, phrases)
    return tree


def _side(tree: SwitchboardTree, side: str, number: int, phrases: int) -> numpy.ndarray:
    """Speaks one side and writes its transcript."""
    pause = numpy.zeros(int(PAUSE * RATE) + 16 * number, numpy.int16)
    parts, lines, at = [pause], [(0, len(pause), "[silence]")], len(pause)
    for phrase in range(phrases):
        phrase_words = PHRASES[(number + phrase) % len(PHRASES)]
        transcript, said, intended, spoken = (words.replace("*", TOPICS[number]) for words in phrase_words)
        samples = speech(spoken, VOICES[number])
        end = at + len(samples)
        lines += [(at, end, transcript), (end, end + len(pause), "[silence]")]
        utterance = ids(side, at, end)
        tree.said[utterance], tree.intended[utterance], tree.segments[utterance] = said, intended, (at, end)
        parts += [samples, pause]
        at = end + len(pause)
    conversation, letter = side.replace("sw0", "sw").split("-")
    name = f"{conversation}{letter}-ms98-a"
    folder = tree.transcripts / conversation[2:4] / conversation[2:]
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        f"{name}-{row:04d} {start / RATE:.6f} {end / RATE:.6f} {text}\n"
        for row, (start, end, text) in enumerate(lines, 1)
    ]
    (folder / f"{name}-trans.text").write_text("".join(rows))
    return numpy.concatenate(parts)


def _both(sides: list[numpy.ndarray]) -> numpy.ndarray:
    """Two sides as (samples, 2), the shorter one filled up with silence."""
    longest = max(map(len, sides))
    return numpy.stack([numpy.pad(side, (0, longest - len(side))) for side in sides], axis=1)


def _write_evaluation(tree: SwitchboardTree, phrases: int) -> None:
    stm = [STM_HEADER]
    for number, (conversation, corpus, sex) in enumerate(EVALUATED):
        sides = []
        for speaker, side in enumerate("AB", start=2 * (len(DISCS) + number)):
            parts, at = [numpy.zeros(RATE // 2, numpy.int16)], RATE // 2
            labels = f"<O,{corpus.lower()},{sex},{corpus.lower()}-{sex}>"
            for phrase in range(phrases):
                reference, words, spoken = REFERENCES[(number + phrase) % len(REFERENCES)]
                reference = reference.replace("*", TOPICS[speaker].upper())
                words, spoken = (text.replace("*", TOPICS[speaker]) for text in (words, spoken))
                samples = speech(spoken, VOICES[speaker])
                # the evaluation's times have two digits, and ours fall on them
                samples = numpy.pad(samples, (0, -len(samples) % (RATE // 100) + RATE // 4))
                start, end = at / RATE, (at + len(samples)) / RATE
                stm.append(f"{conversation} {side} {conversation}_{side} {start:.2f} {end:.2f} {labels}  {reference}\n")
                tree.evaluated[f"{conversation}-{side}_{round(start * 100):06d}-{round(end * 100):06d}"] = words
                parts.append(samples)
                at += len(samples)
            stm.append(
                f"{conversation} {side} {conversation}_{side} {at / RATE:.2f} {at / RATE + 0.25:.2f} {labels}  {IGNORED}\n"
            )
            sides.append(numpy.concatenate([*parts, numpy.zeros(RATE // 2, numpy.int16)]))
        both = _both(sides)
        tree.audio[conversation] = write_sphere(tree.eval2000 / f"english/{conversation}.sph", both, RATE, "ulaw")
        for side, samples in zip("AB", g711(both, "ulaw").T):
            tree.samples[f"{conversation}-{side}"] = samples
    folder = tree.references / "2000_hub5_eng_eval_tr/reference"
    folder.mkdir(parents=True)
    (folder / "hub5e00.english.000405.stm").write_text("".join(stm))
    (folder / "en20000405_hub5.glm").write_text(GLM)

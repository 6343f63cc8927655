"""Hostile inputs as data: what each is, how it is made, which program meets it and how that must end.

`python -m tests.support.hostile_inputs FILE` meets them all and writes what happened as a Markdown table.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import hostile_files as files  # noqa: E402
from tests.support.hostile_models import CHECKPOINTS, PLACES  # noqa: E402
from tests.support.hostile_place import DROPPED, REFUSED, SKIPPED, USED, Outcome, Place  # noqa: E402

MEBIBYTE = 2**20
NAN = float("nan")
MOST_MEMORY = 512 * MEBIBYTE  # beyond what the program takes for good input


@dataclasses.dataclass(frozen=True)
class Case:
    """One hostile input.

    name: what it is. make: makes it in a place and returns the command that meets it.
    outcome: `refused` with a sentence and exit code 2, nothing being left behind; `skipped` and named, all else being
    used; `dropped`, the same by the preparation of the corpus; `stopped` with a sentence and exit code 2, where a run has
    begun, which is left so that it can be resumed; or `used`, where it only looks hostile. says: a pattern of what is said, in
    the list of what was dropped too.
    process: whether it needs a process of its own.
    """

    category: str
    name: str
    make: Callable[[Place], list[str]]
    outcome: str
    says: str
    process: bool = False

    @property
    def key(self) -> str:
        return re.sub(r"[^\w/.]+", "-", f"{self.category}: {self.name}").strip("-")


def train_on(name: str, make: Callable) -> Callable[[Place], list[str]]:
    """A folder to train on, with this file in it."""

    def make_corpus(place: Place) -> list[str]:
        arguments = place.corpus(f"{name}\tone two\tann\ttrain")
        make(place / "corpus" / name)
        return arguments

    return make_corpus


def transcribe(name: str, make: Callable) -> Callable[[Place], list[str]]:
    """This file, and a good one, to transcribe."""

    def make_file(place: Place) -> list[str]:
        make(place / name)
        return place.transcribe(name)

    return make_file


# what it is, the file's name, how it is made, how it ends in training (with what is said), how in transcribing
AUDIO = [
    ("an empty file", "x.wav", lambda path: path.write_bytes(b""), DROPPED, "is empty", SKIPPED),
    ("half a WAV", "x.wav", lambda path: files.cut_short(files.wav(path)), DROPPED, "is cut short", SKIPPED),
    ("half a FLAC", "x.flac", lambda path: files.cut_short(files.noise(path)), DROPPED, "cut short", SKIPPED),
    ("text named .wav", "x.wav", lambda path: path.write_text("Notes, not audio.\n" * 50), DROPPED, "cannot be read as", SKIPPED),
    ("a WAV that claims 2 GiB", "x.wav", lambda path: files.wav(path, claimed=2**31 - 3), DROPPED, "is cut short", SKIPPED),
    ("a WAV of absurd blocks", "x.wav", lambda path: files.wav(path, bits=65528, block=65535), DROPPED, "x.wav", SKIPPED),
    ("a WAV at 0 Hz", "x.wav", lambda path: files.wav(path, sample_rate=0), DROPPED, "x.wav", SKIPPED),
    ("a WAV at 2 GHz", "x.wav", lambda path: files.wav(path, sample_rate=2**31 - 1), DROPPED, "2147483647 Hz", SKIPPED),
    ("a WAV at 44,101 Hz", "x.wav", lambda path: files.wav(path, bytes(88202), sample_rate=44101), USED, r"train\s*│\s*3", USED),
    ("MP3 named .flac", "x.flac", files.mp3, USED, r"train\s*│\s*3", USED),
    ("a sample that is NaN", "x.wav", lambda path: files.floats(path, float("nan")), DROPPED, "not numbers", SKIPPED),
    ("a sample that is infinite", "x.wav", lambda path: files.floats(path, float("-inf")), DROPPED, "not numbers", SKIPPED),
    ("a sample of 1e30", "x.wav", lambda path: files.floats(path, 1e30), DROPPED, "full scale", SKIPPED),
    ("no channels", "x.wav", lambda path: files.wav(path, channels=0, block=2), DROPPED, "x.wav", SKIPPED),
    ("three channels", "x.wav", lambda path: files.wav(path, b"\1\0\2\0\3\0" * 8000, channels=3), USED, r"train\s*│\s*3", USED),
    ("96 kHz", "x.wav", lambda path: files.wav(path, b"\1\0" * 48000, sample_rate=96000), USED, r"train\s*│\s*3", USED),
    ("one sample", "x.wav", lambda path: files.wav(path, b"\1\0"), SKIPPED, "shorter than one frame", SKIPPED),
    ("three hours of WAV", "x.wav", files.three_hours_of_wav, SKIPPED, "longer than 600 s: 10800 s", SKIPPED),
    ("three hours of FLAC at 8 kHz", "x.flac", files.three_hours_of_flac, SKIPPED, "longer than 600 s: 10800 s", SKIPPED),
    ("a link to itself", "x.wav", lambda path: path.symlink_to(path), DROPPED, "x.wav", SKIPPED),
    ("a folder named x.wav", "x.wav", lambda path: path.mkdir(), DROPPED, "is a folder", SKIPPED),
    ("a file that may not be read", "x.wav", files.unreadable, DROPPED, "Permission denied", SKIPPED),
    ("a named pipe", "x.wav", os.mkfifo, DROPPED, "is not a regular file", SKIPPED),
    ("/dev/zero", "x.wav", lambda path: path.symlink_to("/dev/zero"), DROPPED, "is not a regular file", SKIPPED),
]  # fmt: skip


def vanished(place: Place) -> list[str]:
    """A prepared corpus whose converted audio has disappeared since."""
    from asr.data.corpora.folder import FolderCorpus

    arguments = place.corpus("x.ogg\tone two\tann\ttrain")
    place.audio("corpus/x.ogg")
    FolderCorpus(str(place / "corpus")).load(place / "cache", workers=1)
    for file in (place / "cache").glob("**/*.flac"):
        file.unlink()
    return arguments


def in_table(*rows: str | bytes) -> Callable[[Place], list[str]]:
    """A folder to train on, whose table has these rows too, as lines 7 and on; x.wav is there."""

    def make(place: Place) -> list[str]:
        place.audio("corpus/x.wav")
        return place.corpus(*rows)

    return make


def table(change: Callable) -> Callable[[Place], list[str]]:
    """A folder to train on, whose table is changed: `change` gets its path."""

    def make(place: Place) -> list[str]:
        arguments = place.corpus()
        change(place / "corpus/transcripts.tsv")
        return arguments

    return make


def recoded(change: Callable[[bytes], bytes]) -> Callable[[Place], list[str]]:
    return table(lambda path: path.write_bytes(change(path.read_bytes())))


ROW = "x.wav\t{}\tann\ttrain"
TEXT = [
    ("an empty transcript", in_table(ROW.format("")), REFUSED, "tsv:7: the column text is empty"),
    ("a transcript of blanks", in_table(ROW.format(" \u3000 ")), REFUSED, "tsv:7: the column text is empty"),
    ("a transcript of punctuation", in_table(ROW.format("?! …")), SKIPPED, "x\tempty transcript"),
    ("a transcript of emoji", in_table(ROW.format("😀👩‍👩‍👧")), SKIPPED, "x\tempty transcript"),
    ("a transcript of 10,000 words", in_table(ROW.format("one two " * 5000)), SKIPPED, "x\ttoo short for its labels"),
    ("control characters", in_table(ROW.format("one\x07 \x1b[31mtwo")), USED, r"train\s*│\s*3"),
    ("text from right to left", in_table(ROW.format("שלום עולם \u202eone")), USED, r"train\s*│\s*3"),
    ("a letter that training never met", in_table("x.wav\tÿ\tann\tdev"), SKIPPED, "x\toutside the units"),
    ("NUL in a transcript", in_table(ROW.format("one\0two")), REFUSED, "tsv, line 7: .*NUL"),
    ("NUL in a file's name", in_table("x\0.wav\tone two\tann\ttrain"), REFUSED, "tsv, line 7: .*NUL"),
    ("text in Latin-1", in_table(ROW.format("grüße").encode("latin1")), REFUSED, "tsv, line 7: 0xfc is not UTF-8"),
    ("text in UTF-16", recoded(lambda text: text.decode().encode("utf-16-le")), REFUSED, "tsv, line 1: .*UTF-16"),
    ("a byte order mark", recoded(lambda text: b"\xef\xbb\xbf" + text), USED, r"train\s*│\s*2"),
    ("lines that end as Windows' do", recoded(lambda text: text.replace(b"\n", b"\r\n")), USED, r"train\s*│\s*2"),
    ("a column too many", in_table("x.wav\tone\tann\ttrain\tmore"), REFUSED, "tsv:7: expected 4 columns .* found 5"),
    ("columns too few", in_table("x.wav\tone"), REFUSED, "tsv:7: expected 4 columns .* found 2"),
    ("a file on two rows", in_table(ROW.format("one"), ROW.format("two")), REFUSED, "tsv:8: the file x.wav is on line 7"),
    ("a file outside the folder", in_table("../x.wav\tone\tann\ttrain"), REFUSED, r"tsv:7: \.\./x.wav .*outside"),
    ("a split of an unknown name", in_table("x.wav\tone\tann\ttrian"), REFUSED, "no split 'trian': did you mean train"),
    ("only one split", lambda place: place.corpus(splits=("train",)), REFUSED, "puts nothing into dev and test"),
    ("a table that is a named pipe", table(lambda path: (path.unlink(), os.mkfifo(path))), REFUSED, "not a regular file"),
    ("a table that is /dev/zero", table(lambda path: (path.unlink(), path.symlink_to("/dev/zero"))), REFUSED, "a regular file"),
]  # fmt: skip


def cut(**changes) -> Callable[[Place], list[str]]:
    """Manifests to train on with one cut more, x, in which these fields are changed."""
    return lambda place: place.manifests(place.cut("x", **changes))


def recorded(**changes) -> Callable[[Place], list[str]]:
    """Manifests to train on with one cut more, x, in whose recording these fields are changed."""

    def make(place: Place) -> list[str]:
        data = place.cut("x")
        data["recording"] |= changes
        return place.manifests(data)

    return make


def source(kind: str, name: str) -> Callable[[Place], list[str]]:
    return recorded(sources=[{"type": kind, "channels": [0], "source": name}])


def spoken_in(**changes) -> Callable[[Place], list[str]]:
    """Manifests to train on with one cut more, x, in whose supervision these fields are changed."""
    return lambda place: place.manifests(place.cut("x", supervisions=[place.supervision("x", **changes)]))


def two_supervisions(**changes) -> Callable[[Place], list[str]]:
    def make(place: Place) -> list[str]:
        parts = [
            place.supervision("x1", duration=0.25),
            place.supervision("x2", **{"start": 0.25, "duration": 0.25} | changes),
        ]
        return place.manifests(place.cut("x", supervisions=parts))

    return make


def manifest(name: str, content: bytes | Callable[[Place], bytes]) -> Callable[[Place], list[str]]:
    return lambda place: place.manifest(name, content(place) if callable(content) else content)


def floats_in_manifest(place: Place) -> list[str]:
    arguments = place.evaluate("split=train")
    place.manifests(place.cut("x", files.floats(place / "x.wav", NAN)))
    return arguments


def three_hours_in_manifest(place: Place) -> list[str]:
    return place.manifests(place.cut("x", files.three_hours_of_wav(place / "x.wav"), files.THREE_HOURS))


def cut_short_in_manifest(place: Place) -> list[str]:
    return place.manifests(place.cut("x", files.cut_short(files.wav(place / "x.wav"))))


def piped_in_manifest(place: Place) -> list[str]:
    os.mkfifo(place / "x.wav")
    return place.manifests(place.cut("x", place / "x.wav"))


def half_a_gzip(place: Place) -> list[str]:
    arguments = place.manifest("x.jsonl.gz", b"\n" * 99999 + b"{}")
    files.cut_short(place / "x.jsonl.gz")
    return arguments


MANIFESTS = [
    ("an id that is there twice", lambda place: place.manifests(place.cut("train0")), REFUSED, "'train0' occurs twice"),
    ("a negative duration", cut(duration=-1.0), REFUSED, "train.jsonl:3: .*duration"),
    ("a duration of zero", cut(duration=0.0), REFUSED, "train.jsonl:3: .*duration"),
    ("a duration of NaN", cut(duration=NAN), REFUSED, "train.jsonl:3: .*duration"),
    ("a duration in words", cut(duration="long"), REFUSED, "train.jsonl:3: "),
    ("an enormous start", cut(start=1e300), REFUSED, "train.jsonl:3: .*start"),
    ("a negative start", cut(start=-0.5), REFUSED, "train.jsonl:3: .*start"),
    ("a cut longer than its recording", cut(duration=5.0), SKIPPED, "x\tbeyond its recording"),
    ("a recording longer than its file", lambda place: place.manifests(place.cut("x", place.audio("x.wav"), 5.0)),
     SKIPPED, "x\tshorter than its manifest says"),
    ("a recording of another rate than its file", recorded(sampling_rate=8000, num_samples=4000),
     SKIPPED, "x\tanother sample rate"),
    ("a recording at -16000 Hz", recorded(sampling_rate=-16000), REFUSED, "train.jsonl:3: .*sampling_rate"),
    ("a recording of three hours", three_hours_in_manifest, SKIPPED, "x\tlonger than 600 s"),
    ("a channel that is not there", cut(channel=7), REFUSED, "train.jsonl:3: .*channel"),
    ("audio outside the corpus", source("file", "/etc/passwd"), SKIPPED, "x\tunreadable audio: /etc/passwd"),
    ("a path up to another folder", source("file", "../../../../nowhere.wav"), SKIPPED, "x\tmissing audio: ../.*nowhere.wav"),
    ("audio that is not there", source("file", "nowhere.wav"), SKIPPED, "x\tmissing audio: nowhere.wav is not there"),
    ("audio that a command makes", source("command", "touch it-was-run"), REFUSED, "of type 'command'"),
    ("audio at an address", source("url", "http://localhost:1/x.wav"), REFUSED, "of type 'url'"),
    ("audio in a named pipe", piped_in_manifest, SKIPPED, "x\tunreadable audio: .*not a regular file"),
    ("audio that is cut short", cut_short_in_manifest, SKIPPED, "x\tunreadable audio"),
    ("half a line", manifest("x.jsonl", b'{"id": "x", "start": 0'), REFUSED, "x.jsonl:1: this line is not complete JSON"),
    ("half a gzip", half_a_gzip, REFUSED, "damaged or cut short"),
    ("one line of 50 MB", manifest("x.jsonl", b"[" * 50_000_000), REFUSED, "x.jsonl:1: "),
    ("JSON of another kind", manifest("x.jsonl", b'{"utterance": "x"}'), REFUSED, "x.jsonl:1: expected a lhotse cut"),
    ("a manifest in Latin-1", manifest("x.jsonl", '{"id": "ü"}'.encode("latin1")), REFUSED, "x.jsonl, line 1: 0xfc is not UTF-8"),
    ("an empty manifest", manifest("x.jsonl", b""), REFUSED, "holds no cuts with a transcript"),
    ("a mixed cut", cut(type="MixedCut"), REFUSED, "train.jsonl:3: expected a MonoCut or MultiCut, found MixedCut"),
    ("a padding cut", cut(type="PaddingCut"), REFUSED, "found PaddingCut"),
    ("no supervision", cut(supervisions=[]), SKIPPED, "x\tno supervision"),
    ("a supervision without text", spoken_in(text=None), SKIPPED, "x\tno text"),
    ("text that is a number", spoken_in(text=7), REFUSED, "train.jsonl:3: .*text"),
    ("several supervisions", two_supervisions(), USED, r"train\s*│\s*4"),
    ("one of them with no duration", two_supervisions(duration=0.0), REFUSED, "train.jsonl:3: .*duration"),
    ("one of them beyond the cut", two_supervisions(start=100.0), REFUSED, "train.jsonl:3: .*start"),
]  # fmt: skip


def cases() -> list[Case]:
    """All of them. Raises ValueError if two have one name."""
    found = []
    for name, file, make, in_training, says, in_transcribing in AUDIO:
        found.append(Case("audio to train on", name, train_on(file, make), in_training, says))
        says = f"^{file}\t" if in_transcribing == USED else says
        found.append(Case("audio to transcribe", name, transcribe(file, make), in_transcribing, says))
    found.append(Case("audio to train on", "audio that vanished from the cache", vanished, SKIPPED, "x\tmissing audio"))
    found += [Case("text", *row) for row in TEXT]
    found += [Case("manifest", *row) for row in MANIFESTS]
    found.append(
        Case("manifest", "NaN in the audio, found while it is scored", floats_in_manifest, REFUSED, "not numbers")
    )
    found += [Case("checkpoint", name, make, REFUSED, says) for name, make, says in CHECKPOINTS]
    found += [Case("place", *row) for row in PLACES]
    if len({case.key for case in found}) < len(found):
        raise ValueError("two hostile inputs have the same name")
    return found


def meet(case: Case, folder: Path) -> Outcome | str:
    """Makes the input in a folder and runs the program; why it cannot be made here, if it cannot."""
    place = Place(folder)
    try:
        arguments = case.make(place)
        if case.outcome in (REFUSED, DROPPED, USED) and case.category in ("audio to train on", "text", "manifest"):
            arguments = as_preparation(arguments)
        return place.run(arguments, case.process)
    except PermissionError as error:
        return str(error)
    finally:
        place.close()


def as_preparation(arguments: list[str]) -> list[str]:
    """The preparation of the corpus that train.py was to take: the same reading without the wait for training."""
    if arguments[0] != "train.py":
        return arguments
    (corpus,) = (argument.removeprefix("corpus=") for argument in arguments if argument.startswith("corpus="))
    settings = [argument.removeprefix("corpus.") for argument in arguments if argument.startswith("corpus.")]
    return ["scripts/prepare.py", corpus, *settings, "cache=cache"]


def what_was_said(outcome: Outcome, case: Case, folder: Path) -> str:
    """The words that matter: the line with the pattern in it, else the first; the folder's name left out."""
    said = outcome.errors + outcome.dropped + outcome.output
    lines = [line for line in said.splitlines() if re.search(case.says, line, re.MULTILINE)] or said.splitlines()
    line = " ".join((lines or [""])[0].replace(f"{folder}/", "").replace("│", " ").replace("\t", " → ").split())
    return line.replace("|", "\\|")


def what_was_left(outcome: Outcome) -> str:
    if any(path.endswith("run/config.yaml") for path in outcome.left):
        return "the run"
    if any(path.endswith("corpus.json") for path in outcome.left):
        return "the corpus in the cache"
    return ", ".join(outcome.left) or "nothing"


def row_of(case: Case, folder: Path) -> tuple[str, ...]:
    """The case's row of the table, met in this folder."""
    outcome = meet(case, folder)
    if isinstance(outcome, str):
        return case.category, case.name, "–", "–", f"not met: {outcome}", "–"
    said, left = what_was_said(outcome, case, folder), what_was_left(outcome)
    return case.category, case.name, outcome.program, str(outcome.code), said, left


def main(path: str) -> None:
    """Meets every hostile input and writes the table."""
    rows = []
    for case in cases():
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row_of(case, Path(folder) / "here"))
        print(" | ".join(rows[-1]), flush=True)
    met = [row for row in rows if row[2] != "–"]
    heading = (
        f"# {len(met)} hostile inputs\n\n`python -m tests.support.hostile_inputs FILE`, on {datetime.date.today()}. "
        "Exit codes: 2, "
        "refused with this sentence and nothing left behind; 1, this file named and the others transcribed; 0, used, or "
        "left out by name (`dropped.tsv`: split → utterance → reason).\n"
    )
    table = [("category", "input", "met by", "exit code", "what was said", "left behind"), ("---",) * 6, *rows]
    lines = [f"| {' | '.join(row)} |" for row in table]
    Path(path).write_text("\n".join([heading, *lines]) + "\n", encoding="utf8")


if __name__ == "__main__":
    main(*sys.argv[1:])

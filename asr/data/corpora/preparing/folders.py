"""What every corpus on disk needs: stable held-out splits, and a prepared folder that is complete or absent."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from asr.data.corpora import Corpus
from asr.errors import UserError
from asr.runtime.files import make_folder
from asr.runtime.text_files import DAMAGED

if TYPE_CHECKING:
    from lhotse import CutSet, MonoCut

SPLITS = ("train", "dev", "test")
NO_SPEAKER = "unknown"
RATES = range(1000, 384_001)  # Hz
# in an unfinished folder: the fingerprint of what it is made from
ORIGIN = ".made_from"
SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def fingerprint(*parts: Any) -> str:
    """Ten hexadecimal digits that change whenever one of the parts (plain data, as JSON) changes."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def check_rate(rate: Any) -> None:
    """Raises UserError unless `rate` is a sample rate in Hz."""
    if isinstance(rate, bool) or not isinstance(rate, int) or rate not in RATES:
        raise UserError(f"sample_rate={rate} is not a sample rate in Hz, such as 16000.")


def check_fractions(dev_fraction: float, test_fraction: float) -> None:
    """Raises UserError unless both are positive numbers that leave something to train on."""
    for field, value in (("dev_fraction", dev_fraction), ("test_fraction", test_fraction)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            raise UserError(f"{field}={value} is not a number between 0 and 1, such as 0.1.")
    if dev_fraction + test_fraction >= 1:
        raise UserError(
            f"dev_fraction={dev_fraction} and test_fraction={test_fraction} leave nothing to train on: lower them."
        )


def split_by_hash(keys: Iterable[str], dev_fraction: float, test_fraction: float, seed: int) -> dict[str, str]:
    """The split ("train", "dev" or "test") of each key, by a stable hash of (seed, key).

    A key keeps its split when others come or go, except that a split that would be empty takes the keys next to its border.
    Raises UserError for fewer than three keys, which cannot fill three splits.
    """
    share = {}
    for key in keys:
        digest = hashlib.sha256(f"{seed}\n{key}".encode()).digest()
        share[key] = int.from_bytes(digest[:8], "big") / 2**64
    order = sorted(share, key=lambda key: (share[key], key))
    if len(order) < 3:
        raise UserError(f"{len(order)} are too few to be divided into train, dev and test: give three or more.")
    tests = sum(share[key] < test_fraction for key in order)
    held_out = sum(share[key] < test_fraction + dev_fraction for key in order)
    tests = min(max(tests, 1), len(order) - 2)
    held_out = min(max(held_out, tests + 1), len(order) - 1)
    return {key: "test" if at < tests else "dev" if at < held_out else "train" for at, key in enumerate(order)}


@contextlib.contextmanager
def whole_or_not_at_all(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `folder` to write into, renames it to `folder` at the end, removes it on failure.

    If another process has finished the same folder meanwhile, its folder stays. Raises UserError if writing fails.
    """
    # not the process id: another machine that shares the folder may have the same one
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}.part")
    new = [above for above in temporary.parents if not above.exists()]
    try:
        make_folder(temporary)
    except OSError as error:
        _remove_empty(new)
        raise UserError(
            f"The cache folder {folder.parent} cannot be written ({error.strerror}): choose another with cache=FOLDER."
        ) from None
    try:
        yield temporary
        try:
            os.rename(temporary, folder)
        except OSError:
            if not folder.is_dir():
                raise
            shutil.rmtree(temporary)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_empty(new)
        raise UserError(
            f"Writing {folder} failed: {error}. Nothing was kept. Free some space or choose another cache=FOLDER, then run it "
            "again."
        ) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_empty(new)
        raise


class MadeMeanwhile(Exception):
    """Another process has made the folder that this one was about to make."""


def wait_for(lock: TextIO, folder: Path) -> None:
    """Takes the lock on `folder`; prints a line if it has to wait for another process."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"Another process is preparing {folder}; waiting for it.", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise UserError(
            f"The cache folder {folder.parent} cannot be locked ({error.strerror}): choose another with cache=FOLDER."
        ) from None


@contextlib.contextmanager
def continued(folder: Path, made_from: Any = None) -> Iterator[Path]:
    """Yields `.<name>.part` beside `folder` to write into and renames it to `folder` at the end; for hours of work.

    Unlike with `whole_or_not_at_all`, finished work survives a failure. The next run continues from it if `made_from` (plain
    data) is the same, and starts over if not. While another process makes the same folder, this one waits. Raises UserError
    if writing fails, and MadeMeanwhile if the other process has finished the folder.
    """
    part = folder.with_name(f".{folder.name}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = open(folder.with_name(f".{folder.name}.lock"), "w")
    except OSError as error:
        raise UserError(
            f"The cache folder {folder.parent} cannot be written ({error.strerror}): choose another with cache=FOLDER."
        ) from None
    with lock:
        wait_for(lock, folder)
        if folder.is_dir():
            with contextlib.suppress(OSError):
                os.unlink(lock.name)
            raise MadeMeanwhile
        origin, made_from = part / ORIGIN, fingerprint(made_from)
        try:
            part.mkdir(exist_ok=True)
            if not origin.is_file() or origin.read_text(encoding="utf8") != made_from:
                shutil.rmtree(part)
                part.mkdir()
                origin.write_text(made_from, encoding="utf8")
            yield part
            # in this order: a part without its origin would be started over
            os.rename(part, folder)
            (folder / ORIGIN).unlink()
        except OSError as error:
            raise UserError(
                f"Writing {folder} failed: {error}. Finished work is kept in {part}. Free some space, then run it again: it "
                "continues from there."
            ) from error
        with contextlib.suppress(OSError):
            os.unlink(lock.name)


def _remove_empty(folders: list[Path]) -> None:
    """Removes folders, innermost first, as far as they exist and are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def utterance_cut(
    utterance: str, audio: str, samples: int, sample_rate: int, text: str, speaker: str, language: str | None
) -> MonoCut:
    """A lhotse cut of one whole recording with one supervision. audio: its path, absolute or from the corpus folder."""
    duration = samples / sample_rate
    return segment_cut(utterance, audio, samples, sample_rate, 0.0, duration, text, speaker, language, utterance)


def segment_cut(
    utterance: str,
    audio: str,
    recording_samples: int,
    sample_rate: int,
    start: float,
    duration: float,
    text: str,
    speaker: str,
    language: str | None,
    recording_id: str | None = None,
) -> MonoCut:
    """A lhotse cut of a part of a longer recording with one channel, with one supervision as long as the cut.

    audio: its path, absolute or from the corpus folder. recording_samples: of the whole recording. start, duration: in
    seconds. recording_id: by default the name of the audio file without its suffix.
    """
    from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

    recording = Recording(
        recording_id or Path(audio).stem,
        [AudioSource("file", [0], audio)],
        sampling_rate=sample_rate,
        num_samples=recording_samples,
        duration=recording_samples / sample_rate,
    )
    supervision = SupervisionSegment(
        utterance, recording.id, start=0.0, duration=duration, channel=0, text=text, speaker=speaker, language=language
    )
    return MonoCut(utterance, start, duration, channel=0, supervisions=[supervision], recording=recording)


def write_manifests(
    folder: Path,
    splits: dict[str, list[MonoCut]],
    dropped: list[tuple[str, str]],
    facts: dict[str, Any],
    left_out: Iterable[tuple[str, str]] = (),
    dropped_in: Mapping[str, Iterable[str]] = {},
) -> None:
    """Writes cuts_<split>.jsonl.gz, dropped.tsv, left_out.tsv and corpus.json (`facts`) into `folder`.

    dropped, left_out, dropped_in: as in `Corpus`. Raises ValueError for a split whose name cannot be part of a file name.
    """
    from lhotse import CutSet

    for split in splits:
        if not SPLIT_NAME.fullmatch(split):
            raise ValueError(f"{split!r} is not a name for a split")
        CutSet.from_cuts(splits[split]).to_file(folder / f"cuts_{split}.jsonl.gz")
    splits_of: dict[str, list[str]] = {}
    for split, ids in dropped_in.items():
        for utterance in ids:
            splits_of.setdefault(utterance, []).append(split)
    rows = [(utterance, reason, " ".join(splits_of.get(utterance, ()))) for utterance, reason in dropped]
    _write_table(folder / "dropped.tsv", ("utterance", "reason", "splits"), rows)
    _write_table(folder / "left_out.tsv", ("utterance", "reason"), left_out)
    (folder / "corpus.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf8")


def _write_table(path: Path, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with open(path, "w", encoding="utf8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)


@contextlib.contextmanager
def damage_as_a_sentence(folder: Path) -> Iterator[None]:
    """Turns whatever reading a damaged prepared folder raises into a UserError that says what to do."""
    try:
        yield
    except (*DAMAGED, OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise UserError(
            f"The prepared corpus in {folder} is damaged ({error}): remove that folder to have it prepared again."
        ) from error


def read_splits(folder: Path) -> dict[str, CutSet]:
    """The cuts that `write_manifests` wrote, with relative audio paths made absolute: the folder may have moved.

    Train, dev and test come first. Raises UserError for a damaged folder.
    """
    from lhotse import CutSet

    splits = {}
    with damage_as_a_sentence(folder):
        there = [file.name[len("cuts_") : -len(".jsonl.gz")] for file in sorted(folder.glob("cuts_*.jsonl.gz"))]
        if not there:
            raise ValueError("there are no cuts_*.jsonl.gz")
        for split in sorted(there, key=lambda split: SPLITS.index(split) if split in SPLITS else len(SPLITS)):
            # None for a split without any usable utterance
            cuts = CutSet.from_file(folder / f"cuts_{split}.jsonl.gz") or []
            splits[split] = CutSet.from_cuts([cut.with_recording_path_prefix(folder.resolve()) for cut in cuts])
    return splits


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts that `write_manifests` wrote. Raises UserError for a damaged folder."""
    with damage_as_a_sentence(folder):
        return json.loads((folder / "corpus.json").read_text(encoding="utf8"))


def with_dropped(corpus: Corpus, folder: Path) -> Corpus:
    """The corpus with what its prepared folder lists as dropped and as left out. Raises UserError for a damaged folder."""
    with damage_as_a_sentence(folder):
        dropped, left_out, dropped_in = _read_dropped(folder)
    return dataclasses.replace(corpus, dropped=dropped, left_out=left_out, dropped_in=dropped_in, prepared_in=folder)


def _read_dropped(folder: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]], dict[str, list[str]]]:
    """(dropped, left_out, dropped_in) as in `Corpus`."""
    header, *rows = _read_table(folder / "dropped.tsv")
    if "splits" not in header:
        # prepared by an earlier version, which did not distinguish damage from what is left out on purpose
        return [], [(row[0], row[1]) for row in rows], {}
    dropped_in: dict[str, list[str]] = {}
    for utterance, _, splits in rows:
        for split in splits.split():
            dropped_in.setdefault(split, []).append(utterance)
    left_out = [(row[0], row[1]) for row in _read_table(folder / "left_out.tsv")[1:]]
    return [(row[0], row[1]) for row in rows], left_out, dropped_in


def _read_table(path: Path) -> list[list[str]]:
    with open(path, encoding="utf8", newline="") as file:
        return list(csv.reader(file, delimiter="\t"))


def corpus_in(folder: Path, name: str) -> Corpus:
    """The corpus that `write_manifests` wrote into `folder`.

    Of its facts it reads `sample_rate` (Hz) and, if present, `incomplete`, `aliases`, `lexicon`, `normalization` and `scoring`
    (split → folder below this one); and it finds `lexicon.txt`. Raises UserError for a damaged folder.
    """
    facts, splits = read_facts(folder), read_splits(folder)
    lexicon = folder / "lexicon.txt"
    with damage_as_a_sentence(folder):
        corpus = Corpus(
            name,
            splits,
            facts["sample_rate"],
            [],
            list(facts.get("incomplete", [])),
            dict(facts.get("aliases", {})),
            lexicon if lexicon.is_file() else None,
            dict(facts.get("lexicon", {})),
            dict(facts.get("normalization", {})),
            {split: folder / place for split, place in facts.get("scoring", {}).items()},
        )
    return with_dropped(corpus, folder)

"""What every corpus on disk needs: held-out parts that never move, and a prepared folder that is whole or not there."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import UserError

if TYPE_CHECKING:
    from lhotse import CutSet, MonoCut

SPLITS = ("train", "dev", "test")


def fingerprint(*parts: Any) -> str:
    """Ten hexadecimal digits that change whenever one of the parts (plain data, put in JSON) changes."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def check_fractions(dev_fraction: float, test_fraction: float) -> None:
    """Raises UserError unless both are positive numbers that leave something to train on."""
    for field, value in (("dev_fraction", dev_fraction), ("test_fraction", test_fraction)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            raise UserError(f"{field}={value} is not a number between 0 and 1, such as 0.1.")
    if dev_fraction + test_fraction >= 1:
        raise UserError(f"dev_fraction={dev_fraction} and test_fraction={test_fraction} leave nothing to train on.")


def split_by_hash(keys: Iterable[str], dev_fraction: float, test_fraction: float, seed: int) -> dict[str, str]:
    """The split ("train", "dev" or "test") of each key, by a stable hash of (seed, key).

    A key keeps its split when others come or go. Only where a split would be empty, the keys next to its border are
    moved into it. Raises UserError for fewer than three keys, which cannot fill three splits.
    """
    place = {}
    for key in keys:
        digest = hashlib.sha256(f"{seed}\n{key}".encode()).digest()
        place[key] = int.from_bytes(digest[:8], "big") / 2**64
    order = sorted(place, key=lambda key: (place[key], key))
    if len(order) < 3:
        raise UserError(f"{len(order)} are too few to be divided into train, dev and test: three or more are needed.")
    tests = sum(place[key] < test_fraction for key in order)
    held_out = sum(place[key] < test_fraction + dev_fraction for key in order)
    tests = min(max(tests, 1), len(order) - 2)
    held_out = min(max(held_out, tests + 1), len(order) - 1)
    return {key: "test" if at < tests else "dev" if at < held_out else "train" for at, key in enumerate(order)}


@contextlib.contextmanager
def whole_or_not_at_all(folder: Path) -> Iterator[Path]:
    """Gives a temporary folder beside `folder` to write into, renames it to `folder` at the end, removes it on failure.

    Where another process has finished the same folder meanwhile, that one stays. Raises UserError if it cannot be
    written.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    new = [above for above in temporary.parents if not above.exists()]
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
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
        raise UserError(f"Writing {folder} failed: {error}. Nothing was kept.") from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_empty(new)
        raise


def _remove_empty(folders: list[Path]) -> None:
    """Removes folders, the innermost first, as far as they are there and empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def utterance_cut(
    utterance: str, audio: str, samples: int, sample_rate: int, text: str, speaker: str, language: str | None
) -> MonoCut:
    """A lhotse cut of one whole recording with one supervision. audio: its path, absolute or from the corpus folder."""
    from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

    duration = samples / sample_rate
    recording = Recording(
        utterance, [AudioSource("file", [0], audio)], sampling_rate=sample_rate, num_samples=samples, duration=duration
    )
    supervision = SupervisionSegment(
        utterance, utterance, start=0.0, duration=duration, channel=0, text=text, speaker=speaker, language=language
    )
    return MonoCut(utterance, start=0.0, duration=duration, channel=0, supervisions=[supervision], recording=recording)


def write_manifests(
    folder: Path, splits: dict[str, list[MonoCut]], dropped: list[tuple[str, str]], facts: dict[str, Any]
) -> None:
    """Writes cuts_<split>.jsonl.gz, dropped.tsv (utterance, reason) and corpus.json (`facts`) into `folder`."""
    from lhotse import CutSet

    for split in SPLITS:
        CutSet.from_cuts(splits[split]).to_file(folder / f"cuts_{split}.jsonl.gz")
    with open(folder / "dropped.tsv", "w", encoding="utf8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(("utterance", "reason"))
        table.writerows(dropped)
    (folder / "corpus.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf8")


def read_manifests(folder: Path) -> tuple[dict[str, CutSet], list[tuple[str, str]], dict[str, Any]]:
    """What `write_manifests` wrote, with relative audio paths made absolute, so that the folder may be moved."""
    from lhotse import CutSet

    try:
        facts = json.loads((folder / "corpus.json").read_text(encoding="utf8"))
        with open(folder / "dropped.tsv", encoding="utf8", newline="") as file:
            dropped = [(row[0], row[1]) for row in list(csv.reader(file, delimiter="\t"))[1:]]
        splits = {}
        for split in SPLITS:
            cuts = CutSet.from_file(folder / f"cuts_{split}.jsonl.gz")
            splits[split] = CutSet.from_cuts([cut.with_recording_path_prefix(folder.resolve()) for cut in cuts])
    except (OSError, EOFError, ValueError, LookupError) as error:
        raise UserError(
            f"The prepared corpus in {folder} is damaged ({error}): remove that folder; it is made anew."
        ) from error
    return splits, dropped, facts

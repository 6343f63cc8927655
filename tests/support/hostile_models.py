"""Hostile checkpoints and places, as rows of the table: what it is, how it is made, how it ends, what is said."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import hostile_files as files
from tests.support.hostile_place import REFUSED, STOPPED, Place, good_checkpoint


def checkpoint(name: str, make: Callable) -> Callable[[Place], list[str]]:
    """transcribe.py with a checkpoint that `make` makes at a path of this name."""

    def make_checkpoint(place: Place) -> list[str]:
        make(place / name)
        return place.transcribe(checkpoint=place / name)

    return make_checkpoint


def changed(file: str, change: Callable[[Path], Any]) -> Callable[[Place], list[str]]:
    """transcribe.py with a model folder, one of whose files is changed."""

    def make(place: Place) -> list[str]:
        folder = place.model()
        change(folder / file)
        return place.transcribe(checkpoint=folder)

    return make


def weights(change: Callable[[Path], Any]) -> Callable[[Place], list[str]]:
    return changed("model.safetensors", change)


def described(part: str, field: str, value: Any) -> Callable[[Place], list[str]]:
    return changed("model.json", lambda path: files.change_json(path, part, field, value))


def planted(path: Path) -> None:
    """A checkpoint like any other, with a pickle in it that makes a file."""
    good_checkpoint(path, callbacks=files.Bomb(path.with_name("it-was-run")))


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


WHAT_IS_IT, NO_WEIGHTS, NO_FIT = (
    "x.ckpt is not a checkpoint",
    "safetensors holds no weights",
    "do not fit the description",
)
CHECKPOINTS = [
    ("an empty .ckpt", checkpoint("x.ckpt", lambda path: path.write_bytes(b"")), WHAT_IS_IT),
    ("half a .ckpt", checkpoint("x.ckpt", lambda path: files.cut_short(good_checkpoint(path))), WHAT_IS_IT),
    ("a text file", checkpoint("x.ckpt", lambda path: path.write_text("weights\n")), WHAT_IS_IT),
    ("a pickle that makes a file", checkpoint("x.ckpt", files.bomb), WHAT_IS_IT),
    ("such a pickle within a .ckpt", checkpoint("x.ckpt", planted), "names code"),
    ("512 MiB squeezed into one", checkpoint("x.ckpt", files.squeezed), "x.ckpt .*compressed"),
    ("a storage of 2**40 elements", checkpoint("x.ckpt", files.huge_storage), WHAT_IS_IT),
    ("units of 2**40 bytes in eight", checkpoint("x.ckpt", files.endless_units), "more.json"),
    ("units that leave their folder", checkpoint("x.ckpt", files.escaping_units), "not a plain file name"),
    ("another program's checkpoint", checkpoint("x.ckpt", files.rewritten), "not a checkpoint of asr"),
    (
        "a folder without a model",
        checkpoint("x", lambda path: path.mkdir()),
        "neither a run's folder nor a model folder",
    ),
    ("a named pipe", checkpoint("x.ckpt", os.mkfifo), "x.ckpt is neither"),
    ("half of the weights' file", weights(files.cut_short), NO_WEIGHTS),
    ("a header that claims 2**60 bytes", weights(files.promising_header), NO_WEIGHTS),
    ("a tensor that claims 2**60 bytes", weights(files.promising_tensor), NO_WEIGHTS),
    ("a pickle in place of the weights", weights(files.bomb), NO_WEIGHTS),
    ("weights that are NaN", weights(files.poison), "not numbers"),
    ("weights of another shape", described("encoder", "feed_forward", 32), NO_FIT),
    ("an encoder of 10**9 layers", described("encoder", "layers", 10**9), NO_FIT),
    ("an encoder 10**9 wide", described("encoder", "feed_forward", 10**9), NO_FIT),
    ("frames of a million seconds", described("features", "window_seconds", 1e6), "window_seconds"),
    ("features at 2**60 Hz", described("features", "sample_rate", 2**60), "sample_rate"),
    ("a part of another name", described("encoder", "name", "os.system"), "There is no"),
    ("half of the description", changed("model.json", files.cut_short), "model.json is not JSON"),
    ("a description a million deep", changed("model.json", lambda path: path.write_text("[" * 10**6)), "is not JSON"),
    ("units of another model", changed("units.json", files.more_units), "the weights are for 7 units"),
    ("units in a named pipe", changed("units.json", piped), "units.json"),
]


def audio_to_convert(place: Place) -> list[str]:
    """A folder to train on whose audio fills half a mebibyte of cache."""
    arguments = place.corpus("x.wav\tone two\tann\ttrain")
    files.noise(place / "corpus/x.wav", seconds=20, sample_rate=22050)
    return arguments


def full(place: Place) -> Path:
    """A disk on which nothing is left."""
    folder = place.disk("disk", "256k")
    with open(folder / "filler", "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return folder
    raise AssertionError("the disk took everything")


def small(place: Place) -> Path:
    """A disk on which a run can begin, without room for a checkpoint."""
    return place.disk("disk", "32k")


def locked(place: Place) -> Path:
    """A disk that can only be read."""
    return place.disk("disk", "1m", read_only=True)


def file(place: Place) -> Path:
    (place / "file").write_text("a file\n")
    return place / "file"


def cache_in(where: Callable[[Place], Path]) -> Callable[[Place], list[str]]:
    return lambda place: [*audio_to_convert(place), f"cache={where(place)}/cache"]


def run_in(where: Callable[[Place], Path]) -> Callable[[Place], list[str]]:
    return lambda place: [*place.manifests(), f"run={where(place)}/run"]


def scores_in(where: Callable[[Place], Path]) -> Callable[[Place], list[str]]:
    return lambda place: place.evaluate(f"output={where(place)}/scores")


NO_SPACE = "No space left on device"
PLACES = [
    ("the cache on a full disk", cache_in(full), REFUSED, NO_SPACE),
    ("the run on a full disk", run_in(full), REFUSED, NO_SPACE),
    ("a disk that fills while training", run_in(small), STOPPED, NO_SPACE),
    ("scores on a full disk", scores_in(full), REFUSED, NO_SPACE),
    ("the cache on a read-only disk", cache_in(locked), REFUSED, "Read-only"),
    ("the run on a read-only disk", run_in(locked), REFUSED, "Read-only"),
    ("scores on a read-only disk", scores_in(locked), REFUSED, "Read-only"),
    ("the cache within a file", cache_in(file), REFUSED, "cannot be written"),
    ("the run within a file", run_in(file), REFUSED, "cannot be made|cannot be written"),
    ("scores within a file", scores_in(file), REFUSED, "cannot be written"),
    ("scores into a file", lambda place: place.evaluate(f"output={file(place)}"), REFUSED, "cannot be written"),
    ("transcripts into a full disk", lambda place: [*place.transcribe(), "> /dev/full"], REFUSED, NO_SPACE, True),
]

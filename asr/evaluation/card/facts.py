"""The facts in a model card: from `model.json`, the header of the weights, and the `scores.json` of evaluations."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import re
import shlex
import struct
import sys
from pathlib import Path
from typing import Any

from asr.data.corpora import Corpus
from asr.errors import UserError
from asr.model.folder import DESCRIPTION, WEIGHTS
from asr.text.units import UNITS_FILE

SCORES = "scores.json"
METRICS = {"wer": "Word error rate", "cer": "Character error rate", "per": "Phoneme error rate"}
# a path on this machine, at the start of a value or of a list item
PATH = re.compile(r"(?:^|[\s,=:(\[{'\"|])(?:~|/|\.\.(?:/|$)|[A-Za-z]:[\\/])")


@dataclasses.dataclass
class Facts:
    """The facts in a card. scores: contents of `scores.json` files. parameters: their number."""

    description: dict[str, Any]
    trained_on: dict[str, Any]
    units: dict[str, Any]
    scores: list[dict[str, Any]]
    parameters: int


def card_facts(corpus: Corpus, splits: dict[str, Any]) -> dict[str, Any]:
    """Facts about the data for the card, to be saved in `trained_on`. splits: `CheckedSplit` by name."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "lhotse")}
    return {
        "speech": {name: {"utterances": len(split.cuts), "seconds": split.seconds} for name, split in splits.items()},
        "language": corpus.language,
        "incomplete": corpus.incomplete,
        "versions": {"python": sys.version.split()[0], **versions},
    }


def read_facts(folder: Path, evaluations: Path) -> Facts:
    """The facts of a model folder. Raises UserError if it has no description or its weights have no header."""
    description = read_json(folder / DESCRIPTION)
    units = read_json(folder / UNITS_FILE)
    trained_on = description.get("trained_on")
    paths = sorted(evaluations.glob(f"*/*/{SCORES}"))
    scores = [kept for path in paths if (kept := read_scores(path))]
    return Facts(
        description,
        trained_on if isinstance(trained_on, dict) else {},
        units,
        scores,
        count_parameters(folder / WEIGHTS),
    )


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf8"))
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}), and a model folder needs it. Copy it from the model again."
        ) from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is not JSON: it is cut short or damaged. Copy it from the model again.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not an object. Copy it from the model again.")
    return content


# what is published of an evaluation; utterances, folders and the machine stay private
KEPT = {
    "corpus": str, "split": str, "units": str, "attention": str, "metric": str, "error_rate": float, "interval": list,
    "reference_length": int, "utterances": int, "audio_seconds": float, "normalizer": str, "command": str,
    "trained_with": str, "attention_settings": dict, "decoder": dict, "incomplete": list,
    "wer": dict, "cer": dict, "per": dict,
}  # fmt: skip
NEEDED = ("corpus", "split", "attention", "metric", "error_rate", "interval", "utterances", "attention_settings")


def read_scores(path: Path) -> dict[str, Any] | None:
    """The published part of an evaluation, without paths on this machine; None for a malformed file."""
    try:
        data = read_json(path)
    except UserError:
        return None
    kept = {key: data[key] for key, kind in KEPT.items() if isinstance(data.get(key), kind)}
    rates = [kept.get("error_rate"), *kept.get("interval", ())]
    known = all(key in kept for key in NEEDED) and len(rates) == 3 and kept["metric"] in METRICS
    if not known or not all(isinstance(rate, float) and math.isfinite(rate) for rate in rates):
        return None
    return without_paths(kept)


def count_parameters(weights: Path) -> int:
    """The number of values in a safetensors file, by its header (huggingface.co/docs/safetensors: a length, then JSON).

    Raises UserError if there is no such header.
    """
    try:
        with open(weights, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 100_000_000)))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error):
        raise UserError(
            f"{weights} holds no weights: the file is cut short or is not a model. Copy it from the model again."
        ) from None


def without_paths(value: Any) -> Any:
    """Plain data with `PATH` for each text, or argument of a command, with a path on this machine (`/…`, `~…`, `../…`)."""
    if isinstance(value, dict):
        return {
            key: command_without_paths(one) if key == "command" else without_paths(one) for key, one in value.items()
        }
    if isinstance(value, list):
        return [without_paths(one) for one in value]
    return "PATH" if isinstance(value, str) and PATH.search(value) else value


def command_without_paths(command: Any) -> Any:
    if not isinstance(command, str):
        return without_paths(command)
    try:
        words = shlex.split(command)
    except ValueError:
        return "PATH" if PATH.search(command) else command
    kept = []
    for place, word in enumerate(words):
        key, equals, text = word.partition("=")
        if place < 2 and not equals:
            word = Path(word).name  # python, and the program
        elif PATH.search(text if equals else word):
            word = f"{key}=PATH" if equals and not PATH.search(key) else "PATH"
        kept.append(word)
    return shlex.join(kept)

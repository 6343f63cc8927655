"""Decoder settings that `scripts/tune_decoder.py` found for a run, used whenever that decoder is used again."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import UserError

if TYPE_CHECKING:
    from asr.model.checkpoint import Checkpoint

FOLDER = "decoder"
# settings of decoders that name files
FILES = ("lm", "lexicon")
WEIGHTS = ("lm_weight", "word_score")
# settings that are logged when they are used
SHOWN = (*FILES, *WEIGHTS)
log = logging.getLogger(__name__)


def tuned_file(checkpoint: Checkpoint, decoder: str) -> Path:
    """The file of a decoder's tuned settings."""
    return checkpoint.home / FOLDER / f"{decoder}.json"


def with_tuned(checkpoint: Checkpoint, settings: dict[str, Any], typed: Sequence[str]) -> dict[str, Any]:
    """A decoder's settings, with tuned values in place of defaults; those in `typed`, set by the user, stay.

    Logs what it used. Raises UserError if the file of tuned settings is damaged, or names a file that is gone.
    """
    if settings["name"] == "greedy" and "name" not in typed and not checkpoint.model.topology.has_blank:
        # nobody chose it
        settings = {"name": "phones", "lm": None, "lm_weight": 1.0}
    file = tuned_file(checkpoint, settings["name"])
    if not file.is_file():
        return settings
    try:
        found = json.loads(file.read_text(encoding="utf8"))["settings"]
        if not isinstance(found, dict) or found.get("name") != settings["name"]:
            raise ValueError("it holds no settings of this decoder")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(
            f"{file} is damaged ({error}): tune again with scripts/tune_decoder.py, or delete the file."
        ) from None
    taken = {key: value for key, value in found.items() if key in settings and key not in typed}
    for key in FILES:
        named = taken.get(key)
        if isinstance(named, str) and named != "auto" and not Path(named).exists():
            raise UserError(
                f"{named}, named by {file}, is gone: give decoder.{key}=FILE, or tune again with scripts/tune_decoder.py."
            )
    shown = ", ".join(f"{key}={value}" for key, value in taken.items() if key in SHOWN and value is not None)
    note = ""
    if "lm" in typed and found.get("lm") is not None and not same_file(found["lm"], settings.get("lm")):
        note = f"; they were tuned for lm={found['lm']}"
    log.info("%s of decoder=%s from %s%s", shown, settings["name"], file, note)
    return {**settings, **taken}


def tuned_weights(checkpoint: Checkpoint, settings: dict[str, Any], typed: Sequence[str]) -> dict[str, Any] | None:
    """The weights that `with_tuned` uses, for `scores.json`; None if there are none.

    `settings`: their names. `file`: where they come from. `other_lm`: the language model they were tuned for, if the user gave
    another one.
    """
    file = tuned_file(checkpoint, settings["name"])
    if not file.is_file():
        return None
    found = json.loads(file.read_text(encoding="utf8"))["settings"]
    weights = [key for key in WEIGHTS if key in found and key in settings and key not in typed]
    if not weights:
        return None
    other = found.get("lm") if "lm" in typed else None
    is_other = other is not None and not same_file(other, settings.get("lm"))
    return {"file": str(file), "settings": weights, "other_lm": other if is_other else None}


def same_file(one: Any, other: Any) -> bool:
    """Whether two settings name the same file, or neither names one."""
    return (
        one == other or bool(one and other) and Path(one).expanduser().resolve() == Path(other).expanduser().resolve()
    )

"""Digests of a corpus's utterances, which show whether it still holds the data that a model was trained on."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def fingerprint(splits) -> str:
    """A digest of every utterance's id, duration, text and speaker, by split."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        for cut in splits[name]:
            digest.update(json.dumps([name, *described(cut).values()]).encode())
    return digest.hexdigest()[:16]


def described(cut) -> dict[str, str]:
    supervision = cut.supervisions[0]
    return {
        "ids": cut.id,
        "durations": f"{cut.duration:.4f}",
        "texts": supervision.text or "",
        "speakers": supervision.speaker or "",
    }


def data_facts(splits) -> dict[str, Any]:
    """The facts that show whether a corpus still holds the same data: `data_fingerprint`, and `data` by split.

    Of each split: the number of `utterances`, and digests of their `ids`, `durations`, `texts` and `speakers`.
    """
    data = {}
    for name, cuts in splits.items():
        digests: dict[str, Any] = {}
        for cut in cuts:
            for part, value in described(cut).items():
                digests.setdefault(part, hashlib.sha256()).update(json.dumps(value).encode())
        data[name] = {"utterances": len(cuts)} | {part: digest.hexdigest()[:8] for part, digest in digests.items()}
    return {"data_fingerprint": fingerprint(splits), "data": data}

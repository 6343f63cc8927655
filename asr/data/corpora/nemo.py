"""NeMo's manifests, one JSON object per utterance, and ESPnet's data.json if it names audio.

    {"audio_filepath": "wavs/one.wav", "duration": 2.5, "text": "hello there", "offset": 0.0, "speaker": "ann", "lang": "en"}

https://docs.nvidia.com/nemo-framework/user-guide/latest/nemotoolkit/asr/datasets.html
"""

from __future__ import annotations

import collections
import dataclasses
import os
from pathlib import Path
from typing import Any

from asr.data.corpora.preparing.folders import NO_SPEAKER
from asr.data.corpora.preparing.listed import ListedCorpus, Listing, Track, Utterance, found_among
from asr.data.corpora.preparing.manifests import objects_in, what_it_is
from asr.errors import UserError
from asr.runtime.text_files import composed

# names of ESPnet inputs that are audio; all others are features
SOUND = ("sound", "wav", "audio")
NO_TEXT = "no text"


@dataclasses.dataclass
class NemoCorpus(ListedCorpus):
    """path, train, dev, test: manifests, plain or .gz. The settings are those of `ListedCorpus`.

    Relative paths are looked up in the manifest's folder, then in the working directory. An utterance is named after its file,
    relative to the folder that holds all manifests; its offset in milliseconds is appended if the file has several utterances.
    """

    name = "nemo"

    def read(self, place: Path) -> Listing:
        """The listing of a manifest. Raises UserError, naming the line, if it is not one."""
        listing = Listing(place, searched=list(dict.fromkeys([place.parent, Path.cwd()])))
        utterances: list[tuple[int, str, dict[str, Any]]] = []
        for number, data in objects_in(place):
            if isinstance(data.get("utts"), dict):
                utterances += [(number, name, espnet(name, fields, place)) for name, fields in data["utts"].items()]
            elif "audio_filepath" in data:
                utterances.append((number, "", data))
            else:
                raise UserError(f"{place}:{number}: expected a line of a NeMo manifest, found {what_it_is(data)}.")
        stretches = []
        for number, name, data in utterances:
            problem = problem_of(data)
            if problem:
                rows = listing.left_out if problem == NO_TEXT else listing.dropped
                rows.append((name or f"{place.name}:{number}", problem))
                continue
            file = found_among(data["audio_filepath"], listing.searched)
            start, seconds = float(data.get("offset") or 0), float(data.get("duration") or 0)
            stretches.append((number, name, file, start, start + seconds if seconds > 0 else None, data))
        root = os.path.commonpath([str(manifest.parent) for manifest in self.given().values()])
        recordings = recording_names({file for _, _, file, *_ in stretches}, root)
        several = collections.Counter(file for _, _, file, *_ in stretches)
        lines: dict[str, int] = {}
        for number, name, file, start, end, data in stretches:
            recording = recordings[file]
            name = name or recording + (f"-{round(1000 * start):08d}" if several[file] > 1 else "")
            if name in lines:
                listing.dropped.append(
                    (f"{place.name}:{number}", f"the same audio as an earlier line: line {lines[name]}")
                )
                continue
            lines[name] = number
            listing.tracks[recording] = Track(file)
            speaker, language = (
                None if data.get(field) in (None, "") else str(data[field]) for field in ("speaker", "lang")
            )
            listing.utterances.append(
                Utterance(name, recording, start, end, composed(data["text"].strip()), speaker or NO_SPEAKER, language)
            )
        return listing


def problem_of(data: dict[str, Any]) -> str | None:
    """What is wrong with the fields of a line, as a reason; None if it can be used."""
    file, text = data["audio_filepath"], data.get("text")
    if not isinstance(file, str) or not file or "\0" in file:
        return f"audio_filepath is not one file: {str(file)[:80]}"
    for field in ("offset", "duration"):
        value = data.get(field)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9
        if value is not None and (not number or field == "offset" and value < 0):
            return f"{field} is not a time in seconds: {str(value)[:80]}"
    if text is not None and not isinstance(text, str):
        return f"text is not text: {str(text)[:80]}"
    if any(not isinstance(data.get(field), (str, int, type(None))) for field in ("speaker", "lang")):
        return "speaker or lang is not text"
    try:
        "\n".join(str(data.get(field)) for field in ("audio_filepath", "text", "speaker", "lang")).encode()
    except UnicodeEncodeError as error:
        return f"half of a character: {error.object[error.start]!a}"
    return None if text and text.strip() else NO_TEXT


def recording_names(files: set[str], root: str) -> dict[str, str]:
    """The recording name of each file: its path, from `root` if below it, without the suffix unless that tells two apart."""
    below = {file: file.removeprefix(root + "/").lstrip("/") for file in files}
    stems = {file: os.path.splitext(path)[0] for file, path in below.items()}
    alike = collections.Counter(stems.values())
    return {file: stem if alike[stem] == 1 else below[file] for file, stem in stems.items()}


def espnet(name: str, fields: Any, place: Path) -> dict[str, Any]:
    """An utterance of ESPnet's data.json as a line of a NeMo manifest. Raises UserError for features instead of audio."""
    try:
        first, target = fields["input"][0], fields["output"][0]
        file = first["feat"] if first.get("filetype") in SOUND else next(first[key] for key in SOUND if key in first)
        return {
            "audio_filepath": file,
            "text": target.get("text"),
            "speaker": fields.get("utt2spk"),
            "lang": fields.get("lang"),
        }
    except StopIteration:
        raise UserError(
            f"{place}: the input of {name} is features ({str(first.get('feat'))[:80]}), but training reads audio: give the data "
            "folder that they were made from, as corpus=kaldi corpus.path=FOLDER."
        ) from None
    except (LookupError, TypeError, AttributeError):
        raise UserError(
            f"{place}: {name} lacks an input and an output as ESPnet writes them: make the file again."
        ) from None

"""Kaldi's data folders: wav.scp and text, segments and utt2spk (https://kaldi-asr.org/doc/data_prep.html), and ESPnet2's.

lhotse's `load_kaldi_data_dir` runs the commands in wav.scp, stops with a KeyError at an utterance that one of the files lacks,
and keeps the last of two lines for one id. So we read the tables ourselves and hand lhotse the result.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import re
from pathlib import Path

from asr.data.corpora.kaldi.pipes import NotRead, Reading, reading_of
from asr.data.corpora.preparing.folders import NO_SPEAKER
from asr.data.corpora.preparing.listed import ListedCorpus, Listing, Track, Utterance, found_among
from asr.data.corpora.preparing.recipes import resembling
from asr.errors import UserError, listed
from asr.runtime.text_files import read_lines

BLANKS = re.compile(r"[ \t]+")  # separates fields; other white space may be part of a text
MOST_SHOWN = 5
log = logging.getLogger(__name__)


@dataclasses.dataclass
class KaldiCorpus(ListedCorpus):
    """path, train, dev, test: data folders. The settings are those of `ListedCorpus`.

    Relative paths in wav.scp are looked up in the working directory, as Kaldi does, then in the data folder and the three
    folders above it, one of which holds `run.sh`. The commands in wav.scp are never run: files for sph2pipe, sox, ffmpeg, flac
    or cat are read by `asr.audio.reading`, with the channel and rate of the command, or the mean of all channels if it
    chooses none.
    """

    name = "kaldi"

    def read(self, place: Path) -> Listing:
        """The listing of a data folder. Raises UserError if it lacks wav.scp or text, and, naming them, for other commands."""
        check_folder(place)
        searched = list(dict.fromkeys([Path.cwd(), place, *place.parents[:3]]))
        recordings, texts = Table.read(place / "wav.scp", compose=False), Table.read(place / "text", empty=True)
        listing = Listing(place, dropped=[*recordings.dropped, *texts.dropped], searched=searched)
        for recording, reading in readings(recordings).items():
            file = found_among(reading.file, searched)
            listing.tracks[recording] = Track(file, reading.channel, reading.rate)
        stretches = segments(place, recordings, listing)
        speakers, languages = (Table.read(place / name, needed=False).of for name in ("utt2spk", "utt2lang"))
        for name, (recording, start, end) in stretches.items():
            if recording not in listing.tracks:
                listing.dropped.append((name, f"no line in wav.scp: {recording}"))
            elif name not in texts.lines:
                listing.left_out.append((name, "no line in text"))
            elif texts.of.get(name) == "":
                listing.left_out.append((name, "no text"))
            elif name in texts.of:
                speaker = speakers.get(name, NO_SPEAKER)
                listing.utterances.append(
                    Utterance(name, recording, start, end, texts.of[name], speaker, languages.get(name))
                )
        known = stretches.keys() | {name for name, _ in listing.dropped + listing.left_out}
        without = "segments" if (place / "segments").is_file() else "wav.scp"
        listing.dropped += [(name, f"no line in {without}") for name in texts.of if name not in known]
        silent = [utterance.name for utterance in listing.utterances if utterance.speaker == NO_SPEAKER]
        if silent:
            count = f"{len(silent):,} of {len(listing.utterances):,} utterances"
            log.warning("%s names no speaker for %s, such as %s.", place / "utt2spk", count, silent[0])
        return listing


@dataclasses.dataclass
class Table:
    """A file of lines `id value`. of: values by id. lines: line numbers by id. dropped: (id, reason) of unusable ids."""

    path: Path
    of: dict[str, str] = dataclasses.field(default_factory=dict)
    lines: dict[str, int] = dataclasses.field(default_factory=dict)
    dropped: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    @classmethod
    def read(cls, path: Path, needed: bool = True, empty: bool = False, compose: bool = True) -> Table:
        """Reads a table. An id with two different values is dropped.

        empty: whether a value may be missing. compose: whether to compose letters (Unicode NFC); not for names of files.
        Raises UserError if the file cannot be read; only a `needed` one has to exist.
        """
        table, repeated = cls(path), []
        if not needed and not path.is_file():
            return table
        for number, line in enumerate(lines_of(path, compose), start=1):
            key, value = [*BLANKS.split(line, maxsplit=1), ""][:2]
            if key and key not in table.lines:
                table.lines[key], table.of[key] = number, value
            elif key and table.of.get(key) == value:
                repeated.append(key)
            elif key in table.of:
                table.drop(key, f"two different lines in {path.name}: lines {table.lines[key]} and {number}")
        for key in [] if empty else [key for key, value in table.of.items() if not value]:
            table.drop(key, f"nothing behind its id in {path.name}: line {table.lines[key]}")
        if repeated:
            log.warning("%s repeats %d lines, such as that of %s: each counts once.", path, len(repeated), repeated[0])
        return table

    def drop(self, key: str, reason: str) -> None:
        del self.of[key]
        self.dropped.append((key, reason))


def lines_of(path: Path, compose: bool) -> list[str]:
    """The lines of a text file, without white space around them."""
    return [line.strip(" \t\r") for line in read_lines(path, compose=compose)]


def check_folder(place: Path) -> None:
    if not place.is_dir():
        there = "a file" if place.exists() else "not there"
        raise UserError(
            f"{place} is {there}: give a data folder of Kaldi, with wav.scp and text. corpus=nemo reads manifests."
        )
    missing = [name for name in ("wav.scp", "text") if not (place / name).is_file()]
    if not missing:
        return
    below = sorted(path.parent.name for path in place.glob("*/wav.scp"))
    if below:
        hint = f"there are data folders in it: {listed(below)}"
        advice = "Name one of them, or corpus.train=, corpus.dev= and corpus.test=."
    elif (place / "feats.scp").is_file() and "wav.scp" in missing:
        hint, advice = "it holds features, but training reads audio", "Give the folder that they were made from."
    else:
        hint, advice = resembling(place, "kaldi"), "Give a data folder of Kaldi, with wav.scp and text."
    raise UserError(f"{place} has no {' and no '.join(missing)}: {hint}. {advice}")


def readings(recordings: Table) -> dict[str, Reading]:
    """What every entry of wav.scp reads. Raises UserError, naming them, for entries that we cannot read."""
    found, refused = {}, []
    for recording, entry in recordings.of.items():
        try:
            found[recording] = reading_of(entry)
        except NotRead as reason:
            shown = entry if len(entry) <= 100 else entry[:97] + "..."
            refused.append(f"  line {recordings.lines[recording]}: {recording}: {shown!r}: {reason}")
    if refused:
        more = [f"  and {len(refused) - MOST_SHOWN} more"] if len(refused) > MOST_SHOWN else []
        raise UserError(
            "\n".join(
                [
                    f"{len(refused)} of the {len(recordings.of)} entries of {recordings.path} cannot be read. Commands are never "
                    "run; if they only decode a file, it is read without them:",
                    *refused[:MOST_SHOWN],
                    *more,
                    "Write the output of these commands into audio files and name those in wav.scp.",
                ]
            )
        )
    return found


def segments(place: Path, recordings: Table, listing: Listing) -> dict[str, tuple[str, float, float | None]]:
    """(recording, start, end) of every utterance, in seconds; end None for the end of the recording.

    Without `segments`, each recording is an utterance. Impossible segments go to the listing's `dropped`; a channel in a
    fifth column becomes a track of its own.
    """
    if not (place / "segments").is_file():
        return {recording: (recording, 0.0, None) for recording in recordings.of}
    table = Table.read(place / "segments")
    listing.dropped += table.dropped
    found: dict[str, tuple[str, float, float | None]] = {}
    unused = dict.fromkeys(recordings.of)
    for name, value in table.of.items():
        fields = BLANKS.split(value)
        unused.pop(fields[0], None)
        try:
            start, end = float(fields[1]), float(fields[2])
            channel = int(fields[3]) if len(fields) == 4 else None
        except (ValueError, IndexError):
            start = end = math.nan
        if len(fields) > 4 or not (0 <= start < math.inf and (end == -1 or start < end < math.inf)):
            listing.dropped.append((name, f"times that cannot be in segments: line {table.lines[name]}: {value}"))
            continue
        recording = fields[0]
        track = listing.tracks.get(recording)
        if channel is not None and track:
            if channel < 0 or track.channel is not None and channel:
                listing.dropped.append(
                    (name, f"a channel that cannot be in segments: line {table.lines[name]}: {channel}")
                )
                continue
            recording = f"{recording}:{channel}"
            listing.tracks[recording] = dataclasses.replace(track, channel=track.channel or channel)
        found[name] = (recording, start, None if end == -1 else end)
    listing.left_out += [(recording, "recording without a line in segments") for recording in unused]
    return found

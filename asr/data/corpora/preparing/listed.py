"""Corpora listed by another toolkit: utterances as stretches of recordings, prepared as mono audio at one sample rate.

Kaldi's data folders and NeMo's manifests hold the same facts in different forms. Each has a reader that returns a
`Listing`; this module makes a corpus of it.
"""

from __future__ import annotations

import abc
import collections
import contextlib
import dataclasses
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.data.corpora import Corpus, CorpusSource
from asr.data.corpora.preparing.folders import (
    NO_SPEAKER,
    SPLITS,
    MadeMeanwhile,
    check_fractions,
    check_rate,
    continued,
    fingerprint,
    read_facts,
    segment_cut,
    split_by_hash,
    with_dropped,
    write_manifests,
)
from asr.data.corpora.preparing.names import find_files, renamed
from asr.data.corpora.preparing.recipes import in_parallel
from asr.data.corpora.preparing.recordings import Conversion, convert_sound_recordings
from asr.data.corpora.preparing.unusable import reasons_of, unusable_audio
from asr.errors import UserError, listed

if TYPE_CHECKING:
    from lhotse import MonoCut

# With fewer speakers or recordings, one or two held-out ones would say little.
GROUPS_TO_SPLIT_BY = 10
# As in Kaldi's extract-segments (seconds): a segment may end this much after its audio, and must be this long.
OVERSHOOT = 0.5
SHORTEST = 0.1
# Raised whenever the same listing would be prepared differently.
FORMAT = 1
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Track:
    """One channel of an audio file. file: its absolute path, or the given name if there is no such file. channel: from 0; None
    for the mean of all. rate: the sample rate to convert to, in Hz; None for that of the file."""

    file: str
    channel: int | None = None
    rate: int | None = None


@dataclasses.dataclass(frozen=True)
class Utterance:
    """A stretch of a recording, in seconds; end None for the end of the recording. recording: a key of `Listing.tracks`."""

    name: str
    recording: str
    start: float
    end: float | None
    text: str
    speaker: str = NO_SPEAKER
    language: str | None = None


@dataclasses.dataclass
class Listing:
    """The content of one folder or manifest.

    place: the folder or manifest. tracks: by recording. utterances: with unique names. dropped: (utterance, reason) of
    unusable utterances. left_out: (utterance or recording, reason) of what is not meant to be used, such as audio without a
    transcript. searched: the folders in which relative paths were looked up.
    """

    place: Path
    tracks: dict[str, Track] = dataclasses.field(default_factory=dict)
    utterances: list[Utterance] = dataclasses.field(default_factory=list)
    dropped: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    searched: Sequence[Path] = ()


@dataclasses.dataclass
class ListedCorpus(CorpusSource):
    """path: the listing; dev and test are held out of it.
    train, dev, test: a listing each, instead of path; a missing dev or test is held out of train.
    sample_rate: Hz; mono WAV and FLAC files at this rate are used in place, all others are converted to FLAC in the cache. None:
        the most common rate.
    dev_fraction, test_fraction: held out by a stable hash of (seed, speaker) if there are ten speakers or more, else of the
        recording if there are ten, else of the utterance.
    language: of all utterances, an eSpeak code such as "en-us"; None for the languages in the listing.
    """

    places = ("path", "train", "dev", "test")

    path: str | None = None
    train: str | None = None
    dev: str | None = None
    test: str | None = None
    sample_rate: int | None = None
    dev_fraction: float = 0.10
    test_fraction: float = 0.15
    language: str | None = None
    seed: int = 1

    @abc.abstractmethod
    def read(self, place: Path) -> Listing:
        """The listing at `place`. Raises UserError if it is not of this kind."""

    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """Reads the listings and every audio file once, in `workers` processes; again if a file or a line has changed.

        Unusable utterances go to `Corpus.dropped`, audio without a transcript to `Corpus.left_out`. Raises UserError if
        nothing can be used, if an utterance is in two splits, and as `read` does.
        """
        from lhotse import CutSet

        from asr.data.corpora.preparing.long_recordings import read_cuts

        check_fractions(self.dev_fraction, self.test_fraction)
        rate = self.sample_rate
        if rate is not None:
            check_rate(rate)
        places = self.given()
        listings = {split: found_nearly(self.read(place)) for split, place in places.items()}
        refuse_unusable(listings)
        files = sorted({track.file for listing in listings.values() for track in listing.tracks.values()})
        settings = dataclasses.asdict(self) | {split: str(place) for split, place in places.items()} | {"path": None}
        contents = [dataclasses.astuple(dataclasses.replace(listing, searched=())) for listing in listings.values()]
        key = fingerprint(FORMAT, settings, contents, [(file, size_and_time(file)) for file in files])
        folder = Path(cache) / self.name / f"{places['train'].stem}-{key}"
        if not folder.is_dir():
            audio = Audio(list(listings.values()), files, rate, workers)
            with contextlib.suppress(MadeMeanwhile), continued(folder, key) as part:
                audio.prepare(part, workers)
                cuts, dropped = audio.cuts(listings, self.language)
                splits = self.held_out(cuts)
                rows = [row for split in listings for row in dropped[split]]
                refuse_empty(splits, places, rows)
                left_out = [row for listing in listings.values() for row in listing.left_out]
                # splits that we choose hold usable utterances only
                fixed = [split for split in listings if split != "train" or len(listings) == len(SPLITS)]
                dropped_in = {split: [name for name, _ in dropped[split]] for split in fixed}
                facts = {"settings": settings, "sample_rate": audio.rate}
                write_manifests(part, splits, rows, facts, left_out, dropped_in)
        sample_rate = read_facts(folder)["sample_rate"]
        splits = {split: CutSet.from_cuts(read_cuts(folder / f"cuts_{split}.jsonl.gz")) for split in SPLITS}
        corpus = with_dropped(Corpus(self.name, splits, sample_rate), folder)
        # repairing a file changes the fingerprint
        return dataclasses.replace(corpus, prepared_in=None)

    def given(self) -> dict[str, Path]:
        """The listing of each split that is not held out: absolute paths, train first."""
        if self.path is not None and self.train is not None:
            raise UserError("corpus.path and corpus.train both name the training data: give one of them.")
        given = {"train": self.train if self.path is None else self.path, "dev": self.dev, "test": self.test}
        if given["train"] is None:
            raise UserError(
                f"The corpus {self.name} needs corpus.path=… to hold dev and test out of, or corpus.train=… with corpus.dev=… "
                "and corpus.test=…"
            )
        return {
            split: Path(os.path.abspath(Path(place).expanduser()))
            for split, place in given.items()
            if place is not None
        }

    def held_out(self, cuts: dict[str, list[MonoCut]]) -> dict[str, list[MonoCut]]:
        """The cuts of each split, with splits that have no listing held out of train."""
        missing = [split for split in SPLITS if split not in cuts]
        if not missing or len(cuts["train"]) < 3:
            return cuts | {split: [] for split in missing}
        choices = (
            [cut.supervisions[0].speaker for cut in cuts["train"]],
            [cut.recording.id for cut in cuts["train"]],
            [cut.id for cut in cuts["train"]],
        )
        keys = next((keys for keys in choices if len(set(keys)) >= GROUPS_TO_SPLIT_BY), choices[-1])
        chosen = split_by_hash(keys, self.dev_fraction, self.test_fraction, self.seed)
        splits = cuts | {split: [] for split in ("train", *missing)}
        for cut, key in zip(cuts["train"], keys):
            splits[chosen[key] if chosen[key] in missing else "train"].append(cut)
        return splits


class Audio:
    """The audio of some listings: the constructor reads the headers, `prepare` converts, `cuts` cuts.

    rate: sample rate of the corpus in Hz. Raises UserError if none of the files can be read.
    """

    def __init__(self, listings: Sequence[Listing], files: Sequence[str], rate: int | None, workers: int):
        self.tracks = list(dict.fromkeys(track for listing in listings for track in listing.tracks.values()))
        found = in_parallel(rate_of, files, workers, f"looking at {len(files)} audio files")
        rates = {file: each for file, each in zip(files, found) if not isinstance(each, UserError)}
        # unusable files with their errors; for the tracks of the others, (path, number of samples)
        self.broken = {file: each for file, each in zip(files, found) if isinstance(each, UserError)}
        self.audio: dict[Track, tuple[str, int]] = {}
        if not rates:
            raise UserError(none_usable(listings, self.broken))
        counts = collections.Counter(track.rate or rates[track.file] for track in self.tracks if track.file in rates)
        self.rate = rate or counts.most_common(1)[0][0]

    def prepare(self, folder: Path, workers: int) -> None:
        """Reads files that can be used in place, and converts the rest to FLAC below `folder`."""
        from asr.audio.reading import is_mono_wav_or_flac

        conversions: dict[str, Conversion] = {}
        in_place = []
        for track in self.tracks:
            if track.file in self.broken:
                continue
            if not track.channel and is_mono_wav_or_flac(track.file, self.rate):
                in_place.append(track)
                continue
            target = f"audio/{fingerprint(track.file, track.channel)}.flac"
            conversions[target] = Conversion(Path(track.file), track.channel, target)
        files = list(dict.fromkeys(track.file for track in in_place))
        samples = dict(zip(files, in_parallel(samples_in, files, workers, f"reading {len(files)} audio files")))
        for track in in_place:
            if isinstance(samples[track.file], UserError):
                self.broken[track.file] = samples[track.file]
            else:
                self.audio[track] = (track.file, samples[track.file])
        made, failed = convert_sound_recordings(
            list(conversions.values()),
            folder,
            self.rate,
            workers,
            f"converting {len(conversions)} recordings",
            resample=True,
            may_be_broken=lambda _: True,
        )
        self.broken |= {str(conversions[target].source): UserError(reason) for target, reason in failed.items()}
        for track in self.tracks:
            target = f"audio/{fingerprint(track.file, track.channel)}.flac"
            if target in made:
                self.audio[track] = (target, made[target])

    def cuts(
        self, listings: dict[str, Listing], language: str | None
    ) -> tuple[dict[str, list[MonoCut]], dict[str, list[tuple[str, str]]]]:
        """By split: the cuts of the usable utterances, and the others with their reasons, in the order of the listing."""
        cuts: dict[str, list[MonoCut]] = {split: [] for split in listings}
        dropped = {split: list(listing.dropped) for split, listing in listings.items()}
        for split, listing in listings.items():
            for utterance in listing.utterances:
                cut = self.cut(utterance, listing.tracks[utterance.recording], language or utterance.language)
                if isinstance(cut, str):
                    dropped[split].append((utterance.name, cut))
                else:
                    cuts[split].append(cut)
        return cuts, dropped

    def cut(self, utterance: Utterance, track: Track, language: str | None) -> MonoCut | str:
        """The cut of an utterance, or the reason why there is none."""
        if track not in self.audio:
            return unusable_audio(Path(track.file), track.file, str(self.broken[track.file]))
        audio, total = self.audio[track]
        first = round(utterance.start * self.rate)
        last = total if utterance.end is None else round(utterance.end * self.rate)
        problem = unusable(first, last, total, self.rate)
        if problem:
            return problem
        return segment_cut(
            utterance.name,
            audio,
            total,
            self.rate,
            start=first / self.rate,
            duration=(min(last, total) - first) / self.rate,
            text=utterance.text,
            speaker=utterance.speaker,
            language=language,
            recording_id=utterance.recording,
        )


def unusable(first: int, last: int, total: int, rate: int) -> str | None:
    """Why a stretch, in samples, of a recording of `total` samples cannot be used; None if it can."""
    if first >= total or last > total + OVERSHOOT * rate:
        return f"ends after its audio: {last / rate:.3f} s of {total / rate:.3f}"
    if min(last, total) - first < SHORTEST * rate:
        return f"shorter than {SHORTEST} s: {(min(last, total) - first) / rate:.3f} s"
    return None


def rate_of(file: str) -> int | UserError:
    """The sample rate of a file in Hz, by its header, or why it cannot be used."""
    from asr.audio.reading import read_header

    try:
        return read_header(file).sample_rate
    except UserError as error:
        return error


def samples_in(file: str) -> int | UserError:
    """The number of samples of a decoded mono file, or why it cannot be used."""
    from asr.audio.reading import read_audio

    try:
        return len(read_audio(file)[0])
    except UserError as error:
        return error


def size_and_time(file: str) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def found_among(name: str, folders: Sequence[Path]) -> str:
    """The absolute path of `name` in the first folder that has such a file, else `name`."""
    paths = (os.path.join(folder, name) for folder in folders)
    return next((os.path.abspath(path) for path in paths if os.path.isfile(path)), name)


def found_nearly(listing: Listing) -> Listing:
    """The listing with its missing files replaced by those that `asr.data.corpora.preparing.names` finds for them."""
    missing = sorted({track.file for track in listing.tracks.values() if not os.path.lexists(track.file)})
    called: dict[str, str] = {}
    for folder in listing.searched if missing else ():
        matches = find_files(folder, missing)
        if said := renamed(missing, matches):
            log.warning("%s: %s", listing.place, said)
        called |= {name: os.path.abspath(match.path) for name, match in zip(missing, matches) if match.path}
        missing = [name for name in missing if name not in called]
    tracks = {
        recording: dataclasses.replace(track, file=called.get(track.file, track.file))
        for recording, track in listing.tracks.items()
    }
    return dataclasses.replace(listing, tracks=tracks)


def none_usable(listings: Sequence[Listing], broken: dict[str, UserError]) -> str:
    places = listed(dict.fromkeys(str(listing.place) for listing in listings))
    searched = listed(dict.fromkeys(str(folder) for listing in listings for folder in listing.searched))
    if not broken:
        unused = [row for listing in listings for row in listing.dropped + listing.left_out]
        return f"{places} lists no audio that can be used{reasons(unused)}."
    return (
        f"None of the {len(broken)} audio files that {places} lists can be read. The first: {next(iter(broken.values()))} "
        f"Relative paths are looked up in {searched}."
    )


def refuse_unusable(listings: dict[str, Listing]) -> None:
    """Raises UserError if an utterance is listed for two splits, or if too few are listed."""
    split_of: dict[str, str] = {}
    for split, listing in listings.items():
        for utterance in listing.utterances:
            if utterance.name in split_of:
                raise UserError(
                    f"The utterance {utterance.name} is listed for {split_of[utterance.name]} and for {split}, in "
                    f"{listing.place}: remove it from one of them."
                )
            split_of[utterance.name] = split
        if not listing.utterances:
            raise UserError(
                f"{listing.place} lists no utterance that can be used{reasons(listing.dropped + listing.left_out)}: "
                "correct it."
            )
    train = listings["train"]
    if len(listings) < len(SPLITS) and len(train.utterances) < 3:
        raise UserError(
            f"{train.place} lists {len(train.utterances)} utterances{reasons(train.dropped + train.left_out)}; train, dev and "
            "test each need one: add some."
        )


def reasons(dropped: Sequence[tuple[str, str]]) -> str:
    """The reasons why something was dropped, in parentheses; empty if nothing was."""
    return f" ({reasons_of(dropped)})" if dropped else ""


def refuse_empty(splits: dict[str, list], places: dict[str, Path], dropped: Sequence[tuple[str, str]]) -> None:
    empty = [split for split in SPLITS if not splits[split]]
    if empty:
        place = places.get(empty[0], places["train"])
        raise UserError(f"Nothing in {place} can be used for {listed(empty)}{reasons(dropped)}: add usable utterances.")

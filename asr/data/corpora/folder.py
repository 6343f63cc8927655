"""Your own speech: a folder of audio files and a table of what is said in them.

`transcripts.tsv` has one line per audio file, columns separated by tabs, with or without a first line that names them:

    file                text                    speaker     split
    monday/one.wav      hello there             ann         train

`file` is relative to the folder; `speaker` and `split` (train, dev or test) may be left out.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from asr.audio.headers import AUDIO_SUFFIXES
from asr.data.corpora import Corpus, CorpusSource
from asr.data.corpora.preparing.folders import (
    NO_SPEAKER,
    SPLITS,
    check_fractions,
    check_rate,
    corpus_in,
    fingerprint,
    split_by_hash,
    utterance_cut,
    whole_or_not_at_all,
    write_manifests,
)
from asr.data.corpora.preparing.manifests import whats_in
from asr.data.corpora.preparing.names import Match, find_files, renamed
from asr.data.corpora.preparing.recipes import in_parallel, looks_like
from asr.data.corpora.preparing.unusable import NO_TRANSCRIPT, nothing_usable, unusable_audio
from asr.errors import TooLong, UserError, nearest
from asr.runtime.text_files import iterate_lines

if TYPE_CHECKING:
    from lhotse import MonoCut

log = logging.getLogger(__name__)
COLUMNS = ("file", "text", "speaker", "split")
# With fewer speakers, one or two held-out ones would say little: hold out utterances instead.
SPEAKERS_TO_SPLIT_BY = 10
# Raised whenever the same folder would be prepared differently.
FORMAT = 2


@dataclasses.dataclass(frozen=True)
class Transcript:
    """One line of the table. line: its number in the file. split: "" where the table has no such column."""

    line: int
    file: str
    text: str
    speaker: str
    split: str


@dataclasses.dataclass
class FolderCorpus(CorpusSource):
    """path: the folder.
    transcripts: the table's path, relative to the folder.
    sample_rate: Hz; mono WAV and FLAC files at this rate are used in place, all others are converted to FLAC in the cache.
    dev_fraction, test_fraction: held out if the table has no column `split`: of the speakers if there are ten or more,
        else of the utterances; chosen by a stable hash of (seed, speaker or file).
    longest_seconds: longer recordings are left out, before they fill the memory.
    language: of the texts, such as "tr" or "en-us": decides how they are normalized (`asr.text.normalization`); None if
        unknown.
    """

    name = "folder"
    places = ("path", "transcripts")

    path: str
    transcripts: str = "transcripts.tsv"
    sample_rate: int = 16000
    dev_fraction: float = 0.10
    test_fraction: float = 0.15
    language: str | None = None
    seed: int = 1
    longest_seconds: float = 600.0

    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """Reads every audio file once, in `workers` threads, and returns the corpus; prepares it again if a file changed.

        A transcript whose audio is missing, empty, unreadable or cut short goes to `Corpus.dropped`; audio without a
        transcript, or longer than `longest_seconds`, to `Corpus.left_out`. Raises UserError for a missing or malformed
        table, for a transcript whose audio lies outside the folder or is listed twice, and if no audio can be used.
        """
        check_fractions(self.dev_fraction, self.test_fraction)
        check_rate(self.sample_rate)
        root = Path(self.path).expanduser().resolve()
        if not root.is_dir():
            other = whats_in(root) if root.is_file() else None
            reason = f": it is a file, and {other.removeprefix('it ')}" if other else ""
            raise UserError(
                f"There is no folder {root} (path={self.path}){reason}. Give a folder with a table of transcripts."
            )
        table = root / self.transcripts
        if not os.path.lexists(table) and (other := looks_like(root, self.name)):
            raise UserError(f"There is no {table}: {other}. Use that corpus, or give another path.")
        transcripts = read_table(table)
        matches = self._find(root, table, transcripts)
        state = [
            (transcript.file, match.question, *_place_size_and_time(match.path))
            for transcript, match in zip(transcripts, matches)
        ]
        listed = {_identity(match.path) for match in matches if match.path}
        untranscribed = [name for name, file in _audio_below(root, Path(cache).resolve()) if file not in listed]
        settings = dataclasses.asdict(self) | {"path": str(root)}
        key = fingerprint(
            FORMAT, settings, [dataclasses.astuple(transcript) for transcript in transcripts], state, untranscribed
        )
        folder = Path(cache) / "folder" / f"{root.name}-{key}"
        if not folder.is_dir():
            split_of = self._splits(transcripts, table)
            with whole_or_not_at_all(folder) as part:
                cuts, dropped, left_out = self._convert(transcripts, matches, part, workers)
                if not any(cuts):
                    raise UserError(nothing_usable(f"{table} names", dropped + left_out))
                splits = {name: [cut for cut, at in zip(cuts, split_of) if cut and at == name] for name in SPLITS}
                unusable = {file for file, _ in dropped}
                dropped_in = {
                    name: [one.file for one, at in zip(transcripts, split_of) if at == name and one.file in unusable]
                    for name in SPLITS
                    # splits that we choose count only if nothing is left of them
                    if transcripts[0].split or not splits[name]
                }
                left_out += [(name, NO_TRANSCRIPT) for name in untranscribed]
                write_manifests(
                    part, splits, dropped, {"settings": settings, "sample_rate": self.sample_rate}, left_out, dropped_in
                )
        # a repaired file changes the fingerprint, so there is nothing to remove
        return dataclasses.replace(corpus_in(folder, self.name), prepared_in=None)

    def _find(self, root: Path, table: Path, transcripts: list[Transcript]) -> list[Match]:
        """The file of each transcript, or a guess. Raises UserError for a file outside the folder or listed twice."""
        for transcript in transcripts:
            if Path(os.path.normpath(root / transcript.file)).parts[: len(root.parts)] != root.parts:
                raise UserError(
                    f"{table}:{transcript.line}: {transcript.file} lies outside the folder: put the file, or a link to "
                    "it, into the folder."
                )
        names = [transcript.file for transcript in transcripts]
        matches = find_files(root, names)
        if said := renamed(names, matches):
            log.warning("%s: %s", table, said)
        lines: dict[Path | str, int] = {}
        for transcript, match in zip(transcripts, matches):
            file = _identity(match.path) if match.path else transcript.file
            if file in lines:
                raise UserError(
                    f"{table}:{transcript.line}: the file {transcript.file} is on line {lines[file]} already: "
                    "remove one of the two lines."
                )
            lines[file] = transcript.line
        return matches

    def _splits(self, transcripts: list[Transcript], table: Path) -> list[str]:
        """The split of each transcript."""
        if transcripts[0].split:
            splits = [transcript.split for transcript in transcripts]
            empty = [name for name in SPLITS if name not in splits]
            if empty:
                raise UserError(
                    f"{table}: the column split puts nothing into {' and '.join(empty)}: train, dev and test each need "
                    "an utterance. Change some, or remove the column to have the splits chosen for you."
                )
            return splits
        speakers = {transcript.speaker for transcript in transcripts}
        by_speaker = len(speakers) >= SPEAKERS_TO_SPLIT_BY
        keys = [transcript.speaker if by_speaker else transcript.file for transcript in transcripts]
        if len(set(keys)) < 3:
            raise UserError(
                f"{table} has {len(keys)} utterances; train, dev and test each need one: add more, at least three."
            )
        split_of = split_by_hash(keys, self.dev_fraction, self.test_fraction, self.seed)
        return [split_of[key] for key in keys]

    def _convert(
        self, transcripts: list[Transcript], matches: list[Match], part: Path, workers: int
    ) -> tuple[list[MonoCut | None], list[tuple[str, str]], list[tuple[str, str]]]:
        """(cuts in the order of the transcripts, None for unusable ones; unusable files; files left out), with reasons."""
        stems = [Path(transcript.file).with_suffix("").as_posix() for transcript in transcripts]
        count = collections.Counter(stems)
        names = [stem if count[stem] == 1 else transcript.file for stem, transcript in zip(stems, transcripts)]
        results = in_parallel(
            lambda each: self._convert_one(each[0], each[1], each[2], part),
            list(zip(transcripts, matches, names)),
            workers,
            f"reading {len(names)} audio files",
        )
        dropped, left_out = [], []
        for transcript, match, result in zip(transcripts, matches, results):
            if result is None:
                missing = f"{transcript.file} is not there{match.question}"
                dropped.append((transcript.file, unusable_audio(None, transcript.file, missing)))
            elif isinstance(result, TooLong):
                left_out.append((transcript.file, f"longer than {result.longest:g} s: {result.seconds:.0f} s"))
            elif isinstance(result, UserError):
                dropped.append((transcript.file, unusable_audio(match.path, transcript.file, str(result))))
        return [None if isinstance(result, UserError) else result for result in results], dropped, left_out

    def _convert_one(
        self, transcript: Transcript, match: Match, utterance: str, part: Path
    ) -> MonoCut | UserError | None:
        """The cut of a transcript, or what is wrong with its audio; None if that is not there."""
        from asr.audio.reading import is_mono_wav_or_flac, read_audio
        from asr.audio.writing import write_flac

        file = match.path
        if file is None:
            return None
        try:
            in_place = is_mono_wav_or_flac(file, self.sample_rate)
            waveform, _ = read_audio(file, self.sample_rate, self.longest_seconds)
        except UserError as error:
            return error
        if in_place:
            audio = str(file)
        else:
            audio = f"audio/{fingerprint(str(_identity(file)))}.flac"
            (part / "audio").mkdir(exist_ok=True)
            write_flac(part / audio, waveform, self.sample_rate)
        return utterance_cut(
            utterance, audio, len(waveform), self.sample_rate, transcript.text, transcript.speaker, self.language
        )


def read_table(table: Path) -> list[Transcript]:
    """The lines of a table of transcripts. Raises UserError, naming the line, for a malformed one."""
    if table.exists() and not table.is_file():
        raise UserError(f"{table} is not a regular file: expected a table of transcripts.")
    if not table.exists():
        raise UserError(
            f"There is no {table}: write one line per audio file, `file<TAB>text`, then `<TAB>speaker<TAB>split` if known."
        )
    columns: list[str] | None = None
    transcripts = []
    for number, line in iterate_lines(table):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if columns is None:
            columns = _header(cells, table, number)
            if columns:
                continue
            columns = list(COLUMNS[: len(cells)]) if 2 <= len(cells) <= 4 else list(COLUMNS[:2])
        if len(cells) != len(columns):
            expected = "<TAB>".join(columns)
            raise UserError(f"{table}:{number}: expected {len(columns)} columns ({expected}), found {len(cells)}.")
        transcripts.append(_transcript(dict(zip(columns, cells)), table, number))
    if not transcripts:
        raise UserError(f"{table} holds no transcripts: write one line per audio file, `file<TAB>text`.")
    return transcripts


def _header(cells: list[str], table: Path, number: int) -> list[str]:
    """The columns that the first line names, or [] if it is a transcript already."""
    columns = [cell.lower() for cell in cells]
    if "file" not in columns and ("text" not in columns or "." in columns[0]):
        return []
    for column in columns:
        if column not in COLUMNS:
            raise UserError(f"{table}:{number}: there is no column {column!r}: {nearest(column, COLUMNS)}.")
        if columns.count(column) > 1:
            raise UserError(f"{table}:{number}: the column {column} is named twice: remove one.")
    if "file" not in columns or "text" not in columns:
        raise UserError(f"{table}:{number}: the line names {', '.join(columns)}: add the columns file and text.")
    return columns


def _transcript(row: dict[str, str], table: Path, number: int) -> Transcript:
    for column, value in row.items():
        if not value and column != "speaker":
            raise UserError(f"{table}:{number}: the column {column} is empty: fill it in or remove the line.")
    split = row.get("split", "")
    if split and split not in SPLITS:
        raise UserError(f"{table}:{number}: there is no split {split!r}: {nearest(split, SPLITS)}.")
    return Transcript(number, row["file"], row["text"], row.get("speaker") or NO_SPEAKER, split)


def _audio_below(root: Path, cache: Path) -> list[tuple[str, Path]]:
    """(path from `root`, resolved path) of all files named like audio, except hidden ones and those of the cache."""
    found = []
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".") and _real(folder, name) != cache]
        for file in files:
            path = Path(folder, file)
            if path.suffix.lower() in AUDIO_SUFFIXES and not file.startswith("."):
                found.append((path.relative_to(root).as_posix(), _real(folder, file)))
    return sorted(found)


def _real(folder: str, name: str) -> Path:
    return Path(os.path.realpath(os.path.join(folder, name)))


def _identity(file: Path) -> Path:
    """The file that links lead to, which identifies it; messages use the table's name for it."""
    # realpath, because Path.resolve raises RuntimeError for a link to itself
    return Path(os.path.realpath(file))


def _place_size_and_time(file: Path | None) -> tuple[str, int, int]:
    """Empty and zero for a file that does not exist."""
    try:
        status = _identity(file).lstat() if file else None
    except OSError:
        status = None
    return (str(file), status.st_size, status.st_mtime_ns) if status else ("", 0, 0)

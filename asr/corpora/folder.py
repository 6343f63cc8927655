"""Your own speech: a folder of audio files and a table of what is said in them.

`transcripts.tsv` has one line per audio file, columns separated by tabs, with or without a first line that names them:

    file                text                    speaker     split
    monday/one.wav      hello there             ann         train

`file` is relative to the folder; `speaker` and `split` (train, dev or test) may be left out.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from asr.corpora import Corpus, CorpusSource
from asr.corpora.checks import (
    SPLITS,
    check_fractions,
    fingerprint,
    read_manifests,
    split_by_hash,
    utterance_cut,
    whole_or_not_at_all,
    write_manifests,
)
from asr.errors import UserError, nearest
from asr.text_files import iterate_lines, on_disk

if TYPE_CHECKING:
    from lhotse import MonoCut

COLUMNS = ("file", "text", "speaker", "split")
# Files with these endings are taken for audio when looking for some that have no transcript.
AUDIO_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .m4a .mp4 .aac .wma .webm .mka .aif .aiff .aifc .au .caf .w64 .rf64 .amr .g722 .3gp "
    ".sph .wv1 .wv2 .nist".split()
)
NO_SPEAKER = "unknown"
# With fewer speakers than this, a held-out speaker or two would say little: utterances are held out instead.
SPEAKERS_TO_SPLIT_BY = 10
# Raised whenever the same folder would be prepared differently.
FORMAT = 1


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
    dev_fraction, test_fraction: held out where the table has no column `split`: of the speakers where there are ten or
        more, else of the utterances; chosen by a stable hash of (seed, speaker or file).
    longest_seconds: longer recordings are left out by name, before they fill the memory.
    language: of the texts, such as "tr" or "en-us": decides how they are normalized (`asr.units.text`); None where not known.
    """

    name = "folder"

    path: str
    transcripts: str = "transcripts.tsv"
    sample_rate: int = 16000
    dev_fraction: float = 0.10
    test_fraction: float = 0.15
    language: str | None = None
    seed: int = 1
    longest_seconds: float = 600.0

    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """Reads every audio file once, by `workers` threads, and returns the corpus; made anew when a file changed.

        Audio without a transcript, or longer than `longest_seconds`, is left out and named in `Corpus.dropped`. Raises UserError
        for a missing or malformed table, for a transcript whose audio is missing, outside the folder, listed twice,
        unreadable or cut short, and for an empty corpus.
        """
        check_fractions(self.dev_fraction, self.test_fraction)
        rate = self.sample_rate
        if isinstance(rate, bool) or not isinstance(rate, int) or not 1000 <= rate <= 384000:
            raise UserError(f"sample_rate={rate} is not a sample rate in Hz, such as 16000.")
        root = Path(self.path).expanduser().resolve()
        if not root.is_dir():
            raise UserError(f"There is no folder {root} (path={self.path}).")
        table = root / self.transcripts
        transcripts = read_table(table)
        files = self._files(root, table, transcripts)
        state = [(transcript.file, *_size_and_time(file)) for transcript, file in zip(transcripts, files)]
        listed = set(files)
        untranscribed = [name for name, file in _audio_below(root, Path(cache).resolve()) if file not in listed]
        settings = dataclasses.asdict(self) | {"path": str(root)}
        key = fingerprint(
            FORMAT, settings, [dataclasses.astuple(transcript) for transcript in transcripts], state, untranscribed
        )
        folder = Path(cache) / "folder" / f"{root.name}-{key}"
        if not folder.is_dir():
            split_of = self._splits(transcripts, table)
            with whole_or_not_at_all(folder) as part:
                cuts, dropped = self._convert(transcripts, files, part, workers)
                splits = {name: [cut for cut, at in zip(cuts, split_of) if cut and at == name] for name in SPLITS}
                dropped += [(name, "audio without transcript") for name in untranscribed]
                write_manifests(part, splits, dropped, {"settings": settings, "sample_rate": rate})
        splits, dropped, _ = read_manifests(folder)
        return Corpus(self.name, splits, rate, dropped)

    def _files(self, root: Path, table: Path, transcripts: list[Transcript]) -> list[Path]:
        for transcript in transcripts:
            if Path(os.path.normpath(root / transcript.file)).parts[: len(root.parts)] != root.parts:
                raise UserError(
                    f"{table}:{transcript.line}: {transcript.file} lies outside the folder: put the file, or a link to "
                    "it, into the folder."
                )
        # realpath, because Path.resolve raises RuntimeError for a link to itself
        files = [Path(os.path.realpath(on_disk(root / transcript.file))) for transcript in transcripts]
        missing = [transcript for transcript, file in zip(transcripts, files) if not os.path.lexists(file)]
        if missing:
            first = "; ".join(f"line {transcript.line}: {transcript.file}" for transcript in missing[:5])
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise UserError(
                f"{table} names {len(missing)} audio files that are not there ({first}{more}): "
                "put them into the folder or remove their lines."
            )
        lines: dict[Path, int] = {}
        for transcript, file in zip(transcripts, files):
            if file in lines:
                raise UserError(
                    f"{table}:{transcript.line}: the file {transcript.file} is on line {lines[file]} already: "
                    "leave one of the two lines."
                )
            lines[file] = transcript.line
        return files

    def _splits(self, transcripts: list[Transcript], table: Path) -> list[str]:
        """The split of each transcript."""
        if transcripts[0].split:
            splits = [transcript.split for transcript in transcripts]
            empty = [name for name in SPLITS if name not in splits]
            if empty:
                raise UserError(
                    f"{table}: the column split puts nothing into {' and '.join(empty)}: train, dev and test each need "
                    "an utterance. Change some, or remove the column to have them chosen."
                )
            return splits
        speakers = {transcript.speaker for transcript in transcripts}
        by_speaker = len(speakers) >= SPEAKERS_TO_SPLIT_BY
        keys = [transcript.speaker if by_speaker else transcript.file for transcript in transcripts]
        if len(set(keys)) < 3:
            raise UserError(
                f"{table} has {len(keys)} utterances; train, dev and test each need one: add more, three at the least."
            )
        split_of = split_by_hash(keys, self.dev_fraction, self.test_fraction, self.seed)
        return [split_of[key] for key in keys]

    def _convert(
        self, transcripts: list[Transcript], files: list[Path], part: Path, workers: int
    ) -> tuple[list[MonoCut | None], list[tuple[str, str]]]:
        """(cuts in the order of the transcripts, None for those left out; these with reasons).

        Raises UserError that lists all files that are broken.
        """
        from rich.console import Console
        from rich.progress import track

        from asr.audio import TooLong

        stems = [Path(transcript.file).with_suffix("").as_posix() for transcript in transcripts]
        count = collections.Counter(stems)
        names = [stem if count[stem] == 1 else transcript.file for stem, transcript in zip(stems, transcripts)]
        with ThreadPoolExecutor(max(1, workers)) as pool:
            results = list(
                track(
                    pool.map(self._convert_one, transcripts, files, names, [part] * len(files)),
                    description=f"reading {len(files)} audio files",
                    total=len(files),
                    console=Console(stderr=True),
                    transient=True,
                    disable=not sys.stderr.isatty(),
                )
            )
        broken = [
            f"  {result}" for result in results if isinstance(result, UserError) and not isinstance(result, TooLong)
        ]
        if broken:
            raise UserError("\n".join([f"{len(broken)} of {len(files)} audio files are broken:", *broken]))
        dropped = [
            (transcript.file, f"longer than {result.longest:g} s: {result.seconds:.0f} s")
            for transcript, result in zip(transcripts, results)
            if isinstance(result, TooLong)
        ]
        return [None if isinstance(result, TooLong) else result for result in results], dropped

    def _convert_one(self, transcript: Transcript, file: Path, utterance: str, part: Path) -> MonoCut | UserError:
        from asr.audio import is_mono_wav_or_flac, read_audio, write_flac

        try:
            in_place = is_mono_wav_or_flac(file, self.sample_rate)
            waveform, _ = read_audio(file, self.sample_rate, self.longest_seconds)
        except UserError as error:
            return error
        if in_place:
            audio = str(file)
        else:
            audio = f"audio/{fingerprint(str(file))}.flac"
            (part / "audio").mkdir(exist_ok=True)
            write_flac(part / audio, waveform, self.sample_rate)
        return utterance_cut(
            utterance, audio, len(waveform), self.sample_rate, transcript.text, transcript.speaker, self.language
        )


def read_table(table: Path) -> list[Transcript]:
    """The lines of a table of transcripts. Raises UserError, with the line's number, for a line that is not as expected."""
    if table.exists() and not table.is_file():
        raise UserError(f"{table} is no regular file: a table of transcripts was expected.")
    if not table.exists():
        raise UserError(
            f"There is no {table}: it holds one line per audio file, `file<TAB>text`, then `<TAB>speaker<TAB>split` if known."
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
            raise UserError(
                f"{table}:{number}: {len(columns)} columns ({expected}) were expected, there are {len(cells)}."
            )
        transcripts.append(_transcript(dict(zip(columns, cells)), table, number))
    if not transcripts:
        raise UserError(f"{table} holds no transcripts: one line per audio file, `file<TAB>text`, was expected.")
    return transcripts


def _header(cells: list[str], table: Path, number: int) -> list[str]:
    """The columns that a first line names, or [] where it is a transcript already."""
    columns = [cell.lower() for cell in cells]
    if "file" not in columns and ("text" not in columns or "." in columns[0]):
        return []
    for column in columns:
        if column not in COLUMNS:
            raise UserError(f"{table}:{number}: there is no column {column!r}: {nearest(column, COLUMNS)}.")
        if columns.count(column) > 1:
            raise UserError(f"{table}:{number}: the column {column} is named twice.")
    if "file" not in columns or "text" not in columns:
        raise UserError(f"{table}:{number}: the columns file and text are needed; the line names {', '.join(columns)}.")
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
    """(path from `root`, resolved path) of all files named like audio; hidden ones and those of the cache left aside."""
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


def _size_and_time(file: Path) -> tuple[int, int]:
    status = file.lstat()
    return status.st_size, status.st_mtime_ns

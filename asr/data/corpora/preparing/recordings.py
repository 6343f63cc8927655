"""Converts recordings of any format to mono FLAC at one sample rate, in parallel; each file is complete or absent."""

from __future__ import annotations

import collections
import dataclasses
import io
import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import UserError
from asr.runtime.files import replacing

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

    import numpy

# This many broken recordings are printed by name; the others are counted.
MOST_NAMED = 50
LARGEST_BATCH = 16  # recordings that a process takes at a time
# In a process of the pool: set to make it stop after its current recording.
_stop: Event


@dataclasses.dataclass(frozen=True)
class Conversion:
    """One channel of a recording, to become one FLAC file.

    source: an audio file of any format that `asr.audio.reading` reads. channel: counted from 0 (side A of a conversation);
    None for the mean of all. target: the path of the FLAC file, relative to the folder that is being prepared.
    """

    source: Path
    channel: int | None
    target: str


class BrokenRecordings(UserError):
    """Recordings that cannot be converted; `reasons` gives the reasons by source. All others have been converted."""

    def __init__(self, reasons: dict[Path, str], of: int):
        named = [f"  {reason}" for reason in list(reasons.values())[:MOST_NAMED]]
        if len(reasons) > MOST_NAMED:
            named.append(f"  and {len(reasons) - MOST_NAMED} more")
        super().__init__("\n".join([f"{len(reasons)} of {of} recordings are broken:", *named]))
        self.reasons = reasons


class _NotWritten(Exception):
    """A file could not be written; neither will the others be."""


def convert_sound_recordings(
    conversions: Sequence[Conversion], *arguments: Any, may_be_broken: Callable[[Conversion], bool], **settings: Any
) -> tuple[dict[str, int], dict[str, str]]:
    """`convert_recordings` without the broken ones: (samples, reasons of those left out), both by target.

    Raises BrokenRecordings if a recording is broken for which `may_be_broken` is false, and as `convert_recordings` does.
    """
    try:
        return convert_recordings(conversions, *arguments, **settings), {}
    except BrokenRecordings as error:
        reasons = {each.target: error.reasons[each.source] for each in conversions if each.source in error.reasons}
        if not all(may_be_broken(each) for each in conversions if each.target in reasons):
            raise
    sound = [each for each in conversions if each.target not in reasons]
    return convert_recordings(sound, *arguments, **settings), reasons


def convert_recordings(
    conversions: Sequence[Conversion],
    folder: Path,
    sample_rate: int,
    workers: int,
    description: str,
    resample: bool = False,
) -> dict[str, int]:
    """Writes every target below `folder` as 16-bit mono FLAC at `sample_rate` Hz; returns the samples of each target.

    Every source is decoded once, however many of its channels are wanted, in `workers` processes (1: in this one); 16-bit
    sources are converted without loss. A target is written under a temporary name and renamed, so it is complete or absent.
    An existing target is kept if it is FLAC of this rate, has the length of its source, and its end can be decoded: after
    Ctrl-C, a kill or a full disk, another call continues the work.

    description: shown beside the progress bar, which appears if stderr is a terminal.
    resample: whether to resample sources at other rates; otherwise they count as broken.

    Raises BrokenRecordings, listing all broken sources, after converting the others; and UserError at once if `folder`
    cannot be written or is full, or a process dies. Raises ValueError if two conversions have the same target.
    """
    from rich.console import Console
    from rich.progress import Progress

    conversions = list(conversions)
    twice = [target for target, count in collections.Counter(c.target for c in conversions).items() if count > 1]
    if twice:
        raise ValueError(f"more than one conversion would write {twice[0]}")
    of_source: dict[Path, list[Conversion]] = collections.defaultdict(list)
    for conversion in conversions:
        of_source[conversion.source].append(conversion)
    samples, broken = {}, {}
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(description, total=len(of_source))
        try:
            results = _converted(list(of_source.values()), workers, folder, sample_rate, resample)
            for source, result in zip(of_source, results):
                if isinstance(result, str):
                    broken[source] = result
                else:
                    samples |= result
                progress.advance(task)
        except _NotWritten as error:
            raise UserError(
                f"{error} Finished conversions are kept: make room, or choose another folder with cache=FOLDER, and run the "
                "same command again to continue."
            ) from None
        finally:
            results.close()
    if broken:
        raise BrokenRecordings(broken, len(of_source))
    return {conversion.target: samples[conversion.target] for conversion in conversions}


def _converted(
    groups: list[list[Conversion]], workers: int, folder: Path, sample_rate: int, resample: bool
) -> Generator[dict[str, int] | str, None, None]:
    """The result of each source, in order: the samples by target, or a sentence that says why it is broken."""
    if workers <= 1 or len(groups) < 2:
        yield from _convert_sources(groups, folder, sample_rate, resample)
        return
    # Processes, because FFmpeg decodes shorten in blocks of 256 samples, for which threads wait for each other: two take
    # longer than one. Spawned, because forking a process in which torch has threads can hang.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_process, initargs=(stop,))
    size = max(1, min(LARGEST_BATCH, len(groups) // (4 * workers)))
    try:
        # a bounded window leaves little to wait for after Ctrl-C or a full disk
        batches, waiting = iter(groups), []
        while batch := list(itertools.islice(batches, size)):
            waiting.append(pool.submit(_convert_batch, batch, folder, sample_rate, resample))
            if len(waiting) > 2 * workers:
                yield from waiting.pop(0).result()
        for future in waiting:
            yield from future.result()
    except BrokenProcessPool:
        raise UserError(
            "A process died while converting recordings, perhaps out of memory. Finished conversions are kept: run the same "
            "command again, with workers=1 if this happens again."
        ) from None
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_process(stop: Event) -> None:
    """stop: set once nobody waits for the results."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches all processes; the parent answers it
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    # a pool whose parent was killed would wait for work forever
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _convert_batch(
    groups: list[list[Conversion]], folder: Path, sample_rate: int, resample: bool
) -> list[dict[str, int] | str]:
    return list(
        itertools.takewhile(lambda _: not _stop.is_set(), _convert_sources(groups, folder, sample_rate, resample))
    )


def _convert_sources(
    groups: list[list[Conversion]], folder: Path, sample_rate: int, resample: bool
) -> Iterator[dict[str, int] | str]:
    for wanted in groups:
        try:
            yield _convert_source(wanted, folder, sample_rate, resample)
        except UserError as error:
            yield str(error)


def _convert_source(wanted: list[Conversion], folder: Path, sample_rate: int, resample: bool) -> dict[str, int]:
    from asr.audio.reading import read_header
    from asr.audio.reading import resample as resampled

    source = wanted[0].source
    header = read_header(source)
    if header.sample_rate != sample_rate and not resample:
        raise UserError(f"{source} has a sample rate of {header.sample_rate} Hz; expected {sample_rate} Hz.")
    expected = header.samples
    if expected is not None and header.sample_rate != sample_rate:
        expected = -(-expected * sample_rate // header.sample_rate)
    there = {conversion.target: flac_samples(folder / conversion.target, sample_rate) for conversion in wanted}
    samples = {target: count for target, count in there.items() if count is not None and expected in (None, count)}
    missing = [conversion for conversion in wanted if conversion.target not in samples]
    if not missing:
        return samples
    channels, rate = _read(source)
    for conversion in missing:
        channel = _channel(channels, conversion)
        if rate != sample_rate:
            channel = resampled(_as_float(channel), rate, sample_rate)
        _write(folder / conversion.target, channel, sample_rate)
        samples[conversion.target] = len(channel)
    return samples


def _read(source: Path) -> tuple[numpy.ndarray, int]:
    """(samples, channels), int16 from SPHERE and float32 from other formats, and the sample rate in Hz."""
    from asr.audio.reading import read_channels
    from asr.audio.sphere import is_sphere, read_sphere

    if not is_sphere(source):
        return read_channels(source)
    channels, rate = read_sphere(source)
    if not len(channels):
        raise UserError(f"{source} holds no audio samples: copy it again.")
    return channels, rate


def _channel(channels: numpy.ndarray, conversion: Conversion) -> numpy.ndarray:
    count = channels.shape[1]
    if conversion.channel is None:
        return channels[:, 0] if count == 1 else _as_float(channels).mean(axis=1)
    if not 0 <= conversion.channel < count:
        raise UserError(
            f"{conversion.source} has {count} channel{'s' * (count > 1)}; expected at least {conversion.channel + 1}."
        )
    return channels[:, conversion.channel]


def _as_float(samples: numpy.ndarray) -> numpy.ndarray:
    import numpy

    return samples.astype(numpy.float32) / 32768 if samples.dtype == numpy.int16 else numpy.ascontiguousarray(samples)


def flac_samples(path: Path, sample_rate: int) -> int | None:
    """The number of samples of a mono 16-bit FLAC file at `sample_rate` Hz; None if missing, of another kind, or cut short."""
    import soundfile

    if not path.is_file() or path.stat().st_size == 0:
        return None
    try:
        with soundfile.SoundFile(str(path)) as file:
            kind = (file.format, file.subtype, file.channels, file.samplerate)
            if kind != ("FLAC", "PCM_16", 1, sample_rate) or file.frames == 0:
                return None
            file.seek(file.frames - 1)  # a file cut short keeps its header, but loses its end
            return file.frames if len(file.read(1, dtype="int16")) == 1 else None
    except (soundfile.LibsndfileError, OSError):
        return None


def _write(path: Path, samples: numpy.ndarray, sample_rate: int) -> None:
    """Writes samples, int16 or float32, as FLAC, completely or not at all. Raises _NotWritten."""
    import numpy
    import soundfile

    if samples.dtype != numpy.int16:
        samples = numpy.clip(numpy.rint(samples * 32768.0), -32768, 32767).astype(numpy.int16)
    file = io.BytesIO()  # libsndfile itself would not say why a file cannot be written
    soundfile.write(file, numpy.ascontiguousarray(samples), sample_rate, format="FLAC", subtype="PCM_16")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, alone=True) as temporary:
            temporary.write_bytes(file.getvalue())
    except OSError as error:
        raise _NotWritten(f"{path} cannot be written: {error.strerror}.") from None

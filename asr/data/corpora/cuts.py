"""Any corpus as lhotse cuts: manifests as lhotse's recipes write them (`lhotse cut simple ...`), checked before use."""

from __future__ import annotations

import collections
import dataclasses
import io
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.data.corpora import Corpus, CorpusSource
from asr.data.corpora.preparing.folders import NO_SPEAKER, SPLITS, check_rate
from asr.data.corpora.preparing.manifests import LHOTSE, json_in, kaldi_hint, what_it_is, whats_in
from asr.data.corpora.preparing.names import find_files, renamed
from asr.data.corpora.preparing.unusable import nothing_usable, unusable_audio
from asr.errors import UserError
from asr.runtime.text_files import composed, iterate_lines

if TYPE_CHECKING:
    from lhotse import MonoCut
    from lhotse.cut import Cut

LONGEST_TIME = 1e9  # seconds, thirty years: a larger number is a mistake
log = logging.getLogger(__name__)


@dataclasses.dataclass
class CutsCorpus(CorpusSource):
    """train, dev, test: manifests of lhotse cuts, .jsonl or .jsonl.gz. Paths of recordings in them are absolute, or
        relative to the working directory or to the manifest's folder.
    sample_rate: Hz; cuts at another rate are resampled while they are read. None: the rate of most training cuts.

    A cut with several supervisions becomes one cut per supervision, and its part of a recording with several channels
    becomes mono: the supervision's own channel, or the mean of its channels (kept in memory). Cuts without a supervision
    and supervisions without text go to `Corpus.left_out`, cuts whose audio is missing to `Corpus.dropped`. The times of
    alignments are taken to be relative to the start of the cut in the manifest.
    """

    name = "cuts"
    places = ("train", "dev", "test")

    train: str
    dev: str
    test: str
    sample_rate: int | None = None

    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """Reads and checks the three manifests; nothing is written below `cache`.

        Raises UserError, naming file and line or cut, for a missing manifest, a broken line, anything but a cut, duplicate
        ids and a split without a usable cut.
        """
        from lhotse import CutSet

        rate = self.sample_rate
        if rate is not None:
            check_rate(rate)
        dropped: dict[str, list[tuple[str, str]]] = {}
        left_out: list[tuple[str, str]] = []
        cuts = {}
        for split in SPLITS:
            if not isinstance(getattr(self, split), (str, Path)):
                raise UserError(f"corpus.{split}={getattr(self, split)!r} is not a file: give a manifest of cuts.")
            file = Path(getattr(self, split)).expanduser()
            cuts[split], dropped[split], several = [], [], 0
            for cut in find_audio(list(read_cuts(file, split)), file, dropped[split]):
                try:
                    cuts[split] += one_supervision_each(cut, left_out)
                except Unreadable as error:
                    dropped[split] += [(utterance, f"unreadable audio: {error}") for utterance in utterances_of(cut)]
                several += len(cut.supervisions) > 1
            if several:
                log.warning("%s: %d cuts have several supervisions; one cut was made of each.", file, several)
            if not cuts[split] and dropped[split]:
                raise UserError(nothing_usable(f"{file} (corpus.{split}) names", dropped[split]))
            if not cuts[split]:
                raise UserError(f"{file} (corpus.{split}) holds no cuts with a transcript: it needs at least one.")
        _refuse_duplicates(cuts)
        if rate is None:
            rate = collections.Counter(cut.sampling_rate for cut in cuts["train"]).most_common(1)[0][0]
        splits = {}
        for split, members in cuts.items():
            splits[split] = CutSet.from_cuts(
                [cut if cut.sampling_rate == rate else cut.resample(rate) for cut in members]
            )
        return Corpus(
            self.name,
            splits,
            rate,
            [row for rows in dropped.values() for row in rows],
            left_out=left_out,
            dropped_in={split: [utterance for utterance, _ in rows] for split, rows in dropped.items()},
        )


def read_cuts(file: Path, split: str) -> Iterator[Cut]:
    """The cuts in a manifest. Raises UserError, naming the line, for anything but a complete cut of recorded audio."""
    from lhotse import MonoCut, MultiCut
    from lhotse.serialization import deserialize_item

    for number, data in _json_lines(file, split):
        kind = data.get(
            "type", "a recording" if "sources" in data else "a supervision" if "text" in data else "no type"
        )
        if kind not in ("MonoCut", "MultiCut") and not LHOTSE & data.keys():
            raise UserError(f"{file}:{number}: expected a lhotse cut, found {what_it_is(data)}.")
        if kind not in ("MonoCut", "MultiCut"):
            raise UserError(
                f"{file}:{number}: expected a MonoCut or MultiCut, found {kind}: give a manifest of cuts as "
                "`lhotse cut simple -r RECORDINGS -s SUPERVISIONS CUTS.jsonl.gz` writes it."
            )
        try:
            cut = deserialize_item(data)
        except Exception as error:
            raise UserError(
                f"{file}:{number}: this is not a lhotse cut ({type(error).__name__}: {error}). Make the file again."
            ) from error
        if not isinstance(cut, (MonoCut, MultiCut)) or not cut.has_recording:
            raise UserError(
                f"{file}:{number}: the cut {cut.id!r} has no recording: give cuts of audio, not of features."
            )
        refuse_commands(cut.recording, f"{file}:{number}")
        refuse_nonsense(cut, f"{file}:{number}")
        compose_texts(cut)
        yield cut


def refuse_nonsense(cut: Cut, place: str) -> None:
    """Raises UserError, naming the field, for impossible times, channels and texts."""

    def check(field: str, value: Any, valid: bool, expected: str) -> None:
        if not valid:
            raise UserError(f"{place}: {field} of the cut {cut.id!r} is {value!r}; expected {expected}.")

    def check_times(what: str, start: Any, duration: Any, lowest: float = 0.0) -> None:
        check(f"{what}start", start, is_number(start) and lowest <= start < LONGEST_TIME, "a time in seconds")
        check(f"{what}duration", duration, is_number(duration) and 0 < duration < LONGEST_TIME, "a duration in seconds")

    check("the id", cut.id, isinstance(cut.id, str), "text")
    check_times("the ", cut.start, cut.duration)
    recording = cut.recording
    check_times("the recording's ", 0.0, recording.duration)
    for field in ("sampling_rate", "num_samples"):
        value = getattr(recording, field)
        check(f"the recording's {field}", value, isinstance(value, int) and value > 0, "a positive whole number")
    channels = cut.channel if isinstance(cut.channel, list) else [cut.channel]
    known = recording.channel_ids
    check("the recording's channel_ids", known, are_channels(known), "a list of whole numbers")
    valid = are_channels(channels) and set(channels) <= set(known)
    check("the channel", cut.channel, valid, f"one of the recording's, {known}")
    for supervision in cut.supervisions:
        check_times("the supervision's ", supervision.start, supervision.duration, lowest=-LONGEST_TIME)
        outside = supervision.start >= cut.duration or supervision.start + supervision.duration <= 0
        check("the supervision's start", supervision.start, not outside, f"a time within its {cut.duration:g} s")
        for field in ("text", "speaker"):
            value = getattr(supervision, field)
            check(f"the supervision's {field}", value, value is None or isinstance(value, str), "text")
        for tier, items in (supervision.alignment or {}).items():
            for item in items:
                check(f"an item of the alignment {tier}", item, is_number(item.start), "a symbol and times in seconds")
                check(
                    f"an item of the alignment {tier}", item, is_number(item.duration), "a symbol and times in seconds"
                )


def compose_texts(cut: Cut) -> None:
    """Composes (Unicode NFC) the texts of a cut; names stay as they are."""
    for supervision in cut.supervisions:
        supervision.text = composed(supervision.text or "") or supervision.text
        for tier, items in (supervision.alignment or {}).items():
            supervision.alignment[tier] = [item._replace(symbol=composed(str(item.symbol))) for item in items]


def are_channels(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, int) for each in value)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def refuse_commands(recording, place: str) -> None:
    """Raises UserError for audio that is not a file: lhotse would run a command, or open an address, from a manifest."""
    from asr.audio.cuts import rooms_of

    for each in (recording, *rooms_of(recording)):
        for source in each.sources:
            if source.type != "file":
                raise UserError(
                    f"{place}: the audio of {each.id!r} is of type {source.type!r}, but only files are read, because a "
                    "manifest may come from a stranger and its commands are never run. Save the audio as files first."
                )
            if not isinstance(source.source, str):
                raise UserError(
                    f"{place}: the audio of {each.id!r} is {source.source!r}; expected the path of a file: correct the manifest."
                )


def _json_lines(file: Path, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    if not file.is_file():
        raise UserError(f"There is no file {file} (corpus.{split}): give a manifest of lhotse cuts." + kaldi_hint(file))
    if not file.name.endswith((".jsonl", ".jsonl.gz")):
        raise UserError(
            f"{file} (corpus.{split}) is not a .jsonl or .jsonl.gz file{f': {found}' if (found := whats_in(file)) else ''}. "
            "Give one of lhotse cuts, as `lhotse copy` writes it from any other manifest of cuts."
        )
    # not composed: a manifest names files
    for number, line in iterate_lines(file, compose=False):
        if not line.strip():
            continue
        data = json_in(file, number, line)
        if not isinstance(data, dict):
            raise UserError(f"{file}:{number}: expected a JSON object (one cut).")
        yield number, data


class Unreadable(UserError):
    """The audio of a cut cannot be read, and its channels can therefore not be mixed."""


def utterances_of(cut: Cut) -> list[str]:
    """The utterances with text in a cut: the cut, or its supervisions if there are several."""
    told = [supervision.id for supervision in cut.supervisions if (supervision.text or "").strip()]
    return told if len(cut.supervisions) > 1 else [cut.id] if told else []


def one_supervision_each(cut: Cut, left_out: list[tuple[str, str]]) -> list[MonoCut]:
    """The cut as mono cuts with exactly one supervision that has text; adds those without any to `left_out`.

    Raises Unreadable if several channels have to be mixed and cannot be read.
    """
    from lhotse import MultiCut

    if not cut.supervisions:
        left_out.append((cut.id, "no supervision"))
        return []
    if len(cut.supervisions) == 1:
        parts = [cut]
    else:
        parts = list(cut.trim_to_supervisions(keep_overlapping=False))
    mono = []
    for part in parts:
        (supervision,) = part.supervisions
        if not (supervision.text or "").strip():
            left_out.append((supervision.id, "no text"))
            continue
        # lhotse's trimming moves the supervision but not its alignment.
        offset = cut.start - part.start
        if isinstance(part, MultiCut):
            part = _to_mono(part)
        tiers = supervision.alignment or {}
        supervision = dataclasses.replace(
            supervision,
            channel=part.channel,
            speaker=supervision.speaker or NO_SPEAKER,
            alignment={tier: [item.with_offset(offset) for item in items] for tier, items in tiers.items()} or None,
        )
        mono.append(dataclasses.replace(part, supervisions=[supervision]))
    return mono


def _to_mono(cut: Any) -> MonoCut:
    """The channel that the supervision is on, or the mean of its channels."""
    import soundfile
    from lhotse import MonoCut, Recording

    from asr.audio.cuts import load_audio

    wanted = cut.supervisions[0].channel
    wanted = set(wanted) if isinstance(wanted, (list, tuple)) else {wanted}
    channels = [mono for mono in cut.to_mono() if mono.channel in wanted]
    if not channels:
        raise UserError(
            f"The supervision of the cut {cut.id!r} is on channels {wanted}, but the cut is on {cut.channel}: "
            "correct one of them in the manifest."
        )
    if len(channels) == 1:
        return dataclasses.replace(channels[0], id=cut.id)
    # lhotse's own downmix is the sum of the channels, which clips.
    try:
        waveform = sum(load_audio(channel)[0] for channel in channels) / len(channels)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Unreadable(f"{cut.recording.sources[0].source} cannot be read ({reason})") from error
    file = io.BytesIO()
    soundfile.write(file, waveform, cut.sampling_rate, format="FLAC", subtype="PCM_16")
    recording = Recording.from_bytes(file.getvalue(), cut.id)
    return MonoCut(cut.id, 0.0, cut.duration, 0, supervisions=cut.supervisions, recording=recording)


def find_audio(cuts: list[Cut], file: Path, dropped: list[tuple[str, str]]) -> list[Cut]:
    """The cuts whose audio exists, with its paths; adds the others to `dropped`. file: the manifest."""
    paths = {path for cut in cuts for path in paths_of(cut)}
    # from the working directory, else from the manifest's folder
    names = [os.path.abspath(path) if os.path.isfile(path) else path for path in sorted(paths)]
    matches = find_files(file.parent, names)
    if said := renamed(names, matches):
        log.warning("%s: %s", file, said)
    match_of = dict(zip(sorted(paths), matches))
    # a pipe would block its reader
    usable = {path: str(match.path) for path, match in match_of.items() if match.path and match.path.is_file()}
    found = []
    for cut in cuts:
        lost = next((path for path in paths_of(cut) if path not in usable), None)
        if lost is None:
            found.append(with_paths(cut, {path: usable[path] for path in paths_of(cut)}))
            continue
        match = match_of[lost]
        what = f"is not there{match.question}" if match.path is None else "is not a regular file"
        reason = unusable_audio(match.path, lost, f"{lost} {what}")
        dropped += [(utterance, reason) for utterance in utterances_of(cut)]
    return found


def paths_of(cut: Cut) -> list[str]:
    return [source.source for source in cut.recording.sources if source.type == "file"]


def with_paths(cut: Cut, new: dict[str, str]) -> Cut:
    """The cut with its paths replaced."""
    if all(path == other or os.path.abspath(path) == other for path, other in new.items()):
        return cut
    sources = [
        dataclasses.replace(source, source=new[source.source]) if source.type == "file" else source
        for source in cut.recording.sources
    ]
    return dataclasses.replace(cut, recording=dataclasses.replace(cut.recording, sources=sources))


def _refuse_duplicates(cuts: dict[str, list[MonoCut]]) -> None:
    split_of: dict[str, str] = {}
    for split, members in cuts.items():
        for cut in members:
            if cut.id in split_of:
                places = split if split_of[cut.id] == split else f"{split_of[cut.id]} and in {split}"
                raise UserError(f"The cut id {cut.id!r} occurs twice (in {places}): every id must be unique.")
            split_of[cut.id] = split

"""What the corpora made by lhotse's recipes share: running a recipe quietly, naming what is missing, choosing splits.

lhotse's recipes log what they skip and stop with a traceback at a broken line. So we check the input first, give the recipe
only what is sound, and compare its output with that.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.data.corpora import Corpus
from asr.data.corpora.preparing.folders import SPLITS, utterance_cut
from asr.data.corpora.preparing.unusable import NO_TRANSCRIPT, nothing_usable, unusable_audio
from asr.errors import UserError, listed, nearest

if TYPE_CHECKING:
    from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

    from asr.data.corpora.preparing.recordings import Conversion

RATE = 16000  # Hz, of all these corpora
# Names at the top of each corpus, in lower case, by which we recognize it.
MARKS = (
    ("librispeech", {"train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "test-clean", "test-other"}),
    ("mini_librispeech", {"train-clean-5", "dev-clean-2"}),
    ("timit", {"timit", "dr1"}),
    ("common_voice", {"clips"}),
    ("wsj", {"wsj0", "wsj1", "11-1.1", "13-1.1"}),
    ("kaldi", {"wav.scp"}),
    ("folder", {"transcripts.tsv"}),
    ("switchboard", {"swb1_d1", "swb1_d2", "swb1_d3", "swb1_d4", "swb_ms98_transcriptions"}),
)


@dataclasses.dataclass
class Findings:
    """What a corpus lacks.

    dropped, dropped_in, left_out: as in `Corpus`, by part where that has splits. sentences: about parts that are smaller
    than published, and about entire files and folders that nothing names.
    """

    dropped: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    dropped_in: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    sentences: list[str] = dataclasses.field(default_factory=list)

    def drop(self, utterance: str, reason: str, part: str) -> None:
        """Notes an unusable utterance. reason: its kind, which is counted, a colon, and the details."""
        self.dropped.append((utterance, reason))
        self.dropped_in.setdefault(part, []).append(utterance)

    def leave_out(self, utterance: str, reason: str) -> None:
        """Notes something that is not part of the corpus."""
        self.left_out.append((utterance, reason))

    def named_in(self, part: str) -> int:
        """The number of unusable utterances in a part."""
        return len(self.dropped_in.get(part, ()))

    def refuse_empty(self, root: Path, part: str) -> None:
        """Raises UserError, saying why nothing in a part can be used."""
        ids = set(self.dropped_in.get(part, ()))
        dropped = [row for row in self.dropped if row[0] in ids]
        raise UserError(nothing_usable(f"{root}: the {part} set has", dropped))

    def compare_size(self, part: str, there: int, published: int, explained: Sequence[str] = ()) -> None:
        """Notes a part whose size is not the published one. explained: what is known to be missing, in words."""
        if there == published:
            return
        if there > published:
            why = f"{there - published:,} too many: this is not the published part"
        else:
            why = f"{published - there:,} missing"
            if explained:
                why += f": {listed(explained)}"
        self.sentences.append(f"{part}: {there:,} of {published:,} utterances, {why}.")

    def settle(self, root: Path, allow_missing: bool, advice: str) -> list[str]:
        """The sentences about parts. Raises UserError if there are any, unless `allow_missing` accepts them.

        Single unusable utterances are not refused here: `data.max_dropped` limits them.
        """
        reasons: dict[str, list[str]] = collections.defaultdict(list)
        for utterance, reason in [*self.dropped, *(row for row in self.left_out if row[1] == NO_TRANSCRIPT)]:
            reason, colon, detail = reason.partition(":")
            reasons[reason].append(utterance + colon + detail)
        utterances = [
            f"{reason}: {len(names):,} {'utterance' if len(names) == 1 else 'utterances'} ({listed(names)})."
            for reason, names in reasons.items()
        ]
        if self.sentences and not allow_missing:
            raise UserError(
                "\n  ".join([f"{root} is not complete:", *utterances, *self.sentences])
                + f"\n{advice} Or continue without: allow_missing=true records what is missing."
            )
        return self.sentences


def looks_like(root: Path, corpus: str) -> str | None:
    """A clause naming the other corpus that `root` holds, by its top-level names; None if we do not recognize it."""
    names = {path.name.lower() for path in root.iterdir()}
    return next(
        (f"it looks like {other} (corpus={other})" for other, marks in MARKS if other != corpus and marks & names), None
    )


def resembling(root: Path, corpus: str) -> str:
    """A clause about what `root` holds, for a root that is not the expected corpus."""
    names = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    return looks_like(root, corpus) or (f"it holds {listed(names)}" if names else "it is empty")


def by_recipe(recipe: Callable, *arguments: Any, **settings: Any) -> Any:
    """The result of one of lhotse's recipes. Shows its progress bars on a terminal, but hides what it prints and logs.

    Raises UserError for whatever goes wrong inside it.
    """
    root = logging.getLogger()
    quiet = contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO())
    root.addFilter(silent)
    try:
        with contextlib.redirect_stdout(io.StringIO()), quiet:
            return recipe(*arguments, **settings)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"lhotse's {recipe.__name__} stopped at {arguments[0]} ({type(error).__name__}: {error}): repair the files there."
        ) from error
    finally:
        root.removeFilter(silent)


def silent(record: logging.LogRecord) -> bool:
    return False


def in_parallel(function: Callable, items: Sequence, workers: int, description: str) -> list:
    """The results of `function` for each item, in `workers` threads, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    with ThreadPoolExecutor(max(1, workers)) as pool:
        return list(
            track(
                pool.map(function, items),
                description=description,
                total=len(items),
                console=Console(stderr=True),
                transient=True,
                disable=not sys.stderr.isatty(),
            )
        )


def unusable_flac(path: Path) -> str | None:
    """Why a FLAC file is not intact mono audio at RATE Hz, as a reason to drop it; None if it is. Decodes all of it."""
    from asr.audio.reading import read_channels
    from asr.data.corpora.preparing.recordings import flac_samples

    if not path.is_file():
        return unusable_audio(None, path.name, f"{path.name} is not there")
    try:
        read_channels(path)
    except UserError as error:
        return unusable_audio(path, path.name, str(error))
    if flac_samples(path, RATE) is None:
        return unusable_audio(path, path.name, f"{path.name} is not mono 16-bit FLAC at {RATE} Hz")
    return None


def converted(
    conversions: Mapping[str, Conversion],
    folder: Path,
    workers: int,
    description: str,
    root: Path,
    part_of: Mapping[str, str],
    findings: Findings,
    **settings: Any,
) -> dict[str, int]:
    """Converts recordings to FLAC at RATE Hz; returns the number of samples of each. Both are by utterance.

    Broken recordings go to the findings, under their names below `root`. part_of: the part of each utterance.
    """
    from asr.data.corpora.preparing.recordings import convert_sound_recordings

    samples, broken = convert_sound_recordings(
        list(conversions.values()),
        folder,
        RATE,
        workers,
        description,
        may_be_broken=lambda _: True,
        **settings,
    )
    for utterance, conversion in conversions.items():
        if conversion.target in broken:
            name = conversion.source.relative_to(root).as_posix()
            reason = unusable_audio(conversion.source, name, broken[conversion.target])
            findings.drop(utterance, reason, part_of[utterance])
    return {name: samples[one.target] for name, one in conversions.items() if one.target in samples}


def paired(
    manifests: Mapping[str, Any], expected: Mapping[str, str], findings: Findings
) -> list[tuple[Recording, SupervisionSegment]]:
    """What a recipe made of each utterance, sorted by id; utterances that it skipped silently go to the findings.

    expected: the part of each utterance.
    """
    recordings = {recording.id: recording for recording in manifests["recordings"]}
    pairs = [(recordings[segment.recording_id], segment) for segment in manifests["supervisions"]]
    made = {segment.id for _, segment in pairs}
    for utterance in sorted(set(expected) - made):
        findings.drop(utterance, "left out by lhotse's recipe", expected[utterance])
    return sorted(pairs, key=lambda pair: pair[1].id)


def recipe_cut(
    recording: Recording, supervision: SupervisionSegment, audio: str, language: str, tiers: Mapping[str, str] = {}
) -> MonoCut:
    """A cut of a whole recording as a recipe describes it. audio: its path, absolute or from the corpus folder.

    tiers: the recipe's alignment tiers to keep → our names for them.
    """
    cut = utterance_cut(
        supervision.id,
        audio,
        recording.num_samples,
        recording.sampling_rate,
        supervision.text,
        supervision.speaker,
        language,
    )
    given = supervision.alignment or {}
    alignment = {ours: given[theirs] for theirs, ours in tiers.items() if theirs in given}
    segment = dataclasses.replace(cut.supervisions[0], gender=supervision.gender or None, alignment=alignment or None)
    return dataclasses.replace(cut, supervisions=[segment])


def part_names(value: str | Sequence[str], setting: str, known: Iterable[str]) -> list[str]:
    """The parts that a setting names: one, several separated by commas, or a list. Raises UserError for an unknown one."""
    names = value.split(",") if isinstance(value, str) else list(value)
    names = [str(name).strip() for name in names if str(name).strip()]
    known = list(known)
    if not names:
        raise UserError(f"{setting} is empty: choose among the parts {', '.join(known)}.")
    for name in names:
        if name not in known:
            raise UserError(f"There is no part {name!r} ({setting}={value}): {nearest(name, known)}.")
    return list(dict.fromkeys(names))


def chosen_splits(corpus: Corpus, parts: Mapping[str, Sequence[str]], allow_missing: bool = False) -> Corpus:
    """The prepared corpus with train, dev and test composed of its parts; other parts keep their own names.

    A part that is a split by itself is found under its own name too. Raises UserError for a part that has not been
    prepared, unless `allow_missing` is set and other parts of the split are there.
    """
    from lhotse import CutSet

    splits: dict[str, CutSet] = {}
    aliases = dict(corpus.aliases)
    for split in SPLITS:
        there = [name for name in parts[split] if name in corpus.splits]
        absent = [name for name in parts[split] if name not in corpus.splits]
        if absent and not (allow_missing and there):
            raise UserError(
                f"The corpus {corpus.name} was prepared without {listed(absent)} ({split}={','.join(parts[split])}); it has "
                f"{listed(corpus.splits)}. Choose among these, or unpack what is missing, remove the prepared folder and "
                "prepare it again."
            )
        splits[split] = CutSet.from_cuts(cut for name in there for cut in corpus.splits[name])
        if len(there) == 1:
            aliases[there[0]] = split
    used = {name for names in parts.values() for name in names}
    splits |= {name: cuts for name, cuts in corpus.splits.items() if name not in used}
    dropped_in = {name: corpus.dropped_in.get(name, []) for name in splits if name not in SPLITS}
    for split in SPLITS:
        dropped_in[split] = [utterance for name in parts[split] for utterance in corpus.dropped_in.get(name, [])]
    return dataclasses.replace(corpus, splits=splits, aliases=aliases, dropped_in=dropped_in)


def refuse_shared(parts: Mapping[str, Sequence[str]]) -> None:
    """Raises UserError if a part is in two splits."""
    split_of: dict[str, str] = {}
    for split, names in parts.items():
        for name in names:
            if name in split_of:
                raise UserError(f"The part {name} is chosen for {split_of[name]} and for {split}: remove it from one.")
            split_of[name] = split


def recipe_facts(recipe: Callable) -> str:
    """The recipe and lhotse's version, for corpus.json."""
    import lhotse

    return f"{recipe.__module__}.{recipe.__name__} of lhotse {lhotse.__version__}"

"""LibriSpeech: 960 hours of English audiobooks, 16 kHz FLAC, used in place.

V. Panayotov, G. Chen, D. Povey and S. Khudanpur, "LibriSpeech: an ASR corpus based on public domain audio books", ICASSP 2015;
https://www.openslr.org/12. An utterance 84-121123-0003 lies in dev-clean/84/121123/ beside 84-121123.trans.txt.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from asr.data.corpora import Corpus, CorpusSource
from asr.data.corpora.preparing.discs import prepared_place, recorded_sources
from asr.data.corpora.preparing.folders import MadeMeanwhile, continued, corpus_in, write_manifests
from asr.data.corpora.preparing.recipes import (
    RATE,
    Findings,
    by_recipe,
    chosen_splits,
    in_parallel,
    paired,
    part_names,
    recipe_cut,
    recipe_facts,
    refuse_shared,
    resembling,
    unusable_flac,
)
from asr.data.corpora.preparing.unusable import NO_TRANSCRIPT
from asr.errors import UserError, listed
from asr.runtime.text_files import iterate_lines, read_lines

# utterances of every part as published
PUBLISHED = {
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
}
UTTERANCE = re.compile(r"(\d+)-(\d+)-\d+")
# Raised whenever the same folder would be prepared differently.
FORMAT = 1


@dataclasses.dataclass
class LibriSpeechCorpus(CorpusSource):
    """path: the folder LibriSpeech with the parts in it; None once the corpus has been prepared.
    train, dev, test: parts, as a list or separated by commas. Every other part found is a split under its own name.
    alignments: a folder of words with times, laid out like `path` (LibriSpeech-Alignments.zip of
        github.com/CorentinJ/librispeech-alignments, files 84-121123.alignment.txt); None: those
        beside the audio, if there are any.
    allow_missing: continues despite missing or broken parts or utterances, and records them.
    """

    name = "librispeech"
    places = ("path", "alignments")

    path: str | None = None
    train: str | list[str] = "train-clean-100"
    dev: str | list[str] = "dev-clean"
    test: str | list[str] = "test-clean"
    alignments: str | None = None
    allow_missing: bool = False

    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """Scans every part in `path` once, in `workers` threads, and returns the corpus.

        Raises UserError if a chosen part is missing, a part has fewer or more utterances than published, a transcript has
        no audio or audio no transcript, or a file is cut short.
        """
        parts = {
            "train": part_names(self.train, "train", PUBLISHED),
            "dev": part_names(self.dev, "dev", PUBLISHED),
            "test": part_names(self.test, "test", PUBLISHED),
        }
        refuse_shared(parts)
        sources = {"path": self.path}
        folder, prepared = prepared_place(cache, self.name, sources, FORMAT)
        if not prepared and self.path is not None:
            wanted = [name for names in parts.values() for name in names]
            with contextlib.suppress(MadeMeanwhile):
                prepare(self.name, self.path, folder, PUBLISHED, wanted, self.alignments, self.allow_missing, workers)
        return chosen_splits(corpus_in(folder, self.name), parts, self.allow_missing)


@dataclasses.dataclass
class Part:
    """texts: words by utterance. audio: files by utterance. chapters: "reader/chapter" of those found."""

    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    audio: dict[str, Path] = dataclasses.field(default_factory=dict)
    chapters: set[str] = dataclasses.field(default_factory=set)


def prepare(
    corpus: str,
    path: str | Path,
    folder: Path,
    published: Mapping[str, int],
    wanted: list[str],
    alignments: str | None,
    allow_missing: bool,
    workers: int,
) -> None:
    """Makes `folder` from the parts below `path`: a set of cuts per part. published: utterances by part.

    wanted: parts that must exist. Raises UserError unless everything is as published, or `allow_missing`.
    """
    from lhotse.recipes import prepare_librispeech

    root = corpus_root(corpus, Path(path).expanduser().resolve(), published, wanted, allow_missing)
    if alignments is not None and not Path(alignments).expanduser().is_dir():
        raise UserError(
            f"There is no folder {alignments} (alignments): give one that holds words with times, laid out like {root}."
        )
    findings = Findings()
    parts = {}
    for name in published:
        if (root / name).is_dir():
            parts[name] = scan(root / name, name, findings)
            check(root, name, parts[name], published[name], workers, findings)
    parts = {name: members for name, members in parts.items() if members.texts}
    for name in wanted:
        if not (root / name).is_dir():
            findings.compare_size(name, 0, published[name])
    advice = "Unpack the archives of these parts again."
    findings.settle(root, allow_missing, advice)
    with continued(folder, [FORMAT, str(root), alignments]) as part:
        sound = root
        if findings.dropped or findings.left_out:
            sound = part / "sound"
            shutil.rmtree(sound, ignore_errors=True)
            link_sound(root, parts, sound)
        aligned = Path(alignments).expanduser().resolve() if alignments is not None else root
        made = by_recipe(
            prepare_librispeech, sound, alignments_dir=aligned, dataset_parts=list(parts), num_jobs=max(1, workers)
        )
        sets = {}
        for name, members in parts.items():
            pairs = paired(made[name], dict.fromkeys(members.texts, name), findings)
            sets[name] = [
                recipe_cut(recording, segment, str(members.audio[segment.id]), "en", {"word": "word"})
                for recording, segment in pairs
            ]
        missing = findings.settle(root, allow_missing, advice)
        facts = {
            "sources": recorded_sources({"path": str(path)}),
            "format": FORMAT,
            "sample_rate": RATE,
            "recipe": recipe_facts(prepare_librispeech),
            "utterances": {name: len(cuts) for name, cuts in sets.items()},
            "published": {name: published[name] for name in sets},
            "incomplete": missing,
        }
        if sound != root:
            shutil.rmtree(sound)
        write_manifests(part, sets, sorted(findings.dropped), facts, sorted(findings.left_out), findings.dropped_in)


def corpus_root(corpus: str, path: Path, published: Mapping[str, int], wanted: list[str], allow_missing: bool) -> Path:
    """The folder with the parts: `path` or the folder LibriSpeech in it. Raises UserError unless the parts are there."""
    for root in (path, path / "LibriSpeech"):
        there = [name for name in published if (root / name).is_dir()]
        if there:
            break
    else:
        found = resembling(root if root.is_dir() else path, corpus)
        raise UserError(
            f"{path} is not {corpus}: it has none of the parts {', '.join(published)}; {found}. Give another path."
        )
    absent = [name for name in wanted if name not in there]
    if absent and not allow_missing:
        raise UserError(
            f"{root} lacks {listed(absent)}; it has {', '.join(there)}. "
            f"Unpack {absent[0]}.tar.gz there, or choose other parts (train=… dev=… test=…)."
        )
    return root


def scan(part: Path, name: str, findings: Findings) -> Part:
    """The transcripts and audio files of a part; unusable ones go to the findings."""
    found = Part()
    for folder, _, files in os.walk(part):
        place = Path(folder).relative_to(part)
        for file in sorted(files):
            if file.startswith("."):
                continue
            if file.endswith(".flac"):
                found.audio[Path(file).stem] = Path(folder, file)
            elif file.endswith(".trans.txt"):
                found.chapters.add(place.as_posix())
                read_transcripts(Path(folder, file), place, name, found, findings)
    return found


def read_transcripts(file: Path, place: Path, part: str, found: Part, findings: Findings) -> None:
    """Adds the lines `84-121123-0003 WORDS` of one chapter to `found`. place: reader/chapter. part: its name."""
    for number, line in iterate_lines(file):
        utterance, _, text = line.strip().partition(" ")
        if not utterance:
            continue
        named = UTTERANCE.fullmatch(utterance)
        if named is None or place != Path(named[1], named[2]):
            raise UserError(
                f"{file}:{number}: expected an utterance of {place}, such as {place.as_posix().replace('/', '-')}-0000, "
                f"and its words, found {line[:60]!r}."
            )
        if not text.strip():
            findings.drop(utterance, "no words in the transcript", part)
            found.audio.pop(utterance, None)
            continue
        found.texts[utterance] = text.strip()


def check(root: Path, name: str, part: Part, published: int, workers: int, findings: Findings) -> None:
    """Removes utterances without audio, transcript or sound audio from the part, and compares its size with `published`."""
    without_words = set(findings.dropped_in.get(name, ()))
    for utterance in sorted(part.audio.keys() - part.texts.keys() - without_words):
        findings.leave_out(utterance, NO_TRANSCRIPT)
    utterances = sorted(part.texts)
    files = [part.audio.get(utterance, Path(f"{utterance}.flac")) for utterance in utterances]
    reasons = in_parallel(unusable_flac, files, workers, f"reading {len(files)} files of {name}")
    for utterance, reason in zip(utterances, reasons):
        if reason is not None:
            findings.drop(utterance, reason, name)
            del part.texts[utterance]
    part.audio = {utterance: part.audio[utterance] for utterance in part.texts}
    explained = [f"all of chapter {chapter}" for chapter in sorted(chapters_of(root, name) - part.chapters)]
    findings.compare_size(name, len(part.texts) + findings.named_in(name), published, explained)


def chapters_of(root: Path, part: str) -> set[str]:
    """The "reader/chapter" of a part by CHAPTERS.TXT (`84 | ...`: chapter, reader, minutes, part); empty without it."""
    table = root / "CHAPTERS.TXT"
    lines = read_lines(table, otherwise="latin1") if table.is_file() else []
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith(";")]
    return {f"{row[1]}/{row[0]}" for row in rows if len(row) >= 4 and row[3] == part}


def link_sound(root: Path, parts: Mapping[str, Part], target: Path) -> None:
    """Makes a folder like `root` of the usable utterances alone, with links to their audio: lhotse stops at broken files."""
    for name, part in parts.items():
        lines: dict[Path, list[str]] = {}
        (target / name).mkdir(parents=True)
        for utterance, text in sorted(part.texts.items()):
            reader, chapter, _ = utterance.split("-")
            place = target / name / reader / chapter
            if place not in lines:
                place.mkdir(parents=True)
            lines.setdefault(place, []).append(f"{utterance} {text}\n")
            (place / f"{utterance}.flac").symlink_to(part.audio[utterance])
        for place, transcripts in lines.items():
            (place / f"{place.parent.name}-{place.name}.trans.txt").write_text("".join(transcripts), encoding="utf8")

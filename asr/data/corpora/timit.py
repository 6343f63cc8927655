"""TIMIT (LDC93S1): 630 speakers of American English read ten sentences each; every phoneme and word has its times.

J. S. Garofolo et al., "TIMIT Acoustic-Phonetic Continuous Speech Corpus", Linguistic Data Consortium, 1993. An utterance is
TRAIN/DR1/FCJF0/SI1027.WAV (NIST SPHERE, 16 kHz) with .TXT, .WRD and .PHN beside it. The sentences SA1 and SA2, which everybody
reads, are left out; the 24 core test speakers and 50 development speakers are those of Kaldi's recipe, as listed by lhotse.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import re
import shutil
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from pathlib import Path

from asr.data.corpora import Corpus, CorpusSource
from asr.data.corpora.preparing.discs import prepared_place, recorded_sources
from asr.data.corpora.preparing.folders import SPLITS, MadeMeanwhile, continued, corpus_in, write_manifests
from asr.data.corpora.preparing.recipes import (
    RATE,
    Findings,
    by_recipe,
    converted,
    paired,
    recipe_cut,
    recipe_facts,
    resembling,
)
from asr.data.corpora.preparing.unusable import unusable_audio
from asr.errors import UserError, listed
from asr.runtime.text_files import read_lines

# utterances of the sets without SA1 and SA2: 462, 50 and 24 speakers with 8 each
PUBLISHED = {"train": 3696, "dev": 400, "test": 192}
SENTENCES = 8
TRANSCRIPTS = (".TXT", ".WRD", ".PHN")
SENTENCE = re.compile(r"S[AIX]\d+")
SPEAKER = re.compile(r"[FM][A-Z]{3}\d")
TIMES = re.compile(r"(\d+) +(\d+) +\S+")
# Raised whenever the same folder would be prepared differently.
FORMAT = 1


@dataclasses.dataclass
class TimitCorpus(CorpusSource):
    """path: the folder with TRAIN and TEST, or one with TIMIT or data above them, in upper or lower case; None once the
        corpus has been prepared.
    allow_missing: continues if sets are smaller than published, and records it. Utterances that lack a file, or whose audio is
        broken, go to `Corpus.dropped` in any case.
    """

    name = "timit"

    path: str | None = None
    allow_missing: bool = False

    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """Converts the audio to FLAC once, in `workers` processes, and returns the corpus.

        Raises UserError unless the sets have their 3,696, 400 and 192 utterances, including unusable ones, and if all of a set
        are unusable.
        """
        folder, prepared = prepared_place(cache, self.name, {"path": self.path}, FORMAT)
        if not prepared and self.path is not None:
            with contextlib.suppress(MadeMeanwhile):
                self._prepare(Path(self.path).expanduser().resolve(), folder, workers)
        return corpus_in(folder, self.name)

    def _prepare(self, path: Path, folder: Path, workers: int) -> None:
        from lhotse.recipes import prepare_timit
        from lhotse.recipes.timit import get_speakers

        from asr.data.corpora.preparing.recordings import Conversion

        root = corpus_root(path)
        dev, test = ({speaker.upper() for speaker in speakers} for speakers in get_speakers())
        findings = Findings()
        sets = into_sets(scan(root), dev, test, findings)
        check_sizes(root, sets, {"train": roll(root), "dev": dev, "test": test}, findings)
        advice = "Copy the corpus again."
        findings.settle(root, self.allow_missing, advice)
        with continued(folder, [FORMAT, str(root)]) as part:
            chosen = {name: (split, one) for split, members in sets.items() for name, one in members.items()}
            targets = {name: f"audio/{split}/{name}.flac" for name, (split, _) in chosen.items()}
            conversions = {name: Conversion(one.files[".WAV"], 0, targets[name]) for name, (_, one) in chosen.items()}
            description = f"converting {len(conversions)} recordings"
            set_of = {name: split for name, (split, _) in chosen.items()}
            samples = converted(conversions, part, workers, description, root, set_of, findings)
            for split, members in sets.items():
                if not members.keys() & samples.keys():
                    findings.refuse_empty(root, split)
            layout = part / "layout"
            shutil.rmtree(layout, ignore_errors=True)
            for name in samples:
                link(chosen[name][1], part / targets[name], layout)
            made = by_recipe(prepare_timit, layout, num_phones=60)
            cuts = {
                split: [
                    recipe_cut(recording, segment, targets[segment.id], "en", {"phone": "phoneme", "word": "word"})
                    for recording, segment in paired(
                        made[split.upper()], dict.fromkeys(members.keys() & samples.keys(), split), findings
                    )
                ]
                for split, members in sets.items()
            }
            missing = findings.settle(root, self.allow_missing, advice)
            facts = {
                "sources": recorded_sources({"path": self.path}),
                "format": FORMAT,
                "sample_rate": RATE,
                "recipe": recipe_facts(prepare_timit),
                "utterances": {split: len(members) for split, members in cuts.items()},
                "published": PUBLISHED,
                "incomplete": missing,
            }
            shutil.rmtree(layout)
            dropped, left_out = sorted(findings.dropped), sorted(findings.left_out)
            write_manifests(part, cuts, dropped, facts, left_out, findings.dropped_in)


@dataclasses.dataclass(frozen=True)
class Utterance:
    """part: "TRAIN" or "TEST". speaker, sentence: as in "FCJF0" and "SI1027". files: by suffix in upper case."""

    part: str
    region: str
    speaker: str
    sentence: str
    files: dict[str, Path]

    @property
    def id(self) -> str:
        """The name in lhotse's recipe."""
        return f"{self.speaker}-{self.sentence}"

    @property
    def everybodys(self) -> bool:
        """Whether it is SA1 or SA2, which every speaker reads."""
        return self.sentence.startswith("SA")


def corpus_root(path: Path) -> Path:
    """The folder with TRAIN and TEST: `path`, or the one below it. Raises UserError if there is none."""
    place, looked = path, []
    for _ in range(3):
        looked.append(place)
        names = {child.name.upper(): child for child in place.iterdir() if child.is_dir()}
        if "TRAIN" in names and "TEST" in names:
            return place
        below = [names[name] for name in ("TIMIT", "DATA") if name in names]
        if not below:
            break
        place = below[0]
    raise UserError(
        f"{path} is not timit: there are no folders TRAIN and TEST in {' or '.join(map(str, looked))}; "
        f"{resembling(place, 'timit')}."
    )


def scan(root: Path) -> list[Utterance]:
    """The utterances below TRAIN and TEST with at least one file."""
    found: dict[tuple[str, str, str, str], dict[str, Path]] = {}
    below = [child for child in sorted(root.iterdir()) if child.name.upper() in ("TRAIN", "TEST")]
    for folder, _, files in itertools.chain.from_iterable(os.walk(child) for child in below):
        place = Path(folder).relative_to(root).as_posix().upper().split("/")
        if len(place) != 3 or not SPEAKER.fullmatch(place[2]):
            continue
        for file in sorted(files):
            sentence, _, suffix = file.upper().partition(".")
            # some copies have SI1027.WAV.wav beside the SPHERE file: the same audio, converted to RIFF
            if SENTENCE.fullmatch(sentence) and suffix in ("WAV", "WAV.WAV", "TXT", "WRD", "PHN"):
                kinds = found.setdefault((place[0], place[1], place[2], sentence), {})
                kinds.setdefault(f".{suffix.removesuffix('.WAV') or 'WAV'}", Path(folder, file))
    utterances, ids = [], set()
    for key, kinds in sorted(found.items()):
        utterance = Utterance(*key, kinds)
        if utterance.id in ids:
            raise UserError(
                f"{root} holds {utterance.id} twice, the second time in {next(iter(kinds.values())).parent}: remove one."
            )
        ids.add(utterance.id)
        utterances.append(utterance)
    return utterances


def into_sets(
    utterances: Iterable[Utterance], dev: Container[str], test: Container[str], findings: Findings
) -> dict[str, dict[str, Utterance]]:
    """The utterances with audio and all transcripts, by set and id; others, and those outside all sets, go to the findings.

    dev, test: the speakers of these sets.
    """
    sets: dict[str, dict[str, Utterance]] = {split: {} for split in SPLITS}
    for utterance in utterances:
        split = "train" if utterance.part == "TRAIN" else "dev" if utterance.speaker in dev else "test"
        if utterance.everybodys:
            findings.leave_out(utterance.id, "one of the two sentences that every speaker reads")
        elif split == "test" and utterance.speaker not in test:
            findings.leave_out(utterance.id, "a test speaker in neither the development nor the core test set")
        elif ".WAV" not in utterance.files:
            findings.drop(utterance.id, unusable_audio(None, "", f"{utterance.sentence}.WAV is not there"), split)
        elif lacking := [suffix for suffix in TRANSCRIPTS if suffix not in utterance.files]:
            findings.drop(utterance.id, f"missing transcript: no {' and no '.join(lacking)}", split)
        else:
            check_transcripts(utterance)
            sets[split][utterance.id] = utterance
    return sets


def check_sizes(
    root: Path, sets: Mapping[str, Mapping[str, Utterance]], speakers: Mapping[str, set[str]], findings: Findings
) -> None:
    """Compares the sets with the published ones. speakers: of each set, as far as known.

    Raises UserError for a set without any usable utterance.
    """
    for split, members in sets.items():
        named = [*members, *findings.dropped_in.get(split, ())]
        count = Counter(utterance.partition("-")[0] for utterance in named)
        explained = [f"all of {speaker}" for speaker in sorted(speakers[split] - set(count))]
        explained += [f"{speaker} has {n} of {SENTENCES}" for speaker, n in sorted(count.items()) if n < SENTENCES]
        if not named:
            raise UserError(
                f"{root} has no usable utterance of the {split} set, missing {listed(explained)}: copy it again."
            )
        if not members:
            findings.refuse_empty(root, split)
        findings.compare_size(split, len(named), PUBLISHED[split], explained)


def check_transcripts(utterance: Utterance) -> None:
    """Raises UserError, naming the line, unless the recipe can read the transcripts."""
    for suffix in TRANSCRIPTS:
        file = utterance.files[suffix]
        lines = read_lines(file)
        if suffix == ".TXT":
            if len(lines) != 1 or len(lines[0].split()) < 3:
                raise UserError(f"{file}: expected one line `0 SAMPLES Words of the sentence.`: copy it again.")
            continue
        if not lines:
            raise UserError(f"{file} is empty: expected lines `START END NAME`, in samples.")
        for number, line in enumerate(lines, start=1):
            times = TIMES.fullmatch(line.strip())
            if times is None or int(times[1]) > int(times[2]):
                raise UserError(f"{file}:{number}: expected `START END NAME`, in samples, found {line.strip()[:60]!r}.")


def roll(root: Path) -> set[str]:
    """The training speakers by DOC/SPKRINFO.TXT (`CJF0  F  1  TRN ...`); empty without it."""
    for place in (root, root.parent):
        for folder in place.iterdir():
            if folder.name.upper() == "DOC" and folder.is_dir():
                for file in folder.iterdir():
                    if file.name.upper() == "SPKRINFO.TXT":
                        rows = [line.split() for line in read_lines(file, otherwise="latin1")]
                        return {f"{row[1]}{row[0]}" for row in rows if len(row) > 3 and row[3] == "TRN"}
    return set()


def link(utterance: Utterance, audio: Path, layout: Path) -> None:
    """Puts an utterance where lhotse's recipe looks for it, data/TRAIN/DR1/FCJF0/SI1027.WAV, in upper case, single spaces."""
    place = layout / "data" / utterance.part / utterance.region / utterance.speaker
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{utterance.sentence}.WAV").symlink_to(audio.resolve())
    for suffix in TRANSCRIPTS:
        lines = read_lines(utterance.files[suffix])
        text = "".join(" ".join(line.split()) + "\n" for line in lines)
        (place / f"{utterance.sentence}{suffix}").write_text(text, encoding="utf8")

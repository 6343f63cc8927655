"""Mozilla Common Voice: volunteers read sentences in more than a hundred languages; MP3 files, converted to 16 kHz FLAC once.

R. Ardila et al., "Common Voice: a massively-multilingual speech corpus", LREC 2020. A release unpacks to
cv-corpus-17.0-2024-03-15/de/ with train.tsv, dev.tsv, test.tsv and clips/.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from asr import text_files
from asr.corpora import Corpus, CorpusSource
from asr.corpora.checks import SPLITS, continued, corpus_in, write_manifests
from asr.corpora.discs import prepared_place, recorded_sources
from asr.corpora.recipes import (
    RATE,
    Findings,
    by_recipe,
    converted,
    paired,
    recipe_cut,
    recipe_facts,
    resembling,
)
from asr.errors import UserError, listed

NEEDED = ("client_id", "path", "sentence")
# columns that lhotse's recipe asks for, and that not every release has
RECIPE_COLUMNS = (*NEEDED, "gender", "age", "accents", "variant")
# A decoder's priming samples and rounding: by so much (seconds) a whole clip may be shorter than clip_durations.tsv says.
DURATION_TOLERANCE = 0.3
LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]+)*")
# Raised whenever the same folder would be prepared differently.
FORMAT = 1


@dataclasses.dataclass
class CommonVoiceCorpus(CorpusSource):
    """path: the folder of one language, cv-corpus-…/<language>; None once it has been prepared.
    language: Common Voice's code, such as de or zh-CN; None: the name of that folder, or the only language prepared.
    use_reported: trains on clips whose sentence readers have reported (reported.tsv), too. Dev and test are the release's.
    allow_missing: goes on where clips are missing or broken, and records it.
    """

    name = "common_voice"

    path: str | None = None
    language: str | None = None
    use_reported: bool = False
    allow_missing: bool = False

    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """Converts the clips to FLAC once, by `workers` processes, and returns the corpus.

        Raises UserError for a missing table, a broken line, clips that are missing, unreadable or shorter than
        clip_durations.tsv says.
        """
        cache = Path(cache) / self.name
        if self.language is not None and not LANGUAGE.fullmatch(str(self.language)):
            raise UserError(f"language={self.language} is no code of a language, such as cy or zh-CN.")
        path = None if self.path is None else language_folder(Path(self.path).expanduser().resolve(), self.language)
        language = self.language or (path.name if path is not None else prepared_language(cache))
        source = {"path": None if path is None else str(path)}
        if path is None and not (cache / language / "prepared").is_dir():
            raise UserError(not_prepared(cache, language))
        folder, prepared = prepared_place(cache, language, source, FORMAT)
        if not prepared:
            self._prepare(path, language, folder, workers)
        corpus = corpus_in(folder, self.name)
        return corpus if self.use_reported else without_reported(corpus, folder)

    def _prepare(self, path: Path, language: str, folder: Path, workers: int) -> None:
        from lhotse.recipes import prepare_commonvoice

        from asr.corpora.recordings import Conversion

        findings = Findings()
        tables = {split: read_table(path / f"{split}.tsv", findings) for split in SPLITS}
        for split, rows in tables.items():
            refuse_other_language(path / f"{split}.tsv", rows, language)
            for utterance in [name for name, row in rows.items() if not is_clip(path / "clips" / row["path"])]:
                findings.leave_out(utterance, "no clip")
                del rows[utterance]
            if not rows:
                raise UserError(f"{path / split}.tsv has no clip that can be used ({split}).")
        rows = {name: row for members in tables.values() for name, row in members.items()}
        advice = "Unpack the archive of this language again."
        findings.settle(path, self.allow_missing, advice)
        with continued(folder, [FORMAT, str(path)]) as part:
            conversions = {
                name: Conversion(path / "clips" / row["path"], 0, f"audio/{name}.flac") for name, row in rows.items()
            }
            description = f"converting {len(conversions)} clips"
            samples = converted(conversions, part, workers, description, self.allow_missing, findings, resample=True)
            rows = {name: rows[name] for name in samples}
            for name, duration in shorter_than_listed(path / "clip_durations.tsv", rows, samples).items():
                findings.leave_out(name, f"a clip that is cut short by clip_durations.tsv: {duration}")
                del rows[name]
            findings.settle(path, self.allow_missing, advice)
            layout = part / "layout"
            shutil.rmtree(layout, ignore_errors=True)
            write_layout(layout / language, rows, part / "audio")
            # one table for all sets: lhotse starts new processes for each
            made = by_recipe(
                prepare_commonvoice, layout, layout / "manifests", [language], ["validated"], max(1, workers)
            )
            pairs = paired(made[language]["validated"], rows, findings)
            missing = findings.settle(path, self.allow_missing, advice)
            cuts = {
                split: [
                    recipe_cut(recording, segment, f"audio/{segment.id}.flac", language)
                    for recording, segment in pairs
                    if segment.id in members
                ]
                for split, members in tables.items()
            }
            reported = reported_sentences(path / "reported.tsv")
            facts = {
                "sources": recorded_sources({"path": str(path)}),
                "format": FORMAT,
                "sample_rate": RATE,
                "language": language,
                "recipe": recipe_facts(prepare_commonvoice),
                "utterances": {split: len(members) for split, members in cuts.items()},
                "incomplete": missing,
                "reported": {
                    name: reported[row["sentence"].strip()]
                    for name, row in rows.items()
                    if row["sentence"].strip() in reported
                },
            }
            shutil.rmtree(layout)
            write_manifests(part, cuts, sorted(findings.left_out), facts)


def language_folder(path: Path, language: str | None) -> Path:
    """The folder with the tables: `path`, or the one of the language in it. Raises UserError if there is none."""
    if not path.is_dir():
        raise UserError(f"There is no folder {path} (path).")
    for place in [path] if language is None else [path / language, path]:
        if (place / "train.tsv").is_file() and (place / "clips").is_dir():
            return place
    languages = sorted(child.name for child in path.iterdir() if (child / "train.tsv").is_file())
    if languages:
        raise UserError(f"{path} holds the languages {listed(languages)}: choose one, path={path / languages[0]}.")
    raise UserError(
        f"{path} is not common_voice: train.tsv, dev.tsv, test.tsv and the folder clips are looked for in it; "
        f"{resembling(path, 'common_voice')}."
    )


def prepared_language(cache: Path) -> str:
    """The only language prepared in `cache`. Raises UserError if there is none, or if there are several."""
    languages = sorted(folder.parent.name for folder in cache.glob("*/prepared"))
    if len(languages) == 1:
        return languages[0]
    if languages:
        raise UserError(f"{cache} holds the languages {listed(languages)}: choose one, language={languages[0]}.")
    raise UserError(not_prepared(cache, None))


def not_prepared(cache: Path, language: str | None) -> str:
    named = "" if language is None else f" in the language {language}"
    return (
        f"The corpus common_voice has not been prepared{named} in {cache.parent.absolute()}: python scripts/prepare.py "
        f"common_voice path=cv-corpus-…/{language or '<language>'} does it once (path not given)."
    )


def read_table(table: Path, findings: Findings) -> dict[str, dict[str, str]]:
    """The rows of train.tsv, dev.tsv or test.tsv by utterance (the clip without its suffix).

    Clips without a sentence go to the findings. Raises UserError, naming the line, for a row that is not whole.
    """
    rows: dict[str, dict[str, str]] = {}
    for number, row in read_lines(table, NEEDED):
        clip = row["path"]
        if not clip or clip != Path(clip).name or clip.startswith("."):
            raise UserError(f"{table}:{number}: path={clip!r} is not the name of a file in clips.")
        if not row["client_id"]:
            raise UserError(f"{table}:{number}: the clip {clip} has no client_id.")
        utterance = Path(clip).stem
        if utterance in rows:
            raise UserError(f"{table}:{number}: the clip {clip} is there twice.")
        if not row["sentence"].strip():
            findings.leave_out(utterance, "no sentence")
            continue
        rows[utterance] = row | {"path": clip if Path(clip).suffix else f"{clip}.mp3"}
    return rows


def refuse_other_language(table: Path, rows: dict[str, dict[str, str]], language: str) -> None:
    for row in rows.values():
        if row.get("locale", language) not in ("", language):
            raise UserError(f"{table} is in the language {row['locale']} (locale of {row['path']}), not in {language}.")


def read_lines(table: Path, needed: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, cells by column) of a table. Raises UserError for one that is missing, no UTF-8 or not whole."""
    if not table.exists():
        raise UserError(f"There is no {table}: unpack the archive of this language again.")
    lines = text_files.read_lines(table) or [""]
    columns = lines[0].split("\t")
    lacking = [column for column in needed if column not in columns]
    if lacking:
        raise UserError(f"{table}:1: the column {lacking[0]} was expected; there are {listed(columns)}.")
    for number, line in enumerate(lines[1:], start=2):
        # quotes are part of the sentence: Common Voice does not quote cells
        cells = line.split("\t")
        if len(cells) != len(columns):
            raise UserError(f"{table}:{number}: {len(columns)} columns were expected, there are {len(cells)}.")
        yield number, dict(zip(columns, cells))


def is_clip(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def shorter_than_listed(table: Path, rows: dict[str, dict[str, str]], samples: dict[str, int]) -> dict[str, str]:
    """By utterance, what clip_durations.tsv (clip, milliseconds) says of clips that are shorter; {} where there is no table."""
    if not table.is_file():
        return {}
    utterance_of = {row["path"]: utterance for utterance, row in rows.items()}
    short = {}
    for number, row in read_lines(table, ("clip", "duration[ms]")):
        utterance = utterance_of.get(row["clip"])
        if utterance is None:
            continue
        try:
            promised = float(row["duration[ms]"]) / 1000
        except ValueError:
            raise UserError(f"{table}:{number}: {row['duration[ms]']!r} is no duration in milliseconds.") from None
        there = samples[utterance] / RATE
        if there < promised - DURATION_TOLERANCE:
            short[utterance] = f"{there:.2f} of {promised:.2f} s"
    return short


def write_layout(folder: Path, rows: dict[str, dict[str, str]], audio: Path) -> None:
    """Writes what lhotse's recipe reads: one table with the columns that it asks for, and the FLAC files as clips."""
    folder.mkdir(parents=True)
    (folder / "clips").symlink_to(audio.resolve(), target_is_directory=True)
    lines = [RECIPE_COLUMNS]
    for utterance, row in rows.items():
        cells = row | {"path": f"{utterance}.flac"}
        lines.append([cells.get(column, "") for column in RECIPE_COLUMNS])
    (folder / "validated.tsv").write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf8")


def reported_sentences(table: Path) -> dict[str, str]:
    """The reason by sentence in reported.tsv; {} where there is no table."""
    if not table.is_file():
        return {}
    return {row["sentence"].strip(): row.get("reason") or "none given" for _, row in read_lines(table, ("sentence",))}


def without_reported(corpus: Corpus, folder: Path) -> Corpus:
    """The corpus without the training utterances that corpus.json calls reported; they are named in `dropped`."""
    from lhotse import CutSet

    reported = json.loads((folder / "corpus.json").read_text(encoding="utf8")).get("reported", {})
    train = corpus.splits["train"]
    splits = {**corpus.splits, "train": CutSet.from_cuts(cut for cut in train if cut.id not in reported)}
    dropped = [(cut.id, f"sentence reported by readers: {reported[cut.id]}") for cut in train if cut.id in reported]
    return dataclasses.replace(corpus, splits=splits, dropped=corpus.dropped + dropped)

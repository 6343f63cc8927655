"""Mozilla Common Voice: volunteers read sentences in more than a hundred languages; MP3 files, converted to 16 kHz FLAC once.

R. Ardila et al., "Common Voice: a massively-multilingual speech corpus", LREC 2020. A release unpacks to
cv-corpus-17.0-2024-03-15/de/ with train.tsv, dev.tsv, test.tsv and clips/.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from asr.data.corpora import Corpus, CorpusSource
from asr.data.corpora.common_voice.tables import read_rows
from asr.data.corpora.preparing.discs import prepared_place, recorded_sources
from asr.data.corpora.preparing.folders import (
    SPLITS,
    MadeMeanwhile,
    continued,
    corpus_in,
    read_facts,
    write_manifests,
)
from asr.data.corpora.preparing.names import find_files, renamed
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

if TYPE_CHECKING:
    from lhotse import MonoCut

log = logging.getLogger(__name__)
NEEDED = ("client_id", "path", "sentence")
# columns that lhotse's recipe needs; not every release has all of them
RECIPE_COLUMNS = (*NEEDED, "gender", "age", "accents", "variant")
# seconds by which an intact clip may fall short of clip_durations.tsv: decoders' priming samples, and rounding
DURATION_TOLERANCE = 0.3
LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]+)*")
# whatever any program treats as a line break, with the blanks around it
LINE_BREAK = re.compile(r"[ \t]*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+\s*")
# Raised whenever the same folder would be prepared differently.
FORMAT = 1


@dataclasses.dataclass
class CommonVoiceCorpus(CorpusSource):
    """path: the folder of one language, cv-corpus-…/<language>; None once it has been prepared.
    language: Common Voice's code, such as de or zh-CN; None: the name of that folder, or the only language prepared.
    use_reported: trains on clips whose sentence readers have reported (reported.tsv), too. Dev and test are the release's.
    allow_missing: ignored; still accepted from older settings. Missing or broken clips, and lines without a known sentence,
        always go to `Corpus.dropped`.
    """

    name = "common_voice"

    path: str | None = None
    language: str | None = None
    use_reported: bool = False
    allow_missing: bool = False

    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """Converts the clips to FLAC once, in `workers` processes, and returns the corpus.

        Raises UserError for a missing table, a malformed row, and a split without a usable clip.
        """
        cache = Path(cache) / self.name
        if self.language is not None and not LANGUAGE.fullmatch(str(self.language)):
            raise UserError(f"language={self.language} is not a language code such as cy or zh-CN.")
        path = None if self.path is None else language_folder(Path(self.path).expanduser().resolve(), self.language)
        language = self.language or (path.name if path is not None else prepared_language(cache))
        source = {"path": None if path is None else str(path)}
        if path is None and not (cache / language / "prepared").is_dir():
            raise UserError(not_prepared(cache, language))
        folder, prepared = prepared_place(cache, language, source, FORMAT)
        if not prepared and path is not None:
            with contextlib.suppress(MadeMeanwhile):
                self._prepare(path, language, folder, workers)
        corpus = corpus_in(folder, self.name)
        return corpus if self.use_reported else without_reported(corpus, folder)

    def _prepare(self, path: Path, language: str, folder: Path, workers: int) -> None:
        from lhotse.recipes import prepare_commonvoice

        from asr.data.corpora.preparing.recordings import Conversion

        findings = Findings()
        tables = {split: read_table(path / f"{split}.tsv", findings) for split in SPLITS}
        for split, rows in tables.items():
            refuse_other_language(path / f"{split}.tsv", rows, language)
        clips = find_clips(path / "clips", tables, findings)
        split_of = {name: split for split, members in tables.items() for name in members}
        rows = {name: row for members in tables.values() for name, row in members.items() if name in clips}
        refuse_empty(path, split_of, rows, findings)
        with continued(folder, [FORMAT, str(path)]) as part:
            conversions = {name: Conversion(clips[name], 0, f"audio/{name}.flac") for name in rows}
            description = f"converting {len(conversions)} clips"
            samples = converted(
                conversions, part, workers, description, path / "clips", split_of, findings, resample=True
            )
            rows = {name: rows[name] for name in samples}
            for name, duration in shorter_than_listed(path / "clip_durations.tsv", rows, samples).items():
                findings.drop(name, f"cut short by clip_durations.tsv: {duration}", split_of[name])
                del rows[name]
            refuse_empty(path, split_of, rows, findings)
            layout = part / "layout"
            shutil.rmtree(layout, ignore_errors=True)
            write_layout(layout / language, rows, part / "audio")
            # one table for all sets: lhotse starts new processes for each
            made = by_recipe(
                prepare_commonvoice, layout, layout / "manifests", [language], ["validated"], max(1, workers)
            )
            pairs = paired(made[language]["validated"], {name: split_of[name] for name in rows}, findings)
            cuts: dict[str, list[MonoCut]] = {split: [] for split in SPLITS}
            for recording, segment in pairs:
                segment.text = rows[segment.id]["sentence"]
                cut = recipe_cut(recording, segment, f"audio/{segment.id}.flac", language)
                cuts[split_of[segment.id]].append(cut)
            reported = reported_sentences(path / "reported.tsv")
            facts = {
                "sources": recorded_sources({"path": str(path)}),
                "format": FORMAT,
                "sample_rate": RATE,
                "language": language,
                "recipe": recipe_facts(prepare_commonvoice),
                "utterances": {split: len(members) for split, members in cuts.items()},
                "incomplete": findings.sentences,
                "reported": {
                    name: reported[row["sentence"]] for name, row in rows.items() if row["sentence"] in reported
                },
            }
            shutil.rmtree(layout)
            write_manifests(part, cuts, sorted(findings.dropped), facts, (), findings.dropped_in)


def language_folder(path: Path, language: str | None) -> Path:
    """The folder with the tables: `path`, or that of the language inside it. Raises UserError if there is none."""
    if not path.is_dir():
        raise UserError(f"There is no folder {path} (path): name the folder of a language, cv-corpus-…/<language>.")
    for place in [path] if language is None else [path / language, path]:
        if (place / "train.tsv").is_file() and (place / "clips").is_dir():
            return place
    languages = sorted(child.name for child in path.iterdir() if (child / "train.tsv").is_file())
    if languages:
        raise UserError(f"{path} holds the languages {listed(languages)}: choose one, path={path / languages[0]}.")
    raise UserError(
        f"{path} is not common_voice: it should have train.tsv, dev.tsv, test.tsv and the folder clips; "
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
        f"common_voice path=cv-corpus-…/{language or '<language>'} prepares it once (path not given)."
    )


def read_table(table: Path, findings: Findings) -> dict[str, dict[str, str]]:
    """The rows of train.tsv, dev.tsv or test.tsv by utterance (the clip without its suffix), their sentences on one line.

    Rows whose sentence is empty or unknown go to the findings. Raises UserError, naming the line, for a row without a clip
    or a speaker, or with the clip of another row.
    """
    rows: dict[str, dict[str, str]] = {}
    split, broken = table.stem, []
    for row in read_rows(table, NEEDED):
        clip = row.cells.get("path", "")
        utterance = Path(clip).stem
        if row.fault:
            name = utterance if is_clip_name(clip) else f"{table.name}:{row.line}"
            findings.drop(name, f"a line that is not whole: {table.name}:{row.line} has {row.fault}", split)
            continue
        if not is_clip_name(clip):
            raise UserError(f"{table}:{row.line}: path={clip!r} is not the name of a file in clips: correct it.")
        if not row.cells["client_id"]:
            raise UserError(f"{table}:{row.line}: the clip {clip} has no client_id: correct the line.")
        if utterance in rows:
            raise UserError(f"{table}:{row.line}: the clip {clip} is listed twice: remove one of the lines.")
        sentence = one_line(row.cells["sentence"])
        if not sentence:
            findings.drop(utterance, "no sentence", split)
            continue
        if LINE_BREAK.search(row.cells["sentence"].strip()):
            broken.append(f"{clip} ({table.name}:{row.line})")
        rows[utterance] = row.cells | {"path": clip if Path(clip).suffix else f"{clip}.mp3", "sentence": sentence}
    if broken:
        number = "1 sentence has a line break" if len(broken) == 1 else f"{len(broken)} sentences have line breaks"
        log.warning("%s: %s in the middle, read as a space: %s.", table, number, listed(broken, 5))
    return rows


def is_clip_name(name: str) -> bool:
    return bool(name) and name == Path(name).name and not name.startswith(".") and "\0" not in name


def one_line(sentence: str) -> str:
    """A sentence on one line: inner line breaks become spaces, those at the ends are removed."""
    return LINE_BREAK.sub(" ", sentence.strip())


def find_clips(folder: Path, tables: dict[str, dict[str, dict[str, str]]], findings: Findings) -> dict[str, Path]:
    """The clip of each utterance that has one; utterances without one go to the findings."""
    wanted = [(split, utterance, row["path"]) for split, rows in tables.items() for utterance, row in rows.items()]
    names = [name for _, _, name in wanted]
    matches = find_files(folder, names)
    if said := renamed(names, matches):
        log.warning("%s: %s", folder, said)
    clips = {}
    for (split, utterance, name), match in zip(wanted, matches):
        if match.path is None:
            findings.drop(utterance, unusable_audio(None, name, f"{name} is not there{match.question}"), split)
        else:
            clips[utterance] = match.path
    return clips


def refuse_empty(path: Path, split_of: dict[str, str], rows: dict[str, dict[str, str]], findings: Findings) -> None:
    """Raises UserError for a split without any usable clip. rows: the usable ones."""
    used = {split_of[name] for name in rows}
    for split in SPLITS:
        if split not in used:
            if not findings.named_in(split):
                raise UserError(f"{path / split}.tsv holds no clips: unpack the archive of this language again.")
            findings.refuse_empty(path, split)


def refuse_other_language(table: Path, rows: dict[str, dict[str, str]], language: str) -> None:
    for row in rows.values():
        if row.get("locale", language) not in ("", language):
            raise UserError(
                f"{table} is in the language {row['locale']} (locale of {row['path']}), not in {language}: "
                "choose the language of the folder."
            )


def shorter_than_listed(table: Path, rows: dict[str, dict[str, str]], samples: dict[str, int]) -> dict[str, str]:
    """Clips shorter than clip_durations.tsv (clip, milliseconds) says: utterance → both durations; {} without a table."""
    if not table.is_file():
        return {}
    utterance_of = {row["path"]: utterance for utterance, row in rows.items()}
    short = {}
    for row in read_rows(table, ("clip", "duration[ms]")):
        utterance = utterance_of.get(row.cells["clip"])
        if utterance is None:
            continue
        duration = row.cells.get("duration[ms]", "")
        try:
            promised = float(duration) / 1000
        except ValueError:
            raise UserError(
                f"{table}:{row.line}: {duration!r} is not a duration in milliseconds: correct it."
            ) from None
        there = samples[utterance] / RATE
        if there < promised - DURATION_TOLERANCE:
            short[utterance] = f"{there:.2f} of {promised:.2f} s"
    return short


def write_layout(folder: Path, rows: dict[str, dict[str, str]], audio: Path) -> None:
    """Writes what lhotse's recipe reads: one table with the columns that it needs, and the FLAC files as clips."""
    folder.mkdir(parents=True)
    (folder / "clips").symlink_to(audio.resolve(), target_is_directory=True)
    lines = [list(RECIPE_COLUMNS)]
    for utterance, row in rows.items():
        cells = row | {"path": f"{utterance}.flac"}
        lines.append([one_line(cells.get(column, "")) for column in RECIPE_COLUMNS])
    (folder / "validated.tsv").write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf8")


def reported_sentences(table: Path) -> dict[str, str]:
    """The reason by sentence in reported.tsv; {} if there is no table. Broken lines are reported and skipped."""
    if not table.is_file():
        return {}
    rows = list(read_rows(table, ("sentence",)))
    if odd := [f"line {row.line}" for row in rows if row.fault]:
        log.warning("%s: %d broken lines were skipped: %s.", table, len(odd), listed(odd, 5))
    return {one_line(row.cells["sentence"]): row.cells.get("reason") or "none given" for row in rows if not row.fault}


def without_reported(corpus: Corpus, folder: Path) -> Corpus:
    """The corpus without the training utterances that corpus.json lists as reported; they go to `left_out`."""
    from lhotse import CutSet

    reported = read_facts(folder).get("reported", {})
    train = corpus.splits["train"]
    splits = {**corpus.splits, "train": CutSet.from_cuts(cut for cut in train if cut.id not in reported)}
    left_out = [(cut.id, f"sentence reported by readers: {reported[cut.id]}") for cut in train if cut.id in reported]
    return dataclasses.replace(corpus, splits=splits, left_out=corpus.left_out + left_out)

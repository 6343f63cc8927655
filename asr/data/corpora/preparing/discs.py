"""Corpora from licensed discs: prepared once, and found without the discs from then on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from asr.data.corpora.preparing.folders import damage_as_a_sentence, read_facts
from asr.errors import UserError


def prepared_place(cache: Path, corpus: str, sources: Mapping[str, str | None], version: int = 1) -> tuple[Path, bool]:
    """(folder of the corpus below `cache`, whether it has been prepared there).

    sources: the corpus's settings with the paths of the discs; None if not given. A prepared corpus needs none of them; any
    that are given must match `facts["sources"]` in its corpus.json, written with `recorded_sources`. version: of the rules
    for preparing it, `facts["format"]`. Raises UserError if sources or rules differ, and if nothing has been prepared and a
    source is missing.
    """
    folder = Path(cache) / corpus / "prepared"
    given = recorded_sources(sources)
    if folder.is_dir():
        facts = read_facts(folder)
        with damage_as_a_sentence(folder):
            recorded, made_by = facts["sources"], facts.get("format", 1)
            differing = [key for key, path in given.items() if path is not None and recorded.get(key) != path]
        if made_by != version:
            raise UserError(
                f"{folder} was prepared by another version of the rules ({made_by}; now {version}): remove that folder and "
                "prepare the corpus again, so that its texts and scores follow today's rules."
            )
        if differing:
            key = differing[0]
            raise UserError(
                f"{folder} was prepared from {key}={recorded.get(key)}, not from {key}={given[key]}: remove that folder, or "
                "choose another cache=FOLDER."
            )
        return folder, True
    lacking = [key for key, path in given.items() if path is None]
    if lacking:
        settings = " ".join(f"{key}=FOLDER" for key in given)
        raise UserError(
            f"The corpus {corpus} has not been prepared in {Path(cache).absolute()}, and {' and '.join(lacking)} "
            f"{'is' if len(lacking) == 1 else 'are'} not given: python scripts/prepare.py {corpus} {settings} prepares it once, "
            "or cache=FOLDER names another cache that has it."
        )
    for key, path in given.items():
        if path is not None and not Path(path).is_dir():
            raise UserError(f"There is no folder {path} ({key}={sources[key]}): name the folder of the corpus.")
    return folder, False


def recorded_sources(sources: Mapping[str, str | None]) -> dict[str, str | None]:
    """The sources as absolute paths, the form in which they are compared and recorded."""
    return {key: None if path is None else str(Path(path).expanduser().resolve()) for key, path in sources.items()}

"""Finds the corpus that a run was trained on: it may have moved, but its data must not have changed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.data.corpora import Corpus, corpora
from asr.data.fingerprint import data_facts
from asr.errors import UserError, listed, nearest

if TYPE_CHECKING:
    from lhotse import CutSet, MonoCut

UNKNOWN = "utterances, or their durations, texts or speakers, differ"


def places_of(settings: Mapping[str, Any]) -> list[str]:
    """The names of a corpus's settings that hold its paths."""
    part = corpora.get(settings["name"])
    return [field.name for field in dataclasses.fields(part) if field.name in part.places]


def with_places(settings: Mapping[str, Any], given: Mapping[str, Any], whose: str) -> dict[str, Any]:
    """The corpus settings of `whose` (a run or a checkpoint), with the new paths in `given`.

    Raises UserError for an unknown setting, and for a change to one that is not a path.
    """
    name, places = settings["name"], places_of(settings)
    known = [field.name for field in dataclasses.fields(corpora.get(name))]
    for key, value in given.items():
        if key == "name" and value == name:
            continue
        if key not in known:
            raise UserError(
                f"corpus={name}, which {whose} was trained on, has no setting {key!r}: {nearest(key, known)}."
            )
        if key not in places and settings.get(key) != value:
            may = "only " + " and ".join(f"corpus.{place}" for place in places) if places else "nothing"
            raise UserError(
                f"corpus.{key}={value}: {whose} was trained on corpus={name} with {key}={settings.get(key)}, and {may} can be "
                f"changed. To use another corpus, name it too: corpus={name} corpus.{key}=…"
            )
    return {**settings, **given}


def absolute_places(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings of a corpus, with the paths that exist below `folder` made absolute.

    A path inside another one, such as the table in a folder of recordings, stays relative.
    """
    places = given_places(settings)

    def within_another(value: str) -> bool:
        return any((folder / other / value).exists() for other in places.values() if other != value)

    there = {key: value for key, value in places.items() if (folder / value).exists() and not within_another(value)}
    return {**settings, **{key: str(folder / value) for key, value in there.items()}}


def given_places(settings: Mapping[str, Any]) -> dict[str, str]:
    """The paths of a corpus that are not null, by setting."""
    return {key: settings[key] for key in places_of(settings) if isinstance(settings.get(key), str)}


def load_own(settings: Mapping[str, Any], cache: Path, workers: int, compared: bool) -> Corpus:
    """The corpus that a run was trained on. compared: whether the caller compares its data with the run's.

    If so, a corpus prepared in the cache is found even after its discs have moved. Raises UserError as
    `CorpusSource.load` does, and names the settings that say where missing folders have moved to.
    """
    places = given_places(settings)
    try:
        return with_audio(load_or_find(settings, cache, workers, compared), [Path(place) for place in places.values()])
    except UserError as error:
        gone = [key for key, place in places.items() if not is_there(place, places.values())]
        # the table in a folder that is gone has moved with it
        defaults = {field.name: field.default for field in dataclasses.fields(corpora.get(settings["name"]))}
        gone = [key for key in gone if places[key] != defaults[key]]
        if not gone:
            raise
        named = " ".join(f"corpus.{key}=…" for key in gone)
        raise UserError(f"{str(error).rstrip('.')}. If it has moved, say where to: {named}") from None


def load_or_find(settings: Mapping[str, Any], cache: Path, workers: int, compared: bool) -> Corpus:
    try:
        return corpora.create(dict(settings)).load(cache, workers=workers)
    except UserError:
        fields = dataclasses.fields(corpora.get(settings["name"]))
        without = {field.name: None for field in fields if field.name in places_of(settings) and field.default is None}
        with contextlib.suppress(UserError):
            if compared and without:
                return corpora.create({**settings, **without}).load(cache, workers=workers)
        raise


def is_there(place: str, others: Iterable[str]) -> bool:
    return Path(place).exists() or any((Path(other) / place).exists() for other in others)


def with_audio(corpus: Corpus, places: list[Path]) -> Corpus:
    """The corpus with its audio read from `places`, if the files lie there under their old names.

    Raises UserError if the audio is neither there nor where it was.
    """
    first = next((path for cuts in corpus.splits.values() for path in audio_of(next(iter(cuts), None))), None)
    if first is None or first.exists() and any(first.is_relative_to(place.resolve()) for place in places):
        return corpus
    for new in places:
        # the longest tail of the path that exists below the new place
        for count in range(1, len(first.parts) - 1):
            if (new / Path(*first.parts[count:])).exists():
                old = Path(*first.parts[:count])
                splits = {name: rebased(cuts, old, new.resolve()) for name, cuts in corpus.splits.items()}
                return dataclasses.replace(corpus, splits=splits)
    if first.exists():
        return corpus
    raise UserError(
        f"The audio of the corpus {corpus.name} was moved or deleted: {first} is missing. Put it back where it was."
    )


def audio_of(cut: MonoCut | None) -> list[Path]:
    sources = [] if cut is None else cut.recording.sources
    return [Path(source.source) for source in sources if source.type == "file"]


def rebased(cuts: CutSet, old: Path, new: Path) -> CutSet:
    """The cuts, with audio below `old` read from `new`. Raises UserError if some is missing there."""
    from lhotse import CutSet

    def moved(source):
        if source.type != "file" or not Path(source.source).is_relative_to(old):
            return source
        return dataclasses.replace(source, source=str(new / Path(source.source).relative_to(old)))

    result = []
    for cut in cuts:
        recording = dataclasses.replace(cut.recording, sources=[moved(source) for source in cut.recording.sources])
        result.append(dataclasses.replace(cut, recording=recording))
    missing = [str(path) for cut in result for path in audio_of(cut) if not path.exists()]
    if missing:
        raise UserError(
            f"{new} lacks {len(missing):,} audio files that were in {old}: {listed(missing, 5)}. Copy them too."
        )
    return CutSet.from_cuts(result)


def facts_of_run(run: Path) -> dict[str, Any]:
    """The facts in a run's `environment.json`: `data_fingerprint` and, of newer runs, `data`.

    Raises UserError if there is no fingerprint.
    """
    file = run / "environment.json"
    try:
        facts = json.loads(file.read_text(encoding="utf8"))
        facts["data_fingerprint"]
        return facts
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{file} does not hold the run's data_fingerprint: the file is missing, cut short or edited. Restore it."
        ) from None


def refuse_other_data(then: Mapping[str, Any], corpus: Corpus, sentence: str, advice: str) -> None:
    """Raises UserError (`sentence`, what differs, `advice`) unless the corpus still holds the data of `then`.

    then: `data_fingerprint` and, if recorded, `data`, as `asr.training.run_folder.data_facts` gives them.
    """
    now = data_facts(corpus.splits)
    if then.get("data_fingerprint") != now["data_fingerprint"]:
        raise UserError(f"{sentence}: {'; '.join(differences(then.get('data'), now['data']))}. {advice}")


def differences(then: Any, now: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What has changed in the data, by split."""
    if not isinstance(then, Mapping):
        return [UNKNOWN]
    found = []
    for split in sorted({*then, *now}):
        before, after = then.get(split), now.get(split)
        if not isinstance(before, Mapping) or after is None:
            found.append(f"the split {split} is {'gone' if after is None else 'new'}")
        elif before.get("utterances") != after["utterances"]:
            found.append(f"{split} has {after['utterances']} utterances, not {before.get('utterances')}")
        elif others := [part for part in after if before.get(part) != after[part]]:
            found.append(f"{split} has different {' and '.join(others)}")
    return found or [UNKNOWN]

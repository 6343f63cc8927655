"""Where speech comes from: one file per corpus, each turning discs, packages or text into checked lhotse cuts.

A corpus is a dataclass whose fields are its settings (`conf/corpus/<name>.yaml` sets the same ones) and whose `load`
returns a `Corpus`. Preparing is done once, into a folder below `cache`; the folder appears whole or not at all.
"""

from __future__ import annotations

import abc
import collections
import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from asr.errors import UserError
from asr.registry import Registry

if TYPE_CHECKING:
    from lhotse import CutSet

corpora = Registry("asr.data.corpora", "corpus")


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A corpus ready for training.

    splits: lhotse cuts by split name; `train`, `dev` and `test` are always there. Every cut has one channel, one recording
        on disk and exactly one supervision with `text` (words, not yet normalized), `speaker`, `language` and, where the
        corpus has gold times, `alignment` tiers `phoneme` and `word` (seconds from the start of the cut).
    sample_rate: of every recording, in Hz.
    dropped: what preparing found unusable, as (utterance id, reason); a reason is a kind, such as "missing audio", a colon
        and details. `data.max_dropped` limits these together with what later checks drop.
    left_out: what was left out on purpose, in the same form; it is not damage, and no limit counts it.
    dropped_in: ids of `dropped` by split, if the corpus itself defines the splits. An id may be in several. Splits that we
        choose hold usable utterances only, so an unusable one is in none and counts against the whole corpus.
    prepared_in: the prepared folder to remove so that repaired files are read again; None if they are read anyway.
    incomplete: sentences about parts that are smaller than published, such as "eval92: 330 of 333 utterances".
    aliases: other names of splits, as in {"eval92": "test"}.
    lexicon: the pronunciation of every word in the corpus, a file in Kaldi's format with the words exactly as the texts
        have them; None if there is none, and the units still have to normalize the texts.
    pronunciations: the sources of the lexicon, as returned by `asr.text.lexicon.pronouncing.write_lexicon`.
    normalization: how the texts of such a corpus were normalized: {"name": ..., "rules": {rule: texts it changed}}.
    scoring: by split, the folder with its `reference.stm` and, if there are any, `rules.glm`.
    """

    name: str
    splits: dict[str, CutSet]
    sample_rate: int
    dropped: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    incomplete: list[str] = dataclasses.field(default_factory=list)
    aliases: dict[str, str] = dataclasses.field(default_factory=dict)
    lexicon: Path | None = None
    pronunciations: dict[str, Any] = dataclasses.field(default_factory=dict)
    normalization: dict[str, Any] = dataclasses.field(default_factory=dict)
    scoring: dict[str, Path] = dataclasses.field(default_factory=dict)
    left_out: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    dropped_in: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    prepared_in: Path | None = None

    def dropped_of(self, split: str | None) -> list[tuple[str, str]]:
        """The part of `dropped` that belongs to a split, or, for None, to no known split."""
        if split is None:
            elsewhere = {utterance for ids in self.dropped_in.values() for utterance in ids}
            return [row for row in self.dropped if row[0] not in elsewhere]
        ids = set(self.dropped_in.get(split, ()))
        return [row for row in self.dropped if row[0] in ids]

    @functools.cached_property
    def language(self) -> str | None:
        """The most frequent language in the training split, as its supervisions call it; None if they name none."""
        named = collections.Counter(
            str(supervision.language or "") for cut in self.splits["train"] for supervision in cut.supervisions[:1]
        )
        return (named.most_common(1)[0][0] or None) if named else None

    def split_called(self, name: str) -> str:
        """The split of that name or alias. Raises UserError, listing all of them, if there is none."""
        split = self.aliases.get(name, name)
        if split not in self.splits:
            raise UserError(
                f"The corpus {self.name} has no split called {name!r}: choose one of {', '.join([*self.splits, *self.aliases])}."
            )
        return split


class CorpusSource(abc.ABC):
    """Base class of all corpora.

    places: the settings that hold paths of the corpus, which may change while its data stays the same.
    synthetic: whether its speech is synthetic; shared models say so.
    """

    name: ClassVar[str]
    places: ClassVar[tuple[str, ...]] = ("path",)
    synthetic: ClassVar[bool] = False

    @abc.abstractmethod
    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """Prepares the corpus below `cache` unless that has been done, in `workers` processes, and returns it.

        Raises UserError for everything that a user can fix.
        """

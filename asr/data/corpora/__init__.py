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
    """A corpus ready to be trained on.

    splits: lhotse cuts by split name; `train`, `dev` and `test` are always there. Every cut has one channel, one recording
        on disk and exactly one supervision with `text` (words, not yet normalized), `speaker`, `language` and, where the
        corpus has gold times, `alignment` tiers `phoneme` and `word` (seconds from the start of the cut).
    sample_rate: of every recording, in Hz.
    dropped: what preparing found unusable, as (utterance id, reason); a reason is a kind, such as "missing audio", a colon
        and details. `data.max_dropped` limits these together with what later checks drop.
    left_out: what was left out on purpose, in the same form; it is not damage and counts nowhere.
    dropped_in: ids of `dropped` by split, if the corpus itself defines the splits. An id may be in several. Splits that are
        chosen here are made of usable utterances: then it is in none, and counts against the whole corpus.
    prepared_in: the prepared folder to remove so that repaired files are read again; None if that happens by itself.
    incomplete: sentences about parts that are smaller than they were published, such as "eval92: 330 of 333 utterances".
    aliases: what splits are called besides, as in {"eval92": "test"}.
    lexicon: where the corpus comes with the pronunciation of every word in it: a file in Kaldi's format, whose words stand in
        the texts as they are. None: texts are still to be normalized, by the units.
    pronunciations: where those of the lexicon come from, as `asr.text.lexicon.pronouncing.write_lexicon` says.
    normalization: what was done to the texts of such a corpus: {"name": ..., "rules": {rule: how often it changed a text}}.
    scoring: folders with the `reference.stm` and, where there are any, `rules.glm` that a split is scored by.
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
        """The part of `dropped` that belongs to a split; None: to no known split."""
        if split is None:
            elsewhere = {utterance for ids in self.dropped_in.values() for utterance in ids}
            return [row for row in self.dropped if row[0] not in elsewhere]
        ids = set(self.dropped_in.get(split, ()))
        return [row for row in self.dropped if row[0] in ids]

    @functools.cached_property
    def language(self) -> str | None:
        """The language of most utterances in the training split, as their supervisions call it; None if they name none."""
        named = collections.Counter(
            str(supervision.language or "") for cut in self.splits["train"] for supervision in cut.supervisions[:1]
        )
        return (named.most_common(1)[0][0] or None) if named else None

    def split_called(self, name: str) -> str:
        """The split of that name or alias. Raises UserError that lists them all."""
        split = self.aliases.get(name, name)
        if split not in self.splits:
            raise UserError(
                f"The corpus {self.name} has no split called {name!r}: one of {', '.join([*self.splits, *self.aliases])}."
            )
        return split


class CorpusSource(abc.ABC):
    """Base class of all corpora.

    places: the settings that are paths to the corpus. They may change while its data stays the same.
    """

    name: ClassVar[str]
    places: ClassVar[tuple[str, ...]] = ("path",)

    @abc.abstractmethod
    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """Prepares the corpus below `cache` if that has not been done, by `workers` processes, and returns it.

        Raises UserError with a sentence for everything that a user can put right.
        """

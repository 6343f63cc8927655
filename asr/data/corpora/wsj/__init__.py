"""The Wall Street Journal read aloud: WSJ0 and WSJ1 (LDC93S6A or LDC93S6B, and LDC94S13A or LDC94S13B), from licensed discs.

Speech comes from the first microphone (.wv1) at 16 kHz; the sets and the text follow Kaldi's recipe egs/wsj/s5. All sets are
prepared once; which of them are train, dev and test is chosen afterwards.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.data.corpora import Corpus, CorpusSource
from asr.data.corpora.preparing.discs import prepared_place, recorded_sources
from asr.data.corpora.preparing.folders import (
    SPLITS,
    MadeMeanwhile,
    continued,
    corpus_in,
    damage_as_a_sentence,
    read_facts,
    utterance_cut,
    write_manifests,
)
from asr.data.corpora.preparing.unusable import nothing_usable, unusable_audio
from asr.data.corpora.wsj.discs import Discs
from asr.data.corpora.wsj.sets import SETS, Listing, Utterance, list_sets
from asr.data.corpora.wsj.text import NULL_WAVEFORM, RULES, normalize, special_pronunciations
from asr.errors import UserError, nearest

if TYPE_CHECKING:
    from lhotse import CutSet

    from asr.data.corpora.preparing.recordings import Conversion

SAMPLE_RATE = 16000
LANGUAGE = "en-us"
# A set that is part of another one, kept as a list of its utterances.
PART, WHOLE = "si84", "si284"
PART_LIST = f"{PART}.txt"
# Recordings of WSJ1 that hold no samples, on all discs.
EMPTY_RECORDINGS = frozenset({"46uc030b", "47hc0418"})
# Raised whenever the same discs would be prepared differently.
FORMAT = 1


@dataclasses.dataclass
class WsjCorpus(CorpusSource):
    """wsj0, wsj1: folders with the discs (11-1.1 …, 13-1.1 …) or with merged folders wsj0 and wsj1; they may be one folder.
        Needed only to prepare the corpus.
    train, dev, test: si284, si84 (a part of si284), dev93, dev93_5k, eval92, eval92_5k, eval93 or eval93_5k. The others are
        splits under these names.
    allow_missing: continues without a disc or other missing parts of a set, and lists each missing utterance in
        `Corpus.left_out`. Single missing or damaged recordings go to `Corpus.dropped` in any case.
    """

    name = "wsj"
    places = ("wsj0", "wsj1")

    wsj0: str | None = None
    wsj1: str | None = None
    train: str = "si284"
    dev: str = "dev93"
    test: str = "eval92"
    allow_missing: bool = False

    def load(self, cache: Path, workers: int = 2) -> Corpus:
        """Prepares all sets below `cache` unless that has been done, in `workers` processes, and returns the chosen ones.

        Raises UserError for a wrong setting, for folders that do not hold WSJ, for a chosen set without an intact recording,
        and, unless `allow_missing`, for every transcript, index or disc that a set lacks. A second run continues where the
        first one stopped.
        """
        chosen = self._chosen()
        sources = {"wsj0": self.wsj0, "wsj1": self.wsj1}
        given = {half: place for half, place in sources.items() if place is not None}
        folder, prepared = prepared_place(cache, self.name, given if given and self.allow_missing else sources, FORMAT)
        if not prepared:
            with contextlib.suppress(MadeMeanwhile):
                self._prepare(folder, given, chosen, workers)
        elif given and not self.allow_missing:
            self._check_complete(folder)
        corpus = corpus_in(folder, self.name)
        sets = dict(corpus.splits)
        if WHOLE in sets:
            sets[PART] = self._part(folder, sets[WHOLE])
        splits = _splits(sets, chosen, folder)
        dropped_in = {name: corpus.dropped_in.get(chosen.get(name, name), []) for name in splits}
        aliases = {name: split for split, name in chosen.items()}
        return dataclasses.replace(corpus, splits=splits, aliases=aliases, dropped_in=dropped_in)

    def _chosen(self) -> dict[str, str]:
        """The sets chosen as train, dev and test."""
        chosen = {split: getattr(self, split) for split in SPLITS}
        for split, name in chosen.items():
            if name not in SETS:
                raise UserError(f"{split}={name} is not a set of WSJ: {nearest(name, SETS)}.")
        if len(set(chosen.values())) < len(SPLITS) or {PART, WHOLE} <= set(chosen.values()):
            settings = ", ".join(f"{split}={name}" for split, name in chosen.items())
            raise UserError(f"{settings}: two of these splits would share utterances; choose three different sets.")
        return chosen

    def _check_complete(self, folder: Path) -> None:
        facts = read_facts(folder)
        with damage_as_a_sentence(folder):
            missing = facts["missing"]
        if missing:
            raise UserError(
                f"{folder} was prepared with --allow-missing and {', '.join(missing)} are not complete: remove that folder to "
                "prepare the corpus again, or add allow_missing=true."
            )

    def _part(self, folder: Path, whole: CutSet) -> CutSet:
        from lhotse import CutSet

        try:
            utterances = set((folder / PART_LIST).read_text(encoding="utf8").split())
        except OSError as error:
            raise UserError(
                f"The prepared corpus in {folder} is damaged ({error}): remove that folder to have it prepared again."
            ) from error
        return CutSet.from_cuts([cut for cut in whole if cut.id in utterances])

    def _prepare(self, folder: Path, given: dict[str, str], chosen: dict[str, str], workers: int) -> None:
        """Writes audio/<speaker>/<utterance>.flac, the manifests, the lexicon and the list of si84 into `folder`."""
        from asr.data.corpora.preparing.recordings import Conversion, convert_sound_recordings
        from asr.text.lexicon.pronouncing import write_lexicon

        discs = Discs({half: Path(place) for half, place in given.items()})
        listing = list_sets(discs)
        complaint = listing.complaint(" and ".join(sorted({str(place) for place in discs.places.values()})))
        if complaint and not self.allow_missing:
            raise UserError(complaint)
        silent = {name for name, utterance in listing.utterances.items() if _is_silent(name, utterance)}
        used = {name: utterance for name, utterance in listing.utterances.items() if name not in silent}
        for split, name in chosen.items():
            if not used.keys() & set(listing.sets[name]):
                there = ", ".join(other for other, utterances in listing.sets.items() if used.keys() & set(utterances))
                advice = f"Choose {split} among {there}." if there else "Give folders of discs that hold it."
                raise UserError(f"{split}={name}: the discs have nothing of that set. {advice}")
        counts = collections.Counter(dict.fromkeys(RULES, 0))
        texts = {name: normalize(utterance.transcript, counts) for name, utterance in sorted(used.items())}
        conversions = {
            name: Conversion(Path(utterance.audio), 0, f"audio/{name[:3]}/{name}.flac")
            for name, utterance in sorted(used.items(), key=lambda item: item[1].audio)
        }
        sources = recorded_sources({"wsj0": self.wsj0, "wsj1": self.wsj1})
        with continued(folder, {"format": FORMAT, "sources": sources}) as part:
            samples, broken = convert_sound_recordings(
                list(conversions.values()),
                part,
                SAMPLE_RATE,
                workers,
                f"converting {len(used):,} utterances of WSJ",
                may_be_broken=lambda _: True,
            )
            dropped_in = _drop(listing, conversions, broken)
            for split, name in chosen.items():
                if not any(conversions[each].target in samples for each in listing.sets[name] if each in conversions):
                    raise UserError(nothing_usable(f"{split}={name} has", listing.lost[name]))
            texts = {name: text for name, text in texts.items() if conversions[name].target in samples}
            words = {word for text in texts.values() for word in text.split()}
            special = special_pronunciations(words)
            cuts = {
                name: utterance_cut(
                    name,
                    conversions[name].target,
                    samples[conversions[name].target],
                    SAMPLE_RATE,
                    text,
                    name[:3],
                    LANGUAGE,
                )
                for name, text in texts.items()
            }
            splits = {
                name: [cuts[utterance] for utterance in utterances if utterance in cuts]
                for name, utterances in listing.sets.items()
                if name != PART
            }
            (part / PART_LIST).write_text("".join(f"{name}\n" for name in listing.sets[PART]), encoding="utf8")
            facts = {
                "format": FORMAT,
                "sources": sources,
                "sample_rate": SAMPLE_RATE,
                "sets": (sets := _counts(listing, set(texts))),
                "incomplete": _incomplete(sets, listing),
                "missing": {
                    name: [[each.what, each.why, each.file] for each in missing]
                    for name, missing in listing.missing.items()
                },
                "normalization": {"name": self.name, "rules": dict(counts)},
                "lexicon": write_lexicon(part, words, special),
            }
            dropped = sorted({row for rows in listing.lost.values() for row in rows})
            splits = {name: split for name, split in splits.items() if split}
            write_manifests(part, splits, dropped, facts, _left_out(listing, silent), dropped_in)


def _is_silent(name: str, utterance: Utterance) -> bool:
    """Whether nothing was recorded: the transcript says so, or the file is known to hold no samples."""
    if utterance.transcript.strip() == NULL_WAVEFORM:
        return True
    if name not in EMPTY_RECORDINGS:
        return False
    from asr.audio.sphere import read_sphere_header

    try:
        return read_sphere_header(utterance.audio).samples == 0
    except UserError:
        return Path(utterance.audio).stat().st_size == 0


def _counts(listing: Listing, used: set[str]) -> dict[str, dict[str, Any]]:
    """The size of each set: utterances used, utterances found on the discs, and utterances of complete discs."""
    return {
        name: {
            "utterances": len(used.intersection(utterances)),
            "found": len(utterances),
            "complete": list(SETS[name].counts),
        }
        for name, utterances in listing.sets.items()
    }


def _incomplete(sets: dict[str, dict[str, Any]], listing: Listing) -> list[str]:
    """A sentence about each set that lacks utterances of complete discs."""
    return [
        f"{name}: {counts['found']:,} of {' or '.join(f'{count:,}' for count in counts['complete'])} utterances"
        for name, counts in sets.items()
        if listing.missing.get(name)
    ]


def _drop(listing: Listing, conversions: dict[str, Conversion], broken: dict[str, str]) -> dict[str, list[str]]:
    """Adds broken recordings to `listing.lost`; returns the unusable utterances by set."""
    reasons = {
        name: unusable_audio(conversion.source, str(conversion.source), broken[conversion.target])
        for name, conversion in conversions.items()
        if conversion.target in broken
    }
    for name, utterances in listing.sets.items():
        listing.lost[name] += [(each, reasons[each]) for each in utterances if each in reasons]
    return {name: sorted(utterance for utterance, _ in rows) for name, rows in listing.lost.items()}


def _left_out(listing: Listing, silent: set[str]) -> list[tuple[str, str]]:
    """(utterance or file, why) of everything that the discs list and the corpus lacks, sorted, except broken recordings."""
    missing: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for name, each in ((name, each) for name, all_ in listing.missing.items() for each in all_):
        missing[each.what, each.why].append(name)
    return sorted(
        [(what, f"missing in {' and '.join(names)}: {why}") for (what, why), names in missing.items()]
        + [(name, "nothing was recorded") for name in silent]
        + listing.left_out
    )


def _splits(sets: dict[str, CutSet], chosen: dict[str, str], folder: Path) -> dict[str, CutSet]:
    """The chosen sets as train, dev and test, then the others under their own names.

    Of si84 and si284 only the chosen one stays: otherwise utterances would be in two splits.
    """
    for split, name in chosen.items():
        if name not in sets or not len(sets[name]):
            raise UserError(
                f"{split}={name}: the corpus in {folder} was prepared from discs that lack this set. Choose among "
                f"{', '.join(name for name in SETS if name in sets)}."
            )
    hidden = {*chosen.values(), WHOLE if PART in chosen.values() else PART}
    others = [name for name in SETS if name in sets and name not in hidden]
    return {split: sets[name] for split, name in chosen.items()} | {name: sets[name] for name in others}

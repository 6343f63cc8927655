"""Phonemes: the corpus's gold ones if it has them, else the words' pronunciations in a lexicon."""

from __future__ import annotations

import bisect
import functools
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import UserError, listed, nearest
from asr.runtime.files import write_whole
from asr.text.lexicon.dictionary import ARPABET, SPEECH_MARKS, Lexicon, cmudict_lexicon
from asr.text.phones.slots import Slot, with_silences, word
from asr.text.units import BLANK, UNITS_FILE, Saying, Units, UnknownUnit

if TYPE_CHECKING:
    from lhotse import SupervisionSegment

LEXICON_FILE = "lexicon.txt"
OUT_OF_VOCABULARY = ("espeak", "refuse")
SILENCE = "SIL"
SILENCES = {"", SILENCE, "SP", "<EPS>"}
# seconds by which times of words and phonemes may be rounded apart
TOLERANCE = 0.001
log = logging.getLogger(__name__)


class Phonemes(Units):
    """The 39 ARPAbet phonemes of the CMU dictionary, or those of the user's lexicon; scored in phonemes.

    A corpus's own lexicon adds SIL, SPN and NSN: silence, noises of the mouth and other noises. They are recognized like
    phonemes, and left out of references and hypotheses for scoring. So is SIL where `silence` adds it: models without a blank
    need it for pauses.
    """

    name = "phonemes"
    metric = "per"
    fields = {
        "lexicon": str,
        "out_of_vocabulary": str,
        "alignments": bool,
        "language": str,
        "normalizer": str,
        "added": list,
        "entries": int,
    }

    def __init__(
        self,
        symbols: list[str],
        lexicon: str = "cmudict",
        out_of_vocabulary: str = "espeak",
        alignments: bool = True,
        language: str = "en-us",
        normalizer: str = "words",
        pronunciations: Lexicon | None = None,
        added: Iterable[str] = (),
    ):
        """lexicon: "cmudict", "corpus" (its own), or the name of the user's file. out_of_vocabulary: "espeak" or "refuse", for
        words without a pronunciation. alignments: whether a supervision's gold phonemes take precedence over the lexicon.
        language: eSpeak's. pronunciations: those saved with the model. added: the words among them that eSpeak pronounced.
        """
        super().__init__(symbols, normalizer)
        if out_of_vocabulary not in OUT_OF_VOCABULARY:
            raise UserError(
                f"units.out_of_vocabulary={out_of_vocabulary!r} is not one of the choices: "
                f"{nearest(out_of_vocabulary, OUT_OF_VOCABULARY)}."
            )
        self.lexicon, self.out_of_vocabulary = str(lexicon), out_of_vocabulary
        self.alignments, self.language = alignments, language
        self.pronunciations = pronunciations if pronunciations is not None else Lexicon({})
        self.added = sorted(added)

    @property
    def entries(self) -> int:
        """The number of words with a pronunciation saved with the model."""
        return len(self.pronunciations)

    @classmethod
    def automatic(cls, lexicon: Path | None) -> dict[str, Any]:
        if lexicon is None:
            return {"lexicon": "cmudict", "normalizer": "words", "silence": False}
        return {"lexicon": Path(lexicon), "normalizer": "none", "silence": False}

    @classmethod
    def build(
        cls,
        supervisions: Iterable[SupervisionSegment],
        lexicon: str | Path = "cmudict",
        out_of_vocabulary: str = "espeak",
        alignments: bool = True,
        language: str = "en-us",
        normalizer: str = "words",
        silence: bool = False,
    ) -> Phonemes:
        if not isinstance(silence, bool):
            raise UserError(f"units.silence={silence!r}: give true, false or auto.")
        pronunciations, symbols = Lexicon({}), ARPABET
        if isinstance(lexicon, Path):
            pronunciations, symbols, lexicon = Lexicon.read(lexicon), [*ARPABET, *SPEECH_MARKS], "corpus"
        elif str(lexicon) != "cmudict":
            path = Path(lexicon)
            if not path.is_file():
                raise UserError(
                    f"units.lexicon={lexicon}: expected `cmudict`, or a file of lines `word PHONEME PHONEME ...`."
                )
            pronunciations = Lexicon.read(path, normalizer)
            symbols = pronunciations.phonemes
            if pronunciations.skipped:
                log.warning(
                    "%s: skipped %d entries that cannot occur in normalized text: %s",
                    path, len(pronunciations.skipped), listed(pronunciations.skipped),
                )  # fmt: skip
        if silence and SILENCE not in symbols:
            symbols = [*symbols, SILENCE]
        built = cls(
            [BLANK, *symbols], str(lexicon), out_of_vocabulary, alignments, language, normalizer, pronunciations
        )
        built._take_in(supervisions)
        return built

    def _take_in(self, supervisions: Iterable[SupervisionSegment]) -> None:
        """Looks up the pronunciations of the training split's words, so that they are saved with the model."""
        missing: dict[str, None] = {}
        for supervision in supervisions:
            if self._gold(supervision) is None:
                self._check_language(supervision)
                for word in self.words(supervision):
                    if self._known(word) is None:
                        missing[word] = None
        if missing and self.out_of_vocabulary == "refuse":
            raise UserError(
                f"{len(missing)} words of the training split are not in the lexicon {self.lexicon}: {listed(missing)}. "
                "Add them, or let eSpeak pronounce them with units.out_of_vocabulary=espeak."
            )
        for word in missing:
            if not any(character.isdigit() for character in word):  # `encode` reports words with digits
                self._spoken(word)
        if self.added:
            log.info("eSpeak pronounced %d words that %s lacks: %s", len(self.added), self.lexicon, listed(self.added))

    def encode(self, supervision: SupervisionSegment) -> list[int]:
        return [self.ids[phoneme] for phoneme in self._phonemes(supervision)]

    def reference(self, supervision: SupervisionSegment) -> list[str]:
        return self._scored(self._phonemes(supervision))

    def slots(self, supervision: SupervisionSegment, saying: Saying) -> list[Slot]:
        """All that may have been said: of each word its pronunciations, or its gold phonemes, with optional silences.

        Raises UnknownUnit as `encode` does, and UserError if there is no SIL.
        """
        if SILENCE not in self.ids:
            raise UserError(
                f"loss=lfmmi needs a unit {SILENCE} for pauses, which these phonemes lack: give units.silence=true, or a lexicon "
                "that has it."
            )
        if self._gold(supervision) is None:
            self._check_language(supervision)
            words = [self._alternatives(each, supervision.id, saying) for each in self.words(supervision)]
        else:
            words = [[self._phonemes(supervision)[part]] for part in word_parts(supervision)]
        slots = [word([tuple(self.ids[phoneme] for phoneme in one) for one in each]) for each in words]
        return with_silences(slots, self.ids[SILENCE], saying.edge, saying.between)

    def _alternatives(self, word: str, utterance: str, saying: Saying) -> list[tuple[str, ...]]:
        """The pronunciations of a word that are written in these units, the first one first."""
        first = self._pronounce(word, utterance)
        if saying.pronunciations == "first":
            return [first]
        known = cmudict_lexicon().all_of(word) if word in cmudict_lexicon() and word not in self.added else []
        if self.lexicon not in ("cmudict", "corpus") or first not in known:
            known = self.pronunciations.all_of(word)
        return [one for one in dict.fromkeys([first, *known]) if all(phoneme in self.ids for phoneme in one)]

    def _scored(self, phonemes: list[str]) -> list[str]:
        return [phoneme for phoneme in phonemes if phoneme not in self._unscored] if self._unscored else phonemes

    @functools.cached_property
    def _unscored(self) -> set[str]:
        """The marks of silence and noise; a lexicon of the user's own may use SIL like any phoneme."""
        if self.lexicon == "corpus":
            return set(SPEECH_MARKS)
        return {SILENCE} if SILENCE in self.ids and SILENCE not in self.pronunciations.phonemes else set()

    def _phonemes(self, supervision: SupervisionSegment) -> list[str]:
        gold = self._gold(supervision)
        if gold is None:
            self._check_language(supervision)
            gold = [phoneme for word in self.words(supervision) for phoneme in self._pronounce(word, supervision.id)]
        for phoneme in gold:
            if phoneme not in self.ids or phoneme == BLANK:
                raise UnknownUnit(
                    phoneme,
                    f"Utterance {supervision.id}: the phoneme {phoneme!r} is not among the {len(self.symbols) - 1} "
                    f"of the lexicon {self.lexicon}; if it comes from the corpus's alignment, units.alignments=false "
                    "uses the lexicon instead.",
                )
        return gold

    def decode(self, ids: list[int]) -> list[str]:
        return self._scored([self.symbols[index] for index in ids])

    def _gold(self, supervision: SupervisionSegment) -> list[str] | None:
        """The phonemes of the supervision's alignment, if any, without silences, and without stress if ours have none."""
        if not self.alignments or not supervision.alignment or "phoneme" not in supervision.alignment:
            return None
        symbols = [item.symbol for item in supervision.alignment["phoneme"]]
        symbols = [symbol for symbol in symbols if symbol.upper() not in SILENCES]
        return [symbol if symbol in self.ids else symbol.rstrip("012") for symbol in symbols]

    def _check_language(self, supervision: SupervisionSegment) -> None:
        language = supervision.language
        if self.lexicon in ("cmudict", "corpus") and language and not language.lower().startswith("en"):
            raise UserError(
                f"Utterance {supervision.id} is in {language}, but cmudict is English: give a lexicon of that "
                "language (units.lexicon=FILE) or choose units=characters."
            )

    def _known(self, word: str) -> tuple[str, ...] | None:
        if word not in self.pronunciations and self.lexicon in ("cmudict", "corpus"):
            # a corpus's own lexicon may use another case, and is applied to the words of other corpora too
            known = word if word in cmudict_lexicon() else word.lower()
            if known in cmudict_lexicon() and (known == word or self.lexicon == "corpus"):
                self.pronunciations.pronunciations[word] = cmudict_lexicon()[known]
        return self.pronunciations[word] if word in self.pronunciations else None

    def _spoken(self, word: str) -> tuple[str, ...]:
        """eSpeak's pronunciation, kept so that it is saved; empty if eSpeak says nothing."""
        from asr.text.espeak import pronounce

        try:
            phonemes = tuple(pronounce(word, self.language))
        except UserError as error:
            raise UserError(
                f"The word {word!r} is not in the lexicon {self.lexicon}, and eSpeak cannot pronounce it: {error} Or use "
                "units.out_of_vocabulary=refuse, which needs no eSpeak."
            ) from None
        if phonemes:
            self.pronunciations.pronunciations[word] = phonemes
            bisect.insort(self.added, word)
        return phonemes

    def _pronounce(self, word: str, utterance: str) -> tuple[str, ...]:
        phonemes = self._known(word)
        if phonemes is not None:
            return phonemes
        if any(character.isdigit() for character in word):
            advice = "spell numbers out in the transcript, as they were said."
        elif self.out_of_vocabulary == "refuse":
            advice = "add it, or let eSpeak pronounce it with units.out_of_vocabulary=espeak."
        else:
            phonemes, advice = self._spoken(word), "and eSpeak does not pronounce it either."
        if not phonemes:
            raise UnknownUnit(
                word, f"Utterance {utterance}: the word {word!r} is not in the lexicon {self.lexicon}; {advice}"
            )
        return phonemes

    def _save_files(self, folder: Path) -> None:
        write_whole(folder / LEXICON_FILE, self.pronunciations.lines().encode("utf8"))

    @classmethod
    def _load_files(cls, folder: Path, fields: dict[str, Any]) -> dict[str, Any]:
        path, entries = folder / LEXICON_FILE, fields.pop("entries")
        lexicon = Lexicon.read(path) if entries else Lexicon({})
        if entries and (len(lexicon) != entries or not path.read_bytes().endswith(b"\n")):
            raise UserError(
                f"{path} is cut short or belongs to another model: {UNITS_FILE} counts {entries} words. Take it from the "
                "model again."
            )
        unknown = sorted(set(lexicon.phonemes) - set(fields["symbols"]))
        if unknown:
            raise UserError(
                f"{path} uses phonemes that {UNITS_FILE} does not have: {listed(unknown)}. Take both from the same model."
            )
        return {"pronunciations": lexicon}


def word_parts(supervision: SupervisionSegment) -> list[slice]:
    """Which gold phonemes belong to which word, by the times of the tier `word`; all to one where there is no such tier."""
    tiers = supervision.alignment or {}
    starts = [item.start for item in tiers["phoneme"] if item.symbol.upper() not in SILENCES]
    begins = [bisect.bisect_left(starts, item.start - TOLERANCE) for item in tiers.get("word", [])]
    bounds = sorted({0, *begins, len(starts)})
    return [slice(first, last) for first, last in zip(bounds, bounds[1:])]
